//! `tapis import`: what it prints and writes, and servers of other programs whose configurations are imported: the same
//! names get the same answers. These tests need Debian's packages dnsmasq-base and unbound, so they only run on request.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::support::client::{ask, data, rcode};
use crate::support::peers::{Peer, Program};
use crate::support::server::{Server, folder, tapis};
use crate::support::upstream::Upstream;

const DNSMASQ: &str =
    "no-resolv\nno-hosts\nserver=9.9.9.9\naddress=/ads.example/#\ndhcp-range=192.0.2.5,192.0.2.9\n";

fn import(arguments: &[&str], folder: &Path) -> Output {
    let mut command = tapis();
    let command = command.current_dir(folder).arg("import");
    command.args(arguments).output().expect("it ran")
}

fn printed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_configuration_and_its_lists_are_written_once_and_what_is_left_is_printed() {
    let folder = folder("", &[("dnsmasq.conf", DNSMASQ)]);
    let output = import(
        &["dnsmasq", "dnsmasq.conf", "--output", "new"],
        folder.path(),
    );
    let errors = printed(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(printed(&output.stdout), "new/tapis.toml\n");
    assert!(errors.contains("dnsmasq.conf:5: dhcp-range: "), "{errors}");
    assert!(
        errors.ends_with("tapis: 2 settings did not carry over\n"),
        "{errors}"
    );
    let rules = fs::read_to_string(folder.path().join("new/dnsmasq-rules.conf"));
    assert_eq!(rules.expect("a list"), "address=/ads.example/#\n");
    let mut check = tapis();
    let check = check.current_dir(folder.path()).args([
        "check",
        "--files-only",
        "--config",
        "new/tapis.toml",
    ]);
    let check = check.output().expect("it ran");
    assert!(
        check.status.success(),
        "{}{}",
        printed(&check.stdout),
        printed(&check.stderr)
    );
    let again = import(
        &["dnsmasq", "dnsmasq.conf", "--output", "new"],
        folder.path(),
    );
    let errors = printed(&again.stderr);
    assert!(
        errors.contains("exists: name another directory"),
        "{errors}"
    );
}

#[test]
fn everything_that_carries_over_is_printed_with_exit_code_0() {
    let text = "server:\n  access-control: 10.0.0.0/8 allow\nforward-zone:\n  name: \".\"\n  forward-addr: 9.9.9.9\n";
    let folder = folder("", &[("unbound.conf", text)]);
    let output = import(&["unbound", "unbound.conf"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output.stderr));
    let config = printed(&output.stdout);
    assert!(
        config.contains("# unbound.conf:5\nservers = [\"9.9.9.9\"]\n"),
        "{config}"
    );
    assert!(output.stderr.is_empty(), "{}", printed(&output.stderr));
}

#[test]
fn lists_that_are_not_written_are_named() {
    let folder = folder("", &[("dnsmasq.conf", DNSMASQ)]);
    let output = import(&["dnsmasq", "."], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let errors = printed(&output.stderr);
    assert!(
        errors.contains("--output DIR writes: dnsmasq-rules.conf"),
        "{errors}"
    );
    let output = import(&["bind", "dnsmasq.conf"], folder.path());
    let errors = printed(&output.stderr);
    assert!(
        errors.contains("use `tapis import dnsmasq FILE`"),
        "{errors}"
    );
    let output = import(&["maradns", "dnsmasq.conf"], folder.path());
    assert_eq!(output.status.code(), Some(2), "{}", printed(&output.stderr));
}

/// An answer, as far as both programs must agree: the response code, and the data of the records.
#[derive(Debug, PartialEq, Eq)]
struct Agreed {
    code: ResponseCode,
    data: Vec<String>,
}

fn agreed(server: SocketAddr, name: &str, rtype: RecordType) -> Agreed {
    let answer = ask(server, name, rtype);
    let mut data = data(&answer);
    data.sort();
    Agreed {
        code: rcode(&answer),
        data,
    }
}

/// Starts Tapis with the imported configuration of a peer.
fn import_of(peer: &Program, tool: &str, file: &str) -> Server {
    let path = peer.folder.path();
    let output = import(&[tool, file, "--output", "imported"], path);
    let new = path.join("imported");
    let config = fs::read_to_string(new.join("tapis.toml"));
    let config = config.unwrap_or_else(|_| panic!("{}", printed(&output.stderr)));
    // The other program has the port.
    let port = format!("127.0.0.1:{}", peer.address.port());
    let config = config.replace(&port, "127.0.0.1:0");
    let config = config.replacen("[server]\n", "[server]\ncontrol = \"control.sock\"\n", 1);
    let files = fs::read_dir(&new)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path());
    let files = files.filter(|path| !path.ends_with("tapis.toml"));
    let files: Vec<_> = files
        .map(|path| {
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, fs::read_to_string(&path).expect("a list"))
        })
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    Server::start(&config, &files)
}

const TYPES: [RecordType; 6] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::TXT,
    RecordType::MX,
    RecordType::CNAME,
    RecordType::SRV,
];

/// Asks both servers for names at and below each of `names`, and reports all differences at once. `explained` says why an
/// answer may differ.
fn compare(
    peer: SocketAddr,
    server: SocketAddr,
    names: &[&str],
    explained: impl Fn(&str, RecordType, &Agreed, &Agreed) -> bool,
) {
    let mut differences = Vec::new();
    let mut asked = 0;
    for base in names {
        let mut all = vec![(*base).to_owned()];
        all.extend((0..40).map(|number| format!("n{number}.{base}")));
        all.push(format!("a.b.{base}"));
        for name in all {
            for rtype in TYPES {
                let (before, after) = (agreed(peer, &name, rtype), agreed(server, &name, rtype));
                asked += 1;
                if before != after && !explained(&name, rtype, &before, &after) {
                    differences.push(format!("{name} {rtype}: {before:?} became {after:?}"));
                }
            }
        }
    }
    let count = differences.len();
    differences.truncate(20);
    assert!(
        differences.is_empty(),
        "{count} of {asked} answers differ:\n{}",
        differences.join("\n")
    );
}

#[test]
#[ignore = "needs dnsmasq"]
fn an_imported_configuration_of_dnsmasq_gives_the_same_answers() {
    let upstream = Upstream::plain();
    let other = Upstream::plain();
    let options = format!(
        "\
address=/ads.example/#
address=/page.example/192.0.2.7
address=/page.example/2001:db8::7
address=/gone.example/
local=/lan/
server=/sub.lan/127.0.0.1#{}
server=/open.gone.example/#
host-record=nas.lan,files.lan,192.168.1.5,fd00::5
host-record=box.example,192.168.1.6
cname=www.lan,nas.lan
txt-record=info.lan,a text
mx-host=mail.lan,nas.lan,10
srv-host=_sip._udp.lan,nas.lan,5060,1,2
",
        other.address.port()
    );
    let port = upstream.address.port().to_string();
    let peer = Peer::dnsmasq(&options)
        .with(&[("UPSTREAM", &port)])
        .start(&[]);
    let server = import_of(&peer, "dnsmasq", "dnsmasq.conf");
    let names = [
        "ads.example",
        "page.example",
        "gone.example",
        "open.gone.example",
        "lan",
        "sub.lan",
        "nas.lan",
        "files.lan",
        "www.lan",
        "info.lan",
        "mail.lan",
        "_sip._udp.lan",
        "box.example",
        "free.example",
        "5.1.168.192.in-addr.arpa",
    ];
    compare(
        peer.address,
        server.address,
        &names,
        |name, rtype, before, after| {
            // NXDOMAIN would deny open.gone.example, too (RFC 8020).
            let denies = name == "gone.example"
                && (before.code, after.code) == (ResponseCode::NXDomain, ResponseCode::NoError)
                && after.data.is_empty();
            // dnsmasq asks upstream for the types of which a name has no local record.
            let has_pointer_only = name == "5.1.168.192.in-addr.arpa"
                && rtype == RecordType::A
                && after.code == ResponseCode::NoError
                && after.data.is_empty();
            denies || has_pointer_only
        },
    );
    server.assert_well();
}

#[test]
#[ignore = "needs unbound"]
fn an_imported_configuration_of_unbound_gives_the_same_answers() {
    let upstream = Upstream::plain();
    let options = "\
  module-config: \"iterator\"
  access-control: 127.0.0.0/8 allow
  local-zone: \"ads.example\" always_null
  local-zone: \"gone.example\" always_nxdomain
  local-zone: \"empty.example\" always_nodata
  local-zone: \"no.example\" refuse
  local-zone: \"walled.example\" redirect
  local-data: \"walled.example A 192.0.2.7\"
  local-zone: \"lan\" static
  local-data: \"nas.lan A 192.168.1.5\"
  local-data: \"nas.lan AAAA fd00::5\"
  local-data: 'info.lan TXT \"a text\"'
  local-data: \"mail.lan MX 10 nas.lan.\"
  local-data: \"_sip._udp.lan SRV 1 2 5060 nas.lan.\"
  local-data: \"box.example A 192.168.1.6\"
  local-data-ptr: \"192.168.1.5 nas.lan\"
";
    let port = upstream.address.port().to_string();
    let peer = Peer::unbound(options, "")
        .with(&[("UPSTREAM", &port)])
        .start(&[]);
    let server = import_of(&peer, "unbound", "config");
    let names = [
        "ads.example",
        "gone.example",
        "empty.example",
        "no.example",
        "walled.example",
        "lan",
        "nas.lan",
        "info.lan",
        "mail.lan",
        "_sip._udp.lan",
        "box.example",
        "free.example",
        "5.1.168.192.in-addr.arpa",
    ];
    compare(peer.address, server.address, &names, |_, _, _, _| false);
    server.assert_well();
}
