//! Tests of the limits and timers of a feed, and of warnings.

use std::path::Path;
use std::time::Duration;

use super::super::{problems, valid};
use super::{feed, valid_feed};
use crate::config::feed::{TransferLimits, ZoneTimers};

#[test]
fn every_limit_and_timer_is_bounded_on_both_sides() {
    for (key, low, high) in [
        ("max-age-hours", 0_i64, 87_600),
        ("max-records", 1, 1_000_000_000),
        ("max-transfer-mib", 1, 1_048_576),
        ("max-transfer-secs", 1, 86_400),
        ("refresh-secs", 5, 86_400),
        ("retry-secs", 5, 3600),
        ("expire-secs", 60, 31_536_000),
        ("max-policy-ttl-secs", 1, 604_800),
    ] {
        for value in [low, high] {
            valid(&feed(&format!("{key} = {value}")));
        }
        for value in [low - 1, high + 1] {
            let expected = format!("4: {key} is {value}, must be {low} to {high}");
            assert_eq!(problems(&feed(&format!("{key} = {value}"))), [expected]);
        }
    }
    let feed = valid_feed(
        "max-age-hours = 0\nmax-records = 7\nmax-transfer-mib = 3\nmax-transfer-secs = 9\nrefresh-secs = 60\n\
         retry-secs = 30\nexpire-secs = 90",
    );
    let limits = TransferLimits {
        records: 7,
        bytes: 3 << 20,
        time: Duration::from_secs(9),
    };
    let timers = ZoneTimers {
        refresh: Some(Duration::from_secs(60)),
        retry: Some(Duration::from_secs(30)),
        expire: Some(Duration::from_secs(90)),
    };
    assert_eq!(
        (feed.max_age_hours, feed.limits, feed.timers),
        (Some(0), limits, timers)
    );
}

#[test]
fn a_zone_does_not_expire_before_it_is_refreshed() {
    valid(&feed("refresh-secs = 60\nexpire-secs = 61"));
    assert_eq!(
        problems(&feed("refresh-secs = 60\nexpire-secs = 60")),
        [
            "5: expire-secs is 60, must be over refresh-secs, which is 60: raise the one or lower the other"
        ]
    );
    valid(&feed("refresh-secs = 3599\nmax-age-hours = 1"));
    valid(&feed("refresh-secs = 3600\nmax-age-hours = 0"));
    assert_eq!(
        problems(&feed("refresh-secs = 3600\nmax-age-hours = 1")),
        [
            "5: max-age-hours, in seconds, is 3600, must be over refresh-secs, which is 3600: raise the one or lower the other"
        ]
    );
}

#[test]
fn settings_that_are_probably_mistakes_are_warned_of() {
    let warnings = |keys: &str, state: Option<&str>| {
        let warnings = valid_feed(keys).warnings(state.map(Path::new));
        warnings
            .iter()
            .map(|warning| {
                let text = warning.strip_prefix("feed rpz.example: ");
                text.expect("the feed's name").to_owned()
            })
            .collect::<Vec<_>>()
    };
    let kept = Some("/var/lib/tapis");
    assert_eq!(warnings("", kept), [""; 0]);
    let key = |algorithm: &str| {
        format!("tsig = {{ name = \"k\", secret-file = \"k\", algorithm = \"{algorithm}\" }}")
    };
    assert_eq!(warnings(&key("hmac-sha256"), kept), [""; 0]);
    for (keys, state, start) in [
        (
            &*key("hmac-sha1"),
            kept,
            "its TSIG key is used with hmac-sha1",
        ),
        (
            "notify-from = [\"0.0.0.0/1\", \"128.0.0.0/1\"]",
            kept,
            "notify-from has every address (0.0.0.0/0)",
        ),
        (
            "notify-from = [\"::/0\"]",
            kept,
            "notify-from has every address (::/0)",
        ),
        ("", None, "each restart transfers the whole zone"),
    ] {
        let found = warnings(keys, state);
        assert!(found.len() == 1 && found[0].starts_with(start), "{found:?}");
    }
}
