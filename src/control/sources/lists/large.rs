//! Large lists, which the compiler reads.

use crate::config::List;
use crate::control::guard::acceptance::InForce;
use crate::control::guard::release::Guards;
use crate::control::sources::feeds::spool::SpooledTransfer;
use crate::control::sources::lists::state::ListState;

/// A large list that is to be read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The number of the load.
    pub(crate) ticket: u64,
    pub(crate) config: List,
    pub(crate) released: Guards,
    pub(crate) before: Vec<InForce>,
    /// It belongs to a configuration that is not in force.
    pub(crate) for_pending: bool,
    /// The transfer that it is read from, if it is a feed.
    pub(crate) transfer: Option<SpooledTransfer>,
}

/// Starts a load of a large list. The load has the number `ticket`, unless a client waits for it under another number.
pub(crate) fn want(list: &mut ListState, ticket: u64, for_pending: bool) -> Wanted {
    let loading = list.start(ticket);
    Wanted {
        ticket: loading.ticket,
        config: list.config.clone(),
        released: loading.released,
        before: list.in_force(),
        for_pending,
        transfer: None,
    }
}
