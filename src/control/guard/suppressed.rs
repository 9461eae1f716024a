//! Decides which rules of a list the protected names suppress, and records why.

use crate::control::guard::protected::{Guarded, ProtectedNames, Protection};
use crate::control::list_file::parse::{ParsedRule, ParsedTrigger};
use crate::control::list_file::suppressed::{LeftOut, SuppressedRules};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// [`admits`] for a rule with any trigger and effect. A rule that allows names is checked like one of an allow list.
#[inline]
pub fn admits_rule(
    suppressed: &mut SuppressedRules,
    protected_names: &ProtectedNames,
    list: Guarded,
    rule: ParsedRule<'_>,
) -> bool {
    let ParsedTrigger::Name(name, scope) = rule.trigger else {
        return true;
    };
    let list = list.with_effect(rule.effect);
    admits(suppressed, protected_names, list, name, scope, rule.line)
}

/// Whether a rule applies; otherwise it is recorded as suppressed. Rules of an allow list block nothing, so they apply.
/// The exception is a rule that would only be reported, in a last line that may be cut off.
#[inline]
pub fn admits(
    suppressed: &mut SuppressedRules,
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
        if !suppressed.released.contains(&text) {
            suppressed.released.push(text);
        }
        return true;
    }
    let counts = counts && !list.cut;
    let cut = match list.cut {
        true => ", and the file ends within its line: cut off?",
        false => "",
    };
    record(suppressed, (cover.protection(), counts), list.kept, || {
        LeftOut {
            line,
            rule: scope.notation(name),
            protection: cover.protection(),
            why: cover.described(name) + cut,
        }
    });
    counts
}

/// Records a rule that covers a protected name: as suppressed, or as reported if it counts.
pub(super) fn record(
    suppressed: &mut SuppressedRules,
    (protection, counts): (Protection, bool),
    kept: usize,
    rule: impl FnOnce() -> LeftOut,
) {
    if !counts {
        return leave_out(suppressed, protection, kept, rule);
    }
    suppressed.warned += 1;
    if suppressed.first_warned.len() < kept {
        suppressed.first_warned.push(rule());
    }
}

fn leave_out(
    suppressed: &mut SuppressedRules,
    protection: Protection,
    kept: usize,
    rule: impl FnOnce() -> LeftOut,
) {
    match suppressed
        .left_out
        .iter_mut()
        .find(|(known, _)| *known == protection)
    {
        Some((_, count)) => *count += 1,
        None => suppressed.left_out.push((protection, 1)),
    }
    if suppressed.first.len() < kept {
        suppressed.first.push(rule());
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
            let mut check = |text, scope| {
                admits(
                    &mut suppressed,
                    &protected_names,
                    few(Kind::Block),
                    &name(text),
                    scope,
                    line,
                )
            };
            assert!(!check("ac.id", Scope::Subtree));
            assert!(check("co.id", Scope::Below));
            assert!(check("ac.id", Scope::Exact));
        }
        assert!(!admits(
            &mut suppressed,
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
                let mut check = |text| {
                    admits(
                        &mut suppressed,
                        &protected_names,
                        few(kind),
                        &name(text),
                        Scope::Subtree,
                        line,
                    )
                };
                assert!(check("duckdns.org") && check("web.app"));
                assert_eq!(check("net.id"), kind == Kind::Allow);
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
