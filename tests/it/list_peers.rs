//! Lists that are configurations of other programs: the programs themselves answer the same. The tests need Debian's
//! packages dnsmasq-base and unbound, so they only run on request.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::support::client::{ask, data, rcode};
use crate::support::peers::Peer;
use crate::support::server::{Server, list, preamble};
use crate::support::upstream::Upstream;

fn answer(server: SocketAddr, name: &str, rtype: RecordType) -> (ResponseCode, Vec<String>) {
    let answer = ask(server, name, rtype);
    let mut data = data(&answer);
    data.sort();
    (rcode(&answer), data)
}

/// Compares a program, which has these options, with a server that has them as a list. `explained` says which answers may
/// differ.
fn compare(
    (peer, format, options): (Peer, &str, &str),
    names: &[&str],
    explained: impl Fn(&str) -> bool,
) {
    let upstream = Upstream::plain();
    let port = upstream.address.port().to_string();
    let options = options.replace("UPSTREAM", &port);
    let peer = peer.with(&[("UPSTREAM", &port)]).start(&[]);
    let config = preamble(upstream.address) + &list("ads", &format!("format = \"{format}\""));
    let server = Server::start(&config, &[("ads", &options)]);
    for name in names.iter().filter(|name| !explained(name)) {
        for rtype in [RecordType::A, RecordType::AAAA, RecordType::TXT] {
            let (expected, found) = (
                answer(peer.address, name, rtype),
                answer(server.address, name, rtype),
            );
            assert_eq!(found, expected, "{format}: {name} {rtype}");
        }
    }
    server.assert_well();
}

#[test]
#[ignore = "needs dnsmasq"]
fn a_configuration_of_dnsmasq_as_a_list_answers_like_dnsmasq() {
    let options = "\
address=/ads.example/#
server=/fine.ads.example/127.0.0.1#UPSTREAM
server=/open.ads.example/#
address=/bad.fine.ads.example/192.0.2.7
local=/lan.example/
server=/x.lan.example/y.lan.example/127.0.0.1#UPSTREAM
";
    let names = [
        "ads.example",
        "x.ads.example",
        "fine.ads.example",
        "x.fine.ads.example",
        "open.ads.example",
        "bad.fine.ads.example",
        "x.bad.fine.ads.example",
        "lan.example",
        "z.lan.example",
        "x.lan.example",
        "z.y.lan.example",
        "free.example",
    ];
    // NXDOMAIN would deny the names below that are forwarded, too (RFC 8020).
    let is_denied = |name: &str| name == "lan.example";
    compare(
        (Peer::dnsmasq(options), "dnsmasq", options),
        &names,
        is_denied,
    );
}

#[test]
#[ignore = "needs unbound"]
fn zones_of_unbound_as_a_list_answer_like_unbound() {
    let zones = "  local-zone: \"t.example\" typetransparent
  local-data: \"a.t.example A 192.0.2.7\"
  local-data: \"b.t.example TXT text\"
  local-data: \"c.t.example TXT text\"
  local-data: \"c.t.example A 192.0.2.8\"
  local-data: \"d.t.example AAAA ::\"
  local-zone: \"u.example\" transparent
  local-data: \"a.u.example A 192.0.2.7\"
  local-data: \"b.u.example TXT text\"
  local-data: \"v.example TXT text\"
";
    let options =
        format!("  module-config: \"iterator\"\n  access-control: 127.0.0.0/8 allow\n{zones}");
    let names = [
        "t.example",
        "a.t.example",
        "x.a.t.example",
        "b.t.example",
        "c.t.example",
        "d.t.example",
        "e.t.example",
        "u.example",
        "a.u.example",
        "b.u.example",
        "x.b.u.example",
        "v.example",
        "x.v.example",
    ];
    compare(
        (Peer::unbound(&options, ""), "unbound", zones),
        &names,
        |_| false,
    );
}
