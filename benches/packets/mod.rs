//! The packets of the benchmarks: a query, and upstream's answer.

use std::sync::Arc;

use tapis::serve::cache::Entry;
use tapis::wire::answer::{Answer, Intake};
use tapis::wire::name::Name;
use tapis::wire::query::Query;

const BOUNDS: Intake = Intake {
    min_ttl: 0,
    max_ttl: 86_400,
    max_negative_ttl: u32::MAX,
    additional: false,
};

/// A query for an address, with EDNS.
pub(crate) fn query(name: &Name) -> Vec<u8> {
    let mut bytes = b"\xBE\xEF\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01".to_vec();
    bytes.extend_from_slice(name.wire());
    bytes.extend_from_slice(b"\x00\x01\x00\x01\x00\x00\x29\x04\xD0\x00\x00\x00\x00\x00\x00");
    bytes
}

/// An answer with two addresses, received at second 0.
pub(crate) fn entry(query: &Query<'_>) -> Arc<Entry> {
    let mut bytes = b"\xBE\xEF\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00".to_vec();
    bytes.extend_from_slice(query.question());
    for last in [7, 8] {
        bytes.extend_from_slice(b"\xC0\x0C\x00\x01\x00\x01\x00\x00\x0E\x10\x00\x04\xC0\x00\x02");
        bytes.push(last);
    }
    let answer = Answer::parse(&bytes, query.name, 1, 1, BOUNDS).expect("an answer");
    Arc::new(Entry::new(answer, 0))
}
