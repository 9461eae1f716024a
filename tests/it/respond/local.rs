//! Names that are never forwarded; `policy::local` tests the complete table of zones.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, AAAA, ANY, DS, HTTPS, MX, NS, PTR, SOA, TXT};
use tapis::policy::effect::EffectAction;
use tapis::policy::local::LocalNames;
use tapis::policy::rule::Action;
use tapis::stats::Count;
use tapis::wire::flag;
use tapis::wire::name::Name;

use super::ask::ask;
use super::harness::{Harness, List, PERMITTED, harness, list};
use super::upstream_answer::{a, cname, upstream_answer};
use crate::support::local::local_names;

/// The SOA record of a local zone.
fn soa(zone: &str) -> String {
    format!("{zone}. 10800 IN SOA tapis.invalid. nobody.invalid. 1 3600 600 604800 10800")
}

#[test]
fn localhost_and_names_below_it_are_the_loopback_address() {
    let harness = harness([]);
    for name in ["localhost", "a.b.localhost"] {
        let v4 = format!("{name}. 10800 IN A 127.0.0.1");
        let v6 = format!("{name}. 10800 IN AAAA ::1");
        for (rtype, records) in [(A, vec![&v4]), (AAAA, vec![&v6]), (ANY, vec![&v4, &v6])] {
            let decoded = harness.answer(ask(name, rtype));
            assert_eq!(
                decoded.answers(),
                records.into_iter().cloned().collect::<Vec<_>>()
            );
            assert_eq!(
                (decoded.rcode(), decoded.count),
                (ResponseCode::NoError, Count::Local)
            );
        }
        for rtype in [MX, TXT, HTTPS, SOA, NS] {
            let decoded = harness.answer(ask(name, rtype));
            assert_eq!(decoded.rcode(), ResponseCode::NoError, "{name} {rtype}");
            assert!(decoded.answers().is_empty());
            assert_eq!(decoded.authorities(), [soa("localhost")]);
        }
    }
}

#[test]
fn a_locally_served_zone_has_soa_and_ns_at_its_apex_and_nodata_for_all_else() {
    let harness = harness([]);
    for zone in ["10.in-addr.arpa", "home.arpa", "d.f.ip6.arpa"] {
        let ns = format!("{zone}. 10800 IN NS {zone}.");
        assert_eq!(harness.answer(ask(zone, SOA)).answers(), [soa(zone)]);
        assert_eq!(harness.answer(ask(zone, NS)).answers(), [&*ns]);
        assert_eq!(harness.answer(ask(zone, ANY)).answers(), [ns, soa(zone)]);
        for rtype in [A, PTR, TXT] {
            let decoded = harness.answer(ask(zone, rtype));
            assert_eq!(decoded.rcode(), ResponseCode::NoError, "{zone} {rtype}");
            assert!(decoded.answers().is_empty());
            assert_eq!(decoded.authorities(), [soa(zone)]);
        }
    }
}

#[test]
fn no_name_exists_below_a_locally_served_zone() {
    let harness = harness([]);
    for (name, zone) in [
        ("1.0.0.10.in-addr.arpa", "10.in-addr.arpa"),
        ("1.31.172.in-addr.arpa", "31.172.in-addr.arpa"),
        ("a.home.arpa", "home.arpa"),
    ] {
        for rtype in [PTR, A, NS, SOA, ANY] {
            let decoded = harness.answer(ask(name, rtype));
            assert_eq!(decoded.rcode(), ResponseCode::NXDomain, "{name} {rtype}");
            assert!(decoded.answers().is_empty());
            assert_eq!(decoded.authorities(), [soa(zone)], "{name}");
        }
    }
}

#[test]
fn special_use_names_do_not_exist_from_the_apex_of_their_zone_down() {
    let harness = harness([]);
    for (name, zone) in [
        ("onion", "onion"),
        ("expyuzz4wqqyqhjn.onion", "onion"),
        ("a.invalid", "invalid"),
        ("a.test", "test"),
        ("use-application-dns.net", "use-application-dns.net"),
    ] {
        for rtype in [A, AAAA, TXT, ANY, SOA] {
            let decoded = harness.answer(ask(name, rtype));
            assert_eq!(decoded.rcode(), ResponseCode::NXDomain, "{name} {rtype}");
            assert!(decoded.answers().is_empty());
            assert_eq!(decoded.authorities(), [soa(zone)], "{name}");
        }
    }
}

#[test]
fn resolver_arpa_has_no_data_at_and_below_its_apex() {
    let harness = harness([]);
    for name in ["resolver.arpa", "_dns.resolver.arpa"] {
        for rtype in [A, HTTPS, 64.into(), ANY] {
            let decoded = harness.answer(ask(name, rtype));
            assert_eq!(decoded.rcode(), ResponseCode::NoError, "{name} {rtype}");
            assert!(decoded.answers().is_empty());
            assert_eq!(decoded.authorities(), [soa("resolver.arpa")]);
        }
    }
}

#[test]
fn the_canary_and_zones_that_are_opted_out_go_upstream() {
    let mut harness = harness([]);
    let forwarded = [Name::from_text("10.in-addr.arpa").expect("a name")];
    harness.snapshot.local = Arc::new(LocalNames::special_use(&forwarded, false));
    for name in [
        "use-application-dns.net",
        "1.10.in-addr.arpa",
        "10.in-addr.arpa",
    ] {
        harness
            .take(0, PERMITTED, &ask(name, PTR).packet())
            .resolve();
    }
    assert_eq!(
        harness.answer(ask("16.172.in-addr.arpa", PTR)).count,
        Count::Local
    );
}

#[test]
fn the_proof_that_a_locally_served_zone_is_unsigned_comes_from_its_parent() {
    let harness = harness([]);
    for zone in ["home.arpa", "10.in-addr.arpa"] {
        let (key, _) = harness
            .take(0, PERMITTED, &ask(zone, DS).dnssec_ok().packet())
            .resolve();
        assert_eq!(
            (key.rtype(), key.question().dnssec_ok),
            (43, true),
            "{zone}"
        );
        let below = format!("a.{zone}");
        assert_eq!(
            harness.answer(ask(&below, DS).dnssec_ok()).count,
            Count::Local
        );
    }
    let decoded = harness.answer(ask("onion", DS).dnssec_ok());
    assert_eq!(
        decoded.rcode(),
        ResponseCode::NXDomain,
        "has no parent to ask"
    );
}

#[test]
fn a_block_precedes_a_local_zone_and_an_allow_rule_does_not_forward_it() {
    let harness = harness([
        list("ads").action(Action::Refused).exact("a.home.arpa"),
        list("good").allowing().exact("b.home.arpa"),
    ]);
    assert_eq!(harness.answer(ask("a.home.arpa", A)).count, Count::Blocked);
    assert_eq!(harness.answer(ask("b.home.arpa", A)).count, Count::Local);
}

#[test]
fn an_upstream_answer_that_leads_to_a_special_use_name_passes_unless_a_list_blocks_it() {
    for target in ["localhost", "printer.home.arpa"] {
        let asked = ask("free.example", A);
        let answer = upstream_answer("free.example", A).answers([
            cname("free.example", 300, target),
            a(target, 300, [192, 0, 2, 7]),
        ]);
        let free = harness([]);
        free.learn(asked, answer.clone());
        let expected = format!("{target}. 300 IN A 192.0.2.7");
        assert_eq!(free.answer(asked).answers()[1], expected);
        let blocking = harness([list("ads").subtree(target)]);
        blocking.learn(asked, answer);
        assert_eq!(blocking.answer(asked).count, Count::BlockedTarget);
    }
}

/// A harness whose `router.example` has an address, and `tv.example` is an alias of `tv.example.net`.
fn with_names(lists: impl IntoIterator<Item = List>) -> Harness {
    let target = Name::from_text("tv.example.net").expect("a name");
    let mut harness = harness(lists);
    harness.snapshot.local = local_names(&[
        ("router.example", 1, &[192, 0, 2, 7]),
        ("tv.example", 5, target.wire()),
    ]);
    harness
}

#[test]
fn a_local_name_is_answered_without_recursion_and_without_the_flags_of_an_authority() {
    let harness = with_names([]);
    for flags in [flag::RD, 0] {
        let decoded = harness.answer(ask("Router.Example", A).flags(flags).dnssec_ok());
        assert_eq!(decoded.count, Count::Local);
        assert_eq!(decoded.answers(), ["Router.Example. 60 IN A 192.0.2.7"]);
        let metadata = &decoded.message.metadata;
        assert!(metadata.recursion_available && !metadata.authoritative);
        assert!(!metadata.authentic_data);
    }
    let nodata = harness.answer(ask("router.example", AAAA));
    assert_eq!(nodata.rcode(), ResponseCode::NoError);
    assert_eq!(nodata.authorities().len(), 1);
    assert!(nodata.authorities()[0].starts_with("router.example. 60 IN SOA "));
    let other = harness.answer(ask("other.example", A).flags(0));
    assert_eq!(other.count, Count::NoRecursion);
}

#[test]
fn a_local_name_precedes_the_cache_and_a_block_precedes_both() {
    let asked = ask("router.example", A);
    let cached =
        upstream_answer("router.example", A).answers([a("router.example", 300, [1, 2, 3, 4])]);
    let free = with_names([list("good").allowing().exact("router.example")]);
    free.learn(asked, cached.clone());
    assert_eq!(free.answer(asked).count, Count::Local);
    let blocking = with_names([list("ads").exact("router.example")]);
    blocking.learn(asked, cached);
    assert_eq!(blocking.answer(asked).count, Count::Blocked);
    // Without RD, policy zones do not apply to names of upstream, but no local record circumvents them.
    let zone = with_names([list("feed").zone(true).exact("router.example")]);
    for flags in [flag::RD, 0] {
        assert_eq!(zone.answer(asked.flags(flags)).count, Count::Blocked);
    }
    let by_address = with_names([list("ads").address("192.0.2.0/24")]);
    assert_eq!(
        by_address.answer(asked).count,
        Count::Local,
        "the operator wrote it"
    );
}

#[test]
fn a_local_alias_is_answered_with_the_cached_records_of_its_target() {
    let harness = with_names([]);
    let asked = ask("tv.example", A);
    let (key, _) = harness.take(0, PERMITTED, &asked.packet()).resolve();
    assert_eq!(
        key.name(),
        Name::from_text("tv.example.net").expect("a name").wire()
    );
    harness.learn(
        ask("tv.example.net", A),
        upstream_answer("tv.example.net", A).answers([a("tv.example.net", 300, [192, 0, 2, 9])]),
    );
    let decoded = harness.answer_at(100, asked);
    let chain = [
        "tv.example. 60 IN CNAME tv.example.net.",
        "tv.example.net. 200 IN A 192.0.2.9",
    ];
    assert_eq!(decoded.answers(), chain);
    // Without recursion, only what is local is sent.
    assert_eq!(harness.answer(asked.flags(0)).answers(), [chain[0]]);
}

#[test]
fn rules_on_names_and_addresses_apply_to_the_target_of_a_local_alias() {
    let asked = ask("tv.example", A);
    for list in [
        list("ads").exact("tv.example.net"),
        list("ads").address("192.0.2.0/24"),
    ] {
        let harness = with_names([list]);
        harness.learn(
            ask("tv.example.net", A),
            upstream_answer("tv.example.net", A).answers([a(
                "tv.example.net",
                300,
                [192, 0, 2, 9],
            )]),
        );
        let decoded = harness.answer(asked);
        assert_eq!(decoded.count, Count::BlockedTarget);
        assert_eq!(decoded.answers()[1], "tv.example.net. 60 IN A 0.0.0.0");
    }
}

#[test]
fn a_rule_may_lead_to_a_local_name() {
    let target = Name::from_text("router.example").expect("a name");
    let action = EffectAction::Cname {
        target: Arc::new(target),
        prepend: false,
    };
    let harness = with_names([list("ads").exact("bad.example").acts(action)]);
    let decoded = harness.answer(ask("bad.example", A));
    assert_eq!(decoded.count, Count::Blocked);
    assert_eq!(decoded.answers()[1], "router.example. 60 IN A 192.0.2.7");
}
