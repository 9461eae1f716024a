//! Work on files on other threads, so that a file system that does not answer delays neither the dates of orders nor
//! `status`.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

/// A task that runs for longer is reported as an alarm.
pub(crate) const LATE: Duration = Duration::from_secs(5);

/// Tasks of one kind, at most one per key at a time. A component that needs files owns one of these, and the control
/// loop gives it the results.
pub(crate) struct FileTasks<K, T> {
    running: HashMap<K, Running>,
    sender: mpsc::Sender<(K, Option<T>)>,
    ended: mpsc::Receiver<(K, Option<T>)>,
}

struct Running {
    since: Instant,
    /// The paths that are read.
    places: String,
    /// The lateness of the task has been logged.
    logged: Cell<bool>,
}

impl Running {
    fn is_late(&self) -> bool {
        self.since.elapsed() >= LATE
    }

    fn problem(&self) -> String {
        let seconds = self.since.elapsed().as_secs();
        // `places` may be empty. Such a task can be late, too, if the machine was suspended.
        let places = match &*self.places {
            "" => "files",
            places => places,
        };
        format!(
            "{places}: no answer from the file system for {seconds} s; the last good state stays in \
             force; check the disk or the network mount"
        )
    }
}

impl<K, T> FileTasks<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Send + 'static,
{
    pub(crate) fn new() -> Self {
        let (sender, ended) = mpsc::channel(64);
        Self {
            running: HashMap::new(),
            sender,
            ended,
        }
    }

    pub(crate) fn is_running(&self, key: &K) -> bool {
        self.running.contains_key(key)
    }

    /// Starts a task. No task with the same key may be running. `places` are the paths that it reads.
    pub(crate) fn start(
        &mut self,
        key: K,
        places: String,
        work: impl FnOnce() -> T + Send + 'static,
    ) {
        let running = Running {
            since: Instant::now(),
            places,
            logged: Cell::new(false),
        };
        self.running.insert(key.clone(), running);
        let sender = self.sender.clone();
        let working = tokio::task::spawn_blocking(work);
        tokio::spawn(async move {
            let result = working.await.ok();
            // The receiver is gone when the server ends.
            let _ = sender.send((key, result)).await;
        });
    }

    /// A task that never ends.
    #[cfg(test)]
    pub(crate) fn hang(&mut self, key: K, places: String) {
        let running = Running {
            since: Instant::now(),
            places,
            logged: Cell::new(false),
        };
        self.running.insert(key, running);
    }

    /// Waits for the end of a task. The result is `None` if it panicked.
    pub(crate) async fn next(&mut self) -> (K, Option<T>) {
        let ended = self.ended.recv().await;
        let (key, result) = ended.expect("the sender is kept beside the receiver");
        if let Some(running) = self.running.remove(&key) {
            if result.is_none() {
                tracing::error!(
                    places = running.places,
                    "reading or writing files failed inside tapis, which is a bug; please report it"
                );
            }
            if running.logged.get() {
                let (places, after) = (running.places, running.since.elapsed());
                tracing::info!(places, ?after, "the file system answers again");
            }
        }
        (key, result)
    }

    /// For how long a task has run.
    pub(crate) fn age(&self, key: &K) -> Option<Duration> {
        self.running.get(key).map(|running| running.since.elapsed())
    }
}

/// Tasks that may be late, whatever they return.
pub(crate) trait Lateness {
    /// Logs the tasks that have become late.
    fn log_late(&self);

    /// The tasks that are late, a sentence each.
    fn problems(&self) -> Vec<String>;
}

impl<K, T> Lateness for FileTasks<K, T> {
    fn log_late(&self) {
        for running in self.running.values() {
            if running.is_late() && !running.logged.replace(true) {
                tracing::error!(problem = running.problem(), "files can't be read");
            }
        }
    }

    fn problems(&self) -> Vec<String> {
        let late = self.running.values().filter(|running| running.is_late());
        late.map(Running::problem).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as blocking;

    use super::*;

    #[tokio::test]
    async fn a_task_that_hangs_is_an_alarm_until_it_ends_and_delays_no_other() {
        let mut tasks = FileTasks::new();
        let (release, gate) = blocking::channel::<()>();
        let hang = move || gate.recv().expect("released");
        tasks.start("net", "/net".to_owned(), hang);
        tasks.start("disk", "/disk".to_owned(), || ());
        assert_eq!(tasks.next().await, ("disk", Some(())));
        assert!(tasks.problems().is_empty(), "not late yet");
        tokio::time::pause();
        tokio::time::advance(LATE).await;
        tokio::time::resume();
        let problems = tasks.problems();
        assert!(
            problems.len() == 1 && problems[0].starts_with("/net: no answer"),
            "{problems:?}"
        );
        release.send(()).expect("it waits");
        assert_eq!(tasks.next().await, ("net", Some(())));
        assert!(tasks.problems().is_empty() && !tasks.is_running(&"net"));
    }

    #[tokio::test]
    async fn a_task_that_panics_ends_without_a_result() {
        let mut tasks = FileTasks::new();
        tasks.start("orders", "/orders".to_owned(), || panic!("a bug"));
        let (key, result): (_, Option<()>) = tasks.next().await;
        assert_eq!((key, result), ("orders", None));
        assert!(!tasks.is_running(&"orders"));
    }
}
