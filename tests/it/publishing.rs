//! Published zones: a server is the primary of zones that have its policy, and another one is their secondary.

mod exported;
mod fleet;
mod incomplete;
mod peers;
mod repair;
mod secondary;

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tapis::wire::rtype;

use self::secondary::{Got, Secondary, query};
use crate::orders::{PAST, order, target};
use crate::support::client::{PATIENCE, Stream, is_blocked, until};
use crate::support::primary::framed;
use crate::support::server::{Server, folder, list, preamble, refused, text};
use crate::support::signer::SECRET;
use crate::support::upstream::Upstream;

pub(crate) const ZONE: &str = "policy.test";
const TSIG: &str = "tsig = { name = \"transfer.key\", secret-file = \"secret\" }\n";

/// A directory with this configuration and these files, the secret of the key, and an empty directory of orders.
pub(crate) fn directory(config: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = folder(config, files);
    let secret = folder.path().join("secret");
    fs::write(&secret, SECRET).expect("written");
    fs::set_permissions(secret, Permissions::from_mode(0o600)).expect("changed");
    fs::create_dir(folder.path().join("orders")).expect("made");
    folder
}

/// The configuration of a publisher, whose `[[publish]]` section ends with `more`.
pub(crate) fn config(upstream: &Upstream, more: &str) -> String {
    let start = preamble(upstream.address);
    let names = list("names", "scope = \"subtree\"");
    format!(
        "{start}[guard]\nshrink-percent = 100\ngrow-percent = 0\n[state]\ndir = \"state\"\n[orders]\npath = \"orders\"\n{names}[[publish]]\nzone = \"{ZONE}\"\n{more}"
    )
}

/// A publisher of the names, with an empty directory of orders.
pub(crate) fn publisher(upstream: &Upstream, more: &str, names: &str) -> Server {
    Server::start_in(directory(&config(upstream, more), &[("names", names)]))
}

/// A server that has the zone of a publisher as a feed.
fn node(upstream: &Upstream, publisher: SocketAddr, more: &str) -> Server {
    let start = preamble(upstream.address);
    let config = format!(
        "{start}[guard]\nshrink-percent = 100\ngrow-percent = 0\n[[feed]]\nname = \"policy\"\nzone = \"{ZONE}\"\n\
         primaries = [\"{publisher}\"]\n{more}"
    );
    Server::start_in(directory(&config, &[]))
}

/// The published zone in `status`.
pub(crate) fn published(server: &Server) -> Value {
    server.status()["published"][0].clone()
}

/// The serial of the published zone, once there is a version.
pub(crate) fn serial(server: &Server) -> u32 {
    until("the first version", || published(server)["serial"].is_u64());
    let serial = published(server)["serial"].as_u64().expect("a number");
    u32::try_from(serial).expect("a serial")
}

/// Replaces the names of the list, and returns the serial of the version that has them.
pub(crate) fn change(server: &Server, names: &str) -> u32 {
    let before = serial(server);
    server.replace("names", names);
    until("another serial", || serial(server) != before);
    serial(server)
}

/// Names that make changes of a few others small in comparison.
fn many() -> String {
    (0..50).map(|n| format!("n{n}.example\n")).collect()
}

#[test]
fn an_order_at_the_publisher_applies_at_its_secondary_and_ends_there() {
    let upstream = Upstream::plain();
    let publisher = publisher(&upstream, TSIG, "a.example\n");
    let node = node(&upstream, publisher.address, TSIG);
    until("the zone", || is_blocked(node.address, "a.example"));
    assert!(is_blocked(node.address, "x.a.example"));
    assert!(!is_blocked(node.address, "b.example"));

    // The node is known now, so it can be notified. Its own timer is five minutes.
    let more = format!("{TSIG}notify = [\"{}\"]\n", node.address);
    publisher.replace("tapis.toml", &config(&upstream, &more));
    let reloaded = publisher.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    until("an answer", || {
        published(&publisher)["notify"][0]["is_answered"] == true
    });
    let before = serial(&publisher);

    let path = publisher.path("orders/x-1.toml");
    let text = order("x-1", PAST, &target("b.example", "exact"));
    fs::write(&path, text).expect("written");
    until("the order", || is_blocked(node.address, "b.example"));
    assert!(!is_blocked(node.address, "x.b.example"), "exact");
    assert_ne!(serial(&publisher), before);
    fs::remove_file(path).expect("removed");
    until("its end", || !is_blocked(node.address, "b.example"));
    assert!(is_blocked(node.address, "a.example"));

    until("the transfer is recorded", || {
        published(&publisher)["secondaries"][0]["serial"] == serial(&publisher)
    });
    let published = published(&publisher);
    assert_eq!(published["whole_transfers"], 1, "{published}");
    assert_eq!(published["secondaries"][0]["is_whole"], false);
    let alarms = publisher.status()["alarms"].to_string();
    assert!(!alarms.contains("publish"), "{alarms}");
}

#[test]
fn a_secondary_gets_changes_while_they_are_kept_and_else_the_whole_zone() {
    let upstream = Upstream::plain();
    let more = "allow-transfer = [\"127.0.0.0/8\"]\nhistory-changes = 2\n";
    let names = |more: &str| many() + more;
    let publisher = publisher(&upstream, more, &names("a.example\nb.example\n"));
    let secondary = Secondary::new(publisher.address);
    let first = serial(&publisher);
    let whole = secondary.whole();
    assert_eq!(whole.serial, first);
    let second = change(&publisher, &names("a.example\nb.example\nc.example\n"));
    let third = change(&publisher, &names("a.example\nc.example\nd.example\n"));
    for serial in [first, second] {
        let got = secondary.changes(serial);
        assert_eq!((got.kind, got.serial), ("changes", third), "{got:?}");
    }
    let mut records = whole.records.clone();
    secondary.changes(first).apply(&mut records);
    assert_eq!(records, secondary.whole().records);
    let fourth = change(&publisher, &names("a.example\n"));
    let got = secondary.changes(first);
    assert_eq!((got.kind, got.serial), ("whole", fourth));
    assert_eq!(got.records, secondary.whole().records);
    assert_eq!(secondary.changes(second).kind, "changes");
    let got = secondary.changes(fourth);
    assert_eq!((got.kind, got.serial), ("up to date", fourth));
    assert_eq!(secondary.changes(fourth - (1 << 30)).kind, "whole");
    // Almost all records go.
    let fifth = change(&publisher, "a.example\n");
    let got = secondary.changes(fourth);
    assert_eq!((got.kind, got.serial), ("whole", fifth));
    assert_eq!(got.records.len(), 4);
}

#[test]
fn after_a_restart_secondaries_get_the_changes_before_it_unless_a_file_is_damaged() {
    let upstream = Upstream::plain();
    let more = "allow-transfer = [\"127.0.0.1\"]\n";
    let mut publisher = publisher(&upstream, more, &(many() + "a.example\n"));
    let first = serial(&publisher);
    let mut records = Secondary::new(publisher.address).whole().records;
    let second = change(&publisher, &(many() + "b.example\n"));
    let third = change(&publisher, &(many() + "c.example\n"));
    stop(&mut publisher);
    let mut publisher = publisher.again();
    assert_eq!(serial(&publisher), third);
    let secondary = Secondary::new(publisher.address);
    let got = secondary.changes(first);
    assert_eq!((got.kind, got.serial), ("changes", third));
    got.apply(&mut records);
    assert_eq!(records, secondary.whole().records);
    // They also lead to versions after the restart.
    let fourth = change(&publisher, &(many() + "d.example\n"));
    assert_eq!(secondary.changes(second).kind, "changes");
    publisher.replace("names", &(many() + "c.example\n"));
    until("another serial", || serial(&publisher) != fourth);
    let fifth = serial(&publisher);

    stop(&mut publisher);
    let folder = stored(&publisher.path("state"), ".changes");
    let newest = folder.join(format!("{fifth:08x}"));
    let mut bytes = fs::read(&newest).expect("a file for each change");
    bytes[20] ^= 1;
    fs::write(&newest, bytes).expect("written");
    let publisher = publisher.again();
    assert_eq!(serial(&publisher), fifth);
    let secondary = Secondary::new(publisher.address);
    let got = secondary.changes(fourth);
    assert_eq!((got.kind, got.serial), ("whole", fifth));
    publisher.logged("changes damaged");
    assert_eq!(got.records, secondary.whole().records);
}

#[test]
fn only_permitted_secondaries_with_the_right_key_get_the_zone() {
    let upstream = Upstream::plain();
    let more = format!("allow-transfer = [\"127.0.0.1\"]\n{TSIG}");
    let publisher = publisher(&upstream, &more, "a.example\n");
    serial(&publisher);
    let permitted = Secondary::new(publisher.address).with_key([7; 32]);
    assert_eq!(permitted.whole().kind, "whole");
    assert_eq!(permitted.soa_by_udp().kind, "up to date");
    for rtype in [rtype::SOA, rtype::AXFR, rtype::IXFR] {
        let unsigned = Secondary::new(publisher.address);
        assert_eq!(unsigned.ask(ZONE, rtype), Err("REFUSED"));
        let elsewhere = permitted.clone().at([127, 0, 0, 9]);
        assert_eq!(elsewhere.ask(ZONE, rtype), Err("REFUSED"));
        let wrong = Secondary::new(publisher.address).with_key([8; 32]);
        assert_eq!(wrong.ask(ZONE, rtype), Err("NOTAUTH"));
    }
    for (name, rtype) in [
        (ZONE, rtype::A),
        (ZONE, rtype::NS),
        ("a.example.policy.test", rtype::CNAME),
        ("a.example.policy.test", rtype::AXFR),
    ] {
        assert_eq!(permitted.ask(name, rtype), Err("REFUSED"), "{name}");
    }
    assert_eq!(permitted.ask_by_udp(ZONE, rtype::AXFR), Err("FORMERR"));
    assert_eq!(publisher.count("zone_not_authentic"), 3);
    assert_eq!(published(&publisher)["refused"], 3 * 3 + 5);
}

#[test]
fn a_secondary_need_not_be_a_client() {
    let upstream = Upstream::plain();
    let config = config(&upstream, "allow-transfer = [\"127.0.0.9\"]\n");
    let config = config.replacen("[server]\n", "[server]\nallow = [\"127.0.0.1\"]\n", 1);
    let publisher = Server::start_in(directory(&config, &[("names", "a.example\n")]));
    serial(&publisher);
    let elsewhere = Secondary::new(publisher.address).at([127, 0, 0, 9]);
    assert_eq!(elsewhere.whole().kind, "whole");
    assert_eq!(elsewhere.ask("a.example", rtype::A), Err("REFUSED"));
    let signed = config.replace("allow-transfer = [\"127.0.0.9\"]\n", TSIG);
    publisher.replace("tapis.toml", &signed);
    let reloaded = publisher.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    let signing = elsewhere.clone().with_key([7; 32]);
    until("the key", || signing.ask(ZONE, rtype::AXFR).is_ok());
    assert_eq!(signing.whole().kind, "whole");
    assert_eq!(elsewhere.ask(ZONE, rtype::AXFR), Err("REFUSED"));
}

#[test]
fn a_large_zone_is_transferred_in_many_signed_messages() {
    let upstream = Upstream::plain();
    let names: Vec<_> = (0..30_000).map(|n| format!("n{n}.example\n")).collect();
    let publisher = publisher(&upstream, TSIG, &names.concat());
    serial(&publisher);
    let got = Secondary::new(publisher.address).with_key([7; 32]).whole();
    assert!(got.messages > 50, "{} messages", got.messages);
    assert!(got.records.len() >= 120_000, "A and AAAA at two names each");
    let count = got.records.len() as u64;
    assert_eq!(published(&publisher)["records"], count);
}

/// The bytes that the system keeps for a connection between these ports of 127.0.0.1, until the other end takes them.
fn unsent(from: u16, to: u16) -> u64 {
    let connections = fs::read_to_string("/proc/net/tcp").expect("readable");
    let ends = format!(" 0100007F:{from:04X} 0100007F:{to:04X} ");
    let queues = connections.lines().find_map(|line| {
        let (_, state) = line.split_once(&ends)?;
        let queues = state.split(' ').nth(1)?;
        u64::from_str_radix(queues.split(':').next()?, 16).ok()
    });
    queues.unwrap_or_default()
}

#[test]
fn a_secondary_that_does_not_read_its_transfer_does_not_delay_the_end_of_the_server() {
    let upstream = Upstream::plain();
    let names: Vec<_> = (0..30_000).map(|n| format!("n{n}.example\n")).collect();
    let more = "allow-transfer = [\"127.0.0.1\"]\n";
    let mut publisher = publisher(&upstream, more, &names.concat());
    serial(&publisher);
    let Stream(mut secondary) = Stream::open_small(publisher.address);
    let query = framed(&query(ZONE, rtype::AXFR));
    secondary.write_all(&query).expect("sent");
    let ours = secondary.local_addr().expect("bound").port();
    until("the server waits for it", || {
        unsent(publisher.address.port(), ours) > 80 << 10
    });
    stop(&mut publisher);
    let log = publisher.logged("stopped");
    assert!(!log.contains("left unanswered"), "{log}");
}

#[test]
fn a_serial_survives_restarts_and_never_goes_back() {
    let upstream = Upstream::plain();
    let more = "allow-transfer = [\"127.0.0.1\"]\n";
    let mut publisher = publisher(&upstream, more, "a.example\n");
    let first = serial(&publisher);
    stop(&mut publisher);
    let mut publisher = publisher.again();
    assert_eq!(serial(&publisher), first, "the same records");
    stop(&mut publisher);
    let ahead = first + 1_000_000;
    let file = stored(&publisher.path("state"), ".json");
    let text = fs::read_to_string(&file).expect("readable");
    let text = text.replace(&first.to_string(), &ahead.to_string());
    fs::write(&file, text).expect("written");
    publisher.replace("names", "b.example\n");
    let mut publisher = publisher.again();
    until("the new list", || {
        is_blocked(publisher.address, "b.example")
    });
    until("its version", || serial(&publisher) > ahead);
    let last = serial(&publisher);
    assert!(last <= ahead + 2, "{last}");
    stop(&mut publisher);
    fs::remove_file(file).expect("removed");
    let publisher = publisher.again();
    assert!(serial(&publisher) >= first, "the clock does not go back");
}

fn stop(server: &mut Server) {
    server.signal("TERM");
    server.wait();
}

/// What a state directory has of the zone, by the end of its name.
fn stored(dir: &Path, end: &str) -> std::path::PathBuf {
    let files = fs::read_dir(dir).expect("a directory");
    let mut files = files.map(|file| file.expect("a file").path());
    let is_it = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("zone-") && name.ends_with(end)
    };
    files.find(is_it).expect("stored")
}

#[test]
fn each_version_is_exported_as_a_file_that_another_server_reads() {
    let upstream = Upstream::plain();
    let more = "sources = [\"names\"]\nexport = \"exported.zone\"\n";
    let publisher = publisher(&upstream, more, "a.example\n");
    let path = publisher.path("exported.zone");
    until("the file", || path.exists());
    let list = list("policy", "format = \"rpz\"\nzone = \"policy.test\"\n");
    let reader = preamble(upstream.address)
        + "[guard]\nshrink-percent = 100\ngrow-percent = 0\n"
        + &list.replace("path = \"policy\"", &format!("path = {path:?}"));
    let reader = Server::start(&reader, &[]);
    until("the rules", || is_blocked(reader.address, "x.a.example"));
    change(&publisher, "b.example\n");
    until("the change", || is_blocked(reader.address, "b.example"));
    assert!(!is_blocked(reader.address, "a.example"));
    let secondary = Secondary::new(publisher.address);
    assert_eq!(secondary.ask(ZONE, rtype::AXFR), Err("REFUSED"));
    until("the report", || {
        published(&publisher)["export"]["serial"] == serial(&publisher)
    });
}

#[test]
fn a_key_that_others_can_read_is_an_alarm_and_serves_nobody_until_it_is_protected() {
    let upstream = Upstream::plain();
    let folder = directory(&config(&upstream, TSIG), &[("names", "a.example\n")]);
    let secret = folder.path().join("secret");
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).expect("changed");
    let publisher = Server::start_in(folder);
    until("an alarm", || {
        let alarms = publisher.status()["alarms"].to_string();
        alarms.contains("publish policy.test: no transfer is possible")
            && alarms.contains("chmod 600")
    });
    let secondary = Secondary::new(publisher.address).with_key([7; 32]);
    assert_eq!(secondary.ask(ZONE, rtype::AXFR), Err("NOTAUTH"));
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("changed");
    until("the zone", || {
        let got = secondary.ask(ZONE, rtype::AXFR);
        got.is_ok_and(|got: Got| got.kind == "whole")
    });
    until("no alarm", || {
        let alarms = publisher.status()["alarms"].to_string();
        !alarms.contains("no transfer is possible")
    });
}

#[test]
fn notify_is_repeated_until_the_answer_is_signed() {
    let upstream = Upstream::plain();
    let secondary = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    secondary.set_read_timeout(Some(PATIENCE)).expect("set");
    let address = secondary.local_addr().expect("bound");
    let more = format!("{TSIG}notify = [\"{address}\"]\n");
    let publisher = publisher(&upstream, &more, "a.example\n");
    let mut buffer = [0; 4096];
    let (len, from) = secondary.recv_from(&mut buffer).expect("a message");
    assert!(len > 12 + ZONE.len() + 2 + 4, "with a signature");
    // Anybody can send the header and the question.
    let mut forged = buffer[..12 + ZONE.len() + 2 + 4].to_vec();
    forged[2] |= 0x80;
    forged[10..12].fill(0);
    secondary.send_to(&forged, from).expect("sent");
    secondary.recv_from(&mut buffer).expect("another message");
    let notified = &published(&publisher)["notify"][0];
    assert_eq!(notified["is_answered"], false, "{notified}");
}

#[test]
fn a_file_that_can_not_be_written_is_an_alarm_until_a_version_is_exported() {
    let upstream = Upstream::plain();
    let more = "export = \"zones/exported\"\n";
    let publisher = publisher(&upstream, more, "a.example\n");
    let has_alarm = || {
        let alarms = publisher.status()["alarms"].to_string();
        alarms.contains("zones/exported: can't be written")
    };
    until("an alarm", has_alarm);
    fs::create_dir(publisher.path("zones")).expect("made");
    change(&publisher, "b.example\n");
    until("no alarm", || !has_alarm());
    assert!(publisher.path("zones/exported").exists());
}

#[test]
fn a_version_that_can_not_be_stored_is_served_and_an_alarm_until_the_next_one_is() {
    let upstream = Upstream::plain();
    let more = "allow-transfer = [\"127.0.0.1\"]\n";
    let publisher = publisher(&upstream, more, "a.example\n");
    serial(&publisher);
    let changes = stored(&publisher.path("state"), ".json").with_extension("changes");
    fs::write(&changes, "not a directory").expect("written");
    let second = change(&publisher, "a.example\nb.example\n");
    assert_eq!(Secondary::new(publisher.address).whole().serial, second);
    let alarms = || publisher.status()["alarms"].to_string();
    let alarm = "publish policy.test: the newest version is not stored";
    assert!(alarms().contains(alarm), "{}", alarms());
    fs::remove_file(changes).expect("removed");
    change(&publisher, "a.example\nb.example\nc.example\n");
    assert!(!alarms().contains(alarm), "{}", alarms());
}

#[test]
fn a_secondary_is_notified_once_the_message_can_be_signed() {
    let upstream = Upstream::plain();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    // The file of a key is read every 10 seconds.
    let patience = PATIENCE * 3;
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    let address = socket.local_addr().expect("an address");
    let more = format!("{TSIG}notify = [\"{address}\"]\n");
    let folder = directory(&config(&upstream, &more), &[("names", "a.example\n")]);
    let secret = folder.path().join("secret");
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).expect("changed");
    let publisher = Server::start_in(folder);
    serial(&publisher);
    until("an alarm", || {
        published(&publisher)["key_problem"].is_string()
    });
    assert_eq!(published(&publisher)["notify"][0]["sent"], 0);
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("changed");
    let mut message = [0; 512];
    let len = socket.recv(&mut message).expect("a message");
    assert_eq!(message[11], 1, "the record of its signature");
    assert!(len > 60 && message[2] & 0x78 == 0x20, "NOTIFY");
}

#[test]
fn a_zone_that_anybody_could_transfer_is_refused_with_a_remedy() {
    let upstream = Upstream::plain();
    let folder = folder("", &[]);
    let output = refused(folder.path(), &config(&upstream, ""), &[]);
    assert!(
        output.contains("neither `allow-transfer` nor `tsig`"),
        "{output}"
    );
    assert!(output.contains("add allow-transfer = "), "{output}");
}

#[test]
fn a_zone_is_removed_and_added_by_a_reload() {
    let upstream = Upstream::plain();
    let more = "allow-transfer = [\"127.0.0.1\"]\n";
    let publisher = publisher(&upstream, more, "a.example\n");
    serial(&publisher);
    let secondary = Secondary::new(publisher.address);
    let whole = secondary.whole();
    let with = config(&upstream, more);
    let (without, _) = with.split_once("[[publish]]").expect("a section");
    let reload = |config: &str| {
        publisher.replace("tapis.toml", config);
        let reloaded = publisher.verb(&["reload"]);
        assert!(reloaded.status.success(), "{}", text(&reloaded));
    };
    reload(without);
    assert_eq!(secondary.ask(ZONE, rtype::AXFR), Err("REFUSED"));
    assert_eq!(publisher.status()["published"], Value::Array(Vec::new()));
    reload(&with);
    serial(&publisher);
    assert_eq!(secondary.whole().serial, whole.serial, "as stored");
}

#[test]
fn the_rules_of_a_list_are_exported_as_a_file_that_has_them() {
    let upstream = Upstream::plain();
    let more = "allow-transfer = [\"127.0.0.1\"]\n";
    let publisher = publisher(&upstream, more, "a.example\n");
    let shown = publisher.verb(&["export", "names", "--format=rpz"]);
    let zone = String::from_utf8(shown.stdout).expect("text");
    assert!(
        zone.starts_with("$ORIGIN names.\n$TTL 60\n@ SOA "),
        "{zone}"
    );
    for line in ["a.example 60 A 0.0.0.0", "*.a.example 60 AAAA ::"] {
        assert!(zone.lines().any(|found| found == line), "{line}: {zone}");
    }
    let path = publisher.path("exported");
    let output = format!("--output={}", path.display());
    let written = publisher.verb(&["export", "names", "--format=rpz", &output]);
    assert!(written.status.success(), "{}", text(&written));
    assert_eq!(fs::read_to_string(&path).expect("readable"), zone);
    let unknown = publisher.verb(&["export", "other", "--format=rpz", &output]);
    assert!(text(&unknown).contains("no list or feed `other`"));
    assert_eq!(fs::read_to_string(&path).expect("unchanged"), zone);
}

#[test]
fn the_verbs_show_a_published_zone() {
    let upstream = Upstream::plain();
    let more = "allow-transfer = [\"127.0.0.1\"]\nnotify = [\"127.0.0.1:9\"]\n";
    let publisher = publisher(&upstream, more, "a.example\n");
    let serial = serial(&publisher);
    Secondary::new(publisher.address).whole();
    until("the transfer is recorded", || {
        published(&publisher)["whole_transfers"] == 1
    });
    let shown = |arguments: &[&str]| text(&publisher.verb(arguments));
    let listed = shown(&["publish", "list"]);
    assert!(
        listed.contains(&format!("policy.test  serial {serial}")),
        "{listed}"
    );
    let zone = shown(&["publish", "show", "Policy.test."]);
    for line in [
        &format!("newest     serial {serial}"),
        "records    4",
        "transfers  1 of the whole zone, 0 of changes, 0 refused, 0 because of too many others",
        &format!("secondary  127.0.0.1: serial {serial}, the whole zone at "),
        &format!("notify     127.0.0.1:9: serial {serial}, no answer to "),
    ] {
        assert!(zone.contains(line), "{line}: {zone}");
    }
    let other = shown(&["publish", "show", "other.test"]);
    assert!(other.contains("does not publish this zone"), "{other}");
}
