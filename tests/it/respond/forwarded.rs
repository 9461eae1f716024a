//! Names without a rule, from the query to the upstream's answer.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, ANY, HTTPS, TXT};
use tapis::serve::step::Resolution;
use tapis::stats::Count;
use tapis::wire::flag::{CD, RD};

use super::ask::ask;
use super::harness::{PERMITTED, PERMITTED_BY_STREAM, harness, list};
use super::upstream_answer::{a, rrsig, soa, upstream_answer};

#[test]
fn a_name_without_a_rule_is_forwarded_as_the_client_asked_it() {
    let harness = harness([list("ads").exact("bad.example")]);
    let plain = ask("Good.Example", TXT);
    for (asked, dnssec, checking_disabled) in [
        (plain, false, false),
        (plain.dnssec_ok(), true, false),
        (plain.flags(RD | CD), false, true),
    ] {
        let (key, stale) = harness.take(0, PERMITTED, &asked.packet()).resolve();
        assert_eq!(key.name(), b"\x04good\x07example\x00");
        assert_eq!(key.rtype(), 16);
        assert_eq!(
            (key.question().dnssec_ok, key.question().checking_disabled),
            (dnssec, checking_disabled)
        );
        assert!(stale.is_none());
    }
    harness
        .take(0, PERMITTED_BY_STREAM, &plain.packet())
        .resolve();
    harness
        .take(
            0,
            PERMITTED,
            &ask("www.bad.example.example", HTTPS).packet(),
        )
        .resolve();
}

#[test]
fn any_is_answered_with_hinfo_and_never_forwarded() {
    for client in [PERMITTED, PERMITTED_BY_STREAM] {
        let packet = ask("good.example", ANY).dnssec_ok().packet();
        let decoded = harness([]).take(0, client, &packet).reply();
        let [record] = &decoded.message.answers[..] else {
            panic!("one record: {:?}", decoded.answers());
        };
        assert_eq!(
            (record.name.to_string(), record.ttl),
            ("good.example.".to_owned(), 3600)
        );
        assert_eq!(u16::from(record.record_type()), 13);
        assert!(record.data.to_string().contains("RFC8482"));
        assert_eq!(
            (decoded.rcode(), decoded.count),
            (ResponseCode::NoError, Count::Any)
        );
    }
}

#[test]
fn an_upstream_answer_keeps_its_signatures_and_loses_surplus_records() {
    let asked = ask("Good.Example", A).dnssec_ok();
    let entry = upstream_answer("good.example", A)
        .authoritative()
        .answers([
            a("good.example", 300, [192, 0, 2, 7]),
            rrsig("good.example", 300, A),
        ])
        .authority(soa("example", 600, 60))
        .additionals([a("ns.elsewhere", 900, [192, 0, 2, 53])])
        .entry(100);
    let harness = harness([list("ads").exact("bad.example")]);
    let decoded = harness
        .conclude(100, asked, &Resolution::Answered(entry))
        .reply();
    assert_eq!(
        (decoded.count, decoded.rcode()),
        (Count::Resolved, ResponseCode::NoError)
    );
    assert_eq!(decoded.answers()[0], "Good.Example. 300 IN A 192.0.2.7");
    assert_eq!(decoded.answers().len(), 2);
    assert!(decoded.authorities().is_empty() && decoded.additionals().is_empty());
}

#[test]
fn a_negative_answer_of_upstream_is_passed_on_unchanged() {
    let asked = ask("none.example", A);
    let entry = upstream_answer("none.example", A)
        .rcode(ResponseCode::NXDomain)
        .authority(soa("example", 600, 60))
        .entry(0);
    let decoded = harness([])
        .conclude(0, asked, &Resolution::Answered(entry))
        .reply();
    assert_eq!(
        (decoded.rcode(), decoded.count),
        (ResponseCode::NXDomain, Count::Resolved)
    );
    let soa = "example. 60 IN SOA ns.elsewhere. who.elsewhere. 1 2 3 4 60";
    assert_eq!(decoded.authorities(), [soa], "the TTL is at most MINIMUM");
}
