//! The images that rules are carried over from: a base, and a delta over it.

use std::path::Path;
use std::sync::Arc;

use super::error::CompileError;
use super::merge::{self, Carried};
use super::plan::Plan;
use crate::config::regular::Unread;
use crate::control::persist::store::{ImageFileError, read_image};
use crate::policy::effect::Effect;
use crate::policy::image::clauses::{Clause, ClausesBuilder};
use crate::policy::image::cursor::Cursor;
use crate::policy::image::path::{Key, Path as NamePath, labels};
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::text::PairHistogram;
use crate::policy::image::triggers::Triggers;
use crate::policy::image::values::ImageRule;
use crate::policy::image::{Image, ImageError, TooLarge};
use crate::policy::images::Images;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// The images that were in force before.
pub(super) struct Old(Images);

impl Old {
    /// Reads the images of the plan.
    pub(super) fn open(plan: &Plan) -> Result<Self, CompileError> {
        Ok(Self(Images {
            base: open(plan.base.as_deref())?,
            delta: open(plan.delta.as_deref())?,
            ..Images::default()
        }))
    }

    /// The key that all paths are sorted by. It is that of the base, whose paths are then sorted already.
    pub(super) fn key(&self) -> Key {
        let base = self.0.base.as_ref();
        base.map_or_else(Key::random, |base| base.key().clone())
    }

    /// The pair histogram of the base.
    pub(super) fn pair_histogram(&self) -> PairHistogram {
        let base = self.0.base.as_ref();
        base.map(|base| base.pair_histogram()).unwrap_or_default()
    }

    /// The source with this name in the image that has its rules.
    pub(super) fn source(&self, name: &str) -> Option<&ImageSource> {
        self.0.find(name).map(|(_, source)| source)
    }

    /// The rules in the base of the lists that are carried over, except lists that the delta replaces. `number` returns the
    /// new number of a list that is carried over, and `None` for any other list. Adds the clauses of the rules to
    /// `clauses`. Returns `None` if there are no such rules.
    ///
    /// # Errors
    /// If there are too many clauses.
    pub(super) fn carried(
        &self,
        number: impl Fn(&str) -> Option<u16>,
        clauses: &mut ClausesBuilder,
    ) -> Result<Option<Carried<Cursor<&Image>>>, TooLarge> {
        let Some(base) = &self.0.base else {
            return Ok(None);
        };
        let mut number = |name: &str| number(name).filter(|_| self.0.is_in_base(name));
        let clauses = carry_clauses(base, &mut number, clauses)?;
        // A base without such rules is not read at all.
        let is_needed = clauses.iter().any(Option::is_some);
        Ok(is_needed.then(|| Carried {
            cursor: base.cursor(),
            clauses,
        }))
    }

    /// The rules on networks and patterns of the lists for which `number` returns a number, each list from the image that has
    /// it. Their clauses are added to `clauses`.
    ///
    /// # Errors
    /// If there are too many clauses or rules.
    pub(super) fn carried_triggers(
        &self,
        number: impl Fn(&str) -> Option<u16>,
        clauses: &mut ClausesBuilder,
    ) -> Result<Triggers, TooLarge> {
        let mut triggers = Triggers::default();
        for image in [&self.0.base, &self.0.delta].into_iter().flatten() {
            let mut number = |name: &str| number(name).filter(|_| self.0.is_in(image, name));
            let numbers = carry_clauses(image, &mut number, clauses)?;
            triggers.carry(image.triggers(), |clause| {
                Ok(numbers.get(clause as usize).copied().flatten())
            })?;
        }
        Ok(triggers)
    }

    /// The new number of each clause of the delta, and the number of its list's default clause for a mark. `number` returns the new number of a list; if it returns `None`, the
    /// clauses of that list get no number. All other clauses are added to `clauses`.
    ///
    /// # Errors
    /// If there are too many clauses.
    pub(super) fn delta_clauses(
        &self,
        mut number: impl FnMut(&str) -> Option<u16>,
        clauses: &mut ClausesBuilder,
    ) -> Result<Vec<Option<u32>>, TooLarge> {
        match &self.0.delta {
            Some(delta) => carry_clauses(delta, &mut number, clauses),
            None => Ok(Vec::new()),
        }
    }

    /// Calls `each` with the delta's rules whose clauses have a new number in `numbers`, in the form in which they are
    /// sorted. They are not sorted by the base's key. Returns the damage of the delta, if there is any.
    pub(super) fn changes<E>(
        &self,
        numbers: &[Option<u32>],
        mut each: impl FnMut(&Name, u32) -> Result<(), E>,
    ) -> Result<Option<ImageError>, E> {
        let Some(delta) = &self.0.delta else {
            return Ok(None);
        };
        let mut cursor = delta.cursor();
        while cursor.advance() {
            let mut path = NamePath::ROOT;
            for label in labels(cursor.path()) {
                path.push(label);
            }
            let name = path.to_name();
            for rule in cursor.rules() {
                let clause = numbers.get(rule.clause as usize).copied().flatten();
                if let Some(clause) = clause {
                    let change = match (delta.clauses().is_void(rule.clause), rule.scope) {
                        (true, Scope::Exact) => merge::void(clause),
                        // The names below have marks of their own.
                        (true, _) => continue,
                        (false, _) => merge::change(ImageRule { clause, ..rule }),
                    };
                    each(&name, change)?;
                }
            }
        }
        Ok(cursor.damage())
    }
}

/// Adds the clauses of an image that belong to lists for which `number` returns a number. Returns the new number of each.
fn carry_clauses(
    image: &Image,
    number: &mut impl FnMut(&str) -> Option<u16>,
    clauses: &mut ClausesBuilder,
) -> Result<Vec<Option<u32>>, TooLarge> {
    let sources = image.provenance().sources.iter();
    let sources: Vec<_> = sources.map(|source| number(&source.name)).collect();
    let default = Effect::default();
    let mut add = |(clause, effect): (Clause, &Effect)| {
        let source = sources[usize::from(clause.source)];
        // A mark only says which rules of the base are not carried over.
        let effect = if effect.is_void() { &default } else { effect };
        source.map(|source| clauses.add(source, effect)).transpose()
    };
    image.clauses().iter().map(&mut add).collect()
}

fn open(path: Option<&Path>) -> Result<Option<Arc<Image>>, CompileError> {
    let Some(path) = path else { return Ok(None) };
    let image = read_image(path).map_err(|error| match error {
        ImageFileError::Refused { path, source } => CompileError::Damaged { path, source },
        ImageFileError::NotAFile(path) => CompileError::Unreadable {
            path,
            source: Unread::NotRegular.into(),
        },
        ImageFileError::Unreadable { path, source }
        | ImageFileError::Memory { path, source, .. } => CompileError::Unreadable { path, source },
    });
    Ok(Some(Arc::new(image?)))
}
