//! The copy of a downloaded list on its way into force.

use tokio::time::Instant;

use crate::control::Control;
use crate::control::guard::release::Guards;
use crate::control::sources::downloads::verdict::{Replaced, Verdict};
use crate::control::sources::lists::load::Refusal;

impl Control {
    /// Starts to load a list whose copy was replaced. From then on it is a load of a list like any other.
    pub(crate) fn take_download(&mut self, replaced: Replaced) {
        let Replaced { list, done } = replaced;
        let ticket = self.requests.tickets.next();
        let held_as = self.rollback.held_as();
        let mut lists = self.lists.active.iter_mut();
        // If the list was removed meanwhile, its task is being ended.
        let Some(found) = lists.find(|found| found.name() == list) else {
            return;
        };
        if found.is_frozen() {
            let generation = held_as.unwrap_or_default();
            let refusal = Refusal::RolledBack { generation };
            // The task may have ended.
            let _ = done.send(Verdict::from(&refusal));
            return;
        }
        let ticket = found.request(ticket, Guards::NONE, Instant::now());
        self.downloads.wait(ticket, done);
    }
}
