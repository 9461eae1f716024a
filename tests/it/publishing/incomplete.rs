//! Published zones while sources of the policy have no version yet: secondaries must not lose the rules of these sources.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use tapis::wire::rtype;

use super::secondary::Secondary;
use super::{ZONE, config, directory, published, publisher, serial, stop, stored};
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, list, text};
use crate::support::upstream::Upstream;

const ALLOW: &str = "allow-transfer = [\"127.0.0.1\"]\n";

/// An address at which no primary is.
fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address")
}

/// The configuration of a publisher with this section before `[[publish]]`.
fn with(upstream: &Upstream, section: &str, more: &str) -> String {
    let section = format!("{section}[[publish]]");
    config(upstream, &format!("{ALLOW}{more}")).replacen("[[publish]]", &section, 1)
}

fn feed(primary: SocketAddr) -> String {
    format!("[[feed]]\nname = \"ministry\"\nzone = \"feed.test\"\nprimaries = [\"{primary}\"]\n")
}

fn reload(server: &Server, config: &str) {
    server.replace("tapis.toml", config);
    let reloaded = server.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
}

/// Waits until the zone has an alarm with this text.
fn alarmed(server: &Server, alarm: &str) {
    until(alarm, || {
        server.status()["alarms"].to_string().contains(alarm)
    });
}

#[test]
fn without_the_rules_of_a_feed_no_version_is_sent_announced_or_exported() {
    let upstream = Upstream::plain();
    let notified = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = notified.local_addr().expect("an address");
    let more = format!("notify = [\"{address}\"]\nexport = \"exported\"\n");
    let both = with(&upstream, &feed(nowhere()), &more);
    let publisher = Server::start_in(directory(&both, &[("names", "a.example\n")]));
    assert!(is_blocked(publisher.address, "a.example"));
    alarmed(
        &publisher,
        "publish policy.test: not published, because feed ministry has no version yet",
    );
    let shown = text(&publisher.verb(&["publish", "show", ZONE]));
    assert!(
        shown.contains("feed ministry has no version yet"),
        "{shown}"
    );
    assert!(shown.contains("or from `sources`"), "{shown}");
    let secondary = Secondary::new(publisher.address);
    for rtype in [rtype::SOA, rtype::AXFR, rtype::IXFR] {
        assert_eq!(secondary.ask(ZONE, rtype), Err("SERVFAIL"));
    }
    assert_eq!(secondary.ask_by_udp(ZONE, rtype::SOA), Err("SERVFAIL"));
    assert_eq!(published(&publisher)["notify"][0]["sent"], 0);
    assert!(!publisher.path("exported").exists());

    // The operator goes on without the feed.
    let selected = with(&upstream, &feed(nowhere()), "sources = [\"names\"]\n");
    reload(&publisher, &selected);
    serial(&publisher);
    assert_eq!(secondary.whole().records.len(), 4);
    reload(&publisher, &config(&upstream, &format!("{ALLOW}{more}")));
    until("the file", || publisher.path("exported").exists());
    notified.recv(&mut [0; 512]).expect("a message");
    let alarms = publisher.status()["alarms"].to_string();
    assert!(!alarms.contains("not published"), "{alarms}");
}

#[test]
fn the_rules_of_a_feed_are_published_with_its_first_version() {
    let upstream = Upstream::plain();
    let ministry = publisher(&upstream, ALLOW, "m.example\n");
    serial(&ministry);
    let address = ministry.address;
    let section = feed(address).replace("feed.test", ZONE);
    let hub = with(&upstream, &section, "").replace(
        "zone = \"policy.test\"\nallow",
        "zone = \"hub.test\"\nallow",
    );
    let hub = Server::start_in(directory(&hub, &[("names", "a.example\n")]));
    let first = serial(&hub);
    assert!(is_blocked(hub.address, "m.example"), "in force by then");
    let log = hub.log();
    assert_eq!(log.matches("zone published").count(), 1, "{first}: {log}");
}

#[test]
fn the_last_version_of_an_earlier_process_is_served_until_its_sources_are_there() {
    let upstream = Upstream::plain();
    let other = list("other", "");
    let text = with(&upstream, &other, "");
    let files = [("names", "a.example\n"), ("other", "b.example\n")];
    let mut publisher = Server::start_in(directory(&text, &files));
    let first = serial(&publisher);
    stop(&mut publisher);
    fs::remove_file(publisher.path("other")).expect("removed");
    let kept = stored(&publisher.path("state"), ".json");
    for entry in fs::read_dir(publisher.path("state")).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.is_file() && path != kept {
            fs::remove_file(path).expect("removed");
        }
    }
    let publisher = publisher.again();
    alarmed(&publisher, "list other has no version yet");
    let secondary = Secondary::new(publisher.address);
    assert_eq!(secondary.soa_by_udp().serial, first);
    assert_eq!(secondary.changes(first).kind, "up to date");
    assert_eq!(secondary.ask(ZONE, rtype::AXFR), Err("SERVFAIL"));
    publisher.replace("other", "b.example\n");
    until("the zone", || secondary.ask(ZONE, rtype::AXFR).is_ok());
    assert_eq!(secondary.whole().serial, first, "the same records");
}

#[test]
fn a_list_that_was_never_accepted_and_orders_that_were_never_read_are_missing() {
    let upstream = Upstream::plain();
    let text = with(&upstream, &list("other", ""), "");
    let folder = directory(&text, &[("names", "a.example\n")]);
    fs::remove_dir(folder.path().join("orders")).expect("removed");
    let publisher = Server::start_in(folder);
    alarmed(&publisher, "orders and list other have no version yet");
    publisher.replace("other", "b.example\n");
    alarmed(&publisher, "because orders have no version yet");
    let secondary = Secondary::new(publisher.address);
    assert_eq!(secondary.ask(ZONE, rtype::AXFR), Err("SERVFAIL"));
    fs::create_dir(publisher.path("orders")).expect("made");
    serial(&publisher);
    assert!(secondary.whole().records.len() > 4);
}
