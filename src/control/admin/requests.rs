//! The requests from the control socket and from signals, from their arrival to their answer.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::oneshot;

use super::pausing::{PauseReport, PauseRequest, ResumeRequest, WaitingPause};
use super::preparing::{Prepared, QueuedRequest, RequestQueue};
use crate::config::{Config, paths};
use crate::control::admin::status::{
    DownloadRequest, FeedRequest, KnownOrders, OrdersRequest, ReloadReport, ReloadRequest,
    RollbackRequest, Status, UnusedLines,
};
use crate::control::journal::entry::Cause;
use crate::control::publish::compose;
use crate::control::sources::files::Files;
use crate::control::sources::lists::state::{ListState, Tickets};

/// A request to the control plane. The numbers are user IDs.
#[derive(Debug)]
pub enum Request {
    /// Show the status.
    Status(oneshot::Sender<Status>),
    /// Show the orders.
    KnownOrders(oneshot::Sender<KnownOrders>),
    /// Read the configuration and all changed lists again.
    Reload(ReloadRequest, u32, oneshot::Sender<ReloadReport>),
    /// Read an order or exceptions file that the user has changed.
    Orders(OrdersRequest, u32, oneshot::Sender<ReloadReport>),
    /// Ask the primaries of a feed. The answer is whether there is such a feed.
    Feed(FeedRequest, oneshot::Sender<Option<u64>>),
    /// Ask the servers of downloaded lists. The answer has the lists that are asked, each with the number of the request.
    Download(DownloadRequest, oneshot::Sender<Vec<(String, u64)>>),
    /// Return to the lists of an earlier generation, or release them.
    Rollback(RollbackRequest, u32, oneshot::Sender<ReloadReport>),
    /// Pause a list or all lists.
    Pause(PauseRequest, u32, oneshot::Sender<PauseReport>),
    /// End the pause of a list, or all pauses.
    Resume(ResumeRequest, u32, oneshot::Sender<PauseReport>),
    /// Stop, because another process takes over.
    Park(Parking),
}

/// A wish to park the control plane.
#[derive(Debug)]
pub struct Parking {
    /// Gets the generation in force, once the control plane is parked.
    pub parked: oneshot::Sender<u64>,
    /// Has a value once another process has taken over. Without one, the control plane goes on.
    pub committed: oneshot::Receiver<()>,
}

/// The requests that are not answered yet.
pub(crate) struct Requests {
    /// Reloads and rollbacks whose files are not read yet.
    pub(crate) queue: RequestQueue,
    pub(crate) tickets: Tickets,
    /// Requests that were carried out, and wait for loads or for a new configuration.
    open: Vec<OpenRequest>,
    /// The request that waits for the rollback or release under way.
    rollback: Option<RollbackWaiter>,
    /// Pauses and resumes that are in force, and wait for the disk.
    pub(crate) pauses: Vec<WaitingPause>,
    /// Answered reloads without a problem, and those with problems.
    pub(crate) reloads: [u64; 2],
    /// Another process wants to take over.
    pub(crate) parking: Option<Parking>,
}

/// A request for a rollback or a release whose files are being read and written.
pub(crate) struct RollbackWaiter {
    pub(crate) waiting: OpenRequest,
    /// The files of lists, for a release.
    pub(crate) prepared: Option<Box<Prepared>>,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self {
            queue: RequestQueue::new(),
            tickets: Tickets::default(),
            open: Vec::new(),
            rollback: None,
            pauses: Vec::new(),
            reloads: [0; 2],
            parking: None,
        }
    }

    /// Adds the outcome of a load to the reports of the requests that wait for it.
    pub(crate) fn report_load(&mut self, ticket: u64, outcome: impl Fn(&mut ReloadReport)) {
        for open in &mut self.open {
            if open.tickets.remove(&ticket) {
                outcome(&mut open.report);
            }
        }
    }

    /// Ends the wait of all requests for a load, without an outcome.
    pub(crate) fn dismiss(&mut self, ticket: u64) {
        self.report_load(ticket, |_| ());
    }

    /// The requests that wait for a new configuration.
    pub(crate) fn awaiting_pending(&mut self) -> impl Iterator<Item = &mut OpenRequest> {
        self.open.iter_mut().filter(|open| open.awaits_pending)
    }

    /// Adds a list that was read for a new configuration to the reports.
    pub(crate) fn report_pending_load(&mut self, ticket: u64, list: &str) {
        self.dismiss(ticket);
        for open in self.awaiting_pending() {
            open.report.loaded.push(list.to_owned());
        }
    }

    /// Reports to the requests that wait for a new configuration why it is rejected.
    pub(crate) fn fail_pending(&mut self, problems: &[String]) {
        for open in self.awaiting_pending() {
            open.awaits_pending = false;
            open.report.problems.extend_from_slice(problems);
        }
    }

    /// Reports to the requests that wait for a new configuration that it is in force.
    pub(crate) fn finish_pending(&mut self, problems: &[String], changed: &[String]) {
        for open in self.awaiting_pending() {
            open.awaits_pending = false;
            open.report.problems.extend_from_slice(problems);
            changed.clone_into(&mut open.report.changed);
        }
    }

    /// Ends the wait for files of orders and exceptions, and reports the problems with these to all requests that
    /// waited.
    pub(crate) fn finish_reading(&mut self, tickets: &[u64], problems: &[String]) {
        for open in &mut self.open {
            let before = open.tickets.len();
            open.tickets.retain(|ticket| !tickets.contains(ticket));
            // A new configuration may have other directories. Their problems are reported when it comes into force.
            if open.tickets.len() < before && !open.awaits_pending {
                // The same problems may have been reported when the configuration came into force.
                let known = &mut open.report.problems;
                let new = problems.iter().filter(|problem| !known.contains(problem));
                let new: Vec<_> = new.cloned().collect();
                known.extend(new);
            }
        }
    }

    /// The cause of the first request that waits for one of these loads.
    pub(crate) fn cause_of(&self, tickets: &[u64]) -> Option<Cause> {
        let mut open = self.open.iter();
        let open = open.find(|open| tickets.iter().any(|it| open.tickets.contains(it)))?;
        Some(open.cause.clone())
    }

    /// Adds a request that was carried out. It is answered once nothing that it waits for is left.
    pub(crate) fn add(&mut self, open: OpenRequest) {
        self.open.push(open);
    }

    /// Whether a reload is queued or under way.
    pub(crate) fn are_reloading(&self) -> bool {
        self.queue.has_reload() || self.open.iter().any(|open| open.is_reload)
    }

    /// The requests that were carried out, and are not answered yet.
    #[cfg(test)]
    pub(crate) fn carried_out(&self) -> &[OpenRequest] {
        &self.open
    }

    /// Makes the request in `waiter` wait for the rollback or release that has begun.
    pub(crate) fn await_rollback(&mut self, waiter: RollbackWaiter) {
        self.rollback = Some(waiter);
    }

    /// The request that waited for the rollback or release that has ended.
    pub(crate) fn take_rollback(&mut self) -> Option<RollbackWaiter> {
        self.rollback.take()
    }

    /// Queues a reload or a rollback.
    pub(crate) fn push(&mut self, request: QueuedRequest) {
        if let Err(request) = self.queue.push(request) {
            self.reject(request, "too many other requests are waiting");
        }
    }

    /// Answers a request that can't be carried out.
    pub(crate) fn reject(&mut self, request: QueuedRequest, why: &str) {
        let is_reload = matches!(request, QueuedRequest::Reload(..));
        let (what, cause, reply) = match request {
            QueuedRequest::Reload(_, cause, reply) => ("not reloaded", cause, reply),
            QueuedRequest::Rollback(_, cause, reply) => ("not rolled back", cause, Some(reply)),
        };
        tracing::error!(why, "{what}");
        let mut open = OpenRequest::new(cause, reply);
        open.report.problems.push(format!("{what}: {why}"));
        open.is_reload = is_reload;
        self.open.push(open);
    }

    /// Takes the files that a request needs; `prepared` is `None` if reading them panicked. Returns the files of lists.
    pub(crate) fn finish_preparing(&mut self, prepared: Option<Box<Prepared>>) -> Option<&Files> {
        if prepared.is_none()
            && let Some(request) = self.queue.under_way.take()
        {
            let why = "reading its files failed inside tapis, which is a bug; please report it";
            self.reject(request, why);
        }
        self.queue.finish_preparing(prepared?)
    }

    /// Answers the queued requests if reading files takes too long. `others` is the age of a running rollback.
    pub(crate) fn give_up_late(&mut self, others: Option<Duration>) {
        for request in self.queue.give_up_late(others) {
            self.reject(
                request,
                "the file system does not answer; see `tapis status`",
            );
        }
    }

    /// Answers the requests that wait for nothing any more.
    pub(crate) fn answer(&mut self, state: &Answering<'_>) {
        let ready = |open: &mut OpenRequest| open.tickets.is_empty() && !open.awaits_pending;
        let ready: Vec<_> = self.open.extract_if(.., ready).collect();
        for mut open in ready {
            state.complete(&mut open.report, open.is_reload);
            let report = &open.report;
            let (loaded, changed) = (report.loaded.join(", "), report.changed.join(", "));
            let (generation, failed) = (state.generation, report.problems.len());
            tracing::info!(generation, failed, loaded, changed, "reloaded");
            if open.is_reload {
                self.reloads[usize::from(failed > 0)] += 1;
            }
            if let Some(reply) = open.reply {
                // The client may have left.
                let _ = reply.send(open.report);
            }
        }
    }
}

/// The state that a report includes.
pub(crate) struct Answering<'s> {
    /// The generation in force.
    pub(crate) generation: u64,
    /// The generation of the rollback in force.
    pub(crate) held_as: Option<u64>,
    pub(crate) lists: &'s [ListState],
    pub(crate) config: &'s Config,
}

impl Answering<'_> {
    /// Adds the state of the lists, and the likely mistakes in the configuration.
    fn complete(&self, report: &mut ReloadReport, is_reload: bool) {
        report.generation = self.generation;
        report.held_as = self.held_as;
        for list in self.lists {
            let name = list.name();
            if list.loading.is_some() {
                report.reading.push(name.to_owned());
            }
            let Some(loaded) = &list.loaded else {
                continue;
            };
            let (bad, skipped) = (loaded.tally.bad_total(), loaded.tally.skipped);
            // Lines that are skipped on purpose are reported once.
            let is_new = report.loaded.iter().any(|of| of == name);
            if bad > 0 || (skipped > 0 && is_new) {
                report.unused.push(UnusedLines {
                    list: name.to_owned(),
                    path: paths::legible(&list.source.path),
                    bad,
                    skipped,
                });
            }
        }
        if is_reload {
            report.warnings = compose::warnings(self.config);
            for warning in &report.warnings {
                tracing::warn!("{warning}");
            }
        }
    }
}

/// A request that waits for loads or for a new configuration.
pub(crate) struct OpenRequest {
    /// The loads that it waits for.
    pub(crate) tickets: HashSet<u64>,
    /// It waits for the new configuration, too.
    pub(crate) awaits_pending: bool,
    pub(crate) report: ReloadReport,
    /// It is a reload, which reads the configuration as well.
    pub(crate) is_reload: bool,
    pub(crate) cause: Cause,
    pub(crate) reply: Option<oneshot::Sender<ReloadReport>>,
}

impl OpenRequest {
    pub(crate) fn new(cause: Cause, reply: Option<oneshot::Sender<ReloadReport>>) -> Self {
        Self {
            tickets: HashSet::new(),
            awaits_pending: false,
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

    #[test]
    fn problems_of_orders_are_reported_once_although_two_steps_find_them() {
        let mut requests = Requests::new();
        let mut open = OpenRequest::new(Cause::Start, None);
        open.awaits_pending = true;
        open.tickets.insert(7);
        requests.add(open);
        let problems = ["the only order is gone".to_owned()];
        requests.finish_pending(&problems, &[]);
        requests.finish_reading(&[7], &problems);
        assert_eq!(requests.carried_out()[0].report.problems, problems);
    }
}
