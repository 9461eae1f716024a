//! Owns waiting for an instant of the system's clock, also while that clock is set or the machine sleeps.
//! Refuses to say what time it is.
#![cfg_attr(
    all(target_os = "linux", not(feature = "portable")),
    expect(unsafe_code, reason = "timerfd has no safe binding in std")
)]

use std::time::{Duration, SystemTime};

/// How often to look at the clock where the system can't tell that it was set.
const LOOK: Duration = Duration::from_millis(50);

/// An alarm clock that goes by the system's clock.
#[derive(Debug, Default)]
pub struct Alarm {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    timer: std::sync::OnceLock<Option<timer::Timer>>,
}

impl Alarm {
    /// Waits until the clock shows `at` or later, or until it was set to another time. May end early.
    /// One at a time.
    pub async fn until(&self, at: SystemTime) {
        #[cfg(all(target_os = "linux", not(feature = "portable")))]
        if let Some(timer) = self.timer.get_or_init(|| timer::Timer::new().ok())
            && timer.until(at).await.is_ok()
        {
            return;
        }
        let left = at.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod timer {
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use tokio::io::unix::AsyncFd;

    /// A timer of the kernel (timerfd_create(2)).
    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
            // SAFETY: the call takes two numbers and touches no memory.
            let fd = unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, flags) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the descriptor is new and nobody else's.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: an OwnedFd tells the same descriptor for as long as it lives, and the runtime's
            // registration ends before it does.
            let registered = unsafe { AsyncFd::register(fd) };
            Ok(Self(registered?))
        }

        /// Ends also when the clock is set: TFD_TIMER_CANCEL_ON_SET.
        pub(super) async fn until(&self, at: SystemTime) -> io::Result<()> {
            let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            // Zero would turn the timer off.
            let since = since.max(Duration::from_nanos(1));
            let when = libc::itimerspec {
                it_interval: libc::timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                },
                it_value: libc::timespec {
                    tv_sec: since.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                    tv_nsec: since.subsec_nanos().into(),
                },
            };
            let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
            // SAFETY: `when` lives through the call, which only reads it; the old value is not asked for.
            let set = unsafe {
                libc::timerfd_settime(self.0.as_raw_fd(), flags, &when, std::ptr::null_mut())
            };
            if set < 0 {
                let error = io::Error::last_os_error();
                // The clock was set since the last time; it is not told again.
                return match error.raw_os_error() {
                    Some(libc::ECANCELED) => Ok(()),
                    _ => Err(error),
                };
            }
            loop {
                let mut ready = self.0.readable().await?;
                // A read fails with ECANCELED after the clock was set, which ends the wait as well.
                if let Ok(_ended) = ready.try_io(|fd| read(fd.get_ref())) {
                    return Ok(());
                }
            }
        }
    }

    /// Takes the timer's count of expirations.
    fn read(fd: &OwnedFd) -> io::Result<()> {
        let mut count = 0_u64;
        let size = size_of::<u64>();
        // SAFETY: the kernel writes at most `size` octets, which `count` has.
        let taken = unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), size) };
        match taken {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_rings_at_its_instant_and_at_once_for_the_past() {
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
