//! The policy in force at a time or in a generation, from the journal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::chain::Entry;
use super::entry::{Event, ListEntry};
use super::generations::Skipped;
use super::heartbeat::{self, Heartbeat};
use super::lines::{JournalError, read_files};
use super::record::Record;
use crate::config::exception::Exception;
use crate::config::order::State;
use crate::control::journal::settings::Settings;

/// The policy that was in force.
#[derive(Clone, Debug)]
pub struct Past {
    /// The generation.
    pub generation: u64,
    /// When it came into force.
    pub since: Timestamp,
    /// Whether a server answered with it at that moment.
    pub served: Served,
    /// The lists.
    pub lists: Vec<ListEntry>,
    /// The files and texts of all orders, also of those that were not in force.
    pub orders: Vec<(PathBuf, String)>,
    /// All exceptions, also those that had ended.
    pub exceptions: Vec<Exception>,
    /// The settings that answers depended on; empty if the entries are too old to have them.
    pub settings: Settings,
}

/// Whether a server answered at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// A server ran.
    Yes,
    /// The server had shut down at this time.
    Stopped(Timestamp),
    /// The server ended without a shutdown. It still ran at this time, and ended at an unknown time after it.
    Unknown(Timestamp),
    /// Entries after this time are missing, or were not written.
    Incomplete(Timestamp),
    /// No entry is that old.
    Unrecorded,
}

/// A moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At this time.
    At(Timestamp),
    /// While this generation was in force.
    Generation(u64),
}

impl Past {
    /// Reads the policy of a moment; `None` if the journal has no entry that old, or not that generation.
    ///
    /// # Errors
    /// [`JournalError`] if it can't be read.
    pub fn read(path: &Path, moment: Moment) -> Result<Option<Self>, JournalError> {
        match Self::read_files(&[path], moment) {
            Err(error) if error.is_absent() => Ok(None),
            result => result,
        }
    }

    /// As [`Past::read`], from several files of a journal, the oldest first. All must exist.
    ///
    /// # Errors
    /// [`JournalError`] if one can't be read.
    pub fn read_files(paths: &[&Path], moment: Moment) -> Result<Option<Self>, JournalError> {
        Self::read_with(paths, moment, None)
    }

    /// As [`Past::read_files`], while changes since `unwritten` are not in the last file yet.
    ///
    /// # Errors
    /// [`JournalError`] if a file can't be read.
    pub fn read_with(
        paths: &[&Path],
        moment: Moment,
        unwritten: Option<Timestamp>,
    ) -> Result<Option<Self>, JournalError> {
        let (Some(last), Some(path)) = (Self::last_publication(paths, moment)?, paths.last())
        else {
            return Ok(None);
        };
        // The heartbeat is read before the entries, as the server may write more entries and end meanwhile.
        let heartbeat = heartbeat::read(path);
        let mut record = Record::default();
        let mut past: Option<Self> = None;
        let mut session = Session::default();
        let mut continuity = Continuity::default();
        let mut skipped = Skipped::default();
        read_files(paths, |entry| {
            continuity.apply(&entry);
            let skipped = skipped.add(&entry).is_some();
            match &entry.event {
                Event::Published(published) if entry.number == last => {
                    session = Session::at(entry.at);
                    session.incomplete = continuity.lacks;
                    past = Some(Self {
                        generation: entry.generation,
                        since: entry.at,
                        served: Served::Yes,
                        lists: published.lists.clone(),
                        orders: Vec::new(),
                        exceptions: Vec::new(),
                        settings: Settings::new(),
                    });
                }
                event if past.is_some() => {
                    if continuity.lacks.is_some() && !session.is_followed {
                        session.incomplete = session.incomplete.or(continuity.lacks);
                        return false;
                    }
                    if !session.apply(entry.at, event, skipped) {
                        return false;
                    }
                }
                _ => {}
            }
            if entry.number <= last {
                record.apply(&entry.event);
            }
            true
        })?;
        if let Some(since) = unwritten.filter(|_| !session.is_over && !session.is_followed) {
            session.miss(since);
        }
        let served = match moment {
            Moment::At(moment) => session.served(path, moment, heartbeat),
            Moment::Generation(_) => session
                .lacks(session.since)
                .map_or(Served::Yes, Served::Incomplete),
        };
        Ok(past.map(|past| Self {
            served,
            orders: record.orders.into_values().collect(),
            exceptions: record.exceptions.into_values().collect(),
            settings: record.settings,
            ..past
        }))
    }

    /// The number of the last entry, up to the moment, that put a generation in force. Reads all entries, as the clock
    /// may have been set back.
    fn last_publication(paths: &[&Path], moment: Moment) -> Result<Option<u64>, JournalError> {
        let mut last = None;
        read_files(paths, |entry| {
            let published = matches!(entry.event, Event::Published(_));
            let found = match moment {
                Moment::At(_) => moment.includes(entry.at),
                Moment::Generation(generation) => entry.generation == generation,
            };
            if published && found {
                last = Some(entry.number);
            }
            true
        })?;
        Ok(last)
    }
}

impl Moment {
    fn includes(self, at: Timestamp) -> bool {
        match self {
            Self::At(moment) => at <= moment,
            Self::Generation(_) => false,
        }
    }
}

/// Finds gaps between the entries.
#[derive(Default)]
struct Continuity {
    /// The number and time of the last entry.
    last: Option<(u64, Timestamp)>,
    /// The time of the last entry before a gap, until a later entry makes up for the gap.
    lacks: Option<Timestamp>,
    /// A server has started since the gap. Its first generation makes up for the gap: it is written with all
    /// differences from the entries before.
    is_started: bool,
}

impl Continuity {
    fn apply(&mut self, entry: &Entry) {
        // Entries before the first one may be in a file that was moved away. They count as lost only if the first entry
        // records that they are missing. Other missing entries leave a gap in the numbers.
        let lost = match &entry.event {
            Event::Start(start) => start.missing.is_some() && self.last.is_none(),
            _ => false,
        };
        let (number, at) = self.last.unwrap_or((entry.number - 1, entry.at));
        if lost || number + 1 != entry.number {
            self.lacks.get_or_insert(at);
            self.is_started = false;
        }
        match &entry.event {
            Event::Start(_) => self.is_started = true,
            Event::Published(_) if std::mem::take(&mut self.is_started) => self.lacks = None,
            _ => {}
        }
        self.last = Some((entry.number, entry.at));
    }
}

/// The server that put a generation in force: what is known about it from that moment on.
#[derive(Default)]
struct Session {
    /// When the generation came into force.
    since: Timestamp,
    /// The time after which entries are missing.
    incomplete: Option<Timestamp>,
    /// The last time at which it is known to have run.
    ran: Timestamp,
    /// When it shut down.
    stopped: Option<Timestamp>,
    /// It put a later generation in force.
    is_followed: bool,
    /// Another server started.
    is_over: bool,
}

impl Session {
    fn at(since: Timestamp) -> Self {
        Self {
            since,
            ran: since,
            ..Self::default()
        }
    }

    /// Records that changes since `since` are missing. If this server is known to have run or shut down at a later
    /// time, they are missing only since that time.
    fn miss(&mut self, since: Timestamp) {
        let known = self.stopped.unwrap_or(self.ran);
        let since = since.max(known).max(self.since);
        self.incomplete = Some(self.incomplete.map_or(since, |other| other.min(since)));
    }

    /// Applies an entry; `skipped` if generations before it are missing. Returns whether later entries matter.
    fn apply(&mut self, at: Timestamp, event: &Event, skipped: bool) -> bool {
        if self.is_over {
            return self.apply_next_start(event, skipped);
        }
        if self.is_followed {
            // Changes that did not fit into memory are recorded with a later generation, and the entry `lost` comes
            // after that one. So the entries that are missing belong between this generation and that one.
            if matches!(event, Event::Lost { .. }) {
                self.incomplete = self.incomplete.or(Some(self.ran));
            }
            return matches!(
                event,
                Event::Order(_) | Event::OrderGone { .. } | Event::Refused { .. }
            );
        }
        match event {
            Event::Published(_) => self.is_followed = true,
            Event::Stop => self.stopped = Some(at),
            // The same server continues in a new file.
            Event::Start(start) if start.continues.is_some() => {}
            Event::Start(start) => {
                self.is_over = true;
                self.ran = self.ran.max(start.ran_until.unwrap_or(self.ran));
                return self.apply_next_start(event, false);
            }
            _ => self.ran = self.ran.max(at),
        }
        true
    }

    /// Applies an entry of the servers after this one, up to the first generation that one of them published.
    fn apply_next_start(&mut self, event: &Event, skipped: bool) -> bool {
        match event {
            Event::Start(start) => {
                if let Some(since) = start.unwritten_since {
                    self.miss(since);
                }
            }
            Event::Published(_) => {
                if skipped && self.incomplete.is_none() {
                    self.miss(self.ran);
                }
                return false;
            }
            _ => {}
        }
        true
    }

    /// The time since which entries are missing, if that is before `moment` or before the generation.
    fn lacks(&self, moment: Timestamp) -> Option<Timestamp> {
        self.incomplete
            .filter(|since| *since < moment || *since < self.since)
    }

    fn served(&self, path: &Path, moment: Timestamp, heartbeat: Option<Heartbeat>) -> Served {
        if let Some(since) = self.lacks(moment) {
            return Served::Incomplete(since);
        }
        if let Some(stopped) = self.stopped {
            return match stopped <= moment {
                true => Served::Stopped(stopped),
                false => Served::Yes,
            };
        }
        if self.is_followed || moment <= self.ran {
            return Served::Yes;
        }
        if self.is_over {
            return Served::Unknown(self.ran);
        }
        let now = Timestamp::now();
        let beat = heartbeat.filter(|beat| beat.at <= now);
        let ran = beat.map_or(self.ran, |beat| beat.at.max(self.ran));
        // The future follows from the dates of orders and exceptions.
        if moment <= ran || moment > now {
            return Served::Yes;
        }
        match (heartbeat::is_alive(path), beat) {
            (true, Some(beat)) if beat.is_current(now) => Served::Yes,
            (true, _) => Served::Incomplete(ran),
            (false, _) => Served::Unknown(ran),
        }
    }
}

/// When an order was in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// When it came into force first.
    pub begun: Option<Timestamp>,
    /// When it last stopped being in force; `None` while it is in force.
    pub freed: Option<Timestamp>,
}

/// When orders were in force, by their IDs: according to publications, not to their dates. Begins and ends before the first
/// publication of the journal are not known.
///
/// # Errors
/// [`JournalError`] if it can't be read.
pub fn spans(path: &Path) -> Result<BTreeMap<String, Span>, JournalError> {
    let mut spans = BTreeMap::<String, Span>::new();
    let mut first = true;
    super::read(path, |entry| {
        let Event::Published(published) = entry.event else {
            return true;
        };
        let is_first = std::mem::take(&mut first);
        for change in published.states {
            if is_first {
                continue;
            }
            let span = spans.entry(change.order).or_default();
            if change.now == Some(State::InForce) {
                span.begun.get_or_insert(entry.at);
                span.freed = None;
            } else if change.was == Some(State::InForce) {
                span.freed = Some(entry.at);
            }
        }
        true
    })?;
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{at, draft};
    use super::super::{Draft, Journal};
    use super::*;

    /// A folder with the journal of a server that published these generations and stopped.
    fn journal(drafts: Vec<Draft>) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal.jsonl");
        append(&path, drafts);
        (dir, path)
    }

    /// Appends the entries of one server, from its start to its stop.
    fn append(path: &Path, drafts: Vec<Draft>) {
        let mut journal = Journal::open(path, None, None);
        let mut last = journal.last_generation();
        for draft in drafts {
            last = draft.generation;
            journal.publish(draft);
        }
        journal.close(last);
        assert_eq!(journal.problem(), None);
    }

    fn orders(generation: u64, orders: &[(&str, &str)]) -> Draft {
        draft(generation, Some(orders), &[])
    }

    fn past(path: &Path, moment: Moment) -> Option<Past> {
        Past::read(path, moment).expect("readable")
    }

    /// The generation in force at an instant.
    fn generation(path: &Path, second: i64) -> Option<u64> {
        past(path, Moment::At(at(second))).map(|past| past.generation)
    }

    fn texts(past: &Past) -> Vec<&str> {
        past.orders.iter().map(|(_, text)| &**text).collect()
    }

    #[test]
    fn a_generation_is_in_force_from_its_instant_until_the_next_one() {
        let (_dir, path) = journal((1..=3).map(|number| orders(number, &[])).collect());
        let found: Vec<_> = [99, 100, 199, 200, 299, 300, 9999]
            .into_iter()
            .map(|second| generation(&path, second))
            .collect();
        let expected = [None, Some(1), Some(1), Some(2), Some(2), Some(3), Some(3)];
        assert_eq!(found, expected);
        let second = past(&path, Moment::Generation(2)).expect("it was in force");
        assert_eq!((second.generation, second.since), (2, at(200)));
        assert!(past(&path, Moment::Generation(4)).is_none());
    }

    #[test]
    fn the_past_has_the_orders_and_texts_of_that_time() {
        let (_dir, path) = journal(vec![
            orders(1, &[("x", "x1")]),
            orders(2, &[("x", "x2"), ("y", "y1")]),
            orders(3, &[("y", "y1")]),
        ]);
        for (second, expected) in [(150, &["x1"][..]), (250, &["x2", "y1"]), (350, &["y1"])] {
            let past = past(&path, Moment::At(at(second))).expect("it is known");
            assert_eq!(texts(&past), expected, "at {second}");
        }
        let second = past(&path, Moment::Generation(2)).expect("it was in force");
        assert_eq!(texts(&second), ["x2", "y1"]);
    }

    #[test]
    fn after_the_clock_was_set_back_the_last_publication_counts() {
        let set_back = Draft {
            at: at(150),
            ..orders(3, &[("x", "x3")])
        };
        let first = [orders(1, &[("x", "x1")]), orders(2, &[("x", "x2")])];
        let (_dir, path) = journal(first.into_iter().chain([set_back]).collect());
        let found: Vec<_> = [149, 150, 200, 250]
            .into_iter()
            .map(|second| generation(&path, second))
            .collect();
        assert_eq!(found, [Some(1), Some(3), Some(3), Some(3)]);
        let last = past(&path, Moment::At(at(250))).expect("it is known");
        assert_eq!((texts(&last), last.since), (vec!["x3"], at(150)));
    }

    #[test]
    fn a_stop_counts_for_later_moments_but_not_when_a_generation_is_asked_for() {
        let (_dir, path) = journal(vec![orders(1, &[])]);
        let now = Timestamp::now();
        let last = past(&path, Moment::At(now)).expect("it is known");
        let Served::Stopped(stopped) = last.served else {
            panic!("it stopped: {last:?}");
        };
        assert!(stopped <= now && stopped > at(200));
        let before = past(&path, Moment::At(at(200))).expect("it is known");
        assert_eq!(before.served, Served::Yes, "it ran at that time");
        let first = past(&path, Moment::Generation(1)).expect("it was in force");
        assert_eq!(first.served, Served::Yes);

        // Another server publishes a generation: the stop of the first one does not apply to it.
        let again = Draft {
            at: now,
            ..orders(2, &[])
        };
        append(&path, vec![again]);
        let second = past(&path, Moment::At(now)).expect("it is known");
        assert_eq!((second.generation, second.served), (2, Served::Yes));
        let second = past(&path, Moment::At(Timestamp::now())).expect("it is known");
        assert_eq!(second.generation, 2);
        assert!(matches!(second.served, Served::Stopped(_)), "{second:?}");
    }

    /// Removes the lines of a journal for which `is` returns true; lines are numbered from 0.
    fn cut(path: &Path, is: impl Fn(usize, &str) -> bool) {
        let text = fs::read_to_string(path).expect("readable");
        let lines = text.lines().enumerate();
        let left = lines.filter(|(at, line)| !is(*at, line));
        let left: String = left.map(|(_, line)| format!("{line}\n")).collect();
        fs::write(path, left).expect("written");
    }

    fn served(path: &Path, second: i64) -> Served {
        past(path, Moment::At(at(second)))
            .expect("it is known")
            .served
    }

    #[test]
    fn the_past_is_incomplete_from_missing_entries_until_the_next_start() {
        let (_dir, path) = journal((1..=4).map(|number| orders(number, &[])).collect());
        cut(&path, |_, line| {
            line.contains("\"generation\":2,") && line.contains("\"published\"")
        });
        let incomplete = Served::Incomplete(at(100));
        let found = [150, 250, 350, 450].map(|second| served(&path, second));
        assert_eq!(found, [incomplete; 4]);
        assert_eq!(served(&path, 100), Served::Yes);
        let generation = |number| past(&path, Moment::Generation(number)).expect("it is known");
        assert_eq!(generation(1).served, Served::Yes);
        assert_eq!(generation(3).served, incomplete);
        // The next server's entries are complete.
        append(&path, vec![orders(5, &[])]);
        assert_eq!(served(&path, 450), incomplete);
        assert_eq!(served(&path, 550), Served::Yes);
    }

    #[test]
    fn the_past_is_incomplete_after_entries_were_cut_off_at_the_end() {
        let (_dir, path) = journal((1..=4).map(|number| orders(number, &[])).collect());
        let text = fs::read_to_string(&path).expect("readable");
        let stop = text.lines().count() - 1;
        cut(&path, |at, _| at >= stop - 1);
        append(&path, vec![orders(5, &[])]);
        let found = [350, 450, 550].map(|second| served(&path, second));
        let incomplete = Served::Incomplete(at(300));
        assert_eq!(found, [incomplete, incomplete, Served::Yes]);
    }

    #[test]
    fn the_past_is_incomplete_where_changes_were_lost() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path, None, None);
        journal.publish(orders(1, &[]));
        journal.publish(orders(2, &[]));
        journal.append(2, Event::Lost { entries: 3 });
        journal.publish(orders(3, &[]));
        journal.close(3);
        let found = [100, 150, 200, 250].map(|second| served(&path, second));
        let lost = Served::Incomplete(at(100));
        assert_eq!(found, [Served::Yes, lost, Served::Yes, Served::Yes]);
    }

    #[test]
    fn the_past_is_incomplete_while_a_running_server_can_not_write() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path, None, None);
        let receipt = journal.publish(orders(1, &[]));
        journal.wait(receipt);
        let alive = dir.path().join("journal.jsonl.alive");
        while !alive.exists() {
            std::thread::yield_now();
        }
        let now = Timestamp::now();
        let ago = |seconds| now - jiff::SignedDuration::from_secs(seconds);
        for (beat, waits, expected) in [
            (ago(2), "", Served::Yes),
            (ago(60), "", Served::Incomplete(ago(60))),
            (ago(2), "waits", Served::Incomplete(ago(2))),
            // The clock was ahead.
            (ago(-600), "", Served::Incomplete(at(100))),
        ] {
            fs::write(&alive, format!("{:20} {beat:.9} {waits:5}\n", 2)).expect("written");
            let found = past(&path, Moment::At(now)).expect("it is known");
            assert_eq!(found.served, expected, "{beat} {waits}");
        }
        journal.close(1);
    }

    #[test]
    fn a_journal_without_a_generation_has_no_past_and_no_orders() {
        let (_dir, path) = journal(Vec::new());
        assert!(past(&path, Moment::At(Timestamp::now())).is_none());
        assert!(past(&path, Moment::Generation(1)).is_none());
        assert!(spans(&path).expect("readable").is_empty());
        let gone = path.with_extension("gone");
        assert!(past(&gone, Moment::Generation(1)).is_none());
        let folder = path.parent().expect("it lies in one");
        assert!(Past::read(folder, Moment::Generation(1)).is_err());
        assert!(spans(folder).is_err());
    }

    #[test]
    fn an_orders_span_is_from_its_first_instant_in_force_to_its_last_end() {
        let states = |generation, states: &[(&str, State)]| draft(generation, None, states);
        let (x, y) = ("x", "y");
        let (force, pause) = (State::InForce, State::Suspended);
        let (_dir, path) = journal(vec![
            states(1, &[(x, force)]),
            states(2, &[(x, force), (y, force)]),
            states(3, &[(x, State::Lifted), (y, pause)]),
            states(4, &[(x, State::Lifted), (y, force)]),
            states(
                5,
                &[
                    (x, State::Lifted),
                    (y, State::Expired),
                    ("z", State::Scheduled),
                ],
            ),
        ]);
        let span = |begun: Option<i64>, freed: Option<i64>| Span {
            begun: begun.map(at),
            freed: freed.map(at),
        };
        let expected = [
            // It was in force before the first entry, so its start is unknown.
            (x.to_owned(), span(None, Some(300))),
            (y.to_owned(), span(Some(200), Some(500))),
            ("z".to_owned(), span(None, None)),
        ];
        assert_eq!(spans(&path).expect("readable"), BTreeMap::from(expected));
    }

    #[test]
    fn an_order_that_is_in_force_again_has_not_ended() {
        let states = |generation, state| draft(generation, None, &[("x", state)]);
        let (_dir, path) = journal(vec![
            states(1, State::Scheduled),
            states(2, State::InForce),
            states(3, State::Suspended),
            states(4, State::InForce),
        ]);
        let span = spans(&path).expect("readable")["x"];
        assert_eq!((span.begun, span.freed), (Some(at(200)), None));
    }
}
