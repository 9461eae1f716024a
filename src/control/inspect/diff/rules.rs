//! Finds the rules of lists that differ between two pairs of images.

use std::collections::BTreeMap;

use super::{Change, CountsBySource};
use crate::policy::image::Image;
use crate::policy::image::path::Path;
use crate::policy::image::walk::Position;
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

/// A name on which a list has different rules.
#[derive(Debug)]
pub struct RuleDifference<'r> {
    /// Whether the list has rules on the name only in the new policy, only in the old one, or in both.
    pub change: Change,
    /// The name.
    pub name: &'r Name,
    /// The list.
    pub list: &'r str,
    /// The scopes of its rules in the old policy.
    pub old: Scopes,
    /// The scopes of its rules in the new policy.
    pub new: Scopes,
}

/// Compares the rules list by list, calls `report` with each difference, and returns their numbers by list.
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
    let mut differs = |name: &Name, list: &str, old: Scopes, new: Scopes| {
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
    old.for_each_name(|name, list, scopes| {
        let now = new.scopes(name, list);
        match now == scopes {
            true => Ok(()),
            false => differs(name, list, scopes, now),
        }
    })?;
    new.for_each_name(|name, list, scopes| {
        let before = old.scopes(name, list);
        match before.is_empty() {
            true => differs(name, list, before, scopes),
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
    /// The scopes of a list's rules on exactly this name.
    fn scopes(&self, name: &Name, list: &str) -> Scopes {
        let found = self.images.find(list);
        found.map_or(Scopes::default(), |(image, _)| scopes_in(image, name, list))
    }

    /// Calls `each` once for every list and every name that it has rules on.
    fn for_each_name<E>(
        &self,
        mut each: impl FnMut(&Name, &str, Scopes) -> Result<(), E>,
    ) -> Result<(), E> {
        let images = [&self.images.base, &self.images.delta];
        for image in images.into_iter().flatten() {
            let sources = &image.provenance().sources;
            let lists = sources.iter().map(|source| &*source.name);
            let lists = lists.map(|list| self.images.is_in(image, list).then_some(list));
            let lists: Vec<_> = lists.collect();
            let mut cursor = image.cursor();
            while cursor.advance() {
                let mut scopes = BTreeMap::<u16, Scopes>::new();
                for rule in cursor.rules() {
                    let source = image.source_of(rule);
                    scopes.entry(source).or_default().insert(rule.scope);
                }
                let name = Path::of(cursor.path()).to_name();
                for (source, scopes) in scopes {
                    if let Some(list) = lists[usize::from(source)] {
                        each(&name, list, scopes)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The scopes of a list's rules on exactly this name in one image.
fn scopes_in(image: &Image, name: &Name, list: &str) -> Scopes {
    let mut found = None;
    image.walk(&[name], |_, position, _, value| {
        if position == Position::At {
            found = Some(value);
        }
    });
    let mut scopes = Scopes::default();
    let sources = &image.provenance().sources;
    for rule in found.iter().flat_map(|value| image.value(*value).rules()) {
        if sources[usize::from(image.source_of(rule))].name == list {
            scopes.insert(rule.scope);
        }
    }
    scopes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::sync::Arc;

    use super::*;
    use crate::policy::builder::Builder;

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
}
