//! Waits for a time of the wall clock, also across changes of that clock and suspends of the machine.
#![expect(
    unsafe_code,
    reason = "tokio can't know that a descriptor stays the same while it is registered"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// How often the clock is read if the system has no timer to spare.
const POLL: Duration = Duration::from_millis(50);

/// An alarm that follows the wall clock.
#[derive(Debug, Default)]
pub struct Alarm {
    timer: OnceLock<Option<Timer>>,
}

impl Alarm {
    /// Waits until the clock shows `at` or later, or was set to another time. May end early. An alarm serves
    /// only one wait at a time.
    pub async fn until(&self, at: SystemTime) {
        if let Some(timer) = self.timer.get_or_init(|| Timer::new().ok())
            && timer.until(at).await.is_ok()
        {
            return;
        }
        let left = at.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::time::sleep(left.min(POLL)).await;
    }
}

/// A timer of the kernel (timerfd_create(2)).
#[derive(Debug)]
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Realtime, flags)?;
        // SAFETY: an OwnedFd returns the same descriptor for as long as it lives, and the runtime's registration ends
        // before the OwnedFd is dropped.
        let registered = unsafe { AsyncFd::register(fd) };
        Ok(Self(registered?))
    }

    /// Ends also when the clock is set: TFD_TIMER_CANCEL_ON_SET.
    async fn until(&self, at: SystemTime) -> io::Result<()> {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        // Zero would turn the timer off.
        let since = since.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: since.subsec_nanos().into(),
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match timerfd_settime(self.0.get_ref(), flags, &once) {
            Ok(_previous) => {}
            // The clock was set since the last wait; that is reported only once.
            Err(Errno::CANCELED) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        loop {
            let mut ready = self.0.readable().await?;
            // A read fails with ECANCELED after the clock was set, which ends the wait as well.
            if let Ok(_ended) = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut [0; 8])?)) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_ends_at_its_time_and_at_once_for_the_past() {
        let alarm = Alarm::default();
        alarm.until(SystemTime::UNIX_EPOCH).await;
        let at = SystemTime::now() + Duration::from_millis(70);
        while SystemTime::now() < at {
            alarm.until(at).await;
        }
        let other = alarm.until(SystemTime::now() + Duration::from_secs(3600));
        drop(other);
        alarm.until(SystemTime::now()).await;
    }
}
