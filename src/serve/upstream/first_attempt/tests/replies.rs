//! How replies of an upstream are evaluated.

use super::*;

/// Makes a reply of a query.
type Maker<'m> = &'m dyn Fn(&[u8]) -> Vec<u8>;

#[test]
fn only_the_answer_to_a_query_ends_it() {
    let mut fixture = Fixture::new(1);
    assert!(fixture.ask(0));
    fixture.first_attempt.flush();
    let (query, peer) = fixture.next();
    let mut other_id = answer(&query);
    other_id[0] ^= 1;
    let mut other_name = answer(&query);
    other_name[14] ^= 1;
    for forged in [other_id, other_name, query.clone(), b"\0".to_vec()] {
        fixture.send(&forged, peer);
        assert!(fixture.receive().is_empty());
    }
    assert_eq!(fixture.count(Count::UpstreamStray), 2);
    assert_eq!(fixture.count(Count::UpstreamForeign), 2);
    fixture.send(&answer(&query), peer);
    assert_eq!(fixture.receive().len(), 1);
}

#[test]
fn a_truncated_answer_or_one_longer_than_announced_is_repeated_over_tcp() {
    let long = |query: &[u8], len: usize| {
        let mut message = answer(query);
        message.resize(len, 0);
        message
    };
    let cut = |query: &[u8]| {
        let mut message = answer(query);
        message[2] |= 0x02;
        message
    };
    let payload = usize::from(UDP_PAYLOAD);
    let makers: [Maker<'_>; 4] = [
        &cut,
        &|query| long(query, payload + 1),
        &|query| long(query, SLOT),
        &|query| long(query, 4096),
    ];
    let mut fixture = Fixture::new(64);
    for (number, make) in makers.iter().enumerate() {
        assert!(fixture.ask(number));
        fixture.first_attempt.flush();
        let (query, peer) = fixture.next();
        fixture.send(&make(&query), peer);
        assert_eq!(prior(&fixture.receive()), [(true, Some(Again::Tcp))]);
    }
    assert!(fixture.ask(100));
    fixture.first_attempt.flush();
    let (query, peer) = fixture.next();
    fixture.send(&long(&query, payload), peer);
    let events = fixture.receive();
    assert!(
        matches!(events[0].result, AttemptResult::Answered(..)),
        "it fits"
    );
}

#[test]
fn an_answer_to_a_query_without_edns_may_have_512_bytes() {
    let mut fixture = Fixture::new(64);
    let pool = fixture.first_attempt.pools.default_pool();
    let first = pool.try_first(fixture.now, |_| Some(()));
    let (first, ()) = first.expect("one");
    first.server.answered_without_edns(true, fixture.now);
    for (number, len) in [512, 513, 1232].into_iter().enumerate() {
        assert!(fixture.ask(number));
        fixture.first_attempt.flush();
        let (query, peer) = fixture.next();
        let mut message = answer(&query);
        message.resize(len, 0);
        fixture.send(&message, peer);
        let events = fixture.receive();
        match len {
            512 => assert!(matches!(events[0].result, AttemptResult::Answered(..))),
            _ => assert_eq!(prior(&events), [(true, Some(Again::Tcp))], "{len}"),
        }
    }
}

#[test]
fn a_long_answer_in_another_letter_case_is_treated_like_a_short_one() {
    let mut fixture = Fixture::new(64);
    for (number, len) in [100, 1233, SLOT, 4096].into_iter().enumerate() {
        assert!(fixture.ask(number));
        fixture.first_attempt.flush();
        let (query, peer) = fixture.next();
        let mut message = answer(&query);
        message[13] ^= 0x20;
        message.resize(len, 0);
        fixture.send(&message, peer);
        let again = Some(Again::OtherCase);
        assert_eq!(prior(&fixture.receive()), [(true, again)], "{len}");
    }
    assert_eq!(fixture.count(Count::UpstreamCase), 4);
}

#[test]
fn replies_that_show_a_missing_extension_determine_how_to_ask_again() {
    let rcode = |query: &[u8], rcode: u8| {
        let mut message = answer(query);
        message[3] |= rcode;
        // Without the OPT record.
        message[11] = 0;
        message.truncate(message.len() - 11);
        message
    };
    let other_case = |query: &[u8]| {
        let mut message = answer(query);
        message[13] ^= 0x20;
        message
    };
    let certain = Again::WithoutEdns { is_certain: true };
    let doubtful = Again::WithoutEdns { is_certain: false };
    let cases: [(Maker<'_>, Again); 4] = [
        (&|query| rcode(query, 1), certain),
        (&|query| rcode(query, 4), certain),
        (&|query| rcode(query, 1)[..12].to_vec(), doubtful),
        (&other_case, Again::OtherCase),
    ];
    let mut fixture = Fixture::new(64);
    for (number, (make, again)) in cases.into_iter().enumerate() {
        assert!(fixture.ask(number));
        fixture.first_attempt.flush();
        let (query, peer) = fixture.next();
        fixture.send(&make(&query), peer);
        assert_eq!(prior(&fixture.receive()), [(true, Some(again))]);
    }
}

#[test]
fn a_server_without_edns_and_random_case_is_asked_without_them_at_once() {
    let mut fixture = Fixture::new(64);
    assert!(fixture.ask(0));
    fixture.first_attempt.flush();
    assert!(ask::has_edns(&fixture.next().0));
    let pool = fixture.first_attempt.pools.default_pool();
    let (first, ()) = pool.try_first(fixture.now, |_| Some(())).expect("one");
    first.server.answered_without_edns(true, fixture.now);
    for number in 1..20 {
        assert!(fixture.ask(number));
        fixture.first_attempt.flush();
        assert!(!ask::has_edns(&fixture.next().0), "also from an open port");
    }
    // A bare error is no response to a query without EDNS.
    assert!(fixture.ask(50));
    fixture.first_attempt.flush();
    let (query, peer) = fixture.next();
    let mut bare = answer(&query)[..12].to_vec();
    bare[3] |= 1;
    fixture.send(&bare, peer);
    assert!(fixture.receive().is_empty());
    assert_eq!(fixture.count(Count::UpstreamForeign), 1);
}
