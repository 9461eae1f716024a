//! Tests of `[[feed]]`: the transfer of a zone, its list, and the order of lists and feeds.

use std::path::Path;
use std::time::Duration;

use super::{problems, valid};
use crate::config::feed::{Feed, TransferLimits, TsigAlgorithm, ZoneTimers};
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
fn a_primary_is_an_address_or_a_table_with_its_port_and_tls() {
    let config = valid(&with_primaries(
        "\"192.0.2.1\", \"192.0.2.1:5300\", \"[2001:db8::1]:5300\", \"fe80::1%eth0\", { address = \"192.0.2.2\" }, \
         { address = \"192.0.2.3\", port = 5300 }, { address = \"192.0.2.4\", tls = \"NS.Example.\" }, \
         { address = \"2001:db8::2\", tls = \"ns.example\", port = 8853, tls-ca = \"ca.pem\" }, \
         { address = \"192.0.2.5:8853\", tls = \"ns.example\" }",
    ));
    let primaries = &config.feeds[0].primaries;
    let addresses: Vec<_> = primaries
        .iter()
        .map(|primary| primary.address.to_string())
        .collect();
    assert_eq!(
        addresses,
        [
            "192.0.2.1:53",
            "192.0.2.1:5300",
            "[2001:db8::1]:5300",
            "[fe80::1%eth0]:53",
            "192.0.2.2:53",
            "192.0.2.3:5300",
            "192.0.2.4:853",
            "[2001:db8::2]:8853",
            "192.0.2.5:8853",
        ]
    );
    let tls = primaries.iter().map(|primary| {
        let tls = primary.tls.as_ref()?;
        Some((&*tls.name, tls.ca.as_deref()))
    });
    let tls: Vec<_> = tls.collect();
    assert_eq!(&tls[..6], [None; 6]);
    assert_eq!(
        &tls[6..],
        [
            Some(("ns.example", None)),
            Some(("ns.example", Some(Path::new("etc/ca.pem")))),
            Some(("ns.example", None)),
        ]
    );
    let from = config.feeds[0].notify_from.iter();
    assert_eq!(from.count(), 8, "one address has two ports");
}

#[test]
fn a_feed_has_at_least_one_primary_at_most_sixteen_and_none_twice() {
    assert_eq!(
        problems(&with_primaries("")),
        ["3: primaries is empty, must name at least one: add one"]
    );
    let many = |count: u8| {
        let primaries: Vec<_> = (1..=count).map(|n| format!("\"192.0.2.{n}\"")).collect();
        with_primaries(&primaries.join(", "))
    };
    valid(&many(16));
    assert_eq!(
        problems(&many(17)),
        ["3: primaries holds 17 servers, must be at most 16: remove some"]
    );
    for twice in [
        "\"192.0.2.1\", \"192.0.2.1:53\"",
        "\"192.0.2.1\", { address = \"192.0.2.1:53\" }",
        "{ address = \"192.0.2.1:853\" }, { address = \"192.0.2.1:853\", tls = \"ns.example\" }",
    ] {
        let found = problems(&with_primaries(twice));
        assert_eq!(found.len(), 1, "{twice}");
        assert!(
            found[0].ends_with("which is a duplicate: remove it"),
            "{found:?}"
        );
    }
}

#[test]
fn a_wrong_primary_is_reported_with_its_correction() {
    for (primary, problem) in [
        (
            "\"192.0.2.0/24\"",
            "primaries holds \"192.0.2.0/24\", which is a network: write the address alone, as in \"192.0.2.0\"",
        ),
        (
            "\"192.0.2.1:0\"",
            "primaries holds \"192.0.2.1:0\", which has port 0: write \"192.0.2.1\" for port 53",
        ),
        (
            "{ address = \"192.0.2.1:0\", tls = \"a.example\" }",
            "primaries holds \"192.0.2.1:0\", which has port 0: write \"192.0.2.1\" for port 853",
        ),
        (
            "\"2001:db8::1:53\"",
            "primaries holds \"2001:db8::1:53\", which may end in a port: write \"[2001:db8::1]:53\", or \
             \"[2001:db8::1:53]\" for the address",
        ),
        (
            "\"ns.example\"",
            "primaries holds \"ns.example\", which is a name, and only addresses can be used: write its address",
        ),
        (
            "\"0.0.0.0\"",
            "primaries holds \"0.0.0.0\", which is not the address of a single server: write one",
        ),
        (
            "\"192.0.2.1@853#ns.example\"",
            "primaries holds \"192.0.2.1@853#ns.example\", which is written for TLS: write { address = \"192.0.2.1\", \
             tls = \"ns.example\" }",
        ),
        (
            "\"tls://ns.example\"",
            "primaries holds \"tls://ns.example\", which is written for TLS: write { address = \"ADDRESS\", tls = \
             \"SERVER.NAME\" }",
        ),
        (
            "{ address = \"192.0.2.1:5300\", port = 5301 }",
            "primaries holds \"192.0.2.1:5300\", which has a port, besides `port`: remove one of the two",
        ),
        (
            "{ port = 53 }",
            "a table of primaries has no `address`: add address = \"...\"",
        ),
        (
            "{ address = \"192.0.2.1\", port = 65536 }",
            "port is 65536, must be 1 to 65535",
        ),
        (
            "{ address = \"192.0.2.1\", tls-ca = \"ca.pem\" }",
            "tls-ca is set, but tls is not: add tls = \"SERVER.NAME\", or remove tls-ca",
        ),
        (
            "{ address = \"192.0.2.1\", tls = \"192.0.2.1\" }",
            "tls is \"192.0.2.1\", an address, not a name: write the name in the server's certificate, as in \
             \"ns.example\"",
        ),
        (
            "{ address = \"192.0.2.1\", tls = \"*.example\" }",
            "tls is \"*.example\", not the name of a server: write the name in the server's certificate, as in \
             \"ns.example\"",
        ),
        (
            "{ address = \"192.0.2.1\", tls = true }",
            "tls is true, must be a string: put it in quotes",
        ),
        (
            "{ address = \"192.0.2.1\", tls-cert = \"ca.pem\" }",
            "unknown key `tls-cert` in a table of primaries; valid keys are address, port, tls, tls-ca",
        ),
        (
            "1",
            "primaries is a whole number (1), must be a string or a table: put it in quotes",
        ),
    ] {
        assert_eq!(
            problems(&with_primaries(primary)),
            [format!("3: {problem}")]
        );
    }
    assert_eq!(
        problems("[[feed]]\nzone = \"a\"\nprimaries = \"192.0.2.1\"\n"),
        [
            "3: primaries is a string (\"192.0.2.1\"), must be an array of strings or tables: put brackets around it: \
             [\"192.0.2.1\"]"
        ]
    );
}

#[test]
fn a_key_has_a_name_a_file_and_an_algorithm() {
    for (algorithm, expected) in [
        ("", TsigAlgorithm::HmacSha256),
        ("hmac-sha1", TsigAlgorithm::HmacSha1),
        ("hmac-sha256", TsigAlgorithm::HmacSha256),
        ("hmac-sha384", TsigAlgorithm::HmacSha384),
        ("hmac-sha512", TsigAlgorithm::HmacSha512),
    ] {
        let set = match algorithm {
            "" => String::new(),
            algorithm => format!(", algorithm = \"{algorithm}\""),
        };
        let keys = format!("tsig = {{ name = \"Tapis-Feed.\", secret-file = \"keys/feed\"{set} }}");
        let tsig = valid_feed(&keys).tsig.expect("a key");
        assert_eq!(tsig.name.to_string(), "tapis-feed");
        assert_eq!(tsig.secret_file, Path::new("etc/keys/feed"));
        assert_eq!(tsig.algorithm, expected);
        if !algorithm.is_empty() {
            assert_eq!(tsig.algorithm.word(), algorithm);
        }
    }
    let table = valid_feed("[feed.tsig]\nname = \"k\"\nsecret-file = \"/k\"");
    assert!(table.tsig.is_some());
}

#[test]
fn a_wrong_key_is_reported_and_its_secret_is_never_in_the_configuration() {
    for (tsig, expected) in [
        (
            "{}",
            &[
                "4: tsig has no `name`: add name = \"...\"",
                "4: tsig has no `secret-file`: add secret-file = \"...\"",
            ][..],
        ),
        (
            "{ name = \"k\", secret-file = \"f\", algorithm = \"hmac-sha265\" }",
            &[
                "4: algorithm is \"hmac-sha265\", must be one of hmac-sha256, hmac-sha384, hmac-sha512, hmac-sha1; did you \
                 mean \"hmac-sha256\"?",
            ],
        ),
        (
            "{ name = \"a..b\", secret-file = \"\" }",
            &[
                "4: name is \"a..b\", not a domain name: a label is empty: write the key's name as the other server has it, as \
                 in \"tapis-feed\"",
                "4: secret-file is empty, must be the path of a file",
            ],
        ),
        (
            "{ name = \"k\", secret = \"bm8gc2VjcmV0\" }",
            &[
                "4: unknown key `secret` in tsig; valid keys are name, algorithm, secret-file",
                "4: tsig has no `secret-file`: add secret-file = \"...\"",
            ],
        ),
        (
            "\"k\"",
            &[
                "4: tsig is a string (\"k\"), must be a table: write it as { name = \"...\", secret-file = \"...\" }",
            ],
        ),
    ] {
        assert_eq!(problems(&feed(&format!("tsig = {tsig}"))), expected);
    }
}

#[test]
fn notifications_are_accepted_from_the_named_networks() {
    let feed = valid_feed("notify-from = [\"198.51.100.0/24\", \"2001:db8::1\"]");
    let networks: Vec<_> = feed.notify_from.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["198.51.100.0/24", "2001:db8::1/128"]);
    assert_eq!(valid_feed("notify-from = []").notify_from, []);
    assert_eq!(
        problems(&self::feed(
            "notify-from = [\"192.0.2.1/24\", \"::1\", \"::1\"]"
        )),
        [
            "4: notify-from holds \"192.0.2.1/24\", which has bits set behind its prefix: write \"192.0.2.0/24\" for the \
             network",
            "4: notify-from holds \"::1\", which is a duplicate: remove it",
        ]
    );
}

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
