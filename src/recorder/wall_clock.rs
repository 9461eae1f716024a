//! The time of day at which queries were received.

use std::time::SystemTime;

use tokio::time::Instant;

/// The wall clock at a moment of the monotonic one, to date records.
#[derive(Clone, Copy)]
pub(super) struct WallClock {
    monotonic: Instant,
    wall: SystemTime,
}

impl WallClock {
    pub(super) fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The time of day at `moment`.
    pub(super) fn at(&self, moment: Instant) -> SystemTime {
        let ago = self.monotonic.saturating_duration_since(moment);
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}
