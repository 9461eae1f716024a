//! Limits how many signatures of secondaries are checked, because anybody can sign with a wrong key.

use std::time::Duration;

use tokio::time::Instant;

use crate::serve::client::Transport;
use crate::serve::limit::Limit;

/// The signatures that are checked at once, and the mean time between two. A check takes some 10 µs, so this is one percent of
/// a core; and a fleet of a thousand secondaries that were all notified is answered at once.
const BURST: u64 = 1000;
const PERIOD: Duration = Duration::from_millis(1);

/// The limits for all zones together. Senders of datagrams may forge their addresses, so those can't use up what connections
/// may.
#[derive(Debug)]
pub struct SignatureLimits {
    start: Instant,
    datagrams: Limit,
    streams: Limit,
}

impl Default for SignatureLimits {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            datagrams: Limit::new(BURST, PERIOD),
            streams: Limit::new(BURST, PERIOD),
        }
    }
}

impl SignatureLimits {
    /// Whether another signature may be checked.
    pub(super) fn permit(&self, transport: Transport, now: Instant) -> bool {
        let limit = match transport.is_stream() {
            true => &self.streams,
            false => &self.datagrams,
        };
        limit.take(now.saturating_duration_since(self.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_do_not_use_up_the_signatures_of_connections() {
        let limits = SignatureLimits::default();
        let now = Instant::now();
        let count = |transport| (0..5000).filter(|_| limits.permit(transport, now)).count();
        assert_eq!(count(Transport::Udp), 1000);
        assert_eq!(count(Transport::Tcp), 1000);
        assert_eq!(count(Transport::Udp), 0);
    }
}
