//! Finds generations that are in no entry. The state directory has the last generation's number as well. So if a server
//! could not write the journal, or had none, there is a gap before the first generation of the next server.

use super::chain::Entry;
use super::entry::Event;

/// The last generation of the entries so far.
#[derive(Default)]
pub struct Skipped {
    /// The last generation that came into force.
    last: Option<u64>,
    /// A server has started since then.
    is_started: bool,
}

impl Skipped {
    /// Adds an entry. Returns the first and the last of the generations that are missing before it.
    pub fn add(&mut self, entry: &Entry) -> Option<(u64, u64)> {
        match &entry.event {
            // With `continues`, it is no new server: the same one goes on in another file.
            Event::Start(start) => self.is_started |= start.continues.is_none(),
            Event::Published(_) => {
                let next = self.last.replace(entry.generation)? + 1;
                let is_first = std::mem::take(&mut self.is_started);
                return (is_first && next < entry.generation).then(|| (next, entry.generation - 1));
            }
            _ => {}
        }
        None
    }
}
