//! The limits on TTLs and contents of upstream's answers, and where their chains lead. They may change while threads use them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::serve::routes::{PoolId, Routes};
use crate::wire::answer::{Answer, Intake};

/// An [`Intake`] and routes that are read and changed without a lock.
pub(super) struct Bounds {
    /// The minimum TTL in the low half and the maximum in the high half, so that both change together.
    ttls: AtomicU64,
    max_negative_ttl: AtomicU32,
    additional: AtomicBool,
    /// The number of the pool, and the routes to all pools.
    routes: ArcSwap<(PoolId, Arc<Routes>)>,
}

impl Bounds {
    pub(super) fn new(intake: Intake) -> Self {
        Self {
            ttls: AtomicU64::new(ttls(intake)),
            max_negative_ttl: AtomicU32::new(intake.max_negative_ttl),
            additional: AtomicBool::new(intake.additional),
            routes: ArcSwap::default(),
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

fn ttls(intake: Intake) -> u64 {
    u64::from(intake.max_ttl) << 32 | u64::from(intake.min_ttl)
}
