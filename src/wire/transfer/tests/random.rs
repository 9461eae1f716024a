//! Random changes in messages of any size, and random messages.

use proptest::prelude::*;

use super::messages::{message, rr, soa};
use super::{messages, read};
use crate::wire::name::Name;
use crate::wire::rtype;
use crate::wire::transfer::*;

#[derive(Clone, Debug)]
struct Change {
    deleted: Vec<String>,
    added: Vec<String>,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let names = || prop::collection::vec("[a-c]{1,3}", 0..4);
    let change = (names(), names()).prop_map(|(deleted, added)| Change { deleted, added });
    prop::collection::vec(change, 1..5)
}

proptest! {
    #[test]
    fn changes_are_the_same_however_they_are_divided_into_messages(
        changes in changes(),
        from: u32,
        sizes in prop::collection::vec(1_usize..6, 40),
    ) {
        let serial = |step: usize| from.wrapping_add(step as u32);
        let newest = serial(changes.len());
        let mut records = vec![soa(newest)];
        let mut expected = vec![format!("Changes {newest}")];
        for (step, change) in changes.iter().enumerate() {
            for (at, names, verb) in [(0, &change.deleted, "-"), (1, &change.added, "+")] {
                records.push(soa(serial(step + at)));
                records.extend(names.iter().map(|name| rr(name, 5)));
                expected.extend(names.iter().map(|name| format!("{verb} {name}.feed.test")));
            }
        }
        records.push(soa(newest));
        expected.push("End".to_owned());
        let mut messages = Vec::new();
        let mut left = &records[..];
        for size in sizes {
            let (now, later) = left.split_at(size.min(left.len()));
            if !now.is_empty() {
                messages.push(message(7, rtype::IXFR, now));
            }
            left = later;
        }
        messages.push(message(7, rtype::IXFR, left));
        messages.retain(|message| message[6..8] != [0, 0]);
        prop_assert_eq!(read(Some(from), &messages), expected);
    }

    #[test]
    fn no_message_makes_a_transfer_panic(
        mut message in prop::collection::vec(any::<u8>(), 0..200),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ours: bool,
        is_random: bool,
    ) {
        let qtype = if ours { rtype::IXFR } else { rtype::AXFR };
        if !is_random {
            message = messages::message(7, qtype, &[soa(9), soa(3), rr("*.a", 5), rr("b", 15), soa(9)]);
            for (at, byte) in edits {
                let at = at.index(message.len());
                message[at] = byte;
            }
        }
        let _ = read(ours.then_some(3), &[message.clone()]);
        let mut zone = Name::default();
        let _ = notify::Notify::parse(&message, &mut zone);
        let mut transfer = Transfer::new(&Request { id: 7, zone: messages::zone(), ours: None, max_records: 9 });
        if let Ok(events) = transfer.read(&message) {
            for event in events.flatten() {
                if let Event::Record(record) = event {
                    record.copy_data(&mut Vec::new());
                }
            }
        }
    }
}
