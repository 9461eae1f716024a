//! The owners of records that the rules do not show: they are ignored because of others, or the rule has several owners.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::owner::network_owner;
use crate::policy::prefix::Prefix;
use crate::wire::name::Name;

/// The number of owners that are known by name.
const MAX_OWNERS: usize = 4096;

/// Owners of which some records are in the zone, but not in the rules, and owners whose rule other owners have, too. When the
/// other records are deleted, these count, so changes of such owners can't be applied to the rules alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenRecords {
    owners: HashSet<Name>,
    /// There are more owners than these.
    overflows: bool,
}

impl HiddenRecords {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Whether this owner may have some. Names are compared in lower case.
    pub fn may_be_of(&self, owner: &Name) -> bool {
        self.overflows || self.owners.contains(owner)
    }

    /// Adds the owners of a rule on a network, if it is not written in the usual way: there may be a record of each, and the
    /// rule stays as long as one of them does.
    #[cold]
    pub(super) fn add_spellings(&mut self, owner: &Name, prefix: &Prefix, apex: &Name) {
        let usual = network_owner(prefix).wire().to_vec();
        let usual = [&usual[..usual.len() - 1], apex.wire()].concat();
        if usual != owner.wire() {
            self.add(owner);
            // If it is too long, no record has it.
            if let Ok((usual, _)) = Name::parse(&usual, 0) {
                self.add(&usual);
            }
        }
    }

    pub(super) fn add(&mut self, owner: &Name) {
        match self.owners.len() < MAX_OWNERS {
            true => _ = self.owners.insert(owner.clone()),
            false => self.overflows |= !self.owners.contains(owner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_owner_may_be_one_if_there_are_too_many() {
        let owner = |number: usize| Name::from_text(&format!("n{number}.test")).expect("a name");
        let mut hidden = HiddenRecords::default();
        for number in 0..MAX_OWNERS {
            hidden.add(&owner(number));
            hidden.add(&owner(number));
        }
        assert!(hidden.may_be_of(&owner(7)) && !hidden.may_be_of(&owner(MAX_OWNERS)));
        hidden.add(&owner(MAX_OWNERS));
        assert!(hidden.may_be_of(&owner(MAX_OWNERS + 1)));
    }
}
