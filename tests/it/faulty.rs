//! Upstream servers that are late, wrong, silent or down: clients get correct answers, and failures
//! are reported.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use crate::support::client::{Port, addresses, ask, data, errors, is_blocked, query, rcode, until};
use crate::support::server::{Server, list, preamble};
use crate::support::upstream::{Asked, Upstream, address_of, answer, bytes, name};

const TRUE: [u8; 4] = [192, 0, 2, 1];
const FORGED: [u8; 4] = [203, 0, 113, 66];

/// A server with these upstream servers; `more` belongs to `[upstream]`.
fn server(upstreams: &[&Upstream], more: &str) -> Server {
    let all: Vec<_> = upstreams.iter().map(|u| u.address.to_string()).collect();
    let config = preamble(upstreams[0].address);
    let config = config.replace(&format!("{:?}", &all[..1]), &format!("{all:?}"));
    let config = config + more + &list("ads", "");
    Server::start(&config, &[("ads", "blocked.example\n")])
}

/// An upstream that sends the forgeries that `forge` makes of a false answer, and then the correct answer.
fn forger(forge: impl Fn(&Asked, Message) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Upstream {
    Upstream::start_raw(move |asked| {
        let mut answers = forge(asked, address_of(asked, FORGED));
        answers.push(bytes(&address_of(asked, TRUE)));
        answers
    })
}

fn codes(answer: &Message) -> Vec<u16> {
    errors(answer).iter().map(|error| error.0).collect()
}

#[test]
fn a_late_answer_is_still_delivered() {
    let gate = Arc::new(RwLock::new(()));
    let (passage, is_first) = (Arc::clone(&gate), AtomicBool::new(true));
    let upstream = Upstream::start(move |asked| {
        // Retries are lost, so that the late answer is the one that is used.
        if !is_first.swap(false, Ordering::Relaxed) {
            return None;
        }
        drop(passage.read());
        Some(address_of(asked, TRUE))
    });
    let closed = gate.write().expect("not poisoned");
    let server = server(&[&upstream], "timeout-ms = 30000\n");
    let client = Port::open(server.address);
    client.send(&query("a.example", RecordType::A));
    until("the end of the first attempt", || {
        server.count("upstream_slow") == 1
    });
    until("another attempt", || upstream.asked().len() > 1);
    drop(closed);
    assert_eq!(data(&client.receive()), ["192.0.2.1"]);
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    let counters = ["resolved", "cache_hits", "upstream_stray"].map(|name| server.count(name));
    assert_eq!(counters, [1, 1, 0]);
}

#[test]
fn a_duplicate_answer_counts_once() {
    let upstream = Upstream::start_raw(|asked| {
        let answer = bytes(&address_of(asked, TRUE));
        vec![answer.clone(), answer]
    });
    let server = server(&[&upstream], "");
    for (n, name) in ["a.example", "b.example"].into_iter().enumerate() {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
        until("the second", || {
            server.count("upstream_stray") == n as u64 + 1
        });
    }
    assert_eq!(server.count("resolved"), 2);
}

#[test]
fn an_answer_with_another_id_is_ignored() {
    let upstream = forger(|_, mut forged| {
        let mut all = Vec::new();
        for bit in 0..16 {
            forged.metadata.id ^= 1 << bit;
            all.push(bytes(&forged));
        }
        all
    });
    let server = server(&[&upstream], "");
    for _ in 0..2 {
        assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    }
    assert_eq!(server.count("upstream_stray"), 16);
    assert_eq!(upstream.asked().len(), 1);
}

#[test]
fn an_answer_to_another_question_is_ignored() {
    let upstream = forger(|_, forged| {
        let change = |change: &dyn Fn(&mut Message)| {
            let mut forged = forged.clone();
            change(&mut forged);
            bytes(&forged)
        };
        let header = bytes(&forged)[..12].to_vec();
        let name = Name::from_ascii("b.example.").expect("a name");
        vec![
            change(&|m| _ = m.queries[0].set_name(name.clone())),
            change(&|m| _ = m.queries[0].set_query_type(RecordType::AAAA)),
            change(&|m| m.queries = Vec::new()),
            change(&|m| m.queries.push(m.queries[0].clone())),
            change(&|m| m.metadata.message_type = MessageType::Query),
            header,
        ]
    });
    let server = server(&[&upstream], "");
    for _ in 0..2 {
        assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    }
    assert_eq!(server.count("upstream_foreign_question"), 6);
    assert_eq!(upstream.asked().len(), 1);
}

#[test]
fn an_answer_in_another_letter_case_is_fetched_by_tcp() {
    let upstream = Upstream::start(|asked| {
        if asked.tcp {
            return Some(address_of(asked, TRUE));
        }
        let mut forged = address_of(asked, FORGED);
        let name = forged.queries[0].name().to_string();
        let flip = |c: char| match c.is_ascii_lowercase() {
            true => c.to_ascii_uppercase(),
            false => c.to_ascii_lowercase(),
        };
        let name: String = name.chars().map(flip).collect();
        forged.queries[0].set_name(Name::from_ascii(name).expect("a name"));
        Some(forged)
    });
    let server = server(&[&upstream], "");
    for _ in 0..2 {
        assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    }
    assert_eq!(server.count("upstream_letter_case"), 1);
    let by_tcp: Vec<_> = upstream.asked().iter().map(|asked| asked.tcp).collect();
    assert_eq!(by_tcp, [false, true]);
}

/// The right question, followed by bytes that are no records.
fn garbage(asked: &Asked) -> Vec<Vec<u8>> {
    let mut wire = bytes(&answer(asked, ResponseCode::NoError));
    wire[7] = 3;
    wire.extend_from_slice(&[0xC0, 0x0C, 0, 1, 0, 1, 0xFF]);
    vec![wire]
}

#[test]
fn garbage_after_the_right_question_is_a_reported_failure_and_not_retried() {
    let upstream = Upstream::start_raw(garbage);
    let server = server(&[&upstream], "timeout-ms = 30000\n");
    let answer = ask(server.address, "a.example", RecordType::A);
    assert_eq!(
        (rcode(&answer), codes(&answer)),
        (ResponseCode::ServFail, vec![22])
    );
    assert_eq!(server.count("upstream_garbage"), 1);
    assert_eq!(upstream.asked().len(), 1);
    assert_eq!(server.status()["upstream"][0]["down"], false);
}

#[test]
fn the_client_gets_the_second_servers_answer_if_the_first_fails() {
    let fails = Upstream::start(|asked| Some(answer(asked, ResponseCode::ServFail)));
    let garbles = Upstream::start_raw(garbage);
    for first in [fails, garbles] {
        let second = Upstream::plain();
        let server = server(&[&first, &second], "");
        assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
        assert_eq!(first.asked().len(), 1, "it was asked once");
        assert_eq!(server.count("upstream_failures"), 0);
    }
}

#[test]
fn a_silent_upstream_delays_no_other_answer_and_its_failure_is_cached() {
    let upstream =
        Upstream::start(|asked| (name(asked) == "known.example").then(|| address_of(asked, TRUE)));
    let server = server(&[&upstream], "");
    assert_eq!(addresses(server.address, "known.example"), ["192.0.2.1"]);
    let client = Port::open(server.address);
    client.send(&query("a.example", RecordType::A));
    assert!(is_blocked(server.address, "blocked.example"));
    assert_eq!(addresses(server.address, "known.example"), ["192.0.2.1"]);
    assert_eq!(addresses(server.address, "localhost"), ["127.0.0.1"]);
    client.0.set_nonblocking(true).expect("set");
    let early = client.0.recv(&mut [0; 512]).expect_err("it waits");
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    client.0.set_nonblocking(false).expect("set");
    let failed = client.receive();
    assert_eq!(
        (rcode(&failed), codes(&failed)),
        (ResponseCode::ServFail, vec![22])
    );
    let before = upstream.asked().len();
    let again = ask(server.address, "a.example", RecordType::A);
    assert_eq!(
        (rcode(&again), codes(&again)),
        (ResponseCode::ServFail, vec![22, 13])
    );
    assert_eq!(upstream.asked().len(), before, "no server was asked again");
    assert_eq!(server.count("upstream_failures"), 1);
}

#[test]
fn a_closed_upstream_port_fails_queries_long_before_the_timeout() {
    let (nowhere, _held) = Upstream::refusing();
    // This timeout is longer than the client waits for an answer.
    let config = preamble(nowhere) + "timeout-ms = 30000\n" + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    let clients: Vec<_> = (0..40).map(|_| Port::open(server.address)).collect();
    for (n, client) in clients.iter().enumerate() {
        client.send(&query(&format!("n{n}.example"), RecordType::A));
    }
    assert!(is_blocked(server.address, "blocked.example"));
    for client in clients {
        let answer = client.receive();
        assert_eq!(
            (rcode(&answer), codes(&answer)),
            (ResponseCode::ServFail, vec![23])
        );
    }
    assert_eq!(server.count("upstream_slow"), 0, "no timeout elapsed");
}

#[test]
fn queries_leave_with_unpredictable_ports_ids_and_letter_case() {
    const QUERIES: usize = 200;
    let upstream = Upstream::plain();
    let server = server(&[&upstream], "");
    for n in 0..QUERIES {
        let asked = format!("abcdefghijklmnop{n}.Example.");
        let answer = ask(server.address, &asked, RecordType::A);
        assert_eq!(answer.queries[0].name().to_string(), asked);
        assert_eq!(answer.answers[0].name.to_string(), asked);
    }
    let all = upstream.asked();
    // Each of the two workers sends from four ports at a time, and replaces a port after 32 queries. If each worker had
    // only one port at a time, these 40 queries would have two or three ports.
    let first = all.iter().take(40);
    let ports: BTreeSet<_> = first.map(|asked| asked.peer.port()).collect();
    assert!(ports.len() >= 6, "{ports:?}");
    let ids: Vec<_> = all.iter().map(|asked| asked.message.metadata.id).collect();
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert!(distinct.len() >= QUERIES - 10, "{ids:?}");
    let ascents = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((50..=150).contains(&ascents), "{ids:?}");
    let names = all.iter().map(|asked| asked.message.queries[0].name());
    let names: Vec<_> = names.map(ToString::to_string).collect();
    let letters = |is: fn(&char) -> bool| names.iter().flat_map(|name| name.chars()).filter(is);
    let upper = letters(char::is_ascii_uppercase).count();
    let share = upper as f64 / letters(char::is_ascii_alphabetic).count() as f64;
    assert!((0.4..0.6).contains(&share), "{share}: {names:?}");
    let cases: BTreeSet<_> = names.iter().map(|name| &name[..16]).collect();
    assert!(cases.len() >= QUERIES / 2, "{cases:?}");
}

#[test]
fn a_late_servfail_is_not_used_while_another_attempt_may_succeed() {
    let gate = Arc::new(RwLock::new(()));
    let (passage, tries) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&tries);
    let upstream = Upstream::start(move |asked| {
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            until("another attempt", || counted.load(Ordering::Relaxed) > 1);
            return Some(answer(asked, ResponseCode::ServFail));
        }
        drop(passage.read());
        Some(address_of(asked, [192, 0, 2, 1]))
    });
    let closed = gate.write().expect("not poisoned");
    let server = server(&[&upstream], "timeout-ms = 30000\n");
    let client = Port::open(server.address);
    client.send(&query("a.example", RecordType::A));
    // `upstream_latency` counts the answer once it is received.
    until("the late answer", || {
        server.status()["upstream_latency"]["count"] == 1
    });
    drop(closed);
    assert_eq!(rcode(&client.receive()), ResponseCode::NoError);
}

#[test]
fn a_query_that_was_answered_late_is_not_cached_as_failed() {
    let tries = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start(move |asked| {
        if name(asked) == "silent.example" {
            return None;
        }
        let mut good = address_of(asked, [192, 0, 2, 1]);
        good.answers[0].ttl = 0;
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => until("another attempt", || tries.load(Ordering::Relaxed) > 1),
            // Lost.
            1..4 => return None,
            _ => {}
        }
        Some(good)
    });
    let server = server(&[&upstream], "timeout-ms = 1000\n");
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    // When this query has timed out, the timeout of the first query is over, too.
    let failed = ask(server.address, "silent.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    assert_eq!(server.count("upstream_failures"), 1, "the silent one");
}

#[test]
fn bad_answers_are_counted_for_workers_and_for_the_pool() {
    let first = Upstream::start(|asked| Some(answer(asked, ResponseCode::ServFail)));
    let second = Upstream::start_raw(|asked| {
        let mut forged = address_of(asked, [203, 0, 113, 66]);
        forged.metadata.id ^= 1;
        let stray = bytes(&forged);
        forged.metadata.id ^= 1;
        forged.queries[0].set_query_type(RecordType::AAAA);
        let mut garbage = bytes(&answer(asked, ResponseCode::NoError));
        garbage[7] = 3;
        vec![stray, bytes(&forged), garbage]
    });
    let server = server(&[&first, &second], "");
    let failed = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    let counters = [
        "upstream_stray",
        "upstream_foreign_question",
        "upstream_garbage",
    ];
    assert_eq!(counters.map(|name| server.count(name)), [1, 1, 1]);
}
