//! Reads files with a deadline, so that a file system that does not answer does not keep the server from starting.
//!
//! A thread that waits for such a file system can't be interrupted: it is left behind, and its result is dropped.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for one file or directory.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// The most files that are read at the same time.
const READERS: usize = 32;

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// The file system did not answer in time.
    #[error("no answer from the file system in {} s; check the disk or the network mount", DEADLINE.as_secs())]
    Late,
    /// Reading panicked, or the system has no thread for it.
    #[error(
        "reading it failed: the system has no thread left (see the limit of tasks), or it is a bug in \
         tapis; please report that"
    )]
    Failed,
}

/// Work that has started.
pub(crate) struct Pending<O> {
    answer: mpsc::Receiver<O>,
    until: Instant,
}

impl<O> Pending<O> {
    /// Waits for the result until the deadline.
    pub(crate) fn wait(self) -> Result<O, Unanswered> {
        let left = self.until.saturating_duration_since(Instant::now());
        self.answer.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => Unanswered::Late,
            RecvTimeoutError::Disconnected => Unanswered::Failed,
        })
    }
}

/// Starts work on a thread.
pub(crate) fn start<O: Send + 'static>(
    deadline: Duration,
    work: impl FnOnce() -> O + Send + 'static,
) -> Pending<O> {
    let (send, answer) = mpsc::channel();
    let body = move || {
        // The receiver is gone after the deadline.
        let _ = send.send(work());
    };
    // If spawning fails, the sender is dropped, which counts as a failure.
    let _ = thread::Builder::new().spawn(body);
    Pending {
        answer,
        until: Instant::now() + deadline,
    }
}

/// Does the same work for all items, up to 32 at a time, with a deadline for each. Once an item is late, items of the
/// same directory that have not started are reported as late without an attempt.
pub(crate) fn each<I, O>(
    deadline: Duration,
    items: Vec<I>,
    directory: impl Fn(&I) -> PathBuf,
    work: impl Fn(&I) -> O + Send + Sync + 'static,
) -> Vec<Result<O, Unanswered>>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
{
    let (items, work) = (Arc::new(items), Arc::new(work));
    let mut results: Vec<_> = items.iter().map(|_| Err(Unanswered::Late)).collect();
    let mut queue: VecDeque<usize> = (0..items.len()).collect();
    let mut running: HashMap<usize, Instant> = HashMap::new();
    let mut silent: HashSet<PathBuf> = HashSet::new();
    let (send, ended) = mpsc::channel();
    loop {
        while running.len() < READERS
            && let Some(at) = queue.pop_front()
        {
            if !silent.is_empty() && silent.contains(&directory(&items[at])) {
                continue;
            }
            let report = Report {
                at,
                result: Err(Unanswered::Failed),
                send: send.clone(),
            };
            let (items, work) = (Arc::clone(&items), Arc::clone(&work));
            let body = move || {
                let mut report = report;
                report.result = Ok(work(&items[at]));
            };
            running.insert(at, Instant::now() + deadline);
            // If spawning fails, the report is dropped, which counts as a failure.
            let _ = thread::Builder::new().spawn(body);
        }
        let Some(soonest) = running.values().min() else {
            return results;
        };
        match ended.recv_timeout(soonest.saturating_duration_since(Instant::now())) {
            Ok((at, result)) => {
                running.remove(&at);
                results[at] = result;
            }
            Err(_) => {
                let now = Instant::now();
                let late = running.extract_if(|_, until| *until <= now);
                silent.extend(late.map(|(at, _)| directory(&items[at])));
            }
        }
    }
}

/// Reports a result when it is dropped, even by a panic.
struct Report<O> {
    at: usize,
    result: Result<O, Unanswered>,
    send: mpsc::Sender<(usize, Result<O, Unanswered>)>,
}

impl<O> Drop for Report<O> {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Err(Unanswered::Failed));
        // The receiver is gone after the deadline.
        let _ = self.send.send((self.at, result));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Long enough for a thread to start on a busy machine.
    const SHORT: Duration = Duration::from_secs(2);
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_file_that_hangs_is_late_and_all_others_are_read() {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let items: Vec<usize> = (0..200).collect();
        // Each in a separate directory.
        let directory = |item: &usize| PathBuf::from(item.to_string());
        let results = each(SHORT, items, directory, move |item| {
            if *item == 7 {
                let _ = held.lock().expect("not poisoned").recv();
            }
            *item
        });
        for (item, result) in results.into_iter().enumerate() {
            match item {
                7 => assert_eq!(result, Err(Unanswered::Late)),
                _ => assert_eq!(result, Ok(item)),
            }
        }
        drop(release);
    }

    #[test]
    fn a_directory_that_hangs_blocks_only_the_threads_that_read_at_the_same_time() {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let tried = Arc::new(Mutex::new(0));
        let count = Arc::clone(&tried);
        let items: Vec<usize> = (0..1000).collect();
        let directory = |item: &usize| PathBuf::from(if *item < 990 { "/net" } else { "/disk" });
        let results = each(SHORT, items, directory, move |item| {
            if *item < 990 {
                *count.lock().expect("not poisoned") += 1;
                let _ = held.lock().expect("not poisoned").recv();
            }
        });
        let read = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(read, 10, "those on the disk");
        assert_eq!(*tried.lock().expect("not poisoned"), READERS);
        drop(release);
    }

    #[test]
    fn a_panic_ends_the_wait() {
        let directory = |_: &u8| PathBuf::new();
        let results = each(LONG, vec![1, 2], directory, |item| match item {
            1 => panic!("a bug"),
            _ => *item,
        });
        assert_eq!(results, [Err(Unanswered::Failed), Ok(2)]);
        let pending = start(LONG, || -> u8 { panic!("a bug") });
        assert_eq!(pending.wait(), Err(Unanswered::Failed));
        assert_eq!(start(LONG, || 3).wait(), Ok(3));
        let (_release, held) = mpsc::channel::<()>();
        let late = start(SHORT, move || held.recv());
        assert_eq!(late.wait(), Err(Unanswered::Late));
    }
}
