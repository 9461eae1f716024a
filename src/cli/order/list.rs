//! `tapis order list` and `tapis order show`: print orders with their states. If a running server has another state of
//! an order, that is printed, too.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::files::{AtArgs, SECTIONS, check_problems};
use super::server;
use crate::cli::configuration::read_needed;
use crate::cli::failure::Failure;
use crate::cli::order_text;
use crate::cli::plain::Plain;
use crate::cli::plain::print_json;
use crate::cli::server::ControlArgs;
use crate::config::moment::Moment;
use crate::config::order::State;
use crate::config::shown::{Show, counted};
use crate::control::admin::status::KnownOrders;
use crate::control::inspect::order_list::{self, FilelessOrder, ListedOrder, OrderState};
use crate::control::inspect::past::orders_at;
use crate::control::sources::orders::registry::OrderRegistry;

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    at: AtArgs,
    /// Only orders in this state.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The order's id.
    id: String,
    #[command(flatten)]
    at: AtArgs,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

pub(super) fn list(
    config: Option<&PathBuf>,
    args: &ListArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (registry, server) = read(config, &args.at, &args.control)?;
    let at = args.at.instant();
    let orders = order_list::list(&registry, server.as_ref(), at, args.state);
    if args.at.json {
        print_json(&orders, out)?;
    } else {
        for order in &orders {
            match order {
                ListedOrder::Filed(order) => {
                    print_line(order, at, out)?;
                    print_difference(order, out)?;
                }
                ListedOrder::Fileless(order) => print_fileless(order, out)?,
            }
        }
    }
    check_problems(&registry)
}

pub(super) fn show(
    config: Option<&PathBuf>,
    args: &ShowArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (registry, server) = read(config, &args.at, &args.control)?;
    let at = args.at.instant();
    let order = order_list::find(&registry, server.as_ref(), at, &args.id);
    match &order {
        Some(order) if args.at.json => {
            print_json(order, out)?;
        }
        Some(ListedOrder::Filed(order)) => {
            order_text::print_headline(order.order, order.state, out)?;
            print_difference(order, out)?;
            order_text::print_facts(order.order, at, out)?;
        }
        Some(ListedOrder::Fileless(order)) => print_fileless(order, out)?,
        None => {}
    }
    if let Some(ListedOrder::Filed(_)) = order {
        return Ok(());
    }
    check_problems(&registry)?;
    let why = format!("there is no order `{}`", args.id);
    Err(Failure::Other(why.into()))
}

/// All orders of the files, and those of the running server; `None` if the two can't be compared.
fn read(
    config: Option<&PathBuf>,
    at: &AtArgs,
    control: &ControlArgs,
) -> Result<(OrderRegistry, Option<KnownOrders>), Failure> {
    let (registry, unrecorded) = orders_at(&read_needed(config, SECTIONS)?, at.named());
    if let Some(why) = unrecorded {
        // If standard error is closed, the states are the same.
        let _ = writeln!(Plain(io::stderr()), "tapis: {why}");
    }
    // A server only has the present state, and the built-in orders are the same everywhere.
    if at.named().is_some() || registry.orders_dir().is_none() {
        return Ok((registry, None));
    }
    let (server, why) = match control.sockets(config) {
        Ok(sockets) => server::known(&registry, &sockets)?,
        Err(_) => (
            None,
            Some("the path of the control socket is not known".to_owned()),
        ),
    };
    if let Some(why) = why {
        // If standard error is closed, the states are the same.
        let _ = writeln!(
            Plain(io::stderr()),
            "tapis: {why}; showing the states by the files"
        );
    }
    Ok((registry, server))
}

fn print_line(order: &OrderState<'_>, at: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let (id, state, dates) = (&order.order.id, order.state, dates(order, at));
    let targets = counted(order.order.targets.len(), "target", "targets");
    let authority = &order.order.authority.name;
    writeln!(out, "{id}: {state}{dates}, {targets}, {authority}")
}

fn print_fileless(order: &FilelessOrder<'_>, out: &mut impl Write) -> io::Result<()> {
    let (id, state, path) = (order.id, order.in_server, order.path.shown());
    writeln!(
        out,
        "{id}: {state} in the server, but not in its file, {path}: see the alarms of `tapis status`"
    )
}

/// If a server was asked, and its state of an order differs from the file, prints the server's state.
fn print_difference(order: &OrderState<'_>, out: &mut impl Write) -> io::Result<()> {
    let dates = &order.order.dates;
    let in_server = order.in_server;
    match in_server.and_then(|known| server::difference(known, order.state, dates)) {
        Some(difference) => writeln!(out, "{difference}"),
        None => Ok(()),
    }
}

/// The period in which an order is or was in force, and the period of its present suspension.
fn dates(order: &OrderState<'_>, at: Timestamp) -> String {
    let (schedule, state, dates) = (order.schedule, order.state, &order.order.dates);
    let from = dates.effective_from;
    let end = match state {
        State::Expired => dates.expires_at,
        State::Lifted => dates.lifted_at,
        State::Superseded => schedule.end().map(|(at, _)| Moment::exact(at)),
        State::Scheduled | State::InForce | State::Suspended => None,
    };
    match (
        end,
        schedule.pause(at).filter(|_| state == State::Suspended),
    ) {
        (Some(end), _) if schedule.is_withdrawn() => format!(" at {end}, to begin at {from}"),
        (Some(end), _) => format!(", in force from {from} to {end}"),
        (None, Some(pause)) => {
            let pause = order_text::span(pause);
            format!(" {pause}, from {from}{}", planned_end(order, at))
        }
        (None, None) => format!(", from {from}{}", planned_end(order, at)),
    }
}

/// The end of an order that has not ended at that moment; empty if it has no end date.
fn planned_end(order: &OrderState<'_>, at: Timestamp) -> String {
    let dates = &order.order.dates;
    let Some((end, state)) = order.schedule.end() else {
        return String::new();
    };
    let (verb, moment) = match state {
        State::Lifted => ("lifted", dates.lifted_at),
        State::Expired => ("expires", dates.expires_at),
        _ => ("superseded", None),
    };
    let ahead = match order_text::is_ahead(end, at) && state != State::Expired {
        true => "to be ",
        false => "",
    };
    format!(
        ", {ahead}{verb} at {}",
        moment.unwrap_or(Moment::exact(end))
    )
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
