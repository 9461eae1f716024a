//! Tests: the records of a message that answer its question.

mod addresses;
mod refused;
mod rewritten;

use super::*;
use crate::wire::rtype;

const INTAKE: Intake = Intake {
    min_ttl: 0,
    max_ttl: 86_400,
    max_negative_ttl: u32::MAX,
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
    Answer::parse(message, &name("a.tv"), 1, 1, INTAKE)
}

/// The data of an RRSIG record that covers this type.
fn signature(covered: u16) -> Vec<u8> {
    [&covered.to_be_bytes()[..], &[0; 17], &[7; 8]].concat()
}

const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x08\x00\x0F\x00\x04\x00\x07no";
const SOA: &[u8] =
    b"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x1E";

#[test]
fn opt_is_dropped_and_its_errors_are_kept() {
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
fn texts_of_upstreams_are_marked_and_have_no_control_characters() {
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
fn records_after_opt_are_read() {
    let a = record(b"\xC0\x0C", rtype::A, 300, &[1, 2, 3, 4]);
    let glue = record(b"\x01A\xC0\x0E", rtype::AAAA, 200, &[0; 16]);
    let wire = message(0x8180, [&[a], &[], &[OPT.to_vec(), glue]]);
    let intake = Intake {
        additional: true,
        ..INTAKE
    };
    let answer = Answer::parse(&wire, &name("a.tv"), 1, 1, intake).expect("an answer");
    assert_eq!(answer.counts(), [1, 0, 1]);
    let owners: Vec<_> = answer.records().map(|r| r.owner(answer.wire())).collect();
    assert_eq!(owners, [Some(name("a.tv")), Some(name("a.tv"))]);
}

#[test]
fn only_addresses_of_names_in_the_answer_are_kept() {
    let intake = Intake {
        additional: true,
        ..INTAKE
    };
    let to = |before: &[u8]| [before, b"\x02To\xC0\x0E"].concat();
    let in_full = |before: &[u8]| [before, b"\x02to\x02tv\0"].concat();
    let addresses = |owner: &[u8]| {
        [
            record(owner, rtype::A, 9, &[192, 0, 2, 1]),
            record(owner, rtype::AAAA, 9, &[0; 16]),
        ]
    };
    let owners = [
        &b"\x02tO\xC0\x0E"[..],
        b"\xC0\x0C",
        b"\x02ns\xC0\x0E",
        b"\x01x\x02to\xC0\x0E",
        b"\xC0\x0E",
        b"\x03www\x04bank\0",
    ];
    let additional: Vec<_> = owners.into_iter().flat_map(addresses).collect();
    let kept = |rtype: u16, answers: &[Vec<u8>]| {
        let ns = record(b"\xC0\x0E", rtype::NS, 300, b"\x02ns\xC0\x0E");
        let mut wire = message(0x8180, [answers, &[ns], &additional]);
        wire[HEADER + 7] = rtype as u8;
        let answer = Answer::parse(&wire, &name("a.tv"), rtype, 1, intake).expect("an answer");
        let records = answer.records().filter(|record| record.section == 2);
        let owners = records.map(|record| record.owner(answer.wire()).expect("a name"));
        owners.map(|owner| owner.to_string()).collect::<Vec<_>>()
    };
    let here = |rtype, data: &[u8]| record(b"\xC0\x0C", rtype, 9, data);
    for (rtype, data) in [
        (rtype::NS, to(b"")),
        (15, to(b"\0\x05")),
        (33, to(&[0; 6])),
        (36, to(b"\0\x05")),
        (35, to(b"\0\x01\0\x02\x01s\x03SIP\0")),
        (rtype::SVCB, in_full(b"\0\x01")),
        (rtype::HTTPS, in_full(b"\0\0")),
    ] {
        // Owner by owner.
        let expected = ["to.tv", "to.tv", "a.tv", "a.tv"];
        assert_eq!(kept(rtype, &[here(rtype, &data)]), expected, "{rtype}");
    }
    assert_eq!(
        kept(16, &[here(16, &to(b""))]),
        ["a.tv"; 2],
        "no name there"
    );
    let alias = here(rtype::CNAME, &to(b""));
    let end = record(b"\x02to\xC0\x0E", 15, 9, b"\0\x05\x02ns\xC0\x0E");
    let chained = ["to.tv", "to.tv", "ns.tv", "ns.tv"];
    assert_eq!(
        kept(15, &[alias, end]),
        chained,
        "no addresses of the queried name"
    );
}

#[test]
fn a_negative_answer_is_cached_for_the_ttl_of_its_soa_and_never_without_one() {
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
    assert_eq!(
        ttl(&[], &[foreign]),
        None,
        "the SOA of another zone does not count"
    );
}

#[test]
fn a_signed_cname_without_a_final_record_is_not_cached_without_an_soa() {
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
fn the_chain_is_written_first_and_in_order() {
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
fn a_dname_is_followed_with_and_without_its_cname() {
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
    let asked = Answer::parse(&wire, &name("a.tv"), rtype::CNAME, 1, INTAKE).expect("an answer");
    let types: Vec<_> = asked.records().map(|r| r.fields.rtype).collect();
    assert_eq!((types, asked.chain().count()), (vec![39, 5], 0));
    // A DNAME that is not on the chain is ignored.
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
fn records_that_are_not_on_the_chain_are_dropped() {
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
fn errors_of_blocked_names_and_landing_addresses_alone_are_signs_of_a_block() {
    let a = |last| record(b"\xC0\x0C", rtype::A, 300, &[192, 0, 2, last]);
    let opt = |code: u8| {
        let mut opt = OPT.to_vec();
        opt[16] = code;
        opt
    };
    let sign = |flags, answers: &[Vec<u8>], additional: &[Vec<u8>]| {
        let answer = read(&message(flags, [answers, &[], additional])).expect("an answer");
        answer.block_sign(|address| address == IpAddr::from([192, 0, 2, 9]))
    };
    let (noerror, refused) = (0x8180, 0x8185);
    for code in 0..30 {
        let is_block = (15..=18).contains(&code);
        let expected = is_block.then_some(BlockSign::Error(code.into()));
        assert_eq!(sign(noerror, &[a(1)], &[opt(code)]), expected);
        let expected = expected.filter(|_| code != 18);
        assert_eq!(sign(refused, &[], &[opt(code)]), expected);
    }
    let landing = Some(BlockSign::Landing([192, 0, 2, 9].into()));
    assert_eq!(sign(noerror, &[a(9), a(9)], &[]), landing);
    for answers in [&[a(9), a(1)][..], &[a(1), a(9)], &[]] {
        assert_eq!(sign(noerror, answers, &[]), None);
    }
}
