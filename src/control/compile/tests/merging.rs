//! Tests of sorting and merging, compared with a map.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;

use super::super::merge::{Carried, Cursor, Merge, change, void};
use super::super::sort::{Budget, Sorter};
use super::{bits, name, path};
use crate::policy::image::path::Key;
use crate::policy::image::tests::{colliding, named};
use crate::policy::image::values::ImageRule;
use crate::policy::image::{ImageError, WriteError};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Rules by path, in no special order.
type Model = BTreeMap<Vec<u8>, BTreeSet<u32>>;

/// Names of the model in the order of the key.
fn in_order(model: &Model, key: &Key) -> Vec<(Vec<u8>, Vec<u32>)> {
    let mut names: Vec<_> = model
        .iter()
        .filter(|(_, rules)| !rules.is_empty())
        .map(|(path, rules)| (path.clone(), rules.iter().copied().collect()))
        .collect();
    names.sort_by(|(one, _), (other, _)| key.compare(one, other));
    names
}

/// Names that nest, share beginnings, and have labels with the same hash.
fn names() -> impl Strategy<Value = Name> {
    let labels = colliding().1;
    let label = prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "aa", "com", "x-y", "_t", "seven77", "eight888"])
            .prop_map(str::to_owned),
        2 => prop::sample::select(labels),
        1 => Just("z".repeat(63)),
        1 => "[a-c]{15,18}",
    ];
    prop::collection::vec(label, 0..6).prop_map(|labels| named(&labels))
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop::sample::select(vec![Scope::Exact, Scope::Subtree, Scope::Below])
}

/// The source of each clause: each source has one.
const SOURCES: [u16; 4] = [0, 1, 2, 3];

/// Nothing to carry over.
struct Nothing;

impl Cursor for Nothing {
    fn advance(&mut self) -> Result<bool, ImageError> {
        Ok(false)
    }

    fn path(&self) -> &[u8] {
        &[]
    }

    fn rules(&self, _: &mut Vec<ImageRule>) {}
}

/// Rules in order, in memory.
struct Listed {
    names: Vec<(Vec<u8>, Vec<u32>)>,
    next: usize,
}

impl Cursor for Listed {
    fn advance(&mut self) -> Result<bool, ImageError> {
        self.next += 1;
        Ok(self.next <= self.names.len())
    }

    fn path(&self) -> &[u8] {
        self.names.get(self.next - 1).map_or(&[], |name| &name.0)
    }

    fn rules(&self, into: &mut Vec<ImageRule>) {
        let rules = self.names[self.next - 1].1.iter();
        into.extend(rules.filter_map(|rule| ImageRule::from_bits(*rule)));
    }
}

/// Sorts with that budget; returns how many runs it took, names with rules, and counts.
#[expect(clippy::type_complexity, reason = "compared as one value in tests")]
fn sorted<C: Cursor>(
    key: &Key,
    budget: Budget,
    rules: &[(Name, u32)],
    base: Option<Carried<C>>,
    left_out: &[bool],
) -> (usize, Vec<(Vec<u8>, Vec<u32>)>, Vec<u64>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sorter = Sorter::new(key.clone(), budget, folder.path()).expect("room");
    for (name, rule) in rules {
        sorter.push(name, *rule).expect("taken");
    }
    let sorted = sorter.finish().expect("sorted");
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "the file has no name");
    let mut names = Vec::new();
    let merge = Merge::new(key, sorted.runs(), base, &SOURCES, left_out).expect("read");
    let counts = merge.each(|path, rules| {
        names.push((path.to_vec(), rules.to_vec()));
        Ok::<_, WriteError>(())
    });
    (sorted.runs().len(), names, counts.expect("read"))
}

proptest! {
    #[test]
    fn one_run_and_many_runs_match_the_model(
        rules in prop::collection::vec((names(), 0..3_u16, scopes()), 0..200),
        room in 1..40_usize,
        bytes in 0..600_usize,
    ) {
        let key = colliding().0;
        let rules: Vec<_> = rules
            .into_iter()
            .map(|(name, source, scope)| (name, bits(source, scope)))
            .collect();
        let mut model = Model::new();
        for (name, rule) in &rules {
            model.entry(path(name)).or_default().insert(*rule);
        }
        let mut counts = [0; 3];
        for rule in model.values().flatten() {
            counts[(rule >> ImageRule::CLAUSE_SHIFT) as usize] += 1;
        }
        let expected = in_order(&model, &key);
        for budget in [Budget { rules: room, bytes }, Budget { rules: 1000, bytes: 100_000 }] {
            let found = sorted::<Nothing>(&key, budget, &rules, None, &[false; 3]);
            prop_assert!(found.0 > 1 || rules.len() <= budget.rules);
            prop_assert_eq!(&found.1, &expected);
            prop_assert_eq!(&found.2, &counts);
        }
    }

    #[test]
    fn carried_rules_match_the_model(
        read in prop::collection::vec((names(), 0..4_u16, scopes()), 0..40),
        base in prop::collection::vec((names(), 0..4_u16, scopes()), 0..60),
        delta in prop::collection::vec((names(), 0..4_u16, scopes()), 0..40),
        marks in prop::collection::vec((names(), 0..4_u16), 0..20),
        // For each list: read; read and refused; carried over. And whether the delta does not have it, replaces it, or
        // amends it.
        kinds in prop::collection::vec((0..3_u8, 0..3_u8), 4),
        // The shift of each list's number in the base.
        turn in 0..4_u16,
        room in 1..40_usize,
    ) {
        let key = colliding().0;
        let old = |source: u16| (source + turn) % 4;
        let kind = |source: u16| kinds[usize::from(source)].0;
        let is_in_delta = |source: u16| kinds[usize::from(source)].1 > 0;
        let is_amended = |source: u16| kinds[usize::from(source)].1 == 2;
        let is_in_base = |source: u16| {
            kind(source) != 0 && (!is_in_delta(source) || is_amended(source))
        };
        let marks: BTreeSet<_> = marks
            .into_iter()
            .filter(|(_, source)| is_amended(*source))
            .map(|(name, source)| (name.wire().to_vec(), source))
            .collect();
        let is_void = |name: &Name, source: u16| marks.contains(&(name.wire().to_vec(), source));
        let mut model = Model::new();
        let mut base_model = Model::new();
        for (name, source, scope) in &base {
            base_model.entry(path(name)).or_default().insert(bits(old(*source), *scope));
            if is_in_base(*source) && !is_void(name, *source) {
                model.entry(path(name)).or_default().insert(bits(*source, *scope));
            }
        }
        let mut rules = Vec::new();
        for (name, source) in &marks {
            let (name, _) = Name::parse(name, 0).expect("a name");
            rules.push((name, void((*source).into())));
        }
        for (name, source, scope) in delta.into_iter().filter(|rule| is_in_delta(rule.1)) {
            rules.push((name.clone(), change(ImageRule { clause: source.into(), scope })));
            if kind(source) != 0 {
                let rules = model.entry(path(&name)).or_default();
                rules.insert(bits(source, scope));
            }
        }
        let mut counts = vec![BTreeSet::new(); 4];
        for (name, source, scope) in read.iter().filter(|(_, source, _)| kind(*source) < 2) {
            let rule = bits(*source, *scope);
            rules.push((name.clone(), rule));
            counts[usize::from(*source)].insert((path(name), rule));
            if kind(*source) == 0 {
                model.entry(path(name)).or_default().insert(rule);
            }
        }
        let sources = (0..4).map(|number| (0..4).find(|source| old(*source) == number));
        // Lists that were read, and lists that the delta replaces, are not carried over from the base.
        let sources = sources.map(|source| source.filter(|source| is_in_base(*source)));
        let base = Carried {
            cursor: Listed { names: in_order(&base_model, &key), next: 0 },
            clauses: sources.map(|source| source.map(u32::from)).collect(),
        };
        let left_out: Vec<_> = kinds.iter().map(|kind| kind.0 != 0).collect();
        let budget = Budget { rules: room, bytes: 1000 };
        let found = sorted(&key, budget, &rules, Some(base), &left_out);
        prop_assert_eq!(found.1, in_order(&model, &key));
        let counts: Vec<_> = counts.iter().map(|rules| rules.len() as u64).collect();
        prop_assert_eq!(found.2, counts);
    }
}

#[test]
fn many_rules_on_one_name_one_parent_or_one_branch_are_sorted() {
    let deep = "a.".repeat(126);
    let crowd = |make: &dyn Fn(u32) -> String| {
        let names = (0..5000_u32).map(|number| (name(&make(number * 7919 % 5000)), 0));
        names.collect::<Vec<_>>()
    };
    let key = Key::random();
    for (rules, distinct) in [
        (crowd(&|_| "one.example".to_owned()), 1),
        (crowd(&|number| format!("x{number}.y.example")), 5000),
        (crowd(&|number| format!("same.same.x{number}")), 5000),
        (crowd(&|number| format!("x.y{number}")), 5000),
        (
            crowd(&|number| deep[..2 * (number as usize % 126) + 2].to_owned()),
            126,
        ),
    ] {
        for room in [700, 10_000] {
            let budget = Budget {
                rules: room,
                bytes: 1 << 20,
            };
            let (_, names, counts) = sorted::<Nothing>(&key, budget, &rules, None, &[false]);
            assert_eq!((names.len(), counts), (distinct, vec![distinct as u64]));
            let sorted = names.is_sorted_by(|(one, _), (other, _)| key.compare(one, other).is_lt());
            assert!(sorted);
        }
    }
}
