//! The time per record of a synthetic transfer.

use std::time::{Duration, Instant};

use tapis::wire::name::Name;
use tapis::wire::transfer::query::Query;
use tapis::wire::transfer::tsig::{Algorithm, Key, Session};
use tapis::wire::transfer::{Event, Request, Transfer};

use crate::support::primary::{Asked, Zone, name};
use crate::support::signer::Signer;

/// Appends pairs of `x` and `*.x`, compressed, up to 16 KB. Returns the number of records.
fn append(first: usize, message: &mut Vec<u8>) -> usize {
    let mut count = 0;
    while message.len() < 16_000 {
        let start = message.len() as u16;
        let at = first + count;
        for text in [
            &*format!("site-{at:08}"),
            ["com", "net", "org", "id"][at / 2 % 4],
        ] {
            message.push(text.len() as u8);
            message.extend_from_slice(text.as_bytes());
        }
        message.extend_from_slice(&[0xC0, 12]);
        for is_below in [false, true] {
            if is_below {
                message.extend_from_slice(b"\x01*");
                message.extend_from_slice(&(0xC000 | start).to_be_bytes());
            }
            message.extend_from_slice(&[0, 5, 0, 1, 0, 0, 0, 60, 0, 17]);
            message.extend_from_slice(b"\x07blocked\x07example\0");
        }
        count += 2;
    }
    message[6..8].copy_from_slice(&(count as u16).to_be_bytes());
    count
}

/// The time to read all messages.
fn read(request: &Request, messages: &[Vec<u8>], mut each: impl FnMut(&Event<'_>)) -> Duration {
    let (mut transfer, start) = (Transfer::new(request), Instant::now());
    for message in messages {
        for event in transfer.read(message).expect("a transfer") {
            each(&event.expect("well-formed"));
        }
    }
    assert!(transfer.has_ended());
    start.elapsed()
}

#[test]
#[ignore = "a measurement: cargo test --release --test it transfers::speed -- --ignored --nocapture"]
fn the_time_per_record_is_printed() {
    let zone = Zone::new("feed.test", 7, &[]);
    let secret = Signer::new("transfer.key").secret;
    let key = Key::new(&name("transfer.key"), Algorithm::Sha256, &secret).expect("a key");
    let query = Query::Axfr.write(7, &zone.name);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let (mut session, query) = Session::sign(&key, &query, now).expect("signed");
    let asked = Asked::parse(&query, true);
    let mut messages = vec![zone.message(&asked, &[zone.soa(7)], 0)];
    let mut total = 0;
    while total < 2_000_000 {
        let mut message = zone.message(&asked, &[], 0);
        total += append(total, &mut message);
        messages.push(message);
    }
    messages.push(zone.message(&asked, &[zone.soa(7)], 0));
    let bytes: usize = messages.iter().map(Vec::len).sum();
    let print = |what: &str, time: Duration| {
        eprintln!("{what}: {} ns per record", time.as_nanos() / total as u128);
    };
    eprintln!("{total} records of {} bytes", bytes / total);
    let request = Request {
        id: 7,
        zone: zone.name,
        ours: None,
        max_records: u64::MAX,
    };
    for _ in 0..3 {
        print("checked", read(&request, &messages, |_| {}));
        let (mut name, mut data) = (Name::default(), Vec::new());
        let time = read(&request, &messages, |event| {
            if let Event::Record(record) = event {
                record.read_owner(&mut name).expect("checked");
            }
        });
        print("with owner", time);
        let time = read(&request, &messages, |event| {
            if let Event::Record(record) = event {
                record.read_owner(&mut name).expect("checked");
                data.clear();
                record.copy_data(&mut data).expect("well-formed");
            }
        });
        print("with owner and data", time);
    }
    let signed = Signer::new("transfer.key").sign(&asked, messages);
    let start = Instant::now();
    for mut message in signed {
        session.check(&mut message, now).expect("signed");
    }
    print("TSIG, each message signed", start.elapsed());
}
