//! Owns `tapis order`: what orders there are, what they say, and whether a file is one.
//! Refuses to need a running server: files and dates tell all.

mod change;
mod report;
mod tell;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

pub(super) use self::tell::{brief, idle};
use super::configuration::Need;
use super::{ControlArgs, Failure, read_config};
use crate::config::Config;
use crate::config::moment::{Moment, or_date};
use crate::config::order::Order;
use crate::config::shown::counted;
use crate::control::guard::rails::Rails;
use crate::control::orders;
use crate::control::orders::book::{Book, Known};
use crate::control::orders::life::State;

#[derive(Debug, Args)]
pub(super) struct OrderArgs {
    #[command(subcommand)]
    verb: OrderVerb,
}

#[derive(Debug, Subcommand)]
enum OrderVerb {
    /// List all orders with their states.
    List(ListArgs),
    /// Show all that an order says, and its state.
    Show(ShowArgs),
    /// Count the orders, by authority and legal basis, with the time from issue to force and from lift to its effect.
    Report(report::ReportArgs),
    /// Check whether a file is a valid order.
    ///
    /// Exit code 0 when it is, 1 when not. Warns of what `[guard]` would leave out of a list: public
    /// suffixes, protected and popular names.
    Check(FileArgs),
    /// Print an order's file to fill in, with what each field means.
    New(change::NewArgs),
    /// End an order, now or at a time: writes that into its file, whose comments stay.
    Lift(change::LiftArgs),
    /// Pause an order: writes that into its file, whose comments stay.
    Suspend(change::SuspendArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    at: AtArgs,
    /// Only orders in this state.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The order's id.
    id: String,
    #[command(flatten)]
    at: AtArgs,
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The file.
    file: PathBuf,
}

#[derive(Debug, Args)]
struct AtArgs {
    /// The state at that time, as in 2017-07-20T00:00:00+07:00; a date alone is its 00:00:00 UTC. Without it,
    /// now.
    #[arg(long, value_name = "TIME", value_parser = or_date)]
    at: Option<Moment>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

impl AtArgs {
    fn instant(&self) -> Timestamp {
        self.at.map_or_else(Timestamp::now, Moment::at)
    }
}

/// An order and its state.
#[derive(Serialize)]
struct Told<'o> {
    state: State,
    #[serde(flatten)]
    order: &'o Order,
}

impl OrderArgs {
    pub(super) fn need(&self) -> Need {
        match self.verb {
            OrderVerb::New(_) => Need::Nothing,
            _ => Need::Same,
        }
    }

    /// The server that is named.
    pub(super) fn control(&self) -> ControlArgs {
        let control = match &self.verb {
            OrderVerb::Report(args) => Some(&args.control),
            OrderVerb::Lift(args) => Some(&args.control),
            OrderVerb::Suspend(args) => Some(&args.control),
            _ => None,
        };
        control.cloned().unwrap_or_default()
    }
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &OrderArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match &args.verb {
        OrderVerb::Check(args) => check(&read_config(config)?, args, out),
        OrderVerb::New(args) => Ok(change::new(args, out)?),
        OrderVerb::Lift(args) => change::lift(config, args, out),
        OrderVerb::Suspend(args) => change::suspend(config, args, out),
        OrderVerb::Report(args) => report::run(config, args, out),
        OrderVerb::List(args) => list(&read_config(config)?, args, out),
        OrderVerb::Show(args) => show(&read_config(config)?, args, out),
    }
}

fn check(config: &Config, args: &FileArgs, out: &mut impl Write) -> Result<(), Failure> {
    let text = orders::text(&args.file).map_err(Failure::Config)?;
    let order = Order::parse(&text, &args.file).map_err(Failure::Config)?;
    let rails = Rails::read(config);
    for finding in rails
        .problems()
        .iter()
        .cloned()
        .chain(rails.findings(&order).map(|finding| finding.to_string()))
    {
        writeln!(out, "warning: {finding}")?;
    }
    let targets = counted(order.targets.len(), "target", "targets");
    writeln!(out, "good: order {}, {targets}", order.id)?;
    Ok(())
}

fn list(config: &Config, args: &ListArgs, out: &mut impl Write) -> Result<(), Failure> {
    let book = Book::read(config);
    let at = args.at.instant();
    let known = book.known().map(|known| (known.life.state(at), known));
    let mut known: Vec<_> = known
        .filter(|(state, _)| args.state.is_none_or(|wanted| wanted == *state))
        .collect();
    known.sort_by_key(|(_, known)| (known.order.dates.effective_from, &known.order.id));
    if args.at.json {
        let told = known.iter();
        let told = told.map(|&(state, Known { order, .. })| Told { state, order });
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&told.collect::<Vec<_>>())?
        )?;
    } else {
        for (state, known) in &known {
            let (id, spans) = (&known.order.id, spans(known, *state, at));
            let targets = counted(known.order.targets.len(), "target", "targets");
            let authority = &known.order.authority.name;
            writeln!(out, "{id}: {state}{spans}, {targets}, {authority}")?;
        }
    }
    refused(&book)
}

/// From when until when an order is suspended, and is or was in force.
fn spans(known: &Known<'_>, state: State, at: Timestamp) -> String {
    let (life, dates) = (known.life, &known.order.dates);
    let from = dates.effective_from;
    let end = match state {
        State::Expired => dates.expires_at,
        State::Lifted => dates.lifted_at,
        State::Superseded => life.end().map(|(at, _)| Moment::exact(at)),
        State::Scheduled | State::InForce | State::Suspended => None,
    };
    match (end, life.pause(at).filter(|_| state == State::Suspended)) {
        (Some(end), _) if life.is_withdrawn() => format!(" at {end}, to begin at {from}"),
        (Some(end), _) => format!(", in force from {from} to {end}"),
        (None, Some(pause)) => format!(" {}, from {from}", tell::span(pause)),
        (None, None) => format!(", from {from}"),
    }
}

/// Files that are no orders are told, whatever else was.
fn refused(book: &Book) -> Result<(), Failure> {
    let problems = book.problems();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::Other(problems.join("\n").into())),
    }
}

fn show(config: &Config, args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let book = Book::read(config);
    let Some(known) = book.known().find(|known| known.order.id == args.id) else {
        refused(&book)?;
        return Err(Failure::Other(
            format!("there is no order `{}`", args.id).into(),
        ));
    };
    let state = known.life.state(args.at.instant());
    if args.at.json {
        let order = known.order;
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&Told { state, order })?
        )?;
        return Ok(());
    }
    tell::story(known.order, state, out)?;
    Ok(())
}

fn state(text: &str) -> Result<State, String> {
    let all = State::ALL.into_iter();
    let word = |state: State| state.to_string().replace(' ', "-");
    all.clone()
        .find(|state| word(*state) == text)
        .ok_or_else(|| {
            let words: Vec<_> = all.map(word).collect();
            format!("must be one of {}", words.join(", "))
        })
}
