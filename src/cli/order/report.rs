//! Owns `tapis order report`: how many orders there are, whose, and how long they took to bite and to end.
//! Refuses to count clients: hits are questions, and nobody knows whose.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{AtArgs, SECTIONS, book_at, refused};
use crate::cli::configuration::read_needed;
use crate::cli::failure::Failure;
use crate::cli::server::{self, ControlArgs};
use crate::config::Config;
use crate::config::order::Order;
use crate::config::shown::counted;
use crate::control::admin::status::Status;
use crate::control::journal::past::{Span, spans};
use crate::control::sources::orders::registry::Book;
use crate::control::sources::orders::schedule::State;

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    at: AtArgs,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

#[derive(Debug, Serialize)]
struct Report {
    at: Timestamp,
    /// How many orders are in each state.
    states: BTreeMap<State, usize>,
    /// How many orders each authority gave, and how many of them are in force.
    authorities: BTreeMap<String, Count>,
    /// The same by what they rest on; one that rests on several counts for each.
    legal_bases: BTreeMap<String, Count>,
    overdue_reviews: Vec<Overdue>,
    orders: Vec<Line>,
    /// Since when hits are counted.
    hits_since: Option<Timestamp>,
    /// Queries that each list blocked since then.
    list_hits: BTreeMap<String, u64>,
    /// What is not known, and why.
    unknown: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Count {
    orders: usize,
    in_force: usize,
}

#[derive(Debug, Serialize)]
struct Overdue {
    order: String,
    days: f64,
}

/// One order.
#[derive(Debug, Serialize)]
struct Line {
    order: String,
    state: State,
    /// From the authority's issue until the names were blocked.
    days_from_issue_to_force: Option<f64>,
    /// From the lift until the names were free.
    days_from_lift_to_freedom: Option<f64>,
    /// Queries that it blocked since hits are counted.
    hits: Option<u64>,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &ReportArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let config_path = config;
    let config = read_needed(config_path, SECTIONS)?;
    let (book, unrecorded) = book_at(&config, &args.at);
    let mut unknown: Vec<_> = unrecorded.into_iter().collect();
    let spans = written(&config, &mut unknown)?;
    let status = status(args.control.places(config_path)?, &mut unknown)?;
    let at = args.at.instant();
    let report = report(&book, at, &spans, status.as_ref(), unknown);
    match args.at.json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
        false => print(&report, out)?,
    }
    refused(&book)
}

/// When orders were in force, as the journal tells.
fn written(config: &Config, unknown: &mut Vec<String>) -> Result<BTreeMap<String, Span>, Failure> {
    match &config.journal {
        Some(path) => Ok(spans(path)?),
        None => {
            let told =
                "there is no journal: when orders came into force and ended is by their dates";
            unknown.push(told.to_owned());
            Ok(BTreeMap::new())
        }
    }
}

/// What a server says, which alone knows hits; nothing without one.
fn status(places: Vec<PathBuf>, unknown: &mut Vec<String>) -> Result<Option<Status>, Failure> {
    match server::get(&places, "/status")? {
        Ok(status) => Ok(Some(status)),
        Err(error) => {
            unknown.push(format!("hits: {error}"));
            Ok(None)
        }
    }
}

fn report(
    book: &Book,
    at: Timestamp,
    spans: &BTreeMap<String, Span>,
    status: Option<&Status>,
    unknown: Vec<String>,
) -> Report {
    let mut report = Report {
        at,
        states: BTreeMap::new(),
        authorities: BTreeMap::new(),
        legal_bases: BTreeMap::new(),
        overdue_reviews: Vec::new(),
        orders: Vec::new(),
        hits_since: status.and_then(|status| status.orders.hits_since),
        list_hits: BTreeMap::new(),
        unknown,
    };
    let hits = status.map(|status| &status.orders.hits);
    let lists = status.into_iter().flat_map(|status| &status.lists);
    let counted = lists.filter_map(|list| Some((list.name.clone(), list.hits?)));
    report.list_hits.extend(counted);
    for known in book.known() {
        let (order, state) = (known.order, known.life.state(at));
        let in_force = state == State::InForce;
        *report.states.entry(state).or_default() += 1;
        add((&mut report.authorities, &order.authority.name), in_force);
        for basis in &order.legal_basis {
            add((&mut report.legal_bases, basis), in_force);
        }
        let review = order.dates.review_at.at();
        if in_force && review <= at {
            report.overdue_reviews.push(Overdue {
                order: order.id.clone(),
                days: days(review, at),
            });
        }
        report.orders.push(line(order, state, at, spans, hits));
    }
    report
        .orders
        .sort_by(|one, other| one.order.cmp(&other.order));
    report
}

fn add((counts, name): (&mut BTreeMap<String, Count>, &str), in_force: bool) {
    let count = counts.entry(name.to_owned()).or_default();
    count.orders += 1;
    count.in_force += usize::from(in_force);
}

fn line(
    order: &Order,
    state: State,
    at: Timestamp,
    spans: &BTreeMap<String, Span>,
    hits: Option<&BTreeMap<String, u64>>,
) -> Line {
    let dates = &order.dates;
    let span = spans.get(&order.id);
    let planned = dates.effective_from.at();
    let begun = match span {
        None => Some(planned),
        // What ended and never began was in force before the journal began.
        Some(span) => span.begun.or(span.freed.map(|_| planned)),
    };
    let begun = begun.filter(|begun| *begun <= at);
    let lifted = dates
        .lifted_at
        .map(|lifted| lifted.at())
        .filter(|lifted| *lifted <= at);
    let freed = span.map_or(lifted, |span| span.freed);
    Line {
        order: order.id.clone(),
        state,
        days_from_issue_to_force: dates
            .issued_at
            .zip(begun)
            .map(|(issued, begun)| days(issued.at(), begun)),
        days_from_lift_to_freedom: lifted
            .zip(freed)
            .map(|(lifted, freed)| days(lifted, freed.max(lifted))),
        hits: hits.map(|hits| hits.get(&order.id).copied().unwrap_or(0)),
    }
}

fn days(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() / 86_400.0
}

fn print(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "orders at {:.0}", report.at)?;
    for (state, count) in &report.states {
        writeln!(out, "  {state}: {count}")?;
    }
    for (what, counts) in [
        ("authority", &report.authorities),
        ("legal basis", &report.legal_bases),
    ] {
        for (name, count) in counts {
            let Count { orders, in_force } = count;
            let orders = counted(*orders, "order", "orders");
            writeln!(out, "{what} {name}: {orders}, {in_force} in force")?;
        }
    }
    for Overdue { order, days } in &report.overdue_reviews {
        writeln!(
            out,
            "order {order}: its review is overdue by {days:.1} days"
        )?;
    }
    for line in &report.orders {
        write!(out, "order {}: {}", line.order, line.state)?;
        if let Some(days) = line.days_from_issue_to_force {
            write!(out, ", {days:.2} days from issue to force")?;
        }
        if let Some(days) = line.days_from_lift_to_freedom {
            write!(out, ", {days:.2} days from lift to its effect")?;
        }
        if let Some(hits) = line.hits {
            write!(out, ", {}", counted(hits, "hit", "hits"))?;
        }
        writeln!(out)?;
    }
    if let Some(since) = report.hits_since {
        writeln!(out, "hits are counted since {since:.0}")?;
    }
    for (list, hits) in &report.list_hits {
        writeln!(out, "list {list}: {}", counted(*hits, "hit", "hits"))?;
    }
    for unknown in &report.unknown {
        writeln!(out, "not known: {unknown}")?;
    }
    Ok(())
}
