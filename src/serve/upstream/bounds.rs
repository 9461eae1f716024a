//! The limits on TTLs and contents of upstream's answers, where their chains lead, and which of them count. They may change
//! while threads use them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};

use crate::config::selection::{OnUpstreamBlock, Selection};
use crate::serve::routes::{PoolId, Routes};
use crate::wire::Rcode;
use crate::wire::answer::{Answer, Intake};

/// An [`Intake`] and routes that are read and changed without a lock.
pub(super) struct Bounds {
    /// The minimum TTL in the low half and the maximum in the high half, so that both change together.
    ttls: AtomicU64,
    max_negative_ttl: AtomicU32,
    additional: AtomicBool,
    /// The number of the pool, and the routes to all pools.
    routes: ArcSwap<(PoolId, Arc<Routes>)>,
    selection: ArcSwap<Selection>,
}

impl Bounds {
    pub(super) fn new(intake: Intake) -> Self {
        Self {
            ttls: AtomicU64::new(ttls(intake)),
            max_negative_ttl: AtomicU32::new(intake.max_negative_ttl),
            additional: AtomicBool::new(intake.additional),
            routes: ArcSwap::default(),
            selection: ArcSwap::default(),
        }
    }

    pub(super) fn get(&self) -> Intake {
        let ttls = self.ttls.load(Ordering::Relaxed);
        Intake {
            min_ttl: ttls as u32,
            max_ttl: (ttls >> 32) as u32,
            max_negative_ttl: self.max_negative_ttl.load(Ordering::Relaxed),
            additional: self.additional.load(Ordering::Relaxed),
        }
    }

    pub(super) fn set(&self, intake: Intake) {
        self.ttls.store(ttls(intake), Ordering::Relaxed);
        self.max_negative_ttl
            .store(intake.max_negative_ttl, Ordering::Relaxed);
        self.additional.store(intake.additional, Ordering::Relaxed);
    }

    pub(super) fn set_routes(&self, pool: PoolId, routes: &Arc<Routes>) {
        self.routes.store(Arc::new((pool, Arc::clone(routes))));
    }

    pub(super) fn selection(&self) -> Guard<Arc<Selection>> {
        self.selection.load()
    }

    pub(super) fn set_selection(&self, selection: Selection) {
        self.selection.store(Arc::new(selection));
    }

    /// Whether upstream servers lead clients to this address instead of to a blocked name.
    pub(super) fn is_landing(&self, address: IpAddr) -> bool {
        let selection = self.selection();
        let mut landing = selection.landing_addresses.iter();
        landing.any(|network| network.contains(&address))
    }

    /// Whether an answer is used without asking another server.
    pub(super) fn accepts(&self, answer: &Answer) -> bool {
        let is_block = answer.upstream_block().is_some();
        is_usable(answer)
            && !(is_block && self.selection().on_upstream_block == OnUpstreamBlock::Next)
    }

    /// Whether an answer of the pool is a referral and no other pool is asked for the name that it refers about.
    pub(super) fn is_dead_end(&self, answer: &Answer) -> bool {
        if !answer.is_referral() {
            return false;
        }
        let (_, rtype) = answer.question();
        let (pool, routes) = &**self.routes.load();
        routes.handoff(*pool, answer, rtype).is_none()
    }
}

/// Whether an answer's response code makes it usable.
pub(super) fn is_usable(answer: &Answer) -> bool {
    const NOERROR: u16 = Rcode::NoError as u16;
    const NXDOMAIN: u16 = Rcode::NxDomain as u16;
    matches!(answer.rcode(), NOERROR | NXDOMAIN)
}

fn ttls(intake: Intake) -> u64 {
    u64::from(intake.max_ttl) << 32 | u64::from(intake.min_ttl)
}
