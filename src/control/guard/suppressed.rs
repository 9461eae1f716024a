//! Owns the account of what guards did to the rules of one list: which were left out, and why.
//! Refuses to count what is wrong with lines: a rule that is left out was read well.

use serde::{Deserialize, Serialize};

use crate::control::guard::protected::{Guarded, ProtectedNames, Protection};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// What guards did to the rules of one list, and what they only report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SuppressedRules {
    /// How many rules were left out, by what they would have covered, as that first occurred.
    pub left_out: Vec<(Protection, u32)>,
    /// The first ones of them.
    pub first: Vec<LeftOut>,
    /// How many rules count although they cover what they should not.
    pub warned: u32,
    /// The first ones of them.
    pub first_warned: Vec<LeftOut>,
    /// Names whose rules count, or are not reported, only because they are released.
    pub released: Vec<String>,
}

/// A rule that was left out, or is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its line; 1 is the first.
    pub line: u32,
    /// The rule as lists write it.
    pub rule: String,
    /// What it covers, or would have covered.
    #[serde(rename = "ward")]
    pub protection: Protection,
    /// The same as the end of a sentence: `covers the public suffix co.id`.
    pub why: String,
}

impl SuppressedRules {
    /// How many rules were left out.
    pub fn total(&self) -> u32 {
        self.left_out.iter().map(|(_, count)| count).sum()
    }

    /// Whether a rule of such a list counts; if not, it is left out. All rules of an allow list count:
    /// they block nothing.
    #[inline]
    pub fn admits(
        &mut self,
        protected_names: &ProtectedNames,
        list: impl Into<Guarded>,
        name: &Name,
        scope: Scope,
        line: u32,
    ) -> bool {
        let list = list.into();
        let Some((cover, counts)) = protected_names.check(name, scope, list) else {
            return true;
        };
        if protected_names.releases(name) {
            let text = name.to_string();
            if !self.released.contains(&text) {
                self.released.push(text);
            }
            return true;
        }
        let counts = counts && !list.cut;
        let cut = match list.cut {
            true => ", and the file ends within its line: cut off?",
            false => "",
        };
        let rule = || LeftOut {
            line,
            rule: format!("{}{name}", scope.sign()),
            protection: cover.protection(),
            why: cover.told(name) + cut,
        };
        if counts {
            self.warned += 1;
            if self.first_warned.len() < list.kept {
                self.first_warned.push(rule());
            }
        } else {
            self.leave_out(cover.protection(), list.kept, rule);
        }
        counts
    }

    fn leave_out(&mut self, protection: Protection, kept: usize, rule: impl FnOnce() -> LeftOut) {
        match self
            .left_out
            .iter_mut()
            .find(|(known, _)| *known == protection)
        {
            Some((_, count)) => *count += 1,
            None => self.left_out.push((protection, 1)),
        }
        if self.first.len() < kept {
            self.first.push(rule());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::guard::protected::ProtectedList;
    use crate::policy::rule::Kind;

    fn few(kind: Kind) -> Guarded {
        Guarded {
            kept: 10,
            ..kind.into()
        }
    }

    #[test]
    fn the_first_ten_are_kept_all_are_counted_and_releases_are_told_once() {
        let protected_names = ProtectedNames::new(ProtectedList {
            release: vec!["co.id".to_owned(), "or.id".to_owned()],
            ..ProtectedList::default()
        });
        let mut account = SuppressedRules::default();
        let name = |text: &str| Name::from_text(text).expect("a name");
        for line in 1..=12 {
            let mut admits = |text, scope| {
                account.admits(&protected_names, few(Kind::Block), &name(text), scope, line)
            };
            assert!(!admits("ac.id", Scope::Subtree));
            assert!(admits("co.id", Scope::Below));
            assert!(admits("ac.id", Scope::Exact));
        }
        assert!(!account.admits(
            &protected_names,
            few(Kind::Block),
            &name("1.2"),
            Scope::Exact,
            13
        ));
        assert_eq!(
            account.left_out,
            [(Protection::PublicSuffix, 12), (Protection::Number, 1)]
        );
        assert_eq!((account.total(), account.first.len()), (13, 10));
        let first = LeftOut {
            line: 1,
            rule: ".ac.id".to_owned(),
            protection: Protection::PublicSuffix,
            why: "covers the public suffix ac.id".to_owned(),
        };
        assert_eq!(account.first[0], first);
        assert_eq!(account.released, ["co.id"]);
    }

    #[test]
    fn rules_that_are_only_reported_count_unless_their_name_is_released() {
        let protected_names = ProtectedNames::new(ProtectedList {
            release: vec!["web.app".to_owned()],
            ..ProtectedList::default()
        });
        let name = |text: &str| Name::from_text(text).expect("a name");
        for (kind, reported) in [(Kind::Block, 12), (Kind::Allow, 24)] {
            let mut account = SuppressedRules::default();
            for line in 1..=12 {
                let mut admits = |text| {
                    account.admits(
                        &protected_names,
                        few(kind),
                        &name(text),
                        Scope::Subtree,
                        line,
                    )
                };
                assert!(admits("duckdns.org") && admits("web.app"));
                assert_eq!(admits("net.id"), kind == Kind::Allow);
            }
            assert_eq!((account.warned, account.first_warned.len()), (reported, 10));
            assert_eq!(
                account.first_warned[0].why,
                "covers the public suffix duckdns.org"
            );
            assert_eq!(account.released, ["web.app"]);
        }
    }
}
