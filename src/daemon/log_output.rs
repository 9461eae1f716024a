//! Writes log lines to standard error on a separate thread, so that a full disk or a pipe that is not read blocks
//! nothing else.
//!
//! A line that can't be written is retried until that succeeds. Up to [`WAITING`] lines queue behind it; further ones
//! are dropped and counted. `status` shows an alarm meanwhile.

use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The maximum number of lines in the queue.
const WAITING: usize = 1024;
/// How long to wait before a line is written again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The time after which an unwritten line is an alarm.
const LATE: Duration = Duration::from_secs(2);

/// The queue, once the thread is running. It is global, like standard error.
static LINES: OnceLock<SyncSender<Item>> = OnceLock::new();
static HEALTH: Mutex<Health> = Mutex::new(Health {
    error: None,
    since: None,
    lost: 0,
});

enum Item {
    Line(Vec<u8>),
    /// Confirmed once all lines before it have been written.
    Flush(SyncSender<()>),
}

/// The state of the line that is being written.
struct Health {
    /// The last error, if there was one.
    error: Option<String>,
    /// When the first attempt to write it began.
    since: Option<Instant>,
    /// Lines dropped because the queue was full.
    lost: u64,
}

fn health() -> MutexGuard<'static, Health> {
    HEALTH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Queues log lines, one per call of `write`. Never fails and never waits.
pub struct LogOutput;

impl LogOutput {
    /// Starts the thread that writes the lines.
    ///
    /// # Errors
    /// If the thread can't be started. Each call of `write` then writes to standard error itself.
    pub fn start() -> io::Result<()> {
        let (sender, lines) = sync_channel(WAITING);
        let work = move || write_all(&lines, &mut io::stderr());
        thread::Builder::new().name("log".to_owned()).spawn(work)?;
        let _ = LINES.set(sender);
        Ok(())
    }

    /// Waits until the lines so far have been written, for at most `patience`.
    pub fn flush(patience: Duration) {
        let (done, written) = sync_channel(1);
        if let Some(lines) = LINES.get()
            && lines.try_send(Item::Flush(done)).is_ok()
        {
            let _ = written.recv_timeout(patience);
        }
    }

    /// The problem with the log, for `status`.
    pub fn problem() -> Option<String> {
        let health = health();
        let late = health.since.is_some_and(|since| since.elapsed() >= LATE);
        let why = match &health.error {
            Some(error) => format!("standard error can't be written: {error}"),
            None if late => "the program that reads standard error does not read it".to_owned(),
            None => return None,
        };
        let lost = match health.lost {
            0 => String::new(),
            lost => format!("; {lost} lines are lost"),
        };
        Some(format!(
            "log: {why}{lost}; queries are answered and changes applied nevertheless"
        ))
    }
}

impl Write for LogOutput {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match LINES.get() {
            None => io::stderr().write_all(line)?,
            Some(lines) => match lines.try_send(Item::Line(line.to_vec())) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => health().lost += 1,
            },
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes each line, in order, until it succeeds.
fn write_all(lines: &Receiver<Item>, to: &mut impl Write) {
    for item in lines {
        match item {
            Item::Line(line) => persist(&line, to),
            // The receiver may have given up.
            Item::Flush(done) => drop(done.try_send(())),
        }
    }
}

fn persist(line: &[u8], to: &mut impl Write) {
    let mut rest = line;
    health().since = Some(Instant::now());
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => thread::sleep(RETRY_PAUSE),
            Ok(written) => rest = &rest[written..],
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                // A non-blocking pipe that is not read.
                io::ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
                _ => {
                    health().error = Some(error.to_string());
                    thread::sleep(RETRY_PAUSE);
                }
            },
        }
    }
    let mut health = health();
    (health.error, health.since) = (None, None);
    let lost = mem::take(&mut health.lost);
    drop(health);
    if lost > 0 {
        tracing::warn!(lines = lost, "lines of the log were lost");
    }
}
