//! Deltas that amend policy zones and replace other lists, while bases are compiled and merged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::amendments::{compare_amendment, merged};
use super::compare::{compare, compare_rules};
use super::lists::{
    EFFECTS, LISTS, ListState, State, TRIGGERS, ZONE_EFFECTS, is_below, owner, rules, universe,
    whole,
};
use super::overlap::compare_overlaps;
use super::snapshots::orders;
use crate::policy::builder::Builder;
use crate::policy::image::Image;
use crate::policy::image::path::Path;
use crate::policy::images::Images;

/// What the delta has of a list.
#[derive(Clone, Debug)]
enum InDelta {
    All,
    /// The rules on these names.
    Names(BTreeSet<usize>),
}

/// A delta with the lists that it has, of whose names the amended ones are voided. `old` are the rules in the base.
fn delta(state: &State, old: &State, lists: &BTreeMap<usize, InDelta>) -> Image {
    let mut builder = Builder::new();
    let names = universe();
    for (&list, part) in lists {
        let mut source = state[list].source(list);
        source.amends = matches!(part, InDelta::Names(_));
        let source = builder.source(source).expect("room");
        if let InDelta::Names(changed) = part {
            for name in changed {
                let path = Path::from(&names[*name]);
                builder.amend(path.as_bytes(), source).expect("room");
            }
            for name in emptied(&old[list], changed) {
                let path = Path::from(&names[name]);
                builder.amend_below(path.as_bytes(), source).expect("room");
            }
        }
        state[list].add_names(&mut builder, source, |name| match part {
            InDelta::All => true,
            InDelta::Names(changed) => changed.contains(&name),
        });
        state[list].add_triggers(&mut builder, source);
    }
    builder.finish().expect("room")
}

/// The names below which a list has rules, of which all are on names that `changed`. Those below such a name are left out.
fn emptied(list: &ListState, changed: &BTreeSet<usize>) -> Vec<usize> {
    let names = universe();
    let mut emptied: Vec<usize> = Vec::new();
    for at in 0..names.len() {
        let owners = list.names.keys().map(|(owner, _)| *owner);
        let mut below = owners
            .filter(|owner| is_below(&names[*owner], &names[at]))
            .peekable();
        let has_some = below.peek().is_some();
        let is_above = |above: &usize| is_below(&names[at], &names[*above]);
        if has_some && below.all(|owner| changed.contains(&owner)) && !emptied.iter().any(is_above)
        {
            emptied.push(at);
        }
    }
    emptied
}

/// The same image, copied rule by rule.
fn copied(image: &Image) -> Image {
    let mut builder = Builder::new();
    for source in &image.provenance().sources {
        builder.source(source.clone()).expect("room");
    }
    builder.add_image(image, Some).expect("room");
    builder.finish().expect("room")
}

/// A change of some lists.
#[derive(Clone, Debug)]
struct Step {
    /// Rules that amendable lists add (with their effects) and remove: list, name, scope.
    names: Vec<((usize, usize, usize), Option<usize>)>,
    /// Rules with other triggers: list, trigger.
    triggers: Vec<((usize, usize), Option<usize>)>,
    /// The new rules of a list that is not amendable.
    replaced: Option<(usize, ListState)>,
    /// Whether all is merged into a new base afterwards, and if not, whether a base with the old rules of amended lists and
    /// the new ones of the others is compiled.
    is_merged: bool,
    is_compiled: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let is_set = prop::bool::weighted(0.2);
    (
        prop::collection::vec(
            (
                (1..3_usize, owner(), 0..3_usize),
                prop::option::of(0..ZONE_EFFECTS),
            ),
            0..12,
        ),
        prop::collection::vec(
            ((1..3_usize, 0..TRIGGERS), prop::option::of(0..ZONE_EFFECTS)),
            0..2,
        ),
        prop::option::of((prop::sample::select(vec![0, 3_usize]), rules(EFFECTS, 8))),
        is_set,
        is_set,
    )
        .prop_map(|(names, triggers, replaced, is_merged, is_compiled)| Step {
            names,
            triggers,
            replaced,
            is_merged,
            is_compiled,
        })
}

proptest! {
    // Each case makes many snapshots.
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_base_and_its_amendments_decide_as_one_image_of_the_rules_that_are_left(
        start in [
            rules(EFFECTS, 6),
            rules(ZONE_EFFECTS, 30),
            rules(ZONE_EFFECTS, 12),
            rules(EFFECTS, 12),
        ],
        steps in prop::collection::vec(step(), 1..5),
        others in prop::collection::vec((0..3_usize, owner()), 0..3),
    ) {
        let (orders, others) = orders(&others);
        let with = |base, delta| Images {
            base: Some(base),
            delta,
            orders: Some(Arc::clone(&orders)),
            ..Images::default()
        };
        let mut state: State = start;
        let (mut old, mut base) = (state.clone(), whole(&state));
        let mut lists: BTreeMap<usize, InDelta> = BTreeMap::new();
        // The images before each step. At first, there is no delta.
        let mut before = with(Arc::clone(&base), None);
        for step in steps {
            let changed = step.names.iter().map(|((list, name, _), _)| (*list, Some(*name)));
            let changed = changed.chain(step.triggers.iter().map(|((list, _), _)| (*list, None)));
            let changed: Vec<_> = changed.collect();
            for &(list, name) in &changed {
                let part = lists.entry(list).or_insert(InDelta::Names(BTreeSet::new()));
                if let InDelta::Names(names) = part {
                    names.extend(name);
                }
            }
            for ((list, name, scope), effect) in step.names {
                match effect {
                    Some(effect) => state[list].names.insert((name, scope), effect),
                    None => state[list].names.remove(&(name, scope)),
                };
            }
            for ((list, trigger), effect) in step.triggers {
                match effect {
                    Some(effect) => state[list].triggers.insert(trigger, effect),
                    None => state[list].triggers.remove(&trigger),
                };
            }
            for list in [1, 2] {
                let names = changed.iter().filter(|change| change.0 == list);
                compare_amendment(&before, &state, list, names.filter_map(|change| change.1));
            }
            if let Some((list, rules)) = step.replaced {
                lists.insert(list, InDelta::All);
                state[list] = rules;
            }
            if step.is_compiled {
                for (list, (.., amendable)) in LISTS.iter().enumerate() {
                    if !amendable {
                        old[list] = state[list].clone();
                        lists.remove(&list);
                    }
                }
                base = whole(&old);
            }
            let delta = Arc::new(copied(&delta(&state, &old, &lists)));
            let amended = with(Arc::clone(&base), Some(delta));
            let whole = with(whole(&state), None);
            compare(&amended, &whole, &others);
            compare_rules(&amended, &whole);
            compare_overlaps(&amended, &whole);
            before = amended;
            if step.is_merged {
                base = merged(&before);
                before = with(Arc::clone(&base), None);
                compare(&before, &whole, &others);
                (old, lists) = (state.clone(), BTreeMap::new());
            }
        }
    }
}
