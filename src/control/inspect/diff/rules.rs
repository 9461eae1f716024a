//! Finds the rules of lists that differ between two pairs of images.

use std::sync::Arc;

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
        if self.images.gone.contains(list) {
            return Scopes::default();
        }
        let (mut scopes, mut replaces_base) = (Scopes::default(), false);
        if let Some(delta) = &self.images.delta {
            let sources = &delta.provenance().sources;
            replaces_base = sources
                .iter()
                .any(|source| source.name == list && source.whole);
            scopes = scopes_in(delta, name, list);
        }
        match &self.images.base {
            Some(base) if !replaces_base => Scopes(scopes.0 | scopes_in(base, name, list).0),
            _ => scopes,
        }
    }

    /// Calls `each` once for every list and every name that it has rules on.
    fn for_each_name<E>(
        &self,
        mut each: impl FnMut(&Name, &str, Scopes) -> Result<(), E>,
    ) -> Result<(), E> {
        for image in [&self.images.base, &self.images.delta]
            .into_iter()
            .flatten()
        {
            let base = self
                .images
                .base
                .as_ref()
                .filter(|base| !Arc::ptr_eq(base, image));
            let mut cursor = image.cursor();
            while cursor.advance() {
                let name = Path::of(cursor.path()).to_name();
                let mut sources: Vec<_> =
                    cursor.rules().map(|rule| image.source_of(rule)).collect();
                sources.sort_unstable();
                sources.dedup();
                for source in sources {
                    let source = &image.provenance().sources[usize::from(source)];
                    // `each` was called already for names on which the list has rules in the base.
                    let is_in_base =
                        base.is_some_and(|base| !scopes_in(base, &name, &source.name).is_empty());
                    let scopes = self.scopes(&name, &source.name);
                    if !scopes.is_empty() && !is_in_base {
                        each(&name, &source.name, scopes)?;
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
