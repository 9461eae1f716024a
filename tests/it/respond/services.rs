//! HTTPS records, some of which lead to a blocked name, at the end of chains of CNAME and DNAME records.

use std::sync::LazyLock;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType::{self, A, CNAME, HTTPS};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name, RData, Record};
use proptest::prelude::*;
use tapis::stats::Count;
use tapis::wire::answer::Intake;
use tapis::wire::flag::AD;

use super::ask::ask;
use super::decoded::Decoded;
use super::harness::{Harness, PERMITTED_BY_STREAM, harness, list};
use super::targets::https;
use super::upstream_answer::{BOUNDS, UpstreamAnswer, a, cname, rrsig, soa, upstream_answer};

const ASKED: &str = "www.a.example";
const DNAME: RecordType = RecordType::Unknown(39);

fn dname(owner: &str, target: &str) -> Record {
    let mut data = Vec::new();
    for label in target.split('.') {
        data.push(label.len() as u8);
        data.extend(label.as_bytes());
    }
    data.push(0);
    let data = RData::Unknown {
        code: DNAME,
        rdata: NULL::with(data),
    };
    let owner = Name::from_ascii(format!("{owner}.")).expect("a name");
    Record::from_rdata(owner, 300, data)
}

/// A server that blocks `bad.svc.org`.
fn blocking() -> Harness {
    harness([list("ads").subtree("bad.svc.org")])
}

/// Shared by the many cases of a test.
static BLOCKING: LazyLock<Harness> = LazyLock::new(blocking);

/// The answer to a client that asked for signatures.
fn answered(harness: &Harness, answer: UpstreamAnswer) -> Decoded {
    let asked = ask(ASKED, HTTPS).dnssec_ok();
    let intake = Intake {
        additional: true,
        ..BOUNDS
    };
    harness.insert(asked, answer.entry_within(intake, 0));
    harness
        .take(0, PERMITTED_BY_STREAM, &asked.packet())
        .reply()
}

/// Records as parsed from a message.
fn as_read(records: &[Record]) -> Vec<Record> {
    let mut message = Message::query();
    message.add_answers(records.iter().cloned());
    let bytes = message.to_vec().expect("it can be written");
    Message::from_vec(&bytes).expect("it can be read").answers
}

#[test]
fn a_signed_chain_stays_whole_when_one_of_its_services_is_blocked() {
    let chain = [
        cname(ASKED, 300, "b.c.net"),
        rrsig(ASKED, 300, CNAME),
        cname("b.c.net", 300, "d.e.org"),
        https("d.e.org", 1, "ok.svc.org"),
    ];
    let decoded = answered(
        &blocking(),
        upstream_answer(ASKED, HTTPS)
            .authentic()
            .answers(chain.clone())
            .answers([
                https("d.e.org", 2, "bad.svc.org"),
                rrsig("d.e.org", 300, HTTPS),
            ]),
    );
    assert_eq!(decoded.message.answers, as_read(&chain));
    assert!(!decoded.has(AD), "the set of services is not whole");
    assert_eq!(decoded.count, Count::CacheHits);
}

#[test]
fn a_signed_dname_stays_whole_when_one_of_its_services_is_blocked() {
    let chain = [
        dname("a.example", "c.net"),
        rrsig("a.example", 300, DNAME),
        cname(ASKED, 300, "www.c.net"),
        https("www.c.net", 1, "."),
    ];
    let blocked = https("www.c.net", 2, "x.bad.svc.org");
    let decoded = answered(
        &blocking(),
        upstream_answer(ASKED, HTTPS)
            .answers(chain.clone())
            .answers([blocked]),
    );
    assert_eq!(decoded.message.answers, as_read(&chain));
}

/// One step of a chain.
#[derive(Clone, Debug)]
struct Step {
    zone: &'static str,
    /// `Some` for a DNAME: whether its CNAME is sent as well. `None` for a CNAME.
    renames: Option<bool>,
    signatures: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let zone = prop::sample::select(vec!["c.net", "E.org", "example", "svc.org", "xn--p1ai"]);
    (zone, prop::option::of(any::<bool>()), 0..3_usize).prop_map(|(zone, renames, signatures)| {
        Step {
            zone,
            renames,
            signatures,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_chain_with_any_signatures_loses_only_blocked_services_and_their_signatures(
        steps in prop::collection::vec(step(), 0..6),
        mut blocked in prop::collection::vec(any::<bool>(), 1..5),
        signatures in 0..3_usize,
        has_proof in any::<bool>(),
    ) {
        // One of each at least.
        blocked.extend([true, false]);
        let mut sent = Vec::new();
        let mut expected = Vec::new();
        let mut at = ASKED.to_owned();
        for (number, step) in steps.iter().enumerate() {
            let zone = format!("z{number}.{}", step.zone);
            let signed = |owner: &str, rtype| vec![rrsig(owner, 300, rtype); step.signatures];
            let (first, parent) = at.split_once('.').expect("two labels");
            let next = match step.renames {
                Some(_) => format!("{first}.{zone}"),
                None => format!("h{number}.{zone}"),
            };
            let alias = cname(&at, 300, &next);
            match step.renames {
                Some(is_sent) => {
                    let renaming = [vec![dname(parent, &zone)], signed(parent, DNAME)].concat();
                    sent.extend(renaming.clone());
                    sent.extend(is_sent.then(|| alias.clone()));
                    expected.extend(renaming);
                    expected.push(alias);
                }
                None => {
                    let all = [vec![alias], signed(&at, CNAME)].concat();
                    sent.extend(all.clone());
                    expected.extend(all);
                }
            }
            at = next;
        }
        let mut additional = vec![a(&at, 300, [192, 0, 2, 1])];
        let mut free = additional.clone();
        for (number, is_blocked) in blocked.iter().enumerate() {
            let zone = if *is_blocked { "bad.svc.org" } else { "ok.svc.org" };
            let target = format!("s{number}.{zone}");
            let service = https(&at, number as u16 + 1, &target);
            let address = a(&target, 300, [192, 0, 2, 2]);
            sent.push(service.clone());
            additional.push(address.clone());
            if !is_blocked {
                expected.push(service);
                free.push(address);
            }
        }
        sent.extend(vec![rrsig(&at, 300, HTTPS); signatures]);
        let mut answer = upstream_answer(ASKED, HTTPS).authentic().answers(sent).additionals(additional);
        if has_proof {
            answer = answer.authority(soa("a.example", 300, 300));
        }
        let decoded = answered(&BLOCKING, answer);
        prop_assert_eq!(&decoded.message.answers, &as_read(&expected));
        prop_assert!(decoded.message.authorities.is_empty());
        prop_assert_eq!(&decoded.message.additionals, &as_read(&free));
        prop_assert!(!decoded.has(AD));
        prop_assert!(decoded.message.answers.iter().all(|record| record.record_type() != A));
    }
}
