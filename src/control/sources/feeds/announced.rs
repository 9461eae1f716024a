//! What NOTIFY messages say to the next fetch: which primary has a newer version, and which version that is.

use std::net::IpAddr;

use crate::wire::transfer::Serial;

/// The number of fetches that may end without an announced version although all primaries answer. A hidden primary may send
/// NOTIFY before the others have the version.
const MAX_MISSES: u8 = 3;

/// The last NOTIFY messages.
#[derive(Debug, Default)]
pub(super) struct Announced {
    /// The sender of the last one since the last fetch.
    from: Option<IpAddr>,
    /// The newest version that a signed message announced.
    serial: Option<Serial>,
    /// The fetches since then that ended without it.
    misses: u8,
}

impl Announced {
    /// A message has arrived that a fetch is due for. Only signed ones have a serial.
    pub(super) fn add(&mut self, from: IpAddr, serial: Option<Serial>) {
        self.from = Some(from.to_canonical());
        let is_newer =
            |serial: &Serial| self.serial.is_none_or(|known| serial.is_newer_than(known));
        if let Some(serial) = serial.filter(is_newer) {
            (self.serial, self.misses) = (Some(serial), 0);
        }
    }

    /// The sender to ask first; `Some` once.
    pub(super) fn take_sender(&mut self) -> Option<IpAddr> {
        self.from.take()
    }

    /// Whether a fetch, after which `newest` is known, has not brought the announced version. After some of them it is given
    /// up, if all primaries have answered.
    pub(super) fn is_missed(&mut self, newest: Option<Serial>, all_answered: bool) -> bool {
        let has_it = |serial| newest.is_some_and(|newest| !Serial::is_newer_than(serial, newest));
        self.misses = self.misses.saturating_add(1);
        if self.serial.is_some_and(has_it) || all_answered && self.misses >= MAX_MISSES {
            self.serial = None;
        }
        self.serial.is_some()
    }

    /// The version that fetches have not brought.
    pub(super) fn missing(&self) -> Option<Serial> {
        self.serial.filter(|_| self.misses > 0)
    }

    /// The serials start again: the operator accepts any.
    pub(super) fn forget(&mut self) {
        self.serial = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_version_is_missed_until_it_is_there() {
        let mut announced = Announced::default();
        announced.add(FROM, Some(Serial(11)));
        assert_eq!(announced.missing(), None, "no fetch has ended");
        for _ in 0..9 {
            assert!(announced.is_missed(Some(Serial(10)), false));
        }
        assert_eq!(announced.missing(), Some(Serial(11)));
        announced.add(FROM, Some(Serial(9)));
        announced.add(FROM, None);
        assert_eq!(announced.missing(), Some(Serial(11)));
        assert!(!announced.is_missed(Some(Serial(12)), false));
        assert_eq!(announced.missing(), None);
    }

    #[test]
    fn a_version_that_no_primary_has_is_given_up() {
        let mut announced = Announced::default();
        announced.add(FROM, Some(Serial(11)));
        let missed = [(); 3].map(|()| announced.is_missed(Some(Serial(10)), true));
        assert_eq!(missed, [true, true, false]);
        assert_eq!(announced.missing(), None);
    }
}
