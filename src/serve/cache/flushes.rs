//! Which answers a flush makes void.

use super::entry::{Entry, Key};
use crate::wire::name::Name;

/// Seconds for which a flush is remembered: longer than any query is in flight.
pub(super) const REMEMBERED: u32 = 90;
/// The most flushes that are remembered. Each is compared with each entry at its first use after a flush.
pub(super) const MOST: usize = 256;

/// The names of a flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// One name.
    Exact(Name),
    /// A name and all names below it.
    Subtree(Name),
    /// All names.
    All,
}

impl Names {
    pub(super) fn has(&self, name: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.wire() == name,
            Self::Subtree(zone) => is_below(name, zone.wire()),
            Self::All => true,
        }
    }
}

/// Whether a name in lower case is a zone or below it.
fn is_below(name: &[u8], zone: &[u8]) -> bool {
    let mut at = 0;
    while name.len() - at > zone.len() {
        at += 1 + usize::from(name[at]);
        if at >= name.len() {
            return false;
        }
    }
    &name[at..] == zone
}

/// Too many flushes within a short time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MOST} flushes within {REMEMBERED} s are too many: flush a zone or everything, or try again later"
)]
pub struct TooManyFlushes;

/// A flush: all answers to queries of an earlier number are void, if one of these names occurs in them.
#[derive(Clone, Debug)]
pub(super) struct Flush {
    pub(super) names: Names,
    pub(super) rtype: Option<u16>,
    pub(super) before: u64,
    /// When it was, in seconds of the server's clock.
    pub(super) second: u32,
}

impl Flush {
    /// Whether an answer is void.
    pub(super) fn covers(&self, entry: &Entry) -> bool {
        let (name, rtype) = entry.answer.question();
        let is_of_type = self.rtype.is_none_or(|only| only == rtype);
        is_of_type && entry.number < self.before && self.occurs(name, entry)
    }

    fn occurs(&self, name: &[u8], entry: &Entry) -> bool {
        let mut chain = entry.answer.chain();
        self.names.has(name) || chain.any(|(name, _)| self.names.has(name.wire()))
    }

    /// Whether a query with this key is for one of its names.
    pub(super) fn has_key(&self, key: &Key) -> bool {
        self.rtype.is_none_or(|only| only == key.rtype) && self.names.has(&key.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_its_names_and_no_others() {
        let wire = |text: &str| Name::from_text(text).expect("a name").wire().to_vec();
        let zone = wire("corp.example");
        for (name, expected) in [
            ("corp.example", true),
            ("a.b.corp.example", true),
            ("notcorp.example", false),
            ("example", false),
            ("corp.example.org", false),
        ] {
            assert_eq!(is_below(&wire(name), &zone), expected, "{name}");
        }
        assert!(is_below(&zone, &[0]), "the root");
    }
}
