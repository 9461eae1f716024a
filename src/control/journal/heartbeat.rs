//! The heartbeat, a file beside the journal: the last time at which the server is known to have run with all changes
//! written.
//!
//! A server that is killed writes no entry about its end. Therefore a running server overwrites this file every few
//! seconds, and the next server's entry `start` records the time in it. While a change can't be written, the file has
//! the time of that change: overwriting needs no space on the disk. The file is not chained, so it proves nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::config::regular;
use crate::config::shown::Show;

/// How often it is written.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// A larger file is something else.
const SIZE_MAX: u64 = 4096;

/// The contents of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heartbeat {
    /// The number of the journal's last entry.
    pub(super) number: u64,
    /// When the server ran; or the time of the oldest change that is not written.
    pub(super) at: Timestamp,
    /// A change is not written yet.
    pub(super) waits: bool,
}

impl Heartbeat {
    /// Whether a server that runs at `now` has written all changes.
    pub(super) fn is_current(self, now: Timestamp) -> bool {
        let age = now.duration_since(self.at);
        !self.waits && age <= SignedDuration::try_from(3 * INTERVAL).unwrap_or(SignedDuration::MAX)
    }
}

/// Writes heartbeats at their interval, and remembers the last one.
#[derive(Debug, Default)]
pub(super) struct HeartbeatWriter {
    last: Option<(Instant, Option<Timestamp>)>,
    is_failing: bool,
}

impl HeartbeatWriter {
    /// Writes a heartbeat beside the journal at `path`, if it is due or `waits` changed. `waits` is the time of the oldest
    /// change that is not written.
    pub(super) fn write(&mut self, path: &Path, number: u64, waits: Option<Timestamp>) {
        let is_early = |(last, before): (Instant, Option<Timestamp>)| {
            before == waits && (waits.is_some() || last.elapsed() < INTERVAL)
        };
        if self.last.is_some_and(is_early) {
            return;
        }
        self.last = Some((Instant::now(), waits));
        let beat = Heartbeat {
            number,
            at: waits.unwrap_or_else(Timestamp::now),
            waits: waits.is_some(),
        };
        let failed = write(path, beat).err();
        if let Some(error) = failed.as_ref().filter(|_| !self.is_failing) {
            let path = file(path);
            tracing::warn!(path = %path.shown(), %error, "the journal's heartbeat can't be written");
        }
        self.is_failing = failed.is_some();
    }
}

fn file(path: &Path) -> PathBuf {
    let mut file = path.as_os_str().to_owned();
    file.push(".alive");
    file.into()
}

/// Overwrites the file of the journal at `path`. It is not synced, as that would cost a write of the disk every few
/// seconds: a power cut may leave an older heartbeat, which is still correct.
fn write(path: &Path, beat: Heartbeat) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(file(path))?;
    // It always has the same length, so it replaces the whole old text.
    let waits = if beat.waits { "waits" } else { "" };
    let text = format!("{:20} {:.9} {waits:5}\n", beat.number, beat.at);
    file.write_all_at(text.as_bytes(), 0)
}

/// Reads the heartbeat of a journal; `None` if the file is missing or damaged.
pub(super) fn read(path: &Path) -> Option<Heartbeat> {
    let text = String::from_utf8(regular::read(&file(path), SIZE_MAX).ok()?).ok()?;
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let at = words.next()?.parse().ok()?;
    let waits = words.next() == Some("waits");
    Some(Heartbeat { number, at, waits })
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
        for (number, at, waits) in [
            (7, "2026-01-01T00:00:00.5Z", true),
            (8, "2026-01-01T00:00:05Z", false),
        ] {
            let at = at.parse().expect("a time");
            let beat = Heartbeat { number, at, waits };
            write(&path, beat).expect("written");
            assert_eq!(read(&path), Some(beat));
        }
    }

    #[test]
    fn a_heartbeat_is_written_at_once_when_a_change_starts_or_stops_waiting() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal.jsonl");
        let mut writer = HeartbeatWriter::default();
        let mut beat = |number, waits| {
            writer.write(&path, number, waits);
            read(&path).expect("written")
        };
        assert!(!beat(1, None).waits);
        let made = "2026-01-01T00:00:00Z".parse().expect("a time");
        let waiting = Heartbeat {
            number: 1,
            at: made,
            waits: true,
        };
        assert_eq!(beat(1, Some(made)), waiting);
        assert!(!waiting.is_current(made));
        let written = beat(2, None);
        assert!(written.is_current(Timestamp::now()));
        assert_eq!((written.number, written.waits), (2, false));
        // The next one is not due.
        assert_eq!(beat(3, None), written);
    }
}
