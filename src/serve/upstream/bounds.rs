//! The limits on TTLs and contents of upstream's answers. They may change while threads use them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::wire::answer::Intake;

/// An [`Intake`] that is read and changed without a lock.
pub(super) struct Bounds {
    /// The minimum TTL in the low half and the maximum in the high half, so that both change together.
    ttls: AtomicU64,
    max_negative_ttl: AtomicU32,
    additional: AtomicBool,
}

impl Bounds {
    pub(super) fn new(intake: Intake) -> Self {
        Self {
            ttls: AtomicU64::new(ttls(intake)),
            max_negative_ttl: AtomicU32::new(intake.max_negative_ttl),
            additional: AtomicBool::new(intake.additional),
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
}

fn ttls(intake: Intake) -> u64 {
    u64::from(intake.max_ttl) << 32 | u64::from(intake.min_ttl)
}
