//! The scope of a rule on a name, and its notation in lists: `x`, `.x` or `*.x`.

use serde::{Deserialize, Serialize};

use crate::wire::name::Name;

/// The names that a rule on `x` matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// `x` alone.
    Exact,
    /// `x` and all names below it (written `.x`).
    Subtree,
    /// All names below `x`, not `x` itself (written `*.x`).
    Below,
}

impl Scope {
    /// Whether a rule of this scope on `owner` matches `name`.
    pub fn reaches(self, owner: &Name, name: &Name) -> bool {
        let (owner_labels, labels) = (owner.label_count(), name.label_count());
        let is_depth_covered = match self {
            Self::Exact => owner_labels == labels,
            Self::Subtree => owner_labels <= labels,
            Self::Below => owner_labels < labels,
        };
        is_depth_covered && name.ancestor(owner_labels) == owner.wire()
    }

    /// The weight of the scope: of several rules on one name, the one with the lowest weight decides.
    pub fn weight(self) -> u32 {
        match self {
            Self::Exact => 0,
            Self::Below => 1,
            Self::Subtree => 2,
        }
    }

    /// The notation of the scope in a list: the prefix of the name.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Exact => "",
            Self::Subtree => ".",
            Self::Below => "*.",
        }
    }
}
