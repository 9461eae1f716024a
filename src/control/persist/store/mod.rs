//! Owns the state directory: the images that outlive the process, and the record of which are in force.
//! Refuses to make images or to serve them: it keeps what it is given, and gives back what is whole.
//!
//! | file | what |
//! |---|---|
//! | `base-N.image`, `delta-N.image` | images; the numbers count up and never come again |
//! | `current` | which of them came into force together, newest first, as JSON |
//! | `past/` | rules of lists that were in force before, see `archive` |
//! | `lock` | locked by the process whose directory it is, whose number it holds |
//! | `*.tmp-*` | being written; left over if nobody does |
//!
//! A file gets its name when it is whole and on the disk, and `current` names images that have theirs.
//! So wherever a crash falls, `current` names what was in force before, or what is now.

pub(crate) mod archive;
mod contents;
mod disk;
mod error;
mod file;
mod lock;
mod manifest;
mod names;
mod past;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::{fs, io};

pub use archive::{Rules, kept_images, read_past, source};
pub use contents::{Contents, Lists};
pub use error::StoreError;
pub use file::{ImageFileError, read_image};
use jiff::Timestamp;
use lock::Lock;
use manifest::Manifest;
#[cfg(test)]
pub(crate) use manifest::write_as_older;
pub use manifest::{ManifestError, Published};
use names::Kind;
pub use names::{Base, Delta, Pair};
pub use past::{Kept, PastError, kept_lists, read_generation};

use crate::config::shown::Show;
use crate::policy::image::Image;

/// A state directory that is ours. All it does waits for the disk.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    keep: usize,
    /// None while the directory can be read but not taken.
    lock: Option<Lock>,
    manifest: Manifest,
    /// What is to be told of the last opening.
    manifest_error: Option<ManifestError>,
    unwritable: Option<StoreError>,
    /// The number of the next image.
    next: u64,
    /// Images that may come into force, but have not yet.
    fresh_base: Option<Base>,
    fresh_delta: Option<Delta>,
}

/// What a state directory held.
#[derive(Debug)]
pub struct Loaded {
    /// The newest images that are whole, if any are.
    pub found: Option<Found>,
    /// What was not taken before they were found.
    pub refused: Vec<Refused>,
}

/// Images from a state directory.
#[derive(Debug)]
pub struct Found {
    /// Their numbers, for the next [`Store::commit`].
    pub pair: Pair,
    /// When they came into force; nothing when the record of it is lost.
    pub published: Option<Published>,
    /// The rules of all sources.
    pub base: Image,
    /// What changed since that was made.
    pub delta: Option<Image>,
}

/// Why something in a state directory was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// An image.
    #[error(transparent)]
    Image(#[from] ImageFileError),
    /// The record of what is in force.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Store {
    /// Takes a directory, made first if only it is missing, and removes what a crash left
    /// half-written. One that can be read but not written to is taken too, for what is in it:
    /// [`Store::unwritable`] tells.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it; [`StoreError::Io`] when it can't be made
    /// or read.
    pub fn open(dir: &Path, keep: usize) -> Result<Self, StoreError> {
        disk::make_directory(dir)?;
        let (lock, unwritable) = match Lock::take(dir) {
            Ok(mut lock) => {
                let unwritable = lock.sign().err();
                (Some(lock), unwritable)
            }
            Err(taken @ StoreError::InUse { .. }) => return Err(taken),
            Err(error) => (None, Some(error)),
        };
        let (manifest, manifest_error) = match Manifest::read(dir) {
            Ok(manifest) => (manifest, None),
            Err(error) => (Manifest::default(), Some(error)),
        };
        let mut store = Self {
            dir: dir.to_owned(),
            keep,
            lock,
            next: manifest.last() + 1,
            manifest,
            manifest_error,
            unwritable,
            fresh_base: None,
            fresh_delta: None,
        };
        store.survey()?;
        Ok(store)
    }

    /// Why nothing could be written when the directory was taken. Each later attempt tries anew.
    pub fn unwritable(&self) -> Option<&StoreError> {
        self.unwritable.as_ref()
    }

    /// The newest images that can be read whole: those in force, or those before, or at last the
    /// newest base that there is. What is damaged will be removed with the next commit.
    pub fn load(&mut self) -> Loaded {
        let mut refused: Vec<_> = self
            .manifest_error
            .take()
            .map(Refused::from)
            .into_iter()
            .collect();
        let mut bad: Vec<PathBuf> = Vec::new();
        let mut read = |path: PathBuf| {
            if bad.contains(&path) {
                return None;
            }
            let error = match read_image(&path) {
                Ok(image) => return Some(image),
                Err(error) => error,
            };
            refused.push(error.into());
            bad.push(path);
            None
        };
        let known = self.manifest.0.iter().cloned();
        let known = known.map(|published| (published.pair, Some(published)));
        let unknown = self.unknown_bases().into_iter();
        let unknown = unknown.map(|base| (Pair { base, delta: None }, None));
        let found = known.chain(unknown).find_map(|(pair, published)| {
            // First the small one: a base is not read in vain.
            let delta = match pair.delta {
                Some(delta) => Some(read(self.delta_path(delta))?),
                None => None,
            };
            let base = read(self.base_path(pair.base))?;
            Some(Found {
                pair,
                published,
                base,
                delta,
            })
        });
        self.forget(&refused);
        Loaded { found, refused }
    }

    /// What came into force, newest first: a pair to go back to can be read with [`read_image`]
    /// and committed again.
    pub fn history(&self) -> &[Published] {
        &self.manifest.0
    }

    /// Whether a file lies in this directory.
    pub fn has(&self, file: &Path) -> bool {
        file.parent() == Some(&self.dir)
    }

    /// Where a base image is.
    pub fn base_path(&self, base: Base) -> PathBuf {
        self.dir.join(base.to_string())
    }

    /// Where a delta image is.
    pub fn delta_path(&self, delta: Delta) -> PathBuf {
        self.dir.join(delta.to_string())
    }

    /// A new empty file for a compiling process to write to, or to replace by way of a file beside
    /// it whose name goes on with `.tmp-`. One at a time: what earlier ones left is removed.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be made.
    pub fn place_for_base(&mut self) -> Result<PathBuf, StoreError> {
        self.ready()?;
        self.remove_leftovers();
        // A compiling process that outlived the last server must not write to the place of this
        // one's: a number alone may come again.
        let now = Timestamp::now().as_nanosecond();
        let name = names::temporary("base", format_args!("{}-{now}", self.number()));
        let path = self.dir.join(name);
        disk::make_file(&path)?;
        Ok(path)
    }

    /// Takes over the file at [`Store::place_for_base`], now whole. It comes into force with
    /// [`Store::commit`].
    ///
    /// # Errors
    /// [`StoreError`] when it is not there, or can't be put in place.
    pub fn adopt_base(&mut self, place: &Path) -> Result<Base, StoreError> {
        self.ready()?;
        let base = Base(self.number());
        disk::put(place, &self.base_path(base))?;
        self.fresh_base = Some(base);
        Ok(base)
    }

    /// Writes a delta image. It comes into force with [`Store::commit`].
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub fn put_delta(&mut self, octets: &[u8]) -> Result<Delta, StoreError> {
        self.ready()?;
        let delta = Delta(self.number());
        let path = self.delta_path(delta);
        let temporary = names::temporary(&delta.to_string(), delta.0);
        disk::write(&path, &self.dir.join(temporary), octets)?;
        self.fresh_delta = Some(delta);
        Ok(delta)
    }

    /// Puts images into force: once it returns, a restart finds them. Images that are too old to
    /// be kept are removed, and so are those that have the same rules as the new ones.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when one of them is not in the directory any more; other [`StoreError`]s
    /// when that can't be recorded. What was in force stays so.
    pub fn commit(&mut self, pair: Pair, generation: u64, lists: Lists) -> Result<(), StoreError> {
        self.ready()?;
        if let Some(path) = self.missing(pair) {
            return Err(StoreError::Gone(path));
        }
        let mut manifest = self.manifest.clone();
        manifest.0.retain(|old| self.missing(old.pair).is_none());
        let at = Timestamp::now();
        let new = Published {
            pair,
            generation,
            at,
            rules: Some(lists.rules),
            gone: Some(lists.gone),
            contents: lists.contents,
            again: Vec::new(),
        };
        manifest.publish(new, self.keep);
        let number = self.number();
        manifest.write(&self.dir, number)?;
        self.manifest = manifest;
        self.fresh_base = self.fresh_base.filter(|fresh| *fresh != pair.base);
        self.fresh_delta = self.fresh_delta.filter(|fresh| Some(*fresh) != pair.delta);
        self.remove_old();
        Ok(())
    }

    /// Removes what a compiling process left half-written, for the room that it takes.
    pub fn remove_leftovers(&self) {
        self.remove(|kind| kind == Kind::Temporary);
    }

    /// Makes sure that the directory is there and ours, also if somebody removed it meanwhile.
    fn ready(&mut self) -> Result<(), StoreError> {
        if self.lock.as_ref().is_some_and(Lock::stands) {
            return Ok(());
        }
        self.lock = None;
        disk::make_directory(&self.dir)?;
        let mut lock = Lock::take(&self.dir)?;
        lock.sign()?;
        self.lock = Some(lock);
        self.survey()
    }

    /// Removes leftovers, and counts on from the images that there are.
    fn survey(&mut self) -> Result<(), StoreError> {
        let files = self.files().map_err(StoreError::io(&self.dir, "read"))?;
        if self.lock.is_some() {
            self.remove_leftovers();
        }
        let last = files.into_iter().map(|(_, kind)| match kind {
            Kind::Base(Base(number)) | Kind::Delta(Delta(number)) => number,
            Kind::Temporary => 0,
        });
        self.next = self.next.max(last.max().unwrap_or(0) + 1);
        Ok(())
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// The file of a pair that is not there.
    fn missing(&self, pair: Pair) -> Option<PathBuf> {
        let delta = pair.delta.map(|delta| self.delta_path(delta));
        let mut paths = [self.base_path(pair.base)].into_iter().chain(delta);
        // What can't be looked at may be there.
        paths.find(|path| !path.try_exists().unwrap_or(true))
    }

    /// Bases that no record speaks of, newest first.
    fn unknown_bases(&self) -> Vec<Base> {
        let files = self.files().unwrap_or_default().into_iter();
        let mut bases: Vec<_> = files
            .filter_map(|(_, kind)| match kind {
                Kind::Base(base) if !self.manifest.names_base(base) => Some(base),
                _ => None,
            })
            .collect();
        bases.sort_by_key(|base| Reverse(*base));
        bases
    }

    /// Strikes out pairs of which an image is damaged, so that they are not kept in place of good ones.
    fn forget(&mut self, refused: &[Refused]) {
        let damaged = |path: &Path| {
            refused.iter().any(|refused| {
                matches!(refused, Refused::Image(ImageFileError::Refused { path: bad, .. }) if bad == path)
            })
        };
        let dir = &self.dir;
        self.manifest.0.retain(|Published { pair, .. }| {
            let delta = pair.delta.map(|delta| dir.join(delta.to_string()));
            !damaged(&dir.join(pair.base.to_string())) && !delta.is_some_and(|path| damaged(&path))
        });
    }

    /// Removes images that are neither kept nor about to come into force.
    fn remove_old(&self) {
        self.remove(|kind| match kind {
            Kind::Base(base) => !self.manifest.names_base(base) && self.fresh_base != Some(base),
            Kind::Delta(delta) => {
                !self.manifest.names_delta(delta) && self.fresh_delta != Some(delta)
            }
            Kind::Temporary => false,
        });
    }

    fn remove(&self, chosen: impl Fn(Kind) -> bool) {
        let files = self.files().unwrap_or_default().into_iter();
        for (path, _) in files.filter(|(_, kind)| chosen(*kind)) {
            if let Err(error) = fs::remove_file(&path) {
                // It only takes room, and the next time tries again.
                tracing::warn!(path = %path.shown(), %error, "old file stays in the state directory");
            }
        }
    }

    /// The images and leftovers in the directory.
    fn files(&self) -> io::Result<Vec<(PathBuf, Kind)>> {
        let entries = fs::read_dir(&self.dir)?.flatten();
        let files = entries.filter_map(|entry| {
            let kind = Kind::of(entry.file_name().to_str()?)?;
            Some((entry.path(), kind))
        });
        Ok(files.collect())
    }
}
