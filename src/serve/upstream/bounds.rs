//! The limits on TTLs and contents of upstream's answers. They may change while threads use them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::wire::answer::Intake;
use crate::wire::name::Name;

/// An [`Intake`] that is read and changed without a lock.
pub(super) struct Bounds {
    /// The minimum TTL in the low half and the maximum in the high half, so that both change together.
    ttls: AtomicU64,
    max_negative_ttl: AtomicU32,
    additional: AtomicBool,
    /// The zones of the servers; none if they resolve all names.
    zones: Box<[Name]>,
}

impl Bounds {
    pub(super) fn new(intake: Intake) -> Self {
        Self {
            ttls: AtomicU64::new(ttls(intake)),
            max_negative_ttl: AtomicU32::new(intake.max_negative_ttl),
            additional: AtomicBool::new(intake.additional),
            zones: Box::default(),
        }
    }

    /// Sets the zones of servers that may know no other names.
    pub(super) fn set_zones(&mut self, zones: &[Name]) {
        self.zones = zones.into();
    }

    /// Whether a name is in none of the zones, so that other servers are asked for it.
    pub(super) fn is_of_others(&self, name: &Name) -> bool {
        let is_within = |zone: &Name| {
            let labels = zone.label_count();
            labels <= name.label_count() && name.ancestor(labels) == zone.wire()
        };
        !self.zones.is_empty() && !self.zones.iter().any(is_within)
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
