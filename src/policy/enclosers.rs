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
    pub(super) fn has(&self, zone: u32, name: &Name) -> bool {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::builder::Builder;
    use super::super::decide::Decision;
    use super::super::image::path::Path;
    use super::super::image::provenance::ImageSource;
    use super::super::images::Images;
    use super::super::snapshot::Snapshot;
    use super::super::tests::sources::zone;
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    /// An image of a policy zone with these rules, written as `x` or `*.x`. A `-` in front of a name voids its rules in the
    /// base, and `-*.` those on names below; the delta then amends the zone.
    fn image(rules: &[&str], amends: bool) -> Arc<Image> {
        let mut builder = Builder::new();
        let source = builder.source(ImageSource {
            amendable: true,
            amends,
            ..ImageSource::named("zone")
        });
        let source = source.expect("room");
        for rule in rules {
            let path = |owner: &str| Path::from(&name(owner));
            let added = match (rule.strip_prefix("-*."), rule.strip_prefix('-')) {
                (Some(owner), _) => builder.amend_below(path(owner).as_bytes(), source),
                (None, Some(owner)) => builder.amend(path(owner).as_bytes(), source),
                (None, None) => match rule.strip_prefix("*.") {
                    Some(owner) => builder.insert(&name(owner), source, Scope::Below),
                    None => builder.insert(&name(rule), source, Scope::Exact),
                },
            };
            added.expect("room");
        }
        Arc::new(builder.finish().expect("room"))
    }

    fn snapshot(base: &[&str], delta: Option<&[&str]>) -> Snapshot {
        let images = Images {
            base: Some(image(base, false)),
            delta: delta.map(|rules| image(rules, true)),
            ..Images::default()
        };
        Snapshot::default().with_rules(vec![Arc::new(zone("zone"))], images)
    }

    /// Asserts which of the names are blocked, with the rules of the base and of the delta.
    fn assert_blocked(base: &[&str], delta: &[&str], expected: &[(&str, bool)]) {
        let snapshot = snapshot(base, Some(delta));
        for (asked, expected) in expected {
            let decision = snapshot.decide(&name(asked));
            let is_blocked = matches!(decision, Decision::Blocked { .. });
            assert_eq!(is_blocked, *expected, "{asked}");
        }
    }

    #[test]
    fn a_name_that_an_amendment_adds_ends_a_wildcard_of_the_base() {
        assert_blocked(
            &["*.a"],
            &["-c.b.a", "c.b.a", "-d.a", "d.a"],
            &[
                ("x.a", true),
                ("b.a", false),
                ("x.b.a", false),
                ("c.b.a", true),
                ("x.c.b.a", false),
                ("d.a", true),
                ("x.d.a", false),
            ],
        );
    }

    #[test]
    fn a_wildcard_that_an_amendment_adds_is_ended_by_names_of_the_base() {
        assert_blocked(
            &["c.b.a"],
            &["-a", "*.a"],
            &[
                ("x.a", true),
                ("b.a", false),
                ("x.b.a", false),
                ("c.b.a", true),
                ("x.c.b.a", false),
            ],
        );
    }

    #[test]
    fn a_wildcard_of_the_base_on_the_root_is_ended_by_a_top_level_name_that_an_amendment_adds() {
        assert_blocked(
            &["*.."],
            &["-c.b.a", "c.b.a"],
            &[
                ("x", true),
                ("y.x", true),
                ("a", false),
                ("x.a", false),
                ("x.b.a", false),
                ("c.b.a", true),
            ],
        );
    }

    #[test]
    fn a_removed_name_no_longer_ends_a_wildcard() {
        assert_blocked(
            &["*.a", "b.a"],
            &["-b.a"],
            &[("b.a", true), ("x.b.a", true)],
        );
        // Another name below it is left.
        assert_blocked(
            &["*.a", "b.a", "c.b.a"],
            &["-b.a"],
            &[("b.a", false), ("x.b.a", false), ("c.b.a", true)],
        );
    }

    #[test]
    fn a_name_without_names_below_it_no_longer_ends_a_wildcard_if_the_amendment_marks_it() {
        let base = ["*.a", "c.b.a", "d.b.a", "e.a"];
        let below = [
            ("b.a", true),
            ("x.b.a", true),
            ("c.b.a", true),
            ("x.c.b.a", true),
        ];
        assert_blocked(&base, &["-c.b.a", "-d.b.a", "-*.b.a"], &below);
        let unmarked = [("b.a", false), ("x.b.a", false), ("c.b.a", false)];
        assert_blocked(&base, &["-c.b.a", "-d.b.a"], &unmarked);
        // A name that the amendment adds counts whatever the mark says of the base.
        let added = ["-c.b.a", "-d.b.a", "-*.b.a", "-f.b.a", "f.b.a"];
        let added_below = [("b.a", false), ("x.b.a", false), ("f.b.a", true)];
        assert_blocked(&base, &added, &added_below);
    }

    #[test]
    fn a_chain_of_labels_is_one_edge_unless_it_would_hide_the_end_of_a_wildcard() {
        let nodes = |rules: &[&str]| image(rules, false).facts().nodes;
        assert_eq!(nodes(&["a", "e.d.c.b.a"]), 2);
        // The node b.a ends the wildcard; names below it need no node.
        assert_eq!(nodes(&["*.a", "e.d.c.b.a"]), 3);
        assert_eq!(nodes(&["a", "*.a", "b.a", "*.b.a", "e.d.c.b.a"]), 4);
        assert_eq!(image(&["-e.b.a", "e.b.a"], true).facts().nodes, 3);
    }
}
