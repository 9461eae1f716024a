//! Finds generations that are in no entry. Their numbers go on from the state directory's, too, so a server that could not
//! write the journal, or had none, leaves a gap before the first generation of the next server that can.

use super::chain::Entry;
use super::entry::Event;

/// What the entries so far say.
#[derive(Default)]
pub struct Skipped {
    /// The last generation that came into force.
    last: Option<u64>,
    /// A server started since.
    is_started: bool,
}

impl Skipped {
    /// Takes in an entry. Returns the first and the last of the generations that are missing before it.
    pub fn take(&mut self, entry: &Entry) -> Option<(u64, u64)> {
        match &entry.event {
            // Otherwise the same server goes on in another file.
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
