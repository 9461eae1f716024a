//! The comparison of lists: a simple model, the same rules in one image and in two, and single cases.

use proptest::prelude::*;

use super::lists::{EFFECTS, State, ZONE_EFFECTS, rules, whole};
use super::snapshots::snapshot;
use super::sources::source;
use crate::policy::builder::Builder;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::image::path::Path;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::policy::overlap::{ListOverlap, overlaps};
use crate::policy::rule::{Action, Kind, Scope};
use crate::policy::snapshot::Snapshot;
use crate::wire::name::Name;

fn compared(snapshot: &Snapshot) -> Vec<ListOverlap> {
    let compared = overlaps(snapshot, || true).expect("not damaged");
    compared.expect("not ended")
}

/// Compares the lists in a base and a delta with the same rules in one image.
pub(super) fn compare_overlaps(amended: &Images, whole: &Images) {
    let [amended, whole] = [amended, whole].map(|images| compared(&snapshot(images.clone(), &[])));
    assert_eq!(amended, whole);
}

/// A rule: list, name, scope, whether it allows.
type Rule = (String, Name, Scope, bool);

/// Whether a name is the other one or below it.
fn is_in(name: &Name, other: &Name) -> bool {
    let labels = other.label_count();
    name.label_count() >= labels && name.ancestor(labels) == other.wire()
}

/// Whether rules cover the name, or those below it.
fn covers(rule: &Rule, name: &Name, is_below: bool) -> bool {
    let (_, owner, scope, _) = rule;
    match (owner == name, *scope) {
        (_, Scope::Subtree) => true,
        (true, Scope::Exact) => !is_below,
        (true, Scope::Below) => is_below,
        (false, Scope::Exact) => false,
        (false, Scope::Below) => true,
    }
}

fn compare_with_model(state: &State) {
    let images = Images::from(whole(state));
    let mut all: Vec<Rule> = Vec::new();
    let mut cursor = images.rule_cursor(|_| true);
    while cursor.advance() {
        let name = Path::of(cursor.path()).to_name();
        all.extend(cursor.rules().iter().map(|rule| {
            let allows = rule.effect.action == EffectAction::Allow;
            (rule.list.to_owned(), name.clone(), rule.scope, allows)
        }));
    }
    let blocks = |rule: &Rule| rule.0 != "ok" && !rule.3;
    for found in compared(&snapshot(images.clone(), &[])) {
        let own: Vec<_> = all.iter().filter(|rule| rule.0 == found.list).collect();
        let others: Vec<_> = all.iter().filter(|rule| rule.0 != found.list).collect();
        let is_shared = |own: &&&Rule| {
            others
                .iter()
                .any(|other| (&other.1, other.2) == (&own.1, own.2))
        };
        let is_covered = |own: &Rule, is_below: bool| {
            let mut above = others
                .iter()
                .filter(|other| is_in(&own.1, &other.1) && blocks(other));
            above.any(|other| covers(other, &own.1, is_below))
        };
        let is_alone = |own: &&&Rule| {
            let [at, below] = [own.2 != Scope::Below, own.2 != Scope::Exact];
            blocks(own) && ((at && !is_covered(own, false)) || (below && !is_covered(own, true)))
        };
        let alone = own.iter().filter(is_alone).count() as u64;
        assert_eq!(found.compared, own.len() as u64, "{}", found.list);
        assert_eq!(
            found.shared,
            own.iter().filter(is_shared).count() as u64,
            "{}",
            found.list
        );
        assert_eq!(
            found.alone,
            (found.list != "ok").then_some(alone),
            "{}",
            found.list
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_comparison_agrees_with_a_simple_model(
        state in [
            rules(EFFECTS, 6),
            rules(ZONE_EFFECTS, 12),
            rules(ZONE_EFFECTS, 12),
            rules(EFFECTS, 12),
        ],
    ) {
        compare_with_model(&state);
    }
}

/// A list with rules, each with an effect.
type ListRules<'r> = (&'r str, Kind, &'r [(&'r str, Scope, Effect)]);

fn lists(lists: &[ListRules<'_>], paused: &str) -> Vec<ListOverlap> {
    let mut builder = Builder::new();
    let mut sources = Vec::new();
    for (name, kind, rules) in lists {
        let number = builder.source(ImageSource::named(name)).expect("room");
        for (owner, scope, effect) in *rules {
            let owner = Name::from_text(owner).expect("a name");
            let added = builder.insert_effect(&owner, number, *scope, effect);
            added.expect("room");
        }
        let mut source = source(name, *kind, Action::Nxdomain);
        source.paused = *name == paused;
        sources.push(source.into());
    }
    let images = Images::from(std::sync::Arc::new(builder.finish().expect("room")));
    compared(&Snapshot::default().with_rules(sources, images))
}

#[test]
fn two_rules_of_other_lists_cover_a_subtree_together_and_a_paused_list_covers_nothing() {
    let rule = |name, scope| (name, scope, Effect::default());
    let (all, one, below) = (
        [rule("x.example", Scope::Subtree)],
        [rule("x.example", Scope::Exact)],
        [rule("example", Scope::Below)],
    );
    let all_lists = [
        ("all", Kind::Block, &all[..]),
        ("one", Kind::Block, &one[..]),
        ("below", Kind::Block, &below[..]),
    ];
    let alone = |of: &[ListOverlap]| of.iter().map(|list| list.alone).collect::<Vec<_>>();
    assert_eq!(alone(&lists(&all_lists, "")), [Some(0), Some(0), Some(1)]);
    assert_eq!(
        alone(&lists(&all_lists, "below")),
        [Some(1), Some(0), Some(1)]
    );
    assert_eq!(alone(&lists(&all_lists[..2], "")), [Some(1), Some(0)]);
}

#[test]
fn allow_lists_and_rules_that_allow_cover_nothing_and_are_alone_in_nothing() {
    let allow = Effect {
        action: EffectAction::Allow,
        ..Effect::default()
    };
    let block = [("x.example", Scope::Subtree, Effect::default())];
    let found = lists(
        &[
            ("ok", Kind::Allow, &block),
            ("ads", Kind::Block, &block),
            ("more", Kind::Block, &[("x.example", Scope::Subtree, allow)]),
        ],
        "",
    );
    let alone: Vec<_> = found.iter().map(|list| list.alone).collect();
    assert_eq!(alone, [None, Some(1), Some(0)]);
    assert!(
        found
            .iter()
            .all(|list| (list.shared, list.compared) == (1, 1))
    );
}

#[test]
fn a_comparison_that_is_not_to_go_on_ends_after_the_first_batch() {
    let names: Vec<_> = (0..100)
        .map(|number| format!("n{number}.example"))
        .collect();
    let rules: Vec<_> = names
        .iter()
        .map(|name| (&**name, Scope::Exact, Effect::default()))
        .collect();
    let mut builder = Builder::new();
    let number = builder.source(ImageSource::named("ads")).expect("room");
    for (name, scope, _) in &rules {
        let name = Name::from_text(name).expect("a name");
        builder.insert(&name, number, *scope).expect("room");
    }
    let images = Images::from(std::sync::Arc::new(builder.finish().expect("room")));
    let sources = vec![source("ads", Kind::Block, Action::Nxdomain).into()];
    let snapshot = Snapshot::default().with_rules(sources, images);
    let asked = std::cell::Cell::new(0);
    let goes_on = || {
        asked.set(asked.get() + 1);
        false
    };
    assert_eq!(overlaps(&snapshot, goes_on).expect("not damaged"), None);
    assert_eq!(asked.get(), 1);
}
