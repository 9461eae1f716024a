//! The file beside a journal that says until when its server is known to have run.
//!
//! A server that is killed writes no entry. It overwrites this file every few seconds instead, and the next server's
//! entry `start` records what is in it. The file itself is not chained, and proves nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::config::regular;
use crate::config::shown::Show;

/// How often it is written.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// A larger file is something else.
const SIZE_MAX: u64 = 4096;

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heartbeat {
    /// The number of the journal's last entry then.
    pub(super) number: u64,
    /// When the server ran.
    pub(super) at: Timestamp,
}

/// Writes heartbeats.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    last: Option<Instant>,
    is_failing: bool,
}

impl Pulse {
    /// Writes one beside the journal at `path`, with that number in its last entry, if it is time.
    pub(super) fn beat(&mut self, path: &Path, number: u64) {
        if self.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return;
        }
        self.last = Some(Instant::now());
        let at = Timestamp::now();
        let failed = write(path, Heartbeat { number, at }).err();
        if let Some(error) = failed.as_ref().filter(|_| !self.is_failing) {
            let path = file(path);
            tracing::warn!(path = %path.shown(), %error, "until when the server runs is not written");
        }
        self.is_failing = failed.is_some();
    }
}

fn file(path: &Path) -> PathBuf {
    let mut file = path.as_os_str().to_owned();
    file.push(".alive");
    file.into()
}

/// Overwrites the file of the journal at `path`. A crash of the machine may leave an older text, which is true too.
fn write(path: &Path, beat: Heartbeat) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(file(path))?;
    // Always as long, so that the old text is replaced whole.
    let text = format!("{:20} {:.9}\n", beat.number, beat.at);
    file.write_all_at(text.as_bytes(), 0)
}

/// `None` if there is no such file, or it can't be read.
pub(super) fn read(path: &Path) -> Option<Heartbeat> {
    let text = String::from_utf8(regular::read(&file(path), SIZE_MAX).ok()?).ok()?;
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let at = words.next()?.parse().ok()?;
    Some(Heartbeat { number, at })
}

/// Whether a server has the journal open.
pub(super) fn is_alive(path: &Path) -> bool {
    let Ok((file, _)) = regular::open(path) else {
        return false;
    };
    let locked = File::try_lock_shared(&file);
    matches!(locked, Err(std::fs::TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_read_as_it_was_written_last() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal.jsonl");
        assert_eq!(read(&path), None);
        for (number, at) in [(7, "2026-01-01T00:00:00.5Z"), (8, "2026-01-01T00:00:05Z")] {
            let at = at.parse().expect("a time");
            let beat = Heartbeat { number, at };
            write(&path, beat).expect("written");
            assert_eq!(read(&path), Some(beat));
        }
    }
}
