//! The routes of queries: which pool of upstream servers is asked for a name. The pools have numbers, by which the cache
//! records whose answers it holds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::quality::RandomState;

use crate::wire::answer::Answer;
use crate::wire::name::Name;
use crate::wire::rtype;

/// Identifies a pool of upstream servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PoolId(u32);

impl PoolId {
    /// The pool that is asked for names in no forwarded zone.
    pub const DEFAULT: Self = Self(0);

    /// A number that no other pool of this process has or had.
    pub fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The forwarded zones, each with its pool.
#[derive(Debug, Default, PartialEq)]
pub struct Routes {
    pools: HashMap<Box<[u8]>, PoolId, RandomState>,
    /// The bytes of the longest name of a zone.
    longest: usize,
}

impl Routes {
    /// These zones, which all have different names.
    pub fn new<'z>(zones: impl IntoIterator<Item = (&'z Name, PoolId)>) -> Self {
        let zones = zones.into_iter();
        let pools: HashMap<Box<[u8]>, _, _> = zones
            .map(|(zone, pool)| (zone.wire().into(), pool))
            .collect();
        Self {
            longest: pools.keys().map(|zone| zone.len()).max().unwrap_or(0),
            pools,
        }
    }

    /// The pool of the innermost zone with a name in lower case and wire form. The DS records of a zone are its parent's
    /// (RFC 4035, section 3.1.4.1).
    pub fn of(&self, name: &[u8], rtype: u16) -> PoolId {
        if self.pools.is_empty() {
            return PoolId::DEFAULT;
        }
        let mut at = 0;
        while let Some(label @ 1..) = name.get(at).copied() {
            let zone = &name[at..];
            let is_of_parent = at == 0 && rtype == rtype::DS;
            if zone.len() <= self.longest
                && !is_of_parent
                && let Some(pool) = self.pools.get(zone)
            {
                return *pool;
            }
            at += 1 + usize::from(label);
        }
        PoolId::DEFAULT
    }

    /// The number of hops of an answer's chain after which another pool than `pool`, whose servers sent it, must be asked;
    /// `None` if the answer is used as it is.
    ///
    /// Only the servers of a forwarded zone are asked about its names, so what others say about them does not count. And the
    /// servers of a forwarded zone may know no names but those of their zones.
    pub(super) fn handoff(&self, pool: PoolId, answer: &Answer, rtype: u16) -> Option<u8> {
        if self.pools.is_empty() {
            return None;
        }
        let mut hops = 0;
        let mut last = pool;
        for (name, _) in answer.chain() {
            hops += 1;
            last = self.of(name.wire(), rtype);
            if last != pool && last != PoolId::DEFAULT {
                return Some(hops);
            }
        }
        (answer.is_unfinished() && last != pool).then_some(hops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    #[test]
    fn the_innermost_zone_has_a_name_and_its_parent_has_its_ds_record() {
        let [corp, lab] = [PoolId::unique(), PoolId::unique()];
        let zones = [
            (&name("corp.example"), corp),
            (&name("lab.corp.example"), lab),
        ];
        let routes = Routes::new(zones);
        for (asked, rtype, pool) in [
            ("example", rtype::A, PoolId::DEFAULT),
            ("notcorp.example", rtype::A, PoolId::DEFAULT),
            ("corp.example", rtype::A, corp),
            ("corp.example", rtype::DS, PoolId::DEFAULT),
            ("a.corp.example", rtype::DS, corp),
            ("lab.corp.example", rtype::DS, corp),
            ("a.b.lab.corp.example", rtype::A, lab),
        ] {
            assert_eq!(
                routes.of(name(asked).wire(), rtype),
                pool,
                "{asked} {rtype}"
            );
        }
        assert_eq!(Routes::default().of(&[0], rtype::A), PoolId::DEFAULT);
    }
}
