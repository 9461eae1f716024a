//! Messages that are rejected.

use super::*;

#[test]
fn an_owner_that_points_to_itself_or_past_the_end_is_rejected() {
    for owner in [b"\xC0\x16", b"\xFF\xFF"] {
        for rtype in [rtype::A, rtype::TXT] {
            let a = record(owner, rtype, 20, &[1, 2, 3, 4]);
            let wire = message(0x8180, [&[a], &[], &[]]);
            assert_eq!(read(&wire).err(), Some(AnswerError::Malformed));
        }
    }
}

#[test]
fn a_circular_and_an_ambiguous_chain_are_rejected() {
    let first = record(b"\xC0\x0C", rtype::CNAME, 10, b"\x01b\xC0\x0E");
    let back = record(b"\x01b\xC0\x0E", rtype::CNAME, 10, b"\xC0\x0C");
    let other = record(b"\xC0\x0C", rtype::CNAME, 10, b"\x01c\xC0\x0E");
    let itself = record(b"\xC0\x0C", rtype::CNAME, 10, b"\xC0\x0C");
    for records in [
        &[first.clone(), back][..],
        &[first.clone(), other.clone()],
        std::slice::from_ref(&itself),
    ] {
        let wire = message(0x8180, [records, &[], &[]]);
        assert_eq!(read(&wire).err(), Some(AnswerError::Chain));
    }
    let a = record(b"\x01b\xC0\x0E", rtype::A, 20, &[1, 2, 3, 4]);
    let wire = message(0x8180, [&[first.clone(), first.clone(), a], &[], &[]]);
    let twice = read(&wire).expect("a record that came twice is one");
    assert_eq!(twice.counts(), [2, 0, 0]);
    for (records, count) in [(&[itself][..], 1), (&[first, other], 0)] {
        let mut wire = message(0x8180, [records, &[], &[]]);
        wire[HEADER + 7] = 5;
        let answer = Answer::parse(&wire, &name("a.tv"), rtype::CNAME, 1, INTAKE);
        let counts = answer.map_or(0, |answer| answer.counts()[0]);
        assert_eq!(counts, count, "the query is for the CNAME itself");
    }
}

#[test]
fn a_referral_is_rejected_unless_it_begins_with_a_chain() {
    for owner in [b"\xC0\x0E", b"\xC0\x0C"] {
        let ns = record(owner, rtype::NS, 300, b"\x02ns\xC0\x0E");
        let alias = record(b"\xC0\x0C", rtype::CNAME, 20, b"\x01b\xC0\x0E");
        let soa = record(b"\x02tv\x00", rtype::SOA, 3600, SOA);
        for (answers, error) in [(&[][..], Some(AnswerError::Referral)), (&[alias], None)] {
            let wire = message(0x8180, [answers, std::slice::from_ref(&ns), &[]]);
            let referral = read(&wire);
            if let Ok(referral) = &referral {
                assert!(referral.is_referral() && referral.is_unfinished());
            }
            assert_eq!(referral.err(), error);
            let wire = message(0x8180, [answers, &[ns.clone(), soa.clone()], &[]]);
            let nodata = read(&wire).expect("NODATA with both (RFC 2308, 2.2)");
            assert!(!nodata.is_referral());
        }
    }
}

#[test]
fn a_message_that_does_not_answer_the_question_is_rejected() {
    let good = message(0x8180, [&[], &[], &[]]);
    assert!(read(&good).is_ok());
    assert_eq!(
        read(&message(0x0100, [&[], &[], &[]])).err(),
        Some(AnswerError::Malformed)
    );
    let other = Answer::parse(&good, &name("b.tv"), 1, 1, INTAKE);
    assert_eq!(other.err(), Some(AnswerError::OtherQuestion));
    let a = record(b"\xC0\x0C", rtype::A, 300, &[1, 2, 3, 4]);
    let wire = message(0x8180, [&[a], &[], &[]]);
    for cut in 0..wire.len() {
        assert!(read(&wire[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn answers_that_are_costly_to_process_are_rejected() {
    // Long chains of pointers, and too many services.
    let mut far = vec![0xC0, 0x0C];
    for n in 0..200_u16 {
        let at = 0x22 + 2 * n;
        far.extend([0xC0 | (at >> 8) as u8, at as u8]);
    }
    let text = record(b"\xC0\x0C", 16, 9, &far);
    let last = 0x22 + 2 * 200;
    let owner = [0xC0 | (last >> 8) as u8, last as u8];
    let a = record(&owner, rtype::A, 9, &[1, 2, 3, 4]);
    let wire = message(0x8180, [&[text, a], &[], &[]]);
    assert_eq!(&wire[0x22..0x24], [0xC0, 0x0C]);
    assert_eq!(read(&wire).err(), Some(AnswerError::Malformed));
    let services = |count| {
        let https = |priority: u8| record(b"\xC0\x0C", rtype::HTTPS, 9, &[0, priority, 0]);
        let all: Vec<_> = (0..count).map(https).collect();
        let mut wire = message(0x8180, [&all, &[], &[]]);
        wire[HEADER + 7] = rtype::HTTPS as u8;
        Answer::parse(&wire, &name("a.tv"), rtype::HTTPS, 1, INTAKE).is_ok()
    };
    assert_eq!([64, 65].map(services), [true, false]);
    let aliases = |count: usize| {
        let stray = record(b"\x01x\xC0\x0E", rtype::CNAME, 10, b"\x01y\xC0\x0E");
        let mut all = vec![stray; count];
        all.push(record(b"\xC0\x0C", rtype::A, 9, &[1, 2, 3, 4]));
        read(&message(0x8180, [&all, &[], &[]])).is_ok()
    };
    assert_eq!([32, 33].map(aliases), [true, false]);
    let addresses = |count: usize| {
        let all = vec![record(b"\xC0\x0C", rtype::A, 9, &[1, 2, 3, 4]); count];
        read(&message(0x8180, [&all, &[], &[]])).is_ok()
    };
    assert_eq!([1024, 1025].map(addresses), [true, false]);
}
