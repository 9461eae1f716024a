//! Large lists, which the compiler reads.

use tokio::time::Instant;

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
    /// When it began to wait.
    pub(crate) since: Instant,
    /// Whether its compilation gave way to others: it is compiled again when all of its zone has arrived.
    pub(crate) gave_way: bool,
}

impl Wanted {
    /// Whether its zone is still arriving.
    pub(crate) fn is_arriving(&self) -> bool {
        let transfer = self.transfer.as_ref();
        transfer.is_some_and(SpooledTransfer::is_arriving)
    }

    /// Whether it may be compiled now.
    pub(crate) fn is_ready(&self) -> bool {
        !self.gave_way || !self.is_arriving()
    }
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
        since: loading.since,
        gave_way: false,
    }
}
