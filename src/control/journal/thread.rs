//! The thread that writes the journal: it opens the file, seals what comes, and goes on in another file when this one
//! is moved away.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::chain::Entry;
use super::entry::{Event, Published, Start};
use super::file::{JournalFile, Last, last_generation};
use super::handover::{self, Dated};
use super::heartbeat::{self, Pulse};
use super::lines::JournalError;
use super::losses::Losses;
use super::record::Record;
use super::unwritten::Mark;
use super::waiting::{Item, Waiting};
use crate::config::shown::Show;

/// How often a journal that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes of entries that may wait for a disk that has no room.
const MOST_SEALED: usize = 64 << 20;

/// An item, and who waits until it is on the disk.
pub(super) type Letter = (Item, Option<Sender<()>>);

/// State that the thread shares with the [`Journal`](super::writer::Journal).
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Why entries wait, or the head does.
    pub(super) problem: Mutex<Option<String>>,
    pub(super) losses: Mutex<Losses>,
    /// The first generation that came into force and is not written yet, and when it did.
    pub(super) late: Mutex<Option<(u64, Instant)>>,
    /// The last generation that the file has.
    pub(super) known: AtomicU64,
    /// Set once `known` is, or can't be.
    pub(super) opened: OnceLock<()>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the wait for the last generation when the first attempt to open the journal is over, however it
/// ends.
struct Opened(Arc<Shared>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.opened.get_or_init(|| ());
    }
}

/// What the thread has.
pub(super) struct JournalThread {
    path: PathBuf,
    key: Option<PathBuf>,
    config: Option<PathBuf>,
    file: Option<JournalFile>,
    /// What the file has, once it was read.
    record: Option<Record>,
    /// Whether the head has the last entry.
    marked: bool,
    /// The last entry that is sealed, once the journal could be read; and the last that is written.
    last: Option<Last>,
    written: Last,
    /// The generation that this server sealed last, without what it changed.
    in_force: Option<Dated<Published>>,
    /// What came and is not sealed.
    waiting: Waiting,
    /// Sealed lines that are not written.
    sealed: Vec<u8>,
    receipts: Vec<Sender<()>>,
    pulse: Pulse,
    mark: Mark,
    /// When the oldest item came that is not written.
    unwritten_since: Option<Timestamp>,
    shared: Arc<Shared>,
}

impl JournalThread {
    pub(super) fn new(
        path: &Path,
        key: Option<PathBuf>,
        config: Option<PathBuf>,
        mark: Mark,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            key,
            config,
            file: None,
            record: None,
            marked: true,
            last: None,
            written: Last::none(),
            in_force: None,
            waiting: Waiting::default(),
            sealed: Vec::new(),
            receipts: Vec::new(),
            pulse: Pulse::default(),
            mark,
            unwritten_since: None,
            shared,
        }
    }

    pub(super) fn work(mut self, letters: &Receiver<Letter>) {
        let opened = Opened(self.shared.clone());
        self.try_to_open();
        drop(opened);
        self.try_to_replay();
        let mut gone = false;
        while !gone {
            let first = letters.recv_timeout(match self.is_idle() {
                true => heartbeat::INTERVAL,
                false => RETRY,
            });
            gone = matches!(first, Err(RecvTimeoutError::Disconnected));
            // What came meanwhile goes to the disk together.
            self.turn(first.into_iter().chain(letters.try_iter()));
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sealed.is_empty() && self.marked
    }

    /// Writes what came and what waited, if there is something, and the heartbeat.
    pub(super) fn turn(&mut self, letters: impl Iterator<Item = Letter>) {
        self.leave_moved_file();
        let mut has_work = !self.is_idle() || self.file.is_none();
        for letter in letters {
            has_work = true;
            self.take(letter);
        }
        if has_work {
            self.write();
        }
        if self.waiting.is_empty() && self.sealed.is_empty() {
            self.unwritten_since = None;
        } else if let Some(since) = self.unwritten_since {
            self.mark.set(since);
        }
        // What an earlier server did not write is not written before the entry of this one's start is.
        let waits = self.mark.before().into_iter().chain(self.unwritten_since);
        let waits = waits.min();
        if self.file.is_some() && (self.marked || waits.is_some()) {
            let number = self.written.number;
            self.pulse.beat(&self.path, number, waits);
        }
    }

    /// Closes a file that is no longer in its place, so that the one there is opened.
    fn leave_moved_file(&mut self) {
        self.file.take_if(|file| !file.is_in_place());
    }

    fn take(&mut self, (item, receipt): Letter) {
        self.receipts.extend(receipt);
        let lost = self.waiting.push(item);
        if let Some(at) = lost {
            lock(&self.shared.losses).add(at);
        }
        self.unwritten_since = self.unwritten_since.or(self.waiting.since());
    }

    /// Writes all that waits, or reports why not.
    fn write(&mut self) {
        if self.file.is_none() {
            self.try_to_open();
        }
        self.try_to_replay();
        self.seal();
        let (Some(file), Some(_), Some(last)) = (&mut self.file, &self.record, &self.last) else {
            return;
        };
        if let Err(error) = file.append(&self.sealed) {
            if matches!(error, JournalError::Replaced(_)) {
                self.file = None;
            }
            return self.fail(&error);
        }
        self.sealed.clear();
        self.written.clone_from(last);
        let marked = file.mark(last);
        self.marked = marked.is_ok();
        if self.waiting.is_empty() {
            self.mark.clear();
            // Locked until receipts are sent: what is written in time is not reported as late.
            let mut late = lock(&self.shared.late);
            if let Some((generation, since)) = late.take() {
                let ms = since.elapsed().as_millis();
                tracing::info!(
                    generation,
                    "in the journal, {ms} ms after it came into force"
                );
            }
            for receipt in self.receipts.drain(..) {
                // Who waited may have gone on.
                let _ = receipt.send(());
            }
        }
        if let Err(error) = marked {
            let problem =
                format!("entries are written, and the head that covers them is not: {error}");
            return self.report(problem, "the head of the journal is not written");
        }
        if lock(&self.shared.problem).take().is_some() {
            tracing::info!("the journal is written again");
        }
    }

    fn try_to_open(&mut self) {
        let shared = &self.shared;
        let known = |generation| {
            shared.known.fetch_max(generation, Ordering::Relaxed);
            shared.opened.get_or_init(|| ());
        };
        let (file, last, mut found) =
            match JournalFile::open(&self.path, self.key.as_deref(), known) {
                Ok(opened) => opened,
                Err(error) => {
                    // First, so that a task that waits for the number finds the reason.
                    self.fail(&error);
                    self.mark.refuse(&error);
                    // Numbers that a file has which can only be read are not given again.
                    return last_generation(&self.path).into_iter().for_each(known);
                }
            };
        let is_new = found.last_at.is_none();
        let theirs = match (&self.record, is_new) {
            (Some(_), false) => match Record::replay(&self.path) {
                Ok(record) => record,
                Err(error) => return self.fail(&error),
            },
            _ => Record::default(),
        };
        self.file = Some(file);
        found.unwritten_since = self.mark.before();
        lock(&self.shared.losses).find(&found, self.record.is_some());
        let start = found.start(self.config.clone());
        if let Some(ours) = self.record.take() {
            if !is_new {
                self.written.clone_from(&last);
            }
            return self.hand_over(start, ours, theirs, is_new);
        }
        let start = Box::new(Event::Start(start));
        self.waiting
            .push_front(Item::Tell(Timestamp::now(), last.generation, start));
        self.written.clone_from(&last);
        self.last = Some(last);
    }

    /// Goes on in another file than before: a new one, or one that has entries already.
    fn hand_over(&mut self, start: Start, ours: Record, mut theirs: Record, is_new: bool) {
        let path = self.path.shown();
        let lines = std::mem::take(&mut self.sealed);
        let lines = lines.split(|byte| *byte == b'\n');
        // Behind the last one there is nothing.
        let sealed = lines.filter_map(|line| Entry::read(line).ok());
        let sealed = sealed.map(|(entry, _)| entry).collect();
        self.last = Some(self.written.clone());
        let before = self.written.generation;
        let start = if is_new {
            tracing::info!(%path, "the journal goes on in a new file, as the one before is not there any more");
            Start {
                continues: (self.written.number > 0).then_some(self.written.number),
                missing: None,
                ran_until: None,
                unwritten_since: None,
                ..start
            }
        } else {
            tracing::warn!(%path, "the journal is another file than before: what is in force is recorded after its last entry");
            start
        };
        let now = Timestamp::now();
        self.seal_one(now, before, Event::Start(start));
        if is_new && self.in_force.is_none() {
            // Orders that can't be read at the start are in force by their texts in the journal.
            for text in ours.texts() {
                theirs.take(&text);
                self.seal_one(now, before, text);
            }
        }
        for (at, generation, event) in
            handover::events(ours, &mut theirs, sealed, self.in_force.clone())
        {
            let generation = match event {
                Event::Published(_) if !is_new => self.free_number(generation),
                _ => generation,
            };
            self.seal_one(at, generation, event);
        }
        self.record = Some(theirs);
    }

    /// The number of a generation, or the first free one after those that the journal has.
    fn free_number(&self, generation: u64) -> u64 {
        let last = self.last.as_ref().map_or(0, |last| last.generation);
        let generation = generation.max(last + 1);
        self.shared.known.fetch_max(generation, Ordering::Relaxed);
        generation
    }

    /// Finds out what the file has already.
    fn try_to_replay(&mut self) {
        if self.file.is_some() && self.record.is_none() {
            match Record::replay(&self.path) {
                Ok(record) => self.record = Some(record),
                Err(error) => self.fail(&error),
            }
        }
    }

    fn fail(&self, error: &JournalError) {
        self.report(
            error.to_string(),
            "the journal is not written; entries wait",
        );
    }

    fn report(&self, new: String, what: &'static str) {
        let mut problem = lock(&self.shared.problem);
        if problem.as_ref() != Some(&new) {
            tracing::error!(problem = new, "{what}");
        }
        *problem = Some(new);
    }

    /// Makes lines of what waits, as long as there is room for them.
    fn seal(&mut self) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        let has_room = |thread: &Self| thread.sealed.len() < MOST_SEALED;
        while has_room(self)
            && let Some(item) = self.waiting.pop_front()
        {
            match item {
                Item::Tell(at, generation, event) => self.seal_one(at, generation, *event),
                Item::Publish(draft) => {
                    let at = draft.at;
                    // The journal may have its number, if it could not be read then: it gets another one.
                    let generation = self.free_number(draft.generation);
                    self.look_for_a_gap(generation);
                    for event in record.news(*draft) {
                        self.seal_one(at, generation, event);
                    }
                }
            }
        }
        if has_room(self) {
            let entries = self.waiting.take_lost();
            if entries > 0 {
                self.seal_one(Timestamp::now(), 0, Event::Lost { entries });
            }
        }
        self.record = Some(record);
    }

    /// Reports generations that a server before published and that are not in the journal.
    fn look_for_a_gap(&self, generation: u64) {
        let last = self.last.as_ref().map_or(0, |last| last.generation);
        if self.in_force.is_none() && last > 0 && generation > last + 1 {
            lock(&self.shared.losses).skip(last + 1, generation - 1);
        }
    }

    fn seal_one(&mut self, at: Timestamp, generation: u64, event: Event) {
        let Some(last) = &mut self.last else { return };
        // What happens while nothing is in force yet belongs to the generation before.
        let generation = match event {
            Event::Published(_) => generation,
            _ => generation.max(last.generation),
        };
        if let Event::Published(published) = &event {
            let in_force = Published {
                causes: published.causes.clone(),
                lists: published.lists.clone(),
                held: published.held,
                ..Published::default()
            };
            self.in_force = Some((at, generation, in_force));
        }
        let entry = Entry {
            number: last.number + 1,
            at,
            generation,
            previous: last.hash.clone(),
            event,
        };
        let (line, hash) = entry.seal();
        *last = Last {
            number: entry.number,
            generation: generation.max(last.generation),
            hash,
        };
        self.sealed.extend(line);
    }
}
