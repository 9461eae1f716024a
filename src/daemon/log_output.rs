//! Writes the log's lines to standard error by a thread that may wait there: a full disk, or a pipe that is not read, holds
//! up nothing else.
//!
//! A line that can't be written is tried again until it can, and lines wait behind it, up to [`WAITING`]; those that find no
//! room are lost and counted. Either is an alarm, as long as it lasts.

use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Most lines that wait.
const WAITING: usize = 1024;
/// After how long a line is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// For how long a line may be on its way before that is an alarm.
const LATE: Duration = Duration::from_secs(2);

/// The lines on their way, once the thread runs. There is one standard error, so there is one of these.
static LINES: OnceLock<SyncSender<Item>> = OnceLock::new();
static HEALTH: Mutex<Health> = Mutex::new(Health {
    error: None,
    since: None,
    lost: 0,
});

enum Item {
    Line(Vec<u8>),
    /// All lines before it have been written.
    Flush(SyncSender<()>),
}

/// How writing goes.
struct Health {
    /// Why the first line that waits could not be written.
    error: Option<String>,
    /// Since when that line is on its way.
    since: Option<Instant>,
    /// Lines that found no room.
    lost: u64,
}

fn health() -> MutexGuard<'static, Health> {
    HEALTH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the log's lines, each with one call of `write`. Never fails and never waits.
pub struct LogOutput;

impl LogOutput {
    /// Starts the thread that writes them.
    ///
    /// # Errors
    /// When the system gives no thread; lines are then written by whoever logs.
    pub fn start() -> io::Result<()> {
        let (sender, lines) = sync_channel(WAITING);
        let work = move || write_all(&lines, &mut io::stderr());
        thread::Builder::new().name("log".to_owned()).spawn(work)?;
        let _ = LINES.set(sender);
        Ok(())
    }

    /// Waits until the lines so far have been written, or `patience` is over.
    pub fn flush(patience: Duration) {
        let (done, written) = sync_channel(1);
        if let Some(lines) = LINES.get()
            && lines.try_send(Item::Flush(done)).is_ok()
        {
            let _ = written.recv_timeout(patience);
        }
    }

    /// What is wrong with the log, for `status`.
    pub fn problem() -> Option<String> {
        let health = health();
        let late = health.since.is_some_and(|since| since.elapsed() >= LATE);
        let why = match &health.error {
            Some(error) => format!("standard error can't be written: {error}"),
            None if late => "standard error is not read by the program that it leads to".to_owned(),
            None => return None,
        };
        let lost = match health.lost {
            0 => String::new(),
            lost => format!("; {lost} lines are lost"),
        };
        Some(format!("log: {why}{lost}; answers and changes go on"))
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

/// Writes each line, in order, as often as that takes.
fn write_all(lines: &Receiver<Item>, to: &mut impl Write) {
    for item in lines {
        match item {
            Item::Line(line) => persist(&line, to),
            // Who asked may have given up.
            Item::Flush(done) => drop(done.try_send(())),
        }
    }
}

fn persist(line: &[u8], to: &mut impl Write) {
    let mut rest = line;
    health().since = Some(Instant::now());
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => thread::sleep(AGAIN),
            Ok(written) => rest = &rest[written..],
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                // A pipe that somebody made one that does not wait, and that is not read.
                io::ErrorKind::WouldBlock => thread::sleep(AGAIN),
                _ => {
                    health().error = Some(error.to_string());
                    thread::sleep(AGAIN);
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
