//! The copy of a downloaded list on its way into force.

use tokio::time::Instant;

use crate::control::Control;
use crate::control::guard::release::Guards;
use crate::control::sources::downloads::runner::Replaced;

impl Control {
    /// Starts to load a list whose copy was replaced. From then on it is a load of a list like any other.
    pub(crate) fn take_download(&mut self, replaced: Replaced) {
        let Replaced { list, done } = replaced;
        let ticket = self.requests.tickets.next();
        let mut lists = self.lists.active.iter_mut();
        // If the list was removed meanwhile, its task is being ended. A rollback reads no newer states.
        let found = lists.find(|found| found.name() == list && !found.is_frozen());
        let Some(found) = found else { return };
        let ticket = found.request(ticket, Guards::NONE, Instant::now());
        self.downloads.wait(ticket, done);
    }
}
