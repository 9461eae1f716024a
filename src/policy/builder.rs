//! Owns the making of a trie from rules in any order.
//! Refuses to parse text: names come validated.

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::rule::Scope;
use super::trie::{ROOT, Trie, mark};
use crate::wire::name::Name;

/// Most octets of label text that a trie can hold: offsets into it have 32 bits.
const MAX_TEXT: usize = u32::MAX as usize - 64;

/// The rules do not fit: more than four gigabytes of label text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than 4 GB of names; split the list")]
pub struct TooLarge;

/// Collects rules and makes a [`Trie`] of them.
#[derive(Debug)]
pub struct Builder {
    trie: Trie,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A builder without rules.
    pub fn new() -> Self {
        Self {
            trie: Trie {
                edges: HashTable::new(),
                seed: RandomState::default(),
                parents: vec![ROOT],
                labels: vec![0],
                marks: vec![0],
                text: vec![0],
                rules: 0,
            },
        }
    }

    /// Adds a rule; the same one again changes nothing.
    ///
    /// # Errors
    /// [`TooLarge`] when there is no room for its labels; rules added before stay.
    pub fn insert(&mut self, name: &Name, scope: Scope) -> Result<(), TooLarge> {
        let mut node = ROOT;
        for label in name.labels_from_root() {
            node = match self.trie.child(node, label) {
                Some(child) => child,
                None => self.grow(node, label)?,
            };
        }
        let mark = match scope {
            Scope::Exact => mark::EXACT,
            Scope::Subtree => mark::SUBTREE,
            Scope::Below => mark::BELOW,
        };
        let marks = &mut self.trie.marks[node as usize];
        self.trie.rules += usize::from(*marks & mark == 0);
        *marks |= mark;
        Ok(())
    }

    fn grow(&mut self, parent: u32, label: &[u8]) -> Result<u32, TooLarge> {
        let trie = &mut self.trie;
        if trie.text.len() > MAX_TEXT {
            return Err(TooLarge);
        }
        let node = trie.parents.len() as u32;
        trie.parents.push(parent);
        trie.labels.push(trie.text.len() as u32);
        trie.marks.push(0);
        trie.text.push(label.len() as u8);
        trie.text.extend_from_slice(label);
        trie.marks[parent as usize] |= mark::PARENT;
        let (seed, parents, labels, text) = (&trie.seed, &trie.parents, &trie.labels, &trie.text);
        let rehash = |&node: &u32| {
            let at = labels[node as usize] as usize;
            let label = &text[at + 1..at + 1 + usize::from(text[at])];
            std::hash::BuildHasher::hash_one(seed, (parents[node as usize], label))
        };
        trie.edges.insert_unique(rehash(&node), node, rehash);
        Ok(node)
    }

    /// The trie of all rules added.
    pub fn finish(self) -> Trie {
        let mut trie = self.trie;
        trie.parents.shrink_to_fit();
        trie.labels.shrink_to_fit();
        trie.marks.shrink_to_fit();
        trie.text.shrink_to_fit();
        trie
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::trie::{Found, Hit};
    use super::*;

    /// The stupid twin: every rule by its text, asked by walking the name label by label.
    #[derive(Default)]
    struct Twin(BTreeMap<Vec<u8>, Vec<Scope>>);

    impl Twin {
        fn insert(&mut self, name: &Name, scope: Scope) {
            let scopes = self.0.entry(name.wire().to_vec()).or_default();
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }

        fn lookup(&self, name: &Name) -> Found {
            let depth = name.label_count();
            let mut found = Found::default();
            for labels in 0..=depth {
                let scopes = self
                    .0
                    .get(name.ancestor(labels))
                    .cloned()
                    .unwrap_or_default();
                for scope in [Scope::Subtree, Scope::Below, Scope::Exact] {
                    let applies = match scope {
                        Scope::Subtree => true,
                        Scope::Below => labels < depth,
                        Scope::Exact => labels == depth,
                    };
                    if scopes.contains(&scope) {
                        found.covers_beneath |= scope != Scope::Exact;
                        if applies {
                            let labels = labels as u8;
                            found.best = Some(Hit { scope, labels });
                        }
                    }
                }
            }
            found.rules_beneath = self.0.keys().any(|key| {
                key.len() > name.wire().len()
                    && Name::read(key, 0).is_ok_and(|(k, _)| {
                        k.label_count() > depth && k.ancestor(depth) == name.wire()
                    })
            });
            found
        }
    }

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    fn trie(rules: &[(&str, Scope)]) -> Trie {
        let mut builder = Builder::new();
        for (text, scope) in rules {
            builder.insert(&name(text), *scope).expect("room");
        }
        builder.finish()
    }

    #[test]
    fn scopes_say_which_names_a_rule_speaks_of() {
        let trie = trie(&[
            ("exact.test", Scope::Exact),
            ("tree.test", Scope::Subtree),
            ("below.test", Scope::Below),
        ]);
        let hit = |text: &str| trie.lookup(&name(text)).best.map(|h| h.scope);
        assert_eq!(hit("exact.test"), Some(Scope::Exact));
        assert_eq!(hit("www.exact.test"), None);
        assert_eq!(hit("tree.test"), Some(Scope::Subtree));
        assert_eq!(hit("a.b.tree.test"), Some(Scope::Subtree));
        assert_eq!(hit("below.test"), None);
        assert_eq!(hit("a.b.below.test"), Some(Scope::Below));
        assert_eq!(hit("test"), None);
        assert_eq!(hit("xtree.test"), None, "labels, not letters");
    }

    #[test]
    fn the_deepest_rule_wins_and_at_one_depth_exact_before_below_before_subtree() {
        let trie = trie(&[
            ("test", Scope::Subtree),
            ("a.test", Scope::Subtree),
            ("a.test", Scope::Below),
            ("a.test", Scope::Exact),
        ]);
        let hit = |text: &str| trie.lookup(&name(text)).best.expect("a hit");
        assert_eq!(
            hit("a.test"),
            Hit {
                scope: Scope::Exact,
                labels: 2
            }
        );
        assert_eq!(
            hit("b.a.test"),
            Hit {
                scope: Scope::Below,
                labels: 2
            }
        );
        assert_eq!(
            hit("b.test"),
            Hit {
                scope: Scope::Subtree,
                labels: 1
            }
        );
        assert_eq!(trie.len(), 4);
    }

    #[test]
    fn a_rule_on_the_root_reaches_every_name() {
        let trie = trie(&[(".", Scope::Subtree)]);
        assert_eq!(
            trie.lookup(&name("any.name")).best.expect("a hit").labels,
            0
        );
        assert!(trie.lookup(&Name::ROOT).best.is_some());
    }

    /// Few labels, so that names collide, nest and share parents all the time.
    fn names() -> impl Strategy<Value = Name> {
        let label = prop_oneof![
            4 => prop::sample::select(vec!["a", "b", "aa", "com", "x-y", "_t"]).prop_map(str::to_owned),
            1 => prop::collection::vec(any::<u8>(), 1..4)
                .prop_map(|octets| octets.iter().map(|o| format!("\\{o:03}")).collect()),
            1 => Just("z".repeat(63)),
        ];
        prop::collection::vec(label, 0..5).prop_map(|labels| {
            let text = if labels.is_empty() {
                ".".to_owned()
            } else {
                labels.join(".")
            };
            Name::from_text(&text).unwrap_or(Name::ROOT)
        })
    }

    fn scopes() -> impl Strategy<Value = Scope> {
        prop::sample::select(vec![Scope::Exact, Scope::Subtree, Scope::Below])
    }

    proptest! {
        #[test]
        fn trie_and_twin_never_differ(
            rules in prop::collection::vec((names(), scopes()), 0..60),
            asked in prop::collection::vec(names(), 1..60),
        ) {
            let mut twin = Twin::default();
            let mut builder = Builder::new();
            for (name, scope) in &rules {
                twin.insert(name, *scope);
                builder.insert(name, *scope).expect("room");
            }
            let trie = builder.finish();
            prop_assert_eq!(trie.len(), twin.0.values().map(Vec::len).sum::<usize>());
            let all: Vec<&Name> = asked.iter().chain(rules.iter().map(|(name, _)| name)).collect();
            let mut found = vec![Found::default(); all.len()];
            trie.lookup_batch(&all, &mut found);
            for (name, found) in all.iter().zip(found) {
                prop_assert_eq!(found, twin.lookup(name), "{}", name);
            }
        }
    }
}
