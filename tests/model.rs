//! The rules of an image compared with two simple models: a `BTreeMap` that is walked label by
//! label, and an FST over the paths.
//!
//! `TAPIS_LOOKUPS=10000000 cargo test --release --test model` sets the number of lookups.
//!
//! It is a program apart from the other integration tests because it is compiled twice: CI runs it without vector
//! instructions, too.

#[path = "it/support/random.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod random;

use std::collections::BTreeMap;
use std::sync::Arc;

use tapis::policy::builder::Builder;
use tapis::policy::image::path::Path;
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::ranking::{Hit, LookupResult, Trigger};
use tapis::policy::rule::Scope;
use tapis::policy::rules::Rules;
use tapis::wire::name::Name;

use crate::random::Random;

const LISTS: usize = 3;
const SCOPES: [Scope; 3] = [Scope::Exact, Scope::Below, Scope::Subtree];

impl Random {
    /// A label: mostly of few letters, so that names share it; some long ones, some of arbitrary
    /// bytes.
    fn label(&mut self) -> Vec<u8> {
        let plain = b"abcdefgh-_0123456789";
        let (letters, size) = match self.below(20) {
            0 => (256, 1 + self.below(4)),
            1 => (20, 63 - self.below(3)),
            2..6 => (20, 1 + self.below(30)),
            6..10 => (8, 1 + self.below(16)),
            _ => (3, 1 + self.below(3)),
        };
        let byte = |random: &mut Self| match letters {
            256 => (random.below(256) as u8).to_ascii_lowercase(),
            _ => plain[random.below(letters)],
        };
        (0..size).map(|_| byte(self)).collect()
    }

    /// A name of up to `labels` labels below `parent`, as far as the length permits.
    fn name(&mut self, parent: &Name, labels: usize) -> Name {
        let mut wire = parent.wire().to_vec();
        for _ in 0..labels {
            let label = self.label();
            let longer = [&[label.len() as u8], &*label, &*wire].concat();
            if Name::parse(&longer, 0).is_ok() {
                wire = longer;
            }
        }
        Name::parse(&wire, 0).expect("a name").0
    }

    /// A name to query: one with rules, or a similar one.
    fn queried_name(&mut self, names: &[Name]) -> Name {
        let name = &names[self.below(names.len())];
        let depth = name.label_count();
        match self.below(8) {
            0..3 => name.clone(),
            3 => self.name(name, 1),
            4 if depth > 0 => ancestor(name, self.below(depth)),
            5 if depth > 0 => {
                let parent = ancestor(name, self.below(depth));
                self.name(&parent, 2)
            }
            6 if depth > 0 => {
                let mut wire = name.wire().to_vec();
                let at = name.ancestor_start(1 + self.below(depth));
                wire[at + 1] = if wire[at + 1] == b'a' { b'b' } else { b'a' };
                Name::parse(&wire, 0).expect("a letter for a letter").0
            }
            _ => {
                let labels = self.below(6);
                self.name(&Name::ROOT, labels)
            }
        }
    }
}

fn ancestor(name: &Name, labels: usize) -> Name {
    Name::parse(name.ancestor(labels), 0).expect("a name").0
}

/// The bit of a list and scope.
fn bit(list: usize, scope: usize) -> u64 {
    1 << (list * 3 + scope)
}

/// The deciding rule for a name with `depth` labels. Each item of `rules` stands for the name or one of its ancestors:
/// the number of labels, and the bits of the rules there.
fn best(depth: usize, rules: impl Iterator<Item = (usize, u64)>) -> Option<Hit> {
    let rules: Vec<_> = rules.collect();
    for list in 0..LISTS {
        for (labels, bits) in rules.iter().rev() {
            for (scope, applies) in [(0, *labels == depth), (1, *labels < depth), (2, true)] {
                if applies && bits & bit(list, scope) != 0 {
                    return Some(Hit {
                        rank: list as u32,
                        verdict: list as u32,
                        trigger: Trigger::Name {
                            scope: SCOPES[scope],
                            labels: *labels as u8,
                        },
                    });
                }
            }
        }
    }
    None
}

struct Models {
    map: BTreeMap<Vec<u8>, u64>,
    fst: fst::Map<Vec<u8>>,
    image: Rules,
}

impl Models {
    fn new(random: &mut Random, count: usize) -> (Self, Vec<Name>) {
        let mut names = vec![Name::ROOT];
        let mut map = BTreeMap::<Vec<u8>, u64>::new();
        let mut paths = BTreeMap::<Vec<u8>, u64>::new();
        let mut builder = Builder::new();
        for list in 0..LISTS {
            let source = ImageSource::named(&list.to_string());
            builder.source(source).expect("few");
        }
        while map.len() < count {
            // Below one of the existing names, so that names nest.
            let parent = names[names.len() - 1 - random.below(names.len().min(50))].clone();
            let parent = ancestor(&parent, random.below(parent.label_count() + 1));
            let labels = if random.below(50) == 0 {
                127
            } else {
                1 + random.below(4)
            };
            let name = random.name(&parent, labels);
            // Rules that cover subtrees are few, or all names would lie below them.
            let scope = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2][random.below(10)];
            let scope = if name.label_count() < 2 { 0 } else { scope };
            let list = random.below(LISTS);
            *map.entry(name.wire().to_vec()).or_default() |= bit(list, scope);
            *paths
                .entry(Path::from(&name).as_bytes().to_vec())
                .or_default() |= bit(list, scope);
            builder
                .insert(&name, list as u16, SCOPES[scope])
                .expect("room");
            names.push(name);
        }
        let image = Arc::new(builder.finish().expect("room"));
        let rank = |name: &str| name.parse().ok();
        let models = Self {
            map,
            fst: fst::Map::from_iter(paths).expect("sorted"),
            image: Rules::by_rank(image.into(), rank, |_| false),
        };
        (models, names)
    }

    fn by_map(&self, name: &Name) -> Option<Hit> {
        let depth = name.label_count();
        let rules =
            (0..=depth).filter_map(|labels| Some((labels, *self.map.get(name.ancestor(labels))?)));
        best(depth, rules)
    }

    fn by_fst(&self, name: &Name) -> Option<Hit> {
        let fst = self.fst.as_fst();
        let (mut node, mut output) = (fst.root(), 0);
        let mut rules = Vec::new();
        if node.is_final() {
            rules.push((0, node.final_output().value()));
        }
        'labels: for (labels, label) in name.labels_from_root().enumerate() {
            for byte in [label.len() as u8].iter().chain(label) {
                let Some(at) = node.find_input(*byte) else {
                    break 'labels;
                };
                let transition = node.transition(at);
                output += transition.out.value();
                node = fst.node(transition.addr);
            }
            if node.is_final() {
                rules.push((labels + 1, output + node.final_output().value()));
            }
        }
        best(name.label_count(), rules.into_iter())
    }
}

#[test]
fn an_image_never_differs_from_simple_models() {
    let lookups = std::env::var("TAPIS_LOOKUPS").map_or(200_000, |text| {
        text.parse().expect("TAPIS_LOOKUPS is a number")
    });
    let mut random = Random(0x0007_0014_2017);
    let sets = 1 + lookups / 1_000_000;
    let (mut asked, mut hits) = (0, 0);
    for set in 0..sets {
        let (models, names) = Models::new(&mut random, 40 << (set % 12));
        while asked < lookups * (set + 1) / sets {
            let batch: Vec<Name> = (0..33).map(|_| random.queried_name(&names)).collect();
            let batch: Vec<&Name> = batch.iter().collect();
            let mut found = [LookupResult::default(); 33];
            models.image.lookup(&batch, &mut found);
            for (name, found) in batch.into_iter().zip(found) {
                let expected = models.by_map(name);
                assert_eq!(expected, models.by_fst(name), "the models agree on {name}");
                // A subtree rule makes all rules of the same list below its name redundant. The list that decides is
                // the same without them.
                let list = |hit: Option<Hit>| hit.map(|hit| hit.rank);
                assert_eq!(list(found.best()), list(expected), "{name}");
                if let (Some(best), Some(expected)) = (found.best(), expected) {
                    assert!(best.labels() <= expected.labels(), "{name}");
                }
                hits += usize::from(expected.is_some());
            }
            asked += 33;
        }
    }
    assert!(
        hits > asked / 4 && hits < asked,
        "{hits} of {asked} are hits"
    );
}
