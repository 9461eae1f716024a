//! Owns what others wish of the control plane, and who waits for how it ends.
//! Refuses to read lists and configurations for them: that is `reload`'s.

use std::collections::HashSet;

use tokio::sync::oneshot;

use super::preparing::RequestQueue;
use crate::control::admin::status::{
    KnownOrders, OrdersRequest, ReloadReport, ReloadRequest, RollbackRequest, Status,
};
use crate::control::journal::entry::Cause;
use crate::control::sources::lists::state::Tickets;

/// What others may ask of the control plane.
#[derive(Debug)]
pub enum Request {
    /// Tell how things are.
    Status(oneshot::Sender<Status>),
    /// The orders as they are known.
    KnownOrders(oneshot::Sender<KnownOrders>),
    /// Read the configuration and all changed lists again, for a user.
    Reload(ReloadRequest, u32, oneshot::Sender<ReloadReport>),
    /// Read changed files of orders and exceptions, for a user who changed some.
    Orders(OrdersRequest, u32, oneshot::Sender<ReloadReport>),
    /// Go back to the lists of a generation, for a user.
    Rollback(RollbackRequest, u32, oneshot::Sender<ReloadReport>),
}

/// Requests that are not answered yet.
pub(crate) struct Requests {
    /// Reloads and rollbacks that wait for their files.
    pub(crate) queue: RequestQueue,
    pub(crate) tickets: Tickets,
    pub(crate) waiting: Vec<Waiting>,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self {
            queue: RequestQueue::new(),
            tickets: Tickets::default(),
            waiting: Vec::new(),
        }
    }

    /// Adds the outcome of a load to the reports of the requests that wait for it.
    pub(crate) fn settle(&mut self, ticket: u64, outcome: impl Fn(&mut ReloadReport)) {
        for waiting in &mut self.waiting {
            if waiting.tickets.remove(&ticket) {
                outcome(&mut waiting.report);
            }
        }
    }

    /// Lets no request wait for a load any longer.
    pub(crate) fn dismiss(&mut self, ticket: u64) {
        self.settle(ticket, |_| ());
    }

    /// The requests that wait for a new configuration.
    pub(crate) fn staged(&mut self) -> impl Iterator<Item = &mut Waiting> {
        let waiting = self.waiting.iter_mut();
        waiting.filter(|waiting| waiting.staged)
    }

    /// Adds a list that was read for a new configuration to the reports.
    pub(crate) fn settle_staged(&mut self, ticket: u64, list: &str) {
        self.dismiss(ticket);
        for waiting in self.staged() {
            waiting.report.loaded.push(list.to_owned());
        }
    }

    /// The cause of the first request that waits for a load.
    pub(crate) fn cause_of(&self, ticket: u64) -> Option<Cause> {
        let mut waiting = self.waiting.iter();
        let waiting = waiting.find(|waiting| waiting.tickets.contains(&ticket))?;
        Some(waiting.cause.clone())
    }
}

/// A reload that waits for its loads.
pub(crate) struct Waiting {
    pub(crate) tickets: HashSet<u64>,
    /// It waits for the new configuration, too.
    pub(crate) staged: bool,
    pub(crate) report: ReloadReport,
    /// It is about the configuration, too.
    pub(crate) is_reload: bool,
    /// Who wishes it.
    pub(crate) cause: Cause,
    pub(crate) reply: Option<oneshot::Sender<ReloadReport>>,
}

impl Waiting {
    pub(crate) fn new(cause: Cause, reply: Option<oneshot::Sender<ReloadReport>>) -> Self {
        Self {
            tickets: HashSet::new(),
            staged: false,
            is_reload: false,
            report: ReloadReport::default(),
            cause,
            reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tickets_are_equal_and_later_ones_are_greater() {
        let mut tickets = Tickets::default();
        let all = [(); 4].map(|()| tickets.next());
        assert!(all.is_sorted_by(|one, next| one < next), "{all:?}");
    }
}
