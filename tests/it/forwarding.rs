//! Zones of `[[forward]]`, with a running server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{self, A, DNSKEY, DS};
use hickory_proto::rr::rdata::NS;
use hickory_proto::rr::{RData, Record};

use crate::support::client::{addresses, ask, data, errors, rcode, until};
use crate::support::server::{Server, folder, list, preamble, text, verb};
use crate::support::upstream::{Asked, Upstream, address_of, alias, answer, name, soa};

/// An upstream that knows every name by one address.
fn knows(last: u8) -> Upstream {
    Upstream::start(move |asked| Some(address_of(asked, [192, 0, 2, last])))
}

fn forward(zone: &str, server: SocketAddr) -> String {
    format!("[[forward]]\nzone = \"{zone}\"\nservers = [\"{server}\"]\n")
}

/// The names that upstream was asked for, with their types.
fn asked(upstream: &Upstream) -> Vec<(String, RecordType)> {
    let asked = upstream.asked();
    let query = |asked: &_| (name(asked), asked_type(asked));
    asked.iter().map(query).collect()
}

fn asked_type(asked: &Asked) -> RecordType {
    asked.message.queries[0].query_type()
}

#[test]
fn names_of_a_forwarded_zone_go_to_its_servers_only() {
    let (default, corp, lab) = (knows(1), knows(2), knows(3));
    let sections =
        forward("corp.example.", corp.address) + &forward("lab.corp.example", lab.address);
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    for (name, last) in [
        ("corp.example", 2),
        ("www.corp.example", 2),
        ("a.b.corp.example", 2),
        ("x.lab.corp.example", 3),
        ("example", 1),
        ("notcorp.example", 1),
    ] {
        let expected = format!("192.0.2.{last}");
        assert_eq!(addresses(server.address, name), [expected], "{name}");
    }
    for (upstream, count) in [(&default, 2), (&corp, 3), (&lab, 1)] {
        assert_eq!(asked(upstream).len(), count);
    }
    let status = server.status();
    let zones = |at: usize| status["upstream"][at]["zones"].to_string();
    assert_eq!(zones(0), "[]");
    assert_eq!(zones(1), "[\"corp.example\"]");
    let printed = text(&server.verb(&["status"]));
    let line = format!("upstream {} for lab.corp.example: ", lab.address);
    assert!(printed.contains(&line), "{printed}");
    let why = text(&server.verb(&["why", "x.corp.example"]));
    let note = format!("forwarded to {} by [[forward]] on line 7", corp.address);
    assert!(why.contains(&note), "{why}");
    server.assert_well();
}

#[test]
fn the_ds_record_of_a_forwarded_zone_comes_from_the_servers_of_its_parent() {
    let (default, corp) = (knows(1), knows(2));
    let sections = forward("corp.example", corp.address);
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    for (name, rtype) in [
        ("corp.example", DS),
        ("corp.example", DNSKEY),
        ("a.corp.example", DS),
    ] {
        ask(server.address, name, rtype);
    }
    assert_eq!(asked(&default), [("corp.example".to_owned(), DS)]);
    let of_zone = [
        ("corp.example".to_owned(), DNSKEY),
        ("a.corp.example".to_owned(), DS),
    ];
    assert_eq!(asked(&corp), of_zone);
}

#[test]
fn policy_and_local_names_precede_forwarding() {
    let (default, corp) = (knows(1), knows(2));
    let sections = forward("corp.example", corp.address)
        + "[[local]]\nname = \"own.corp.example\"\na = \"10.0.0.1\"\n"
        + &list("ads", "");
    let ads = [("ads", "blocked.corp.example\n")];
    let server = Server::start(&(preamble(default.address) + &sections), &ads);
    assert_eq!(addresses(server.address, "own.corp.example"), ["10.0.0.1"]);
    assert_eq!(
        addresses(server.address, "blocked.corp.example"),
        ["0.0.0.0"]
    );
    assert!(asked(&corp).is_empty());
    for _ in 0..2 {
        assert_eq!(addresses(server.address, "x.corp.example"), ["192.0.2.2"]);
    }
    assert_eq!(asked(&corp).len(), 1, "the second is cached");
}

#[test]
fn a_forwarded_zone_in_a_special_use_zone_precedes_it() {
    let (default, corp) = (knows(1), knows(2));
    let sections = forward("10.in-addr.arpa", corp.address);
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    ask(server.address, "1.0.0.10.in-addr.arpa", A);
    ask(server.address, "1.0.168.192.in-addr.arpa", A);
    assert_eq!(asked(&corp).len(), 1);
    assert!(asked(&default).is_empty());
}

#[test]
fn a_silent_server_of_one_zone_does_not_harm_other_names() {
    let default = knows(1);
    let (silent, _socket) = Upstream::silent_address();
    let sections = format!("{}timeout-ms = 300\n", forward("corp.example", silent));
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    let failed = ask(server.address, "www.corp.example", A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    assert_eq!(errors(&failed)[0].0, 22, "no reachable authority");
    assert_eq!(addresses(server.address, "www.example"), ["192.0.2.1"]);
    assert_eq!(asked(&default).len(), 1, "it was never asked for the zone");
    until("the server is reported as silent", || {
        ask(server.address, "more.corp.example", A);
        let status = server.status();
        status["upstream"][0]["unanswered"] == 0 && status["upstream"][1]["unanswered"] != 0
    });
}

#[test]
fn a_truncated_answer_of_a_forwarded_zone_is_fetched_over_tcp() {
    let default = knows(1);
    let corp = Upstream::start(|asked| {
        let mut message = address_of(asked, [192, 0, 2, 2]);
        message.metadata.truncation = !asked.tcp;
        Some(message)
    });
    let sections = forward("corp.example", corp.address);
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    assert_eq!(addresses(server.address, "www.corp.example"), ["192.0.2.2"]);
    assert!(corp.asked().iter().any(|asked| asked.tcp));
}

#[test]
fn a_denied_name_above_does_not_deny_a_forwarded_zone() {
    let default = Upstream::start(|asked| {
        let mut message = answer(asked, ResponseCode::NXDomain);
        message.authorities.push(soa("example.", 300));
        Some(message)
    });
    let corp = knows(2);
    let sections = forward("corp.example", corp.address);
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    let denied = ask(server.address, "example", A);
    assert_eq!(rcode(&denied), ResponseCode::NXDomain);
    assert_eq!(addresses(server.address, "www.corp.example"), ["192.0.2.2"]);
}

#[test]
fn a_reload_that_changes_the_servers_forgets_what_the_former_ones_said() {
    let (default, corp, other) = (knows(1), knows(2), knows(3));
    let config = |forward: &str| preamble(default.address) + forward;
    let server = Server::start(&config(&forward("corp.example", corp.address)), &[]);
    let reload = |sections: &str| {
        server.replace("tapis.toml", &config(sections));
        let reload = server.verb(&["reload"]);
        assert!(reload.status.success(), "{}", text(&reload));
        assert!(text(&reload).contains("[[forward]]"), "{}", text(&reload));
    };
    // The client asks twice, so that a worker has a copy of the cached answer.
    let check = |last: u8| {
        for _ in 0..2 {
            let found = addresses(server.address, "www.corp.example");
            assert_eq!(found, [format!("192.0.2.{last}")]);
            assert_eq!(addresses(server.address, "www.example"), ["192.0.2.1"]);
        }
    };
    check(2);
    reload(&forward("corp.example", other.address));
    check(3);
    reload("");
    check(1);
    reload(&forward("corp.example", corp.address));
    check(2);
    assert_eq!(asked(&default).len(), 2, "other names stay in the cache");
}

#[test]
fn a_chain_that_leaves_a_forwarded_zone_is_completed_by_the_servers_of_its_target() {
    let default = knows(1);
    // It only knows the names of its zone.
    let corp = Upstream::start(|asked| {
        let mut message = answer(asked, ResponseCode::NoError);
        let targets = ["www.example.net.", "blocked.example.net."];
        let target = targets[usize::from(name(asked) == "ads.corp.example")];
        let owner = format!("{}.", name(asked));
        message.answers.push(alias(&owner, target, 300));
        Some(message)
    });
    let sections = forward("corp.example", corp.address) + &list("ads", "");
    let ads = [("ads", "blocked.example.net\n")];
    let server = Server::start(&(preamble(default.address) + &sections), &ads);
    for _ in 0..2 {
        let found = addresses(server.address, "www.corp.example");
        assert_eq!(found, ["www.example.net.", "192.0.2.1"]);
    }
    assert_eq!(
        (asked(&corp).len(), asked(&default).len()),
        (1, 1),
        "cached"
    );
    let found = addresses(server.address, "ads.corp.example");
    assert_eq!(found, ["blocked.example.net.", "0.0.0.0"]);
    assert_eq!(asked(&default).len(), 1, "a blocked name is not asked for");
}

#[test]
fn a_chain_into_a_delegated_zone_that_is_forwarded_elsewhere_is_completed() {
    // They are authoritative only: they delegate lab.corp.example, and all other names.
    let corp = Upstream::start(|asked| {
        let mut message = answer(asked, ResponseCode::NoError);
        let owner = format!("{}.", name(asked));
        let target = match &*owner {
            "www.corp.example." => Some("www.lab.corp.example."),
            "out.corp.example." => Some("www.example.net."),
            "dead.corp.example." => Some("dead.sub.corp.example."),
            _ => None,
        };
        message
            .answers
            .extend(target.map(|target| alias(&owner, target, 300)));
        let server = NS("ns.example.".parse().expect("a name"));
        let zone = target
            .unwrap_or("sub.corp.example.")
            .parse()
            .expect("a name");
        let delegation = Record::from_rdata(zone, 300, RData::NS(server));
        message.authorities.push(delegation);
        Some(message)
    });
    let (default, lab) = (knows(1), knows(3));
    let sections =
        forward("corp.example.", corp.address) + &forward("lab.corp.example", lab.address);
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    let found = addresses(server.address, "www.corp.example");
    assert_eq!(found, ["www.lab.corp.example.", "192.0.2.3"]);
    let found = addresses(server.address, "out.corp.example");
    assert_eq!(found, ["www.example.net.", "192.0.2.1"]);
    // Nobody else is asked for this name.
    let failed = ask(server.address, "dead.corp.example", A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
}

#[test]
fn a_zone_that_is_this_server_itself_is_refused() {
    let config = "[server]\nlisten = [\"127.0.0.1:5399\"]\ncontrol = \"s\"\n[upstream]\nservers = [\"192.0.2.1\"]\n\
                  [[forward]]\nzone = \"corp.example\"\nservers = [\"127.0.0.1:5399\"]\n";
    let folder = folder(config, &[]);
    let check = text(&verb(folder.path(), &["check", "--files-only"]));
    let problem = "name another resolver in `servers` of [[forward]] on line 6";
    assert!(check.contains(problem), "{check}");
}

#[test]
fn several_zones_of_one_section_share_their_servers() {
    let (default, corp) = (knows(1), knows(2));
    let sections = format!(
        "[[forward]]\nzone = [\"corp.example\", \"corp.test\"]\nservers = [{{ address = \"{}\", random-case = false }}]\n",
        corp.address
    );
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    for name in ["a.corp.example", "a.corp.test"] {
        assert_eq!(data(&ask(server.address, name, A)), ["192.0.2.2"], "{name}");
    }
    assert_eq!(asked(&corp).len(), 2);
}

#[test]
fn a_chain_from_upstream_into_a_forwarded_zone_is_completed_by_the_servers_of_the_zone() {
    // It does not know the names of the zone, or other addresses of them.
    let default = Upstream::start(|asked| {
        let target = "www.corp.example.";
        let mut message = match &*name(asked) {
            "public.example" => address_of(asked, [203, 0, 113, 1]),
            _ => answer(asked, ResponseCode::NXDomain),
        };
        message.authorities.push(soa("example.", 300));
        if let Some(address) = message.answers.first_mut() {
            address.name = target.parse().expect("a name");
        }
        let owner = format!("{}.", name(asked));
        message.answers.insert(0, alias(&owner, target, 300));
        Some(message)
    });
    let corp = knows(2);
    let sections = forward("corp.example", corp.address);
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    for _ in 0..2 {
        for name in ["public.example", "hidden.example"] {
            let found = ask(server.address, name, A);
            assert_eq!(data(&found), ["www.corp.example.", "192.0.2.2"], "{name}");
            assert_eq!(rcode(&found), ResponseCode::NoError);
        }
    }
    assert_eq!(
        (asked(&default).len(), asked(&corp).len()),
        (2, 1),
        "cached"
    );
    server.assert_well();
}

#[test]
fn an_outage_of_a_forwarded_zone_is_an_alarm_with_its_name_until_a_server_answers() {
    let default = knows(1);
    let is_up = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&is_up);
    let corp = Upstream::start(move |asked| {
        let is_up = gate.load(Ordering::Relaxed);
        is_up.then(|| address_of(asked, [192, 0, 2, 2]))
    });
    let section = format!(
        "[[forward]]\nzone = [\"corp.example\", \"corp.test\"]\nservers = [\"{}\"]\ntimeout-ms = 200\n",
        corp.address
    );
    let server = Server::start(&(preamble(default.address) + &section), &[]);
    let alarms = || server.status()["alarms"].to_string();
    let said =
        "no server of [[forward]] zone corp.example and 1 more has given usable answers since";
    until("there is an alarm", || {
        ask(server.address, "www.corp.example", A);
        ask(server.address, "mail.corp.example", A);
        alarms().contains(said)
    });
    assert!(!alarms().contains("no upstream server"), "{}", alarms());
    assert_eq!(addresses(server.address, "www.example"), ["192.0.2.1"]);
    is_up.store(true, Ordering::Relaxed);
    // No client asks.
    until("the alarm ends", || !alarms().contains("[[forward]]"));
    let tests = asked(&corp);
    assert!(tests.contains(&("corp.example".to_owned(), RecordType::SOA)));
}

#[test]
fn outages_of_many_forwarded_zones_are_eight_alarms_and_one_about_the_others() {
    let default = knows(1);
    let dead: Vec<_> = (0..10).map(|_| Upstream::start(|_| None)).collect();
    let zone = |number: usize| format!("z{number}.example");
    let sections: String = (dead.iter().enumerate())
        .map(|(number, server)| forward(&zone(number), server.address) + "timeout-ms = 200\n")
        .collect();
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    let asked: Vec<_> = (0..10)
        .map(|number| format!("www.{}", zone(number)))
        .collect();
    let rest = "no server of 2 other sections of [[forward]] gives usable answers: see the log";
    until("there is an alarm about the others", || {
        std::thread::scope(|scope| {
            for name in &asked {
                scope.spawn(|| ask(server.address, name, A));
            }
        });
        server.status()["alarms"].to_string().contains(rest)
    });
    let alarms = server.status()["alarms"].to_string();
    assert_eq!(
        alarms.matches("no server of [[forward]] zone").count(),
        8,
        "{alarms}"
    );
}

#[test]
fn sections_with_the_same_servers_share_their_state() {
    let (default, corp) = (knows(1), knows(2));
    let sections: String = (0..1000)
        .map(|number| forward(&format!("z{number}.example"), corp.address))
        .collect();
    let server = Server::start(&(preamble(default.address) + &sections), &[]);
    for zone in ["z0.example", "z999.example"] {
        assert_eq!(addresses(server.address, zone), ["192.0.2.2"]);
    }
    let status = server.status();
    assert_eq!(status["upstream"].as_array().map(Vec::len), Some(2));
    let printed = text(&server.verb(&["status"]));
    let line = format!(
        "upstream {} for z0.example, z1.example, z2.example and 997 more zones: ",
        corp.address
    );
    assert!(printed.contains(&line), "{printed}");
}
