//! Lists orders with their states at a moment, according to their files and in the running server.

use std::collections::HashSet;
use std::path::Path;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::config::order::Order;
use crate::config::order::State;
use crate::control::admin::status::{KnownOrder, KnownOrders};
use crate::control::sources::orders::registry::{Known, OrderRegistry};
use crate::control::sources::orders::schedule::Schedule;

/// An order with a file, and its state.
#[derive(Serialize)]
pub struct OrderState<'o> {
    /// The state according to the file.
    pub state: State,
    /// The order in the server. Not serialized if no server was asked; null if the server does not have the order.
    #[serde(
        rename = "server-state",
        skip_serializing_if = "Option::is_none",
        serialize_with = "server_state"
    )]
    pub in_server: Option<Option<&'o KnownOrder>>,
    /// The order.
    #[serde(flatten)]
    pub order: &'o Order,
    /// When it begins, pauses and ends.
    #[serde(skip)]
    pub schedule: Schedule<'o>,
}

/// An order in the server that has no file any more.
#[derive(Serialize)]
pub struct FilelessOrder<'o> {
    /// The order's id.
    pub id: &'o str,
    /// The file that the server read it from.
    pub path: &'o Path,
    /// Always `None`, as there is no file: serialized as null.
    pub state: Option<State>,
    /// The state in the server.
    #[serde(rename = "server-state")]
    pub in_server: State,
}

/// An entry of a list of orders.
#[derive(Serialize)]
#[serde(untagged)]
pub enum ListedOrder<'o> {
    /// An order with a file.
    Filed(OrderState<'o>),
    /// An order in the server alone.
    Fileless(FilelessOrder<'o>),
}

fn server_state<S: Serializer>(
    in_server: &Option<Option<&KnownOrder>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let state = in_server.flatten().map(|known| known.state);
    state.serialize(serializer)
}

impl<'o> OrderState<'o> {
    fn new(known: Known<'o>, server: Option<&'o KnownOrders>, at: Timestamp) -> Self {
        Self {
            state: known.schedule.state(at),
            in_server: server.map(|server| server.orders.get(&known.order.id)),
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
            in_server: order.state,
        }
    }
}

/// The orders that have this state at a moment, according to their files or in the server; without a state, all orders.
/// They are sorted by the date on which they come into force; those without a file are last.
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
            let in_server = order.in_server.flatten();
            is_wanted(order.state) || in_server.is_some_and(|known| is_wanted(known.state))
        })
        .collect();
    filed.sort_by_key(|order| (order.order.dates.effective_from, &order.order.id));
    let ids: HashSet<&str> = registry.orders().map(|order| &*order.id).collect();
    let in_server = server.into_iter().flat_map(|server| &server.orders);
    let fileless =
        in_server.filter(|(id, order)| !ids.contains(id.as_str()) && is_wanted(order.state));
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
