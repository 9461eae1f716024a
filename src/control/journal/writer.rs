//! The journal as the control plane uses it: entries are queued for the thread that writes them, and callers wait for
//! the disk only up to a deadline.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::draft::Draft;
use super::entry::Event;
use super::thread::{JournalThread, Message, Shared, lock};
use super::unwritten::UnwrittenFile;
use super::waiting::Item;
use crate::config::shown::Show;

/// How long a generation waits for its entry to be on the disk.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long the shutdown waits for the last entries.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The journal. The default one has no file and writes nothing.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    sender: Option<Sender<Message>>,
    thread: Option<thread::JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// Waits for a generation's entry; see [`Journal::wait`].
pub(crate) struct Receipt {
    wait: Option<Receiver<()>>,
    until: Instant,
    generation: u64,
}

impl Journal {
    /// Opens a journal without a state directory.
    #[cfg(test)]
    pub(crate) fn open(path: &Path, key: Option<PathBuf>, config: Option<PathBuf>) -> Self {
        Self::open_with(path, key, config, None)
    }

    /// Opens a journal on its own thread. While it can't be opened, the thread retries, entries are queued, and a file
    /// in the state directory `dir` records since when.
    pub(crate) fn open_with(
        path: &Path,
        key: Option<PathBuf>,
        config: Option<PathBuf>,
        dir: Option<&Path>,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let mark = UnwrittenFile::read(dir, path);
        let writer = JournalThread::new(path, key, config, mark, shared.clone());
        let (sender, messages) = channel();
        let thread = thread::Builder::new().name("tapis-journal".to_owned());
        let started = thread.spawn(move || writer.run(&messages));
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

    /// The last generation in the file: numbers go on after it. Waits until the last whole entry was found, or the file
    /// could not be read.
    pub(crate) fn last_generation(&self) -> u64 {
        if self.thread.is_some() {
            self.shared.opened.wait();
        }
        self.shared.known.load(Ordering::Relaxed)
    }

    /// Whether there is a journal.
    pub(crate) fn is_enabled(&self) -> bool {
        self.sender.is_some()
    }

    /// Queues the entry of a generation.
    pub(crate) fn publish(&self, draft: Draft) -> Receipt {
        let generation = draft.generation;
        let (done, wait) = channel();
        let sent = self.send(Item::Publish(Box::new(draft)), Some(done));
        Receipt {
            wait: sent.then_some(wait),
            until: Instant::now() + PATIENCE,
            generation,
        }
    }

    /// Queues the entry of another event.
    pub(crate) fn append(&self, generation: u64, event: Event) {
        self.send(
            Item::Event(Timestamp::now(), generation, Box::new(event)),
            None,
        );
    }

    fn send(&self, item: Item, done: Option<Sender<()>>) -> bool {
        let sender = self.sender.as_ref();
        sender.is_some_and(|sender| sender.send((item, done)).is_ok())
    }

    /// Waits until the entry is on the disk. After `PATIENCE` it is reported as late.
    pub(crate) fn wait(&self, receipt: Receipt) {
        let Some(wait) = receipt.wait else { return };
        let left = receipt.until.saturating_duration_since(Instant::now());
        let generation = receipt.generation;
        match wait.recv_timeout(left) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => {
                let mut late = lock(&self.shared.late);
                if wait.try_recv().is_err() {
                    let what = "in force before it is in the journal";
                    // Without a problem, the disk is only slow.
                    match lock(&self.shared.problem).is_some() {
                        true => tracing::error!(generation, "{what}"),
                        false => tracing::warn!(generation, "{what}"),
                    }
                    late.get_or_insert((generation, Instant::now()));
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                let problem = "its thread ended inside tapis, which is a bug; please report it";
                *lock(&self.shared.problem) = Some(problem.to_owned());
            }
        }
    }

    /// The alarm while entries can't be written, or are written late.
    pub(crate) fn problem(&self) -> Option<String> {
        let problem = lock(&self.shared.problem).clone();
        let late = *lock(&self.shared.late);
        let waits = late.map_or_else(String::new, |(generation, _)| {
            format!("; the changes since generation {generation} wait to be written")
        });
        let problem = problem.or_else(|| late.map(|_| "the disk is slow".to_owned()))?;
        Some(format!("journal: {problem}{waits}"))
    }

    /// Entries that are lost, a sentence each: alarms until the next start.
    pub(crate) fn losses(&self) -> Vec<String> {
        lock(&self.shared.losses).sentences()
    }

    /// Queues the entry of the shutdown, and waits a moment until it is written.
    pub(crate) fn close(&mut self, generation: u64) {
        let (done, wait) = channel();
        let event = Item::Event(Timestamp::now(), generation, Box::new(Event::Stop));
        let sent = self.send(event, Some(done));
        self.sender = None;
        // Entries that are not written by then are lost; `problem` reported why.
        let written = sent && wait.recv_timeout(CLOSE_TIMEOUT).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| written) {
            // When the thread has ended, the file is unlocked for the next server. A panic was reported by its own
            // thread.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Seek};

    use super::*;
    use crate::control::journal::tests::draft;

    /// Runs `work` and returns the lines that this thread logs meanwhile.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        // Without a global default, an event that another test's thread logs first may be disabled for all threads.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let log = tracing_subscriber::fmt().with_ansi(false);
        let log = log.with_writer(Arc::clone(&file)).finish();
        tracing::subscriber::with_default(log, work);
        let (mut file, mut text) = (&*file, String::new());
        file.rewind().expect("at its start");
        file.read_to_string(&mut text).expect("readable");
        text.lines().map(str::to_owned).collect()
    }

    fn is(line: &str, parts: [&str; 3]) -> bool {
        parts.iter().all(|part| line.contains(part))
    }

    #[test]
    fn a_late_entry_is_a_warning_and_is_logged_once_when_it_is_written() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("folder");
        let path = folder.join("journal.jsonl");
        for fails in [false, true] {
            let shared = Arc::new(Shared::default());
            let mark = UnwrittenFile::read(None, &path);
            let mut writer = JournalThread::new(&path, None, None, mark, shared.clone());
            let (sender, messages) = channel();
            let journal = Journal {
                sender: Some(sender),
                thread: None,
                shared,
            };
            if !fails {
                fs::create_dir(&folder).expect("made");
            }
            let log = logged(|| {
                writer.write_pending(std::iter::empty());
                // The disk takes its time.
                for generation in 1..=2 {
                    journal.wait(journal.publish(draft(generation, None, &[])));
                }
                let problem = journal.problem().expect("an alarm");
                assert!(problem.contains("since generation 1 wait"), "{problem}");
                if fails {
                    fs::create_dir(&folder).expect("made");
                }
                writer.write_pending(messages.try_iter());
                assert_eq!(journal.problem(), None);
                journal.wait(journal.publish(draft(3, None, &[])));
                writer.write_pending(messages.try_iter());
            });
            let level = if fails { "ERROR" } else { "WARN" };
            let late: Vec<_> = log
                .iter()
                .filter(|line| line.contains("in force before it is in the journal"))
                .collect();
            assert_eq!(late.len(), 3, "{log:?}");
            assert!(is(late[0], [level, "generation=1", ""]), "{log:?}");
            assert_eq!(
                log.iter().any(|line| line.contains("ERROR")),
                fails,
                "{log:?}"
            );
            let written = log.iter().filter(|line| {
                is(
                    line,
                    ["INFO", "in the journal, ", " ms after it came into force"],
                )
            });
            let written: Vec<_> = written.collect();
            assert_eq!(written.len(), 2, "{log:?}");
            assert!(written[0].contains("generation=1"), "{log:?}");
            assert!(written[1].contains("generation=3"), "{log:?}");
            drop(writer);
            fs::remove_dir_all(&folder).expect("removed");
        }
    }
}
