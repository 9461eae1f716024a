//! Tests of `primaries`, and of who may send notifications.

use std::path::Path;

use super::super::{problems, valid};
use super::{feed, valid_feed, with_primaries};

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
