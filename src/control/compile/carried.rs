//! The images that rules are carried over from: a base, and a delta over it.

use std::path::Path;

use super::error::CompileError;
use super::merge::Carried;
use super::plan::Plan;
use crate::config::regular::Unread;
use crate::control::persist::store::{ImageFileError, read_image};
use crate::policy::image::cursor::Cursor;
use crate::policy::image::path::{Key, Path as NamePath, labels};
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::text::PairHistogram;
use crate::policy::image::values::ImageRule;
use crate::policy::image::{Image, ImageError};
use crate::wire::name::Name;

/// The images that were in force before.
pub(super) struct Old {
    base: Option<Image>,
    delta: Option<Image>,
}

impl Old {
    /// Reads the images of the plan.
    pub(super) fn open(plan: &Plan) -> Result<Self, CompileError> {
        Ok(Self {
            base: open(plan.base.as_deref())?,
            delta: open(plan.delta.as_deref())?,
        })
    }

    fn images(&self) -> impl Iterator<Item = &Image> {
        self.delta.iter().chain(&self.base)
    }

    /// The key that all paths are sorted by. It is that of the base, whose paths are then sorted already.
    pub(super) fn key(&self) -> Key {
        self.base
            .as_ref()
            .map_or_else(Key::random, |base| base.key().clone())
    }

    /// The pair histogram of the base.
    pub(super) fn pair_histogram(&self) -> PairHistogram {
        self.base
            .as_ref()
            .map(Image::pair_histogram)
            .unwrap_or_default()
    }

    /// The newest source with this name.
    pub(super) fn source(&self, name: &str) -> Option<&ImageSource> {
        let mut sources = self.images().flat_map(|image| &image.provenance().sources);
        sources.find(|source| source.name == name)
    }

    /// The base's rules of the lists for which `number` returns a number, except lists that the delta replaces as a
    /// whole. `None` if there are none.
    pub(super) fn carried(
        &self,
        number: impl Fn(&str) -> Option<u16>,
    ) -> Option<Carried<Cursor<'_>>> {
        let base = self.base.as_ref()?;
        let whole = |name: &str| {
            let mut changes = self
                .delta
                .iter()
                .flat_map(|delta| &delta.provenance().sources);
            changes.any(|source| source.whole && source.name == name)
        };
        let sources = base.provenance().sources.iter();
        let sources = sources.map(|source| number(&source.name).filter(|_| !whole(&source.name)));
        let sources: Vec<_> = sources.collect();
        // A base without such rules is not read at all.
        sources.iter().any(Option::is_some).then(|| Carried {
            cursor: base.cursor(),
            sources,
        })
    }

    /// Calls `each` with the delta's rules of the lists for which `number` returns a number. They are not sorted by the
    /// base's key. Returns the damage of the delta, if there is any.
    pub(super) fn changes<E>(
        &self,
        number: impl Fn(&str) -> Option<u16>,
        mut each: impl FnMut(&Name, ImageRule) -> Result<(), E>,
    ) -> Result<Option<ImageError>, E> {
        let Some(delta) = &self.delta else {
            return Ok(None);
        };
        let sources = delta.provenance().sources.iter();
        let sources: Vec<_> = sources.map(|source| number(&source.name)).collect();
        let mut cursor = delta.cursor();
        while cursor.advance() {
            let mut path = NamePath::ROOT;
            for label in labels(cursor.path()) {
                path.push(label);
            }
            let name = path.to_name();
            for rule in cursor.rules() {
                let source = sources.get(usize::from(rule.source)).copied().flatten();
                if let Some(source) = source {
                    each(&name, ImageRule { source, ..rule })?;
                }
            }
        }
        Ok(cursor.damage())
    }
}

fn open(path: Option<&Path>) -> Result<Option<Image>, CompileError> {
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
    image.map(Some)
}
