//! Requests of the control socket, from their arrival to their answer.

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::control::Control;
use crate::control::admin::preparing::QueuedRequest;
use crate::control::admin::requests::Waiting;
use crate::control::admin::status::{OrdersRequest, ReloadReport, ReloadRequest, UnusedLines};
use crate::control::journal::entry::Cause;
use crate::control::publish::compose;
use crate::control::sources::orders::reading::RequestedFile;

impl Control {
    pub(crate) fn hang_up(&mut self) {
        let signal = "SIGHUP".to_owned();
        self.wish(QueuedRequest::Reload(
            ReloadRequest::default(),
            Cause::Signal { signal },
            None,
        ));
    }

    /// Reads an order's file at once: its writer is done.
    pub(crate) fn look_at_order(
        &mut self,
        wish: &OrdersRequest,
        user: u32,
        reply: oneshot::Sender<ReloadReport>,
    ) {
        let mut waiting = Waiting::new(wish.cause(user), Some(reply));
        let ticket = self.requests.tickets.next();
        waiting.tickets.insert(ticket);
        self.scheduler.asked.requested.push(RequestedFile {
            path: wish.path.clone(),
            cause: waiting.cause.clone(),
            ticket,
            at: Instant::now(),
        });
        self.requests.waiting.push(waiting);
    }

    /// Has read what changed of orders and exceptions.
    pub(crate) fn refresh_orders(&mut self, waiting: &mut Waiting) {
        self.scheduler.asked.refresh = true;
        // A loss that this reload finds itself is not confirmed by it.
        self.scheduler.asked.confirms_loss |= self.scheduler.registry.has_loss();
        let ticket = self.requests.tickets.next();
        waiting.tickets.insert(ticket);
        self.scheduler.asked.tickets.push(ticket);
    }

    /// Answers reloads of which all is read and in force.
    pub(crate) fn answer_waiting(&mut self) {
        let generation = self.generation();
        let ready = |waiting: &mut Waiting| waiting.tickets.is_empty() && !waiting.staged;
        let ready: Vec<_> = self.requests.waiting.extract_if(.., ready).collect();
        for mut waiting in ready {
            self.complete(&mut waiting.report, waiting.is_reload);
            waiting.report.generation = generation;
            waiting.report.held_as = self.rollback.record.as_ref().map(|hold| hold.generation);
            let failed = waiting.report.problems.len();
            let report = &waiting.report;
            let (loaded, changed) = (report.loaded.join(", "), report.changed.join(", "));
            tracing::info!(generation, failed, loaded, changed, "reloaded");
            if let Some(reply) = waiting.reply {
                // Who asked may have left.
                let _ = reply.send(waiting.report);
            }
        }
    }

    /// Adds what is known of the lists, and what is likely not meant in the configuration.
    fn complete(&self, report: &mut ReloadReport, is_reload: bool) {
        for list in &self.lists.active {
            let name = list.name();
            if list.loading.is_some() {
                report.reading.push(name.to_owned());
            }
            let Some(loaded) = &list.loaded else {
                continue;
            };
            let (bad, skipped) = (loaded.tally.bad_total(), loaded.tally.skipped);
            // What is skipped on purpose is worth a word once.
            let is_new = report.loaded.iter().any(|of| of == name);
            if bad > 0 || (skipped > 0 && is_new) {
                report.unused.push(UnusedLines {
                    list: name.to_owned(),
                    bad,
                    skipped,
                });
            }
        }
        if is_reload {
            report.warnings = compose::warnings(&self.configuration.current);
            for warning in &report.warnings {
                tracing::warn!("{warning}");
            }
        }
    }
}
