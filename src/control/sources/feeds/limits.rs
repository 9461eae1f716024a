//! What a transfer may take, and how far it has come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The limits of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of records, SOA records included.
    pub records: u64,
    /// The maximum number of bytes.
    pub bytes: u64,
    /// The longest time for all of it.
    pub total: Duration,
    /// The longest time for one message, and for a connection.
    pub idle: Duration,
}

/// The time after which a primary must have sent [`MIN_BYTES`]. Only the time in which the secondary waits for it counts.
pub const RATE_TIME: Duration = Duration::from_secs(60);
/// The least that a primary sends in [`RATE_TIME`]: 1 KiB a second, a seventh of a telephone line. A primary that drips could
/// otherwise hold a feed until [`Limits::total`].
pub const MIN_BYTES: u64 = 60 << 10;

impl Default for Limits {
    /// Twice what the largest national feed has after two more doublings: 160 million records, 16 GiB, an hour.
    fn default() -> Self {
        Self {
            records: 160_000_000,
            bytes: 16 << 30,
            total: Duration::from_secs(3600),
            idle: Duration::from_secs(30),
        }
    }
}

/// The progress of a transfer, for those that show it.
#[derive(Debug, Default)]
pub struct Progress {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// The number of records so far.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// The number of bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, records: u64, bytes: u64) {
        self.records.store(records, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}
