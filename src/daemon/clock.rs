//! The wall clock for dates of orders, and corrections of the TTL clock after the system was suspended.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::control::sources::wall_clock::{Wait, WallClock};
use crate::serve::shared::Clock;
use crate::sys::alarm::Alarm;
use crate::sys::process::suspended;

/// How often to check whether the system was suspended. The timer stops during a suspension, so TTLs may be wrong for
/// this long after it.
const CHECK_PERIOD: Duration = Duration::from_millis(500);

/// The system's wall clock.
#[derive(Debug, Default)]
pub(super) struct SystemClock(Alarm);

impl WallClock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn until(&self, at: Timestamp) -> Wait<'_> {
        Box::pin(self.0.until(SystemTime::from(at)))
    }
}

/// Keeps the TTL clock correct until `stop` is cancelled: adds to it the time for which the system was suspended.
pub(super) async fn follow_suspension(clock: Clock, stop: CancellationToken) {
    let before = suspended();
    let follow = async {
        loop {
            tokio::time::sleep(CHECK_PERIOD).await;
            clock.note_suspension(suspended().saturating_sub(before));
        }
    };
    stop.run_until_cancelled(follow).await;
}
