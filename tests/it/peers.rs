//! Interoperability: NSD as upstream, Unbound or PowerDNS Recursor as clients that cache, dig and
//! kdig as clients. The tests need Debian's packages nsd, unbound, pdns-recursor, bind9-dnsutils
//! and knot-dnsutils, so they only run on request:
//! `cargo test --test it -- --ignored`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::orders::{order, target};
use crate::support::peers::{Peer, Program};
use crate::support::server::{Server, folder, list, preamble};

/// The section of NSD for its only zone, the root.
const ROOT: &str = "zone:\n  name: \".\"\n  zonefile: \"root\"\n";

/// NSD, which answers everything.
fn nsd(zones: &str) -> Peer {
    Peer::nsd("  rrl-ratelimit: 0\n", zones)
}

fn root() -> Program {
    let mut zone = "\
$TTL 300
. IN SOA ns. host. 1 3600 600 86400 30
. IN NS ns.
ns. IN A 127.0.0.1
*.example. IN A 192.0.2.1
sub.exact.example. IN A 192.0.2.2
alias.example. IN CNAME blocked.example.
"
    .to_owned();
    for n in 0..30 {
        zone += &format!("long.example. IN TXT \"{n}-{}\"\n", "x".repeat(200));
    }
    nsd(ROOT).start(&[("root", &zone)])
}

/// Starts a resolver that asks the server.
fn before(server: SocketAddr, resolver: Peer, files: &[(&str, &str)]) -> Program {
    let port = server.port().to_string();
    resolver.with(&[("UPSTREAM", &port)]).start(files)
}

fn unbound(server: SocketAddr) -> Program {
    let options = "  harden-below-nxdomain: yes\n  module-config: \"iterator\"\n";
    before(server, Peer::unbound(options, ""), &[])
}

/// Unbound, validating names below the zone of that key.
fn validating(server: SocketAddr, key: &str) -> Program {
    let options = "  trust-anchor-file: \"DIR/key\"\n  module-config: \"validator iterator\"\n";
    before(server, Peer::unbound(options, ""), &[("key", key)])
}

/// PowerDNS Recursor, which denies all names below one for which it got NXDOMAIN.
fn powerdns(server: SocketAddr) -> Program {
    before(server, Peer::powerdns("nothing-below-nxdomain=yes\n"), &[])
}

/// The output of a client program for a query.
fn output(program: &str, server: SocketAddr, arguments: &[&str]) -> String {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let output = Command::new(program)
        .args([&at, "-p", &port])
        .args(arguments)
        .output()
        .expect("the client is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    output(
        "dig",
        server,
        &[&["+timeout=5", "+tries=1"], arguments].concat(),
    )
}

fn server(upstream: &Program) -> Server {
    let config = preamble(upstream.address)
        + &list("ads", "ede = \"censored\"")
        + &list("exact", "action = \"nxdomain\"");
    let files = [("ads", "blocked.example\n"), ("exact", "exact.example\n")];
    Server::start(&config, &files)
}

#[test]
#[ignore = "needs nsd and dig"]
fn dig_parses_blocked_answers_and_those_of_nsd() {
    let nsd = root();
    let server = server(&nsd);
    let blocked = dig(server.address, &["BLOCKED.example", "A"]);
    for part in [
        "status: NOERROR",
        "0.0.0.0",
        "EDE: 16 (Censored): (ads)",
        "flags: qr rd ra;",
    ] {
        assert!(blocked.contains(part), "{part} in {blocked}");
    }
    let https = dig(server.address, &["blocked.example", "HTTPS", "+tcp"]);
    assert!(
        https.contains("ANSWER: 0, AUTHORITY: 1") && https.contains("SOA"),
        "{https}"
    );
    assert_eq!(
        dig(server.address, &["free.example", "+short"]),
        "192.0.2.1\n"
    );
    let alias = dig(server.address, &["alias.example", "+short"]);
    assert_eq!(alias, "blocked.example.\n0.0.0.0\n");
    let long = dig(server.address, &["long.example", "TXT", "+short"]);
    assert_eq!(
        long.lines().count(),
        30,
        "fetched by TCP on both sides: {long}"
    );
    let transfer = dig(server.address, &["example.", "AXFR"]);
    assert!(transfer.contains("Transfer failed"), "{transfer}");
    let badvers = dig(server.address, &["free.example", "+edns=1", "+noednsneg"]);
    assert!(badvers.contains("status: BADVERS"), "{badvers}");
}

#[test]
#[ignore = "needs nsd and kdig"]
fn kdig_sends_many_queries_over_one_connection() {
    let nsd = root();
    let server = server(&nsd);
    let report = output(
        "kdig",
        server.address,
        &[
            "+tcp",
            "+keepopen",
            "blocked.example",
            "free.example",
            "long.example",
            "TXT",
        ],
    );
    assert!(
        report.contains("0.0.0.0") && report.contains("192.0.2.1"),
        "{report}"
    );
    assert_eq!(server.count("tcp_connections"), 1);
}

#[test]
#[ignore = "needs nsd, unbound and dig"]
fn a_cache_in_front_of_us_never_blocks_more_than_we_do() {
    let nsd = root();
    let server = server(&nsd);
    let front = unbound(server.address);
    assert_eq!(
        dig(front.address, &["blocked.example", "+short"]),
        "0.0.0.0\n"
    );
    // An NXDOMAIN would make Unbound deny all names below (RFC 8020).
    let exact = dig(front.address, &["exact.example"]);
    assert!(
        exact.contains("status: NOERROR") && exact.contains("ANSWER: 0"),
        "{exact}"
    );
    assert_eq!(
        dig(front.address, &["sub.exact.example", "+short"]),
        "192.0.2.2\n"
    );
    assert_eq!(
        dig(front.address, &["alias.example", "+short"]),
        "blocked.example.\n0.0.0.0\n"
    );
}

#[test]
#[ignore = "needs nsd, pdns_recursor, unbound and dig"]
fn recursors_that_harden_below_nxdomain_still_resolve_unblocked_names() {
    let nsd = root();
    let config = preamble(nsd.address)
        + "[orders]\npath = \"orders\"\n"
        + &list("free", "kind = \"allow\"")
        + &list("tree", "action = \"nxdomain\"");
    let files = [
        ("free", "ok.deep.tree.example\n"),
        ("tree", ".tree.example\n"),
    ];
    let folder = folder(&config, &files);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let dates = "effective-from = 2020-01-01T00:00:00Z\naction = \"nxdomain\"";
    let text = order("x-1", dates, &target("telegram.example", "exact"));
    fs::write(folder.path().join("orders/x-1.toml"), text).expect("written");
    let server = Server::start_in(folder);
    let powerdns = powerdns(server.address);
    let unbound = unbound(server.address);
    for server in [server.address, powerdns.address, unbound.address] {
        let blocked = dig(server, &["telegram.example"]);
        assert!(
            blocked.contains("status: NOERROR") && blocked.contains("ANSWER: 0"),
            "{blocked}"
        );
        assert_eq!(
            dig(server, &["api.telegram.example", "+short"]),
            "192.0.2.1\n"
        );
        // The blocked names first: they are in the recursor's cache afterwards.
        for name in ["tree.example", "deep.tree.example"] {
            let blocked = dig(server, &[name]);
            assert!(
                blocked.contains("status: NOERROR") && blocked.contains("ANSWER: 0"),
                "{blocked}"
            );
        }
        let denied = dig(server, &["other.tree.example"]);
        assert!(denied.contains("status: NXDOMAIN"), "{denied}");
        assert_eq!(
            dig(server, &["ok.deep.tree.example", "+short"]),
            "192.0.2.1\n"
        );
    }
}

/// Runs a tool of ldns in a directory; returns its output.
fn ldns(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(arguments[0])
        .args(&arguments[1..])
        .current_dir(folder)
        .output()
        .expect("ldnsutils is installed");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Signs a zone; returns its zone file, its DNSKEY and its DS.
fn signed(zone: &str, records: &str) -> (String, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let ttl = "$TTL 300\n";
    let head = format!("{zone}. IN SOA ns.{zone}. host.{zone}. 1 3600 600 86400 30\n");
    let ns = format!("{zone}. IN NS ns.{zone}.\nns.{zone}. IN A 127.0.0.1\n");
    fs::write(path.join("zone"), [ttl, &head, &ns, records].concat()).expect("written");
    let keygen = [
        "ldns-keygen",
        "-r",
        "/dev/urandom",
        "-a",
        "ECDSAP256SHA256",
        "-k",
        zone,
    ];
    let key = ldns(path, &keygen);
    let key = key.trim();
    ldns(path, &["ldns-signzone", "-o", zone, "zone", key]);
    let read = |name: String| fs::read_to_string(path.join(name)).expect("made");
    let ds = ldns(path, &["ldns-key2ds", "-n", "-2", &format!("{key}.key")]);
    (
        read("zone.signed".to_owned()),
        read(format!("{key}.key")),
        ds,
    )
}

#[test]
#[ignore = "needs nsd, unbound, dig and ldnsutils"]
fn a_validator_in_front_of_us_accepts_names_below_an_exact_block() {
    let shop = "shop.example. IN A 192.0.2.9\nwww.shop.example. IN A 192.0.2.8\n";
    let (child, _, ds) = signed("shop.example", shop);
    let delegation = "shop.example. IN NS ns.shop.example.\nns.shop.example. IN A 127.0.0.1\n";
    let (parent, key, _) = signed("example", &(delegation.to_owned() + &ds));
    let zones = "\
zone:
  name: \"example\"
  zonefile: \"parent\"
zone:
  name: \"shop.example\"
  zonefile: \"child\"
";
    let files = [("parent", &*parent), ("child", &*child)];
    let nsd = nsd(zones).start(&files);
    for rules in ["shop.example\n", ".shop.example\n"] {
        let lists = list("free", "kind = \"allow\"") + &list("ads", "");
        let files = [("free", "www.shop.example\n"), ("ads", rules)];
        let server = Server::start(&(preamble(nsd.address) + &lists), &files);
        let front = validating(server.address, &key);
        let free = dig(front.address, &["www.shop.example", "A", "+dnssec"]);
        for part in ["status: NOERROR", " ad;", "192.0.2.8"] {
            assert!(free.contains(part), "{part} in {free}");
        }
        let direct = dig(server.address, &["shop.example", "A", "+short"]);
        assert_eq!(direct, "0.0.0.0\n");
    }
}

#[test]
#[ignore = "needs nsd, unbound, dig and ldnsutils"]
fn a_validator_in_front_of_us_accepts_a_forwarded_zone_that_is_unsigned_below_a_signed_parent() {
    let delegation = "corp.example. IN NS ns.corp.example.\nns.corp.example. IN A 127.0.0.1\n";
    let (parent, key, _) = signed("example", delegation);
    let zone = |name: &str| format!("zone:\n  name: \"{name}\"\n  zonefile: \"zone\"\n");
    let default = nsd(&zone("example")).start(&[("zone", &parent)]);
    let records = "\
$TTL 300
corp.example. IN SOA ns.corp.example. host.corp.example. 1 3600 600 86400 30
corp.example. IN NS ns.corp.example.
www.corp.example. IN A 192.0.2.7
";
    let corp = nsd(&zone("corp.example")).start(&[("zone", records)]);
    let sections = format!(
        "[[forward]]\nzone = \"corp.example\"\nservers = [\"{}\"]\n[[local]]\nname = \"own.corp.example\"\na = \"192.0.2.8\"\n",
        corp.address
    );
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    let front = validating(server.address, &key);
    for (name, address) in [
        ("www.corp.example", "192.0.2.7"),
        ("own.corp.example", "192.0.2.8"),
    ] {
        let found = dig(front.address, &[name, "A"]);
        assert!(
            found.contains("status: NOERROR") && found.contains(address),
            "{found}"
        );
    }
    let denied = dig(front.address, &["gone.corp.example", "A"]);
    assert!(denied.contains("status: NXDOMAIN"), "{denied}");
    let ds = dig(server.address, &["corp.example", "DS", "+dnssec"]);
    assert!(ds.contains("NSEC"), "the parent's proof: {ds}");
}
