//! Reports each kind of event at most once an hour: a primary may cause one at each refresh.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// The time after a report in which events of the same kind are only counted.
const PAUSE: Duration = Duration::from_secs(3600);

/// The kinds of events that were reported.
#[derive(Debug)]
pub(crate) struct Repeats<K>(HashMap<K, Repeated>);

#[derive(Debug)]
struct Repeated {
    reported: Instant,
    /// The events since then.
    unreported: u64,
}

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Repeats<K> {
    /// Takes an event. Returns how many of its kind were not reported since the last one that was; `None` if this one is not
    /// to be reported either.
    pub(crate) fn add(&mut self, kind: K, now: Instant) -> Option<u64> {
        let Self(kinds) = self;
        let known = kinds.get_mut(&kind);
        if let Some(known) = known.filter(|known| now < known.reported + PAUSE) {
            known.unreported += 1;
            return None;
        }
        let repeated = Repeated {
            reported: now,
            unreported: 0,
        };
        let before = kinds.insert(kind, repeated);
        Some(before.map_or(0, |before| before.unreported))
    }

    /// Forgets kinds: their next events are reported. Returns how many of their events were not.
    pub(crate) fn forget(&mut self, is_over: impl Fn(&K) -> bool) -> u64 {
        let Self(kinds) = self;
        let over = kinds.extract_if(|kind, _| is_over(kind));
        over.map(|(_, Repeated { unreported, .. })| unreported)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_kind_are_reported_once_an_hour_with_their_number() {
        let (now, mut repeats) = (Instant::now(), Repeats::default());
        assert_eq!(repeats.add("cut", now), Some(0));
        assert_eq!(repeats.add("cut", now), None);
        assert_eq!(repeats.add("refused", now), Some(0));
        let later = now + PAUSE - Duration::from_secs(1);
        assert_eq!(repeats.add("cut", later), None);
        assert_eq!(repeats.add("cut", now + PAUSE), Some(2));
        assert_eq!(repeats.add("cut", now + PAUSE), None);
        assert_eq!(repeats.forget(|kind| *kind == "cut"), 1);
        assert_eq!(repeats.add("cut", now + PAUSE), Some(0));
        assert_eq!(repeats.add("refused", later), None);
    }
}
