//! What policy zones say about the rules on names above: flags of a value in a view.

use smallvec::SmallVec;

use super::rule::Scope;

/// The zones that have rules on a name or below it, and whether these rules match the name and the names below.
#[derive(Default)]
pub(super) struct ZonesAt(SmallVec<[ZoneAt; 4]>);

/// Some policy zone has rules on the name of a value or below it.
pub(super) const IN_ZONE: u32 = 1 << 29;
/// The name of a value is in some policy zone without a rule that matches it. So wildcards of this zone on names above do
/// not match it, either.
pub(super) const HIDES_AT: u32 = 1 << 28;
/// The name of a value is in some policy zone without a rule that matches the names below it. So wildcards of this zone
/// on names above do not match these, either.
pub(super) const HIDES_BELOW: u32 = 1 << 27;
/// Wildcards on names above may not match the name of a value, or those below it.
pub(super) const HIDES: u32 = HIDES_AT | HIDES_BELOW;

struct ZoneAt {
    zone: u32,
    matches_name: bool,
    matches_below: bool,
}

impl ZonesAt {
    /// Adds a rule on the name.
    pub(super) fn add_rule(&mut self, zone: u32, scope: Scope) {
        let at = self.zone(zone);
        at.matches_name |= scope != Scope::Below;
        at.matches_below |= scope != Scope::Exact;
    }

    /// Adds a zone that has rules below the name.
    pub(super) fn add_below(&mut self, zone: u32) {
        self.zone(zone);
    }

    fn zone(&mut self, zone: u32) -> &mut ZoneAt {
        let place = self.0.iter().position(|at| at.zone == zone);
        let place = place.unwrap_or_else(|| {
            self.0.push(ZoneAt {
                zone,
                matches_name: false,
                matches_below: false,
            });
            self.0.len() - 1
        });
        &mut self.0[place]
    }

    /// [`IN_ZONE`], [`HIDES_AT`] and [`HIDES_BELOW`].
    pub(super) fn flags(&self) -> u32 {
        let flag = |bit, is_set: bool| if is_set { bit } else { 0 };
        let flags = self.0.iter().map(|at| {
            IN_ZONE | flag(HIDES_AT, !at.matches_name) | flag(HIDES_BELOW, !at.matches_below)
        });
        flags.fold(0, |all, flags| all | flags)
    }
}
