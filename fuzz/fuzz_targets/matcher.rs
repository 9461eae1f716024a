//! Fuzzes lookups: compares one or two images with a map that is searched label by label.
//!
//! `cargo +nightly fuzz run matcher fuzz/corpus/matcher`
#![no_main]

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use rules::{LISTS, Rule, Rules};
use tapis::policy::images::Images;
use tapis::policy::rule::Scope;
use tapis::policy::ranking::LookupResult;
use tapis::policy::rules::Rules as InForce;
use tapis::wire::name::Name;

/// By name: list and scope.
type Model = BTreeMap<Vec<u8>, BTreeSet<(u16, u8)>>;

fuzz_target!(|input: &[u8]| {
    // An input that is too short for its parts is skipped.
    let _ = run(&mut Unstructured::new(input));
});

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let base = Rules::arbitrary(input)?;
    let over = Option::<Rules>::arbitrary(input)?;
    let has: [bool; LISTS as usize] = Arbitrary::arbitrary(input)?;
    let mut model = model(base.all());
    if let Some(over) = &over {
        change(&mut model, over, has);
    }
    let mut asked: Vec<Name> = base
        .names()
        .chain(over.iter().flat_map(Rules::names))
        .collect();
    while let Ok(name) = rules::name(input)
        && !input.is_empty()
    {
        asked.push(name);
    }
    let delta = over.map(|over| Arc::new(over.image_of(has)));
    let rank = |name: &str| name.parse().ok();
    let images = Images {
        base: Some(Arc::new(base.image())),
        delta,
        ..Images::default()
    };
    let in_force = InForce::by_rank(images, rank, |_| false);
    let asked: Vec<&Name> = asked.iter().collect();
    let mut found = vec![LookupResult::default(); asked.len()];
    in_force.lookup(&asked, &mut found);
    for (name, found) in asked.iter().zip(found) {
        let best = found.best().map(|hit| hit.rank as usize);
        assert_eq!(best, walk(&model, name).map(usize::from), "{name}");
    }
    Ok(())
}

fn model(rules: impl Iterator<Item = Rule>) -> Model {
    let mut model = Model::new();
    for rule in rules {
        let scopes = model.entry(rule.name.wire().to_vec()).or_default();
        scopes.insert((rule.list, rule.scope as u8));
    }
    model
}

/// Applies a delta that `has` these lists: its rules replace theirs.
fn change(model: &mut Model, over: &Rules, has: [bool; LISTS as usize]) {
    for scopes in model.values_mut() {
        scopes.retain(|(list, _)| !has[usize::from(*list)]);
    }
    let rules = over.all().filter(|rule| has[usize::from(rule.list)]);
    for (owner, scopes) in self::model(rules) {
        model.entry(owner).or_default().extend(scopes);
    }
}

/// The best list with a rule that matches the name.
fn walk(model: &Model, name: &Name) -> Option<u16> {
    let depth = name.label_count();
    let rules = (0..=depth).filter_map(|labels| Some((labels, model.get(name.ancestor(labels))?)));
    let speaks = rules.flat_map(|(labels, scopes)| {
        scopes.iter().filter(move |(_, scope)| {
            *scope == Scope::Subtree as u8 || (*scope == Scope::Exact as u8) == (labels == depth)
        })
    });
    speaks.map(|(list, _)| *list).min()
}
