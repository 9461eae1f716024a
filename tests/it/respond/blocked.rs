//! Answers to blocked names: actions by type, SOA, TTL, the condition for NXDOMAIN.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{
    self, A, AAAA, ANY, CNAME, DNSKEY, DS, HTTPS, MX, SOA, SVCB, TXT,
};
use tapis::policy::rule::Action;
use tapis::stats::Count;

use super::ask::ask;
use super::decoded::Outcome;
use super::harness::{Harness, PERMITTED, harness, list};

const TYPES: [RecordType; 11] = [A, AAAA, HTTPS, SVCB, TXT, MX, ANY, SOA, CNAME, DS, DNSKEY];
const NODATA: &str = "bad.example. 60 IN SOA tapis.invalid. nobody.invalid. 41 3600 600 604800 60";

#[test]
fn a_sinkhole_answers_a_aaaa_and_any_with_its_addresses() {
    let harness = harness([list("ads").exact("bad.example")]);
    let (v4, v6) = ("bad.example. 60 IN A 0.0.0.0", "bad.example. 60 IN AAAA ::");
    for (rtype, records) in [(A, &[v4][..]), (AAAA, &[v6]), (ANY, &[v4, v6])] {
        let decoded = harness.answer(ask("bad.example", rtype));
        assert_eq!(decoded.rcode(), ResponseCode::NoError);
        assert_eq!(decoded.answers(), records, "{rtype}");
        assert!(decoded.authorities().is_empty() && decoded.additionals().is_empty());
        assert_eq!(decoded.count, Count::Blocked);
    }
}

#[test]
fn a_sinkhole_answers_all_other_types_with_nodata_so_that_none_bypasses_the_block() {
    let harness = harness([list("ads").subtree("bad.example")]);
    for rtype in TYPES.into_iter().filter(|t| ![A, AAAA, ANY].contains(t)) {
        let decoded = harness.answer(ask("bad.example", rtype));
        assert_eq!(decoded.rcode(), ResponseCode::NoError, "{rtype}");
        assert!(decoded.answers().is_empty(), "{rtype}");
        assert_eq!(decoded.authorities(), [NODATA], "{rtype}");
    }
}

#[test]
fn a_sinkhole_gives_all_its_addresses_and_nodata_for_a_family_that_it_lacks() {
    let two = list("ads").exact("bad.example").with(|blocking| {
        blocking.sinkhole_v4 = vec![[192, 0, 2, 8].into(), [192, 0, 2, 9].into()];
        blocking.sinkhole_v6.clear();
    });
    let harness = harness([two]);
    let both = [
        "bad.example. 60 IN A 192.0.2.8",
        "bad.example. 60 IN A 192.0.2.9",
    ];
    assert_eq!(harness.answer(ask("bad.example", A)).answers(), both);
    assert_eq!(harness.answer(ask("bad.example", ANY)).answers(), both);
    let decoded = harness.answer(ask("bad.example", AAAA));
    assert!(decoded.answers().is_empty());
    assert_eq!(decoded.authorities(), [NODATA]);
}

#[test]
fn nodata_answers_noerror_and_an_soa_to_every_type() {
    let harness = harness([list("ads").action(Action::Nodata).subtree("bad.example")]);
    for rtype in TYPES {
        let decoded = harness.answer(ask("bad.example", rtype));
        assert_eq!(decoded.rcode(), ResponseCode::NoError, "{rtype}");
        assert!(decoded.answers().is_empty(), "{rtype}");
        assert_eq!(decoded.authorities(), [NODATA], "{rtype}");
    }
}

#[test]
fn nxdomain_answers_every_type_alike() {
    let harness = harness([list("ads").action(Action::Nxdomain).subtree("bad.example")]);
    for rtype in TYPES {
        let decoded = harness.answer(ask("bad.example", rtype));
        assert_eq!(decoded.rcode(), ResponseCode::NXDomain, "{rtype}");
        assert!(decoded.answers().is_empty(), "{rtype}");
        assert_eq!(decoded.authorities(), [NODATA], "{rtype}");
    }
}

#[test]
fn refused_answers_every_type_without_a_record() {
    let harness = harness([list("ads").action(Action::Refused).subtree("bad.example")]);
    for rtype in TYPES {
        let decoded = harness.answer(ask("bad.example", rtype).edns(1232));
        assert_eq!(decoded.rcode(), ResponseCode::Refused, "{rtype}");
        assert!(decoded.is_bare(), "{rtype}");
        assert_eq!(decoded.codes(), [15], "the list's reason");
    }
}

#[test]
fn drop_answers_no_type_at_all() {
    let harness = harness([list("ads").action(Action::Drop).subtree("bad.example")]);
    for rtype in TYPES {
        let outcome = harness.take(0, PERMITTED, &ask("bad.example", rtype).packet());
        assert_eq!(outcome.dropped(), Count::BlockedDrop, "{rtype}");
    }
}

#[test]
fn the_soa_is_owned_by_the_rules_name_with_ttl_and_generation() {
    let lists = || {
        [list("ads")
            .action(Action::Nodata)
            .with(|blocking| blocking.ttl_secs = 7)
            .exact("one.test")
            .subtree("tree.test")
            .below("below.test")]
    };
    let harness = harness(lists());
    for (name, owner) in [
        ("one.test", "one.test."),
        ("tree.test", "tree.test."),
        ("a.b.tree.test", "tree.test."),
        ("a.b.below.test", "below.test."),
        ("A.Tree.Test", "Tree.Test."),
    ] {
        let decoded = harness.answer(ask(name, A));
        let soa = &decoded.message.authorities[0];
        assert_eq!(soa.name.to_string(), owner, "{name}");
        assert_eq!(soa.ttl, 7, "{name}");
        let data = soa.data.to_string();
        assert!(data.ends_with(" 41 3600 600 604800 7"), "{name}: {data}");
    }
}

#[test]
fn a_rule_on_the_root_is_answered_like_any_other() {
    let harness = harness([list("all").action(Action::Nxdomain).subtree(".")]);
    let decoded = harness.answer(ask("any.name.test", A));
    assert_eq!(decoded.rcode(), ResponseCode::NXDomain);
    assert!(decoded.message.authorities[0].name.is_root());
    let root = harness.answer(ask(".", SOA));
    assert_eq!(root.rcode(), ResponseCode::NXDomain);
    assert!(root.answers().is_empty() && root.message.authorities[0].name.is_root());
}

#[test]
fn the_ttl_is_that_of_the_list() {
    let slow = list("slow").with(|blocking| blocking.ttl_secs = 3600);
    let harness = harness([list("ads").exact("bad.example"), slow.exact("slow.test")]);
    assert_eq!(
        harness.answer(ask("bad.example", A)).message.answers[0].ttl,
        60
    );
    assert_eq!(
        harness.answer(ask("slow.test", A)).message.answers[0].ttl,
        3600
    );
}

#[test]
fn a_name_is_blocked_in_any_letter_case() {
    let harness = harness([list("ads").exact("bad.example")]);
    let decoded = harness.answer(ask("bAd.eXample", A));
    assert_eq!(decoded.answers(), ["bAd.eXample. 60 IN A 0.0.0.0"]);
}

/// The response code for `name` with `lists`, the first of which has action NXDOMAIN.
fn rcode(lists: impl IntoIterator<Item = super::harness::List>, name: &str) -> ResponseCode {
    harness(lists).answer(ask(name, A)).rcode()
}

#[test]
fn an_exact_rule_never_answers_nxdomain() {
    let ads = list("ads").action(Action::Nxdomain).exact("bad.example");
    assert_eq!(rcode([ads], "bad.example"), ResponseCode::NoError);
}

#[test]
fn nxdomain_is_only_answered_where_no_name_at_or_below_the_asked_one_is_decided_otherwise() {
    let ads = || list("ads").action(Action::Nxdomain).subtree("bad.example");
    let good = || list("good").allowing().exact("ok.a.bad.example");
    for (name, expected) in [
        ("bad.example", ResponseCode::NoError),
        ("a.bad.example", ResponseCode::NoError),
        ("b.bad.example", ResponseCode::NXDomain),
        ("x.a.bad.example", ResponseCode::NXDomain),
    ] {
        assert_eq!(rcode([ads(), good()], name), expected, "{name}");
    }
    let sink = || list("sink").exact("s.bad.example");
    assert_eq!(rcode([sink(), ads()], "bad.example"), ResponseCode::NoError);
    assert_eq!(
        rcode([ads(), sink()], "bad.example"),
        ResponseCode::NXDomain
    );
}

#[test]
fn a_rule_with_scope_below_does_not_match_its_own_name() {
    let harness = harness([list("ads").below("bad.example")]);
    harness
        .take(0, PERMITTED, &ask("bad.example", A).packet())
        .resolve();
    assert_eq!(
        harness.answer(ask("a.bad.example", A)).count,
        Count::Blocked
    );
}

#[test]
fn among_matching_lists_the_first_one_answers() {
    let first = || list("first").action(Action::Nodata).subtree("bad.example");
    let second = || {
        list("second")
            .action(Action::Refused)
            .exact("a.bad.example")
    };
    assert_eq!(
        rcode([first(), second()], "a.bad.example"),
        ResponseCode::NoError
    );
    assert_eq!(
        rcode([second(), first()], "a.bad.example"),
        ResponseCode::Refused
    );
}

#[test]
fn zone_keys_are_answered_unfiltered_where_a_name_below_is_free() {
    let asked = |harness: &Harness, name: &str, rtype| {
        let outcome = harness.take(0, PERMITTED, &ask(name, rtype).dnssec_ok().packet());
        matches!(outcome, Outcome::Resolve(..))
    };
    let bad = |action| list("ads").action(action);
    let free = |name: &str| list("good").allowing().exact(name);
    for action in [Action::Sinkhole, Action::Nxdomain, Action::Nodata] {
        let cases = [
            (
                "an exact rule",
                harness([bad(action).exact("bad.example")]),
                true,
            ),
            (
                "a subtree",
                harness([bad(action).subtree("bad.example")]),
                false,
            ),
            ("all below", harness([bad(action).below("example")]), false),
            (
                "exact and below",
                harness([bad(action).exact("bad.example").below("bad.example")]),
                false,
            ),
            (
                "an allow below",
                harness([bad(action).subtree("bad.example"), free("www.bad.example")]),
                true,
            ),
            (
                "an allow elsewhere",
                harness([bad(action).subtree("bad.example"), free("www.example")]),
                false,
            ),
            (
                "another list's subtree",
                harness([
                    bad(action).exact("bad.example"),
                    list("two").subtree("example"),
                ]),
                false,
            ),
        ];
        for (what, harness, is_free) in cases {
            for rtype in [DS, DNSKEY] {
                assert_eq!(asked(&harness, "bad.example", rtype), is_free, "{what}");
            }
            for rtype in [A, TXT, HTTPS, SOA] {
                assert!(!asked(&harness, "bad.example", rtype), "{what} {rtype}");
            }
        }
    }
}
