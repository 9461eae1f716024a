//! Amendments of a policy zone, one after the other, also while a base without them is compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::compare::{compare, compare_rules};
use super::lists::{
    EFFECTS, LISTS, ListState, SCOPES, State, ZONE_EFFECTS, effect, owner, rules, universe, whole,
};
use super::marks::in_delta;
use crate::policy::amendment::{Amendment, rebased};
use crate::policy::builder::Builder;
use crate::policy::image::Image;
use crate::policy::image::path::Path;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::policy::prefix::{AddressOf, Prefix};

/// One image of the rules that a cursor over base and delta reads.
pub(super) fn merged(images: &Images) -> Arc<Image> {
    let mut builder = Builder::new();
    let mut numbers = BTreeMap::new();
    for (list, (name, ..)) in LISTS.iter().enumerate() {
        let (image, source) = images.find(name).expect("in force");
        let source = ImageSource {
            amends: false,
            ..source.clone()
        };
        let number = builder.source(source).expect("room");
        assert_eq!(usize::from(number), list);
        numbers.insert(*name, number);
        let sources = &image.provenance().sources;
        let of_list = |source: u16| {
            let is_same = sources[usize::from(source)].name == *name;
            is_same.then_some(number)
        };
        builder.add_triggers(image, of_list).expect("room");
    }
    let mut cursor = images.rule_cursor(|_| true);
    while cursor.advance() {
        for rule in cursor.rules() {
            let number = numbers[rule.list];
            builder
                .insert_path(cursor.path(), number, rule.scope, rule.effect)
                .expect("room");
        }
    }
    assert_eq!(cursor.damage(), None);
    Arc::new(builder.finish().expect("room"))
}

/// Compares the rules of a list that is amended with those that it is to have. `names` are those on which rules changed.
pub(super) fn compare_amendment(
    before: &Images,
    state: &State,
    list: usize,
    names: impl Iterator<Item = usize>,
) {
    let all = universe();
    let rules = &state[list];
    let of_name = |name: usize| {
        let rules = rules.names.iter().filter(move |((of, _), _)| *of == name);
        rules.map(|((_, scope), number)| (SCOPES[*scope], effect(*number)))
    };
    let path = |name: usize| Path::from(&all[name]).as_bytes().to_vec();
    let mut amendment = Amendment {
        names: names
            .map(|name| (path(name), of_name(name).collect()))
            .collect(),
        networks: None,
    };
    let network = |text: &str| {
        let network = text.parse().expect("a network");
        Prefix::new(AddressOf::Answer, network).expect("valid")
    };
    let (name, refused) = (LISTS[list].0, effect(1));
    let shown = |images: &Images| {
        let mut cursor = images.rule_cursor(|list| list == name);
        let mut rules = BTreeSet::new();
        while cursor.advance() {
            let each = cursor.rules().iter();
            rules.extend(each.map(|rule| (cursor.path().to_vec(), format!("{rule:?}"))));
        }
        rules
    };
    let networks = |images: &Images| {
        let (image, _) = images.find(name).expect("in force");
        let of_list = |clause: u32| {
            let clause = image.clauses().get(clause);
            image.provenance().sources[usize::from(clause.source)].name == name
        };
        let rules = image.triggers().prefixes().iter();
        let rules = rules.filter(|(_, clause)| of_list(*clause));
        let rules =
            rules.map(|(prefix, clause)| (*prefix, image.clauses().effect(*clause).clone()));
        rules.collect::<Vec<_>>()
    };
    let expected = shown(&whole(state).into());
    for new in [None, Some(vec![(network("203.0.113.0/24"), refused)])] {
        amendment.networks.clone_from(&new);
        let source = rules.source(list);
        let image = amendment.image(before, source).expect("room");
        assert!(image.provenance().amends(), "the base has the list");
        let after = Images {
            delta: Some(Arc::new(image)),
            ..before.clone()
        };
        assert_eq!(shown(&after), expected);
        assert_eq!(networks(&after), new.unwrap_or_else(|| networks(before)));
        // Without a base, the image has all rules.
        let delta = Images {
            base: None,
            delta: before.base.clone(),
            ..Images::default()
        };
        if before.delta.is_none() {
            let image = amendment.image(&delta, rules.source(list)).expect("room");
            assert_eq!(shown(&Arc::new(image).into()), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn amendments_one_after_the_other_decide_as_one_image_of_the_rules_that_are_left(
        start in rules(ZONE_EFFECTS, 30),
        other in rules(EFFECTS, 20),
        steps in prop::collection::vec(
            (
                prop::collection::vec(
                    ((owner(), 0..3_usize), prop::option::of(0..ZONE_EFFECTS)),
                    1..12,
                ),
                prop::bool::weighted(0.4),
            ),
            1..6,
        ),
    ) {
        let all = universe();
        let mut state: State = [ListState::default(), start, ListState::default(), other];
        // An amendment does not change patterns.
        state[1].triggers.remove(&3);
        let mut images = Images::from(whole(&state));
        // A base that is compiled while further changes come.
        let mut compiled = None;
        for (step, merge) in steps {
            let changed: BTreeSet<_> = step.iter().map(|((name, _), _)| *name).collect();
            for (rule, effect) in step {
                match effect {
                    Some(effect) => state[1].names.insert(rule, effect),
                    None => state[1].names.remove(&rule),
                };
            }
            let rules_of = |name: usize| {
                let rules = state[1].names.iter().filter(move |((of, _), _)| *of == name);
                rules.map(|((_, scope), number)| (SCOPES[*scope], effect(*number)))
            };
            let path = |name: usize| Path::from(&all[name]).as_bytes().to_vec();
            let names = changed.iter().map(|name| (path(*name), rules_of(*name).collect()));
            let amendment = Amendment { names: names.collect(), networks: None };
            let delta = amendment.image(&images, state[1].source(1)).expect("room");
            images.delta = Some(Arc::new(delta));
            let whole = Images::from(whole(&state));
            compare(&images, &whole, &[]);
            compare_rules(&images, &whole);
            if let Some(base) = compiled.take_if(|_| merge) {
                // The amendments that the new base does not have decide alike over it.
                images.base = Some(base);
                let delta = images.delta.take().expect("set");
                let base = images.base.as_ref().expect("set");
                let rebased = rebased(&delta, "zone", base).expect("room");
                prop_assert!(in_delta(&rebased).len() <= in_delta(&delta).len());
                images.delta = Some(Arc::new(rebased));
                compare(&images, &whole, &[]);
                compare_rules(&images, &whole);
            } else {
                compiled = compiled.or_else(|| merge.then(|| merged(&images)));
            }
        }
    }
}
