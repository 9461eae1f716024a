//! Chooses the answers that another process should have if it takes over.

use std::cmp::Reverse;
use std::sync::Arc;

use super::Cache;
use super::entry::{Entry, Key};
use crate::wire::Rcode;

impl Cache {
    /// At most `most` answers that are within their TTL, with their keys: those that were used first, and of equals, those that
    /// last longest. Answers that upstream blocks, and those of which only a part is used, are left out. Takes as long as a
    /// flush.
    pub fn popular(&self, most: usize, now: u32) -> Vec<(Key, Arc<Entry>)> {
        let is_wanted = |entry: &Entry| {
            let rcodes = [Rcode::NoError as u16, Rcode::NxDomain as u16];
            entry.is_fresh(now)
                && entry.handoff.is_none()
                && rcodes.contains(&entry.answer.rcode())
                && entry.answer.upstream_block().is_none()
                && self.is_current(entry)
        };
        let mut wanted: Vec<_> = self
            .answers
            .iter()
            .filter(|(_, entry)| is_wanted(entry))
            .collect();
        if wanted.len() > most {
            let rank = |(_, entry): &(Key, Arc<Entry>)| Reverse((entry.is_used(), entry.expires));
            wanted.select_nth_unstable_by_key(most, rank);
            wanted.truncate(most);
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::resolver::tests::entry;
    use crate::wire::name::Name;

    #[test]
    fn answers_that_were_used_come_before_others_and_expired_ones_never() {
        let cache = Cache::new(1 << 20, 3600);
        let key = |number: u8| {
            let name = Name::from_text(&format!("n{number}.example")).expect("a name");
            Key::of(&name, 1)
        };
        for number in 0..6 {
            let entry = entry(100 + number);
            if number < 3 {
                assert!(!entry.is_due(0));
            }
            cache.insert(key(number), entry);
        }
        let names = |most, now| {
            let mut names: Vec<_> = cache
                .popular(most, now)
                .into_iter()
                .map(|(key, _)| key)
                .collect();
            names.sort_by(|one, other| one.name().cmp(other.name()));
            names
        };
        assert_eq!(names(3, 0), [key(0), key(1), key(2)]);
        assert_eq!(
            names(4, 0),
            [key(0), key(1), key(2), key(5)],
            "the longest of the others"
        );
        assert_eq!(names(9, 103), [key(4), key(5)], "the others have expired");
    }
}
