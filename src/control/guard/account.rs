//! Owns the account of what guards did to the rules of one list: which were left out, and why.
//! Refuses to count what is wrong with lines: a rule that is left out was read well.

use serde::{Deserialize, Serialize};

use super::wards::{Ward, Wards};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Rules that are kept with their text; the others are only counted.
const KEPT: usize = 10;

/// What guards did to the rules of one list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// How many rules were left out, by what they would have covered, as that first occurred.
    pub left_out: Vec<(Ward, u32)>,
    /// The first ten of them.
    pub first: Vec<LeftOut>,
    /// Names whose rules count only because they are released.
    pub released: Vec<String>,
}

/// A rule that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its line; 1 is the first.
    pub line: u32,
    /// The rule as lists write it.
    pub rule: String,
    /// What it would have covered.
    pub ward: Ward,
    /// The same as the end of a sentence: `covers the public suffix co.id`.
    pub why: String,
}

impl Account {
    /// How many rules were left out.
    pub fn total(&self) -> u32 {
        self.left_out.iter().map(|(_, count)| count).sum()
    }

    /// Whether a rule counts; if not, it is left out.
    #[inline]
    pub fn admits(&mut self, wards: &Wards, name: &Name, scope: Scope, line: u32) -> bool {
        match wards.find(name, scope) {
            None => true,
            Some(_) if wards.releases(name) => {
                let text = name.to_string();
                if !self.released.contains(&text) {
                    self.released.push(text);
                }
                true
            }
            Some(cover) => {
                self.leave_out(cover.ward(), || LeftOut {
                    line,
                    rule: format!("{}{name}", scope.sign()),
                    ward: cover.ward(),
                    why: cover.told(name),
                });
                false
            }
        }
    }

    fn leave_out(&mut self, ward: Ward, rule: impl FnOnce() -> LeftOut) {
        match self.left_out.iter_mut().find(|(known, _)| *known == ward) {
            Some((_, count)) => *count += 1,
            None => self.left_out.push((ward, 1)),
        }
        if self.first.len() < KEPT {
            self.first.push(rule());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wards::WardList;
    use super::*;

    #[test]
    fn the_first_ten_are_kept_all_are_counted_and_releases_are_told_once() {
        let wards = Wards::new(WardList {
            release: vec!["co.id".to_owned(), "or.id".to_owned()],
            ..WardList::default()
        });
        let mut account = Account::default();
        let name = |text: &str| Name::from_text(text).expect("a name");
        for line in 1..=12 {
            assert!(!account.admits(&wards, &name("ac.id"), Scope::Subtree, line));
            assert!(account.admits(&wards, &name("co.id"), Scope::Below, line));
            assert!(account.admits(&wards, &name("ac.id"), Scope::Exact, line));
        }
        assert!(!account.admits(&wards, &name("1.2"), Scope::Exact, 13));
        assert_eq!(
            account.left_out,
            [(Ward::PublicSuffix, 12), (Ward::Number, 1)]
        );
        assert_eq!((account.total(), account.first.len()), (13, 10));
        let first = LeftOut {
            line: 1,
            rule: ".ac.id".to_owned(),
            ward: Ward::PublicSuffix,
            why: "covers the public suffix ac.id".to_owned(),
        };
        assert_eq!(account.first[0], first);
        assert_eq!(account.released, ["co.id"]);
    }
}
