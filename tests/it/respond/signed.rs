//! Policy zones with `break-dnssec = false`: their rules do not change signed answers to clients that ask for DNSSEC records
//! (section 2 of draft-vixie-dnsop-dns-rpz-00).

use std::sync::Arc;

use RecordType::{A, ANY, CNAME, DNAME, DS, HTTPS, NSEC, SOA};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name as DnsName, RData, Record, RecordType};
use tapis::policy::effect::EffectAction;
use tapis::policy::rule::Action;
use tapis::serve::cache::Failure;
use tapis::serve::step::Resolution;
use tapis::stats::Count;
use tapis::wire::answer::Intake;
use tapis::wire::flag::RD;
use tapis::wire::name::Name;

use super::ask::{Ask, ask};
use super::harness::{Harness, List, PERMITTED, harness, key, list, snapshot};
use super::targets::https;
use super::triggers::with_hint;
use super::upstream_answer::{BOUNDS, UpstreamAnswer, a, cname, rrsig, soa, upstream_answer};

const ASKED: &str = "www.example";
const BLOCKED: &str = "blocked by the zone";
const TRUE: &str = "as upstream says";

/// A zone that spares signed answers.
fn sparing(name: &str) -> List {
    list(name).action(Action::Nodata).zone(false)
}

fn address(name: &str) -> Record {
    a(name, 300, [192, 0, 2, 7])
}

fn unsigned() -> UpstreamAnswer {
    upstream_answer(ASKED, A).answers([address(ASKED)])
}

fn signed() -> UpstreamAnswer {
    unsigned().answers([rrsig(ASKED, 300, A)])
}

fn validating() -> Ask<'static> {
    ask(ASKED, A).dnssec_ok()
}

/// A harness whose cache has this answer, with and without its signatures.
fn with(lists: impl IntoIterator<Item = List>, answer: UpstreamAnswer) -> Harness {
    let harness = harness(lists);
    harness.learn(validating(), answer);
    harness.learn(ask(ASKED, A), unsigned());
    harness
}

fn outcome(harness: &Harness, ask: Ask<'_>) -> &'static str {
    match harness.answer(ask).count {
        Count::Blocked | Count::BlockedTarget => BLOCKED,
        Count::CacheHits => TRUE,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signed_answer_is_not_changed_for_a_client_that_asks_for_dnssec() {
    for zone in [
        sparing("zone").exact(ASKED),
        sparing("zone").below("example"),
        sparing("zone").client("192.0.2.1/32"),
        sparing("zone").address("192.0.2.0/24"),
        sparing("zone").pattern("w{3}"),
        sparing("zone").exact(ASKED).acts(EffectAction::TcpOnly),
    ] {
        let harness = with([zone], signed());
        let decoded = harness.answer(validating());
        assert_eq!(decoded.count, Count::CacheHits);
        assert_eq!(decoded.answers().len(), 2, "with the signature");
    }
    let dropping = sparing("zone")
        .exact(ASKED)
        .acts(EffectAction::Block(Action::Drop));
    assert_eq!(outcome(&with([dropping], signed()), validating()), TRUE);
}

#[test]
fn other_answers_and_answers_to_other_clients_are_changed() {
    for zone in [
        || sparing("zone").exact(ASKED),
        || sparing("zone").client("192.0.2.1/32"),
        || sparing("zone").address("192.0.2.0/24"),
    ] {
        assert_eq!(outcome(&with([zone()], unsigned()), validating()), BLOCKED);
        assert_eq!(outcome(&with([zone()], signed()), ask(ASKED, A)), BLOCKED);
        let breaking = zone().zone(true);
        assert_eq!(outcome(&with([breaking], signed()), validating()), BLOCKED);
    }
}

#[test]
fn upstream_is_asked_only_if_the_answer_matters() {
    let is_asked = |zone: List, ask: Ask<'_>| {
        let harness = harness([zone.exact(ASKED)]);
        matches!(
            harness.take(0, PERMITTED, &ask.packet()),
            super::decoded::Outcome::Resolve(..)
        )
    };
    assert!(is_asked(sparing("zone"), validating()));
    assert!(!is_asked(sparing("zone"), ask(ASKED, A)));
    assert!(!is_asked(sparing("zone").zone(true), validating()));
    // The answer to ANY does not come from upstream, and is not signed.
    assert!(!is_asked(sparing("zone"), ask(ASKED, ANY).dnssec_ok()));
    // Nor is that without RD, which no policy zone applies to.
    let without_rd = validating().flags(0);
    let decoded = harness([sparing("zone").exact(ASKED)]).answer(without_rd);
    assert_eq!(decoded.count, Count::NoRecursion);
}

#[test]
fn a_special_use_name_is_blocked_because_its_answer_is_not_signed() {
    let decoded =
        harness([sparing("zone").exact("localhost")]).answer(ask("localhost", A).dnssec_ok());
    assert_eq!(decoded.count, Count::Blocked);
}

#[test]
fn the_rule_applies_once_upstream_has_answered() {
    let harness = harness([sparing("zone").exact(ASKED)]);
    let conclude = |answer: UpstreamAnswer| {
        let resolution = Resolution::Answered(answer.entry(0));
        harness.conclude(0, validating(), &resolution).reply()
    };
    assert_eq!(conclude(signed()).count, Count::Resolved);
    let blocked = conclude(unsigned());
    assert_eq!((blocked.count, blocked.codes()), (Count::Blocked, vec![15]));
    assert!(blocked.answers().is_empty());
}

#[test]
fn a_failure_of_upstream_is_passed_on() {
    let harness = harness([sparing("zone").exact(ASKED)]);
    let failed = |failure: Failure| {
        let resolution = Resolution::Failed(failure.into(), None);
        harness.conclude(0, validating(), &resolution).reply()
    };
    let decoded = failed(Failure {
        code: 22,
        said: None,
    });
    assert_eq!(
        (decoded.count, decoded.rcode()),
        (Count::Failed, ResponseCode::ServFail)
    );
    let said = upstream_answer(ASKED, A).rcode(ResponseCode::ServFail);
    let decoded = failed(Failure {
        code: 6,
        said: Some(said.entry(0)),
    });
    assert_eq!(
        (decoded.count, decoded.rcode()),
        (Count::Failed, ResponseCode::ServFail)
    );
}

#[test]
fn a_rule_that_breaks_dnssec_applies_even_if_upstream_fails() {
    let list = list("list").exact(ASKED);
    let harness = harness([sparing("zone").exact(ASKED), list]);
    let failure = Failure {
        code: 22,
        said: None,
    };
    let resolution = Resolution::Failed(failure.into(), None);
    let decoded = harness.conclude(0, validating(), &resolution).reply();
    assert_eq!(decoded.errors(), [(15, "list".to_owned())]);
}

#[test]
fn rules_of_later_sources_apply_to_an_answer_that_a_zone_spares() {
    let later = [
        list("later").exact(ASKED),
        list("later").address("192.0.2.0/24"),
        list("later").client("192.0.2.0/24"),
        list("later").pattern("w{3}"),
    ];
    for later in later {
        let zones = [
            sparing("one").subtree(ASKED),
            sparing("two").client("192.0.2.1/32"),
            later,
        ];
        let decoded = with(zones, signed()).answer(validating());
        assert_eq!(decoded.errors(), [(15, "later".to_owned())]);
    }
}

#[test]
fn rules_that_allow_a_name_apply_to_signed_answers() {
    let lists = || {
        let allowing = sparing("two").exact(ASKED).acts(EffectAction::Allow);
        [allowing, list("list").exact(ASKED)]
    };
    assert_eq!(outcome(&with(lists(), signed()), validating()), TRUE);
    let first = sparing("one").exact(ASKED);
    let lists = [first].into_iter().chain(lists());
    assert_eq!(outcome(&with(lists, signed()), validating()), TRUE);
    // Of a zone that is spared, no other rule applies.
    let both = sparing("one").exact(ASKED).below("example");
    let lists = [both.acts(EffectAction::Allow), list("list").exact(ASKED)];
    let decoded = with(lists, signed()).answer(validating());
    assert_eq!(decoded.errors(), [(15, "list".to_owned())]);
}

/// The answers of a chain from the queried name over `edge.example` to `end.example`, of whose links these are signed.
fn chained(signatures: [bool; 3]) -> UpstreamAnswer {
    let names = [ASKED, "edge.example", "end.example"];
    let types = [CNAME, CNAME, A];
    let records = [
        cname(ASKED, 300, "edge.example"),
        cname("edge.example", 300, "end.example"),
        address("end.example"),
    ];
    let signatures = names.into_iter().zip(types).zip(signatures);
    let signatures = signatures.filter(|(_, is_signed)| *is_signed);
    let signatures = signatures.map(|((name, rtype), _)| rrsig(name, 300, rtype));
    upstream_answer(ASKED, A)
        .answers(records)
        .answers(signatures)
}

#[test]
fn at_each_link_of_a_chain_its_own_signature_counts() {
    for signatures in 0..8 {
        let signatures = [1, 2, 4].map(|link| signatures & link != 0);
        let rules: [fn(List) -> List; 4] = [
            |zone| zone.exact(ASKED),
            |zone| zone.exact("edge.example"),
            |zone| zone.exact("end.example"),
            |zone| zone.address("192.0.2.0/24"),
        ];
        for (rule, link) in rules.into_iter().zip([0, 1, 2, 2]) {
            let harness = with([rule(sparing("zone"))], chained(signatures));
            let expected = if signatures[link] { TRUE } else { BLOCKED };
            assert_eq!(
                outcome(&harness, validating()),
                expected,
                "{link} {signatures:?}"
            );
        }
    }
}

#[test]
fn a_link_that_a_signed_dname_leads_to_is_signed() {
    let dname = || {
        let target = b"\x05there\x00".to_vec();
        let owner = DnsName::from_ascii("example.").expect("a name");
        let data = RData::Unknown {
            code: DNAME,
            rdata: NULL::with(target),
        };
        Record::from_rdata(owner, 300, data)
    };
    let records = || {
        [
            dname(),
            cname(ASKED, 300, "www.there"),
            address("www.there"),
        ]
    };
    let answer = || upstream_answer(ASKED, A).answers(records());
    let zone = || [sparing("zone").exact(ASKED)];
    assert_eq!(outcome(&with(zone(), answer()), validating()), BLOCKED);
    let signed = answer().answers([rrsig("example", 300, DNAME)]);
    assert_eq!(outcome(&with(zone(), signed), validating()), TRUE);
}

#[test]
fn a_denial_is_signed_if_its_proof_is() {
    for rcode in [ResponseCode::NXDomain, ResponseCode::NoError] {
        let denial = || {
            upstream_answer(ASKED, A)
                .rcode(rcode)
                .authority(soa("example", 300, 300))
        };
        let zone = || [sparing("zone").exact(ASKED)];
        assert_eq!(outcome(&with(zone(), denial()), validating()), BLOCKED);
        let signed = denial().authority(rrsig("example", 300, SOA));
        assert_eq!(outcome(&with(zone(), signed), validating()), TRUE);
        let proof = Record::from_rdata(
            DnsName::from_ascii("example.").expect("a name"),
            300,
            RData::Unknown {
                code: NSEC,
                rdata: NULL::with(b"\x00\x00\x01\x40".to_vec()),
            },
        );
        assert_eq!(
            outcome(&with(zone(), denial().authority(proof)), validating()),
            TRUE
        );
    }
}

#[test]
fn a_stale_answer_counts_as_signed_if_it_was() {
    for (answer, expected) in [(signed(), Count::Stale), (unsigned(), Count::Blocked)] {
        let harness = with([sparing("zone").exact(ASKED)], answer);
        let failure = Failure {
            code: 22,
            said: None,
        };
        harness.fail(validating(), failure, 400);
        assert_eq!(harness.answer_at(400, validating()).count, expected);
    }
}

#[test]
fn a_redirect_applies_to_an_unsigned_answer() {
    let zone = || {
        let target = Arc::new(Name::from_text("garden.example").expect("a name"));
        let prepend = false;
        [sparing("zone")
            .exact(ASKED)
            .acts(EffectAction::Cname { target, prepend })]
    };
    assert_eq!(outcome(&with(zone(), signed()), validating()), TRUE);
    let harness = with(zone(), unsigned());
    let (wanted, _) = harness.take(0, PERMITTED, &validating().packet()).resolve();
    assert_eq!(wanted, key(ask("garden.example", A)));
    let garden = upstream_answer("garden.example", A).answers([address("garden.example")]);
    let resolution = Resolution::Answered(garden.entry(0));
    let decoded = harness.conclude(0, validating(), &resolution).reply();
    let alias = "www.example. 60 IN CNAME garden.example.";
    assert_eq!(
        decoded.answers(),
        [alias, "garden.example. 300 IN A 192.0.2.7"]
    );
    assert_eq!(decoded.count, Count::Blocked);
}

#[test]
fn signed_records_of_services_are_not_left_out() {
    let asked = ask("svc.example", HTTPS).dnssec_ok();
    let records = || {
        [
            https("svc.example", 1, "alt.example"),
            with_hint("svc.example", 2, [192, 0, 2, 7]),
        ]
    };
    let answer = || upstream_answer("svc.example", HTTPS).answers(records());
    for zone in [
        || sparing("zone").exact("alt.example"),
        || sparing("zone").address("192.0.2.7/32"),
    ] {
        let answers = |answer: UpstreamAnswer| {
            let harness = harness([zone()]);
            harness.learn(asked, answer);
            harness.answer(asked).answers().len()
        };
        assert_eq!(answers(answer()), 1);
        assert_eq!(
            answers(answer().answers([rrsig("svc.example", 300, HTTPS)])),
            3
        );
    }
}

#[test]
fn additional_records_are_left_out_because_they_are_sent_without_signatures() {
    let bounds = Intake {
        additional: true,
        ..BOUNDS
    };
    let asked = ask("svc.example", HTTPS).dnssec_ok();
    for zone in [
        sparing("zone").exact("alt.example"),
        sparing("zone").address("192.0.2.7/32"),
        list("other"),
    ] {
        let is_kept = zone.is_empty();
        let answer = upstream_answer("svc.example", HTTPS)
            .answers([
                https("svc.example", 1, "alt.example"),
                rrsig("svc.example", 300, HTTPS),
            ])
            .additionals([address("alt.example"), rrsig("alt.example", 300, A)]);
        let harness = harness([zone]);
        harness.insert(asked, answer.entry_within(bounds, 0));
        let decoded = harness.answer(asked);
        assert_eq!(decoded.answers().len(), 2);
        assert_eq!(decoded.additionals().len(), usize::from(is_kept));
    }
}

#[test]
fn the_records_of_the_chain_of_trust_are_not_affected() {
    let harness = harness([sparing("zone").exact(ASKED)]);
    let asked = ask(ASKED, DS).dnssec_ok().flags(RD);
    let (wanted, _) = harness.take(0, PERMITTED, &asked.packet()).resolve();
    assert_eq!(wanted, key(asked));
}

#[test]
fn a_snapshot_under_which_nothing_is_spared_answers_at_once() {
    let mut harness = harness([sparing("zone").exact(ASKED)]);
    harness.snapshot = snapshot([sparing("zone").zone(true).exact(ASKED)]);
    let resolution = Resolution::Answered(signed().entry(0));
    let decoded = harness.conclude(0, validating(), &resolution).reply();
    assert_eq!(
        decoded.count,
        Count::Blocked,
        "the policy has changed meanwhile"
    );
}
