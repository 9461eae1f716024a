//! Owns small lists on their way into force: their reading, and who is told how it ended.
//! Refuses to join them with the others: that is `join`'s.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::control::Control;
use crate::control::admin::report;
use crate::control::admin::status::ReloadReport;
use crate::control::guard::policy::Rails;
use crate::control::publish::delta::Ready;
use crate::control::sources::lists::load::{Fresh, Refusal, load};
use crate::control::sources::lists::state::carries;
use crate::control::sources::lists::state::{ListState, Loading};
use crate::control::start::broken;

/// A load that ended.
pub(crate) struct Done {
    ticket: u64,
    result: Result<Fresh, Refusal>,
}

impl Control {
    /// Takes what a load came to.
    pub(crate) fn land(&mut self, done: Done) {
        let now = Instant::now();
        let index = self
            .lists
            .active
            .iter()
            .position(|list| carries(list, done.ticket));
        let staged = self.stage.iter_mut().flat_map(|stage| &mut stage.fresh);
        let list = match index {
            Some(index) => Some(&mut self.lists.active[index]),
            None => staged.into_iter().find(|list| carries(list, done.ticket)),
        };
        let Some(list) = list else {
            // The list is gone, or a newer load of it is under way.
            self.no_longer_awaited(done.ticket);
            return;
        };
        let fresh = match done.result {
            Ok(fresh) => fresh,
            Err(refusal) => return self.refuse(done.ticket, refusal),
        };
        report::log_load(list, Ok(&fresh.loaded));
        let name = list.name().to_owned();
        if index.is_some() {
            // In force when it is joined with the others; until then it is under way.
            self.delta.ready.push(Ready {
                ticket: done.ticket,
                config: list.config.clone(),
                fresh,
            });
            return;
        }
        list.rules = Some(fresh.image);
        list.settle(Ok(fresh.loaded), now);
        self.tell(done.ticket, |_| ());
        for waiting in self
            .requests
            .waiting
            .iter_mut()
            .filter(|waiting| waiting.staged)
        {
            waiting.report.loaded.push(name.clone());
        }
    }

    /// Tells those who wait for a load how it ended.
    pub(crate) fn tell(&mut self, ticket: u64, say: impl Fn(&mut ReloadReport)) {
        for waiting in &mut self.requests.waiting {
            if waiting.tickets.remove(&ticket) {
                say(&mut waiting.report);
            }
        }
    }

    pub(crate) fn no_longer_awaited(&mut self, ticket: u64) {
        self.tell(ticket, |_| ());
    }
}

/// Starts reading a small list.
pub(crate) fn start_load(
    list: &mut ListState,
    rails: &Arc<Rails>,
    ticket: u64,
    done: &mpsc::Sender<Done>,
) {
    let Loading {
        ticket, released, ..
    } = list.start(ticket);
    let (config, before, rails) = (list.config.clone(), list.in_force(), Arc::clone(rails));
    let reading = tokio::task::spawn_blocking(move || load(&config, &rails, &before, released));
    let (broken, done) = (broken(list), done.clone());
    tokio::spawn(async move {
        let result = reading.await.unwrap_or(Err(broken));
        // Nobody waits when the server ends.
        let _ = done.send(Done { ticket, result }).await;
    });
}
