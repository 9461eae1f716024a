//! Stops the control plane while another process takes over, and goes on if it does not.
//!
//! ```text
//!             another process          nothing is being written
//!   running ------------------> wanted -----------------------> parked -----------> handed over
//!    ^                            |                               |    committed
//!    |     it gave up             |                               |
//!    +----------------------------+     it ended, or gave up      |
//!    +------------------------------------------------------------+
//! ```
//!
//! While it is parked, the data plane goes on under the policy in force. The state directory and the journal are closed
//! and unlocked, for the other process. Changes of files, dates of orders and requests that fall into this time wait. That
//! process applies them as soon as it serves alone, or, if it fails, this one does: the clients of the requests ask the
//! other process, because this one closes their connections without having begun them.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::status;
use crate::control::Control;
use crate::control::admin::requests::{Parking, Request};
use crate::control::journal::entry::Cause;

/// Requests that are kept until the control plane goes on; further ones wait in the queue.
const KEPT: usize = 64;
/// How often a parked control plane shows that it is alive.
const ALIVE: Duration = Duration::from_secs(5);

impl Control {
    /// Parks the control plane if that is wanted and possible now. Returns whether another process has taken over.
    pub(crate) async fn park_if_wanted(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        stop: &CancellationToken,
    ) -> bool {
        let wanted = &mut self.requests.parking;
        if wanted.as_ref().is_some_and(|it| it.parked.is_closed()) {
            *wanted = None;
        }
        if !self.is_quiet() {
            return false;
        }
        match self.requests.parking.take() {
            Some(parking) => self.park(parking, requests, stop).await,
            None => false,
        }
    }

    /// Whether nothing is under way that another process could not begin again.
    fn is_quiet(&self) -> bool {
        let is_writing = !self.persist.is_written() || self.rollback.is_running();
        let is_changing = self.lists.pending.is_some() || self.delta.has_configuration();
        !is_writing && !is_changing && !self.compiler.is_compiling()
    }

    async fn park(
        &mut self,
        mut parking: Parking,
        requests: &mut mpsc::Receiver<Request>,
        stop: &CancellationToken,
    ) -> bool {
        self.downloads.end();
        self.feeds.end();
        let generation = self.generation();
        let gauges = self.publication.plane.gauges();
        self.hits.write_last(&gauges, &self.publication.slots).await;
        tokio::task::block_in_place(|| {
            self.record.journal.close(generation);
            self.persist.store.release();
        });
        tracing::info!(generation, "parked: another process takes over");
        let mut kept = Vec::new();
        let mut alive = interval(ALIVE);
        if parking.parked.send(generation).is_ok() {
            loop {
                tokio::select! {
                    committed = &mut parking.committed => match committed {
                        Ok(()) => return true,
                        // The take-over broke off in the middle, and the server ends.
                        Err(_) if stop.is_cancelled() => return true,
                        Err(_) => break,
                    },
                    () = stop.cancelled() => return true,
                    // The service manager sees that this process is alive.
                    _ = alive.tick() => self.vitals.turn(false),
                    Some(request) = requests.recv(), if kept.len() < KEPT => match request {
                        // The client may have disconnected.
                        Request::Status(reply) => {
                            _ = reply.send(status::status(self, self.publication.plane.gauges()));
                        }
                        Request::KnownOrders(reply) => _ = reply.send(status::known_orders(self)),
                        request => kept.push(request),
                    },
                }
            }
        }
        self.unpark();
        kept.into_iter().for_each(|request| self.receive(request));
        false
    }

    /// Goes on after another process has failed to take over.
    fn unpark(&mut self) {
        tracing::warn!("no other process has taken over: this one changes the policy again");
        tokio::task::block_in_place(|| self.persist.store.reopen());
        self.open_journal();
        self.record.record_orders_again();
        // The other process may have stored images, and recorded generations.
        self.persist.mark_dirty();
        self.publication.change(Cause::Start);
        self.follow_feeds();
        self.downloads.follow(&self.configuration.current);
    }
}
