//! Decides which rules of a list the protected names suppress, and records why.

use domain::base::iana::Rtype;

use crate::control::guard::protected::{Guarded, ProtectedNames, Protection};
use crate::control::list_file::parse::{ParsedRule, ParsedTrigger};
use crate::control::list_file::suppressed::{LeftOut, SuppressedRules};
use crate::policy::condition::TypeSet;
use crate::policy::effect::Effect;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Whether a rule applies; otherwise it is recorded as suppressed. Rules of an allow list block nothing, so they apply, and
/// so do rules that allow names. The exception is a rule that would only be reported, in a last line that may be cut off.
///
/// Names that the condition of a rule leaves out are not covered. A rule for some types of queries is checked like one for
/// all. Rules with patterns are checked by `guard::patterns`.
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
    let condition = rule.effect.and_then(|effect| effect.condition.as_deref());
    let Some((cover, counts)) = protected_names.check_where(name, scope, list, condition) else {
        return true;
    };
    if protected_names.releases(name) {
        note_release(suppressed, name);
        return true;
    }
    let counts = counts && !list.cut;
    let cut = match list.cut {
        true => ", and the file ends within its line: cut off?",
        false => "",
    };
    record(suppressed, (cover.protection(), counts), list.kept, || {
        LeftOut {
            line: rule.line,
            rule: match (scope, name.label_count()) {
                (Scope::Subtree, 0) => "*".to_owned(),
                _ => scope.notation(name),
            },
            protection: cover.protection(),
            why: cover.described(name) + &queries(rule.effect) + cut,
        }
    });
    counts
}

/// Records that a release is needed.
pub(super) fn note_release(suppressed: &mut SuppressedRules, name: &Name) {
    let text = name.to_string();
    if !suppressed.released.contains(&text) {
        suppressed.released.push(text);
    }
}

/// The types of queries that a rule is limited to, in words that follow what it covers.
pub(super) fn queries(effect: Option<&Effect>) -> String {
    let condition = effect.and_then(|effect| effect.condition.as_ref());
    let Some(types) = condition.and_then(|condition| condition.types()) else {
        return String::new();
    };
    let named = types.types().iter();
    let named: Vec<_> = named
        .map(|code| Rtype::from_int(*code).to_string())
        .collect();
    let but = match types {
        TypeSet::Only(_) => "",
        TypeSet::AllBut(_) => "all types but ",
    };
    format!(", in queries for {but}{}", named.join(", "))
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

    fn rule(name: &Name, scope: Scope, line: u32) -> ParsedRule<'_> {
        ParsedRule {
            trigger: ParsedTrigger::Name(name, scope),
            effect: None,
            line,
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
                let (name, list) = (name(text), few(Kind::Block));
                let rule = rule(&name, scope, line);
                admits_rule(&mut suppressed, &protected_names, list, rule)
            };
            assert!(!check("ac.id", Scope::Subtree));
            assert!(check("co.id", Scope::Below));
            assert!(check("ac.id", Scope::Exact));
        }
        let number = name("1.2");
        let number = rule(&number, Scope::Exact, 13);
        let list = few(Kind::Block);
        assert!(!admits_rule(
            &mut suppressed,
            &protected_names,
            list,
            number
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
                    let name = name(text);
                    let rule = rule(&name, Scope::Subtree, line);
                    admits_rule(&mut suppressed, &protected_names, few(kind), rule)
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
