//! Fuzzes the query parser: a packet is rejected, or parsed to its last byte.
//!
//! `cargo +nightly fuzz run query fuzz/corpus/query fuzz/seeds/query`
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapis::wire::name::Name;
use tapis::wire::query::{Query, Reject};
use tapis::wire::{HEADER, flag, reply};

fuzz_target!(|packet: &[u8]| {
    // A worker parses each name over an earlier one.
    let (mut name, mut overwritten) = (Name::default(), Name::default());
    let deepest = [&b"\x01~".repeat(127)[..], b"\0"].concat();
    overwritten.parse_wire(&deepest, 0).expect("a name");
    let parsed = Query::parse(packet, &mut name);
    let again = Query::parse(packet, &mut overwritten);
    assert_eq!(format!("{parsed:?}"), format!("{again:?}"));
    match again {
        Ok(query) => understood(packet, &query),
        Err(Reject::Drop(_)) => {
            assert!(
                packet.len() < HEADER || packet[2] & 0x80 != 0,
                "only these are dropped"
            );
        }
        Err(Reject::Header(rcode, _)) => {
            let mut out = vec![0xFF; 3];
            reply::header_only(packet, rcode, &mut out);
            assert!(out.len() == HEADER && out.len() <= packet.len());
            assert_eq!(out[..2], packet[..2], "the ID");
            assert_eq!(out[2] & 0x79, packet[2] & 0x79, "opcode and RD");
            assert_eq!(u16::from(out[3] & 0x0F), rcode as u16);
        }
    }
});

fn understood(packet: &[u8], query: &Query<'_>) {
    assert_eq!(query.flags() & (flag::QR | 0x7800), 0);
    assert_eq!(packet[4..8], [0, 1, 0, 0], "one question, no answer");

    let (name, fields) = query.question().split_at(query.name.wire().len());
    assert!(packet[HEADER..].starts_with(query.question()));
    assert_eq!(query.name.wire(), name.to_ascii_lowercase());
    assert_eq!(fields[..2], query.rtype.to_be_bytes());
    assert_eq!(fields[2..], query.class.to_be_bytes());
    well_formed(query.name);

    assert!((512..=1232).contains(&query.udp_limit()));
    assert!(query.wants_ad() || !query.dnssec_ok());

    assert!(
        Query::parse(&packet[..packet.len() - 1], &mut Name::default()).is_err(),
        "every byte counts"
    );
    assert!(
        Query::parse(&[packet, b"\0"].concat(), &mut Name::default()).is_err(),
        "no byte may follow"
    );
}

fn well_formed(name: &Name) {
    assert_eq!(Name::from_text(&name.to_string()).as_ref(), Ok(name));
    let labels: Vec<_> = name.labels_from_root().collect();
    assert_eq!(labels.len(), name.label_count());
    for (depth, label) in labels.iter().enumerate() {
        let ancestor = name.ancestor(depth + 1);
        assert_eq!(usize::from(ancestor[0]), label.len());
        assert_eq!(&ancestor[1..=label.len()], *label);
        assert_eq!(&ancestor[1 + label.len()..], name.ancestor(depth));
    }
}
