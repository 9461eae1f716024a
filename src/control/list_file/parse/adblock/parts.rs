//! The parts of a rewrite that exceptions leave. An exception has names, query types and further names that it leaves out;
//! a rule has one name and a condition. So a rewrite without the names and queries of an exception is several rules.

use std::collections::HashSet;

use crate::control::list_file::parse::adblock::mask::Mask;
use crate::policy::condition::TypeSet;
use crate::policy::patterns::{NameText, PatternSet};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// A part of the queries that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) names: Names,
    /// All types if `None`.
    pub(super) types: Option<TypeSet>,
    /// These names, and those below them, are not part of it.
    pub(super) except: Vec<Name>,
}

/// The names of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Of(Box<Name>, Scope),
    /// Those in which a regular expression is found.
    Regex(String),
}

/// The names of an exception.
pub(super) enum ExceptionNames {
    Of(Box<Name>, Scope),
    Regex(String, Box<PatternSet>),
}

/// The queries that an exception takes out of rewrites.
pub(super) struct TakenOut {
    pub(super) names: ExceptionNames,
    pub(super) types: Option<TypeSet>,
    pub(super) except: Vec<Name>,
}

impl Names {
    /// The names that a mask matches. `None` if it is about addresses. `name` is the name of the mask.
    pub(super) fn new(mask: &Mask, name: &Name) -> Option<Self> {
        Some(match mask {
            Mask::Name(scope) => Self::Of(name.clone().into(), *scope),
            Mask::Everything => Self::Of(Name::ROOT.into(), Scope::Subtree),
            Mask::Regex(regex) => Self::Regex(regex.clone()),
            Mask::Address(_) => return None,
        })
    }
}

impl TakenOut {
    pub(super) fn new(names: ExceptionNames, types: Option<TypeSet>, except: Vec<Name>) -> Self {
        let except = tops(except);
        Self {
            names,
            types,
            except,
        }
    }

    fn leaves_out(&self, name: &Name) -> bool {
        let mut except = self.except.iter();
        except.any(|except| Scope::Subtree.reaches(except, name))
    }
}

impl Part {
    pub(super) fn new(names: Names, types: Option<TypeSet>, except: Vec<Name>) -> Self {
        let except = tops(except);
        Self {
            names,
            types,
            except,
        }
    }

    /// Adds what an exception leaves of this part.
    pub(super) fn without(self, taken: &TakenOut, left: &mut Vec<Self>) {
        let (Some(hit), Some(types)) = (self.hit(&taken.names), both(&self.types, &taken.types))
        else {
            return left.push(self);
        };
        if let Hit::Names(name, _) = &hit
            && taken.leaves_out(name)
        {
            return left.push(self);
        }
        let other_types = taken.types.as_ref().and_then(|taken| {
            let others = Some(complement(taken));
            both(&self.types, &others)
        });
        if let Some(types) = other_types {
            left.push(Self {
                types,
                ..self.clone()
            });
        }
        let this = Self { types, ..self };
        // A pattern can't be limited to names.
        if let (Hit::Names(name, scope), Names::Of(..)) = (&hit, &this.names) {
            let excepted = taken.except.iter();
            let excepted = excepted.filter_map(|except| within((name, *scope), except));
            left.extend(excepted.filter_map(|(name, scope)| this.narrowed(name, scope)));
        }
        this.outside(hit, left);
    }

    /// The names of this part that an exception has, too. `None` if there are none.
    fn hit(&self, names: &ExceptionNames) -> Option<Hit> {
        let hit = match (&self.names, names) {
            (Names::Regex(own), ExceptionNames::Regex(regex, _)) => {
                return (own == regex).then_some(Hit::Everything);
            }
            (Names::Regex(_), ExceptionNames::Of(name, _)) => {
                Hit::Names(name.clone(), Scope::Subtree)
            }
            (Names::Of(own, scope), ExceptionNames::Of(name, taken)) => {
                let (name, scope) = common((own, *scope), (name, *taken))?;
                Hit::Names(name.into(), scope)
            }
            (Names::Of(own, scope), ExceptionNames::Regex(_, set)) => {
                let found = found_in(set, own)?;
                let (name, scope) = common((own, *scope), (own, found))?;
                Hit::Names(name.into(), scope)
            }
        };
        let is_left_out = match &hit {
            Hit::Names(name, _) => self.is_left_out(name),
            Hit::Everything => false,
        };
        (!is_left_out).then_some(hit)
    }

    fn is_left_out(&self, name: &Name) -> bool {
        let mut except = self.except.iter();
        except.any(|except| Scope::Subtree.reaches(except, name))
    }

    /// Adds the names of this part that are not among those of the hit.
    fn outside(mut self, hit: Hit, left: &mut Vec<Self>) {
        let Hit::Names(name, scope) = hit else {
            return;
        };
        let rest = match scope {
            Scope::Subtree => None,
            Scope::Exact => Some(Scope::Below),
            Scope::Below => Some(Scope::Exact),
        };
        let rest = match &self.names {
            Names::Of(own, own_scope) => rest.and_then(|rest| {
                let common = common((own, *own_scope), (&name, rest));
                common.and_then(|(name, scope)| self.narrowed(&name, scope))
            }),
            Names::Regex(_) => None,
        };
        left.extend(rest);
        if !matches!(&self.names, Names::Of(own, _) if *own == name) {
            self.except
                .retain(|except| !Scope::Subtree.reaches(&name, except));
            self.except.push(*name);
            left.push(self);
        }
    }

    /// The part with these of its names. `None` if they are left out.
    fn narrowed(&self, name: &Name, scope: Scope) -> Option<Self> {
        let except = self.except.iter();
        let except = except.filter(|except| scope.reaches(name, except));
        let part = Self {
            names: Names::Of(name.clone().into(), scope),
            types: self.types.clone(),
            except: except.cloned().collect(),
        };
        (!self.is_left_out(name)).then_some(part)
    }
}

/// The names of a part that an exception has, too.
enum Hit {
    Names(Box<Name>, Scope),
    Everything,
}

/// The names without those that are below others.
fn tops(mut names: Vec<Name>) -> Vec<Name> {
    names.sort_unstable();
    names.dedup();
    let known: HashSet<Box<[u8]>> = names.iter().map(|name| name.wire().into()).collect();
    names.retain(|name| {
        let mut above = 0..name.label_count();
        !above.any(|labels| known.contains(name.ancestor(labels)))
    });
    names
}

/// The names that both have.
fn common(
    (one, one_scope): (&Name, Scope),
    (other, other_scope): (&Name, Scope),
) -> Option<(Name, Scope)> {
    if one == other {
        let scope = match (one_scope, other_scope) {
            (Scope::Subtree, scope) | (scope, Scope::Subtree) => scope,
            (one, other) if one == other => one,
            _ => return None,
        };
        return Some((one.clone(), scope));
    }
    if one_scope.reaches(one, other) {
        return Some((other.clone(), other_scope));
    }
    (other_scope.reaches(other, one)).then(|| (one.clone(), one_scope))
}

/// The names that are among those of the first, and are the second or below it.
fn within<'n>((name, scope): (&'n Name, Scope), top: &'n Name) -> Option<(&'n Name, Scope)> {
    if Scope::Subtree.reaches(top, name) {
        return Some((name, scope));
    }
    scope.reaches(name, top).then_some((top, Scope::Subtree))
}

/// The scope of the names, of a name and those below it, in which a pattern is found. Of those below, all are assumed to
/// have it if two that no list has do, and otherwise none.
fn found_in(set: &PatternSet, name: &Name) -> Option<Scope> {
    let is_found = |name: &Name| set.find(&NameText::new(name)).is_some();
    let made_up = ["zq-7x", "k9_j.vw--3.zq-7x"].map(|labels| {
        let text = match name.label_count() {
            0 => labels.to_owned(),
            _ => format!("{labels}.{name}"),
        };
        Name::from_text(&text).ok()
    });
    // No name is below one that is too long.
    let below = made_up
        .iter()
        .all(|name| name.as_ref().is_none_or(is_found));
    match (is_found(name), below) {
        (true, true) => Some(Scope::Subtree),
        (true, false) => Some(Scope::Exact),
        (false, true) => Some(Scope::Below),
        (false, false) => None,
    }
}

/// The types in both sets, where `None` is all types. `None` if there are none.
fn both(one: &Option<TypeSet>, other: &Option<TypeSet>) -> Option<Option<TypeSet>> {
    let (one, other) = match (one, other) {
        (None, set) | (set, None) => return Some(set.clone()),
        (Some(one), Some(other)) => (one, other),
    };
    let types = |is_kept: fn(bool) -> bool, of: &TypeSet, other: &TypeSet| {
        let types = of.types().iter().copied();
        types
            .filter(|rtype| is_kept(other.types().contains(rtype)))
            .collect::<Vec<_>>()
    };
    let only = match (one, other) {
        (TypeSet::Only(_), TypeSet::Only(_)) => types(|is_in_other| is_in_other, one, other),
        (TypeSet::Only(_), TypeSet::AllBut(_)) => types(|is_in_other| !is_in_other, one, other),
        (TypeSet::AllBut(_), TypeSet::Only(_)) => types(|is_in_other| !is_in_other, other, one),
        (TypeSet::AllBut(one), TypeSet::AllBut(other)) => {
            let mut types = [&one[..], other].concat();
            types.sort_unstable();
            types.dedup();
            return Some(Some(TypeSet::AllBut(types.into())));
        }
    };
    (!only.is_empty()).then(|| Some(TypeSet::Only(only.into())))
}

fn complement(types: &TypeSet) -> TypeSet {
    match types {
        TypeSet::Only(types) => TypeSet::AllBut(types.clone()),
        TypeSet::AllBut(types) => TypeSet::Only(types.clone()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 7] = ["", "a", "b.a", "c.b.a", "d.c.b.a", "e.b.a", "f"];

    fn name() -> impl Strategy<Value = Name> {
        let text = prop::sample::select(NAMES.to_vec());
        text.prop_map(|text| match text {
            "" => Name::ROOT,
            _ => Name::from_text(text).expect("a name"),
        })
    }

    fn scope() -> impl Strategy<Value = Scope> {
        prop::sample::select(vec![Scope::Exact, Scope::Below, Scope::Subtree])
    }

    fn types() -> impl Strategy<Value = Option<TypeSet>> {
        let types = prop::collection::vec(1_u16..4, 1..3);
        let sets = (types, any::<bool>()).prop_map(|(mut types, is_only)| {
            types.sort_unstable();
            types.dedup();
            match is_only {
                true => TypeSet::Only(types.into()),
                false => TypeSet::AllBut(types.into()),
            }
        });
        prop::option::of(sets)
    }

    /// Names with a scope, types, and names that are left out.
    type Queries = ((Name, Scope), Option<TypeSet>, Vec<Name>);

    fn queries() -> impl Strategy<Value = Queries> {
        let except = prop::collection::vec(name(), 0..3);
        ((name(), scope()), types(), except)
    }

    fn has(((owner, scope), types, except): &Queries, name: &Name, rtype: u16) -> bool {
        let is_left_out = |except: &Name| Scope::Subtree.reaches(except, name);
        scope.reaches(owner, name)
            && types.as_ref().is_none_or(|types| types.contains(rtype))
            && !except.iter().any(is_left_out)
    }

    fn part_has(part: &Part, name: &Name, rtype: u16) -> bool {
        let names = match &part.names {
            Names::Of(owner, scope) => ((**owner).clone(), *scope),
            // All names of the model contain what it looks for.
            Names::Regex(_) => (Name::ROOT, Scope::Subtree),
        };
        let queries = (names, part.types.clone(), part.except.clone());
        has(&queries, name, rtype)
    }

    /// The parts of a rewrite that exceptions leave.
    fn left(rewrite: Part, exceptions: &[Queries]) -> Vec<Part> {
        let mut parts = vec![rewrite];
        for ((owner, scope), types, except) in exceptions.iter().cloned() {
            let names = ExceptionNames::Of(owner.into(), scope);
            let taken = TakenOut::new(names, types, except);
            let mut left = Vec::new();
            parts
                .into_iter()
                .for_each(|part| part.without(&taken, &mut left));
            parts = left;
        }
        parts
    }

    /// The queries that an exception takes out of a rewrite with a pattern: all below its name, or none.
    fn widened(((owner, _), types, except): Queries) -> Queries {
        let takes_none = except
            .iter()
            .any(|except| Scope::Subtree.reaches(except, &owner));
        let except = if takes_none {
            vec![owner.clone()]
        } else {
            Vec::new()
        };
        ((owner, Scope::Subtree), types, except)
    }

    proptest! {
        #[test]
        fn the_parts_have_the_queries_of_the_rewrite_without_those_of_the_exceptions(
            rewrite in queries(),
            exceptions in prop::collection::vec(queries(), 1..4),
            (name, rtype) in (name(), 1_u16..5),
        ) {
            let ((owner, scope), types, except) = rewrite.clone();
            let whole = Part::new(Names::Of(owner.into(), scope), types, except);
            let parts = left(whole, &exceptions);
            let is_taken = exceptions.iter().any(|exception| has(exception, &name, rtype));
            let expected = has(&rewrite, &name, rtype) && !is_taken;
            let found = parts.iter().any(|part| part_has(part, &name, rtype));
            prop_assert_eq!(found, expected, "{:?}", parts);
        }

        #[test]
        fn the_parts_of_a_rewrite_with_a_pattern_have_this_pattern(
            types in types(),
            exceptions in prop::collection::vec(queries(), 1..4),
            (name, rtype) in (name(), 1_u16..5),
        ) {
            let names = Names::Regex("^".to_owned());
            let rewrite = ((Name::ROOT, Scope::Subtree), types.clone(), Vec::new());
            let parts = left(Part::new(names.clone(), types, Vec::new()), &exceptions);
            prop_assert!(parts.iter().all(|part| part.names == names), "{:?}", parts);
            let mut widened = exceptions.into_iter().map(widened);
            let is_taken = widened.any(|exception| has(&exception, &name, rtype));
            let expected = has(&rewrite, &name, rtype) && !is_taken;
            let found = parts.iter().any(|part| part_has(part, &name, rtype));
            prop_assert_eq!(found, expected, "{:?}", parts);
        }
    }
}
