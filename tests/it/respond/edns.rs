//! EDNS: the OPT record of answers, and Extended DNS Errors.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, AAAA, ANY, TXT};
use tapis::policy::rule::{Action, Ede};
use tapis::wire::flag::RD;

use super::ask::{ask, message};
use super::harness::{Harness, NOT_PERMITTED, harness, list};
use super::upstream_answer::{a, upstream_answer};

fn rich() -> Harness {
    let harness = harness([list("ads").exact("bad.example")]);
    let good = upstream_answer("good.example", A).option(15, b"\x00\x06is bogus");
    let good = good.answers([a("good.example", 300, [192, 0, 2, 7])]);
    for asked in [ask("good.example", A), ask("good.example", A).dnssec_ok()] {
        harness.learn(asked, good.clone());
    }
    harness
}

#[test]
fn an_opt_record_is_only_sent_to_clients_that_sent_one() {
    let harness = rich();
    for (name, rtype) in [
        ("bad.example", A),
        ("bad.example", TXT),
        ("localhost", A),
        ("any.example", ANY),
        ("good.example", A),
    ] {
        let plain = harness.answer(ask(name, rtype));
        assert!(
            plain.message.edns.is_none() && plain.additionals().is_empty(),
            "{name}"
        );
        let decoded = harness.answer(ask(name, rtype).edns(4096));
        let edns = decoded.message.edns.as_ref().expect("an OPT record");
        assert_eq!((edns.version(), edns.max_payload()), (0, 1232), "{name}");
    }
}

#[test]
fn the_do_bit_is_copied_and_the_other_bits_of_edns_are_zero() {
    let harness = rich();
    for name in ["bad.example", "localhost", "good.example"] {
        let with = harness.answer(ask(name, A).dnssec_ok());
        let edns = with.message.edns.expect("an OPT record");
        assert!(edns.flags().dnssec_ok && edns.flags().z == 0, "{name}");
        let without = harness.answer(ask(name, A).edns(1232));
        assert!(
            !without
                .message
                .edns
                .expect("an OPT record")
                .flags()
                .dnssec_ok,
            "{name}"
        );
    }
}

#[test]
fn each_reason_has_its_code_and_the_lists_text() {
    for (ede, codes) in [
        (Ede::Blocked, &[15][..]),
        (Ede::Censored, &[16]),
        (Ede::Filtered, &[17]),
        (Ede::Prohibited, &[18]),
        (Ede::None, &[]),
    ] {
        let text = "Ordnance 7/2017: größer";
        for action in [
            Action::Sinkhole,
            Action::Nodata,
            Action::Nxdomain,
            Action::Refused,
        ] {
            let verbose = list("ads")
                .action(action)
                .subtree("bad.example")
                .with(|blocking| {
                    blocking.ede = ede;
                    blocking.extra_text = text.to_owned();
                });
            let decoded = harness([verbose]).answer(ask("bad.example", A).edns(1232));
            let expected: Vec<_> = codes.iter().map(|&code| (code, text.to_owned())).collect();
            assert_eq!(decoded.errors(), expected, "{ede:?} {action:?}");
            assert!(decoded.message.edns.is_some());
        }
    }
}

#[test]
fn without_edns_there_is_no_reason() {
    let decoded = rich().answer(ask("bad.example", AAAA));
    assert!(decoded.errors().is_empty() && decoded.message.edns.is_none());
    assert!(!decoded.bytes.windows(3).any(|bytes| bytes == b"ads"));
}

#[test]
fn extended_errors_of_upstream_are_passed_on_and_its_other_options_are_not() {
    let harness = rich();
    let decoded = harness.answer(ask("good.example", A).edns(1232));
    assert_eq!(decoded.errors(), [(6, "upstream: is bogus".to_owned())]);
    let asked = ask("two.example", A).edns(1232);
    harness.learn(
        asked,
        upstream_answer("two.example", A)
            .option(8, b"\x00\x01\x18\x18\xC0\x00\x02")
            .option(15, b"\x00\x01")
            .option(10, b"cookies!")
            .option(15, b"\x00\x1Dnot UTF-8: \xFF")
            .answers([a("two.example", 300, [192, 0, 2, 7])]),
    );
    let errors = harness.answer(asked).errors();
    assert_eq!(
        errors,
        [
            (1, "upstream".to_owned()),
            (29, "upstream: not UTF-8: \u{FFFD}".to_owned())
        ]
    );
}

#[test]
fn an_unknown_version_gets_badvers_whatever_is_asked() {
    let harness = rich();
    for (name, rtype) in [("bad.example", A), ("good.example", A), ("localhost", ANY)] {
        let asked = ask(name, rtype).version(1);
        let decoded = harness.answer(asked);
        assert_eq!(u16::from(decoded.rcode()), 16, "{name}");
        assert_eq!(
            decoded.message.edns.as_ref().map(|edns| edns.version()),
            Some(0)
        );
        assert!(decoded.is_bare() && decoded.errors().is_empty());
        assert!(decoded.bytes.len() <= asked.packet().len());
    }
}

#[test]
fn unknown_options_are_skipped() {
    let harness = rich();
    let asked = ask("bad.example", A);
    let opt =
        b"\x00\x00\x29\x04\xD0\x00\x00\x00\x00\x00\x10\x00\x0A\x00\x08cookie!!\xFF\xFE\x00\x00";
    let packet = message(RD, [1, 0, 0, 1], &[&asked.question(), opt]);
    let decoded = harness.take(0, super::harness::PERMITTED, &packet).reply();
    assert_eq!(decoded.codes(), [15]);
}

#[test]
fn clients_without_permission_get_refused_with_prohibited_for_every_name() {
    let harness = rich();
    for name in ["bad.example", "good.example", "localhost", "other.example"] {
        let decoded = harness
            .take(0, NOT_PERMITTED, &ask(name, A).edns(1232).packet())
            .reply();
        assert_eq!(decoded.rcode(), ResponseCode::Refused, "{name}");
        assert!(decoded.is_bare(), "{name}");
        assert_eq!(decoded.codes(), [18], "{name}");
        let plain = harness
            .take(0, NOT_PERMITTED, &ask(name, A).packet())
            .reply();
        assert_eq!(plain.bytes.len(), ask(name, A).packet().len(), "{name}");
    }
}

#[test]
fn an_extended_response_code_of_upstream_is_kept_and_becomes_servfail_without_edns() {
    let harness = harness([]);
    let asked = ask("odd.example", A);
    let odd = upstream_answer("odd.example", A).rcode(ResponseCode::BADCOOKIE);
    harness.learn(
        asked,
        odd.authority(super::upstream_answer::soa("example", 60, 60)),
    );
    assert_eq!(
        harness.answer(asked.edns(1232)).rcode(),
        ResponseCode::BADCOOKIE
    );
    assert_eq!(harness.answer(asked).rcode(), ResponseCode::ServFail);
}
