//! The server as a secondary of BIND, Knot DNS and NSD: signed transfers, NOTIFY, changes by IXFR, and primaries that
//! fail meanwhile. They need Debian's packages bind9, knot and nsd, so they only run on request:
//! `cargo test --test it -- --ignored`.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::support::client::{ask, until};
use crate::support::peers::{KNOT_KEY, Peer, Program, policy_zone};
use crate::support::port::free_port;
use crate::support::server::{Server, folder, preamble};
use crate::support::signer::{OTHER_SECRET, SECRET};
use crate::support::tls::authority;
use crate::support::upstream::Upstream;

const ZONE: &str = "feed.test";

/// Names that all versions of the zone block.
const NAMES: usize = 500;

/// BIND finds the differences of files when it loads them again.
fn bind() -> Peer {
    let options = "\
  listen-on port ENCRYPTED tls tls { 127.0.0.1; };
  recursion no;
  check-integrity no;
  ixfr-from-differences yes;
  allow-transfer { key \"transfer.key\"; };
  notify explicit;
  notify-delay 0;
  also-notify { 127.0.0.1 port TAPIS key \"transfer.key\"; };
";
    let sections = "\
key \"transfer.key\" { algorithm hmac-sha256; secret \"SECRET\"; };
tls tls { cert-file \"CERT\"; key-file \"KEY\"; };
zone \"feed.test\" { type primary; file \"zone\"; };
";
    Peer::bind(options, sections)
}

fn knot() -> Peer {
    let sections = "\
remote:
  - id: tapis
    address: 127.0.0.1@TAPIS
    key: transfer.key
zone:
  - domain: feed.test
    file: DIR/zone
    zonefile-load: difference
    notify: tapis
    acl: transfer
";
    Peer::knot(&[KNOT_KEY, sections].concat()).with(&[("ALGORITHM", "hmac-sha256")])
}

fn nsd() -> Peer {
    let options = "\
  ip-address: 127.0.0.1@ENCRYPTED
  tls-port: ENCRYPTED
  tls-service-key: \"KEY\"
  tls-service-pem: \"CERT\"
";
    let sections = "\
key:
  name: \"transfer.key\"
  algorithm: hmac-sha256
  secret: \"SECRET\"
zone:
  name: \"feed.test\"
  zonefile: \"zone\"
  store-ixfr: yes
  create-ixfr: yes
  provide-xfr: 127.0.0.1 transfer.key
  notify: 127.0.0.1@TAPIS transfer.key
";
    Peer::nsd(options, sections)
}

/// The version of the zone with this serial. It blocks `n` and its serial besides the names of all versions.
fn zone(serial: u32) -> String {
    format!("{}n{serial} CNAME .\n", policy_zone(serial, NAMES))
}

/// The primary and its secondary, both not started yet.
struct Pair {
    peer: Peer,
    upstream: Upstream,
    /// The ports of the server, and of the primary for TLS.
    tapis: u16,
    encrypted: u16,
}

impl Pair {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            upstream: Upstream::plain(),
            tapis: free_port(),
            encrypted: free_port(),
        }
    }

    /// The primary with this secret.
    fn peer(&self, secret: &str) -> Peer {
        let certificates = authority();
        let certificates = certificates.parent().expect("a folder");
        let file = |name: &str| certificates.join(name).display().to_string();
        self.peer.clone().with(&[
            ("SECRET", secret),
            ("TAPIS", &self.tapis.to_string()),
            ("ENCRYPTED", &self.encrypted.to_string()),
            ("CERT", &file("primary.pem")),
            ("KEY", &file("primary.key")),
        ])
    }

    /// Starts the primary with version 1 of the zone.
    fn primary(&self, secret: &str) -> Program {
        self.peer(secret).start(&[("zone", &zone(1))])
    }

    /// Starts the server. Only a signature permits NOTIFY.
    fn server(&self, primary: &str) -> Server {
        let listen = format!("127.0.0.1:{}", self.tapis);
        let config = format!(
            "{}[state]\ndir = \"state\"\n[[feed]]\nname = \"feed\"\nzone = \"{ZONE}\"\nprimaries = [{primary}]\n\
             tsig = {{ name = \"transfer.key\", secret-file = \"secret\" }}\nnotify-from = []\nretry-secs = 5\n",
            preamble(self.upstream.address).replace("127.0.0.1:0", &listen)
        );
        let folder = folder(&config, &[("secret", SECRET)]);
        let secret = folder.path().join("secret");
        fs::set_permissions(secret, Permissions::from_mode(0o600)).expect("changed");
        Server::start_in(folder)
    }
}

fn plain(address: SocketAddr) -> String {
    format!("\"{address}\"")
}

/// The feed in `status`.
fn report(server: &Server) -> Value {
    server.status()["feeds"][0].clone()
}

/// Waits for a version, and checks its rules: its name is blocked, and that of the version before is not.
fn in_force(server: &Server, serial: u32) {
    until(&format!("serial {serial} is in force"), || {
        report(server)["serial"] == serial
    });
    let is_blocked = |name: &str| {
        let answer = ask(server.address, name, RecordType::A);
        answer.metadata.response_code == ResponseCode::NXDomain
    };
    assert!(is_blocked(&format!("n{serial}")));
    assert!(!is_blocked(&format!("n{}", serial - 1)));
    assert!(is_blocked("site7.example") && is_blocked("www.site7.example"));
}

/// Replaces the zone's file, and has it loaded.
fn change(primary: &Program, serial: u32) {
    let new = primary.folder.path().join("new-zone");
    fs::write(&new, zone(serial)).expect("written");
    fs::rename(new, primary.folder.path().join("zone")).expect("renamed");
    primary.hang_up();
}

/// The transfers in the log: whole zones and changes.
fn transfers(server: &Server) -> (usize, usize) {
    let log = server.log();
    let count = |kind: &str| log.matches(&format!("kind=\"{kind}\"")).count();
    (count("whole zone"), count("changes"))
}

/// Changes of the zone arrive by NOTIFY and IXFR, also after the primary was restarted.
fn follows(mut primary: Program, server: &Server) {
    in_force(server, 1);
    for serial in [2, 3] {
        change(&primary, serial);
        in_force(server, serial);
    }
    assert_eq!(transfers(server), (1, 2));
    let accepted = server.count("notify_accepted");
    assert!(accepted >= 2, "{accepted}");
    assert_eq!(server.count("notify_not_authentic"), 0);
    let fault = || report(server)["primaries"][0]["fault"].clone();
    primary.stop();
    let refresh = server.verb(&["feed", "refresh", "feed", "--no-wait"]);
    assert!(refresh.status.success());
    until("the fault is reported", || fault() == "unreachable");
    in_force(server, 3);
    primary.start_again();
    until("it is asked again", || fault() == Value::Null);
    change(&primary, 4);
    in_force(server, 4);
}

fn follows_plain(peer: Peer) {
    let pair = Pair::new(peer);
    let primary = pair.primary(SECRET);
    let server = pair.server(&plain(primary.address));
    follows(primary, &server);
}

fn follows_encrypted(peer: Peer) {
    let pair = Pair::new(peer);
    let primary = pair.primary(SECRET);
    let address = format!(
        "{{ address = \"127.0.0.1\", port = {}, tls = \"primary.test\", tls-ca = \"{}\" }}",
        pair.encrypted,
        authority().display()
    );
    let server = pair.server(&address);
    follows(primary, &server);
}

/// While the primary has another secret, neither its zone nor its NOTIFY count.
fn notices_another_secret(peer: Peer) {
    let pair = Pair::new(peer);
    let mut primary = pair.primary(OTHER_SECRET);
    let server = pair.server(&plain(primary.address));
    until("the fault is reported", || {
        report(&server)["primaries"][0]["fault"] == "tsig-wrong"
    });
    change(&primary, 2);
    until("its NOTIFY is rejected", || {
        server.count("notify_not_authentic") > 0
    });
    assert_eq!(server.count("notify_accepted"), 0);
    assert_eq!(report(&server)["serial"], Value::Null);
    primary.stop();
    let port = primary.address.port().to_string();
    let path = primary.folder.path().display().to_string();
    let peer = pair.peer(SECRET).with(&[("PORT", &port), ("DIR", &path)]);
    fs::write(primary.folder.path().join(peer.file), peer.config).expect("written");
    primary.start_again();
    in_force(&server, 2);
}

#[test]
#[ignore = "needs named"]
fn a_zone_of_bind_follows_its_changes() {
    follows_plain(bind());
}

#[test]
#[ignore = "needs named"]
fn a_zone_of_bind_follows_its_changes_over_tls() {
    follows_encrypted(bind());
}

#[test]
#[ignore = "needs named"]
fn bind_with_another_secret_is_noticed() {
    notices_another_secret(bind());
}

#[test]
#[ignore = "needs knotd"]
fn a_zone_of_knot_dns_follows_its_changes() {
    follows_plain(knot());
}

#[test]
#[ignore = "needs knotd"]
fn knot_dns_with_another_secret_is_noticed() {
    notices_another_secret(knot());
}

#[test]
#[ignore = "needs nsd"]
fn a_zone_of_nsd_follows_its_changes() {
    follows_plain(nsd());
}

#[test]
#[ignore = "needs nsd"]
fn a_zone_of_nsd_follows_its_changes_over_tls() {
    follows_encrypted(nsd());
}

#[test]
#[ignore = "needs nsd"]
fn nsd_with_another_secret_is_noticed() {
    notices_another_secret(nsd());
}
