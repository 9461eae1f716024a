//! HTTPS records, some of which lead to a blocked name, at the end of chains of CNAME and DNAME records.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use allocation_counter::measure;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType::{self, A, CNAME, HTTPS};
use hickory_proto::rr::rdata::{MX, NULL};
use hickory_proto::rr::{Name, RData, Record};
use proptest::prelude::*;
use tapis::policy::builder::Builder;
use tapis::policy::images::Images;
use tapis::policy::rule::{Against, Kind, Scope, Source};
use tapis::serve::respond::respond;
use tapis::stats::Count;
use tapis::wire::answer::Intake;
use tapis::wire::flag::AD;
use tapis::wire::name::Name as WireName;

use super::ask::ask;
use super::decoded::Decoded;
use super::harness::{Harness, PERMITTED_BY_STREAM, harness, list};
use super::targets::https;
use super::upstream_answer::{BOUNDS, UpstreamAnswer, a, cname, rrsig, soa, upstream_answer};
use crate::support::policy;

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

/// A server with eight exceptions on the queried name, against the list that blocks `bad.svc.org`.
fn excepted() -> Harness {
    let name = |text| WireName::from_text(text).expect("a name");
    let (mut lists, mut orders) = (Builder::new(), Builder::new());
    let (asked, bad) = (name(ASKED), name("bad.svc.org"));
    lists.list("ads", [(&bad, Scope::Subtree)]).expect("room");
    let mut sources = vec![Arc::new(policy::list("ads"))];
    for number in 0..8 {
        let exception = format!("exception:{number}");
        orders
            .list(&exception, [(&asked, Scope::Exact)])
            .expect("room");
        let against = Against::Named(vec!["ads".to_owned()]);
        sources.push(Arc::new(Source {
            kind: Kind::Exception,
            against,
            ..policy::list(&exception)
        }));
    }
    let images = Images {
        base: Some(Arc::new(lists.finish().expect("room"))),
        orders: Some(Arc::new(orders.finish().expect("room"))),
        ..Images::default()
    };
    let mut harness = harness([]);
    harness.snapshot = harness.snapshot.with_rules(sources, images);
    harness
}

#[test]
fn what_exceptions_on_the_queried_name_ignore_is_found_once_for_an_answer() {
    // More exceptions than have room on the stack, so that each search for them allocates.
    let allocations = |services: u16, additional: u16| {
        let (harness, asked) = (excepted(), ask(ASKED, HTTPS).dnssec_ok());
        let records =
            (0..services).map(|number| https(ASKED, number, &format!("x{number}.bad.svc.org")));
        let owners = (0..additional).map(|number| format!("x{}.bad.svc.org", number / 2));
        let answer = upstream_answer(ASKED, HTTPS)
            .answers(records)
            .additionals(owners.map(|owner| a(&owner, 300, [192, 0, 2, 1])));
        let intake = Intake {
            additional: true,
            ..BOUNDS
        };
        harness.insert(asked, answer.entry_within(intake, 0));
        let (packet, mut out) = (asked.packet(), Vec::with_capacity(1 << 16));
        let (snapshot, cache) = (&harness.snapshot, &harness.cache);
        let counted = measure(|| {
            let step = respond(0, &PERMITTED_BY_STREAM, &packet, snapshot, cache, &mut out);
            assert!(
                matches!(step, tapis::serve::step::Step::Reply(_)),
                "{step:?}"
            );
        });
        let decoded = harness
            .take(0, PERMITTED_BY_STREAM, &asked.packet())
            .reply();
        let kept = decoded.answers().len() + decoded.additionals().len();
        assert_eq!(
            kept,
            usize::from(services + additional),
            "no rule of the list applies"
        );
        counted.count_total
    };
    let one = allocations(1, 0);
    assert!(one > 0, "the exceptions have no room on the stack");
    assert_eq!(allocations(40, 0), one);
    assert_eq!(allocations(4, 8), one);
}

#[test]
fn at_most_64_owners_of_the_additional_section_are_decided() {
    let named = |text: &str| Name::from_ascii(format!("{text}.")).expect("a name");
    let exchange = |number: u16| named(&format!("x{number}.svc.org"));
    let exchanges = (0..70).map(|number| {
        let data = RData::MX(MX::new(number, exchange(number)));
        Record::from_rdata(named(ASKED), 300, data)
    });
    let addresses = (0..70).flat_map(|number| {
        let v4 = RData::A(Ipv4Addr::new(192, 0, 2, 1).into());
        let v6 = RData::AAAA(Ipv6Addr::LOCALHOST.into());
        [v6, v4].map(|data| Record::from_rdata(exchange(number), 300, data))
    });
    let answer = upstream_answer(ASKED, RecordType::MX).answers(exchanges);
    let asked = ask(ASKED, RecordType::MX);
    let intake = Intake {
        additional: true,
        ..BOUNDS
    };
    let harness = blocking();
    let entry = answer.additionals(addresses).entry_within(intake, 0);
    harness.insert(asked, entry);
    let decoded = harness.take(0, PERMITTED_BY_STREAM, &asked.packet());
    let decoded = decoded.reply();
    assert_eq!(decoded.answers().len(), 70);
    let kept = decoded.additionals().len();
    assert_eq!(kept, 2 * 64, "records of further owners are left out");
}
