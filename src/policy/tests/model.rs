//! Lookups and explanations are compared with a simple model of the precedence of rules.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::lists::{EFFECTS, LISTS, SCOPES, State, ZONE_EFFECTS, effect, rules, universe, whole};
use super::snapshots::{VIEWS, snapshot};
use crate::policy::decide::Matched;
use crate::policy::effect::Effect;
use crate::policy::rule::Scope;
use crate::policy::view::ViewId;
use crate::wire::name::Name;

/// The list, the effect and the number of labels of a rule on a name, if it is in a policy zone. In other lists, another rule with
/// the same effect may stand for it.
type Ruled = (usize, Effect, Option<usize>);

/// The rules on names that match a name, by their precedence in a view, and whether they are logged only.
fn model(state: &State, view: &[(usize, bool)], name: &Name) -> Vec<(Ruled, bool)> {
    let (names, depth) = (universe(), name.label_count());
    let mut matching = Vec::new();
    for (place, (list, logs)) in view.iter().enumerate() {
        let rules = &state[*list].names;
        let owners = rules.keys().map(|(owner, _)| &names[*owner]);
        let is_on = |owner: &Name, labels| {
            owner.label_count() >= labels && owner.ancestor(labels) == name.ancestor(labels)
        };
        // The closest encloser, if the list is a policy zone.
        let encloser = (0..=depth)
            .rev()
            .filter(|_| LISTS[*list].2)
            .find(|labels| owners.clone().any(|owner| is_on(owner, *labels)));
        for (&(owner, scope), &number) in rules {
            let labels = names[owner].label_count();
            let matches = match SCOPES[scope] {
                Scope::Exact => labels == depth,
                Scope::Below => labels < depth,
                Scope::Subtree => labels <= depth,
            };
            let is_above = labels <= depth && is_on(&names[owner], labels);
            if matches && is_above && encloser.is_none_or(|encloser| labels >= encloser) {
                let effect = effect(number);
                let key = (place, Reverse(effect.tier), Reverse(labels), scope);
                let labels = LISTS[*list].2.then_some(labels);
                matching.push((key, ((*list, effect, labels), *logs)));
            }
        }
    }
    matching.sort();
    matching.into_iter().map(|(_, rule)| rule).collect()
}

/// Compares lookups and explanations with the model.
fn compare_with_model(state: &State) {
    let mut state = state.clone();
    for list in &mut state {
        list.triggers.clear();
    }
    let snapshot = snapshot(whole(&state).into(), &[]);
    let names = universe();
    for (number, lists) in (0..).zip(VIEWS) {
        let view = snapshot.view(ViewId(number));
        for name in &names {
            let ruled = |matched: Matched<'_>| {
                let list = LISTS.iter().position(|list| list.0 == matched.source.name);
                let list = list.expect("a list");
                let labels = matched.hit.labels().filter(|_| LISTS[list].2);
                (list, matched.effect().cloned().unwrap_or_default(), labels)
            };
            let model = model(&state, lists, name);
            let best = |is_logged: bool| {
                let mut rules = model.iter().enumerate();
                rules.find(|(_, (_, logs))| *logs == is_logged)
            };
            let (best, logged) = (best(false), best(true));
            let precedes = |place: usize| best.is_none_or(|(best, _)| place < best);
            let logged = logged.filter(|(place, _)| precedes(*place));
            let expected = [best, logged].map(|rule| rule.map(|(_, (ruled, _))| ruled.clone()));
            let found = view.lookup(name);
            let found = [found.best(), found.logged()];
            let found = found.map(|hit| hit.map(|hit| ruled(view.matched(hit))));
            assert_eq!(found, expected, "{name} in view {number}");
            let is_zone = |rule: &Ruled| LISTS[rule.0].2;
            let model = model.iter().map(|(ruled, _)| ruled.clone());
            let model: BTreeSet<_> = model.filter(is_zone).collect();
            let places = view.explain(name, &[], &[]);
            let explained = places[0].rules.iter().map(|(matched, _)| ruled(*matched));
            let explained: BTreeSet<_> = explained.filter(is_zone).collect();
            assert_eq!(explained, model, "{name} in view {number}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn wildcards_of_policy_zones_match_only_below_their_closest_encloser(
        state in [
            rules(EFFECTS, 4),
            rules(ZONE_EFFECTS, 8),
            rules(ZONE_EFFECTS, 8),
            rules(EFFECTS, 8),
        ],
    ) {
        compare_with_model(&state);
    }
}
