//! Owns nothing: what all threads of the data plane share, and the time that they go by.
//! Refuses to change any of it.

use std::sync::Arc;

use tokio::time::Instant;

use super::cache::Cache;
use crate::policy::current::Reader;

/// What all parts of the data plane share.
#[derive(Clone)]
pub struct Shared {
    /// The policy in force.
    pub policy: Reader,
    /// What upstream said.
    pub cache: Arc<Cache>,
    /// The time of all TTLs.
    pub clock: Clock,
}

/// Seconds since the server started; the time of all TTLs.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Whole seconds since the start.
    pub fn now(self) -> u32 {
        self.at(Instant::now())
    }

    /// The same at that instant.
    pub fn at(self, instant: Instant) -> u32 {
        let seconds = instant.saturating_duration_since(self.0).as_secs();
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }
}
