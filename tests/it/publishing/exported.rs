//! Exported files: BIND and Knot Resolver load them, and answer as the publisher. These tests need Debian's packages bind9,
//! bind9-utils, knot-resolver and lua-cqueues, so they only run on request: `cargo test --test it -- --ignored`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::{ZONE, config, directory, published, serial};
use crate::support::client::{ask, data, rcode, until};
use crate::support::peers::{Peer, Program};
use crate::support::server::{Server, list, text};
use crate::support::upstream::Upstream;

const BIND_OPTIONS: &str = "\
  response-policy { zone \"policy.test\"; } break-dnssec yes qname-wait-recurse no min-update-interval 0;
";
const BIND_SECTIONS: &str = "zone \"policy.test\" { type primary; file \"EXPORTED\"; };\n";

const KNOT_RESOLVER: &str = "\
local rules = policy.rpz(policy.DENY, 'EXPORTED')
local forward = policy.STUB('127.0.0.1@UPSTREAM')
policy.add(function (request, query)
  local action = rules(request, query)
  return action ~= policy.PASS and action or forward
end)
";

/// The lists by their settings: each action, and names that are allowed below blocked ones.
const LISTS: [(&str, &str, &str); 3] = [
    (
        "allowed",
        "kind = \"allow\"\nscope = \"exact\"",
        "free.a.example\n",
    ),
    (
        "denied",
        "action = \"nxdomain\"\nscope = \"subtree\"",
        "c.example\nx.d.example\n",
    ),
    (
        "empty",
        "action = \"nodata\"\nscope = \"exact\"",
        "e.example\n",
    ),
];

const NAMES: [&str; 14] = [
    "a.example",
    "x.a.example",
    "free.a.example",
    "x.free.a.example",
    "b.example",
    "x.b.example",
    "c.example",
    "y.x.c.example",
    "d.example",
    "x.d.example",
    "e.example",
    "x.e.example",
    "f.example",
    "other.example",
];

/// A publisher whose zone is exported as `exported.zone`.
fn exporter(upstream: &Upstream) -> Server {
    let plain = config(upstream, "export = \"exported.zone\"\n");
    let lists = LISTS.map(|(name, more, _)| list(name, more)).concat();
    let config = plain.replacen("[[publish]]", &format!("{lists}[[publish]]"), 1);
    let mut files = LISTS.map(|(name, _, content)| (name, content)).to_vec();
    files.push(("names", "a.example\nb.example\n"));
    let server = Server::start_in(directory(&config, &files));
    exported(&server);
    server
}

/// Waits until the newest version is exported.
fn exported(server: &Server) {
    until("the file", || {
        published(server)["export"]["serial"] == serial(server)
    });
}

/// Starts a server that loads the exported file.
fn start(peer: Peer, upstream: &Upstream, exporter: &Server) -> Program {
    let port = upstream.address.port().to_string();
    let exported = exporter.path("exported.zone").display().to_string();
    let words = [("UPSTREAM", &*port), ("EXPORTED", &*exported)];
    peer.with(&words).start(&[])
}

/// What a server answers to queries for each name.
fn answers(server: SocketAddr) -> Vec<(&'static str, ResponseCode, Vec<String>)> {
    let each = NAMES.iter().map(|name| {
        let answer = ask(server, name, RecordType::A);
        (*name, rcode(&answer), data(&answer))
    });
    each.collect()
}

/// Checks that the other server answers as the publisher, before and after a change. `reload` makes it read the file again.
fn agrees(publisher: &Server, other: &Program, reload: impl Fn()) {
    let ours = answers(publisher.address);
    assert_eq!(answers(other.address), ours);
    let found = |name| ours.iter().find(|(of, ..)| *of == name).expect("asked");
    for (name, code, data) in [
        ("x.a.example", ResponseCode::NoError, "0.0.0.0"),
        ("free.a.example", ResponseCode::NoError, "192.0.2.1"),
        ("c.example", ResponseCode::NXDomain, ""),
        ("e.example", ResponseCode::NoError, ""),
        ("other.example", ResponseCode::NoError, "192.0.2.1"),
    ] {
        let (_, code_found, data_found) = found(name);
        assert_eq!((*code_found, &*data_found.concat()), (code, data), "{name}");
    }
    let before = serial(publisher);
    publisher.replace("names", "b.example\nf.example\n");
    until("another serial", || serial(publisher) != before);
    exported(publisher);
    reload();
    let ours = answers(publisher.address);
    until("the change", || answers(other.address) == ours);
}

#[test]
#[ignore = "needs BIND"]
fn bind_loads_an_exported_file_and_answers_as_the_publisher() {
    let upstream = Upstream::plain();
    let publisher = exporter(&upstream);
    let bind = Peer::bind_resolver(BIND_OPTIONS, BIND_SECTIONS);
    let bind = start(bind, &upstream, &publisher);
    agrees(&publisher, &bind, || bind.hang_up());
}

#[test]
#[ignore = "needs Knot Resolver"]
fn knot_resolver_reads_an_exported_file_and_each_newer_one() {
    let upstream = Upstream::plain();
    let publisher = exporter(&upstream);
    let resolver = Peer::knot_resolver(KNOT_RESOLVER);
    let resolver = start(resolver, &upstream, &publisher);
    // It watches the file.
    agrees(&publisher, &resolver, || ());
}

#[test]
#[ignore = "needs BIND's utilities"]
fn named_checkzone_accepts_exported_files() {
    let upstream = Upstream::plain();
    let publisher = exporter(&upstream);
    let valid = |zone: &str, file: &Path| {
        let checked = Command::new("named-checkzone").arg(zone).arg(file).output();
        let checked = checked.expect("named-checkzone is installed");
        assert!(checked.status.success(), "{}", text(&checked));
        text(&checked)
    };
    let printed = valid(ZONE, &publisher.path("exported.zone"));
    let loaded = format!("loaded serial {}", serial(&publisher));
    assert!(printed.contains(&loaded), "{printed}");
    let path = publisher.path("denied.zone");
    let output = format!("--output={}", path.display());
    let written = publisher.verb(&["export", "denied", "--format=rpz", &output]);
    assert!(written.status.success(), "{}", text(&written));
    valid("denied", &path);
}
