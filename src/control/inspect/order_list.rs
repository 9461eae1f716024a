//! Orders with their states at a moment, by their files and by the running server.

use std::collections::HashSet;
use std::path::Path;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::config::order::Order;
use crate::control::admin::status::{KnownOrder, KnownOrders};
use crate::control::sources::orders::registry::{Known, OrderRegistry};
use crate::control::sources::orders::schedule::{Schedule, State};

/// An order and its state.
#[derive(Serialize)]
pub struct OrderState<'o> {
    /// The state.
    pub state: State,
    /// What the server has; left out where none was asked, null where it does not have the order.
    #[serde(
        rename = "server-state",
        skip_serializing_if = "Option::is_none",
        serialize_with = "server_state"
    )]
    pub of_server: Option<Option<&'o KnownOrder>>,
    /// The order.
    #[serde(flatten)]
    pub order: &'o Order,
    /// When it begins, pauses and ends.
    #[serde(skip)]
    pub schedule: Schedule<'o>,
}

/// An order that the server has, although no file does.
#[derive(Serialize)]
pub struct FilelessOrder<'o> {
    /// The order's id.
    pub id: &'o str,
    /// The file that it was read from.
    pub path: &'o Path,
    /// `None`: there is no file to follow it from.
    pub state: Option<State>,
    /// The state that the server has.
    #[serde(rename = "server-state")]
    pub of_server: State,
}

/// An entry of a list of orders.
#[derive(Serialize)]
#[serde(untagged)]
pub enum ListedOrder<'o> {
    /// An order with a file.
    Filed(OrderState<'o>),
    /// An order that only the server has.
    Fileless(FilelessOrder<'o>),
}

fn server_state<S: Serializer>(
    of_server: &Option<Option<&KnownOrder>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let state = of_server.flatten().map(|known| known.state);
    state.serialize(serializer)
}

impl<'o> OrderState<'o> {
    fn new(known: Known<'o>, server: Option<&'o KnownOrders>, at: Timestamp) -> Self {
        Self {
            state: known.schedule.state(at),
            of_server: server.map(|server| server.orders.get(&known.order.id)),
            order: known.order,
            schedule: known.schedule,
        }
    }
}

impl<'o> FilelessOrder<'o> {
    fn new(id: &'o str, order: &'o KnownOrder) -> Self {
        Self {
            id,
            path: &order.path,
            state: None,
            of_server: order.state,
        }
    }
}

/// The orders that are in a state at a moment, by their files or in the server; all of them without a state. They are
/// sorted by the date on which they come into force; those without a file are last.
pub fn list<'o>(
    registry: &'o OrderRegistry,
    server: Option<&'o KnownOrders>,
    at: Timestamp,
    state: Option<State>,
) -> Vec<ListedOrder<'o>> {
    let is_wanted = |found: State| state.is_none_or(|wanted| wanted == found);
    let filed = registry
        .known()
        .map(|known| OrderState::new(known, server, at));
    let mut filed: Vec<_> = filed
        .filter(|order| {
            let of_server = order.of_server.flatten();
            is_wanted(order.state) || of_server.is_some_and(|known| is_wanted(known.state))
        })
        .collect();
    filed.sort_by_key(|order| (order.order.dates.effective_from, &order.order.id));
    let ids: HashSet<&str> = registry.orders().map(|order| &*order.id).collect();
    let of_server = server.into_iter().flat_map(|server| &server.orders);
    let fileless =
        of_server.filter(|(id, order)| !ids.contains(id.as_str()) && is_wanted(order.state));
    let fileless = fileless.map(|(id, order)| FilelessOrder::new(id, order));
    let filed = filed.into_iter().map(ListedOrder::Filed);
    filed.chain(fileless.map(ListedOrder::Fileless)).collect()
}

/// The order with that id; `None` if neither a file nor the server has it.
pub fn find<'o>(
    registry: &'o OrderRegistry,
    server: Option<&'o KnownOrders>,
    at: Timestamp,
    id: &'o str,
) -> Option<ListedOrder<'o>> {
    match registry.known().find(|known| known.order.id == id) {
        Some(known) => Some(ListedOrder::Filed(OrderState::new(known, server, at))),
        None => {
            let order = server?.orders.get(id)?;
            Some(ListedOrder::Fileless(FilelessOrder::new(id, order)))
        }
    }
}
