//! Owns the system's clock for decisions that have dates. Refuses to know them.

use std::time::SystemTime;

use jiff::Timestamp;

use crate::control::wall::{Wait, Wall};
use crate::sys::alarm::Alarm;

/// The system's clock.
#[derive(Debug, Default)]
pub(super) struct SystemClock(Alarm);

impl Wall for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn until(&self, at: Timestamp) -> Wait<'_> {
        Box::pin(self.0.until(SystemTime::from(at)))
    }
}
