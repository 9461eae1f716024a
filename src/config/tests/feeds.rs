//! Tests of `[[feed]]`: the transfer of a zone, its list, and the order of lists and feeds.

mod keys;
mod limits;
mod primaries;

use std::path::Path;
use std::time::Duration;

use super::{problems, valid};
use crate::config::feed::{Feed, TransferLimits, ZoneTimers};
use crate::config::{Content, Format};
use crate::policy::rpz::settings::ZonePolicy;
use crate::policy::rule::{Ede, Kind};

/// A feed with its zone, a primary and these keys, which begin on line 4.
fn feed(keys: &str) -> String {
    format!("[[feed]]\nzone = \"rpz.example\"\nprimaries = [\"192.0.2.1\"]\n{keys}\n")
}

fn valid_feed(keys: &str) -> Feed {
    let mut config = valid(&feed(keys));
    config.feeds.remove(0)
}

/// The feed with these primaries, on line 3.
fn with_primaries(primaries: &str) -> String {
    format!("[[feed]]\nzone = \"rpz.example\"\nprimaries = [{primaries}]\n")
}

#[test]
fn a_feed_needs_only_a_zone_and_a_primary() {
    let feed = valid_feed("");
    assert_eq!(
        (&*feed.name, feed.zone.to_string()),
        ("rpz.example", "rpz.example".to_owned())
    );
    let [primary] = &feed.primaries[..] else {
        panic!("one primary");
    };
    assert_eq!(primary.address.to_string(), "192.0.2.1:53");
    assert_eq!((&primary.tls, &feed.tsig), (&None, &None));
    assert_eq!(
        feed.notify_from,
        ["192.0.2.1/32".parse().expect("a network")]
    );
    assert_eq!(feed.max_age_hours, None);
    let limits = TransferLimits {
        records: 100_000_000,
        bytes: 8 << 30,
        time: Duration::from_secs(3600),
    };
    assert_eq!(feed.limits, limits);
    assert_eq!(feed.timers, ZoneTimers::default());
    assert_eq!(
        problems("[[feed]]\n"),
        [
            "1: [[feed]] has no `zone`: add zone = \"...\"",
            "1: [[feed]] has no `primaries`: add primaries = [\"...\"]",
        ]
    );
}

#[test]
fn a_feed_is_a_list_whose_rules_are_in_no_file() {
    let config = valid(&feed(
        "name = \"ministry\"\npolicy = \"nodata\"\nsoa = false\nede = \"censored\"\ntext = \"by law\"\n\
         guards = \"warn\"",
    ));
    let [list] = &config.lists[..] else {
        panic!("one list");
    };
    assert_eq!(config.feeds[0].name, "ministry");
    assert_eq!(
        (&*list.source.name, list.source.kind),
        ("ministry", Kind::Block)
    );
    assert_eq!(
        (list.format, list.content),
        (Format::Rpz, Content::Transferred)
    );
    assert_eq!(list.source.path, Path::new("zone:rpz.example"));
    assert!(!list.required && !list.warn.is_empty());
    let blocking = &list.source.blocking;
    assert_eq!(
        (blocking.ede, &*blocking.extra_text),
        (Ede::Censored, "ministry: by law")
    );
    let zone = list.zone.as_ref().expect("a policy zone");
    assert_eq!(zone.apex.as_ref(), Some(&config.feeds[0].zone));
    assert_eq!(
        (&zone.settings.policy, zone.soa),
        (&ZonePolicy::Nodata, false)
    );
}

#[test]
fn lists_and_feeds_have_the_order_of_the_file() {
    let list = |name: &str| format!("[[list]]\nname = \"{name}\"\npath = \"{name}\"\n");
    let feed = |name: &str| {
        format!(
            "[[feed]]\nzone = \"{name}\"\nprimaries = [\"192.0.2.1\"]\n[feed.tsig]\nname = \"k\"\nsecret-file = \"k\"\n"
        )
    };
    let text = [list("l1"), feed("f1"), list("l2"), list("l3"), feed("f2")].concat();
    let config = valid(&text);
    let names = |config: &crate::config::Config| {
        let names = config.lists.iter().map(|list| list.source.name.clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&config), ["l1", "f1", "l2", "l3", "f2"]);
    let feeds: Vec<_> = config.feeds.iter().map(|feed| &*feed.name).collect();
    assert_eq!(feeds, ["f1", "f2"]);
    // Several on one line have the order of the line.
    let inline = "list = [{ name = \"b\", path = \"b\" }, { name = \"a\", path = \"a\" }]\n";
    assert_eq!(
        names(&valid(&format!("{inline}{}", feed("f")))),
        ["b", "a", "f"]
    );
}

#[test]
fn lists_and_feeds_share_one_set_of_names_and_a_zone_has_one_feed() {
    let list = "[[list]]\nname = \"rpz.example\"\npath = \"x\"\n";
    assert_eq!(
        problems(&format!("{list}{}", feed(""))),
        [
            "5: zone is \"rpz.example\", but the list on line 2 has the same name: add another name to the feed, as in \
             name = \"...\""
        ]
    );
    assert_eq!(
        problems(&format!("{}{list}", feed(""))),
        ["6: name is \"rpz.example\", but the feed on line 2 has the same name: rename one"]
    );
    let second = feed("name = \"b\"").replace("rpz.example", "RPZ.example.");
    assert_eq!(
        problems(&format!("{}{second}", feed(""))),
        [
            "6: zone is \"rpz.example\", but the feed on line 2 has the same zone: remove one of the two, and name all \
             primaries in the other"
        ]
    );
    let other = feed("").replace("rpz.example", "other.example");
    valid(&format!("{}{other}", feed("")));
}

#[test]
fn a_feed_is_named_after_its_zone_if_that_can_be_a_name() {
    let zone = |zone: &str| feed("").replace("rpz.example", zone);
    assert_eq!(valid(&zone("TrustPositif")).feeds[0].name, "trustpositif");
    let long = ["a".repeat(40), "b".repeat(40)].join(".");
    assert_eq!(
        problems(&zone(&long)),
        [format!(
            "1: [[feed]] has no `name`, and the zone's, \"{}\"..., can't be one: add name = \"...\"",
            &long[..60]
        )]
    );
    let misspelt = feed("nmae = \"a\"").replace("rpz.example", &long);
    assert_eq!(
        problems(&misspelt),
        ["4: unknown key `nmae` in [[feed]]; did you mean `name`?"]
    );
    let found = problems(&feed("name = \"A\""));
    assert_eq!(
        found,
        ["4: name is \"A\", must be 1 to 64 characters of a-z, 0-9, `.`, `_`, `-`"]
    );
}

#[test]
fn keys_of_lists_with_files_are_unknown_in_feeds() {
    for key in [
        "path", "kind", "format", "comments", "scope", "action", "sinkhole", "ttl-secs",
    ] {
        let found = problems(&feed(&format!("{key} = \"x\"")));
        assert_eq!(found.len(), 1, "{key}");
        let expected = format!("4: unknown key `{key}` in [[feed]]; ");
        assert!(found[0].starts_with(&expected), "{found:?}");
    }
    assert_eq!(
        problems(&feed("primary = [\"192.0.2.1\"]\nmax-transfer-mb = 3")),
        [
            "4: unknown key `primary` in [[feed]]; did you mean `primaries`?",
            "5: unknown key `max-transfer-mb` in [[feed]]; did you mean `max-transfer-mib`?",
        ]
    );
}

#[test]
fn no_missing_key_is_reported_for_a_feed_with_a_syntax_error() {
    assert_eq!(
        problems("[[feed]]\nzone \"a\"\nprimaries = [\"192.0.2.1\"]\n"),
        ["2: not TOML: key with no value, expected `=`"]
    );
}
