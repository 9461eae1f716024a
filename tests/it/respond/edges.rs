//! Edge cases of the protocol: malformed packets, and unusual classes and types.

use hickory_proto::op::{OpCode, ResponseCode};
use hickory_proto::rr::RecordType::{A, ANY, AXFR, IXFR, OPT, TXT};
use tapis::stats::Count;
use tapis::wire::flag::{CD, QR, RD};

use super::ask::{ID, ask, message};
use super::decoded::Decoded;
use super::harness::{Harness, NOT_PERMITTED, PERMITTED, harness, list};

const OPT_RECORD: &[u8] = b"\x00\x00\x29\x04\xD0\x00\x00\x00\x00\x00\x00";

fn server() -> Harness {
    harness([list("ads").subtree("bad.example")])
}

/// The answer, which must be only a header.
#[track_caller]
fn header_only(packet: &[u8]) -> Decoded {
    let decoded = server().take(0, PERMITTED, packet).reply();
    assert_eq!((decoded.bytes.len(), decoded.message.metadata.id), (12, ID));
    assert!(decoded.has(QR));
    decoded
}

/// A query for `bad.example` with this question section.
fn asking(question: &[u8]) -> Vec<u8> {
    message(RD, [1, 0, 0, 0], &[question])
}

#[test]
fn a_packet_without_a_whole_header_is_dropped() {
    let packet = ask("bad.example", A).packet();
    for len in 0..12 {
        let outcome = server().take(0, PERMITTED, &packet[..len]);
        assert_eq!(outcome.dropped(), Count::Short, "{len} bytes");
    }
}

#[test]
fn a_response_is_dropped_so_that_two_servers_never_loop() {
    let packet = ask("bad.example", A).flags(QR | RD).packet();
    assert_eq!(
        server().take(0, PERMITTED, &packet).dropped(),
        Count::Response
    );
    let refused = ask("bad.example", A).flags(QR | 0x2800).packet();
    assert_eq!(
        server().take(0, PERMITTED, &refused).dropped(),
        Count::Response
    );
}

#[test]
fn every_opcode_but_query_is_not_implemented() {
    for opcode in 1..16_u16 {
        let packet = ask("bad.example", A).flags(opcode << 11 | RD | CD).packet();
        let decoded = header_only(&packet);
        assert_eq!(
            (decoded.rcode(), decoded.count),
            (ResponseCode::NotImp, Count::Opcode)
        );
        let opcode = OpCode::from_u8(opcode as u8);
        assert_eq!(
            decoded.message.metadata.op_code, opcode,
            "the opcode is copied"
        );
        assert_eq!(decoded.flags() & (RD | CD), RD | CD);
    }
}

#[test]
fn a_packet_with_no_question_or_two_is_a_format_error() {
    let question = ask("bad.example", A).question();
    for packet in [
        message(RD, [0, 0, 0, 0], &[]),
        message(RD, [0, 0, 0, 0], &[&question]),
        message(RD, [2, 0, 0, 0], &[&question, &question]),
        message(RD, [0xFFFF, 0, 0, 0], &[&question]),
    ] {
        let decoded = header_only(&packet);
        assert_eq!(
            (decoded.rcode(), decoded.count),
            (ResponseCode::FormErr, Count::QuestionCount)
        );
    }
}

#[test]
fn a_name_that_is_compressed_overlong_truncated_or_of_a_reserved_label_type_is_a_format_error() {
    let long = "x".repeat(63);
    let overlong = [&long[..], &long, &long, &"y".repeat(62)].join(".");
    let question = ask("bad.example", A).question();
    for packet in [
        asking(b"\xC0\x0C\x00\x01\x00\x01"),
        asking(b"\x03bad\xC0\x00\x00\x01\x00\x01"),
        asking(&ask(&overlong, A).question()),
        asking(b"\x40\x00\x00\x01\x00\x01"),
        asking(b"\x80\x00\x00\x01\x00\x01"),
        asking(b"\x3Fbad"),
        asking(&question[..question.len() - 1]),
        asking(b""),
    ] {
        let decoded = header_only(&packet);
        assert_eq!(
            (decoded.rcode(), decoded.count),
            (ResponseCode::FormErr, Count::Question)
        );
    }
}

#[test]
fn a_name_of_maximum_length_is_answered() {
    let long = "x".repeat(63);
    let longest = [&long[..], &long, &long, &"y".repeat(61)].join(".");
    let decoded = harness([list("all").subtree(".")]).answer(ask(&longest, A).edns(512));
    assert_eq!(
        (decoded.count, decoded.message.answers.len()),
        (Count::Blocked, 1)
    );
    let many = "a.".repeat(127);
    let decoded = harness([list("all").subtree(".")]).answer(ask(&many, A));
    assert_eq!(
        (decoded.count, decoded.message.answers.len()),
        (Count::Blocked, 1)
    );
}

#[test]
fn misplaced_overrunning_and_surplus_records_are_a_format_error() {
    let question = ask("bad.example", A).question();
    let record = b"\xC0\x0C\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\x01\x02\x03\x04";
    for packet in [
        message(RD, [1, 1, 0, 0], &[&question, record]),
        message(RD, [1, 0, 0, 1], &[&question]),
        message(RD, [1, 0, 0, 0], &[&question, b"?"]),
        message(RD, [1, 0, 0, 1], &[&question, &record[..15]]),
        message(RD, [1, 0, 1, 0], &[&question, b"\xC0"]),
    ] {
        let decoded = header_only(&packet);
        assert_eq!(
            (decoded.rcode(), decoded.count),
            (ResponseCode::FormErr, Count::Records)
        );
    }
}

#[test]
fn two_opts_one_with_an_owner_misplaced_or_overrun_is_a_format_error() {
    let question = ask("bad.example", A).question();
    let owned = [b"\x01x", OPT_RECORD].concat();
    let overrun = b"\x00\x00\x29\x04\xD0\x00\x00\x00\x00\x00\x05\x00\x0A\x00\x02\x01";
    for packet in [
        message(RD, [1, 0, 0, 2], &[&question, OPT_RECORD, OPT_RECORD]),
        message(RD, [1, 0, 0, 1], &[&question, &owned]),
        message(RD, [1, 0, 1, 0], &[&question, OPT_RECORD]),
        message(RD, [1, 0, 0, 1], &[&question, overrun]),
    ] {
        let decoded = header_only(&packet);
        assert_eq!(
            (decoded.rcode(), decoded.count),
            (ResponseCode::FormErr, Count::Edns)
        );
    }
}

#[test]
fn records_without_a_meaning_to_the_server_are_skipped() {
    let question = ask("bad.example", A).question();
    let other = b"\x00\x00\xFA\x00\xFF\x00\x00\x00\x00\x00\x01!";
    let packet = message(RD, [1, 0, 1, 2], &[&question, other, OPT_RECORD, other]);
    let decoded = server().take(0, PERMITTED, &packet).reply();
    assert_eq!((decoded.count, decoded.codes()), (Count::Blocked, vec![15]));
}

#[test]
fn clients_without_permission_get_no_answer_to_a_malformed_packet() {
    for packet in [
        ask("bad.example", A).flags(0x2800).packet(),
        message(RD, [0, 0, 0, 0], &[]),
        asking(b"\xC0\x0C\x00\x01\x00\x01"),
    ] {
        let outcome = server().take(0, NOT_PERMITTED, &packet);
        assert_eq!(outcome.dropped(), Count::DeniedMalformed);
    }
    let response = ask("bad.example", A).flags(QR).packet();
    assert_eq!(
        server().take(0, NOT_PERMITTED, &response).dropped(),
        Count::Response
    );
}

#[test]
fn zone_transfers_are_refused() {
    for name in ["bad.example", "good.example", "10.in-addr.arpa"] {
        let decoded = server().answer(ask(name, AXFR));
        assert_eq!(
            (decoded.rcode(), decoded.is_bare()),
            (ResponseCode::Refused, true),
            "{name}"
        );
        let soa = b"\xC0\x0C\x00\x06\x00\x01\x00\x00\x00\x00\x00\x16\x00\x00\
            \x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
        let packet = message(0, [1, 0, 1, 0], &[&ask(name, IXFR).question(), soa]);
        let decoded = server().take(0, PERMITTED, &packet).reply();
        assert_eq!(
            (decoded.rcode(), decoded.is_bare()),
            (ResponseCode::Refused, true),
            "{name}"
        );
    }
}

#[test]
fn meta_types_are_not_implemented_and_opt_is_a_format_error() {
    for (rtype, rcode) in [
        (128, ResponseCode::NotImp),
        (249, ResponseCode::NotImp),
        (250, ResponseCode::NotImp),
        (253, ResponseCode::NotImp),
        (254, ResponseCode::NotImp),
        (OPT.into(), ResponseCode::FormErr),
    ] {
        let asked = ask("bad.example", rtype.into());
        let decoded = server().answer(asked);
        assert_eq!(
            (decoded.rcode(), decoded.is_bare()),
            (rcode, true),
            "{rtype}"
        );
        assert!(decoded.bytes.len() <= asked.packet().len());
    }
}

#[test]
fn classes_other_than_in_are_refused_even_for_blocked_names() {
    for class in [0, 2, 3, 4, 254, 255, 0xFFFF] {
        for name in ["bad.example", "good.example", "localhost"] {
            let decoded = server().answer(ask(name, TXT).class(class));
            assert_eq!(decoded.rcode(), ResponseCode::Refused, "{name} {class}");
            assert!(decoded.is_bare());
        }
    }
}

#[test]
fn class_ch_answers_version_and_identity_as_configured_and_nothing_else() {
    let mut harness = server();
    let names = [
        "version.bind",
        "version.server",
        "id.server",
        "hostname.bind",
    ];
    for name in names {
        let decoded = harness.answer(ask(name, TXT).class(3));
        assert_eq!(
            decoded.rcode(),
            ResponseCode::Refused,
            "{name}: not configured"
        );
    }
    harness.snapshot.version = Some("sifter 1".to_owned());
    harness.snapshot.id = Some("jkt-3".to_owned());
    for (name, text) in names.iter().zip(["sifter 1", "sifter 1", "jkt-3", "jkt-3"]) {
        for rtype in [TXT, ANY] {
            let decoded = harness.answer(ask(name, rtype).class(3));
            assert_eq!(decoded.answers(), [format!("{name}. 0 CH TXT {text}")]);
            assert_eq!(decoded.count, Count::Chaos);
        }
        let other = harness.answer(ask(name, A).class(3));
        assert_eq!(other.rcode(), ResponseCode::Refused, "{name}: not a text");
    }
    let upper = harness.answer(ask("VERSION.BIND", TXT).class(3));
    assert_eq!(upper.message.answers.len(), 1);
    let other = harness.answer(ask("authors.bind", TXT).class(3));
    assert_eq!(other.rcode(), ResponseCode::Refused);
}

#[test]
fn clients_without_permission_get_neither_version_nor_identity() {
    let mut harness = server();
    harness.snapshot.version = Some("sifter 1".to_owned());
    let packet = ask("version.bind", TXT).class(3).packet();
    let decoded = harness.take(0, NOT_PERMITTED, &packet).reply();
    assert_eq!(
        (decoded.rcode(), decoded.is_bare()),
        (ResponseCode::Refused, true)
    );
}
