//! Owns the journal's writing: a thread of its own, what waits there, and what is told when it can't be written.
//! Refuses to let anybody wait longer than they say.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::chain::Entry;
use super::draft::Draft;
use super::entry::{Event, Published, Start};
use super::file::{JournalFile, Last, last_generation};
use super::heartbeat::{self, Pulse};
use super::lines::JournalError;
use super::losses::Losses;
use super::record::Record;
use super::waiting::{Item, Waiting};
use crate::config::shown::Show;

/// How long what goes in force waits for the disk.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often a journal that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Octets of entries that may wait for a disk that has no room.
const MOST_SEALED: usize = 64 << 20;
/// How long the server's end waits for the last entries.
const FAREWELL: Duration = Duration::from_secs(1);

/// An item, and who waits until it is on the disk.
type Letter = (Item, Option<Sender<()>>);

/// The way to the journal; without a file there is none, and nothing is written.
#[derive(Debug, Default)]
pub(in crate::control) struct Journal {
    sender: Option<Sender<Letter>>,
    thread: Option<thread::JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Why entries wait, or the head does.
    problem: Mutex<Option<String>>,
    losses: Mutex<Losses>,
    /// The generation that went in force before it was written.
    late: Mutex<Option<u64>>,
    /// The last generation that the file has.
    known: AtomicU64,
    /// Set once `known` is, or can't be.
    opened: OnceLock<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A promise that something will be on the disk.
pub(in crate::control) struct Receipt {
    wait: Option<Receiver<()>>,
    until: Instant,
    generation: u64,
}

impl Journal {
    /// Opens it, on a thread of its own. What can't be opened now is tried again, and entries wait.
    pub(in crate::control) fn open(
        path: &Path,
        key: Option<PathBuf>,
        config: Option<PathBuf>,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let desk = Desk {
            path: path.to_owned(),
            key,
            config,
            file: None,
            record: None,
            marked: true,
            last: None,
            written: Last::none(),
            waiting: Waiting::default(),
            sealed: Vec::new(),
            receipts: Vec::new(),
            pulse: Pulse::default(),
            unwritten_since: None,
            shared: shared.clone(),
        };
        let (sender, letters) = channel();
        let thread = thread::Builder::new().name("tapis-journal".to_owned());
        let started = thread.spawn(move || desk.work(&letters));
        if let Err(error) = &started {
            let problem = format!("{}: no thread to write it: {error}", path.shown());
            tracing::error!(problem, "the journal is not written");
            *lock(&shared.problem) = Some(problem);
            shared.opened.get_or_init(|| ());
        }
        Self {
            sender: started.is_ok().then_some(sender),
            thread: started.ok(),
            shared,
        }
    }

    /// The last generation that is in the file: numbers go on after it. Waits
    /// until the last whole entry was found, or it turned out that the file can't be read.
    pub(in crate::control) fn known(&self) -> u64 {
        if self.thread.is_some() {
            self.shared.opened.wait();
        }
        self.shared.known.load(Ordering::Relaxed)
    }

    /// Whether there is one.
    pub(in crate::control) fn is_kept(&self) -> bool {
        self.sender.is_some()
    }

    /// Writes what goes in force.
    pub(in crate::control) fn publish(&self, draft: Draft) -> Receipt {
        let generation = draft.generation;
        let (done, wait) = channel();
        let sent = self.send(Item::Publish(Box::new(draft)), Some(done));
        Receipt {
            wait: sent.then_some(wait),
            until: Instant::now() + PATIENCE,
            generation,
        }
    }

    /// Writes something else.
    pub(in crate::control) fn tell(&self, generation: u64, event: Event) {
        self.send(
            Item::Tell(Timestamp::now(), generation, Box::new(event)),
            None,
        );
    }

    fn send(&self, item: Item, done: Option<Sender<()>>) -> bool {
        let sender = self.sender.as_ref();
        sender.is_some_and(|sender| sender.send((item, done)).is_ok())
    }

    /// Waits until that is on the disk, or for so long that it is told as late.
    pub(in crate::control) fn wait(&self, receipt: Receipt) {
        let Some(wait) = receipt.wait else { return };
        let left = receipt.until.saturating_duration_since(Instant::now());
        let generation = receipt.generation;
        match wait.recv_timeout(left) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => {
                let mut late = lock(&self.shared.late);
                if wait.try_recv().is_err() {
                    tracing::error!(generation, "in force before it is in the journal");
                    late.get_or_insert(generation);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                let problem = "its thread broke off inside tapis, which is a bug; please report it";
                *lock(&self.shared.problem) = Some(problem.to_owned());
            }
        }
    }

    /// What is wrong, as a sentence.
    pub(in crate::control) fn problem(&self) -> Option<String> {
        let problem = lock(&self.shared.problem).clone();
        let late = *lock(&self.shared.late);
        let waits = late.map_or_else(String::new, |generation| {
            format!("; what is in force since generation {generation} waits to be written")
        });
        let problem = problem.or_else(|| late.map(|_| "the disk is slow".to_owned()))?;
        Some(format!("journal: {problem}{waits}"))
    }

    /// What is lost, a sentence each: alarms until the next start.
    pub(in crate::control) fn losses(&self) -> Vec<String> {
        lock(&self.shared.losses).sentences()
    }

    /// Tells the server's end, and waits a moment until that is written.
    pub(in crate::control) fn close(&mut self, generation: u64) {
        let (done, wait) = channel();
        let event = Item::Tell(Timestamp::now(), generation, Box::new(Event::Stop));
        let sent = self.send(event, Some(done));
        self.sender = None;
        // What is not written by then is lost with the server, and `problem` said why.
        let written = sent && wait.recv_timeout(FAREWELL).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| written) {
            // Only then is the file free for the next server; a panic was told on its own thread.
            let _ = thread.join();
        }
    }
}

/// Ends the wait for the last generation when the first attempt to open the journal is over, however it
/// ends.
struct Opened(Arc<Shared>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.opened.get_or_init(|| ());
    }
}

/// The thread's own.
struct Desk {
    path: PathBuf,
    key: Option<PathBuf>,
    config: Option<PathBuf>,
    file: Option<JournalFile>,
    /// What the file tells, once it was read.
    record: Option<Record>,
    /// Whether it was told which entry is the last.
    marked: bool,
    /// The last entry that is sealed, once the journal could be read; and the last that is written.
    last: Option<Last>,
    written: Last,
    /// What came and is not sealed.
    waiting: Waiting,
    /// Sealed lines that are not written.
    sealed: Vec<u8>,
    receipts: Vec<Sender<()>>,
    pulse: Pulse,
    /// When the oldest item came that is not written.
    unwritten_since: Option<Timestamp>,
    shared: Arc<Shared>,
}

impl Desk {
    fn work(mut self, letters: &Receiver<Letter>) {
        let opened = Opened(self.shared.clone());
        self.try_to_open();
        drop(opened);
        let mut gone = false;
        while !gone {
            let idle = self.waiting.is_empty() && self.sealed.is_empty() && self.marked;
            let first = letters.recv_timeout(match idle {
                true => heartbeat::INTERVAL,
                false => RETRY,
            });
            gone = matches!(first, Err(RecvTimeoutError::Disconnected));
            let came = first.is_ok();
            // What came meanwhile goes to the disk together.
            for letter in first.into_iter().chain(letters.try_iter()) {
                self.take(letter);
            }
            if came || !idle {
                self.write();
            }
            if self.waiting.is_empty() && self.sealed.is_empty() {
                self.unwritten_since = None;
            }
            if self.file.is_some() && (self.marked || self.unwritten_since.is_some()) {
                let (number, waits) = (self.written.number, self.unwritten_since);
                self.pulse.beat(&self.path, number, waits);
            }
        }
    }

    fn take(&mut self, (item, receipt): Letter) {
        self.receipts.extend(receipt);
        let lost = self.waiting.push(item);
        if let Some(at) = lost {
            lock(&self.shared.losses).add(at);
        }
        self.unwritten_since = self.unwritten_since.or(self.waiting.since());
    }

    /// Writes all that waits, or tells why not.
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
            // Locked while it is told, so that nobody calls late what was in time.
            let mut late = lock(&self.shared.late);
            *late = None;
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
        let (file, last, found) = match JournalFile::open(&self.path, self.key.as_deref(), known) {
            Ok(opened) => opened,
            Err(error) => {
                // First, so that a task that waits for the number finds the reason.
                self.fail(&error);
                // Numbers that a file has which can only be read are not given again.
                return last_generation(&self.path).into_iter().for_each(known);
            }
        };
        self.file = Some(file);
        lock(&self.shared.losses).find(&found, self.record.is_some());
        let start = found.start(self.config.clone());
        if self.record.is_some() {
            // It was moved away: nothing is lost.
            return self.begin_anew(Event::Start(Start {
                continues: Some(self.written.number),
                missing: None,
                ran_until: None,
                ..start
            }));
        }
        let start = Box::new(Event::Start(start));
        self.waiting
            .push_front(Item::Tell(Timestamp::now(), last.generation, start));
        self.written.clone_from(&last);
        self.last = Some(last);
    }

    /// Goes on in a file that is another one than before: it begins with all that is known, and then
    /// has what was sealed for the old one.
    fn begin_anew(&mut self, start: Event) {
        let Some(record) = &self.record else { return };
        let lines = std::mem::take(&mut self.sealed);
        let lines = lines.split(|octet| *octet == b'\n');
        // Behind the last one there is nothing.
        let sealed: Vec<_> = lines.filter_map(|line| Entry::read(line).ok()).collect();
        let (at, generation) = match sealed.first() {
            Some((entry, _)) => (entry.at, entry.generation),
            None => (Timestamp::now(), self.written.generation),
        };
        let mut events = vec![(at, generation, start)];
        events.extend(record.texts().map(|text| (at, generation, text)));
        let mut all = Some(record.all());
        for (entry, _) in sealed {
            let event = match (entry.event, all.take()) {
                (Event::Published(published), Some(known)) => Event::Published(Published {
                    states: known.states,
                    exceptions: known.exceptions,
                    exceptions_gone: Vec::new(),
                    exceptions_ended: known.exceptions_ended,
                    exceptions_resumed: Vec::new(),
                    settings: known.settings,
                    ..published
                }),
                (event, untold) => {
                    all = untold;
                    event
                }
            };
            events.push((entry.at, entry.generation, event));
        }
        self.last = Some(self.written.clone());
        for (at, generation, event) in events {
            self.seal_one(at, generation, event);
        }
    }

    /// Finds out what the file tells already.
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
        let has_room = |desk: &Self| desk.sealed.len() < MOST_SEALED;
        while has_room(self)
            && let Some(item) = self.waiting.pop_front()
        {
            match item {
                Item::Tell(at, generation, event) => self.seal_one(at, generation, *event),
                Item::Publish(draft) => {
                    let at = draft.at;
                    let last = self.last.as_ref().map_or(0, |last| last.generation);
                    // The journal may have its number, if it could not be read then: it gets another one.
                    let generation = draft.generation.max(last + 1);
                    self.shared.known.fetch_max(generation, Ordering::Relaxed);
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

    fn seal_one(&mut self, at: Timestamp, generation: u64, event: Event) {
        let Some(last) = &mut self.last else { return };
        // What is told while nothing is in force yet belongs to the generation before.
        let generation = match event {
            Event::Published(_) => generation,
            _ => generation.max(last.generation),
        };
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
