//! Faults of published zones that end without a change of the policy.

use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;

use tapis::wire::rtype;

use super::secondary::Secondary;
use super::{TSIG, ZONE, change, config, published, publisher, serial, stop, stored};
use crate::support::client::{PATIENCE, until};
use crate::support::server::text;
use crate::support::upstream::Upstream;

const ALLOW: &str = "allow-transfer = [\"127.0.0.1\"]\n";

#[test]
fn a_refused_notify_is_sent_again_until_it_is_accepted() {
    let upstream = Upstream::plain();
    let secondary = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    secondary.set_read_timeout(Some(PATIENCE)).expect("set");
    let address = secondary.local_addr().expect("bound");
    let more = format!("{ALLOW}notify = [\"{address}\"]\n");
    let publisher = publisher(&upstream, &more, "a.example\n");
    let answer = |rcode: u8| {
        let mut buffer = [0; 512];
        let (len, from) = secondary.recv_from(&mut buffer).expect("a message");
        buffer[2] |= 0x80;
        buffer[3] |= rcode;
        secondary.send_to(&buffer[..len], from).expect("sent");
    };
    let has_alarm = || {
        let alarms = publisher.status()["alarms"].to_string();
        alarms.contains(&format!("{address} answers NOTIFY with REFUSED"))
    };
    answer(5);
    until("an alarm", has_alarm);
    answer(0);
    until("no alarm", || !has_alarm());
    assert_eq!(published(&publisher)["notify"][0]["sent"], 2);
}

#[test]
fn an_error_of_the_network_is_shown_as_the_reason_why_notify_has_no_answer() {
    let upstream = Upstream::plain();
    let closed = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = closed.local_addr().expect("bound");
    drop(closed);
    let more = format!("{ALLOW}notify = [\"{address}\"]\n");
    let publisher = publisher(&upstream, &more, "a.example\n");
    until("the error", || {
        let error = &published(&publisher)["notify"][0]["error"];
        error
            .as_str()
            .is_some_and(|error| error.contains("refused"))
    });
    let shown = text(&publisher.verb(&["publish", "show", ZONE]));
    assert!(
        shown.contains("no answer to 1 message: Connection refused"),
        "{shown}"
    );
}

#[test]
fn a_rotated_secret_is_read_by_a_reload_of_the_same_configuration() {
    let upstream = Upstream::plain();
    let publisher = publisher(&upstream, TSIG, "a.example\n");
    serial(&publisher);
    let with = |byte| Secondary::new(publisher.address).with_key([byte; 32]);
    until("the key", || with(7).ask(ZONE, rtype::AXFR).is_ok());
    let secret = publisher.path("secret");
    // 32 bytes of 8 in base64.
    fs::write(&secret, "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=").expect("written");
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("changed");
    let reloaded = publisher.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    until("the new key", || with(8).ask(ZONE, rtype::AXFR).is_ok());
    assert_eq!(with(7).ask(ZONE, rtype::AXFR), Err("NOTAUTH"));
}

#[test]
fn a_version_that_could_not_be_stored_is_stored_as_soon_as_it_can_be() {
    let upstream = Upstream::plain();
    let names: String = (0..50).map(|n| format!("n{n}.example\n")).collect();
    let mut publisher = publisher(&upstream, ALLOW, &names);
    let first = serial(&publisher);
    let changes = stored(&publisher.path("state"), ".json").with_extension("changes");
    fs::write(&changes, "not a directory").expect("written");
    change(&publisher, &format!("{names}b.example\n"));
    let third = change(&publisher, &format!("{names}b.example\nc.example\n"));
    let is_stored = || published(&publisher)["store_problem"].is_null();
    until("an alarm", || !is_stored());
    // The first task of the zone ends with its settings.
    let more = format!("{ALLOW}history-changes = 7\n");
    publisher.replace("tapis.toml", &config(&upstream, &more));
    let reloaded = publisher.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    until("an alarm after the reload", || {
        published(&publisher)["serial"] == third && !is_stored()
    });
    fs::remove_file(changes).expect("removed");
    until("no alarm", is_stored);
    stop(&mut publisher);
    let publisher = publisher.again();
    assert_eq!(serial(&publisher), third);
    let got = Secondary::new(publisher.address).changes(first);
    assert_eq!(got.kind, "changes", "all of them are stored");
}

#[test]
fn the_changes_of_a_zone_that_is_no_longer_published_are_removed_at_the_start() {
    let upstream = Upstream::plain();
    let mut publisher = publisher(&upstream, ALLOW, "a.example\n");
    serial(&publisher);
    change(&publisher, "a.example\nb.example\n");
    let changes = stored(&publisher.path("state"), ".changes");
    stop(&mut publisher);
    // Not named by this program.
    let foreign = publisher.path("state").join("zone-mine.changes");
    fs::create_dir(&foreign).expect("made");
    fs::write(foreign.join("00000001"), "").expect("written");
    let with = config(&upstream, ALLOW);
    let (without, _) = with.split_once("[[publish]]").expect("a section");
    publisher.replace("tapis.toml", without);
    let publisher = publisher.again();
    until("the removal", || !changes.exists());
    assert!(foreign.join("00000001").exists());
    drop(publisher);
}
