//! The scope of a rule on a name, and its notation in lists: `x`, `.x` or `*.x`.

use std::fmt::Display;

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

    /// A rule of this scope on `owner` in the notation of lists: `x`, `.x` or `*.x`; `*.` for all names but the root.
    pub fn notation(self, owner: impl Display) -> String {
        let owner = owner.to_string();
        match self {
            Self::Exact => owner,
            Self::Subtree => format!(".{owner}"),
            Self::Below if owner == "." => "*.".to_owned(),
            Self::Below => format!("*.{owner}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::typed::one;

    #[test]
    fn the_notation_of_a_rule_is_read_as_that_rule() {
        for (text, owner, scope) in [
            ("x", "x", Scope::Exact),
            (".x", "x", Scope::Subtree),
            ("*.x", "x", Scope::Below),
            ("*.", ".", Scope::Below),
            ("..", ".", Scope::Subtree),
        ] {
            let owner = Name::from_text(owner).expect("a name");
            assert_eq!(scope.notation(&owner), text);
            let read = one(text).map(|(name, read)| (name, read.unwrap_or(Scope::Exact)));
            assert_eq!(read, Ok((owner, scope)));
        }
    }
}
