//! The answers of dnsmasq, and those after the import of its configuration.

use std::fmt::Write;

use hickory_proto::op::ResponseCode;

use super::compared::{compare, start_imported};
use super::truth::{Answer, Question, Site, is_in, questions};
use crate::support::peers::Peer;

const OTHER_TYPES: &str = "dnsmasq asks upstream for types of which a local name has no record";
const RFC_8020: &str = "NXDOMAIN would deny a name below that is not blocked (RFC 8020)";
const RULE_TYPES: &str = "dnsmasq asks upstream for types of which a rule has no address; here, a blocked name has no other records";
const HOSTS_LIST: &str = "a hosts file that blocks is a list, which blocks all types";

/// Rules, records and forwarded zones, with the names that the test asks for.
fn configuration() -> (String, Vec<String>) {
    let mut text = "\
address=/gone.example/
server=/open.gone.example/#
local=/lan/
server=/sub.lan/127.0.0.1#SECOND
server=/corp.example/other.example/127.0.0.1#SECOND
server=/general.corp.example/#
server=/inner.corp.example/
cname=www.lan,nas.lan
cname=alias.example,nas.lan
cname=outer.example,box.example
txt-record=info.lan,a text
mx-host=mail.lan,nas.lan,10
srv-host=_sip._udp.lan,nas.lan,5060,1,2
ptr-record=7.1.168.192.in-addr.arpa,printer.lan
host-record=nas.lan,files.lan,192.168.1.5,fd00::5
host-record=box.example,192.168.1.6
addn-hosts=DIR/ads.hosts
addn-hosts=DIR/zero.hosts
addn-hosts=DIR/office.hosts
conf-file=DIR/rules.conf
"
    .to_owned();
    let names = "gone.example open.gone.example lan sub.lan corp.example other.example www.lan alias.example outer.example \
                 general.corp.example inner.corp.example \
                 info.lan mail.lan _sip._udp.lan nas.lan files.lan box.example 7.1.168.192.in-addr.arpa 5.1.168.192.in-addr.arpa";
    let mut names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
    for at in 0..30 {
        let host = at + 1;
        writeln!(text, "host-record=h{at}.lan,192.168.2.{host}").expect("memory");
        names.extend([
            format!("h{at}.lan"),
            format!("{host}.2.168.192.in-addr.arpa"),
        ]);
        names.extend([
            format!("m{at}.corp.example"),
            format!("free{at}.test-{at}.net"),
        ]);
    }
    (text, names)
}

/// Files of rules: those that dnsmasq reads, and those with the form of a hosts file.
fn files(names: &mut Vec<String>) -> [(&'static str, String); 4] {
    let mut files =
        ["rules.conf", "ads.hosts", "zero.hosts", "office.hosts"].map(|name| (name, String::new()));
    for at in 0..75 {
        let targets = ["#", "0.0.0.0", "192.0.2.7", "", "2001:db8::7", "::"];
        let target = targets[at % targets.len()];
        writeln!(files[0].1, "address=/rule{at}.ads.net/{target}").expect("memory");
        writeln!(files[1].1, "127.0.0.1 host{at}.ads.org").expect("memory");
        writeln!(files[2].1, "0.0.0.0 zero{at}.ads.com").expect("memory");
        writeln!(files[3].1, "192.168.3.{at} desk{at}.office.example").expect("memory");
        names.extend([format!("rule{at}.ads.net"), format!("host{at}.ads.org")]);
        names.extend([
            format!("zero{at}.ads.com"),
            format!("desk{at}.office.example"),
        ]);
    }
    files
}

#[test]
#[ignore = "needs dnsmasq"]
fn an_imported_configuration_of_dnsmasq_gives_the_same_answers() {
    let (first, second) = (Site(1).start(), Site(2).start());
    let (options, mut names) = configuration();
    let files = files(&mut names);
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let ports = [first.address, second.address].map(|address| address.port().to_string());
    let peer = Peer::dnsmasq(&options)
        .with(&[("UPSTREAM", &ports[0]), ("SECOND", &ports[1])])
        .start(&files);
    let server = start_imported(peer.folder.path(), "dnsmasq", "dnsmasq.conf");
    let questions = questions(names.iter().map(String::as_str));
    let reasons = [OTHER_TYPES, RULE_TYPES, RFC_8020, HOSTS_LIST];
    compare(peer.address, &server, &questions, &reasons, difference);
}

fn difference(question: &Question, before: &Answer, after: &Answer) -> Option<&'static str> {
    let name = question.name.as_str();
    let truth = Site(1).answer(question);
    // For names that it knows, dnsmasq changes upstream's NXDOMAIN to NODATA.
    let is_upstream = *before == truth || before.records.is_empty() && truth.records.is_empty();
    let is_sinkhole = |addresses| *after == Answer::sinkhole(question, addresses);
    let is_blocked = after.is_nodata() || is_sinkhole(["0.0.0.0", "::"]);
    if name == "gone.example" && before.code == ResponseCode::NXDomain && after.is_nodata() {
        return Some(RFC_8020);
    }
    if !is_upstream {
        return None;
    }
    if is_in(name, "ads.net") {
        return is_blocked.then_some(RULE_TYPES);
    }
    if is_in(name, "ads.org") || is_in(name, "ads.com") {
        return (is_blocked || is_sinkhole(["127.0.0.1", "::1"])).then_some(HOSTS_LIST);
    }
    after.is_nodata().then_some(OTHER_TYPES)
}
