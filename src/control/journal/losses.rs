//! Entries that are lost for good: alarms until the next start.

use jiff::Timestamp;

use super::entry::OtherHead;
use super::file::Anomalies;
use crate::config::shown::{counted, entries, generations};

/// Changes that did not fit into memory, and entries that were missing in the file.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Changes that did not fit into memory.
    dropped: Option<Dropped>,
    /// Entries that were missing when the file was opened, a sentence each.
    missing: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Dropped {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Losses {
    /// Adds a change, made at that time, that does not fit into memory.
    pub(super) fn add(&mut self, at: Timestamp) {
        if self.dropped.is_none() {
            tracing::error!("too many changes wait to be written to the journal: changes are lost");
        }
        let (count, first) = self
            .dropped
            .map_or((0, at), |lost| (lost.count, lost.first));
        self.dropped = Some(Dropped {
            count: count + 1,
            first: first.min(at),
            last: at,
        });
    }

    /// Adds the entries that are missing in a file that was just opened. `again` means that this server had a file open
    /// before.
    pub(super) fn add_anomalies(&mut self, found: &Anomalies, again: bool) {
        let remedy = "`tapis journal verify` has details; if a backup has the missing entries, keep the backup together with this file; this alarm stays until the next start";
        let since = found
            .last_at
            .map_or_else(String::new, |at| format!(" after {at:.0}"));
        // A new file after another one was moved away: nothing is lost.
        let moved = again && found.last_at.is_none();
        let missing = found.missing.filter(|_| !moved).map(|(first, last)| {
            let entries = entries(first, last, ["is", "are"]);
            format!("journal: {entries} missing that had been written{since}: {remedy}")
        });
        let unwritten = found.unwritten_since.map(|since| {
            format!("journal: changes that servers before this one made after {since:.0} are not recorded, as the journal could not be written until they ended: `tapis why --at` knows nothing about the time from then to this start; this alarm stays until the next start")
        });
        let replaced = found.other_head.as_ref().map(|OtherHead { number, .. }| {
            format!("journal: entry {number} is not the one that was written, so all up to it may have been replaced: {remedy}")
        });
        for loss in missing.into_iter().chain(replaced).chain(unwritten) {
            tracing::error!("{loss}");
            self.missing.push(loss);
        }
    }

    /// Adds generations of earlier servers that are not in the journal, unless missing entries explain that.
    pub(super) fn add_skipped(&mut self, first: u64, last: u64) {
        if self.missing.is_empty() {
            let which = generations(first, last);
            let loss = format!(
                "journal: {which} not recorded: a server before this one could not write the journal, or had none; `tapis why --at` knows nothing about the time between its last entry and this start; this alarm stays until the next start"
            );
            tracing::error!("{loss}");
            self.missing.push(loss);
        }
    }

    /// A sentence for each loss.
    pub(super) fn sentences(&self) -> Vec<String> {
        let dropped = self.dropped.map(|Dropped { count, first, last }| {
            let changes = counted(count, "change", "changes");
            format!("journal: {changes} between {first:.0} and {last:.0} lost: it could not be written and too many changes waited; `tapis journal show` has what is in force since, and this alarm stays until the next start")
        });
        self.missing.iter().cloned().chain(dropped).collect()
    }
}
