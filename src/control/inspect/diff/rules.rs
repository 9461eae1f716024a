//! Finds the rules on names that differ between two pairs of images, list by list.

use std::collections::BTreeMap;

use super::{Change, CountsBySource};
use crate::policy::effect::Effect;
use crate::policy::image::path::Path;
use crate::policy::images::Images;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// The scopes of a list's rules on one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    fn insert(&mut self, scope: Scope) {
        self.0 |= Self::bit(scope);
    }

    /// Whether there is no rule.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, in the order in which they are printed.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        let all = [Scope::Exact, Scope::Subtree, Scope::Below];
        all.into_iter()
            .filter(move |scope| self.0 & Self::bit(*scope) != 0)
    }

    fn bit(scope: Scope) -> u8 {
        match scope {
            Scope::Exact => 1,
            Scope::Below => 2,
            Scope::Subtree => 4,
        }
    }
}

/// The rules of a list on one name.
#[derive(Debug, Default, PartialEq, Eq)]
struct NameRules {
    scopes: Scopes,
    /// The scopes of rules with the default effect.
    default: Scopes,
    /// The scopes of the other rules, and their effects, sorted.
    effects: Vec<(u8, Effect)>,
}

impl NameRules {
    fn insert(&mut self, scope: Scope, effect: &Effect) {
        self.scopes.insert(scope);
        match effect.is_default() {
            true => self.default.insert(scope),
            false => {
                self.effects.push((Scopes::bit(scope), effect.clone()));
                self.effects.sort_unstable();
            }
        }
    }
}

/// A name on which a list has different rules.
#[derive(Debug)]
pub struct RuleDifference<'r> {
    /// Whether the list has rules on the name only in the new policy, only in the old one, or in both.
    pub change: Change,
    /// The name.
    pub name: &'r Name,
    /// The list.
    pub list: &'r str,
    /// The scopes of its rules in the old policy. If they are the same in both, the effects differ.
    pub old: Scopes,
    /// The scopes of its rules in the new policy.
    pub new: Scopes,
}

/// Compares the rules on names list by list, with their effects. Calls `report` with each difference, and returns the
/// number of differences by list.
///
/// # Errors
/// Those of `report`.
pub fn compare<E>(
    old: Images,
    new: Images,
    mut report: impl FnMut(&RuleDifference<'_>) -> Result<(), E>,
) -> Result<CountsBySource, E> {
    let (old, new) = (ListRules { images: old }, ListRules { images: new });
    let mut counts = CountsBySource::new();
    let mut differs = |name: &Name, list: &str, old: &NameRules, new: &NameRules| {
        let (old, new) = (old.scopes, new.scopes);
        let change = match (old.is_empty(), new.is_empty()) {
            (true, _) => Change::Added,
            (_, true) => Change::Removed,
            _ => Change::Changed,
        };
        counts.entry(list.to_owned()).or_default().add(change);
        report(&RuleDifference {
            change,
            name,
            list,
            old,
            new,
        })
    };
    old.for_each_name(|name, list, rules| {
        let now = new.on_name(name, list);
        match now == *rules {
            true => Ok(()),
            false => differs(name, list, rules, &now),
        }
    })?;
    new.for_each_name(|name, list, rules| {
        let before = old.on_name(name, list);
        match before.scopes.is_empty() {
            true => differs(name, list, &before, rules),
            false => Ok(()),
        }
    })?;
    Ok(counts)
}

/// The rules of all lists of one policy.
struct ListRules {
    images: Images,
}

impl ListRules {
    /// The rules of a list on exactly this name.
    fn on_name(&self, name: &Name, list: &str) -> NameRules {
        let mut rules = NameRules::default();
        for rule in self.images.rules_on(name, list) {
            rules.insert(rule.scope, rule.effect);
        }
        rules
    }

    /// Calls `each` once for every list and every name that it has rules on.
    fn for_each_name<E>(
        &self,
        mut each: impl FnMut(&Name, &str, &NameRules) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut cursor = self.images.rule_cursor(|_| true);
        while cursor.advance() {
            let mut rules = BTreeMap::<&str, NameRules>::new();
            for rule in cursor.rules() {
                let rules = rules.entry(rule.list).or_default();
                rules.insert(rule.scope, rule.effect);
            }
            let name = Path::of(cursor.path()).to_name();
            for (list, rules) in rules {
                each(&name, list, &rules)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::sync::Arc;

    use super::*;
    use crate::policy::builder::Builder;
    use crate::policy::image::Image;

    fn image(lists: &[(&str, &[(&str, Scope)])]) -> Option<Arc<Image>> {
        let mut builder = Builder::new();
        for (list, rules) in lists {
            let rules = rules.iter().map(|(name, scope)| {
                let name = Name::from_text(name).expect("a name");
                (name, *scope)
            });
            let rules: Vec<_> = rules.collect();
            let rules = rules.iter().map(|(name, scope)| (name, *scope));
            builder.list(list, rules).expect("room");
        }
        Some(Arc::new(builder.finish().expect("room")))
    }

    #[test]
    fn rules_in_the_base_of_a_list_that_the_delta_has_or_that_is_removed_do_not_count() {
        use Scope::{Below, Exact, Subtree};
        let base: &[(&str, &[(&str, Scope)])] = &[
            ("moved", &[("a.example", Exact), ("b.example", Exact)]),
            ("emptied", &[("a.example", Exact)]),
            ("gone", &[("a.example", Exact)]),
            ("stays", &[("a.example", Exact), ("b.example", Below)]),
        ];
        let old = Images {
            base: image(base),
            ..Images::default()
        };
        let delta: &[(&str, &[(&str, Scope)])] = &[
            ("moved", &[("a.example", Subtree), ("c.example", Exact)]),
            ("emptied", &[]),
        ];
        let new = Images {
            delta: image(delta),
            ..old.clone()
        };
        let new = new.with_lists(|list| list != "gone");
        let differences = |old: &Images, new: &Images| {
            let mut found = BTreeSet::new();
            let counts = compare(old.clone(), new.clone(), |difference| {
                let RuleDifference {
                    name, list, change, ..
                } = difference;
                let scopes = [difference.old, difference.new].map(|scopes| scopes.0);
                let is_first = found.insert(format!("{list} {name} {change:?} {scopes:?}"));
                assert!(is_first, "{list} {name} is reported once");
                Ok::<_, Infallible>(())
            });
            let Ok(_) = counts;
            found
        };
        let forth = [
            "emptied a.example Removed [1, 0]",
            "gone a.example Removed [1, 0]",
            "moved a.example Changed [1, 4]",
            "moved b.example Removed [1, 0]",
            "moved c.example Added [0, 1]",
        ];
        assert!(differences(&old, &new).iter().eq(&forth));
        let back = [
            "emptied a.example Added [0, 1]",
            "gone a.example Added [0, 1]",
            "moved a.example Changed [4, 1]",
            "moved b.example Added [0, 1]",
            "moved c.example Removed [1, 0]",
        ];
        assert!(differences(&new, &old).iter().eq(&back));
        let all = [
            "moved a.example Removed [4, 0]",
            "moved c.example Removed [1, 0]",
            "stays a.example Removed [1, 0]",
            "stays b.example Removed [2, 0]",
        ];
        assert!(differences(&new, &Images::default()).iter().eq(&all));
    }

    #[test]
    fn of_a_list_that_the_delta_amends_only_the_amendments_differ() {
        use crate::policy::image::provenance::ImageSource;
        let names = ["a.example", "b.example", "c.example"];
        let rules = names.map(|name| (name, Scope::Exact));
        let old = Images {
            base: image(&[("zone", &rules)]),
            ..Images::default()
        };
        let mut delta = Builder::new();
        let source = ImageSource {
            amends: true,
            ..ImageSource::named("zone")
        };
        delta.source(source).expect("room");
        for text in ["a.example", "b.example", "new.example"] {
            let name = Name::from_text(text).expect("a name");
            let path = Path::from(&name);
            delta.amend(path.as_bytes(), 0).expect("room");
            if text != "a.example" {
                delta.insert(&name, 0, Scope::Exact).expect("room");
            }
        }
        let new = Images {
            delta: Some(Arc::new(delta.finish().expect("room"))),
            ..old.clone()
        };
        let mut found = BTreeSet::new();
        let Ok(_) = compare(old, new, |difference| {
            found.insert(format!("{:?} {}", difference.change, difference.name));
            Ok::<_, Infallible>(())
        });
        let expected = ["Added new.example", "Removed a.example"];
        assert!(found.iter().eq(&expected), "{found:?}");
    }

    #[test]
    fn rules_of_equal_scopes_with_other_effects_differ() {
        use crate::policy::effect::EffectAction;
        let allow = Effect {
            action: EffectAction::Allow,
            ..Effect::default()
        };
        let images = |effects: &[&Effect]| -> Images {
            let mut builder = Builder::new();
            let name = Name::from_text("a.example").expect("a name");
            builder.list("ads", []).expect("room");
            for effect in effects {
                let added = builder.insert_effect(&name, 0, Scope::Exact, effect);
                added.expect("room");
            }
            Arc::new(builder.finish().expect("room")).into()
        };
        let default = Effect::default();
        let counts = |old: &[&Effect], new: &[&Effect]| {
            let report = |difference: &RuleDifference<'_>| {
                assert_eq!(difference.old, difference.new);
                Ok::<_, Infallible>(())
            };
            let Ok(counts) = compare(images(old), images(new), report);
            counts.get("ads").map_or(0, |counts| counts.changed)
        };
        assert_eq!(counts(&[&default], &[&allow]), 1);
        assert_eq!(counts(&[&default, &allow], &[&allow]), 1);
        assert_eq!(counts(&[&default, &allow], &[&allow, &default]), 0);
    }
}
