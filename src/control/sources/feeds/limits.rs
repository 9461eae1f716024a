//! What a transfer may take, and how far it has come.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::fault::Fault;

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

/// What a secondary waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The primary's answer to the connection.
    Connecting,
    /// The end of the TLS handshake.
    Securing,
    /// The first message on this connection.
    Asking,
    /// Further messages.
    Receiving,
}

impl Stage {
    const ALL: [Self; 4] = [
        Self::Connecting,
        Self::Securing,
        Self::Asking,
        Self::Receiving,
    ];

    /// The fault of a primary that lets a secondary wait for this long, and what it did not do.
    pub(super) fn stalled(self, time: Duration) -> (Fault, String) {
        let secs = time.as_secs_f64();
        match self {
            Self::Connecting => (
                Fault::Unreachable,
                format!("it did not answer the connection within {secs} s"),
            ),
            Self::Securing => (
                Fault::TlsFailed,
                format!("the handshake was not complete after {secs} s"),
            ),
            Self::Asking => (
                Fault::TooSlow,
                format!("nothing complete came for {secs} s"),
            ),
            Self::Receiving => (
                Fault::TooSlow,
                format!("it stopped sending: nothing complete came for {secs} s"),
            ),
        }
    }
}

/// The progress of a transfer, for those that show it.
#[derive(Debug)]
pub struct Progress {
    records: AtomicU64,
    bytes: AtomicU64,
    /// The index of the stage in [`Stage::ALL`].
    stage: AtomicU8,
    start: Instant,
    /// Since when the secondary waits for the primary, in milliseconds after `start`; 0 while it does not.
    waits_since: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            records: AtomicU64::default(),
            bytes: AtomicU64::default(),
            stage: AtomicU8::default(),
            start: Instant::now(),
            waits_since: AtomicU64::default(),
        }
    }
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

    /// How long the secondary has waited for the primary; zero while it takes what has arrived.
    pub fn waited(&self) -> Duration {
        match self.waits_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.millis().saturating_sub(since)),
        }
    }

    pub(super) fn set(&self, records: u64, bytes: u64) {
        self.records.store(records, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn stage(&self) -> Stage {
        let index = usize::from(self.stage.load(Ordering::Relaxed));
        Stage::ALL.get(index).copied().unwrap_or(Stage::Connecting)
    }

    pub(super) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// The secondary waits for the primary from now on, or does not any more.
    pub(super) fn set_waiting(&self, waits: bool) {
        let since = if waits { self.millis() } else { 0 };
        self.waits_since.store(since, Ordering::Relaxed);
    }

    /// The time since the start, at least one millisecond.
    fn millis(&self) -> u64 {
        let millis = self.start.elapsed().as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX).max(1)
    }
}
