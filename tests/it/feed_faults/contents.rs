//! Zones whose records are no rules, or odd ones: the others are in force, and the problems are counted and shown.

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use super::guards::numbered;
use super::scene::{Scene, versions};
use crate::feeds::{Versions, ZONE, blocks, config, feed, is_blocked, refresh};
use crate::support::client::{PATIENCE, addresses, ask, exchange, query, rcode, until};
use crate::support::primary::{Asked, Primary, Rr, cname, name, send};
use crate::support::server::{Server, text};
use crate::support::tls::Security;
use crate::support::upstream::Upstream;

const NS: u16 = 2;
const DNAME: u16 = 39;
const DS: u16 = 43;
const RRSIG: u16 = 46;
const NSEC: u16 = 47;
const DNSKEY: u16 = 48;

/// A record of the zone with this type and these bytes of data.
fn record(owner: &str, rtype: u16, data: &[u8]) -> Rr {
    Rr {
        rtype,
        data: data.to_vec(),
        ..cname(&format!("{owner}.{ZONE}"), ".")
    }
}

fn rule(owner: &str, target: &str) -> Rr {
    cname(&format!("{owner}.{ZONE}"), target)
}

/// The second version has these records. Asserts that its good rules are in force, and that nothing else is blocked.
fn takes(scene: &Scene, records: Vec<Rr>, others: &[&str]) {
    let good = [rule("kept.example", "."), rule("new.example", ".")];
    let records = good.into_iter().chain(records).collect();
    scene.versions.replace(|zone| zone.records = records);
    refresh(&scene.server);
    blocks(&scene.server, 2, &["kept.example", "new.example"], others);
}

/// The counts and the first texts of bad records of the feed.
fn bad(server: &Server) -> (Vec<(String, u64)>, Vec<String>) {
    let list = server.status()["lists"][0].clone();
    let counts = list["bad"].as_array().expect("an array").iter();
    let counts = counts.map(|bad| {
        let problem = bad["problem"].as_str().expect("a text").to_owned();
        (problem, bad["count"].as_u64().expect("a number"))
    });
    let first = list["first_bad"].as_array().expect("an array").iter();
    let first = first.map(|bad| bad["text"].as_str().expect("a text").to_owned());
    (counts.collect(), first.collect())
}

/// Asserts that each problem occurred this often.
fn has_bad(server: &Server, expected: &[(&str, u64)]) {
    let (counts, _) = bad(server);
    let mut found: Vec<_> = counts
        .iter()
        .map(|(what, count)| (&what[..], *count))
        .collect();
    let mut expected = expected.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn types_that_can_be_no_policy_are_left_out_and_counted() {
    let scene = Scene::start("");
    let target = name("target.example");
    let records = vec![
        record("d.example", DNAME, target.wire()),
        record("n.example", NS, target.wire()),
        record("s.example", DS, &[0, 1, 8, 2, 1, 2, 3, 4]),
        record("kept.example", RRSIG, &[0; 30]),
        record("kept.example", NSEC, &[0, 0, 1, 0x40]),
        record("k.example", DNSKEY, &[1, 0, 3, 8, 1, 2, 3]),
    ];
    let others = [
        "gone.example",
        "d.example",
        "x.d.example",
        "n.example",
        "s.example",
    ];
    takes(&scene, records, &others);
    has_bad(
        &scene.server,
        &[("no rule of a policy zone can have a record of this type", 3)],
    );
    let (_, first) = bad(&scene.server);
    assert!(
        first.contains(&format!("d.example.{ZONE}. DNAME")),
        "{first:?}"
    );
    let printed = text(&scene.server.verb(&["status"]));
    assert!(
        printed.contains("feed feed: 2 rules, 3 bad records"),
        "{printed}"
    );
    let log = scene.server.logged(&format!("n.example.{ZONE}. NS"));
    assert!(log.contains("bad record feed=\"feed\" record="), "{log}");
    assert!(!log.contains("list=\"feed\""), "{log}");
}

#[test]
fn feed_show_counts_ignored_records_by_kind_and_shows_the_first_ones() {
    let scene = Scene::start("guards = \"warn\"");
    let mut records = numbered(20);
    records.push(rule("ns.example.rpz-nsdname", "."));
    let target = name("target.example");
    let unusable =
        (0..12).map(|number| record(&format!("d{number}.example"), DNAME, target.wire()));
    records.extend(unusable);
    takes(&scene, records, &["gone.example"]);
    let shown = text(&scene.server.verb(&["feed", "show", "feed"]));
    let at = |line: &str| {
        let mut lines = shown.lines();
        let at = lines.position(|shown| shown == line);
        at.unwrap_or_else(|| panic!("{line:?} is not in: {shown}"))
    };
    let servers = at(
        "ignored    1 bad record: the trigger is about name servers (rpz-nsdname, rpz-nsip), which a forwarder does not see",
    );
    let types =
        at("ignored    12 bad records: no rule of a policy zone can have a record of this type");
    let of_server = format!("ns.example.rpz-nsdname.{ZONE}. CNAME");
    let first: Vec<_> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("           record "))
        .map(|line| line.split_once(": ").expect("a number and a text"))
        .collect();
    assert_eq!(first.len(), 10, "{shown}");
    assert_eq!((first[0].0, first[1].0), ("23", "24"), "{shown}");
    assert!(first[0].1.starts_with(&of_server), "{shown}");
    assert!(
        first[9].1.starts_with(&format!("d8.example.{ZONE}. DNAME")),
        "{shown}"
    );
    assert_eq!(
        types,
        servers + 2,
        "the first ones follow their problem: {shown}"
    );
    // `tapis check` reads files of lists only.
    let status = text(&scene.server.verb(&["status"]));
    let more = "  and 3 more bad; `tapis feed show feed` counts them by kind\n";
    assert!(status.contains(more), "{status}");
    assert!(!status.contains("tapis check"), "{status}");
}

#[test]
fn a_cname_record_beside_other_data_makes_one_rule() {
    let scene = Scene::start("");
    let address = record("new.example", 1, &[192, 0, 2, 1]);
    takes(&scene, vec![address], &["gone.example"]);
    has_bad(
        &scene.server,
        &[(
            "the owner has a CNAME record and other records (RFC 1034, section 3.6.2)",
            1,
        )],
    );
}

#[test]
fn networks_with_host_bits_or_of_no_trigger_are_left_out() {
    let scene = Scene::start("");
    let mut records = vec![
        rule("24.1.2.0.192.rpz-ip", "."),
        rule("8.1.0.0.10.rpz-client-ip", "."),
        rule("33.0.2.0.192.rpz-ip", "."),
        rule("0.0.0.0.0.rpz-ip", "."),
        rule("ns.example.rpz-nsdname", "."),
        rule("24.0.2.0.192.rpz-nsip", "."),
        rule("x.rpz-new", "."),
    ];
    // With fewer good records, the guard `bad` holds the version.
    records.extend(numbered(8));
    takes(&scene, records, &["gone.example"]);
    has_bad(
        &scene.server,
        &[
            ("the network has address bits after its prefix", 2),
            (
                "the owner is no network; write 24.0.2.0.192.rpz-ip for 192.0.2.0/24",
                1,
            ),
            ("the network has every address of IPv4 or of IPv6", 1),
            (
                "the trigger is about name servers (rpz-nsdname, rpz-nsip), which a forwarder does not see",
                2,
            ),
            (
                "the trigger is unknown; known are names, rpz-client-ip and rpz-ip",
                1,
            ),
        ],
    );
}

/// A query for a name with any bytes.
fn ask_labels(server: &Server, labels: &[&[u8]]) -> Message {
    let mut message = query("x", RecordType::A);
    let asked = Name::from_labels(labels.iter().copied()).expect("a name");
    message.queries = vec![Query::query(asked, RecordType::A)];
    exchange(server.address, &message, PATIENCE).expect("an answer")
}

#[test]
fn names_with_any_bytes_are_blocked_also_when_they_come_as_changes() {
    let scene = Scene::start("");
    let records = vec![
        rule("a\\.b.example", "."),
        rule("\\000\\032\\\\\\255.example", "."),
    ];
    takes(&scene, records, &["b.example", "a.b.example"]);
    has_bad(&scene.server, &[]);
    let [dotted, odd] = [&b"a.b"[..], b"\x00 \\\xFF"];
    for label in [dotted, odd] {
        let answer = ask_labels(&scene.server, &[label, b"example"]);
        assert_eq!(rcode(&answer), ResponseCode::NXDomain, "{label:?}");
    }
    scene
        .versions
        .change(&["a\\.b.example"], &["*.\\007\\*.example"]);
    refresh(&scene.server);
    blocks(
        &scene.server,
        3,
        &["kept.example", "new.example"],
        &["a.b.example"],
    );
    let below = ask_labels(&scene.server, &[b"x", b"\x07*", b"example"]);
    assert_eq!(rcode(&below), ResponseCode::NXDomain);
    let deleted = ask_labels(&scene.server, &[dotted, b"example"]);
    assert_ne!(rcode(&deleted), ResponseCode::NXDomain);
}

#[test]
fn a_name_that_is_too_long_with_the_suffix_of_a_garden_has_no_redirect() {
    let scene = Scene::start("");
    let suffix = format!(
        "{}.garden.example",
        ["s".repeat(60), "t".repeat(60)].join(".")
    );
    let target = format!("*.{suffix}");
    let records = vec![rule("*.walled.example", &target)];
    takes(&scene, records, &["walled.example"]);
    let short = ask(scene.server.address, "x.walled.example", RecordType::A);
    assert!(
        short.answers[0]
            .data
            .to_string()
            .starts_with("x.walled.example.s"),
        "{short:?}"
    );
    let long = ["a", "b"].map(|label| label.repeat(60)).join(".");
    let long = ask(
        scene.server.address,
        &format!("{long}.walled.example"),
        RecordType::A,
    );
    assert_eq!(rcode(&long), ResponseCode::YXDomain);
    assert!(long.answers.is_empty());
}

#[test]
fn a_name_that_leaves_no_room_for_a_wildcard_is_blocked_alone() {
    let scene = Scene::start("");
    // With the apex and the root, the owner has 255 bytes.
    let room = 255 - 2 - ZONE.len();
    let labels = ["a", "b", "c"].map(|label| label.repeat(62));
    let last = "d".repeat(room - 3 * 63 - 1);
    let longest = format!("{}.{last}", labels.join("."));
    scene
        .versions
        .change(&["gone.example"], &["new.example", &longest]);
    refresh(&scene.server);
    blocks(
        &scene.server,
        2,
        &["kept.example", "new.example", &longest],
        &["gone.example"],
    );
    scene.versions.change(&[&longest], &[]);
    refresh(&scene.server);
    blocks(&scene.server, 3, &["new.example"], &[&longest]);
}

#[test]
fn serials_wrap_around() {
    let versions = Versions::new(u32::MAX, &["kept.example", "gone.example"]);
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(
        &server,
        u32::MAX,
        &["kept.example", "gone.example"],
        &["new.example"],
    );
    versions.change(&["gone.example"], &["new.example"]);
    refresh(&server);
    blocks(
        &server,
        0,
        &["kept.example", "new.example"],
        &["gone.example"],
    );
    versions.change(&[], &["gone.example"]);
    refresh(&server);
    blocks(
        &server,
        1,
        &["kept.example", "new.example", "gone.example"],
        &[],
    );
    assert_eq!(feed(&server)["faults"], serde_json::json!([]));
    server.assert_well();
}

#[test]
fn a_zone_that_is_whole_and_signed_by_its_operator_is_read_like_any_other() {
    let versions = versions();
    let newest = versions.clone();
    let usual = move |asked: &Asked| {
        let mut zone = newest.newest();
        zone.records.push(record("kept.example", RRSIG, &[0; 30]));
        zone.records
            .push(record("kept.example", NSEC, &[0, 0, 1, 0x40]));
        send(zone.answer(asked))
    };
    let scene = Scene::start_with(Security::Plain, versions, usual, |upstream, primary| {
        config(upstream, primary, "")
    });
    assert!(is_blocked(&scene.server, "kept.example"));
    has_bad(&scene.server, &[]);
    scene.server.assert_well();
}

#[test]
fn records_of_a_trigger_that_contradict_each_other_count_once_the_others_are_deleted() {
    let scene = Scene::start("");
    let network = "32.1.2.0.192.rpz-ip";
    let [address, other] = [[192, 0, 2, 7], [192, 0, 2, 8]];
    // Those of one owner are apart from each other, so only the rules show that there are several.
    let records = vec![
        rule("odd.example", "."),
        rule(network, "."),
        rule("*.odd.example", "."),
        record("odd.example", 1, &address),
        record(network, 1, &other),
    ];
    takes(&scene, records, &[]);
    assert!(is_blocked(&scene.server, "odd.example"));
    assert!(is_blocked(&scene.server, "gone.example"));
    let steps = [
        (3, "odd.example", "odd.example", "192.0.2.7"),
        (4, network, "gone.example", "192.0.2.8"),
    ];
    for (serial, deleted, name, answer) in steps {
        scene
            .versions
            .change_records(vec![rule(deleted, ".")], Vec::new());
        refresh(&scene.server);
        until("the version", || feed(&scene.server)["serial"] == serial);
        assert_eq!(addresses(scene.server.address, name), [answer]);
        assert!(is_blocked(&scene.server, "x.odd.example"));
    }
}

#[test]
fn a_rule_on_a_network_stays_as_long_as_one_of_its_owners_has_a_record() {
    let scene = Scene::start("");
    let owners = |all: &[&str]| all.iter().map(|owner| rule(owner, ".")).collect::<Vec<_>>();
    let [usual, long] = [
        "128.1.zz.db8.2001.rpz-ip",
        "128.1.0.0.0.0.0.db8.2001.rpz-ip",
    ];
    let [v4, mapped] = ["24.0.2.0.10.rpz-ip", "120.200.a00.ffff.zz.rpz-ip"];
    takes(&scene, owners(&[usual, v4, mapped]), &["gone.example"]);
    let changes: [(&[&str], &[&str], [bool; 2]); 5] = [
        (&[], &[long], [true, true]),
        (&[usual], &[], [true, true]),
        (&[mapped], &[], [true, true]),
        (&[long, v4], &[mapped], [false, true]),
        (&[mapped], &[], [false, false]),
    ];
    for (serial, (deleted, added, expected)) in (3..).zip(changes) {
        scene
            .versions
            .change_records(owners(deleted), owners(added));
        refresh(&scene.server);
        until("the version", || feed(&scene.server)["serial"] == serial);
        let blocks = ["2001:db8::1", "10.0.2.7"].map(|address| {
            let why = scene
                .server
                .verb(&["why", "free.org", "--address", address]);
            text(&why).starts_with("free.org: blocked")
        });
        assert_eq!(blocks, expected, "serial {serial}");
    }
}

#[test]
fn the_counts_of_records_that_are_no_rules_stay_those_of_a_whole_zone_when_changes_apply() {
    let usual = |owner: &str| rule(owner, ".");
    let network = "24.1.2.0.192.rpz-ip";
    let versions = Versions::new(1, &["a.example", "bank.example"]);
    versions.replace(|zone| {
        zone.serial = 1;
        zone.records.extend(numbered(9));
        zone.records.extend([
            record("n.example", NS, &[0]),
            record("d.example", DS, &[0; 36]),
            usual("x.rpz-nsdname"),
            usual(network),
            record("short.example", 1, &[192, 0]),
            record("a.example", RRSIG, &[0; 40]),
        ]);
    });
    let upstream = Upstream::plain();
    let start = |primary: &Primary| {
        let more = "[guard]\nprotect = \"protect\"\n";
        let config = config(&upstream, primary, more);
        Server::start(&config, &[("protect", "bank.example\nother.example\n")])
    };
    let primary = versions.primary();
    let server = start(&primary);
    blocks(&server, 1, &["a.example"], &["bank.example"]);
    let steps = [
        (
            vec![
                usual("x.rpz-nsdname"),
                record("short.example", 1, &[192, 0]),
            ],
            vec![record("s.example", 1, &[192]), usual("y.rpz-unknown")],
        ),
        (
            vec![record("n.example", NS, &[0]), usual("bank.example")],
            vec![usual("other.example"), record("b.example", RRSIG, &[0; 40])],
        ),
        (
            vec![usual(network), usual("other.example")],
            vec![usual("b.example"), usual("25.1.2.0.192.rpz-ip")],
        ),
    ];
    for (serial, (deleted, added)) in (2..).zip(steps) {
        versions.change_records(deleted, added);
        refresh(&server);
        blocks(&server, serial, &["a.example"], &["bank.example"]);
        let primary = Primary::serving(versions.newest());
        let other = start(&primary);
        blocks(&other, serial, &["a.example"], &["bank.example"]);
        let [changed, whole] = [&server, &other].map(|server| {
            let list = server.status()["lists"][0].clone();
            let sorted = |key: &str| {
                let mut all = list[key].as_array().expect("an array").clone();
                for entry in &mut all {
                    // A record that changes add has another number.
                    entry.as_object_mut().expect("an object").remove("line");
                }
                all.sort_by_key(ToString::to_string);
                all
            };
            let counts = ["rules", "lines", "skipped", "warned"].map(|key| list[key].clone());
            let all = ["bad", "first_bad", "left_out", "first_left_out"].map(sorted);
            (counts, all)
        });
        assert_eq!(changed, whole, "serial {serial}");
    }
    let whole = primary.types().into_iter().filter(|rtype| *rtype == 252);
    assert_eq!(whole.count(), 1);
}
