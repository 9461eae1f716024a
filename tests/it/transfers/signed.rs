//! Transfers that are signed with TSIG (RFC 8945), by a primary that signs rightly, wrongly, late or not at all.

use tapis::control::sources::feeds::fault::Fault;
use tapis::control::sources::feeds::fetch::Fetched;
use tapis::wire::rtype;
use tapis::wire::transfer::tsig::{Algorithm, Key};

use super::harness::{Collected, Wanted, fetch};
use crate::support::primary::{Primary, Step, Zone, name, send};
use crate::support::signer::Signer;

/// Fetches with the key that the signers have.
fn signed(primary: &Primary, sink: &mut Collected) -> Result<Fetched, Fault> {
    signed_by("transfer.key", primary, sink)
}

fn signed_by(key: &str, primary: &Primary, sink: &mut Collected) -> Result<Fetched, Fault> {
    let key = Key::new(&name(key), Algorithm::Sha256, &[7; 32]).expect("a key");
    let wanted = Wanted {
        key: Some(&key),
        ..Wanted::default()
    };
    let result = fetch(primary.address, wanted, sink);
    result.map_err(|fault| fault.expect("of the primary"))
}

fn fault(primary: &Primary) -> Fault {
    let mut sink = Collected::default();
    let fault = signed(primary, &mut sink).expect_err("a fault");
    assert_eq!(sink.ended, 0);
    fault
}

/// A zone with this number of messages.
fn zone(messages: usize) -> Zone {
    let names: Vec<_> = (0..messages - 3).map(|at| format!("n{at}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    Zone {
        per_message: 1,
        ..Zone::new("feed.test", 7, &names)
    }
}

fn signing(messages: usize, set: impl Fn(&mut Signer)) -> Primary {
    let mut signer = Signer::new("transfer.key");
    set(&mut signer);
    let zone = zone(messages);
    Primary::start(move |asked| match asked.rtype {
        rtype::SOA => send(Signer::new("transfer.key").sign(asked, zone.answer(asked))),
        _ => send(signer.sign(asked, zone.answer(asked))),
    })
}

#[test]
fn a_transfer_with_a_signature_in_each_message_arrives() {
    let mut sink = Collected::default();
    let fetched = signed(&signing(20, |_| {}), &mut sink).expect("transferred");
    assert_eq!((fetched.records, sink.ended), (20, 1));
    // The compiler reads the messages with their TSIG records.
    assert_eq!(sink.names().len(), 18);
}

#[test]
fn up_to_99_messages_in_a_row_may_be_unsigned() {
    let mut sink = Collected::default();
    let primary = signing(251, |signer| signer.every = 100);
    let fetched = signed(&primary, &mut sink).expect("transferred");
    assert_eq!((fetched.records, sink.names().len()), (251, 249));
    let primary = signing(251, |signer| signer.every = 101);
    assert_eq!(fault(&primary), Fault::TsigWrong, "100 are too many");
}

#[test]
fn the_last_message_must_be_signed() {
    let primary = signing(20, |signer| {
        signer.every = 8;
        signer.signs_last = false;
    });
    assert_eq!(fault(&primary), Fault::TsigWrong);
}

#[test]
fn a_wrong_signature_in_message_700_is_found() {
    let primary = signing(1000, |signer| {
        signer.every = 50;
        signer.wrong_at = Some(700);
    });
    assert_eq!(fault(&primary), Fault::TsigWrong);
}

#[test]
fn an_unsigned_message_that_was_changed_is_found_by_the_next_signature() {
    let zone = zone(30);
    let primary = Primary::start(move |asked| {
        let mut signer = Signer::new("transfer.key");
        signer.every = 10;
        let mut messages = signer.sign(asked, zone.answer(asked));
        if asked.rtype != rtype::SOA {
            let name = messages[15].iter().rposition(|byte| *byte == b'n');
            messages[15][name.expect("a name")] = b'm';
        }
        send(messages)
    });
    assert_eq!(fault(&primary), Fault::TsigWrong);
}

#[test]
fn a_primary_without_the_key_is_not_trusted() {
    let unsigned = Primary::serving(zone(5));
    assert_eq!(fault(&unsigned), Fault::TsigWrong);
    let rejecting = Primary::start(|asked| {
        let refused = zone(5).message(asked, &[], 9);
        vec![Step::Send(Signer::new("transfer.key").bad_key(refused))]
    });
    assert_eq!(fault(&rejecting), Fault::TsigWrong);
    let forged = Primary::start(|asked| {
        let mut messages = Signer::new("transfer.key").sign(asked, zone(5).answer(asked));
        // In the MAC, which precedes the last six bytes.
        let at = messages[0].len() - 20;
        messages[0][at] ^= 1;
        send(messages)
    });
    assert_eq!(fault(&forged), Fault::TsigWrong);
    let other_key = signing_as("other.key");
    let result = signed_by("other.key", &other_key, &mut Collected::default());
    assert!(result.is_ok(), "the right name");
}

/// A primary that signs with a key of this name.
fn signing_as(key: &'static str) -> Primary {
    Primary::start(move |asked| send(Signer::new(key).sign(asked, zone(5).answer(asked))))
}

#[test]
fn clocks_that_differ_too_much_have_their_own_fault() {
    for ahead in [-400, 400] {
        let primary = signing(5, move |signer| signer.ahead = ahead);
        assert_eq!(fault(&primary), Fault::TsigLate, "{ahead} s");
    }
    let mut sink = Collected::default();
    let near = signing(5, |signer| signer.ahead = 200);
    assert!(
        signed(&near, &mut sink).is_ok(),
        "within the 300 s of the signature"
    );
    let primary = Primary::start(|asked| {
        let refused = zone(5).message(asked, &[], 9);
        vec![Step::Send(
            Signer::new("transfer.key").bad_time(asked, refused),
        )]
    });
    assert_eq!(fault(&primary), Fault::TsigLate, "the primary says so");
}

#[test]
fn an_unsigned_refusal_keeps_its_name() {
    for (rcode, expected) in [
        (5, Fault::Refused),
        (2, Fault::NotLoaded),
        (9, Fault::NotServed),
    ] {
        let primary = Primary::start(move |asked| zone(5).refusal(asked, rcode));
        assert_eq!(fault(&primary), expected);
    }
}
