//! Answers of upstream: they are cached whole, equal queries are sent once, and stale answers are served when upstream
//! fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{RData, Record, RecordType};

use crate::support::client::{
    PATIENCE, Stream, addresses, ask, errors, exchange, is_blocked, query, rcode,
};
use crate::support::server::{Server, list, preamble};
use crate::support::upstream::{Upstream, address_of, alias, answer, name, soa};

fn server(upstream: &Upstream, more: &str) -> Server {
    let config = preamble(upstream.address) + more + &list("ads", "");
    Server::start(&config, &[("ads", "blocked.example\n")])
}

#[test]
fn an_answer_is_cached_whole_and_served_again_without_asking() {
    let upstream = Upstream::start(|asked| {
        let mut message = address_of(asked, [192, 0, 2, 7]);
        message.metadata.authentic_data = true;
        for name in ["www.example.", "ns.example."] {
            let data = RData::A(A([192, 0, 2, 53].into()));
            let owner = hickory_proto::rr::Name::from_ascii(name).expect("a name");
            message
                .additionals
                .push(Record::from_rdata(owner, 60, data));
        }
        Some(message)
    });
    let mut query = query("WwW.example", RecordType::A);
    query.metadata.authentic_data = true;
    for (more, additional) in [("", 0), ("[cache]\nadditional = true\n", 1)] {
        let asked_before = upstream.asked().len();
        let server = server(&upstream, more);
        for _ in 0..3 {
            let answer = exchange(server.address, &query, PATIENCE).expect("an answer");
            assert_eq!(answer.answers[0].data.to_string(), "192.0.2.7");
            assert_eq!(answer.additionals.len(), additional);
            let asked = answer.queries[0].name().to_string();
            assert_eq!(asked, "WwW.example.", "case as asked");
            let header = &answer.metadata;
            assert!(header.authentic_data && header.recursion_available);
            assert!(!header.authoritative);
        }
        assert_eq!(upstream.asked().len() - asked_before, 1);
        assert_eq!(server.count("cache_hits"), 2);
    }
}

#[test]
fn upstream_receives_nothing_of_the_client_but_the_question() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "");
    let mut query = query("a.example", RecordType::A);
    query.metadata.checking_disabled = true;
    let mut edns = query.edns.take().expect("EDNS");
    edns.set_dnssec_ok(true);
    let subnet = EdnsOption::Unknown(8, vec![0, 1, 24, 0, 198, 51, 100]);
    edns.options_mut().insert(subnet);
    query.edns = Some(edns);
    exchange(server.address, &query, PATIENCE).expect("an answer");
    let asked = &upstream.asked()[0].message;
    assert!(asked.metadata.checking_disabled && asked.metadata.recursion_desired);
    assert_ne!(asked.metadata.id, query.metadata.id, "a new ID");
    let edns = asked.edns.as_ref().expect("EDNS");
    assert!(edns.flags().dnssec_ok);
    assert_eq!(
        (edns.max_payload(), edns.option(EdnsCode::Subnet)),
        (1232, None)
    );
}

#[test]
fn equal_queries_are_sent_once() {
    let (upstream, gate) = Upstream::gated();
    let server = server(&upstream, "");
    std::thread::scope(|scope| {
        let asks: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| addresses(server.address, "same.example")))
            .collect();
        crate::support::client::until("all to join", || server.count("coalesced") == 7);
        gate.store(true, Ordering::Relaxed);
        for asked in asks {
            assert_eq!(asked.join().expect("an answer"), ["192.0.2.1"]);
        }
    });
    // Upstream answered only when all clients were waiting. Until then, the upstream pool may have retried at its only
    // server. These retries belong to one query.
    let first: Vec<_> = upstream.asked().iter().map(name).collect();
    assert!(
        first.iter().all(|name| name == "same.example") && first.len() <= 3,
        "{first:?}"
    );
}

#[test]
fn a_truncated_answer_is_fetched_by_tcp_and_truncated_again_for_small_clients() {
    let upstream = Upstream::start(|asked| {
        let mut message = answer(asked, ResponseCode::NoError);
        if asked.tcp {
            let owner = asked.message.queries[0].name();
            for n in 0..20_u8 {
                let text = format!("{n:03}{}", "x".repeat(200));
                let data = RData::TXT(TXT::new(vec![text]));
                message
                    .answers
                    .push(Record::from_rdata(owner.clone(), 60, data));
            }
        } else {
            message.metadata.truncation = true;
        }
        Some(message)
    });
    let server = server(&upstream, "");
    let by_udp = ask(server.address, "long.example", RecordType::TXT);
    assert!(by_udp.metadata.truncation && by_udp.answers.is_empty());
    let mut stream = Stream::open(server.address);
    stream.send(&query("long.example", RecordType::TXT));
    let by_tcp = stream.receive().expect("an answer");
    assert!(!by_tcp.metadata.truncation);
    assert_eq!(by_tcp.answers.len(), 20);
    assert_eq!(
        server.count("upstream_tcp_queries"),
        1,
        "the second was answered from the cache"
    );
    assert_eq!(server.count("send_errors"), 0);
}

#[test]
fn a_dead_server_is_skipped() {
    let (dead, _held) = Upstream::silent_address();
    let upstream = Upstream::plain();
    let servers = format!("servers = [\"{dead}\", \"{}\"]", upstream.address);
    let config = preamble(upstream.address);
    let config = config.replace(&format!("servers = [\"{}\"]", upstream.address), &servers);
    let server = Server::start(&config, &[]);
    for n in 0..6 {
        assert_eq!(
            addresses(server.address, &format!("n{n}.example")),
            ["192.0.2.1"]
        );
    }
}

#[test]
fn with_all_upstreams_dead_clients_get_servfail_and_blocked_names_are_answered() {
    let (dead, _held) = Upstream::silent_address();
    let config = preamble(dead) + "timeout-ms = 300\n" + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    let answer = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&answer), ResponseCode::ServFail);
    assert_eq!(errors(&answer)[0].0, 22);
    assert!(is_blocked(server.address, "blocked.example"));
    let again = ask(server.address, "a.example", RecordType::A);
    let codes: Vec<_> = errors(&again).iter().map(|e| e.0).collect();
    assert_eq!(codes, [22, 13], "remembered");
}

#[test]
fn an_answer_past_its_ttl_is_served_when_upstream_fails() {
    let fails = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&fails);
    let upstream = Upstream::start(move |asked| {
        if now.load(Ordering::Relaxed) {
            return Some(answer(asked, ResponseCode::ServFail));
        }
        if name(asked) == "no.example" {
            let mut message = answer(asked, ResponseCode::NXDomain);
            message.authorities.push(soa("example.", 1));
            return Some(message);
        }
        let mut message = address_of(asked, [192, 0, 2, 1]);
        message.answers[0].ttl = 1;
        Some(message)
    });
    let server = server(&upstream, "");
    ask(server.address, "a.example", RecordType::A);
    ask(server.address, "no.example", RecordType::A);
    fails.store(true, Ordering::Relaxed);
    let mut stale = Message::query();
    crate::support::client::until("the TTL's end", || {
        stale = ask(server.address, "a.example", RecordType::A);
        !errors(&stale).is_empty()
    });
    assert_eq!(errors(&stale)[0].0, 3);
    assert_eq!(
        (rcode(&stale), stale.answers[0].ttl),
        (ResponseCode::NoError, 30)
    );
    crate::support::client::until("the negative TTL's end", || {
        stale = ask(server.address, "no.example", RecordType::A);
        !errors(&stale).is_empty()
    });
    assert_eq!(
        (rcode(&stale), errors(&stale)[0].0),
        (ResponseCode::NXDomain, 19)
    );
    let fresh = ask(server.address, "b.example", RecordType::A);
    assert_eq!(
        rcode(&fresh),
        ResponseCode::ServFail,
        "there is no stale answer"
    );
}

#[test]
fn the_cache_holds_unfiltered_answers_and_the_policy_is_evaluated_on_every_hit() {
    let upstream = Upstream::start(|asked| {
        let mut message = address_of(asked, [192, 0, 2, 1]);
        if name(asked) == "alias.example" {
            message.answers = vec![alias("alias.example.", "target.example.", 300)];
            let data = RData::A(A([192, 0, 2, 1].into()));
            let owner = hickory_proto::rr::Name::from_ascii("target.example.").expect("a name");
            message.answers.push(Record::from_rdata(owner, 300, data));
        }
        Some(message)
    });
    let server = server(&upstream, "");
    let seen = |name: &str| addresses(server.address, name).last().cloned();
    let upstream_address = Some("192.0.2.1".to_owned());
    let sinkhole = Some("0.0.0.0".to_owned());
    assert_eq!(
        (seen("a.example"), seen("alias.example")),
        (upstream_address.clone(), upstream_address.clone())
    );
    server.replace("ads", "blocked.example\na.example\ntarget.example\n");
    assert!(server.verb(&["reload"]).status.success());
    assert_eq!(
        (seen("a.example"), seen("alias.example")),
        (sinkhole.clone(), sinkhole)
    );
    server.replace("ads", "blocked.example\nother.example\n");
    assert!(server.verb(&["reload"]).status.success());
    assert_eq!(
        (seen("a.example"), seen("alias.example")),
        (upstream_address.clone(), upstream_address)
    );
    assert_eq!(upstream.asked().len(), 2, "each was asked once");
    assert_eq!(server.count("blocked_cname_target"), 1);
}
