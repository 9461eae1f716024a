//! Feeds: policy zones that the server transfers from a primary.

use std::sync::{Arc, Mutex};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tapis::wire::rtype;

use crate::support::client::{ask, until};
use crate::support::primary::{Asked, Primary, Rr, Zone, cname, send};
use crate::support::server::{Server, preamble, text};
use crate::support::upstream::{self, Upstream, address_of, alias};

pub(crate) const ZONE: &str = "rpz.test";

/// The versions of a zone: the newest one, and for each older serial the changes since.
#[derive(Clone)]
pub(crate) struct Versions(Arc<Mutex<Vec<Version>>>);

#[derive(Clone)]
struct Version {
    zone: Zone,
    deleted: Vec<Rr>,
    added: Vec<Rr>,
}

impl Versions {
    pub(crate) fn new(serial: u32, names: &[&str]) -> Self {
        let version = Version {
            zone: Zone::new(ZONE, serial, names),
            deleted: Vec::new(),
            added: Vec::new(),
        };
        Self(Arc::new(Mutex::new(vec![version])))
    }

    /// The next version: without and with these names.
    pub(crate) fn change(&self, deleted: &[&str], added: &[&str]) {
        let rules = |names: &[&str]| names.iter().map(|name| nxdomain(name)).collect();
        self.change_records(rules(deleted), rules(added));
    }

    /// The next version: without and with these records.
    pub(crate) fn change_records(&self, deleted: Vec<Rr>, added: Vec<Rr>) {
        let mut versions = self.0.lock().expect("not poisoned");
        let mut zone = versions.last().expect("a version").zone.clone();
        zone.serial = zone.serial.wrapping_add(1);
        zone.records.retain(|record| !deleted.contains(record));
        zone.records.extend(added.iter().cloned());
        versions.push(Version {
            zone,
            deleted,
            added,
        });
    }

    /// Makes the next version of this zone by a function; there are no changes that lead to it.
    pub(crate) fn replace(&self, change: impl FnOnce(&mut Zone)) {
        let mut versions = self.0.lock().expect("not poisoned");
        let mut zone = versions.last().expect("a version").zone.clone();
        zone.serial = zone.serial.wrapping_add(1);
        change(&mut zone);
        *versions = vec![Version {
            zone,
            deleted: Vec::new(),
            added: Vec::new(),
        }];
    }

    /// The newest version.
    pub(crate) fn newest(&self) -> Zone {
        let versions = self.0.lock().expect("not poisoned");
        versions.last().expect("a version").zone.clone()
    }

    /// The answer to a query: the newest version, or the changes since the version of the secondary.
    pub(crate) fn answer(&self, asked: &Asked) -> Vec<Vec<u8>> {
        let versions = self.0.lock().expect("not poisoned");
        let newest = &versions.last().expect("a version").zone;
        let since = versions
            .iter()
            .position(|version| Some(version.zone.serial) == asked.serial);
        match since {
            Some(since) if asked.rtype == rtype::IXFR => {
                let changes: Vec<_> = versions[since..]
                    .windows(2)
                    .map(|pair| {
                        let (from, to) = (pair[0].zone.serial, &pair[1]);
                        (from, &to.deleted[..], to.zone.serial, &to.added[..])
                    })
                    .collect();
                newest.messages(asked, &newest.changes(&changes))
            }
            _ => newest.answer(asked),
        }
    }

    /// A primary that serves the newest version, and the changes since any other.
    pub(crate) fn primary(&self) -> Primary {
        let versions = self.clone();
        Primary::start(move |asked| send(versions.answer(asked)))
    }
}

/// The record of a rule that blocks a name or network.
fn nxdomain(trigger: &str) -> Rr {
    cname(&format!("{trigger}.{ZONE}"), ".")
}

pub(crate) fn config(upstream: &Upstream, primary: &Primary, more: &str) -> String {
    format!(
        "{}[state]\ndir = \"state\"\n[[feed]]\nname = \"feed\"\nzone = \"{ZONE}\"\nprimaries = [\"{}\"]\n{more}\n",
        preamble(upstream.address),
        primary.address
    )
}

pub(crate) fn rcode(server: &Server, name: &str) -> ResponseCode {
    let answer = ask(server.address, name, RecordType::A);
    answer.metadata.response_code
}

pub(crate) fn is_blocked(server: &Server, name: &str) -> bool {
    rcode(server, name) == ResponseCode::NXDomain
}

/// Waits for this version, and checks which names it blocks.
pub(crate) fn blocks(server: &Server, serial: u32, blocked: &[&str], others: &[&str]) {
    until(&format!("serial {serial} is in force"), || {
        feed(server)["serial"] == serial
    });
    for name in blocked {
        assert!(is_blocked(server, name), "{name} in {serial}");
    }
    for name in others {
        assert!(!is_blocked(server, name), "{name} in {serial}");
    }
}

/// The feed in `status`.
pub(crate) fn feed(server: &Server) -> serde_json::Value {
    server.status()["feeds"][0].clone()
}

pub(crate) fn refresh(server: &Server) {
    let done = server.verb(&["feed", "refresh", "feed", "--no-wait"]);
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_zone_is_transferred_and_changes_of_it_apply() {
    let versions = Versions::new(1, &["a.example", "*.a.example", "b.example"]);
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(
        &server,
        1,
        &["a.example", "x.a.example", "b.example"],
        &["c.example", "x.b.example"],
    );
    versions.change(&["b.example", "*.a.example"], &["c.example"]);
    refresh(&server);
    blocks(
        &server,
        2,
        &["a.example", "c.example"],
        &["b.example", "x.a.example"],
    );
    versions.change(&["c.example"], &["b.example"]);
    versions.change(&["a.example"], &["c.example", "*.a.example"]);
    refresh(&server);
    blocks(
        &server,
        4,
        &["b.example", "c.example", "x.a.example"],
        &["a.example"],
    );
    let types = primary.types();
    let whole = types.iter().filter(|rtype| **rtype == rtype::AXFR);
    assert_eq!(whole.count(), 1, "{types:?}");
}

#[test]
fn changes_of_a_signed_zone_and_records_beside_others_leave_the_rules_that_a_whole_zone_has() {
    const RRSIG: u16 = 46;
    let versions = Versions::new(1, &["a.example"]);
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(&server, 1, &["a.example"], &["b.example"]);
    let signature = |trigger| of_type(trigger, RRSIG, &[0; 40]);
    let networks = ["32.1.2.0.192.rpz-client-ip", "32.2.2.0.192.rpz-client-ip"];
    let mut added = vec![
        nxdomain("b.example"),
        signature("b.example"),
        signature("a.example"),
    ];
    for network in networks {
        added.push(of_type(network, rtype::A, &[192, 0, 2, 9]));
        added.push(of_type(network, rtype::NS, &[0]));
    }
    versions.change_records(Vec::new(), added);
    refresh(&server);
    blocks(&server, 2, &["a.example", "b.example"], &["c.example"]);
    assert_eq!(server.status()["lists"][0]["rules"], 4);
    versions.change_records(vec![signature("a.example")], vec![nxdomain("c.example")]);
    refresh(&server);
    blocks(&server, 3, &["a.example", "b.example", "c.example"], &[]);
    let types = primary.types();
    let whole = types.iter().filter(|rtype| **rtype == rtype::AXFR);
    assert_eq!(whole.count(), 1, "{types:?}");
}

/// A record of the zone with this type and these bytes of data.
fn of_type(trigger: &str, rtype: u16, data: &[u8]) -> Rr {
    Rr {
        rtype,
        data: data.to_vec(),
        ..nxdomain(trigger)
    }
}

/// The types of the records that answer a query for a name and a type.
fn answers(server: &Server, name: &str, rtype: RecordType) -> Vec<RecordType> {
    let answer = ask(server.address, name, rtype);
    answer
        .answers
        .iter()
        .map(|record| record.record_type())
        .collect()
}

#[test]
fn records_that_were_ignored_because_of_others_count_when_the_others_are_deleted() {
    let address = |trigger| of_type(trigger, rtype::A, &[192, 0, 2, 1]);
    // All of them do not fit into an answer.
    let text = |number: u8| {
        of_type(
            "large.example",
            rtype::TXT,
            &[&[255][..], &[number; 255]].concat(),
        )
    };
    let versions = Versions::new(1, &["a.example"]);
    versions.replace(|zone| {
        zone.serial = 1;
        zone.records.push(address("a.example"));
        zone.records.extend((0..=255).map(text));
        zone.records.push(nxdomain("b.example"));
    });
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(&server, 1, &["a.example", "b.example"], &["large.example"]);
    versions.change_records(vec![nxdomain("a.example")], Vec::new());
    refresh(&server);
    blocks(&server, 2, &["b.example"], &["a.example"]);
    assert_eq!(
        answers(&server, "a.example", RecordType::A),
        [RecordType::A]
    );
    versions.change_records((1..=255).map(text).collect(), vec![nxdomain("c.example")]);
    refresh(&server);
    blocks(&server, 3, &["b.example", "c.example"], &[]);
    assert_eq!(
        answers(&server, "large.example", RecordType::TXT),
        [RecordType::TXT]
    );
    // Records that are ignored beside others which a change has added.
    versions.change_records(Vec::new(), vec![address("c.example")]);
    refresh(&server);
    blocks(&server, 4, &["b.example", "c.example"], &[]);
    versions.change_records(vec![nxdomain("c.example")], Vec::new());
    refresh(&server);
    blocks(&server, 5, &["b.example"], &["c.example"]);
    assert_eq!(
        answers(&server, "c.example", RecordType::A),
        [RecordType::A]
    );
    // Changes of other owners need no whole zone.
    let asked = primary.asked().len();
    versions.change(&["b.example"], &["d.example"]);
    refresh(&server);
    blocks(&server, 6, &["d.example"], &["b.example"]);
    assert_eq!(primary.types()[asked..], [rtype::SOA, rtype::IXFR]);
}

#[test]
fn changes_delete_records_whatever_the_letter_case_of_names_in_their_data() {
    const MX: u16 = 15;
    let data = |host: &str| [&[0, 10][..], crate::support::primary::name(host).wire()].concat();
    let mail = |host: &str| of_type("a.example", MX, &data(host));
    let mut upper = mail("mail.example");
    upper.data.make_ascii_uppercase();
    let versions = Versions::new(1, &["b.example"]);
    versions.replace(|zone| {
        zone.serial = 1;
        zone.records.extend([upper, mail("other.example")]);
    });
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(&server, 1, &["b.example"], &[]);
    assert_eq!(answers(&server, "a.example", RecordType::MX).len(), 2);
    versions.change_records(vec![mail("mail.example")], Vec::new());
    refresh(&server);
    blocks(&server, 2, &["b.example"], &[]);
    assert_eq!(answers(&server, "a.example", RecordType::MX).len(), 1);
    let types = primary.types();
    let whole = types.iter().filter(|rtype| **rtype == rtype::AXFR);
    assert_eq!(whole.count(), 1, "{types:?}");
}

#[test]
fn a_restart_asks_for_changes_only() {
    let versions = Versions::new(7, &["a.example", "b.example"]);
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(&server, 7, &["a.example", "b.example"], &["c.example"]);
    until("the images are stored", || {
        server.folder.path().join("state/current").exists()
    });
    let mut server = server;
    server.signal("TERM");
    server.wait();
    let server = server.again();
    assert!(is_blocked(&server, "a.example"), "before any transfer");
    versions.change(&["a.example"], &["c.example"]);
    refresh(&server);
    blocks(&server, 8, &["b.example", "c.example"], &["a.example"]);
    let types = primary.types();
    let whole = types.iter().filter(|rtype| **rtype == rtype::AXFR);
    assert_eq!(whole.count(), 1, "{types:?}");
}

#[test]
fn a_large_zone_is_compiled_as_it_arrives_and_its_changes_amend_the_base() {
    let names: Vec<String> = (0..60_000).map(|n| format!("name-{n}.example")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.extend(["*.wild.example", "one.two.wild.example"]);
    let versions = Versions::new(1, &names);
    {
        let mut all = versions.0.lock().expect("not poisoned");
        all[0].zone.per_message = 500;
    }
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(
        &server,
        1,
        &["name-0.example", "name-59999.example", "x.wild.example"],
        // The zone has two.wild.example, as there is a name below, so the wildcard does not match it.
        &["name-60000.example", "x.two.wild.example"],
    );
    versions.change(
        &["name-7.example", "one.two.wild.example"],
        &["name-60000.example"],
    );
    refresh(&server);
    blocks(
        &server,
        2,
        &["name-60000.example", "name-8.example", "x.two.wild.example"],
        &["name-7.example"],
    );
    versions.change(&[], &["name-7.example"]);
    refresh(&server);
    blocks(
        &server,
        3,
        &["name-60000.example", "name-7.example", "x.two.wild.example"],
        &[],
    );
    assert_eq!(server.status()["lists"][0]["rules"], 60_002);
}

/// The files of base images in the state directory.
fn bases(server: &Server) -> Vec<String> {
    let dir = std::fs::read_dir(server.folder.path().join("state")).expect("the directory");
    let names = dir.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("UTF-8"));
    let mut names: Vec<_> = names.filter(|name| name.starts_with("base-")).collect();
    names.sort();
    names
}

#[test]
fn a_whole_zone_in_which_little_changed_amends_the_base_and_any_other_is_compiled() {
    let names = |prefix: &str| -> Vec<String> {
        let names = 0..70_000;
        names.map(|n| format!("{prefix}-{n}.example")).collect()
    };
    let zone = |serial, names: &[String]| {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        Zone {
            per_message: 500,
            ..Zone::new(ZONE, serial, &names)
        }
    };
    let old = names("old");
    let newest = Arc::new(Mutex::new(zone(1, &old)));
    let shared = Arc::clone(&newest);
    let primary = Primary::start(move |asked| {
        let newest = shared.lock().expect("not poisoned").clone();
        send(newest.answer(asked))
    });
    let upstream = Upstream::plain();
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(&server, 1, &["old-0.example"], &["new-0.example"]);
    until("the base is stored", || bases(&server).len() == 2);
    let compiled = bases(&server);

    let mut changed = old.clone();
    changed.swap(0, 69_999);
    changed[7] = "new-0.example".to_owned();
    *newest.lock().expect("not poisoned") = zone(2, &changed);
    refresh(&server);
    blocks(
        &server,
        2,
        &["old-0.example", "old-69999.example", "new-0.example"],
        &["old-7.example"],
    );
    assert_eq!(server.status()["lists"][0]["rules"], 70_000);
    *newest.lock().expect("not poisoned") = zone(3, &old);
    refresh(&server);
    blocks(&server, 3, &["old-7.example"], &["new-0.example"]);
    let transfers = primary.asked().len();
    assert_eq!(bases(&server), compiled, "nothing was compiled");

    *newest.lock().expect("not poisoned") = zone(4, &names("new"));
    refresh(&server);
    blocks(
        &server,
        4,
        &["new-0.example", "new-69999.example"],
        &["old-0.example"],
    );
    let asked = primary.asked().split_off(transfers);
    let types: Vec<_> = asked.iter().map(|asked| asked.rtype).collect();
    assert_eq!(types, [rtype::SOA, rtype::IXFR, rtype::SOA, rtype::AXFR]);
    let faults = &feed(&server)["faults"];
    assert_eq!(faults, &serde_json::json!([["whole-zone", 2]]));
}

/// Waits until the images in force are stored. Returns their generation.
fn stored(server: &Server) -> u64 {
    let mut generation = 0;
    until("the images in force are stored", || {
        generation = server.status()["generation"].as_u64().expect("a number");
        let file = server.folder.path().join("state/current");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let text: String = text.split_whitespace().collect();
        text.contains(&format!("\"generation\":{generation},"))
    });
    generation
}

/// The size of the newest delta in the state directory.
fn delta_size(server: &Server) -> u64 {
    let dir = std::fs::read_dir(server.folder.path().join("state")).expect("the directory");
    let files = dir.map(|entry| entry.expect("an entry").path());
    let deltas = files.filter_map(|path| {
        let number = path.file_name()?.to_str()?;
        let number = number.strip_prefix("delta-")?.strip_suffix(".image")?;
        Some((number.parse::<u64>().ok()?, path))
    });
    let newest = deltas.max().map(|(_, path)| std::fs::metadata(path));
    newest.map_or(0, |file| file.map_or(0, |file| file.len()))
}

#[test]
fn many_changes_of_a_large_zone_move_into_the_base_and_earlier_versions_can_be_restored() {
    const SMALL: u64 = 1 << 16;
    let names = |prefix: &str, count: usize| -> Vec<String> {
        let names = 0..count;
        names.map(|n| format!("{prefix}-{n}.example")).collect()
    };
    let (old, new) = (names("old", 60_000), names("new", 33_000));
    let [old, new] = [&old, &new].map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
    let versions = Versions::new(1, &old);
    versions.0.lock().expect("not poisoned")[0].zone.per_message = 500;
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let mut server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(&server, 1, &["old-0.example"], &["new-0.example"]);
    let first = stored(&server);

    versions.change(&[], &new);
    refresh(&server);
    blocks(
        &server,
        2,
        &["old-0.example", "new-0.example"],
        &["new-33000.example"],
    );
    let second = stored(&server);
    // The compiler merges 66,000 rules and marks now, and does so again after the restart if it has not ended.
    server.signal("KILL");
    server.wait();
    let server = server.again();
    let blocked = ["old-59999.example", "new-0.example", "new-32999.example"];
    blocks(&server, 2, &blocked, &["new-33000.example"]);
    until("the changes are in the base", || {
        delta_size(&server) < SMALL
    });
    blocks(&server, 2, &blocked, &["new-33000.example"]);

    versions.change(&["new-0.example"], &["new-33000.example"]);
    refresh(&server);
    blocks(
        &server,
        3,
        &["new-1.example", "new-33000.example"],
        &["new-0.example"],
    );
    stored(&server);
    assert!(delta_size(&server) < SMALL);
    assert_eq!(server.status()["lists"][0]["rules"], 93_000);

    for (generation, is_second) in [(second, true), (first, false)] {
        let done = server.verb(&["rollback", &generation.to_string()]);
        assert!(done.status.success(), "{done:?}");
        for (name, expected) in [
            ("old-0.example", true),
            ("new-0.example", is_second),
            ("new-32999.example", is_second),
            ("new-33000.example", false),
        ] {
            assert_eq!(
                is_blocked(&server, name),
                expected,
                "{name} in {generation}"
            );
        }
    }
    let done = server.verb(&["rollback", "--release"]);
    assert!(done.status.success(), "{done:?}");
    blocks(
        &server,
        3,
        &["new-1.example", "new-33000.example"],
        &["new-0.example"],
    );
}

#[test]
fn why_shows_the_record_of_a_rule() {
    let versions = Versions::new(1, &["a.example", "*.a.example", "*.b.example"]);
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(&server, 1, &["a.example", "x.b.example"], &[]);
    for (name, record) in [
        (
            "a.example",
            "\n    a.example CNAME .\n    *.a.example CNAME .\n",
        ),
        ("x.b.example", "\n    *.b.example CNAME .\n"),
    ] {
        let why = text(&server.verb(&["why", name]));
        assert!(why.contains(record), "{why}");
    }
}

#[test]
fn why_says_how_many_rules_on_addresses_may_still_decide() {
    let names = [
        "blocked.example",
        "24.0.113.0.203.rpz-ip",
        "32.9.113.0.203.rpz-ip",
        "32.9.0.0.127.rpz-client-ip",
    ];
    let versions = Versions::new(1, &names);
    versions.replace(|zone| {
        zone.serial = 1;
        let allowed = cname(&format!("allowed.example.{ZONE}"), "rpz-passthru");
        zone.records.push(allowed);
    });
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let exception = "[[exception]]\nname = \"excepted.example\"\nscope = \"exact\"\nagainst = [\"feed\"]\nreason = \"a test\"\n\
                     author = \"me\"\n";
    let server = Server::start(&config(&upstream, &primary, exception), &[]);
    blocks(&server, 1, &["blocked.example"], &["allowed.example"]);
    let answers = "  note: 2 rules on addresses in answers may still decide; see --address\n";
    let clients =
        "  note: 1 rule on networks of clients may decide for other clients; see --client\n";
    let client = &["--client", "127.0.0.1"][..];
    for (name, more, notes) in [
        ("free.example", &[][..], &[answers, clients][..]),
        ("free.example", client, &[answers]),
        // Rules of the same zone come after those on the name, and those on the client before.
        ("allowed.example", &[], &[clients]),
        ("blocked.example", &[], &[clients]),
        ("blocked.example", client, &[]),
        ("excepted.example", &[], &[]),
        ("localhost", &[], &[]),
    ] {
        let why = text(&server.verb(&[&["why", name], more].concat()));
        let lines = why
            .lines()
            .filter(|line| line.contains(" on addresses ") || line.contains(" of clients "));
        assert_eq!(lines.count(), notes.len(), "{why}");
        for note in notes {
            assert!(why.contains(note), "{note} is not in: {why}");
        }
    }
    let why = text(&server.verb(&["why", "free.example", "--client", "127.0.0.9"]));
    let rule = "free.example: blocked by feed feed\n  rule client 127.0.0.9/32 (block, feed feed, zone:rpz.test)\n";
    assert!(why.contains(rule), "{why}");
}

#[test]
fn why_evaluates_rules_on_an_address_that_the_answer_is_assumed_to_have() {
    let names = [
        "blocked.example",
        "24.0.113.0.203.rpz-ip",
        "32.9.113.0.203.rpz-ip",
        "128.9.zz.db8.2001.rpz-ip",
    ];
    let versions = Versions::new(1, &names);
    versions.replace(|zone| {
        zone.serial = 1;
        let redirect = cname(&format!("32.7.113.0.203.rpz-ip.{ZONE}"), "garden.example");
        let allowed = cname(&format!("32.8.113.0.203.rpz-ip.{ZONE}"), "rpz-passthru");
        zone.records.extend([redirect, allowed]);
    });
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(&server, 1, &["blocked.example"], &[]);
    let feed = "(block, feed feed, zone:rpz.test)\n";
    let why = |name: &str, address: &str| {
        let why = text(&server.verb(&["why", name, "--address", address]));
        assert!(!why.contains("may still decide"), "{why}");
        why
    };
    let has = |why: &str, parts: &[&str]| {
        for part in parts {
            assert!(why.contains(part), "{part:?} is not in: {why}");
        }
    };
    let smallest =
        format!("  rule answer 203.0.113.9/32 {feed}    32.9.113.0.203.rpz-ip CNAME .\n");
    let larger = format!("  also answer 203.0.113.0/24 {feed}");
    let blocked = "free.example: blocked by feed feed\n";
    has(
        &why("free.example", "203.0.113.9"),
        &[blocked, &smallest, &larger, "  answer to A: NXDOMAIN\n"],
    );
    has(
        &why("free.example", "2001:db8::9"),
        &[
            blocked,
            "  rule answer 2001:db8::9/128 ",
            "  answer to AAAA: NXDOMAIN\n",
        ],
    );
    has(
        &why("free.example", "203.0.113.7"),
        &[
            blocked,
            "    free.example. 5 IN CNAME garden.example.\n",
            "note: the records of garden.example come from upstream",
        ],
    );
    has(
        &why("free.example", "203.0.113.8"),
        &[
            "free.example: allowed by feed feed\n",
            "  rule answer 203.0.113.8/32 ",
        ],
    );
    has(
        &why("blocked.example", "203.0.113.8"),
        &[
            "blocked.example: blocked by feed feed\n",
            "  rule blocked.example (block",
        ],
    );
    let other = why("free.example", "198.51.100.1");
    has(
        &other,
        &["free.example: upstream\n", "the query is forwarded"],
    );
    assert!(!other.contains("(block, "), "{other}");
    let both = server.verb(&[
        "why",
        "free.example",
        "--address",
        "203.0.113.9",
        "--type",
        "TXT",
    ]);
    assert_eq!(both.status.code(), Some(2), "{both:?}");
}

#[test]
fn why_shows_the_rules_on_addresses_of_a_zone_file() {
    let upstream = Upstream::plain();
    let zone = "$ORIGIN zone.\n@ SOA . . 1 60 60 600 60\nwww.example CNAME .\n*.example CNAME .\n\
                32.9.113.0.203.rpz-ip CNAME .\n32.9.0.0.127.rpz-client-ip CNAME *.\n";
    let list = crate::support::server::list("zone", "format = \"rpz\"");
    let server = Server::start(&(preamble(upstream.address) + &list), &[("zone", zone)]);
    let rules = |arguments: &[&str]| {
        let why = text(&server.verb(&[&["why"], arguments].concat()));
        let rules = why.lines().filter_map(|line| {
            let (rule, _) = line.split_once(" (block, list zone, ")?;
            Some(rule.trim().to_owned())
        });
        (
            why.lines().next().expect("a line").to_owned(),
            rules.collect::<Vec<_>>(),
        )
    };
    for by in [&[][..], &["--offline"]] {
        let (first, found) = rules(&[&["free.org", "--address", "203.0.113.9"], by].concat());
        assert_eq!(first, "free.org: blocked by list zone", "{by:?}");
        assert_eq!(found, ["rule answer 203.0.113.9/32"], "{by:?}");
        let (first, found) = rules(&[&["www.example", "--client", "127.0.0.9"], by].concat());
        assert_eq!(first, "www.example: blocked by list zone", "{by:?}");
        let expected = ["rule client 127.0.0.9/32", "also www.example"];
        assert_eq!(found, expected, "{by:?}");
    }
}

#[test]
fn a_disabled_zone_blocks_nothing_and_counts_the_queries_that_it_would_have_blocked() {
    let upstream = Upstream::start(|asked| {
        let mut answer = address_of(asked, [203, 0, 113, 9]);
        match &*upstream::name(asked) {
            "alias.example" => {
                let target = "bad.example";
                answer.answers = vec![alias("alias.example", target, 60)];
                Some(answer)
            }
            "address.example" => Some(answer),
            _ => Some(address_of(asked, [192, 0, 2, 1])),
        }
    });
    let zone = |rules: &str| format!("$ORIGIN zone.\n@ SOA . . 1 60 60 600 60\n{rules}");
    let trial = zone(
        "bad.example CNAME .\nboth.example CNAME .\nfree.example CNAME rpz-passthru.\n\
         32.9.113.0.203.rpz-ip CNAME .\n",
    );
    let list = crate::support::server::list;
    let config = preamble(upstream.address)
        + &list("trial", "format = \"rpz\"\npolicy = \"disabled\"")
        + &list("second", "format = \"rpz\"");
    let second = zone("both.example CNAME .\n");
    let server = Server::start(&config, &[("trial", &trial), ("second", &second)]);
    // The number of queries after each that the first zone would have blocked, and the number that the second one did.
    for (asked, code, counted) in [
        ("bad.example", ResponseCode::NoError, (1, 0)),
        ("alias.example", ResponseCode::NoError, (2, 0)),
        ("address.example", ResponseCode::NoError, (3, 0)),
        ("address.example", ResponseCode::NoError, (4, 0)),
        ("both.example", ResponseCode::NXDomain, (5, 1)),
        ("free.example", ResponseCode::NoError, (5, 1)),
        ("other.example", ResponseCode::NoError, (5, 1)),
    ] {
        assert_eq!(rcode(&server, asked), code, "{asked}");
        let status = server.status();
        let hits = |list: usize| status["lists"][list]["hits"].as_u64().expect("a number");
        assert_eq!((hits(0), hits(1)), counted, "{asked}");
    }
    let status = text(&server.verb(&["status"]));
    assert!(
        status.contains("trial: 4 rules, 0 bad lines, DISABLED: it would have blocked 5 queries\n"),
        "{status}"
    );
    assert!(status.contains("second: 1 rule, 0 bad lines\n"), "{status}");
    let config = config.replace("policy = \"disabled\"", "");
    server.replace("tapis.toml", &config);
    assert!(server.verb(&["reload"]).status.success());
    assert!(is_blocked(&server, "bad.example"));
    assert_eq!(server.status()["lists"][0]["hits"], 1, "it counts apart");
}

#[test]
fn reload_and_the_journal_call_a_feed_a_feed() {
    let versions = Versions::new(1, &["a.example"]);
    let (upstream, primary, other) = (Upstream::plain(), versions.primary(), versions.primary());
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    blocks(&server, 1, &["a.example"], &[]);
    let shown = || text(&server.verb(&["journal", "show"]));
    until("the journal", || {
        shown().contains("feed feed: 1 rule, 0 left out, 0 bad records")
    });
    assert!(!shown().contains("list feed"), "{}", shown());
    let reload = |config: &str| {
        std::fs::write(server.path("tapis.toml"), config).expect("written");
        let done = server.verb(&["reload"]);
        assert!(done.status.success(), "{done:?}");
        text(&done)
    };
    let printed = reload(&config(&upstream, &other, "policy = \"nodata\""));
    let changed = "changed: feed.feed.policy, feed.feed.primaries\n";
    assert!(printed.contains(changed), "{printed}");
    until("the journal", || {
        shown().contains("feed.feed.policy: \"given\" -> \"nodata\"")
    });
    let list = "[[list]]\nname = \"feed\"\npath = \"list\"\n";
    std::fs::write(server.path("list"), "b.example\n").expect("written");
    let printed = reload(&format!("{}{list}", preamble(upstream.address)));
    assert!(
        printed.contains("list feed (new), feed feed (gone)"),
        "{printed}"
    );
}
