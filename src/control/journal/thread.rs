//! The thread that writes the journal: it opens the file, seals entries, appends them, and continues in another file if
//! this one is moved away.

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
use super::heartbeat::{self, HeartbeatWriter};
use super::lines::JournalError;
use super::losses::Losses;
use super::record::Record;
use super::unwritten::UnwrittenFile;
use super::waiting::{Item, Waiting};
use crate::config::shown::Show;

/// How often a journal that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes of sealed entries that may wait, for example while the disk is full.
const MOST_SEALED: usize = 64 << 20;

/// An entry, and where to report that it is on the disk.
pub(super) type Message = (Item, Option<Sender<()>>);

/// State that the thread shares with the [`Journal`](super::writer::Journal).
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Why entries or the head can't be written.
    pub(super) problem: Mutex<Option<String>>,
    pub(super) losses: Mutex<Losses>,
    /// The first generation that came into force before its entry was written, and when it did.
    pub(super) late: Mutex<Option<(u64, Instant)>>,
    /// The last generation in the file.
    pub(super) known: AtomicU64,
    /// Set once `known` is set, or once it turned out that the file can't be read.
    pub(super) opened: OnceLock<()>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets `Shared::opened` when it is dropped: after the first attempt to open the journal, also if that attempt panics.
struct Opened(Arc<Shared>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.opened.get_or_init(|| ());
    }
}

/// The state of the thread.
pub(super) struct JournalThread {
    path: PathBuf,
    key: Option<PathBuf>,
    config: Option<PathBuf>,
    file: Option<JournalFile>,
    /// The policy according to the file's entries, once they were read.
    record: Option<Record>,
    /// Whether the head is that of the last entry.
    is_head_written: bool,
    /// The last sealed entry; `None` until the journal can be read.
    last: Option<Last>,
    /// The last written entry.
    written: Last,
    /// The last generation that this server sealed, without its changes.
    in_force: Option<Dated<Published>>,
    /// Entries that are not sealed yet.
    waiting: Waiting,
    /// Sealed lines that are not written yet.
    sealed: Vec<u8>,
    receipts: Vec<Sender<()>>,
    heartbeat: HeartbeatWriter,
    unwritten: UnwrittenFile,
    /// The time of the oldest entry that is not written.
    unwritten_since: Option<Timestamp>,
    shared: Arc<Shared>,
}

impl JournalThread {
    pub(super) fn new(
        path: &Path,
        key: Option<PathBuf>,
        config: Option<PathBuf>,
        unwritten: UnwrittenFile,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            key,
            config,
            file: None,
            record: None,
            is_head_written: true,
            last: None,
            written: Last::none(),
            in_force: None,
            waiting: Waiting::default(),
            sealed: Vec::new(),
            receipts: Vec::new(),
            heartbeat: HeartbeatWriter::default(),
            unwritten,
            unwritten_since: None,
            shared,
        }
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let opened = Opened(self.shared.clone());
        self.try_to_open();
        drop(opened);
        self.try_to_replay();
        let mut gone = false;
        while !gone {
            let first = messages.recv_timeout(match self.is_idle() {
                true => heartbeat::INTERVAL,
                false => RETRY,
            });
            gone = matches!(first, Err(RecvTimeoutError::Disconnected));
            // One sync serves all messages that arrived meanwhile.
            self.write_pending(first.into_iter().chain(messages.try_iter()));
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sealed.is_empty() && self.is_head_written
    }

    /// Writes all new and waiting entries, and the heartbeat.
    pub(super) fn write_pending(&mut self, messages: impl Iterator<Item = Message>) {
        self.close_moved_file();
        let mut has_work = !self.is_idle() || self.file.is_none();
        for message in messages {
            has_work = true;
            self.receive(message);
        }
        if has_work {
            self.write();
        }
        if self.waiting.is_empty() && self.sealed.is_empty() {
            self.unwritten_since = None;
        } else if let Some(since) = self.unwritten_since {
            self.unwritten.set(since);
        }
        // Until this server's entry `start` is written, changes that an earlier one could not write are not recorded.
        let waits = self
            .unwritten
            .before()
            .into_iter()
            .chain(self.unwritten_since);
        let waits = waits.min();
        if self.file.is_some() && (self.is_head_written || waits.is_some()) {
            let number = self.written.number;
            self.heartbeat.write(&self.path, number, waits);
        }
    }

    /// Closes a file that was moved away, so that the one at the path is opened.
    fn close_moved_file(&mut self) {
        self.file.take_if(|file| !file.is_in_place());
    }

    fn receive(&mut self, (item, receipt): Message) {
        self.receipts.extend(receipt);
        let lost = self.waiting.push(item);
        if let Some(at) = lost {
            lock(&self.shared.losses).add(at);
        }
        self.unwritten_since = self.unwritten_since.or(self.waiting.since());
    }

    /// Writes all waiting entries, or reports why it can't.
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
        let head = file.write_head(last);
        self.is_head_written = head.is_ok();
        if self.waiting.is_empty() {
            self.unwritten.clear();
            // Locked until receipts are sent, so that entries that were written in time are not reported as late.
            let mut late = lock(&self.shared.late);
            if let Some((generation, since)) = late.take() {
                let ms = since.elapsed().as_millis();
                tracing::info!(
                    generation,
                    "in the journal, {ms} ms after it came into force"
                );
            }
            for receipt in self.receipts.drain(..) {
                // The receiver may have stopped waiting.
                let _ = receipt.send(());
            }
        }
        if let Err(error) = head {
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
                    // Reported first, so that a task that waits for the last generation finds the reason.
                    self.fail(&error);
                    self.unwritten.note_open_error(&error);
                    // The file may still be readable: its generations must not be used again.
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
        found.unwritten_since = self.unwritten.before();
        lock(&self.shared.losses).add_anomalies(&found, self.record.is_some());
        let start = found.start(self.config.clone());
        if let Some(ours) = self.record.take() {
            if !is_new {
                self.written.clone_from(&last);
            }
            return self.hand_over(start, ours, theirs, is_new);
        }
        let start = Box::new(Event::Start(start));
        self.waiting
            .push_front(Item::Event(Timestamp::now(), last.generation, start));
        self.written.clone_from(&last);
        self.last = Some(last);
    }

    /// Continues in another file: a new one, or one that has entries already.
    fn hand_over(&mut self, start: Start, ours: Record, mut theirs: Record, is_new: bool) {
        let path = self.path.shown();
        let lines = std::mem::take(&mut self.sealed);
        let lines = lines.split(|byte| *byte == b'\n');
        // The part after the last line end is empty.
        let sealed = lines.filter_map(|line| Entry::parse(line).ok());
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
            tracing::warn!(%path, "the journal's path leads to another journal now: the policy in force is recorded after its last entry");
            start
        };
        let now = Timestamp::now();
        self.seal_entry(now, before, Event::Start(start));
        if is_new && self.in_force.is_none() {
            // Orders whose files can't be read at a start are in force with their texts from the journal.
            for text in ours.texts() {
                theirs.apply(&text);
                self.seal_entry(now, before, text);
            }
        }
        for (at, generation, event) in
            handover::events(ours, &mut theirs, sealed, self.in_force.clone())
        {
            let generation = match event {
                Event::Published(_) if !is_new => self.free_number(generation),
                _ => generation,
            };
            self.seal_entry(at, generation, event);
        }
        self.record = Some(theirs);
    }

    /// The number to record a generation under: `generation`, or, if that is used already, the first number after those
    /// in the journal.
    fn free_number(&self, generation: u64) -> u64 {
        let last = self.last.as_ref().map_or(0, |last| last.generation);
        let generation = generation.max(last + 1);
        self.shared.known.fetch_max(generation, Ordering::Relaxed);
        generation
    }

    /// Reads the file's entries, if that was not done yet.
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

    /// Seals waiting entries, up to the limit of memory.
    fn seal(&mut self) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        let has_room = |thread: &Self| thread.sealed.len() < MOST_SEALED;
        while has_room(self)
            && let Some(item) = self.waiting.pop_front()
        {
            match item {
                Item::Event(at, generation, event) => self.seal_entry(at, generation, *event),
                Item::Publish(draft) => {
                    let at = draft.at;
                    // The draft's number may be taken, if the journal could not be read when it was numbered.
                    let generation = self.free_number(draft.generation);
                    self.check_for_gap(generation);
                    for event in record.events_for(*draft) {
                        self.seal_entry(at, generation, event);
                    }
                }
            }
        }
        if has_room(self) {
            let entries = self.waiting.take_lost();
            if entries > 0 {
                self.seal_entry(Timestamp::now(), 0, Event::Lost { entries });
            }
        }
        self.record = Some(record);
    }

    /// Reports generations of earlier servers that are not in the journal.
    fn check_for_gap(&self, generation: u64) {
        let last = self.last.as_ref().map_or(0, |last| last.generation);
        if self.in_force.is_none() && last > 0 && generation > last + 1 {
            lock(&self.shared.losses).add_skipped(last + 1, generation - 1);
        }
    }

    fn seal_entry(&mut self, at: Timestamp, generation: u64, event: Event) {
        let Some(last) = &mut self.last else { return };
        // An event before this server's first publication belongs to the last generation in the journal.
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
