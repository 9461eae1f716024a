//! Conditions: the queries to which a rule applies, among those that its trigger matches.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::name::Name;
use crate::wire::presentation::TypeText;
use crate::wire::rtype;

/// The most types that a condition can list. Lists in use name up to a dozen.
pub const MAX_TYPES: usize = 64;
/// The most names that a condition can leave out. Each takes some 300 bytes of memory, and a hostile list could have many.
pub const MAX_EXCEPT: usize = 1_000;

/// Limits a rule to some of the queries that its trigger matches. Where it does not hold, the rule does not match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    types: Option<TypeSet>,
    /// Sorted.
    #[serde(default, skip_serializing_if = "<[Name]>::is_empty")]
    except: Box<[Name]>,
}

/// A text that follows that of a rule: `for queries of type A`, `for queries of types other than A, except names below
/// x.example`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, types: &[u16]| {
            types.iter().enumerate().try_for_each(|(index, number)| {
                let separator = if index == 0 { " " } else { ", " };
                write!(f, "{separator}{}", TypeText(*number))
            })
        };
        match &self.types {
            Some(TypeSet::Only(types)) => {
                f.write_str("for queries of type")?;
                list(f, types)?;
            }
            Some(TypeSet::AllBut(types)) => {
                f.write_str("for queries of types other than")?;
                list(f, types)?;
            }
            None => f.write_str("for queries of all types")?,
        }
        for (index, name) in self.except.iter().enumerate() {
            let start = if index == 0 { ", but not for " } else { ", " };
            write!(f, "{start}.{name}")?;
        }
        Ok(())
    }
}

/// A set of query types, sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TypeSet {
    /// These types.
    Only(Box<[u16]>),
    /// All types but these.
    AllBut(Box<[u16]>),
}

/// A reason why a rule can't have a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// It holds for all queries, or for none.
    #[error(
        "its condition lists neither query types nor names: list some, or remove the condition"
    )]
    Empty,
    /// It lists too many types.
    #[error("its condition lists {count} query types; list at most {MAX_TYPES}")]
    Types {
        /// The number of types.
        count: usize,
    },
    /// It leaves out too many names.
    #[error(
        "its condition leaves out {count} names; list at most {MAX_EXCEPT}, or write exact rules that allow the names"
    )]
    Except {
        /// The number of names.
        count: usize,
    },
    /// It was not made by [`Condition::new`].
    #[error("its condition is not sorted: this is a bug; please report it")]
    Unsorted,
}

impl TypeSet {
    /// The types that it lists, as those in it or those left out.
    pub fn types(&self) -> &[u16] {
        match self {
            Self::Only(types) | Self::AllBut(types) => types,
        }
    }

    fn sorted(self) -> Self {
        let sort = |types: Box<[u16]>| {
            let mut types = types.into_vec();
            types.sort_unstable();
            types.dedup();
            types.into()
        };
        match self {
            Self::Only(types) => Self::Only(sort(types)),
            Self::AllBut(types) => Self::AllBut(sort(types)),
        }
    }

    /// Whether the set has the type of a query. A query of type ANY asks for records of all types, so each set has it that
    /// does not leave it out by its number.
    pub fn contains(&self, qtype: u16) -> bool {
        let is_listed = self.types().binary_search(&qtype).is_ok();
        match self {
            Self::Only(_) => is_listed || qtype == rtype::ANY,
            Self::AllBut(_) => !is_listed,
        }
    }
}

impl Condition {
    /// The condition that the type of the query is in a set, and that the name is none of `except` nor below one of them.
    ///
    /// # Errors
    /// If it would be empty or too large.
    pub fn new(
        types: Option<TypeSet>,
        except: impl IntoIterator<Item = Name>,
    ) -> Result<Self, ConditionError> {
        let mut except: Vec<_> = except.into_iter().collect();
        except.sort_unstable();
        except.dedup();
        let condition = Self {
            types: types.map(TypeSet::sorted),
            except: except.into(),
        };
        condition.check().map(|()| condition)
    }

    /// The types of queries for which it holds; all if `None`.
    pub fn types(&self) -> Option<&TypeSet> {
        self.types.as_ref()
    }

    /// The names for which it does not hold, nor for names below them.
    pub fn except(&self) -> &[Name] {
        &self.except
    }

    /// Whether it holds for a name, given the type of the query.
    pub fn holds(&self, name: &Name, qtype: u16) -> bool {
        let is_type = self
            .types
            .as_ref()
            .is_none_or(|types| types.contains(qtype));
        is_type && self.left_out_by(name).is_none()
    }

    /// The name that leaves out `name`: one for which the condition does not hold, and that is equal or above.
    pub fn left_out_by(&self, name: &Name) -> Option<&Name> {
        if self.except.is_empty() {
            return None;
        }
        // At most one search for each label of the name, however many names there are.
        (0..=name.label_count()).find_map(|labels| {
            let ancestor = name.ancestor(labels);
            let except = &self.except;
            let at = except.binary_search_by(|except| except.wire().cmp(ancestor));
            at.ok().map(|at| &except[at])
        })
    }

    /// The bytes of memory that it takes.
    pub(super) fn size(&self) -> usize {
        let types = self
            .types
            .as_ref()
            .map_or(0, |types| size_of_val(types.types()));
        size_of::<Self>() + types + size_of_val(&self.except[..])
    }

    pub(super) fn check(&self) -> Result<(), ConditionError> {
        let types = self.types.as_ref().map(TypeSet::types);
        if types.is_some_and(<[u16]>::is_empty) || types.is_none() && self.except.is_empty() {
            return Err(ConditionError::Empty);
        }
        let types = types.unwrap_or_default();
        if types.len() > MAX_TYPES {
            return Err(ConditionError::Types { count: types.len() });
        }
        if self.except.len() > MAX_EXCEPT {
            let count = self.except.len();
            return Err(ConditionError::Except { count });
        }
        let is_sorted = types.is_sorted_by(|one, next| one < next)
            && self.except.is_sorted_by(|one, next| one < next);
        match is_sorted {
            true => Ok(()),
            false => Err(ConditionError::Unsorted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    fn only(types: &[u16]) -> TypeSet {
        TypeSet::Only(types.into())
    }

    #[test]
    fn a_condition_holds_for_its_types_and_for_names_that_it_does_not_leave_out() {
        let except = [name("b.test"), name("a.b.c"), name("b.test")];
        let types = only(&[rtype::AAAA, rtype::A, rtype::AAAA]);
        let condition = Condition::new(Some(types), except).expect("small");
        for (text, qtype, expected) in [
            ("test", rtype::A, true),
            ("test", rtype::AAAA, true),
            ("test", rtype::TXT, false),
            ("test", rtype::ANY, true),
            ("b.test", rtype::A, false),
            ("x.b.test", rtype::ANY, false),
            ("xb.test", rtype::A, true),
            ("b.c", rtype::A, true),
            ("x.a.b.c", rtype::A, false),
            (".", rtype::A, true),
        ] {
            assert_eq!(
                condition.holds(&name(text), qtype),
                expected,
                "{text} {qtype}"
            );
        }
    }

    #[test]
    fn a_condition_on_all_types_but_some_holds_for_any_unless_any_is_among_them() {
        let all_but = |types: &[u16]| {
            let types = TypeSet::AllBut(types.into());
            Condition::new(Some(types), []).expect("small")
        };
        let root = Name::ROOT;
        assert!(all_but(&[rtype::A]).holds(&root, rtype::ANY));
        assert!(!all_but(&[rtype::ANY, rtype::A]).holds(&root, rtype::ANY));
        assert!(!all_but(&[rtype::A]).holds(&root, rtype::A));
    }

    #[test]
    fn a_condition_that_is_empty_or_too_large_is_an_error() {
        let many = |count: u16| Some(TypeSet::AllBut((0..count).collect()));
        let names = |count: usize| (0..count).map(|number| name(&format!("x{number}.test")));
        let new = |types, names| Condition::new(types, names).err();
        assert_eq!(new(None, names(0)), Some(ConditionError::Empty));
        assert_eq!(new(many(0), names(1)), Some(ConditionError::Empty));
        assert_eq!(new(many(64), names(MAX_EXCEPT)), None);
        let count = MAX_TYPES + 1;
        assert_eq!(
            new(many(65), names(0)),
            Some(ConditionError::Types { count })
        );
        let count = MAX_EXCEPT + 1;
        assert_eq!(
            new(None, names(count)),
            Some(ConditionError::Except { count })
        );
    }

    #[test]
    fn a_condition_is_stored_as_readable_text() {
        let condition = Condition::new(Some(only(&[28, 1])), [name("a.test")]).expect("small");
        let text = serde_json::to_string(&condition).expect("it has a JSON form");
        assert_eq!(text, r#"{"types":{"only":[1,28]},"except":["a.test"]}"#);
        assert_eq!(
            serde_json::from_str::<Condition>(&text).expect("valid"),
            condition
        );
        let unsorted = r#"{"types":{"all-but":[28,1]}}"#;
        let unsorted: Condition = serde_json::from_str(unsorted).expect("valid");
        assert_eq!(unsorted.check(), Err(ConditionError::Unsorted));
    }
}
