//! Names and zones of `[[local]]`, with a running server.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{self, A, AAAA, ANY, CNAME, MX, NS, PTR, SOA, SRV, TXT};

use crate::support::client::{ask, data, rcode};
use crate::support::server::{Server, folder, list, preamble, text, verb};
use crate::support::upstream::{Upstream, address_of, alias, answer, name};

/// A server with these sections, whose upstream knows every name as 192.0.2.1.
fn server(sections: &str, files: &[(&str, &str)]) -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let server = Server::start(&(preamble(upstream.address) + sections), files);
    (server, upstream)
}

fn found(server: &Server, name: &str, rtype: RecordType) -> Vec<String> {
    data(&ask(server.address, name, rtype))
}

/// The names that upstream was asked for.
fn asked(upstream: &Upstream) -> Vec<String> {
    upstream.asked().iter().map(name).collect()
}

const ROUTER: &str = "[[local]]\nname = \"router.home.example\"\na = [\"10.0.0.1\", \"10.0.0.2\"]\naaaa = \"fd00::1\"\n\
                      txt = \"the router\"\nmx = \"10 mail.home.example.\"\nsrv = \"0 5 5060 sip.home.example.\"\n\
                      ttl-secs = 77\nreverse = true\n";

#[test]
fn a_local_name_has_the_records_of_its_section_and_no_others() {
    let (server, upstream) = server(ROUTER, &[]);
    for (rtype, expected) in [
        (A, &["10.0.0.1", "10.0.0.2"][..]),
        (AAAA, &["fd00::1"]),
        (TXT, &["the router"]),
        (MX, &["10 mail.home.example."]),
        (SRV, &["0 5 5060 sip.home.example."]),
        (NS, &[]),
    ] {
        let answer = ask(server.address, "router.home.example", rtype);
        assert_eq!(data(&answer), expected, "{rtype}");
        assert_eq!(rcode(&answer), ResponseCode::NoError);
        assert_eq!(answer.authorities.is_empty(), !expected.is_empty());
        assert!(!answer.metadata.authoritative && answer.metadata.recursion_available);
        assert!(answer.answers.iter().all(|record| record.ttl == 77));
    }
    assert_eq!(found(&server, "router.home.example", ANY).len(), 6);
    assert_eq!(
        found(&server, "2.0.0.10.in-addr.arpa", PTR),
        ["router.home.example."]
    );
    assert!(asked(&upstream).is_empty());
    assert_eq!(found(&server, "other.home.example", A), ["192.0.2.1"]);
    assert_eq!(found(&server, "home.example", A), ["192.0.2.1"]);
    assert_eq!(asked(&upstream), ["other.home.example", "home.example"]);
    let why = server.verb(&["why", "router.home.example"]);
    assert!(
        text(&why).contains("answered by [[local]] on line 7"),
        "{}",
        text(&why)
    );
    server.assert_well();
}

#[test]
fn a_blocked_name_stays_blocked_although_it_has_local_records() {
    let sections = format!("{ROUTER}{}", list("ads", ""));
    let (server, _upstream) = server(&sections, &[("ads", "router.home.example\n")]);
    assert_eq!(found(&server, "router.home.example", A), ["0.0.0.0"]);
    assert_eq!(server.count("blocked"), 1);
}

#[test]
fn a_wildcard_answers_names_that_do_not_exist() {
    let sections = "[[local]]\nname = \"*.dev.example\"\na = \"10.0.0.9\"\n\
                    [[local]]\nname = \"a.b.dev.example\"\na = \"10.0.0.8\"\n";
    let (server, upstream) = server(sections, &[]);
    assert_eq!(found(&server, "x.dev.example", A), ["10.0.0.9"]);
    assert_eq!(found(&server, "x.y.dev.example", A), ["10.0.0.9"]);
    assert_eq!(found(&server, "a.b.dev.example", A), ["10.0.0.8"]);
    assert!(found(&server, "x.dev.example", AAAA).is_empty());
    assert!(asked(&upstream).is_empty());
    // It exists, as it has a name below it, but it is no local name.
    assert_eq!(found(&server, "b.dev.example", A), ["192.0.2.1"]);
}

#[test]
fn a_local_alias_leads_to_local_names_and_to_upstream() {
    let sections = "[[local]]\nname = \"a.home.example\"\ncname = \"b.home.example\"\n\
                    [[local]]\nname = \"b.home.example\"\ncname = \"c.home.example\"\n\
                    [[local]]\nname = \"c.home.example\"\na = \"10.0.0.3\"\n\
                    [[local]]\nname = \"tv.home.example\"\ncname = \"tv.example.net\"\n\
                    [[local]]\nname = \"loop.home.example\"\ncname = \"pool.home.example\"\n\
                    [[local]]\nname = \"pool.home.example\"\ncname = \"loop.home.example\"\n";
    let (server, upstream) = server(sections, &[]);
    let local = ["b.home.example.", "c.home.example.", "10.0.0.3"];
    assert_eq!(found(&server, "a.home.example", A), local);
    assert!(asked(&upstream).is_empty());
    for _ in 0..2 {
        let elsewhere = ["tv.example.net.", "192.0.2.1"];
        assert_eq!(found(&server, "tv.home.example", A), elsewhere);
    }
    assert_eq!(asked(&upstream), ["tv.example.net"], "the second is cached");
    assert_eq!(
        found(&server, "tv.home.example", CNAME),
        ["tv.example.net."]
    );
    let nodata = ask(server.address, "a.home.example", AAAA);
    assert_eq!((data(&nodata).len(), nodata.authorities.len()), (2, 1));
    let looping = ["pool.home.example.", "loop.home.example."];
    assert_eq!(found(&server, "loop.home.example", A), looping);
    let why = text(&server.verb(&["why", "tv.home.example"]));
    assert!(
        why.contains("the records of tv.example.net come from upstream"),
        "{why}"
    );
}

#[test]
fn rules_apply_to_the_names_that_a_local_alias_leads_to() {
    let sections = format!(
        "[[local]]\nname = \"tv.home.example\"\ncname = \"ads.example.net\"\n\
         [[local]]\nname = \"radio.home.example\"\ncname = \"fm.example.net\"\n{}",
        list("ads", "")
    );
    let upstream = Upstream::start(|asked| {
        let mut message = address_of(asked, [192, 0, 2, 1]);
        if name(asked) == "fm.example.net" {
            message
                .answers
                .insert(0, alias("fm.example.net.", "tracker.example.", 60));
            message.answers[1].name = "tracker.example.".parse().expect("a name");
        }
        Some(message)
    });
    let ads = "ads.example.net\ntracker.example\n";
    let server = Server::start(&(preamble(upstream.address) + &sections), &[("ads", ads)]);
    assert_eq!(
        found(&server, "tv.home.example", A),
        ["ads.example.net.", "0.0.0.0"]
    );
    assert!(
        asked(&upstream).is_empty(),
        "a blocked name is not asked for"
    );
    let chain = ["fm.example.net.", "tracker.example.", "0.0.0.0"];
    assert_eq!(found(&server, "radio.home.example", A), chain);
}

const ZONE: &str = "$TTL 100\n@ SOA ns host 7 3600 600 86400 50\n  NS ns\nns A 10.0.0.1\na.b TXT here\nwww CNAME ns\n";

fn zone_section() -> &'static str {
    "[[local]]\nzone = \"home.example.\"\nfile = \"home.zone\"\n"
}

#[test]
fn a_zone_file_answers_for_all_names_of_its_zone() {
    let (server, upstream) = server(zone_section(), &[("home.zone", ZONE)]);
    assert_eq!(found(&server, "ns.home.example", A), ["10.0.0.1"]);
    assert_eq!(
        found(&server, "www.home.example", A),
        ["ns.home.example.", "10.0.0.1"]
    );
    assert_eq!(found(&server, "home.example", SOA).len(), 1);
    for (name, rtype, code) in [
        ("gone.home.example", A, ResponseCode::NXDomain),
        ("x.ns.home.example", A, ResponseCode::NXDomain),
        ("ns.home.example", AAAA, ResponseCode::NoError),
        ("b.home.example", A, ResponseCode::NoError),
    ] {
        let answer = ask(server.address, name, rtype);
        assert_eq!(rcode(&answer), code, "{name}");
        let [soa] = &answer.authorities[..] else {
            panic!("an SOA record: {answer}");
        };
        let (owner, ttl) = (soa.name.to_string(), soa.ttl);
        assert_eq!((&*owner, ttl), ("home.example.", 50), "{name}");
    }
    assert!(asked(&upstream).is_empty());
    server.assert_well();
}

#[test]
fn a_reload_reads_zone_files_again_and_a_broken_one_keeps_the_last_good_records() {
    let (server, _upstream) = server(zone_section(), &[("home.zone", ZONE)]);
    server.replace("home.zone", &ZONE.replace("10.0.0.1", "10.0.0.2"));
    let reload = server.verb(&["reload"]);
    assert!(reload.status.success(), "{}", text(&reload));
    assert_eq!(found(&server, "ns.home.example", A), ["10.0.0.2"]);
    let broken = ZONE.replace("10.0.0.1", "10.0.0.256");
    server.replace("home.zone", &broken);
    let reload = text(&server.verb(&["reload"]));
    let problem = "home.zone:4: ns A 10.0.0.256: the data can't be read as data of this type; the zone's last good records stay";
    assert!(reload.contains(problem), "{reload}");
    assert_eq!(found(&server, "ns.home.example", A), ["10.0.0.2"]);
    let alarms = server.status()["alarms"].to_string();
    assert!(alarms.contains("home.zone:4"), "{alarms}");
    server.replace("home.zone", ZONE);
    assert!(server.verb(&["reload"]).status.success());
    assert_eq!(found(&server, "ns.home.example", A), ["10.0.0.1"]);
    server.assert_well();
}

#[test]
fn a_configuration_with_a_new_zone_whose_file_is_broken_is_rejected() {
    let (server, _upstream) = server("", &[]);
    let config = std::fs::read_to_string(server.path("tapis.toml")).expect("read");
    server.replace("tapis.toml", &(config + zone_section()));
    let reload = server.verb(&["reload"]);
    assert!(!reload.status.success());
    let reload = text(&reload);
    assert!(
        reload.contains("configuration rejected: [[local]]"),
        "{reload}"
    );
    assert!(reload.contains("home.zone: can't be read"), "{reload}");
}

#[test]
fn a_server_does_not_start_with_a_broken_zone_file() {
    let config = preamble(([127, 0, 0, 1], 9).into()) + zone_section();
    let broken = format!("{ZONE}sub NS ns\n");
    let folder = folder(&config, &[("home.zone", &broken)]);
    for arguments in [&["serve"][..], &["check"]] {
        let output = verb(folder.path(), arguments);
        assert!(!output.status.success());
        let output = text(&output);
        let problem = "home.zone:7: sub NS ns: the record delegates names";
        assert!(output.contains(problem), "{output}");
        assert!(output.contains("use [[forward]]"), "{output}");
    }
}

#[test]
fn a_local_name_in_a_special_use_zone_precedes_it() {
    let sections = "[[local]]\nname = \"printer.lan.home.arpa\"\na = \"10.0.0.7\"\n";
    let (server, upstream) = server(sections, &[]);
    assert_eq!(found(&server, "printer.lan.home.arpa", A), ["10.0.0.7"]);
    let above = ask(server.address, "lan.home.arpa", A);
    assert_eq!(
        rcode(&above),
        ResponseCode::NoError,
        "it has a name below it"
    );
    let other = ask(server.address, "other.home.arpa", A);
    assert_eq!(rcode(&other), ResponseCode::NXDomain);
    assert!(asked(&upstream).is_empty());
}

#[test]
fn a_removed_local_name_is_resolved_again_at_once() {
    let (server, _upstream) = server(ROUTER, &[]);
    assert_eq!(found(&server, "router.home.example", A).len(), 2);
    let config = std::fs::read_to_string(server.path("tapis.toml")).expect("read");
    server.replace("tapis.toml", &config.replace(ROUTER, ""));
    let reload = text(&server.verb(&["reload"]));
    assert!(reload.contains("[[local]]"), "{reload}");
    assert_eq!(found(&server, "router.home.example", A), ["192.0.2.1"]);
}

#[test]
fn the_old_section_local_is_refused_with_its_new_name() {
    let config = preamble(([127, 0, 0, 1], 9).into()) + "[local]\nforward = [\"home.arpa\"]\n";
    let folder = folder(&config, &[]);
    let check = text(&verb(folder.path(), &["check"]));
    assert!(check.contains("tapis.toml:7: "), "{check}");
    assert!(check.contains("[local] is now [special-use]"), "{check}");
}

#[test]
fn a_name_that_upstream_denies_is_answered_locally() {
    let upstream = Upstream::start(|asked| Some(answer(asked, ResponseCode::NXDomain)));
    let server = Server::start(&(preamble(upstream.address) + ROUTER), &[]);
    let denied = ask(server.address, "home.example", A);
    assert_eq!(rcode(&denied), ResponseCode::NXDomain);
    assert_eq!(found(&server, "router.home.example", A).len(), 2);
}
