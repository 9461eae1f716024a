//! Secondaries of other makes: BIND, Unbound and PowerDNS Recursor apply the zone of a publisher, and follow its changes;
//! kdig and dig transfer it. These tests need Debian's packages bind9, unbound, pdns-recursor, knot-dnsutils and
//! bind9-dnsutils, so they only run on request: `cargo test --test it -- --ignored`.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use super::{TSIG, ZONE, config, published, publisher, serial};
use crate::orders::{PAST, order, target};
use crate::support::client::{addresses, until};
use crate::support::peers::{Peer, Program};
use crate::support::server::{Server, text};
use crate::support::signer::SECRET;
use crate::support::upstream::Upstream;

/// TSIG, over many messages: more than one of 16 KB.
const MANY: usize = 5000;

/// The names that the test asks for.
const NAMES: [&str; 8] = [
    "a.example",
    "x.a.example",
    "b.example",
    "x.b.example",
    "y.x.b.example",
    "c.example",
    "n17.example",
    "other.example",
];

fn names(more: &str) -> String {
    let many: Vec<_> = (0..MANY).map(|n| format!("n{n}.example\n")).collect();
    many.concat() + more
}

/// A program that knows the addresses of upstream and of the publisher.
fn filled(peer: Peer, upstream: &Upstream, publisher: &Server) -> Peer {
    let port = |address: SocketAddr| address.port().to_string();
    peer.with(&[
        ("UPSTREAM", &port(upstream.address)),
        ("PRIMARY", &port(publisher.address)),
        ("SECRET", SECRET),
    ])
}

/// The addresses that a server answers for each name.
fn answers(server: SocketAddr) -> Vec<Vec<String>> {
    NAMES.iter().map(|name| addresses(server, name)).collect()
}

/// Checks that a secondary answers as the publisher, after the start and after changes. `is_notified`: the secondary
/// understands NOTIFY.
fn follows(
    access: &str,
    upstream: &Upstream,
    publisher: &Server,
    secondary: &Program,
    is_notified: bool,
) {
    let agree = |what: &str| {
        until(what, || {
            answers(secondary.address) == answers(publisher.address)
        });
    };
    agree("the whole zone");
    assert_eq!(addresses(secondary.address, "x.a.example"), ["0.0.0.0"]);
    assert_eq!(addresses(secondary.address, "other.example"), ["192.0.2.1"]);
    if is_notified {
        let more = format!("{access}notify = [\"{}\"]\n", secondary.address);
        publisher.replace("tapis.toml", &config(upstream, &more));
        let reloaded = publisher.verb(&["reload"]);
        assert!(reloaded.status.success(), "{}", text(&reloaded));
        until("an answer to NOTIFY", || {
            let notified = &published(publisher)["notify"][0];
            assert_eq!(notified["answer"], serde_json::Value::Null);
            notified["is_answered"] == true
        });
    }
    let path = publisher.path("orders/x-1.toml");
    let order = order("x-1", PAST, &target("b.example", "subtree"));
    fs::write(&path, order).expect("written");
    until("the order", || {
        addresses(publisher.address, "b.example") == ["0.0.0.0"]
    });
    agree("the order");
    let before = serial(publisher);
    fs::remove_file(path).expect("removed");
    publisher.replace("names", &names("c.example\nx.b.example\n"));
    until("the list", || {
        addresses(publisher.address, "c.example") == ["0.0.0.0"]
    });
    agree("the list");
    assert_ne!(serial(publisher), before);
    let published = published(publisher);
    assert!(
        published["incremental_transfers"].as_u64() > Some(0),
        "{published}"
    );
    assert_eq!(published["whole_transfers"], 1, "{published}");
}

#[test]
#[ignore = "needs BIND"]
fn bind_applies_the_published_zone_and_its_changes() {
    let upstream = Upstream::plain();
    let publisher = publisher(&upstream, TSIG, &names("a.example\n"));
    serial(&publisher);
    let options = "  response-policy { zone \"policy.test\"; } break-dnssec yes qname-wait-recurse no min-update-interval 0;\n";
    let sections = "\
key \"transfer.key\" { algorithm hmac-sha256; secret \"SECRET\"; };
zone \"policy.test\" {
  type secondary;
  primaries { 127.0.0.1 port PRIMARY key transfer.key; };
  file \"policy.test\";
};
";
    let bind = Peer::bind_resolver(options, sections);
    let bind = filled(bind, &upstream, &publisher).start(&[]);
    follows(TSIG, &upstream, &publisher, &bind, true);
}

#[test]
#[ignore = "needs Unbound"]
fn unbound_applies_the_published_zone_and_its_changes() {
    let upstream = Upstream::plain();
    let access = "allow-transfer = [\"127.0.0.1\"]\n";
    let publisher = publisher(&upstream, access, &names("a.example\n"));
    serial(&publisher);
    let zone = "\
rpz:
  name: policy.test
  primary: 127.0.0.1@PRIMARY
  allow-notify: 127.0.0.1
  zonefile: \"DIR/policy.test\"
";
    let unbound = Peer::unbound("  module-config: \"respip iterator\"\n", zone);
    let unbound = filled(unbound, &upstream, &publisher).start(&[]);
    follows(access, &upstream, &publisher, &unbound, true);
}

#[test]
#[ignore = "needs PowerDNS Recursor"]
fn powerdns_applies_the_published_zone_and_its_changes() {
    let upstream = Upstream::plain();
    let publisher = publisher(&upstream, TSIG, &names("a.example\n"));
    serial(&publisher);
    let zones = format!(
        "rpzPrimary(\"{}\", \"policy.test\", {{\n  \
         tsigname=\"transfer.key\", tsigalgo=\"hmac-sha256\", tsigsecret=\"{SECRET}\", refresh=1\n}})\n",
        publisher.address
    );
    let powerdns = filled(Peer::powerdns_with_zones(""), &upstream, &publisher);
    let powerdns = powerdns.start(&[("zones.lua", &zones)]);
    follows(TSIG, &upstream, &publisher, &powerdns, false);
}

#[test]
#[ignore = "needs kdig and dig"]
fn kdig_and_dig_transfer_the_zone_and_accept_each_signature() {
    let upstream = Upstream::plain();
    let publisher = publisher(&upstream, TSIG, &names("a.example\n"));
    let first = serial(&publisher);
    let run = |program: &str, what: &str| {
        let output = Command::new(program)
            .args(["-y", &format!("hmac-sha256:transfer.key:{SECRET}")])
            .arg("@127.0.0.1")
            .args(["-p", &publisher.address.port().to_string()])
            .args([ZONE, what])
            .output()
            .unwrap_or_else(|error| panic!("{program} is installed: {error}"));
        let text = text(&output);
        assert!(output.status.success(), "{program} {what}: {text}");
        for bad in ["WARNING", ";; ERROR", "failed", "Couldn't verify"] {
            assert!(!text.contains(bad), "{program} {what}: {text}");
        }
        text
    };
    for program in ["kdig", "dig"] {
        let whole = run(program, "AXFR");
        let count = whole.matches("A\t0.0.0.0").count();
        assert_eq!(count, 2 * (MANY + 1), "{program}");
        assert!(whole.contains("*.a.example.policy.test."), "{program}");
    }
    publisher.replace("names", &names("b.example\n"));
    until("another serial", || serial(&publisher) != first);
    for program in ["kdig", "dig"] {
        let changes = run(program, &format!("IXFR={first}"));
        assert_eq!(changes.matches("SOA\t").count(), 4, "{changes}");
        assert!(changes.contains("*.b.example.policy.test."), "{changes}");
        assert_eq!(changes.matches("A\t0.0.0.0").count(), 4, "{changes}");
    }
}
