use super::*;
use crate::wire::rtype;

const INTAKE: Intake = Intake {
    min_ttl: 0,
    max_ttl: 86_400,
    additional: false,
};

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

fn record(owner: &[u8], rtype: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut wire = owner.to_vec();
    wire.extend_from_slice(&rtype.to_be_bytes());
    wire.extend_from_slice(&[0, 1]);
    wire.extend_from_slice(&ttl.to_be_bytes());
    wire.extend_from_slice(&(data.len() as u16).to_be_bytes());
    wire.extend_from_slice(data);
    wire
}

fn message(flags: u16, sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
    let mut wire = vec![0, 9];
    wire.extend_from_slice(&flags.to_be_bytes());
    wire.extend_from_slice(&[0, 1]);
    for section in sections {
        wire.extend_from_slice(&(section.len() as u16).to_be_bytes());
    }
    wire.extend_from_slice(b"\x01a\x02tv\x00\x00\x01\x00\x01");
    wire.extend(sections.concat().concat());
    wire
}

fn read(message: &[u8]) -> Result<Answer, AnswerError> {
    Answer::read(message, &name("a.tv"), 1, 1, INTAKE)
}

/// The data of a signature over records of that type.
fn signature(covered: u16) -> Vec<u8> {
    [&covered.to_be_bytes()[..], &[0; 17], &[7; 8]].concat()
}

const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x08\x00\x0F\x00\x04\x00\x07no";
const SOA: &[u8] =
    b"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x1E";

#[test]
fn opt_goes_and_its_errors_stay() {
    let a = record(b"\xC0\x0C", rtype::A, 300, &[1, 2, 3, 4]);
    let wire = message(0x8180, [&[a], &[], &[OPT.to_vec()]]);
    let answer = read(&wire).expect("an answer");
    assert_eq!(answer.counts(), [1, 0, 0]);
    assert_eq!(answer.wire().len(), wire.len() - OPT.len());
    assert_eq!(answer.ttl(), Some(300));
    assert_eq!(&*answer.errors()[0].text, "upstream: no");
    assert_eq!(answer.errors()[0].code, 7);
}

#[test]
fn texts_of_upstream_say_so_and_have_nothing_that_steers_a_terminal() {
    let texts = [
        (&b""[..], "upstream"),
        (b"order 2017-07-14", "upstream: order 2017-07-14"),
        (b"\x1b[31mred\x07\r\n", "upstream: [31mred"),
        ("a\u{202E}b\u{200B}".as_bytes(), "upstream: ab"),
        (b"\x00 \xC2\x9B", "upstream"),
    ];
    for (text, expected) in texts {
        let len = |extra: usize| ((text.len() + extra) as u16).to_be_bytes();
        let mut opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00".to_vec();
        opt.extend([len(6), [0, 15], len(2), [0, 15]].concat());
        opt.extend(text);
        let wire = message(0x8182, [&[], &[], &[opt]]);
        let answer = read(&wire).expect("an answer");
        assert_eq!(&*answer.errors()[0].text, expected);
    }
}

#[test]
fn records_that_stand_behind_opt_are_read_as_well() {
    let a = record(b"\xC0\x0C", rtype::A, 300, &[1, 2, 3, 4]);
    let glue = record(b"\x02ns\xC0\x0E", rtype::A, 200, &[0; 4]);
    let wire = message(0x8180, [&[a], &[], &[OPT.to_vec(), glue]]);
    let intake = Intake {
        additional: true,
        ..INTAKE
    };
    let answer = Answer::read(&wire, &name("a.tv"), 1, 1, intake).expect("an answer");
    assert_eq!(answer.counts(), [1, 0, 1]);
    let owners: Vec<_> = answer.records().map(|r| r.owner(answer.wire())).collect();
    assert_eq!(owners, [Some(name("a.tv")), Some(name("ns.tv"))]);
}

#[test]
fn a_negative_answer_lives_as_long_as_its_soa_says_and_without_one_not_at_all() {
    let soa = |ttl, minimum: u32| {
        let data = [&SOA[..18], &minimum.to_be_bytes()].concat();
        record(b"\x02tv\x00", rtype::SOA, ttl, &data)
    };
    let ttl = |answers: &[Vec<u8>], authority: &[Vec<u8>]| {
        let wire = message(0x8183, [answers, authority, &[]]);
        read(&wire).expect("an answer").ttl()
    };
    assert_eq!(ttl(&[], &[soa(3600, 30)]), Some(30), "the lesser counts");
    assert_eq!(ttl(&[], &[soa(20, 3600)]), Some(20), "the lesser counts");
    assert_eq!(ttl(&[], &[]), None);
    let alias = record(b"\xC0\x0C", rtype::CNAME, 20, b"\x01b\xC0\x0E");
    assert_eq!(
        ttl(std::slice::from_ref(&alias), &[soa(3600, 30)]),
        Some(20)
    );
    let foreign = record(b"\x02de\x00", rtype::SOA, 3600, SOA);
    assert_eq!(ttl(&[], &[foreign]), None, "another zone's says nothing");
}

#[test]
fn a_signed_alias_that_leads_to_nothing_is_not_kept_without_an_soa() {
    let alias = record(b"\xC0\x0C", rtype::CNAME, 20, b"\x01b\xC0\x0E");
    let signature = record(b"\xC0\x0C", 46, 20, &signature(5));
    let a = record(b"\x01b\xC0\x0E", rtype::A, 20, &[1, 2, 3, 4]);
    let ttl = |answers: &[Vec<u8>]| {
        let wire = message(0x8180, [answers, &[], &[]]);
        read(&wire).expect("an answer").ttl()
    };
    assert_eq!(ttl(&[alias.clone(), signature.clone()]), None);
    assert_eq!(ttl(&[alias, signature, a]), Some(20));
}

#[test]
fn an_owner_that_points_at_itself_or_past_the_end_makes_no_answer() {
    for owner in [b"\xC0\x16", b"\xFF\xFF"] {
        for rtype in [rtype::A, rtype::TXT] {
            let a = record(owner, rtype, 20, &[1, 2, 3, 4]);
            let wire = message(0x8180, [&[a], &[], &[]]);
            assert_eq!(read(&wire).err(), Some(AnswerError::Malformed));
        }
    }
}

#[test]
fn the_chain_comes_first_and_in_order_whatever_order_it_was_sent_in() {
    let second = record(b"\x01b\xC0\x0E", rtype::CNAME, 20, b"\x01c\xC0\x0E");
    let first = record(b"\xC0\x0C", rtype::CNAME, 10, b"\x01b\xC0\x0E");
    let stray = record(b"\x01x\xC0\x0E", rtype::CNAME, 10, b"\x01y\xC0\x0E");
    let last = record(b"\x01c\xC0\x0E", rtype::A, 30, &[1, 2, 3, 4]);
    let signed = record(b"\x01c\xC0\x0E", rtype::RRSIG, 30, &signature(1));
    let other = record(b"\x01c\xC0\x0E", rtype::RRSIG, 30, &signature(28));
    let all = [last, signed, second, other, stray, first];
    let wire = message(0x8180, [&all, &[], &[]]);
    let answer = read(&wire).expect("an answer");
    let hops: Vec<_> = answer.chain().collect();
    assert_eq!(hops, [(name("b.tv"), 10), (name("c.tv"), 20)]);
    let records = answer.records();
    let records = records.map(|r| (r.owner(answer.wire()), r.fields.rtype));
    assert_eq!(
        records.collect::<Vec<_>>(),
        [
            (Some(name("a.tv")), rtype::CNAME),
            (Some(name("b.tv")), rtype::CNAME),
            (Some(name("c.tv")), rtype::A),
            (Some(name("c.tv")), rtype::RRSIG),
        ]
    );
}

#[test]
fn a_circular_chain_and_one_with_two_ways_are_no_answers() {
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
        let answer = Answer::read(&wire, &name("a.tv"), rtype::CNAME, 1, INTAKE);
        let counts = answer.map_or(0, |answer| answer.counts()[0]);
        assert_eq!(counts, count, "asked for the CNAME itself");
    }
}

#[test]
fn a_dname_leads_on_with_its_cname_and_without() {
    let dname = record(b"\xC0\x0E", rtype::DNAME, 40, b"\x03net\x00");
    let alias = record(b"\xC0\x0C", rtype::CNAME, 0, b"\x01a\x03net\x00");
    let a = record(b"\x01a\x03net\x00", rtype::A, 30, &[1, 2, 3, 4]);
    for (records, ttl) in [
        (&[dname.clone(), alias.clone(), a.clone()][..], 0),
        (&[dname.clone(), a.clone()], 40),
    ] {
        let wire = message(0x8180, [records, &[], &[]]);
        let answer = read(&wire).expect("an answer");
        assert_eq!(answer.chain().collect::<Vec<_>>(), [(name("a.net"), ttl)]);
        assert_eq!(answer.counts(), [3, 0, 0]);
        let types: Vec<_> = answer.records().map(|r| r.fields.rtype).collect();
        assert_eq!(types, [rtype::DNAME, rtype::CNAME, rtype::A]);
    }
    let mut wire = message(0x8180, [&[dname.clone(), a.clone()], &[], &[]]);
    wire[HEADER + 7] = 5;
    let asked = Answer::read(&wire, &name("a.tv"), rtype::CNAME, 1, INTAKE).expect("an answer");
    let types: Vec<_> = asked.records().map(|r| r.fields.rtype).collect();
    assert_eq!((types, asked.chain().count()), (vec![39, 5], 0));
    // One beside the chain is none of its business.
    let elsewhere = record(b"\x02de\x00", rtype::DNAME, 40, b"\x03net\x00");
    let here = record(b"\xC0\x0C", rtype::A, 30, &[1, 2, 3, 4]);
    let wire = message(0x8180, [&[elsewhere, here], &[], &[]]);
    assert_eq!(read(&wire).expect("an answer").counts(), [1, 0, 0]);
    let long = [&b"\x3F"[..], &[b'x'; 63]].concat().repeat(3);
    let long = [&long, &b"\x3D"[..], &[b'x'; 61], &[0]].concat();
    let too_long = record(b"\xC0\x0E", rtype::DNAME, 40, &long);
    let wire = message(0x8180, [std::slice::from_ref(&too_long), &[], &[]]);
    assert_eq!(read(&wire).err(), Some(AnswerError::Unrelated));
    let wire = message(0x8186, [&[too_long], &[], &[]]);
    assert_eq!(
        read(&wire).map(|answer| answer.rcode()).ok(),
        Some(6),
        "YXDOMAIN"
    );
}

#[test]
fn what_the_asked_name_does_not_lead_to_is_left_out() {
    let a = record(b"\xC0\x0C", rtype::A, 300, &[1, 2, 3, 4]);
    let other = record(b"\x01b\xC0\x0E", rtype::A, 300, &[6, 6, 6, 6]);
    let mut chaos = record(b"\xC0\x0C", rtype::A, 300, &[6, 6, 6, 6]);
    chaos[5] = 3;
    let ns = record(b"\xC0\x0E", rtype::NS, 300, b"\x01b\xC0\x0E");
    let records = [other.clone(), a, chaos.clone()];
    let wire = message(0x8180, [&records, &[ns], std::slice::from_ref(&other)]);
    let answer = read(&wire).expect("an answer");
    assert_eq!(answer.counts(), [1, 0, 0]);
    for lone in [other, chaos] {
        let wire = message(0x8180, [&[lone], &[], &[]]);
        assert_eq!(read(&wire).err(), Some(AnswerError::Unrelated));
    }
}

#[test]
fn a_referral_is_no_answer_whoever_is_referred_to() {
    for owner in [b"\xC0\x0E", b"\xC0\x0C"] {
        let ns = record(owner, rtype::NS, 300, b"\x02ns\xC0\x0E");
        let alias = record(b"\xC0\x0C", rtype::CNAME, 20, b"\x01b\xC0\x0E");
        let soa = record(b"\x02tv\x00", rtype::SOA, 3600, SOA);
        for answers in [&[][..], &[alias]] {
            let wire = message(0x8180, [answers, std::slice::from_ref(&ns), &[]]);
            assert_eq!(read(&wire).err(), Some(AnswerError::Referral));
            let wire = message(0x8180, [answers, &[ns.clone(), soa.clone()], &[]]);
            assert!(read(&wire).is_ok(), "NODATA with both (RFC 2308, 2.2)");
        }
    }
}

#[test]
fn letters_of_our_own_query_are_not_kept() {
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
    assert!(spelled, "labels that were not asked for stay as they are");
    assert_eq!(answer.chain().next(), Some((name("a.net"), 9)));
}

#[test]
fn names_in_data_are_read_wherever_they_may_be_compressed() {
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
        let answer = Answer::read(&wire, &name("a.tv"), rtype, 1, INTAKE).expect("an answer");
        assert_eq!(&answer.body()[12..], expected, "{rtype}");
        if rtype != 16 {
            let short = &data[..data.len() - 2];
            let mut wire = message(0x8180, [&[record(b"\xC0\x0C", rtype, 9, short)], &[], &[]]);
            wire[HEADER + 7] = rtype as u8;
            let answer = Answer::read(&wire, &name("a.tv"), rtype, 1, INTAKE);
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
fn what_is_no_answer_to_the_question_is_refused() {
    let good = message(0x8180, [&[], &[], &[]]);
    assert!(read(&good).is_ok());
    assert_eq!(
        read(&message(0x0100, [&[], &[], &[]])).err(),
        Some(AnswerError::Malformed)
    );
    let other = Answer::read(&good, &name("b.tv"), 1, 1, INTAKE);
    assert_eq!(other.err(), Some(AnswerError::OtherQuestion));
    let a = record(b"\xC0\x0C", rtype::A, 300, &[1, 2, 3, 4]);
    let wire = message(0x8180, [&[a], &[], &[]]);
    for cut in 0..wire.len() {
        assert!(read(&wire[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn ttls_are_clamped_and_one_with_the_top_bit_is_a_long_one() {
    let intake = Intake {
        min_ttl: 5,
        max_ttl: 100,
        additional: false,
    };
    assert_eq!(
        [0, 50, 1000, 1 << 31, u32::MAX].map(|ttl| intake.ttl(ttl)),
        [5, 50, 100, 100, 100]
    );
}

#[test]
fn answers_agree_that_say_the_same_in_another_order_with_other_ttls() {
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
fn answers_agree_whatever_their_names_in_data_are_compressed_with() {
    let mx = |name: &[u8]| record(b"\xC0\x0C", 15, 9, &[b"\0\x05", name].concat());
    let (one, two) = (mx(b"\x02mx\x03net\0"), mx(b"\x03alt\x02mx\x03net\0"));
    let answer = |records: &[Vec<u8>]| {
        let mut wire = message(0x8180, [records, &[], &[]]);
        wire[HEADER + 7] = 15;
        Answer::read(&wire, &name("a.tv"), 15, 1, INTAKE).expect("an answer")
    };
    let forth = answer(&[one.clone(), two.clone()]);
    let back = answer(&[two, one]);
    assert_ne!(forth.body(), back.body());
    assert!(forth.agrees_with(&back));
}

#[test]
fn owners_behind_a_chain_point_at_it_though_spelled_otherwise() {
    let alias = record(b"\xC0\x0C", rtype::CNAME, 9, b"\x03Svc\x03NET\0");
    let https = |priority: u8| record(b"\x03svc\x03net\0", rtype::HTTPS, 9, &[0, priority, 0]);
    let mut wire = message(0x8180, [&[alias, https(1), https(2)], &[], &[]]);
    wire[HEADER + 7] = rtype::HTTPS as u8;
    let answer = Answer::read(&wire, &name("a.tv"), rtype::HTTPS, 1, INTAKE).expect("an answer");
    let owners: Vec<_> = answer.records().skip(1).map(|r| r.owner).collect();
    let bytes = |at: usize| answer.wire()[at..at + 2].to_vec();
    assert_eq!(bytes(owners[0]), bytes(owners[1]), "the same pointer");
    assert!(bytes(owners[0])[0] >= 0xC0);
}

#[test]
fn an_answer_that_would_keep_us_busy_is_none() {
    // Pointers to pointers to pointers, and services without number.
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
        Answer::read(&wire, &name("a.tv"), rtype::HTTPS, 1, INTAKE).is_ok()
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

#[test]
fn a_long_asked_name_leaves_room_for_pointers_at_its_target() {
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
    let answer = Answer::read(&wire, &asked, 1, 1, INTAKE).expect("an answer");
    assert_eq!(answer.wire().len(), wire.len());
}
