//! How kept records are written: names, letter case, compression, TTLs, digests.

use super::*;

#[test]
fn the_letter_case_of_our_query_is_not_kept() {
    // The question is "a.tv", asked as "A.tV".
    let owned = record(b"\x01A\x02tV\x00", rtype::CNAME, 9, b"\x01A\x03Net\x00");
    let end = record(b"\x01A\x03Net\x00", rtype::A, 9, &[1, 2, 3, 4]);
    let mut wire = message(0x8180, [&[owned, end], &[], &[]]);
    wire[HEADER..HEADER + 6].copy_from_slice(b"\x01A\x02tV\x00");
    let answer = read(&wire).expect("an answer");
    let body = answer.body();
    assert!(body.starts_with(b"\xC0\x0C"), "the owner is the question");
    assert!(!body.contains(&b'A'), "{body:?}");
    let spelled = body.windows(4).any(|w| w == b"\x03Net");
    assert!(spelled, "labels that are not in the queried name are kept");
    assert_eq!(answer.chain().next(), Some((name("a.net"), 9)));
}

#[test]
fn names_in_data_are_rewritten_wherever_they_may_be_compressed() {
    let names = b"\x01b\xC0\x0E";
    let cases: [(u16, Vec<u8>, Vec<u8>); 6] = [
        (rtype::NS, names.to_vec(), b"\x01b\xC0\x0E".to_vec()),
        (
            15,
            [b"\0\x05", &names[..]].concat(),
            b"\0\x05\x01b\xC0\x0E".to_vec(),
        ),
        (
            33,
            [&[0; 6], &names[..]].concat(),
            [&[0; 6], &b"\x01b\x02tv\0"[..]].concat(),
        ),
        (
            17,
            [names, &names[..]].concat(),
            b"\x01b\x02tv\0\x01b\x02tv\0".to_vec(),
        ),
        (
            35,
            [b"\0\x01\0\x02\x01s\x03SIP\0", &names[..]].concat(),
            [b"\0\x01\0\x02\x01s\x03SIP\0", &b"\x01b\x02tv\0"[..]].concat(),
        ),
        (
            16,
            b"\x05\xC0\x0E\xC0\x0E!".to_vec(),
            b"\x05\xC0\x0E\xC0\x0E!".to_vec(),
        ),
    ];
    for (rtype, data, expected) in cases {
        let mut wire = message(0x8180, [&[record(b"\xC0\x0C", rtype, 9, &data)], &[], &[]]);
        wire[HEADER + 7] = rtype as u8;
        let answer = Answer::parse(&wire, &name("a.tv"), rtype, 1, INTAKE).expect("an answer");
        assert_eq!(&answer.body()[12..], expected, "{rtype}");
        if rtype != 16 {
            let short = &data[..data.len() - 2];
            let mut wire = message(0x8180, [&[record(b"\xC0\x0C", rtype, 9, short)], &[], &[]]);
            wire[HEADER + 7] = rtype as u8;
            let answer = Answer::parse(&wire, &name("a.tv"), rtype, 1, INTAKE);
            assert_eq!(answer.err(), Some(AnswerError::Malformed), "{rtype}");
        }
    }
}

#[test]
fn a_long_answer_stays_compressed() {
    let target = b"\x08balancer\x03cdn\x07example\x00";
    let mut records = vec![record(b"\xC0\x0C", rtype::CNAME, 9, target)];
    records.extend((0..40).map(|last| record(b"\xC0\x22", rtype::A, 9, &[192, 0, 2, last])));
    let wire = message(0x8180, [&records, &[], &[]]);
    assert_eq!(&wire[0x22..0x2B], b"\x08balancer");
    let answer = read(&wire).expect("an answer");
    assert_eq!(answer.wire().len(), wire.len());
}

#[test]
fn ttls_are_clamped_and_one_with_the_top_bit_counts_as_long() {
    let intake = Intake {
        min_ttl: 5,
        max_ttl: 100,
        max_negative_ttl: u32::MAX,
        additional: false,
    };
    assert_eq!(
        [0, 50, 1000, 1 << 31, u32::MAX].map(|ttl| intake.ttl(ttl)),
        [5, 50, 100, 100, 100]
    );
}

#[test]
fn answers_with_equal_records_agree_in_any_order_and_with_any_ttls() {
    let a = |last, ttl| record(b"\xC0\x0C", rtype::A, ttl, &[192, 0, 2, last]);
    let signed = record(b"\xC0\x0C", rtype::RRSIG, 30, &signature(1));
    let answer = |records: &[Vec<u8>]| {
        let wire = message(0x8180, [records, &[], &[]]);
        read(&wire).expect("an answer")
    };
    let one = answer(&[a(1, 9), a(2, 9)]);
    assert!(one.agrees_with(&answer(&[a(2, 5), a(1, 5), signed])));
    assert!(!one.agrees_with(&answer(&[a(1, 9)])));
    assert!(!one.agrees_with(&answer(&[a(1, 9), a(3, 9)])));
    let none = read(&message(0x8183, [&[], &[], &[]])).expect("an answer");
    let nodata = read(&message(0x8180, [&[], &[], &[]])).expect("an answer");
    assert!(!none.agrees_with(&nodata));
}

#[test]
fn answers_agree_however_names_in_data_are_compressed() {
    let mx = |name: &[u8]| record(b"\xC0\x0C", 15, 9, &[b"\0\x05", name].concat());
    let (one, two) = (mx(b"\x02mx\x03net\0"), mx(b"\x03alt\x02mx\x03net\0"));
    let answer = |records: &[Vec<u8>]| {
        let mut wire = message(0x8180, [records, &[], &[]]);
        wire[HEADER + 7] = 15;
        Answer::parse(&wire, &name("a.tv"), 15, 1, INTAKE).expect("an answer")
    };
    let forth = answer(&[one.clone(), two.clone()]);
    let back = answer(&[two, one]);
    assert_ne!(forth.body(), back.body());
    assert!(forth.agrees_with(&back));
}

#[test]
fn owners_after_a_chain_point_to_it_in_any_spelling() {
    let alias = record(b"\xC0\x0C", rtype::CNAME, 9, b"\x03Svc\x03NET\0");
    let https = |priority: u8| record(b"\x03svc\x03net\0", rtype::HTTPS, 9, &[0, priority, 0]);
    let mut wire = message(0x8180, [&[alias, https(1), https(2)], &[], &[]]);
    wire[HEADER + 7] = rtype::HTTPS as u8;
    let answer = Answer::parse(&wire, &name("a.tv"), rtype::HTTPS, 1, INTAKE).expect("an answer");
    let owners: Vec<_> = answer.records().skip(1).map(|r| r.owner).collect();
    let bytes = |at: usize| answer.wire()[at..at + 2].to_vec();
    assert_eq!(bytes(owners[0]), bytes(owners[1]), "the same pointer");
    assert!(bytes(owners[0])[0] >= 0xC0);
}

#[test]
fn a_long_queried_name_leaves_room_for_pointers_to_its_target() {
    let labels = b"\x01b".repeat(100);
    let asked = Name::from_text(&"b.".repeat(100)).expect("a name");
    let target = [&b"\x01d".repeat(100)[..], &[0]].concat();
    let mut wire = vec![0, 9, 0x81, 0x80, 0, 1, 0, 21, 0, 0, 0, 0];
    wire.extend([&labels[..], &[0, 0, 1, 0, 1]].concat());
    let at = wire.len() + 12;
    wire.extend(record(b"\xC0\x0C", rtype::CNAME, 9, &target));
    let owner = [0xC0 | (at >> 8) as u8, at as u8];
    for last in 0..20 {
        wire.extend(record(&owner, rtype::A, 9, &[192, 0, 2, last]));
    }
    let answer = Answer::parse(&wire, &asked, 1, 1, INTAKE).expect("an answer");
    assert_eq!(answer.wire().len(), wire.len());
}

/// An answer to "a.tv" with MX records that have these targets.
fn exchanges(targets: &[Vec<u8>]) -> Answer {
    let records: Vec<_> = targets
        .iter()
        .map(|target| record(b"\xC0\x0C", 15, 9, &[b"\0\x05", &target[..]].concat()))
        .collect();
    let mut wire = message(0x8180, [&records, &[], &[]]);
    wire[HEADER + 7] = 15;
    Answer::parse(&wire, &name("a.tv"), 15, 1, INTAKE).expect("an answer")
}

/// The number of MX targets that end in a pointer.
fn compressed(answer: &Answer) -> usize {
    let ends: Vec<_> = answer.records().map(|record| record.fields.end).collect();
    let is_pointer = |end: &&usize| answer.wire()[**end - 2] >= 0xC0;
    ends.iter().filter(is_pointer).count()
}

#[test]
fn compression_stops_after_a_bounded_number_of_steps() {
    // 122 labels each. No two names share a label, except for the queried name at their ends.
    let target = |letter: u8| [&[1, letter].repeat(122)[..], b"\xC0\x0C"].concat();
    let targets: Vec<_> = (1..=238)
        .filter(|byte: &u8| !byte.is_ascii_alphabetic())
        .map(target)
        .collect();
    let answer = exchanges(&targets);
    let count = compressed(&answer);
    assert!((8..64).contains(&count), "{count}");
    for (record, target) in answer.records().zip(&targets) {
        let (read, _) = Name::parse_compressed(answer.wire(), record.fields.data + 2).expect("one");
        let labels = target.len() / 2 - 1;
        assert_eq!(read.label_count(), labels + 2);
        assert!(read.wire().starts_with(&target[..2 * labels]));
    }
}

#[test]
fn a_full_message_of_usual_names_is_compressed_completely() {
    let target = |number: u32| {
        let text = format!("\x06h{number:05}\x04mail\x07example\x00");
        text.into_bytes()
    };
    let targets: Vec<_> = (0..1024).map(target).collect();
    assert_eq!(compressed(&exchanges(&targets)), 1023, "all but the first");
}
