//! `tapis order`: what orders there are, what they say, and whether a file is one. States follow from files and
//! dates; where a running server has something else, that is shown beside them.

mod change;
pub(super) mod describe;
mod report;
mod server;

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::configuration::{Need, read_needed};
use super::failure::Failure;
use super::plain::Plain;
use super::server::ControlArgs;
use crate::config::Config;
use crate::config::moment::{Moment, or_date};
use crate::config::order::Order;
use crate::config::shown::{Show, counted};
use crate::control::admin::status::{KnownOrder, KnownOrders};
use crate::control::guard::policy::Rails;
use crate::control::inspect::policy_at::orders_at;
use crate::control::sources::orders;
use crate::control::sources::orders::registry::{Book, Known};
use crate::control::sources::orders::schedule::State;

/// What the verbs need of the configuration.
const SECTIONS: &[&str] = &["orders", "state", "journal"];

#[derive(Debug, Args)]
pub(super) struct OrderArgs {
    #[command(subcommand)]
    verb: OrderVerb,
}

#[derive(Debug, Subcommand)]
enum OrderVerb {
    /// List all orders with their states, and where a running server has others.
    List(ListArgs),
    /// Show all that an order says, and its state; and where a running server has another one.
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
    ///
    /// Exit code 0 when the running server has it so, or none runs; 1 when the order is not lifted in the server.
    Lift(change::LiftArgs),
    /// Pause an order: writes that into its file, whose comments stay.
    ///
    /// Exit code 0 when the running server has it so, or none runs; 1 when the order is not suspended in the server.
    Suspend(change::SuspendArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    at: AtArgs,
    /// Only orders in this state.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    #[command(flatten)]
    control: ControlArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The order's id.
    id: String,
    #[command(flatten)]
    at: AtArgs,
    #[command(flatten)]
    control: ControlArgs,
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
    /// The state that the server has; left out where none was asked, null where it does not have the order.
    #[serde(rename = "server-state", skip_serializing_if = "Option::is_none")]
    of_server: Option<Option<State>>,
    #[serde(flatten)]
    order: &'o Order,
}

/// An order that the server has, and no file.
#[derive(Serialize)]
struct Fileless<'o> {
    id: &'o str,
    path: &'o Path,
    /// None by the files.
    state: Option<State>,
    #[serde(rename = "server-state")]
    of_server: State,
}

/// One of a list.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'o> {
    Filed(Told<'o>),
    Fileless(Fileless<'o>),
}

impl<'o> Fileless<'o> {
    fn new(id: &'o str, order: &'o KnownOrder) -> Self {
        Self {
            id,
            path: &order.path,
            state: None,
            of_server: order.state,
        }
    }
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
            OrderVerb::List(args) => Some(&args.control),
            OrderVerb::Show(args) => Some(&args.control),
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
        OrderVerb::Check(args) => check(&read_needed(config, &["guard"])?, args, out),
        OrderVerb::New(args) => Ok(change::new(args, out)?),
        OrderVerb::Lift(args) => change::lift(config, args, out),
        OrderVerb::Suspend(args) => change::suspend(config, args, out),
        OrderVerb::Report(args) => report::run(config, args, out),
        OrderVerb::List(args) => list(config, args, out),
        OrderVerb::Show(args) => show(config, args, out),
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

/// All orders of the files, and what the running server has, if it is to be compared with them.
fn read(
    config: Option<&PathBuf>,
    at: &AtArgs,
    control: &ControlArgs,
) -> Result<(Book, Option<KnownOrders>), Failure> {
    let (book, unrecorded) = book_at(&read_needed(config, SECTIONS)?, at);
    if let Some(why) = unrecorded {
        // If standard error is closed, the states are the same.
        let _ = writeln!(Plain(io::stderr()), "tapis: {why}");
    }
    // A server knows of no other time than now, and what is built in is the same everywhere.
    if at.at.is_some() || book.orders_dir().is_none() {
        return Ok((book, None));
    }
    let (server, why) = match control.places(config) {
        Ok(places) => server::known(&book, &places)?,
        Err(_) => (
            None,
            Some("the control socket's place is in doubt".to_owned()),
        ),
    };
    if let Some(why) = why {
        // If standard error is closed, the states are the same.
        let _ = writeln!(
            Plain(io::stderr()),
            "tapis: {why}; showing what the files say"
        );
    }
    Ok((book, server))
}

/// The orders as they were at that time, by the journal; those of the files as they are for a time to come, and where the
/// journal does not know. Returns also why it does not.
fn book_at(config: &Config, at: &AtArgs) -> (Book, Option<String>) {
    let at = at.at.map(Moment::at);
    let past = at.filter(|at| *at <= Timestamp::now() && config.journal.is_some());
    let why = match past.map(|at| orders_at(config, at)) {
        None => None,
        Some(Ok(Some(book))) => return (book, None),
        Some(Ok(None)) => Some("the journal does not reach back so far".to_owned()),
        Some(Err(error)) => Some(error.to_string()),
    };
    let why = why.map(|why| format!("{why}: orders are shown by their files as they are today"));
    (Book::read(config), why)
}

/// The orders of the server that no file has.
fn fileless<'s>(
    server: Option<&'s KnownOrders>,
    book: &Book,
) -> impl Iterator<Item = (&'s String, &'s KnownOrder)> {
    let ids: HashSet<&str> = book.orders().map(|order| &*order.id).collect();
    let all = server.into_iter().flat_map(|server| &server.orders);
    all.filter(move |(id, _)| !ids.contains(id.as_str()))
}

fn tell_fileless(id: &str, order: &KnownOrder, out: &mut impl Write) -> io::Result<()> {
    let (state, path) = (order.state, order.path.shown());
    writeln!(
        out,
        "{id}: {state} in the server, but not in its file, {path}: see the alarms of `tapis status`"
    )
}

fn list(config: Option<&PathBuf>, args: &ListArgs, out: &mut impl Write) -> Result<(), Failure> {
    let (book, server) = read(config, &args.at, &args.control)?;
    let at = args.at.instant();
    let is_wanted = |state: State| args.state.is_none_or(|wanted| wanted == state);
    let of_server = |order: &Order| server.as_ref().map(|server| server.orders.get(&order.id));
    let known = book.known().map(|known| (known.life.state(at), known));
    let mut known: Vec<_> = known
        .filter(|(state, known)| {
            let of_server = of_server(known.order).flatten();
            is_wanted(*state) || of_server.is_some_and(|order| is_wanted(order.state))
        })
        .collect();
    known.sort_by_key(|(_, known)| (known.order.dates.effective_from, &known.order.id));
    let fileless = fileless(server.as_ref(), &book).filter(|(_, order)| is_wanted(order.state));
    if args.at.json {
        let mut all = Vec::new();
        for &(state, Known { order, .. }) in &known {
            let of_server = of_server(order).map(|known| known.map(|known| known.state));
            all.push(Entry::Filed(Told {
                state,
                of_server,
                order,
            }));
        }
        for (id, order) in fileless {
            all.push(Entry::Fileless(Fileless::new(id, order)));
        }
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        for (state, known) in &known {
            let (id, spans) = (&known.order.id, spans(known, *state, at));
            let targets = counted(known.order.targets.len(), "target", "targets");
            let authority = &known.order.authority.name;
            writeln!(out, "{id}: {state}{spans}, {targets}, {authority}")?;
            tell_difference(of_server(known.order), *state, known.order, out)?;
        }
        for (id, order) in fileless {
            tell_fileless(id, order, out)?;
        }
    }
    refused(&book)
}

/// What the server has of an order, if one was asked and it is not what the file says.
fn tell_difference(
    of_server: Option<Option<&KnownOrder>>,
    state: State,
    order: &Order,
    out: &mut impl Write,
) -> io::Result<()> {
    let difference = of_server.and_then(|known| server::difference(known, state, &order.dates));
    match difference {
        Some(difference) => writeln!(out, "{difference}"),
        None => Ok(()),
    }
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
        (None, Some(pause)) => format!(
            " {}, from {from}{}",
            describe::span(pause),
            planned(known, at)
        ),
        (None, None) => format!(", from {from}{}", planned(known, at)),
    }
}

/// How an order that has not ended at that instant ends after it, if that is known.
fn planned(known: &Known<'_>, at: Timestamp) -> String {
    let dates = &known.order.dates;
    let Some((end, state)) = known.life.end() else {
        return String::new();
    };
    let (verb, moment) = match state {
        State::Lifted => ("lifted", dates.lifted_at),
        State::Expired => ("expires", dates.expires_at),
        _ => ("superseded", None),
    };
    let ahead = match describe::is_ahead(end, at) && state != State::Expired {
        true => "to be ",
        false => "",
    };
    format!(
        ", {ahead}{verb} at {}",
        moment.unwrap_or(Moment::exact(end))
    )
}

/// Files that are no orders are told, whatever else was.
fn refused(book: &Book) -> Result<(), Failure> {
    let problems = book.problems();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::Other(problems.join("\n").into())),
    }
}

fn show(config: Option<&PathBuf>, args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let (book, server) = read(config, &args.at, &args.control)?;
    let of_server = server.as_ref().map(|server| server.orders.get(&args.id));
    let Some(known) = book.known().find(|known| known.order.id == args.id) else {
        if let Some(order) = of_server.flatten() {
            match args.at.json {
                true => writeln!(
                    out,
                    "{}",
                    serde_json::to_string_pretty(&Fileless::new(&args.id, order))?
                )?,
                false => tell_fileless(&args.id, order, out)?,
            }
        }
        refused(&book)?;
        return Err(Failure::Other(
            format!("there is no order `{}`", args.id).into(),
        ));
    };
    let state = known.life.state(args.at.instant());
    if args.at.json {
        let order = known.order;
        let of_server = of_server.map(|known| known.map(|known| known.state));
        let shown = Told {
            state,
            of_server,
            order,
        };
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
        return Ok(());
    }
    describe::headline(known.order, state, out)?;
    tell_difference(of_server, state, known.order, out)?;
    describe::story(known.order, args.at.instant(), out)?;
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
