//! Owns the rules of one source, as a label trie whose edges live in one hash table.
//! Refuses to change: `builder` makes it, lookups read it.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::rule::Scope;
use crate::wire::name::Name;

/// Index of the root's node.
pub(super) const ROOT: u32 = 0;

/// What a node's octet says.
pub(super) mod mark {
    /// A rule with scope exact.
    pub(in crate::policy) const EXACT: u8 = 1;
    /// A rule with scope subtree.
    pub(in crate::policy) const SUBTREE: u8 = 2;
    /// A rule with scope below.
    pub(in crate::policy) const BELOW: u8 = 4;
    /// Nodes beneath; every node is there for a rule at or under it.
    pub(in crate::policy) const PARENT: u8 = 8;
}

/// A rule that matches a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The rule's scope.
    pub scope: Scope,
    /// How many labels the rule's name has: it is that ancestor of the asked name.
    pub labels: u8,
}

/// What one walk from the root finds out about a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The rule that applies: the deepest name's, there exact before below before subtree.
    pub best: Option<Hit>,
    /// Whether a rule applies to every name beneath the asked one.
    pub covers_beneath: bool,
    /// Whether there are rules on names beneath the asked one.
    pub rules_beneath: bool,
}

/// An immutable set of rules with one effect.
///
/// A node is a name that has a rule or an ancestor of one. Children are found by hash of (parent,
/// label) and confirmed on parent and label, so that there is no false match. The hash is keyed
/// by a random seed for each trie: nobody can choose names that collide.
///
/// About 37 octets a name on real lists; a walk costs one probe a label, and ends at the first
/// label that is not there.
pub struct Trie {
    pub(super) edges: HashTable<u32>,
    pub(super) seed: RandomState,
    pub(super) parents: Vec<u32>,
    /// Where each node's label starts in `text`.
    pub(super) labels: Vec<u32>,
    pub(super) marks: Vec<u8>,
    /// Labels, each behind its length octet. Shared by all nodes with the same label and parent only.
    pub(super) text: Vec<u8>,
    pub(super) rules: usize,
}

impl Trie {
    /// How many different rules it holds; a name with two scopes counts twice.
    pub fn len(&self) -> usize {
        self.rules
    }

    /// Whether it holds no rule.
    pub fn is_empty(&self) -> bool {
        self.rules == 0
    }

    /// Octets of memory that it holds.
    pub fn footprint(&self) -> usize {
        self.edges.allocation_size()
            + self.parents.capacity() * 4
            + self.labels.capacity() * 4
            + self.marks.capacity()
            + self.text.capacity()
    }

    /// Looks up a batch of names: `found[i]` is what there is about `names[i]`. Never allocates.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn lookup_batch(&self, names: &[&Name], found: &mut [Found]) {
        assert_eq!(names.len(), found.len(), "one place for each name");
        for (name, found) in names.iter().zip(found) {
            *found = self.walk(name, |_| ());
        }
    }

    /// Looks up one name: a batch of one.
    pub fn lookup(&self, name: &Name) -> Found {
        let mut found = [Found::default()];
        self.lookup_batch(&[name], &mut found);
        found[0]
    }

    /// Calls `each` with every rule that matches, from the root down.
    pub fn matches(&self, name: &Name, each: impl FnMut(Hit)) {
        self.walk(name, each);
    }

    fn walk(&self, name: &Name, mut each: impl FnMut(Hit)) -> Found {
        let mut found = Found::default();
        let depth = name.label_count();
        let mut node = ROOT;
        let mut labels = name.labels_from_root();
        for level in 0.. {
            let marks = self.marks[node as usize];
            let asked = level == depth;
            // In the order of precedence from low to high: a later hit is the better one.
            for (mark, scope, applies) in [
                (mark::SUBTREE, Scope::Subtree, true),
                (mark::BELOW, Scope::Below, !asked),
                (mark::EXACT, Scope::Exact, asked),
            ] {
                if marks & mark != 0 && applies {
                    let hit = Hit {
                        scope,
                        labels: level as u8,
                    };
                    found.best = Some(hit);
                    each(hit);
                }
            }
            found.covers_beneath |= marks & (mark::SUBTREE | mark::BELOW) != 0;
            let Some(label) = labels.next() else {
                found.rules_beneath = marks & mark::PARENT != 0;
                break;
            };
            match self.child(node, label) {
                Some(child) => node = child,
                None => break,
            }
        }
        found
    }

    pub(super) fn child(&self, parent: u32, label: &[u8]) -> Option<u32> {
        let same = |&node: &u32| self.parents[node as usize] == parent && self.label(node) == label;
        self.edges.find(self.hash(parent, label), same).copied()
    }

    pub(super) fn label(&self, node: u32) -> &[u8] {
        let at = self.labels[node as usize] as usize;
        let size = usize::from(self.text[at]);
        &self.text[at + 1..at + 1 + size]
    }

    pub(super) fn hash(&self, parent: u32, label: &[u8]) -> u64 {
        self.seed.hash_one((parent, label))
    }
}

impl std::fmt::Debug for Trie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trie({} rules)", self.rules)
    }
}
