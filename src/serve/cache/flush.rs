//! Removes answers on request. An answer is void from the moment of the flush, also one that is still on its way; its memory
//! is then freed entry by entry, so no thread that answers queries waits for the removal of many.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::Cache;
use super::entry::Entry;
use super::flushes::{Flush, MOST, Names, REMEMBERED, TooManyFlushes};
use crate::wire::name::Name;

impl Cache {
    /// Removes the answers in which one of these names occurs, and the failures of queries for them; returns how many of both.
    /// It is forgotten, too, that one of them did not exist.
    /// Answers to queries that are numbered below `before`, and arrive later, are not kept. Takes a while if the cache is
    /// large: no thread that answers queries may call this function.
    ///
    /// # Errors
    /// [`TooManyFlushes`]
    pub fn flush(
        &self,
        names: Names,
        rtype: Option<u16>,
        before: u64,
        now: u32,
    ) -> Result<(u64, u64), TooManyFlushes> {
        let mut remembered = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |flush: &Flush| now.saturating_sub(flush.second) >= REMEMBERED;
        if remembered.iter().filter(|flush| !is_over(flush)).count() >= MOST {
            return Err(TooManyFlushes);
        }
        let new = Flush {
            names,
            rtype,
            before,
            second: now,
        };
        remembered.push(new.clone());
        self.flushes.store(Arc::new(remembered.clone()));
        // In this order: who sees the new epoch sees the flush.
        self.epoch.fetch_add(1, Ordering::Release);
        let (mut answers, mut failures) = (0, 0);
        for (key, entry) in self.answers.iter() {
            if remembered.iter().any(|flush| flush.covers(&entry)) {
                let is_same = |held: &Arc<Entry>| Arc::ptr_eq(held, &entry);
                let removed = self.answers.remove_if(&key, is_same).is_some();
                answers += u64::from(removed && new.covers(&entry));
            }
        }
        for (key, _) in self.failures.iter().filter(|(key, _)| new.has_key(key)) {
            failures += u64::from(self.failures.remove(&key).is_some());
        }
        // A denial is about all types of a name. It makes stale answers about the names below void as well.
        if rtype.is_none() {
            let denials = self.denials.iter();
            for (key, _) in denials.filter(|(key, _)| new.names.has(&key.name)) {
                self.denials.remove(&key);
            }
        }
        // Earlier flushes are forgotten only now: their last answers were removed above.
        remembered.retain(|flush| !is_over(flush));
        self.flushes.store(Arc::new(remembered.clone()));
        Ok((answers, failures))
    }

    /// The answers in which a name occurs, with the flags DO and CD of their queries. Takes as long as a flush.
    pub fn answers_with(&self, name: &Name, rtype: Option<u16>) -> Vec<(Arc<Entry>, bool, bool)> {
        let wanted = Flush {
            names: Names::Exact(name.clone()),
            rtype,
            before: u64::MAX,
            second: 0,
        };
        let mut found: Vec<_> = self
            .answers
            .iter()
            .filter(|(_, entry)| wanted.covers(entry) && self.is_current(entry))
            .map(|(key, entry)| {
                let question = key.question();
                (entry, question.dnssec_ok, question.checking_disabled)
            })
            .collect();
        // Those that were asked for the name itself come first.
        let order = |entry: &Entry| {
            let (asked, rtype) = entry.answer.question();
            (asked != name.wire(), rtype)
        };
        found.sort_by_key(|(entry, dnssec, checking)| (order(entry), *dnssec, *checking));
        found
    }

    /// The number of remembered failures.
    pub fn failure_count(&self) -> usize {
        self.failures.len()
    }
}

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;

    use super::*;
    use crate::serve::cache::{Key, Lookup};
    use crate::serve::resolver::tests::{BOUNDS, entry, entry_of};
    use crate::wire::answer::Answer;

    /// A key with a name of one label of four bytes.
    fn key(number: u32) -> Key {
        let mut key = Key::root_servers();
        key.name = SmallVec::from_slice(&[4]);
        key.name.extend_from_slice(&number.to_be_bytes());
        key.name.push(0);
        key
    }

    #[test]
    fn lookups_never_wait_for_long_while_a_million_answers_are_flushed() {
        let cache = Arc::new(Cache::new(1 << 29, 0));
        let many = 1_000_000;
        for number in 0..many {
            cache.insert(key(number), entry_of(16));
        }
        let held = cache.size().0 as u64;
        assert!(held > 900_000, "{held}");
        let flushing = Arc::clone(&cache);
        let flush = std::thread::spawn(move || flushing.flush(Names::All, None, u64::MAX, 0));
        let mut worst = std::time::Duration::ZERO;
        let mut lookups = 0u64;
        while !flush.is_finished() {
            let start = std::time::Instant::now();
            let _ = cache.lookup_key(key((lookups * 7919 % u64::from(many)) as u32).as_ref(), 0);
            worst = worst.max(start.elapsed());
            lookups += 1;
        }
        let (answers, _) = flush.join().expect("no panic").expect("flushed");
        assert_eq!((answers, cache.size().0), (held, 0));
        // A thread may be suspended for a while, but a lock for the whole flush would last for longer.
        assert!(
            lookups > 1000,
            "{lookups} lookups, the slowest took {worst:?}"
        );
    }

    #[test]
    fn an_answer_to_a_query_from_before_a_flush_is_not_kept_and_a_later_one_is() {
        let cache = Cache::new(1 << 20, 0);
        let numbered = |number| {
            let entry = Arc::into_inner(entry_of(16)).expect("the only reference");
            Arc::new(entry.numbered(number))
        };
        cache.flush(Names::All, None, 5, 0).expect("flushed");
        cache.insert(key(1), numbered(4));
        assert!(cache.try_insert(key(2), numbered(4)));
        assert_eq!(cache.size().0, 0);
        cache.insert(key(1), numbered(5));
        assert_eq!(cache.size().0, 1);
    }

    #[test]
    fn a_flush_of_a_denied_name_makes_stale_answers_about_names_below_usable_again() {
        let name = |text| Name::from_text(text).expect("a name");
        let key = |text| Key::of(&name(text), 1);
        let denial = |now| {
            let head = b"\0\0\x81\x83\0\x01\0\0\0\0\0\0";
            let packet = [head, name("corp.example").wire(), &[0, 1, 0, 1]].concat();
            let answer = Answer::parse(&packet, &name("corp.example"), 1, 1, BOUNDS);
            Arc::new(Entry::new(answer.expect("an answer"), now))
        };
        let is_usable = |cache: &Cache| {
            let found = cache.lookup_key(key("www.corp.example").as_ref(), 100);
            matches!(found, Lookup::Miss(Some(_)))
        };
        let scopes = [
            (Names::Exact(name("corp.example")), None, true),
            (Names::Subtree(name("corp.example")), Some(28), false),
            (Names::Exact(name("other.example")), None, false),
        ];
        for (names, rtype, expected) in scopes {
            let cache = Cache::new(1 << 20, 86_400);
            // The names in the answer itself do not matter here.
            cache.insert(key("www.corp.example"), entry(60));
            assert!(is_usable(&cache));
            cache.insert(key("corp.example"), denial(5));
            assert!(!is_usable(&cache), "denied");
            cache.flush(names, rtype, u64::MAX, 10).expect("flushed");
            assert_eq!(is_usable(&cache), expected);
        }
    }

    #[test]
    fn too_many_flushes_are_refused_until_the_first_are_forgotten() {
        let cache = Cache::new(1 << 20, 0);
        let flush = |now| cache.flush(Names::All, None, 0, now);
        for _ in 0..MOST {
            assert_eq!(flush(0), Ok((0, 0)));
        }
        assert_eq!(flush(REMEMBERED - 1), Err(TooManyFlushes));
        assert_eq!(flush(REMEMBERED), Ok((0, 0)));
    }
}
