//! Closest enclosers in policy zones: a wildcard matches only the names below it that have no closer ancestor in its zone
//! (RFC 4592, section 3.3.1).

use super::image::Image;
use super::image::values::Value;
use super::image::walk::Position;
use super::ranking::NO_RANK;
use super::ranks::Ranks;
use super::rule::Scope;
use crate::wire::name::Name;

/// An image with the ranks that its rules have in a view.
type RankedImage<'r> = (&'r Image, Ranks<'r>);

/// The names of policy zones in the base and the delta: those with rules, and those above them.
#[derive(Clone, Copy)]
pub(super) struct ZoneNames<'r> {
    pub(super) base: Option<RankedImage<'r>>,
    pub(super) delta: Option<RankedImage<'r>>,
}

impl ZoneNames<'_> {
    /// Whether a rule on the ancestor of `name` with this number of labels does not match it, because the next longer
    /// ancestor, or `name` itself, is a name of the zone, too. `zone` is the index of the source in the snapshot.
    pub(super) fn hides(&self, zone: u32, name: &Name, labels: usize) -> bool {
        let next = Name::parse(name.ancestor(labels + 1), 0);
        next.is_ok_and(|(next, _)| self.has(zone, &next))
    }

    /// Whether a zone has rules on this name or below it. The delta says which of those in the base are left.
    fn has(&self, zone: u32, name: &Name) -> bool {
        let (mut is_voided, mut is_emptied) = (false, false);
        let in_delta = any(self.delta, name, |position, value, ranks| {
            let mut found = position != Position::Above && has_below(value, ranks, zone);
            for rule in value.rules() {
                let clause = ranks.clause(rule.clause);
                if clause.rank == NO_RANK || clause.source != zone {
                    continue;
                }
                match (clause.is_void, rule.scope) {
                    (true, Scope::Below) => is_emptied |= position != Position::Below,
                    (true, _) => is_voided |= position == Position::At,
                    (false, _) => found |= position != Position::Above,
                }
            }
            found
        });
        in_delta
            || any(self.base, name, |position, value, ranks| {
                let has_rules = || has_rules(value, ranks, zone);
                match position {
                    Position::Above => false,
                    Position::At => {
                        !is_voided && has_rules() || !is_emptied && has_below(value, ranks, zone)
                    }
                    Position::Below => {
                        !is_emptied && (has_rules() || has_below(value, ranks, zone))
                    }
                }
            })
    }
}

/// Walks to a name. Returns whether `is` is true of some value on the way, all of which it is called with.
fn any(
    image: Option<RankedImage<'_>>,
    name: &Name,
    mut is: impl FnMut(Position, Value<'_>, &Ranks<'_>) -> bool,
) -> bool {
    let mut found = false;
    if let Some((image, ranks)) = image {
        image.walk(&[name], |_, position, _, value| {
            found |= is(position, image.value(value), &ranks);
        });
    }
    found
}

/// Whether a zone has rules on the name of a value.
fn has_rules(value: Value<'_>, ranks: &Ranks<'_>, zone: u32) -> bool {
    let mut clauses = value.rules().map(|rule| ranks.clause(rule.clause));
    clauses.any(|clause| clause.rank != NO_RANK && clause.source == zone)
}

/// Whether a zone has rules below the name of a value.
fn has_below(value: Value<'_>, ranks: &Ranks<'_>, zone: u32) -> bool {
    let mut below = value.sources_below();
    below.any(|below| {
        ranks
            .zone_below(below)
            .is_some_and(|(found, _)| found == zone)
    })
}
