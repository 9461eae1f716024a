//! Owns the images that rules are carried over from: a base, and a delta over it.
//! Refuses to choose what is carried over.

use std::fs;
use std::path::{Path, PathBuf};

use super::merge::Carried;
use super::plan::Plan;
use super::run::CompileError;
use crate::policy::image::cursor::Cursor;
use crate::policy::image::order::Key;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::text::Census;
use crate::policy::image::{Image, Octets};

/// What was in force before.
pub(super) struct Old {
    base: Option<Image>,
    delta: Option<Image>,
    delta_path: PathBuf,
}

impl Old {
    /// Reads the plan's images.
    pub(super) fn open(plan: &Plan) -> Result<Self, CompileError> {
        Ok(Self {
            base: open(plan.base.as_deref())?,
            delta: open(plan.delta.as_deref())?,
            delta_path: plan.delta.clone().unwrap_or_default(),
        })
    }

    fn images(&self) -> impl Iterator<Item = &Image> {
        self.delta.iter().chain(&self.base)
    }

    /// The key that all paths are sorted by.
    pub(super) fn key(&self) -> Result<Key, CompileError> {
        let mut keys = self.images().map(Image::key);
        let key = keys.next().cloned().unwrap_or_else(Key::random);
        match keys.find(|other| other.seed() != key.seed()) {
            Some(_) => Err(CompileError::Stranger(self.delta_path.clone())),
            None => Ok(key),
        }
    }

    /// Adds the counts of their text.
    pub(super) fn count(&self, census: &mut Census) {
        for image in self.images() {
            census.add(&image.census());
        }
    }

    /// What is known of a list, the newest.
    pub(super) fn source(&self, name: &str) -> Option<&ImageSource> {
        let mut sources = self.images().flat_map(|image| &image.provenance().sources);
        sources.find(|source| source.name == name)
    }

    /// The rules of those lists to which `number` gives one.
    pub(super) fn carried(&self, number: impl Fn(&str) -> Option<u16>) -> Vec<Carried<Cursor<'_>>> {
        let delta = self.delta.iter();
        let changes = delta.flat_map(|delta| &delta.provenance().sources);
        let whole: Vec<_> = changes.filter(|source| source.whole).collect();
        let images = [(&self.base, false), (&self.delta, true)];
        let carried = images.into_iter().filter_map(|(image, delta)| {
            let image = image.as_ref()?;
            let sources = image.provenance().sources.iter().map(|source| {
                let voided = !delta && whole.iter().any(|whole| whole.name == source.name);
                number(&source.name).filter(|_| !voided)
            });
            let sources: Vec<_> = sources.collect();
            sources.iter().any(Option::is_some).then(|| Carried {
                cursor: image.cursor(),
                sources,
                delta,
            })
        });
        carried.collect()
    }
}

fn open(path: Option<&Path>) -> Result<Option<Image>, CompileError> {
    let Some(path) = path else { return Ok(None) };
    let octets = fs::read(path).map_err(|source| CompileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let image = Image::open(Octets::Heap(octets));
    image.map(Some).map_err(|source| CompileError::Damaged {
        path: path.to_owned(),
        source,
    })
}
