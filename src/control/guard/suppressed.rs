//! Records which rules of a list the guard suppressed, and why. They are not bad lines.

use serde::{Deserialize, Serialize};

use crate::control::guard::protected::{Guarded, ProtectedNames, Protection};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// The rules of one list that are suppressed, and those that are only reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SuppressedRules {
    /// The number of suppressed rules by the kind of name that they cover, in the order of first occurrence.
    pub left_out: Vec<(Protection, u32)>,
    /// The first suppressed rules.
    pub first: Vec<LeftOut>,
    /// The number of rules that apply although they cover a protected name.
    pub warned: u32,
    /// The first of those.
    pub first_warned: Vec<LeftOut>,
    /// Names whose rules apply, or are not reported, because they are released.
    pub released: Vec<String>,
}

/// A rule that is suppressed or reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its line, from 1.
    pub line: u32,
    /// The rule in the notation of lists.
    pub rule: String,
    /// The kind of name that it covers.
    #[serde(rename = "ward")]
    pub protection: Protection,
    /// A description that follows the rule: `covers the public suffix co.id`.
    pub why: String,
}

impl SuppressedRules {
    /// The number of suppressed rules.
    pub fn total(&self) -> u32 {
        self.left_out.iter().map(|(_, count)| count).sum()
    }

    /// Whether a rule applies; otherwise it is recorded as suppressed. All rules of an allow list apply: they block nothing.
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
            why: cover.described(name) + cut,
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
    fn the_first_ten_are_kept_all_are_counted_and_releases_are_reported_once() {
        let protected_names = ProtectedNames::new(ProtectedList {
            release: vec!["co.id".to_owned(), "or.id".to_owned()],
            ..ProtectedList::default()
        });
        let mut suppressed = SuppressedRules::default();
        let name = |text: &str| Name::from_text(text).expect("a name");
        for line in 1..=12 {
            let mut admits = |text, scope| {
                suppressed.admits(&protected_names, few(Kind::Block), &name(text), scope, line)
            };
            assert!(!admits("ac.id", Scope::Subtree));
            assert!(admits("co.id", Scope::Below));
            assert!(admits("ac.id", Scope::Exact));
        }
        assert!(!suppressed.admits(
            &protected_names,
            few(Kind::Block),
            &name("1.2"),
            Scope::Exact,
            13
        ));
        assert_eq!(
            suppressed.left_out,
            [(Protection::PublicSuffix, 12), (Protection::Number, 1)]
        );
        assert_eq!((suppressed.total(), suppressed.first.len()), (13, 10));
        let first = LeftOut {
            line: 1,
            rule: ".ac.id".to_owned(),
            protection: Protection::PublicSuffix,
            why: "covers the public suffix ac.id".to_owned(),
        };
        assert_eq!(suppressed.first[0], first);
        assert_eq!(suppressed.released, ["co.id"]);
    }

    #[test]
    fn rules_that_are_only_reported_count_unless_their_name_is_released() {
        let protected_names = ProtectedNames::new(ProtectedList {
            release: vec!["web.app".to_owned()],
            ..ProtectedList::default()
        });
        let name = |text: &str| Name::from_text(text).expect("a name");
        for (kind, reported) in [(Kind::Block, 12), (Kind::Allow, 24)] {
            let mut suppressed = SuppressedRules::default();
            for line in 1..=12 {
                let mut admits = |text| {
                    suppressed.admits(
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
            assert_eq!(
                (suppressed.warned, suppressed.first_warned.len()),
                (reported, 10)
            );
            assert_eq!(
                suppressed.first_warned[0].why,
                "covers the public suffix duckdns.org"
            );
            assert_eq!(suppressed.released, ["web.app"]);
        }
    }
}
