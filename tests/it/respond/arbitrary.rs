//! Arbitrary bytes and mutated queries: properties that must hold for all of them.

use std::sync::{Arc, LazyLock};

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType::{A, ANY, HTTPS, NS, TXT};
use proptest::prelude::*;
use proptest::sample::Index;
use tapis::policy::rule::Action;
use tapis::serve::cache::{Entry, Failure, Key};
use tapis::serve::client::Client;
use tapis::serve::respond::{Known, conclude, respond};
use tapis::serve::step::{Resolution, Step};
use tapis::wire::answer::Answer;
use tapis::wire::name::Name;
use tapis::wire::query::Query;
use tapis::wire::{class, flag};

use super::ask::{Ask, ask};
use super::harness::{Harness, NOT_PERMITTED, PERMITTED, PERMITTED_BY_STREAM, harness, list};
use super::targets::chained;
use super::upstream_answer::{BOUNDS, many, soa, upstream_answer};

/// Queries that are answered in all possible ways.
fn asked() -> Vec<Ask<'static>> {
    let mut all = Vec::new();
    for (name, rtype) in [
        ("sink.test", A),
        ("a.sink.test", ANY),
        ("sink.test", HTTPS),
        ("nx.test", TXT),
        ("refused.test", A),
        ("dropped.test", A),
        ("ok.nx.test", A),
        ("localhost", ANY),
        ("1.10.in-addr.arpa", NS),
        ("any.example", ANY),
        ("big.example", A),
        ("none.example", A),
        ("www.shop.example", A),
        ("unknown.example", A),
    ] {
        let plain = ask(name, rtype);
        all.extend([plain, plain.edns(700), plain.dnssec_ok(), plain.version(1)]);
    }
    all.push(ask("version.bind", TXT).class(3));
    all
}

/// A server with each kind of rule and answer.
static RICH: LazyLock<Harness> = LazyLock::new(|| {
    let mut harness = harness([
        list("sink").subtree("sink.test").exact("edge.cdn.example"),
        list("nx")
            .action(Action::Nxdomain)
            .subtree("nx.test")
            .below("cdn.example"),
        list("refused")
            .action(Action::Refused)
            .subtree("refused.test"),
        list("dropped").action(Action::Drop).subtree("dropped.test"),
        list("good").allowing().exact("ok.nx.test"),
    ]);
    harness.snapshot.version = Some("sifter".to_owned());
    let none = upstream_answer("none.example", A).rcode(hickory_proto::op::ResponseCode::NXDomain);
    let none = none.authority(soa("example", 900, 900));
    let big = upstream_answer("big.example", A).answers(many("big.example", 200));
    let big = big.option(15, b"\x00\x06why");
    for answer in [big, none, chained(A)] {
        let name = answer.name();
        harness.learn(ask(&name, A), answer.clone());
        harness.learn(ask(&name, A).dnssec_ok(), answer);
    }
    harness
});

/// An answer to any question: addresses, perhaps after a CNAME to a blocked name.
fn answer_to(key: &Key, addresses: u16, alias: bool) -> Option<Arc<Entry>> {
    const BLOCKED: &[u8] = b"\xC0\x0C\x00\x05\x00\x01\x00\x00\x00\x09\x00\x0B\x04sink\x04test\x00";
    const ADDRESS: &[u8] = b"\xC0\x0C\x00\x01\x00\x01\x00\x00\x00\x09\x00\x04\x01\x02\x03\x04";
    let mut bytes = vec![0, 7, 0x81, 0x80, 0, 1];
    bytes.extend_from_slice(&(addresses + u16::from(alias)).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(key.name());
    bytes.extend_from_slice(&key.rtype().to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes.extend_from_slice(if alias { BLOCKED } else { &[] });
    for _ in 0..addresses {
        bytes.extend_from_slice(ADDRESS);
    }
    let (name, _) = Name::parse(key.name(), 0).expect("a key has a name");
    let answer = Answer::parse(&bytes, &name, key.rtype(), class::IN, BOUNDS).ok()?;
    Some(Arc::new(Entry::new(answer, 0)))
}

/// Properties of each reply.
fn check(client: &Client, packet: &[u8], out: &[u8]) -> Result<(), TestCaseError> {
    prop_assert_eq!(&out[..2], &packet[..2], "the ID");
    prop_assert!(out[2] & 0x80 != 0, "QR");
    prop_assert!(
        Message::from_vec(out).is_ok(),
        "another implementation reads it"
    );
    let mut name = Name::default();
    let query = Query::parse(packet, &mut name);
    if query.is_err() {
        prop_assert!(
            out.len() <= packet.len(),
            "a malformed packet is not amplified"
        );
    }
    if !client.transport.is_stream() {
        let offered = query
            .ok()
            .and_then(|query| query.edns)
            .map_or(0, |edns| edns.udp_size);
        prop_assert!(out.len() <= usize::from(offered.clamp(512, 1232)));
    }
    Ok(())
}

fn decode_and_check(
    client: &Client,
    packet: &[u8],
    addresses: u16,
    alias: bool,
) -> Result<(), TestCaseError> {
    let Harness { snapshot, cache } = &*RICH;
    let mut out = Vec::new();
    match respond(9, client, packet, snapshot, cache, &mut out) {
        Step::Drop(_) => Ok(()),
        Step::Reply(_) => check(client, packet, &out),
        Step::Refresh(..) => check(client, packet, &out),
        Step::Resolve(key, stale) => {
            let failure = Arc::new(Failure {
                code: 22,
                said: None,
            });
            let mut resolutions = vec![
                Resolution::Failed(failure, stale.clone()),
                Resolution::Overloaded(stale),
            ];
            // `None` if the question is for the CNAME's target itself.
            resolutions.extend(answer_to(&key, addresses, alias).map(Resolution::Answered));
            for resolution in resolutions {
                let known = Known {
                    resolution: &resolution,
                    cache,
                    is_last: true,
                };
                match conclude(9, client, packet, snapshot, known, &mut out) {
                    Some(Step::Reply(_)) => check(client, packet, &out)?,
                    Some(Step::Drop(_)) => {}
                    other => panic!("not the last step: {other:?}"),
                }
            }
            Ok(())
        }
    }
}

fn clients() -> impl Strategy<Value = Client> {
    prop_oneof![4 => Just(PERMITTED), 2 => Just(PERMITTED_BY_STREAM), 1 => Just(NOT_PERMITTED)]
}

/// A mutation: bytes at a position are replaced, removed or inserted.
fn mutate(packet: &mut Vec<u8>, at: Index, remove: usize, insert: &[u8]) {
    let start = at.index(packet.len() + 1);
    let end = (start + remove).min(packet.len());
    packet.splice(start..end, insert.iter().copied());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn arbitrary_bytes_never_panic_and_never_amplify(
        client in clients(),
        packet in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        decode_and_check(&client, &packet, 1, false)?;
    }

    #[test]
    fn mutated_queries_never_panic_and_every_reply_is_readable_and_fits(
        client in clients(),
        asked in prop::sample::select(asked()),
        changes in prop::collection::vec(
            (any::<Index>(), 0..4_usize, prop::collection::vec(any::<u8>(), 0..4)),
            0..4,
        ),
        addresses in 0..200_u16,
        alias in any::<bool>(),
    ) {
        let mut packet = asked.packet();
        for (at, remove, insert) in changes {
            mutate(&mut packet, at, remove, &insert);
        }
        decode_and_check(&client, &packet, addresses, alias)?;
    }

    #[test]
    fn an_accepted_reply_has_the_question_that_was_asked(
        asked in prop::sample::select(asked()),
        id in any::<[u8; 2]>(),
        flags in any::<u16>().prop_map(|flags| flags & !(flag::QR | 0x7800)),
    ) {
        let mut packet = asked.flags(flags).packet();
        packet[..2].copy_from_slice(&id);
        let mut out = Vec::new();
        let Harness { snapshot, cache } = &*RICH;
        if let Step::Reply(_) = respond(9, &PERMITTED, &packet, snapshot, cache, &mut out) {
            check(&PERMITTED, &packet, &out)?;
            prop_assert!(out[12..].starts_with(&asked.question()));
        }
    }
}
