//! Answers from the cache: TTLs, keys, bounds.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, AAAA};
use tapis::stats::Count;
use tapis::wire::answer::Intake;
use tapis::wire::flag::{AD, CD, RD};

use super::ask::{Ask, ask};
use super::harness::{Harness, PERMITTED, harness};
use super::upstream_answer::{BOUNDS, a, cname, soa, upstream_answer};

fn learned() -> Harness {
    let harness = harness([]);
    let good = upstream_answer("good.example", A)
        .answers([a("good.example", 300, [192, 0, 2, 7])])
        .additionals([a("good.example", 100, [192, 0, 2, 53])]);
    harness.learn(ask("good.example", A), good);
    harness
}

#[test]
fn a_hit_counts_every_ttl_down_and_none_below_zero() {
    let harness = learned();
    let intake = Intake {
        additional: true,
        ..BOUNDS
    };
    let both = upstream_answer("both.example", A)
        .answers([a("both.example", 300, [192, 0, 2, 7])])
        .additionals([a("both.example", 100, [192, 0, 2, 53])]);
    harness.insert(ask("both.example", A), both.entry_within(intake, 0));
    for (now, answer, additional) in [(0, 300, 100), (99, 201, 1), (299, 1, 0)] {
        for name in ["good.example", "both.example"] {
            let decoded = harness.answer_at(now, ask(name, A));
            assert_eq!(decoded.count, Count::CacheHits);
            assert_eq!(decoded.message.answers[0].ttl, answer, "at {now}");
            let ttls = decoded.message.additionals.iter().map(|record| record.ttl);
            let expected = [additional].into_iter().filter(|_| name == "both.example");
            assert!(ttls.eq(expected), "at {now}");
        }
    }
}

#[test]
fn an_answer_at_the_end_of_its_ttl_is_fetched_again() {
    let asked = ask("good.example", A);
    let (_, stale) = learned().take(300, PERMITTED, &asked.packet()).resolve();
    assert!(stale.is_some(), "it can be served if upstream fails");
    let (_, stale) = learned()
        .take(300 + 86_400, PERMITTED, &asked.packet())
        .resolve();
    assert!(stale.is_none(), "it is too old to be served stale");
}

#[test]
fn a_hit_is_found_in_any_letter_case() {
    let decoded = learned().answer(ask("GOOD.example", A));
    assert_eq!(decoded.answers(), ["GOOD.example. 300 IN A 192.0.2.7"]);
}

#[test]
fn type_do_and_cd_are_part_of_the_key_and_ad_and_edns_are_not() {
    let harness = learned();
    let plain = ask("good.example", A);
    for other in [
        ask("good.example", AAAA),
        ask("www.good.example", A),
        plain.dnssec_ok(),
        plain.flags(RD | CD),
        plain.dnssec_ok().flags(RD | CD),
    ] {
        harness.take(0, PERMITTED, &other.packet()).resolve();
    }
    for same in [plain, plain.edns(512), plain.flags(RD | AD)] {
        assert_eq!(harness.answer(same).count, Count::CacheHits);
    }
}

#[test]
fn each_of_the_four_combinations_of_do_and_cd_has_its_own_answer() {
    let harness = harness([]);
    let plain = ask("good.example", A);
    let queries = [
        plain,
        plain.dnssec_ok(),
        plain.flags(RD | CD),
        plain.dnssec_ok().flags(RD | CD),
    ];
    for (last, asked) in (1..).zip(queries) {
        let address = a("good.example", 300, [192, 0, 2, last]);
        harness.learn(asked, upstream_answer("good.example", A).answers([address]));
    }
    for (last, asked) in (1..).zip(queries) {
        let expected = format!("good.example. 300 IN A 192.0.2.{last}");
        assert_eq!(harness.answer(asked).answers(), [expected]);
    }
}

#[test]
fn negative_answers_are_cached_as_long_as_their_soa_says_and_not_without_one() {
    let harness = harness([]);
    let asked = ask("none.example", A);
    let none = || upstream_answer("none.example", A).rcode(ResponseCode::NXDomain);
    harness.learn(asked, none());
    harness.take(0, PERMITTED, &asked.packet()).resolve();
    harness.learn(asked, none().authority(soa("example", 600, 60)));
    let decoded = harness.answer_at(59, asked);
    assert_eq!(
        (decoded.rcode(), decoded.count),
        (ResponseCode::NXDomain, Count::CacheHits)
    );
    assert_eq!(decoded.message.authorities[0].ttl, 1);
    harness.take(60, PERMITTED, &asked.packet()).resolve();
}

#[test]
fn ttls_are_clamped_to_the_bounds_also_in_the_answer() {
    let bounds = Intake {
        min_ttl: 30,
        max_ttl: 200,
        max_negative_ttl: u32::MAX,
        additional: false,
    };
    for (ttl, kept) in [(0, 30), (100, 100), (4000, 200), (0x8000_0000, 200)] {
        let harness = harness([]);
        let asked = ask("good.example", A);
        let good =
            upstream_answer("good.example", A).answers([a("good.example", ttl, [192, 0, 2, 7])]);
        harness.insert(asked, good.entry_within(bounds, 0));
        assert_eq!(harness.answer(asked).message.answers[0].ttl, kept, "{ttl}");
        assert_eq!(
            harness.answer_at(kept - 1, asked).message.answers[0].ttl,
            1,
            "{ttl}"
        );
        harness.take(kept, PERMITTED, &asked.packet()).resolve();
    }
}

#[test]
fn an_answer_with_ttl_zero_is_served_and_not_cached() {
    let harness = harness([]);
    let asked = ask("good.example", A);
    harness.learn(
        asked,
        upstream_answer("good.example", A).answers([a("good.example", 0, [192, 0, 2, 7])]),
    );
    harness.take(0, PERMITTED, &asked.packet()).resolve();
}

/// A server with an answer of that TTL in its cache.
fn with_ttl(ttl: u32) -> (Harness, Ask<'static>) {
    let harness = harness([]);
    let asked = ask("good.example", A);
    let address = a(asked.name, ttl, [192, 0, 2, 7]);
    harness.learn(asked, upstream_answer(asked.name, A).answers([address]));
    (harness, asked)
}

#[test]
fn a_popular_answer_near_its_end_is_prefetched_once_and_others_are_not() {
    let (harness, popular) = with_ttl(300);
    let outcome = |now| harness.take(now, PERMITTED, &popular.packet());
    for _ in 0..5 {
        assert_eq!(outcome(269).reply().count, Count::CacheHits);
    }
    assert_eq!(outcome(270).reply().count, Count::CacheHits);
    let key = outcome(270).refreshed();
    assert_eq!(key.name(), b"\x04good\x07example\x00");
    for now in [270, 280, 299, 299] {
        assert_eq!(outcome(now).reply().count, Count::CacheHits);
    }
}

#[test]
fn an_answer_that_is_hit_once_near_its_end_is_not_prefetched() {
    let (harness, lonely) = with_ttl(300);
    for now in [0, 200, 269, 299] {
        let outcome = harness.take(now, PERMITTED, &lonely.packet());
        assert_eq!(outcome.reply().count, Count::CacheHits);
    }
}

#[test]
fn an_answer_with_a_short_ttl_is_never_prefetched() {
    // Otherwise upstream would be asked all the time.
    for ttl in [1, 5, 10, 19] {
        let (harness, short) = with_ttl(ttl);
        for now in 0..ttl {
            for _ in 0..10 {
                let outcome = harness.take(now, PERMITTED, &short.packet());
                assert_eq!(outcome.reply().count, Count::CacheHits, "TTL {ttl}");
            }
        }
        harness.take(ttl, PERMITTED, &short.packet()).resolve();
    }
    let (harness, long) = with_ttl(20);
    let outcome = |now| harness.take(now, PERMITTED, &long.packet());
    for now in [17, 17, 17, 18] {
        assert_eq!(outcome(now).reply().count, Count::CacheHits);
    }
    outcome(18).refreshed();
}

#[test]
fn a_negative_answer_is_cached_for_the_lesser_of_its_soas_ttl_and_minimum() {
    // RFC 2308, section 5.
    for (ttl, minimum, kept) in [(600, 60, 60), (60, 600, 60), (60, 60, 60), (5, 86_400, 5)] {
        for rcode in [ResponseCode::NXDomain, ResponseCode::NoError] {
            let harness = harness([]);
            let asked = ask("none.example", A);
            let none = upstream_answer("none.example", A).rcode(rcode);
            harness.learn(asked, none.authority(soa("example", ttl, minimum)));
            let decoded = harness.answer(asked);
            assert_eq!(decoded.message.authorities[0].ttl, kept, "{ttl}, {minimum}");
            let decoded = harness.answer_at(kept - 1, asked);
            assert_eq!((decoded.rcode(), decoded.count), (rcode, Count::CacheHits));
            harness.take(kept, PERMITTED, &asked.packet()).resolve();
        }
    }
}

#[test]
fn a_negative_answer_at_the_end_of_a_cname_is_cached_no_longer_than_cname_and_soa() {
    for (alias, ttl, minimum, kept) in [(20, 600, 60, 20), (300, 600, 60, 60), (300, 40, 60, 40)] {
        let harness = harness([]);
        let asked = ask("www.example", A);
        let none = upstream_answer("www.example", A)
            .rcode(ResponseCode::NXDomain)
            .answers([cname("www.example", alias, "none.example")]);
        harness.learn(asked, none.authority(soa("example", ttl, minimum)));
        assert_eq!(
            harness.answer_at(kept - 1, asked).rcode(),
            ResponseCode::NXDomain
        );
        harness.take(kept, PERMITTED, &asked.packet()).resolve();
    }
}

#[test]
fn an_nxdomain_is_one_entry_of_the_cache_and_weighs_as_much_as_any_other() {
    let zone = || soa("example", 300, 300);
    let size = |rcode: ResponseCode, count: usize| {
        let harness = harness([]);
        for n in 0..count {
            let name = format!("n{n}.example");
            let none = upstream_answer(&name, A).rcode(rcode).authority(zone());
            harness.learn(ask(&name, A), none);
        }
        harness.cache.size()
    };
    let of_one = size(ResponseCode::NoError, 1);
    assert_eq!(of_one.0, 1);
    assert_eq!(size(ResponseCode::NXDomain, 1), of_one);
    assert_eq!(
        size(ResponseCode::NXDomain, 100),
        size(ResponseCode::NoError, 100)
    );
    // The cache keeps as many as fit.
    let kept = size(ResponseCode::NoError, 8000).0;
    assert!((1000..8000).contains(&kept), "{kept}");
    let denied = size(ResponseCode::NXDomain, 8000).0;
    assert!(denied.abs_diff(kept) < kept / 10, "{denied} of {kept}");
}

#[test]
fn an_nxdomain_that_must_not_be_cached_is_no_entry_of_the_cache() {
    let harness = harness([]);
    let denied = upstream_answer("a.example", A).rcode(ResponseCode::NXDomain);
    let chained = upstream_answer("b.example", A)
        .answers([cname("b.example", 0, "a.example")])
        .rcode(ResponseCode::NXDomain);
    harness.learn(ask("a.example", A), denied);
    harness.learn(ask("b.example", A), chained);
    assert_eq!(harness.cache.size(), (0, 0));
}
