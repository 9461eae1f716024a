//! Names that upstream servers block, with a running server.

use std::net::SocketAddr;
use std::time::Instant;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::RecordType::A;
use hickory_proto::rr::rdata::opt::EdnsOption;

use crate::support::client::{addresses, ask, data, errors, rcode, until};
use crate::support::server::{Server, list, preamble, text};
use crate::support::upstream::{Asked, Upstream, address_of, answer, name, soa};

const TRUE: [u8; 4] = [192, 0, 2, 1];
const LANDING: [u8; 4] = [198, 51, 100, 7];

/// Adds an Extended DNS Error to an answer.
fn with_error(mut message: Message, code: u16, text: &str) -> Message {
    let data = [&code.to_be_bytes()[..], text.as_bytes()].concat();
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Unknown(15, data));
    message.edns = Some(edns);
    message
}

/// NXDOMAIN that may be cached, with an Extended DNS Error.
fn denied(asked: &Asked, code: u16, text: &str) -> Message {
    let mut message = answer(asked, ResponseCode::NXDomain);
    message.authorities.push(soa("example.", 300));
    with_error(message, code, text)
}

/// An upstream that blocks `bad.example` by code 16, and answers all else.
fn censoring() -> Upstream {
    Upstream::start(|asked| {
        Some(match name(asked).as_str() {
            "bad.example" => denied(asked, 16, "court order 7"),
            _ => address_of(asked, TRUE),
        })
    })
}

fn start(servers: &[SocketAddr], keys: &str) -> Server {
    let shown: Vec<_> = servers.iter().map(|one| format!("\"{one}\"")).collect();
    let first = format!("[{}]", shown[0]);
    let config = preamble(servers[0]).replace(&first, &format!("[{}]", shown.join(", ")));
    let config = config + keys + &list("ads", "");
    Server::start(&config, &[("ads", "blocked.example\n")])
}

/// The number of answers by which each server blocked names.
fn blocks(server: &Server) -> Vec<u64> {
    let status = server.status();
    let servers = status["upstream"].as_array().expect("servers").iter();
    servers
        .map(|server| server["blocks"].as_u64().expect("a number"))
        .collect()
}

#[test]
fn the_errors_of_a_block_by_upstream_are_passed_on_and_kept_in_the_cache_as_upstreams() {
    let upstream = censoring();
    let server = start(&[upstream.address], "");
    for _ in 0..2 {
        let blocked = ask(server.address, "bad.example", A);
        assert_eq!(rcode(&blocked), ResponseCode::NXDomain);
        assert_eq!(
            errors(&blocked),
            [(16, "upstream: court order 7".to_owned())]
        );
    }
    assert_eq!(addresses(server.address, "good.example"), ["192.0.2.1"]);
    assert_eq!(upstream.asked().len(), 2, "the block was cached");
    assert_eq!(blocks(&server), [1]);
    assert_eq!(server.count("upstream_blocks"), 1);
    assert_eq!(server.count("blocked"), 0, "this server blocks nothing");
    let cached = server.verb(&["cache", "show", "bad.example"]);
    let sign = format!(
        " from {} of [upstream]\n  EDE 16 (Censored) upstream: court order 7\n  blocked there: Extended DNS Error 16\n",
        upstream.address
    );
    assert!(text(&cached).contains(&sign), "{}", text(&cached));
    let cached = server.verb(&["cache", "show", "good.example"]);
    assert!(
        !text(&cached).contains("blocked there"),
        "{}",
        text(&cached)
    );
    let asked = server.verb(&["query", "bad.example"]);
    assert!(asked.status.success(), "NXDOMAIN is an answer");
    let asked = text(&asked);
    assert!(
        asked.starts_with("bad.example A: NXDOMAIN, from cache\n"),
        "{asked}"
    );
    assert!(
        asked.contains(", blocked there: Extended DNS Error 16\n"),
        "{asked}"
    );
    let status = server.verb(&["status"]);
    assert!(status.status.success(), "it is no alarm");
    let line = format!("upstream {}: ", upstream.address);
    let status = text(&status);
    let line = status.lines().find(|shown| shown.starts_with(&line));
    let line = line.expect("the server's line");
    assert!(line.ends_with(", 1 answer blocked by it"), "{line}");
}

#[test]
fn landing_addresses_and_certain_errors_are_signs_of_a_block() {
    let upstream = Upstream::start(|asked| {
        let both = |first: [u8; 4], second: [u8; 4]| {
            let mut message = address_of(asked, first);
            message.answers.extend(address_of(asked, second).answers);
            message
        };
        Some(match name(asked).as_str() {
            "null.example" => address_of(asked, [0, 0, 0, 0]),
            "landing.example" => both(LANDING, [198, 51, 100, 8]),
            "mixed.example" => both(LANDING, TRUE),
            "filtered.example" => with_error(address_of(asked, TRUE), 17, ""),
            "stale.example" => with_error(address_of(asked, TRUE), 3, ""),
            // The server does not serve this client.
            "refused.example" => with_error(answer(asked, ResponseCode::Refused), 18, ""),
            _ => address_of(asked, TRUE),
        })
    });
    let count = |server: &Server, name: &str| {
        let before = blocks(server)[0];
        ask(server.address, name, A);
        blocks(server)[0] - before
    };
    let server = start(&[upstream.address], "");
    for (name, expected) in [
        ("null.example", 1),
        ("landing.example", 0),
        ("filtered.example", 1),
        ("stale.example", 0),
        ("refused.example", 0),
        ("other.example", 0),
    ] {
        assert_eq!(count(&server, name), expected, "{name}");
    }
    let keys = "landing-addresses = [\"198.51.100.0/24\"]\n";
    let server = start(&[upstream.address], keys);
    for (name, expected) in [
        ("null.example", 0),
        ("landing.example", 1),
        ("mixed.example", 0),
        ("filtered.example", 1),
    ] {
        assert_eq!(count(&server, name), expected, "{name}");
    }
}

#[test]
fn blocks_by_upstream_are_an_alarm_if_the_configuration_says_so() {
    let upstream = censoring();
    let server = start(&[upstream.address], "on-upstream-block = \"alarm\"\n");
    ask(server.address, "good.example", A);
    assert_eq!(server.status()["degraded"], false, "nothing was blocked");
    let blocked = ask(server.address, "bad.example", A);
    assert_eq!(errors(&blocked).len(), 1, "it is passed on");
    let output = server.verb(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    let alarm = format!(
        "ALARM upstream {}: it has blocked names itself in 1 answer since 2",
        upstream.address
    );
    assert!(report.contains(&alarm), "{report}");
    assert!(
        !report.contains("bad.example"),
        "no name is shown: {report}"
    );
    let path = server.path("tapis.toml");
    let config = std::fs::read_to_string(&path).expect("readable");
    let config = config.replace("\"alarm\"", "\"pass\"");
    std::fs::write(path, config).expect("written");
    let output = server.verb(&["reload"]);
    let report = text(&output);
    assert!(output.status.success(), "{report}");
    assert!(report.contains("upstream.on-upstream-block"), "{report}");
    until("no alarm", || server.status()["degraded"] == false);
    assert_eq!(blocks(&server), [1], "the count stays");
}

#[test]
fn another_server_is_asked_for_a_name_that_one_blocks_if_the_configuration_says_so() {
    let (censoring, free) = (censoring(), Upstream::plain());
    let servers = [censoring.address, free.address];
    let server = start(&servers, "on-upstream-block = \"next\"\n");
    let found = ask(server.address, "bad.example", A);
    assert_eq!(data(&found), ["192.0.2.1"]);
    assert!(errors(&found).is_empty(), "{found}");
    assert_eq!(blocks(&server), [1, 0]);
    assert_eq!(addresses(server.address, "bad.example"), ["192.0.2.1"]);
    // Without that setting the block is passed on.
    let server = start(&servers, "");
    let blocked = ask(server.address, "bad.example", A);
    assert_eq!(rcode(&blocked), ResponseCode::NXDomain);
}

#[test]
fn the_first_block_is_passed_on_if_no_other_server_has_another_answer() {
    let other = |does: fn(&Asked) -> Option<Message>| Upstream::start(does);
    for other in [
        other(|asked| Some(denied(asked, 15, "second"))),
        other(|asked| Some(answer(asked, ResponseCode::ServFail))),
        other(|_| None),
    ] {
        let censoring = censoring();
        let servers = [censoring.address, other.address];
        let keys = "on-upstream-block = \"next\"\ntimeout-ms = 30000\n";
        let server = start(&servers, keys);
        let start = Instant::now();
        let blocked = ask(server.address, "bad.example", A);
        assert_eq!(
            errors(&blocked),
            [(16, "upstream: court order 7".to_owned())]
        );
        assert_eq!(other.asked().len(), 1, "once");
        // A silent server does not hold the answer back until the timeout.
        assert!(start.elapsed().as_secs() < 9, "{:?}", start.elapsed());
        server.assert_well();
    }
}
