//! The system's clocks: the one for decisions that have dates, and what the one of TTLs leaves out.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::control::sources::wall_clock::{Wait, Wall};
use crate::serve::shared::Clock;
use crate::sys::alarm::Alarm;
use crate::sys::process::suspended;

/// How often to look whether the system was suspended. The timer waits while the system is awake, so
/// this is how long TTLs may lag behind after it woke.
const LOOK: Duration = Duration::from_millis(500);

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

/// Tells the clock of TTLs for how long the system was suspended, until the service ends.
pub(super) async fn follow_suspension(clock: Clock, stop: CancellationToken) {
    let before = suspended();
    let follow = async {
        loop {
            tokio::time::sleep(LOOK).await;
            clock.note_suspension(suspended().saturating_sub(before));
        }
    };
    stop.run_until_cancelled(follow).await;
}
