//! What a server that wrote another file before records when it goes on in a journal's file.

use jiff::Timestamp;

use super::chain::Entry;
use super::entry::{Event, Published};
use super::record::Record;

/// Something to record: when it happened, the generation then, and what it is.
pub(super) type Dated<E> = (Timestamp, u64, E);

/// Returns what was sealed for the file before and is not in it, and what makes the record of the new file, `theirs`,
/// the same as that of the one before: with the first generation among these, or else with the one `in_force`.
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
                let news = theirs.events_for(ours.into_draft(at, generation, published));
                events.extend(news.into_iter().map(|event| (at, generation, event)));
            }
            (event, rest) => {
                ours = rest;
                events.push((at, generation, event));
            }
        }
    }
    events
}
