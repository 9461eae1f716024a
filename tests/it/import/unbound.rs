//! The answers of Unbound, and those after the import of its configuration.

use std::fmt::Write;

use super::compared::{compare, start_imported};
use super::truth::{Site, questions};
use crate::support::peers::Peer;

const SERVER: &str = "\
  module-config: \"respip iterator\"
  access-control: 127.0.0.0/8 allow
  local-zone: \"walled.example\" redirect
  local-data: \"walled.example A 192.0.2.7\"
  local-zone: \"10.in-addr.arpa\" transparent
  local-zone: \"9.168.192.in-addr.arpa\" transparent
  local-zone: \"lan\" static
  local-data: \"nas.lan A 192.168.1.5\"
  local-data: \"nas.lan AAAA fd00::5\"
  local-data: 'info.lan TXT \"a text\"'
  local-data: \"mail.lan MX 10 nas.lan.\"
  local-data: \"_sip._udp.lan SRV 1 2 5060 nas.lan.\"
  local-data: \"box.example A 192.168.1.6\"
  local-data-ptr: \"192.168.1.5 nas.lan\"
  include: \"DIR/ads.conf\"
";

const ZONES: &str = "\
forward-zone:
  name: \"corp.example\"
  forward-addr: 127.0.0.1@SECOND
forward-zone:
  name: \"other.example\"
  forward-addr: 127.0.0.1@SECOND
rpz:
  name: \"policy.example\"
  zonefile: \"DIR/policy.zone\"
";

/// Blocking zones of all types, and a policy zone, with the names that the test asks for.
fn files() -> ([(&'static str, String); 2], Vec<String>) {
    let (mut ads, mut policy) = (String::new(), super::bind::POLICY_HEAD.to_owned());
    let names = "walled.example lan nas.lan info.lan mail.lan _sip._udp.lan box.example 5.1.168.192.in-addr.arpa \
                 7.6.5.10.in-addr.arpa 5.9.168.192.in-addr.arpa 5.8.168.192.in-addr.arpa corp.example other.example";
    let mut names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
    let types = "always_null always_nxdomain always_nodata always_refuse refuse static";
    for at in 0..90 {
        let kind = types.split(' ').nth(at % 6).expect("a type");
        writeln!(ads, "local-zone: \"zone{at}.ads.net\" {kind}").expect("memory");
        writeln!(ads, "local-data: \"host{at}.home.org A 192.168.2.{at}\"").expect("memory");
        let action = super::bind::ACTIONS[at % super::bind::ACTIONS.len()];
        writeln!(
            policy,
            "policy{at}.ads.com {action}\n*.policy{at}.ads.com {action}"
        )
        .expect("memory");
        names.extend([format!("zone{at}.ads.net"), format!("host{at}.home.org")]);
        names.extend([format!("policy{at}.ads.com"), format!("m{at}.corp.example")]);
        names.push(format!("free{at}.test-{at}.net"));
    }
    ([("ads.conf", ads), ("policy.zone", policy)], names)
}

#[test]
#[ignore = "needs unbound"]
fn an_imported_configuration_of_unbound_gives_the_same_answers() {
    let (first, second) = (Site(1).start(), Site(2).start());
    let ports = [first.address, second.address].map(|address| address.port().to_string());
    let (files, names) = files();
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let peer = Peer::unbound(SERVER, ZONES)
        .with(&[("UPSTREAM", &ports[0]), ("SECOND", &ports[1])])
        .start(&files);
    let server = start_imported(peer.folder.path(), "unbound", "config");
    let questions = questions(names.iter().map(String::as_str));
    compare(peer.address, &server, &questions, &[], |_, _, _| None);
}
