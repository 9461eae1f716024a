//! The answers of BIND, and those after the import of its configuration.

use std::fmt::Write;

use super::compared::{compare, start_imported};
use super::truth::{Site, questions};
use crate::support::peers::Peer;

/// The beginning of a policy zone.
pub(super) const POLICY_HEAD: &str = "$ORIGIN policy.example.\n$TTL 60\n@ SOA localhost. admin.localhost. 1 900 60 86400 60\n@ NS localhost.\n";
/// What the records of a policy zone do: NXDOMAIN, NODATA, addresses, another name, nothing.
pub(super) const ACTIONS: [&str; 5] = [
    "CNAME .",
    "CNAME *.",
    "A 192.0.2.7",
    "CNAME walled.test-0.net.",
    "CNAME rpz-passthru.",
];

const OPTIONS: &str = "  response-policy { zone \"policy.example\"; } break-dnssec yes;\n";

const ZONES: &str = "\
acl office { 127.0.0.0/8; };
zone \"policy.example\" { type primary; file \"policy.zone\"; };
zone \"lan\" { type master; file \"lan.zone\"; };
zone \"2.168.192.in-addr.arpa\" { type primary; file \"reverse.zone\"; };
zone \"corp.example\" { type forward; forward only; forwarders { 127.0.0.1 port SECOND; }; };
zone \"other.example\" { type forward; forward only; forwarders { 127.0.0.1 port SECOND; }; };
";

/// A policy zone and two local zones, with the names that the test asks for.
fn files() -> ([(&'static str, String); 3], Vec<String>) {
    let mut policy = POLICY_HEAD.to_owned();
    let apex = "$TTL 300\n@ SOA ns admin 1 900 60 86400 60\n@ NS ns.lan.\n";
    let mut lan = format!(
        "{apex}ns A 192.168.2.1\nwww CNAME nas\nnas A 192.168.1.5\nnas AAAA fd00::5\ninfo TXT \"a text\"\nmail MX 10 nas\n_sip._udp SRV 1 2 5060 nas\n"
    );
    let mut reverse = apex.to_owned();
    let names =
        "lan www.lan nas.lan info.lan mail.lan _sip._udp.lan ns.lan corp.example other.example";
    let mut names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
    for at in 0..90 {
        let action = ACTIONS[at % ACTIONS.len()];
        writeln!(
            policy,
            "policy{at}.ads.com {action}\n*.policy{at}.ads.com {action}"
        )
        .expect("memory");
        writeln!(lan, "host{at} A 192.168.2.{at}").expect("memory");
        writeln!(reverse, "{at} PTR host{at}.lan.").expect("memory");
        names.extend([format!("policy{at}.ads.com"), format!("host{at}.lan")]);
        names.extend([
            format!("{at}.2.168.192.in-addr.arpa"),
            format!("m{at}.corp.example"),
        ]);
        names.push(format!("free{at}.test-{at}.net"));
    }
    let files = [
        ("policy.zone", policy),
        ("lan.zone", lan),
        ("reverse.zone", reverse),
    ];
    (files, names)
}

#[test]
#[ignore = "needs BIND"]
fn an_imported_configuration_of_bind_gives_the_same_answers() {
    let (first, second) = (Site(1).start(), Site(2).start());
    let ports = [first.address, second.address].map(|address| address.port().to_string());
    let (files, names) = files();
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let peer = Peer::bind_resolver(OPTIONS, ZONES)
        .with(&[
            ("UPSTREAM", &ports[0]),
            ("SECOND", &ports[1]),
            ("allow-recursion { any; }", "allow-recursion { office; }"),
        ])
        .start(&files);
    let server = start_imported(peer.folder.path(), "bind", "named.conf");
    let questions = questions(names.iter().map(String::as_str));
    compare(peer.address, &server, &questions, &[], |_, _, _| None);
}
