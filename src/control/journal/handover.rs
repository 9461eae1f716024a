//! The entries with which a server continues the journal in another file.

use jiff::Timestamp;

use super::chain::Entry;
use super::entry::{Event, Published};
use super::record::Record;

/// An event, with its time and generation.
pub(super) type Dated<E> = (Timestamp, u64, E);

/// Returns the entries to write to the new file: first those that were sealed for the previous file but are not in it.
/// If no generation is among them, the generation `in_force` is added. `ours` is the record of the previous file, and
/// `theirs` is that of the new file. The first generation is recorded with all differences between the two records, so
/// that `theirs` becomes equal to `ours`.
pub(super) fn events(
    ours: Record,
    theirs: &mut Record,
    sealed: Vec<Entry>,
    in_force: Option<Dated<Published>>,
) -> Vec<Dated<Event>> {
    let is_published = |entry: &Entry| matches!(entry.event, Event::Published(_));
    let again = in_force.filter(|_| !sealed.iter().any(is_published));
    let again = again.map(|(at, generation, it)| (at, generation, Event::Published(it)));
    let sealed = sealed
        .into_iter()
        .map(|entry| (entry.at, entry.generation, entry.event));
    let (mut ours, mut events) = (Some(ours), Vec::new());
    for (at, generation, event) in sealed.chain(again) {
        match (event, ours.take()) {
            (Event::Published(published), Some(ours)) => {
                let changes = theirs.events_for(ours.into_draft(at, generation, published));
                events.extend(changes.into_iter().map(|event| (at, generation, event)));
            }
            (event, rest) => {
                ours = rest;
                events.push((at, generation, event));
            }
        }
    }
    events
}
