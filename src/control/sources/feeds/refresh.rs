//! Decides when a feed's primaries are asked, by the timers of its SOA record (RFC 1035, section 3.3.13; RFC 1996).
//!
//! It does no I/O and reads no clock.
//!
//! ```text
//!               due                                 finished: succeeded
//!   Waiting ------------> Fetching ------------+--------------------------> Waiting for refresh
//!     ^  ^                                     |
//!     |  |  notified, requested: due at once   | finished: failed
//!     |  +-------------------------------------+--------------------------> Waiting for retry
//!     |
//!     |  valid until the last success + expire, in all states:
//!   Valid -----------------------------> Expired
//!     ^            that time passes         |
//!     +-------------------------------------+
//!                  a fetch succeeds
//! ```
//!
//! The time that counts as expire is `max-age-hours`, or else `expire-secs`, or else that of the SOA record.
//!
//! A NOTIFY that arrives while a fetch is under way makes another one due after it. Fetches that are caused by NOTIFY
//! start at least [`NOTIFY_PAUSE`] apart, however many arrive: a flood of them, which may be forged, costs a query for
//! the SOA record every few seconds.

use std::time::Duration;

use tokio::time::Instant;

use super::primary::shorten;
use crate::config::feed::Feed;
use crate::wire::transfer::{Serial, Soa};

/// The shortest time between the starts of two fetches of which a NOTIFY caused the second.
pub const NOTIFY_PAUSE: Duration = Duration::from_secs(5);

const HOUR: Duration = Duration::from_secs(3600);

/// The bounds of the times of a SOA record. A refresh of 0 would ask all the time, one of years never.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST_REFRESH: Duration = Duration::from_secs(86_400);
const LONGEST_RETRY: Duration = HOUR;
const LONGEST_EXPIRE: Duration = Duration::from_secs(365 * 86_400);

/// The time in which a fetch may still prevent that the zone is reported as expired.
const GRACE: Duration = Duration::from_secs(5);

/// The time before the second try while no SOA record is known. It doubles with each try, up to the longest retry.
const FIRST_RETRY: Duration = Duration::from_secs(15);

/// The timers of one feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Refresh {
    state: State,
    overrides: Overrides,
    /// Those of the SOA record in force; `None` before the first transfer.
    timers: Option<Timers>,
    /// When the zone expires, or expired; `None` before the first transfer, or if it never expires.
    expires: Option<Instant>,
    /// Whether [`Action::Expire`] was returned for `expires`.
    is_expired: bool,
    /// Failures in a row.
    failures: u32,
    has_succeeded: Option<bool>,
    last_start: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A fetch starts then.
    Waiting { due: Instant },
    /// A fetch is under way. `again`: another one is due after it.
    Fetching { again: bool },
}

/// The operator's times, used in place of those of the SOA record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// In place of REFRESH.
    pub refresh: Option<Duration>,
    /// In place of RETRY.
    pub retry: Option<Duration>,
    /// In place of EXPIRE.
    pub expire: Option<Expire>,
}

/// When a zone expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expire {
    /// This long after the last confirmation.
    After(Duration),
    /// However old the last confirmation is.
    Never,
}

impl From<&Feed> for Overrides {
    fn from(feed: &Feed) -> Self {
        let expire = match feed.max_age_hours {
            Some(0) => Some(Expire::Never),
            Some(hours) => Some(Expire::After(HOUR * hours)),
            None => feed.timers.expire.map(Expire::After),
        };
        Self {
            refresh: feed.timers.refresh,
            retry: feed.timers.retry,
            expire,
        }
    }
}

/// The times of a SOA record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// REFRESH.
    pub refresh: Duration,
    /// RETRY.
    pub retry: Duration,
    /// EXPIRE.
    pub expire: Duration,
}

impl From<&Soa> for Timers {
    fn from(soa: &Soa) -> Self {
        let seconds = |time: u32| Duration::from_secs(time.into());
        Self {
            refresh: seconds(soa.refresh),
            retry: seconds(soa.retry),
            expire: seconds(soa.expire),
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the primaries. [`Refresh`] counts the fetch as started.
    Fetch,
    /// Report that the zone has expired. What is in force stays.
    Expire,
}

impl Refresh {
    /// A feed that was never transferred. A fetch is due at once.
    pub fn new(overrides: Overrides, now: Instant) -> Self {
        Self {
            state: State::Waiting { due: now },
            overrides,
            timers: None,
            expires: None,
            is_expired: false,
            failures: 0,
            has_succeeded: None,
            last_start: None,
        }
    }

    /// A feed that an earlier process transferred, and confirmed `age` ago. A fetch is due at once.
    pub fn restored(overrides: Overrides, timers: Timers, age: Duration, now: Instant) -> Self {
        let mut refresh = Self::new(overrides, now);
        refresh.timers = Some(timers);
        let expire = refresh.expire(timers);
        refresh.expires = expire.map(|time| now + time.saturating_sub(age));
        refresh
    }

    /// The next action that is due; call it until it returns `None`, and now and then while a fetch is under way. A fetch
    /// comes before the expiry, which it may prevent within some seconds: after a restart, the zone may have been confirmed
    /// later than its age tells.
    pub fn next(&mut self, now: Instant) -> Option<Action> {
        if let State::Waiting { due } = self.state
            && due <= now
        {
            self.state = State::Fetching { again: false };
            self.last_start = Some(now);
            return Some(Action::Fetch);
        }
        let is_fetching = matches!(self.state, State::Fetching { .. });
        let start = self.last_start.filter(|_| is_fetching);
        let may_be_prevented = start.is_some_and(|start| now < start + GRACE);
        if self.is_expired || may_be_prevented || self.expires.is_none_or(|at| at > now) {
            return None;
        }
        self.is_expired = true;
        Some(Action::Expire)
    }

    /// When [`next`](Self::next) is to be called again; `None` if an event comes first.
    pub fn deadline(&self) -> Option<Instant> {
        let due = match self.state {
            State::Waiting { due } => Some(due),
            State::Fetching { .. } => None,
        };
        let expires = self.expires.filter(|_| !self.is_expired);
        [due, expires].into_iter().flatten().min()
    }

    /// A primary confirmed or sent the version with these times. `random` shortens the time to the next fetch by up to a
    /// quarter.
    pub fn succeeded(&mut self, timers: Timers, random: u16, now: Instant) {
        self.timers = Some(timers);
        self.failures = 0;
        self.has_succeeded = Some(true);
        self.expires = self.expire(timers).map(|time| now + time);
        self.is_expired = false;
        let refresh = self.overrides.refresh.unwrap_or(timers.refresh);
        // A zone that expires before it is refreshed would cause an alarm each time. Half the time leaves room for a failure.
        let latest = self.expire(timers).map_or(refresh, |expire| expire / 2);
        let refresh = refresh.min(latest).clamp(SHORTEST, LONGEST_REFRESH);
        self.wait(shorten(refresh, random), now);
    }

    /// No primary has confirmed or sent a version.
    pub fn failed(&mut self, random: u16, now: Instant) {
        let doubled = FIRST_RETRY * 2_u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.has_succeeded = Some(false);
        let known = self.timers.map(|timers| timers.retry);
        let retry = self.overrides.retry.or(known).unwrap_or(doubled);
        // Tries that come before the zone expires may prevent that.
        let validity = self.timers.and_then(|timers| self.expire(timers));
        let latest = validity.map_or(retry, |expire| expire / 4);
        let retry = retry.min(latest).clamp(SHORTEST, LONGEST_RETRY);
        self.wait(shorten(retry, random), now);
    }

    /// Lets the next fetch wait until this time at least: all primaries are paused until then.
    pub fn defer(&mut self, until: Instant) {
        if let State::Waiting { due } = &mut self.state {
            *due = (*due).max(until);
        }
    }

    /// A NOTIFY arrived that may be authentic. `theirs` is its serial, if it has one. Returns whether it counts: not if
    /// `ours`, the serial in force, is as new.
    pub fn notified(&mut self, theirs: Option<Serial>, ours: Option<Serial>, now: Instant) -> bool {
        let is_known = theirs
            .zip(ours)
            .is_some_and(|(theirs, ours)| !theirs.is_newer_than(ours));
        if is_known {
            return false;
        }
        let earliest = self.last_start.map_or(now, |start| start + NOTIFY_PAUSE);
        match &mut self.state {
            State::Waiting { due } => *due = (*due).min(earliest.max(now)),
            State::Fetching { again } => *again = true,
        }
        true
    }

    /// The operator wants a fetch now.
    pub fn requested(&mut self, now: Instant) {
        match &mut self.state {
            State::Waiting { due } => *due = now,
            State::Fetching { again } => *again = true,
        }
    }

    /// Whether no primary has confirmed the zone for longer than it is valid.
    pub fn is_expired(&self) -> bool {
        self.is_expired
    }

    /// Whether the last fetch succeeded; `None` before the end of the first one.
    pub fn has_succeeded(&self) -> Option<bool> {
        self.has_succeeded
    }

    /// Whether a fetch is under way.
    pub fn is_fetching(&self) -> bool {
        matches!(self.state, State::Fetching { .. })
    }

    /// The time from a confirmation of the zone until it expires, or until it would by its SOA record if it never does;
    /// `None` before the first transfer.
    pub fn validity(&self) -> Option<Duration> {
        let validity = |timers| self.expire(timers).unwrap_or(soa_expire(timers));
        self.timers.map(validity)
    }

    /// When the zone expires, or expired; `None` before the first transfer, or if it never expires.
    pub fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// Waits for this time, or shorter if another fetch was wanted while one was under way.
    fn wait(&mut self, time: Duration, now: Instant) {
        let again = self.state == (State::Fetching { again: true });
        let earliest = self.last_start.map_or(now, |start| start + NOTIFY_PAUSE);
        let due = match again {
            true => earliest.max(now).min(now + time),
            false => now + time,
        };
        self.state = State::Waiting { due };
    }

    /// The time from a confirmation until the zone expires; `None` if it never does.
    fn expire(&self, timers: Timers) -> Option<Duration> {
        match self.overrides.expire {
            Some(Expire::After(time)) => Some(time),
            Some(Expire::Never) => None,
            None => Some(soa_expire(timers)),
        }
    }
}

fn soa_expire(timers: Timers) -> Duration {
    timers.expire.clamp(SHORTEST, LONGEST_EXPIRE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMERS: Timers = Timers {
        refresh: Duration::from_secs(600),
        retry: Duration::from_secs(60),
        expire: Duration::from_secs(3600),
    };

    /// A feed that was transferred just now, without jitter but for the least.
    fn transferred(now: Instant) -> Refresh {
        let mut refresh = Refresh::new(Overrides::default(), now);
        assert_eq!(refresh.next(now), Some(Action::Fetch));
        assert_eq!(refresh.next(now), None, "it is under way");
        refresh.succeeded(TIMERS, 0, now);
        refresh
    }

    /// The time until the next action, in seconds.
    fn wait(refresh: &Refresh, now: Instant) -> u64 {
        let deadline = refresh.deadline().expect("waits");
        (deadline - now).as_secs_f64().round() as u64
    }

    #[test]
    fn the_primaries_are_asked_after_refresh_and_after_a_failure_after_retry() {
        let now = Instant::now();
        let mut refresh = transferred(now);
        assert_eq!(wait(&refresh, now), 600);
        let now = now + 600 * SECOND;
        assert_eq!(refresh.next(now), Some(Action::Fetch));
        assert_eq!(
            refresh.deadline(),
            refresh.expires(),
            "only expiry is awaited"
        );
        refresh.failed(0, now);
        assert_eq!(wait(&refresh, now), 60);
        refresh.next(now + 60 * SECOND);
        refresh.failed(u16::MAX, now);
        assert_eq!(wait(&refresh, now), 45, "shortened by a quarter at most");
    }

    #[test]
    fn a_zone_expires_once_and_is_valid_again_after_a_success() {
        let start = Instant::now();
        let mut refresh = transferred(start);
        let now = start + 3600 * SECOND;
        assert_eq!(refresh.next(now - SECOND), Some(Action::Fetch));
        refresh.failed(0, now - SECOND);
        assert!(!refresh.is_expired());
        assert_eq!(refresh.next(now), Some(Action::Expire));
        assert_eq!(refresh.next(now), None);
        assert!(refresh.is_expired());
        let now = now + 100 * SECOND;
        assert_eq!(
            refresh.next(now),
            Some(Action::Fetch),
            "it is asked for still"
        );
        refresh.succeeded(TIMERS, 0, now);
        assert!(!refresh.is_expired());
        assert_eq!(refresh.expires(), Some(now + TIMERS.expire));
    }

    #[test]
    fn tries_before_the_first_transfer_become_rarer() {
        let mut now = Instant::now();
        let mut refresh = Refresh::new(Overrides::default(), now);
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(refresh.next(now), Some(Action::Fetch));
            refresh.failed(0, now);
            waits.push(wait(&refresh, now));
            now += LONGEST_RETRY;
        }
        assert_eq!(waits[..4], [15, 30, 60, 120]);
        assert_eq!(waits[11], LONGEST_RETRY.as_secs());
    }

    #[test]
    fn the_operators_times_replace_those_of_the_soa_record_and_bounds_hold() {
        let now = Instant::now();
        let overrides = Overrides {
            refresh: Some(7 * SECOND),
            retry: Some(8 * SECOND),
            expire: Some(Expire::After(19 * SECOND)),
        };
        let mut refresh = Refresh::new(overrides, now);
        refresh.next(now);
        refresh.succeeded(TIMERS, 0, now);
        assert_eq!(wait(&refresh, now), 7);
        assert_eq!(refresh.expires(), Some(now + 19 * SECOND));
        let zero = Duration::ZERO;
        let zeros = Timers {
            refresh: zero,
            retry: zero,
            expire: zero,
        };
        let mut refresh = transferred(now);
        refresh.next(now + 600 * SECOND);
        refresh.succeeded(zeros, 0, now);
        assert_eq!(wait(&refresh, now), 5, "not all the time");
    }

    #[test]
    fn a_zone_is_refreshed_after_half_the_time_until_it_expires_at_the_latest() {
        let now = Instant::now();
        let waits = |overrides: Overrides, expire_secs: u32| {
            let mut refresh = Refresh::new(overrides, now);
            refresh.next(now);
            let timers = Timers {
                expire: expire_secs * SECOND,
                ..TIMERS
            };
            refresh.succeeded(timers, 0, now);
            wait(&refresh, now)
        };
        let expire = |expire| Overrides {
            expire: Some(expire),
            ..Overrides::default()
        };
        assert_eq!(waits(Overrides::default(), 3600), 600);
        assert_eq!(waits(Overrides::default(), 300), 150);
        assert_eq!(waits(expire(Expire::After(400 * SECOND)), 3600), 200);
        assert_eq!(waits(expire(Expire::Never), 300), 600);
    }

    #[test]
    fn max_age_hours_replaces_every_other_expire_time_and_0_means_never() {
        let age = 60 * SECOND;
        let expires = |keys: &str| {
            let text = "[[feed]]\nzone = \"rpz.example\"\nprimaries = [\"192.0.2.1\"]\n";
            let config = Config::parse(&format!("{text}{keys}"), Path::new("/tapis.toml"));
            let overrides = Overrides::from(&config.expect("valid").feeds[0]);
            let now = Instant::now();
            let mut refresh = Refresh::new(overrides, now);
            refresh.succeeded(TIMERS, 0, now);
            let restored = Refresh::restored(overrides, TIMERS, age, now);
            assert_eq!(restored.expires().map(|at| at + age), refresh.expires());
            let left = refresh.expires().map(|at| (at - now).as_secs());
            (left, refresh.validity().map(|time| time.as_secs()))
        };
        for (keys, secs) in [
            ("", 3600),
            ("expire-secs = 7200", 7200),
            ("max-age-hours = 1", 3600),
            ("expire-secs = 7200\nmax-age-hours = 5", 18_000),
            ("max-age-hours = 87600", 315_360_000),
        ] {
            assert_eq!(expires(keys), (Some(secs), Some(secs)), "{keys}");
        }
        let never = expires("expire-secs = 7200\nmax-age-hours = 0");
        assert_eq!(never, (None, Some(3600)));
    }

    #[test]
    fn a_notify_makes_a_fetch_due_but_a_flood_of_them_only_one_every_few_seconds() {
        let start = Instant::now();
        let mut refresh = transferred(start);
        let mut fetches = 0;
        for millis in (0..60_000).step_by(10) {
            let now = start + Duration::from_millis(millis);
            assert!(refresh.notified(None, None, now));
            if refresh.next(now) == Some(Action::Fetch) {
                fetches += 1;
                assert!(refresh.notified(None, None, now), "also meanwhile");
                refresh.succeeded(TIMERS, 0, now);
            }
        }
        assert_eq!(fetches, 60 / NOTIFY_PAUSE.as_secs() - 1);
        let quiet = start + 100 * SECOND;
        let mut refresh = transferred(start);
        refresh.notified(None, None, quiet);
        assert_eq!(refresh.next(quiet), Some(Action::Fetch), "at once");
    }

    #[test]
    fn a_notify_with_a_serial_that_is_known_is_ignored() {
        let start = Instant::now();
        let mut refresh = transferred(start);
        let now = start + 60 * SECOND;
        assert!(!refresh.notified(Some(Serial(7)), Some(Serial(7)), now));
        assert!(!refresh.notified(Some(Serial(6)), Some(Serial(7)), now));
        assert_eq!(refresh.next(now), None);
        assert!(refresh.notified(Some(Serial(8)), Some(Serial(7)), now));
        assert_eq!(refresh.next(now), Some(Action::Fetch));
    }

    #[test]
    fn a_request_makes_a_fetch_due_at_once_or_after_the_one_under_way() {
        let start = Instant::now();
        let mut refresh = transferred(start);
        refresh.requested(start + SECOND);
        assert_eq!(refresh.next(start + SECOND), Some(Action::Fetch));
        refresh.requested(start + 2 * SECOND);
        refresh.succeeded(TIMERS, 0, start + 20 * SECOND);
        assert_eq!(refresh.next(start + 20 * SECOND), Some(Action::Fetch));
    }

    #[test]
    fn a_restored_feed_is_asked_for_at_once_and_expires_by_its_age() {
        let now = Instant::now();
        let overrides = Overrides::default();
        let mut refresh = Refresh::restored(overrides, TIMERS, 1000 * SECOND, now);
        assert_eq!(refresh.expires(), Some(now + 2600 * SECOND));
        assert_eq!(refresh.next(now), Some(Action::Fetch));
        let mut old = Refresh::restored(overrides, TIMERS, 9999 * SECOND, now);
        assert_eq!(old.next(now), Some(Action::Fetch));
        old.failed(0, now);
        assert_eq!(old.next(now), Some(Action::Expire));
        let mut old = Refresh::restored(overrides, TIMERS, 9999 * SECOND, now);
        assert_eq!(old.next(now), Some(Action::Fetch));
        assert_eq!(old.next(now + SECOND), None, "the fetch may prevent it");
        assert_eq!(old.next(now + GRACE), Some(Action::Expire));
        assert_eq!(old.next(now + GRACE), None);
        let mut old = Refresh::restored(overrides, TIMERS, 9999 * SECOND, now);
        assert_eq!(old.next(now), Some(Action::Fetch));
        old.succeeded(TIMERS, 0, now);
        assert_eq!(old.next(now), None, "a primary has confirmed it");
    }
}
