//! Figures about orders: numbers by state, authority and legal basis, and for each order how long it took to come into
//! force and to end. Hits count queries, not clients.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::config::Config;
use crate::config::order::Order;
use crate::config::order::State;
use crate::control::admin::status::Status;
use crate::control::journal::JournalError;
use crate::control::journal::past::{self, Span};
use crate::control::sources::orders::registry::OrderRegistry;

/// Figures about all orders at a moment.
#[derive(Debug, Serialize)]
pub struct OrderReport {
    /// The moment.
    pub at: Timestamp,
    /// Numbers of orders by state.
    pub states: BTreeMap<State, usize>,
    /// Numbers of orders by authority.
    pub authorities: BTreeMap<String, OrderCount>,
    /// Numbers of orders by legal basis. An order with several counts for each of them.
    pub legal_bases: BTreeMap<String, OrderCount>,
    /// Orders in force whose review is overdue.
    pub overdue_reviews: Vec<OverdueReview>,
    /// Every order.
    pub orders: Vec<OrderFigures>,
    /// The time since which the server counts hits, over restarts; `None` without a server.
    pub hits_since: Option<Timestamp>,
    /// Queries that each list blocked since then.
    pub list_hits: BTreeMap<String, u64>,
    /// A sentence for each figure that is not known, with the reason.
    pub unknown: Vec<String>,
}

/// A number of orders.
#[derive(Debug, Default, Serialize)]
pub struct OrderCount {
    /// All of them.
    pub orders: usize,
    /// Those in force.
    pub in_force: usize,
}

/// An order whose review is overdue.
#[derive(Debug, Serialize)]
pub struct OverdueReview {
    /// The order's id.
    pub order: String,
    /// By how many days.
    pub days: f64,
}

/// The figures of one order.
#[derive(Debug, Serialize)]
pub struct OrderFigures {
    /// The order's id.
    pub order: String,
    /// Its state.
    pub state: State,
    /// Days from its issue until its names were blocked.
    pub days_from_issue_to_force: Option<f64>,
    /// Days from its lift until its names were no longer blocked.
    pub days_from_lift_to_freedom: Option<f64>,
    /// Queries that it blocked since [`OrderReport::hits_since`].
    pub hits: Option<u64>,
}

/// When orders came into force and ended, from the journal. Without a journal the result is empty, and a sentence is
/// added to `unknown`.
///
/// # Errors
/// [`JournalError`] if the journal can't be read.
pub fn spans(
    config: &Config,
    unknown: &mut Vec<String>,
) -> Result<BTreeMap<String, Span>, JournalError> {
    match &config.journal.path {
        Some(path) => past::spans(path),
        None => {
            let why = "there is no journal: the dates in the files say when orders came into force and ended";
            unknown.push(why.to_owned());
            Ok(BTreeMap::new())
        }
    }
}

impl OrderReport {
    /// The figures at a moment. Hits are from the status of a running server, if there is one.
    pub fn new(
        registry: &OrderRegistry,
        at: Timestamp,
        spans: &BTreeMap<String, Span>,
        status: Option<&Status>,
        unknown: Vec<String>,
    ) -> Self {
        let mut report = Self {
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
        let lists = lists.filter(|list| !list.disabled);
        let counted = lists.filter_map(|list| Some((list.name.clone(), list.hits?)));
        report.list_hits.extend(counted);
        for known in registry.known() {
            let (order, state) = (known.order, known.schedule.state(at));
            let in_force = state == State::InForce;
            *report.states.entry(state).or_default() += 1;
            count(&mut report.authorities, &order.authority.name, in_force);
            for basis in &order.legal_basis {
                count(&mut report.legal_bases, basis, in_force);
            }
            let review = order.dates.review_at.at();
            if in_force && review <= at {
                report.overdue_reviews.push(OverdueReview {
                    order: order.id.clone(),
                    days: days(review, at),
                });
            }
            report.orders.push(figures(order, state, at, spans, hits));
        }
        report
            .orders
            .sort_by(|one, other| one.order.cmp(&other.order));
        report
    }
}

fn count(counts: &mut BTreeMap<String, OrderCount>, name: &str, in_force: bool) {
    let count = counts.entry(name.to_owned()).or_default();
    count.orders += 1;
    count.in_force += usize::from(in_force);
}

fn figures(
    order: &Order,
    state: State,
    at: Timestamp,
    spans: &BTreeMap<String, Span>,
    hits: Option<&BTreeMap<String, u64>>,
) -> OrderFigures {
    let dates = &order.dates;
    let span = spans.get(&order.id);
    let planned = dates.effective_from.at();
    let begun = match span {
        None => Some(planned),
        // If the journal has the end of an order but not its beginning, it was in force before the journal began.
        Some(span) => span.begun.or(span.freed.map(|_| planned)),
    };
    let begun = begun.filter(|begun| *begun <= at);
    let lifted = dates
        .lifted_at
        .map(|lifted| lifted.at())
        .filter(|lifted| *lifted <= at);
    let freed = span.map_or(lifted, |span| span.freed);
    OrderFigures {
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
