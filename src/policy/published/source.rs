//! What a published zone is made of: the decisions about names and networks, as record sets.

use super::contents::{ContentId, Contents};
use super::inexpressible::Inexpressible;
use super::networks::Networks;
use super::selection::Selection;
use super::tree::Tree;
use crate::policy::decide::{Decision, PolicyView};
use crate::policy::image::path::Key;
use crate::policy::ranking::{LookupResult, hit};
use crate::policy::rule::Action;
use crate::policy::snapshot::Snapshot;
use crate::policy::view::{LookupKey, ViewId};
use crate::wire::name::{MAX_NAME, Name};

/// The policy that is published.
#[derive(Debug)]
pub(super) struct PublishedPolicy {
    /// The selected sources alone.
    pub(super) snapshot: Snapshot,
    apex: Name,
    pub(super) contents: Contents,
    pub(super) networks: Networks,
    /// Those of the base, the delta and the orders.
    pub(super) trees: [Option<Tree>; 3],
    /// What can't be expressed, without the names.
    pub(super) inexpressible: Inexpressible,
    /// Sixteen bytes that nobody can guess, so that no list has names with this label.
    unknown_label: [u8; 16],
}

impl PublishedPolicy {
    /// The zone at `apex`.
    pub(super) fn new(snapshot: &Snapshot, selection: &Selection, apex: &Name) -> Self {
        let snapshot = selection.apply(snapshot);
        let images = snapshot.rules.images();
        let trees = Tree::all(&images, &snapshot.sources);
        let view = snapshot.view(ViewId::DEFAULT).without_conditions();
        let contents = Contents::new(view, snapshot.verdicts.len());
        let (networks, mut inexpressible) = Networks::new(view, &contents);
        inexpressible.effects = contents.inexact;
        inexpressible.conditions = contents.conditional;
        for tree in trees.iter().flatten() {
            let groups = tree.image.pattern_groups().iter();
            let clauses = groups
                .flat_map(|group| &group.rules)
                .map(|(_, clause)| clause);
            let sources = clauses.map(|clause| tree.image.clauses().get(*clause).source);
            let sources =
                sources.map(|source| &tree.image.provenance().sources[usize::from(source)]);
            // Of a list that the delta amends, only the delta's patterns count.
            let is_valid = |list: &str| {
                tree.has_named(list)
                    && (images.find(list).is_none() || images.is_in(&tree.image, list))
            };
            let patterns = sources.filter(|source| is_valid(&source.name));
            inexpressible.patterns += patterns.count() as u64;
        }
        let mut unknown_label = [0; 16];
        for half in unknown_label.chunks_mut(8) {
            half.copy_from_slice(&Key::random().seed().to_le_bytes());
        }
        Self {
            apex: apex.clone(),
            contents,
            networks,
            trees,
            inexpressible,
            unknown_label,
            snapshot,
        }
    }

    /// The trees that exist.
    pub(super) fn trees(&self) -> impl Iterator<Item = &Tree> {
        let trees = self.trees.iter().flatten();
        trees.filter(|tree| !tree.is_empty())
    }

    fn view(&self) -> PolicyView<'_> {
        self.snapshot.view(ViewId::DEFAULT).without_conditions()
    }

    /// The record set for the decision about a name, given the result of its lookup.
    pub(super) fn decided(&self, name: &Name, found: &LookupResult) -> ContentId {
        match self.view().decide_found(name, found) {
            Decision::Pass | Decision::Excepted(_) => ContentId::NOTHING,
            Decision::Allowed(_) => ContentId::PASSTHRU,
            Decision::Blocked { by, nxdomain, .. } => self.contents.of(by.hit.verdict, nxdomain),
        }
    }

    /// The record set for the decision about any name below that is not in the tree, given the result of the lookup of
    /// `name`.
    pub(super) fn decided_below(&self, name: &Name, found: &LookupResult) -> ContentId {
        // An exception against some sources may apply to the name but not to those below, or the reverse. Lookups that meet
        // one set `other` to this rank.
        if found.other == 0 && self.snapshot.rules.has_overrides() {
            return match self.unknown_below(name) {
                Some(below) => self.decided(&below, &self.lookup(&below)),
                None => ContentId::NOTHING,
            };
        }
        let Some(cover) = hit(found.cover) else {
            return ContentId::NOTHING;
        };
        let nxdomain = self.view().blocking(cover.verdict).action == Action::Nxdomain;
        self.contents.of(cover.verdict, nxdomain)
    }

    /// A name below that is not in the tree. `None` if there can't be one.
    fn unknown_below(&self, name: &Name) -> Option<Name> {
        let room = MAX_NAME.checked_sub(name.wire().len() + 1)?;
        let size = room.min(self.unknown_label.len());
        if size == 0 {
            return None;
        }
        let mut label = self.unknown_label;
        // Labels as short as one byte may be in the tree.
        (0..=u8::MAX).find_map(|change| {
            label[0] = self.unknown_label[0] ^ change;
            let mut wire = vec![size as u8];
            wire.extend(&label[..size]);
            wire.extend(name.wire());
            let (below, _) = Name::parse(&wire, 0).ok()?;
            let is_known = size < label.len() && self.contains(&below);
            (!is_known).then_some(below)
        })
    }

    pub(super) fn lookup(&self, name: &Name) -> LookupResult {
        let mut found = [LookupResult::default()];
        let keys = [LookupKey::UNCONDITIONAL];
        self.snapshot.lookup_in(&[name], &keys, &mut found);
        found[0]
    }

    /// Whether a name is in the tree.
    pub(super) fn contains(&self, name: &Name) -> bool {
        self.trees().any(|tree| tree.contains(name))
    }

    /// The bytes that an owner may have without the apex.
    pub(super) fn max_owner(&self) -> usize {
        MAX_NAME + 1 - self.apex.wire().len()
    }
}
