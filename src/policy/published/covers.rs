//! The record sets on names, given the wildcards above them.

use std::sync::Arc;

use super::contents::ContentId;
use super::inexpressible::Inexpressible;
use super::source::PublishedPolicy;
use crate::policy::ranking::LookupResult;
use crate::policy::rpz::{is_no_name, is_reserved};
use crate::wire::name::{MAX_LABELS, Name};

/// The record sets on a name and on the wildcard below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameContents {
    pub(super) exact: ContentId,
    pub(super) below: ContentId,
}

impl NameContents {
    /// No records.
    pub(super) const NOTHING: Self = Self {
        exact: ContentId::NOTHING,
        below: ContentId::NOTHING,
    };
}

/// The record sets on wildcards above the current name, for names in any order. The order of a walk, in which names follow those
/// above them, needs no further lookups.
pub(super) struct Covers {
    policy: Arc<PublishedPolicy>,
    last: Name,
    /// By number of labels: the record set on the wildcard below this ancestor of the last name.
    below: [ContentId; MAX_LABELS + 1],
    /// The number of ancestors of the last name, with itself, that `below` has.
    known: usize,
}

impl Covers {
    pub(super) fn new(policy: &Arc<PublishedPolicy>) -> Self {
        Self {
            policy: policy.clone(),
            last: Name::ROOT,
            below: [ContentId::NOTHING; MAX_LABELS + 1],
            known: 0,
        }
    }

    /// The record sets on a name of the tree, given the result of its lookup. Those that can't be expressed are left out and
    /// counted. If `is_in_tree` is `None`, it is looked up whether the name is in the tree.
    pub(super) fn contents(
        &mut self,
        name: &Name,
        found: &LookupResult,
        is_in_tree: Option<bool>,
        inexpressible: &mut Inexpressible,
    ) -> NameContents {
        let labels = name.label_count();
        self.go_to(name);
        let above = match labels {
            0 => ContentId::NOTHING,
            _ => self.below[labels - 1],
        };
        let covered = |content| match (content, above) {
            (ContentId::NOTHING, ContentId::NOTHING) => content,
            (ContentId::NOTHING, _) => ContentId::PASSTHRU,
            _ => content,
        };
        let policy = &self.policy;
        let contents = NameContents {
            exact: covered(policy.decided(name, found)),
            below: covered(policy.decided_below(name, found)),
        };
        self.below[labels] = contents.below;
        self.known = labels + 1;
        if contents == NameContents::NOTHING {
            return contents;
        }
        if !is_in_tree.unwrap_or_else(|| policy.contains(name)) {
            return NameContents::NOTHING;
        }
        let is_uniform = contents.exact == above && contents.below == above;
        if is_uniform && !policy.trees().any(|tree| tree.contains_below(name)) {
            return NameContents::NOTHING;
        }
        policy.expressible(name, contents, above, inexpressible)
    }

    /// Completes the ancestors of `name`, and keeps those that it shares with the last name.
    fn go_to(&mut self, name: &Name) {
        let (labels, last) = (name.label_count(), &self.last);
        let most = labels.min(last.label_count());
        let is_same = |level: &usize| name.label_from_root(*level) == last.label_from_root(*level);
        let common = (0..most).take_while(is_same).count();
        self.known = self.known.min(common + 1);
        while self.known < labels {
            let ancestor = Name::parse(name.ancestor(self.known), 0);
            let Ok((ancestor, _)) = ancestor else {
                unreachable!("an ancestor of a name is a name");
            };
            let found = self.policy.lookup(&ancestor);
            let content = self.policy.decided_below(&ancestor, &found);
            let above = self.known.checked_sub(1).map(|above| self.below[above]);
            let is_covered = above.is_some_and(|above| above != ContentId::NOTHING);
            self.below[self.known] = match content {
                ContentId::NOTHING if is_covered => ContentId::PASSTHRU,
                content => content,
            };
            self.known += 1;
        }
        self.last.clone_from(name);
    }
}

impl PublishedPolicy {
    /// The record sets of a name that a policy zone can have. The others are counted. `above` is the record set on the
    /// wildcard above.
    fn expressible(
        &self,
        name: &Name,
        contents: NameContents,
        above: ContentId,
        inexpressible: &mut Inexpressible,
    ) -> NameContents {
        let size = name.wire().len();
        let mut kept = |content: ContentId, size: usize, is_reserved: bool| {
            if content == ContentId::NOTHING {
                return content;
            }
            if is_reserved {
                inexpressible.reserved_owners += 1;
                return ContentId::NOTHING;
            }
            if size > self.max_owner() {
                inexpressible.long_owners += 1;
                return ContentId::NOTHING;
            }
            content
        };
        let is_no_name = is_no_name(name);
        // A query for the name `*.x` is answered from the wildcard.
        let exact = match is_reserved(name) && !is_no_name && contents.exact == above {
            true => ContentId::NOTHING,
            false => kept(contents.exact, size, is_reserved(name)),
        };
        NameContents {
            exact,
            below: kept(contents.below, size + 2, is_no_name),
        }
    }
}
