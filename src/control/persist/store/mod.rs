//! The state directory: the images that outlive the process, and the record of which are in force.
//!
//! | file | contents |
//! |---|---|
//! | `base-N.image`, `delta-N.image` | images; numbers only go up and are never used again |
//! | `current` | which of them came into force together, the newest first, as JSON |
//! | `past/` | the rules of replaced lists, see `archive` |
//! | `feed-*.json`, `zone-*.json` | when feeds were confirmed, the serials of published zones; other modules write them |
//! | `lock` | locked by the process that uses the directory; contains the number of that process |
//! | `*.tmp-*` | being written, or left by a crash; `transfer.tmp-*` are zones that are being transferred |
//!
//! A file gets its name when it is whole and on the disk (see `durable`), and `current` is written after the images in
//! it. So after a crash at any time, it names the images that were in force before, or those that are now.

pub(crate) mod archive;
mod contents;
mod error;
mod file;
mod lock;
mod manifest;
mod names;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub use archive::{Rules, read_past, source, stored_images};
pub use contents::{Contents, Lists};
pub use error::StoreError;
pub use file::{ImageFileError, read_image};
use jiff::Timestamp;
use lock::Lock;
pub(crate) use manifest::Manifest;
#[cfg(test)]
pub(crate) use manifest::write_as_older;
pub use manifest::{ManifestError, Published};
use names::Kind;
pub(crate) use names::TRANSFER;
pub use names::{Base, Delta, Pair};

use crate::config::shown::Show;
use crate::control::persist::durable::{self, Access};
use crate::policy::image::Image;

/// A locked state directory. All functions wait for the disk.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    keep: usize,
    /// `None` while the directory can be read but not locked.
    lock: Option<Lock>,
    manifest: Manifest,
    /// Why the record could not be read, until it is reported.
    manifest_error: Option<ManifestError>,
    unwritable: Option<StoreError>,
    /// The number of the next image.
    next: u64,
    /// The newest images that were written and are not in force yet.
    fresh_base: Option<Base>,
    fresh_delta: Option<Delta>,
}

/// The images of a state directory, read at a start.
#[derive(Debug)]
pub struct Loaded {
    /// The newest images that are whole, if any are.
    pub found: Option<FoundImages>,
    /// Newer ones that could not be read.
    pub refused: Vec<Refused>,
}

/// Images from a state directory.
#[derive(Debug)]
pub struct FoundImages {
    /// Their numbers, for the next [`Store::commit`].
    pub pair: Pair,
    /// Their record; `None` if it is lost.
    pub published: Option<Published>,
    /// The rules of all sources.
    pub base: Image,
    /// Whole lists that replace those of the base.
    pub delta: Option<Image>,
}

/// Why something in a state directory can't be used.
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
    /// Opens and locks a directory, and removes files that a crash left half-written. Creates the directory if its
    /// parent exists. One that can only be read is opened, too: see [`Store::unwritable`].
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process uses it; [`StoreError::Io`] if it can't be created or read.
    pub fn open(dir: &Path, keep: usize) -> Result<Self, StoreError> {
        durable::create_directory(dir)?;
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
        if store.lock.is_some() {
            // This process has not begun a transfer yet.
            store.remove(|kind| kind == Kind::Transfer);
        }
        Ok(store)
    }

    /// Why the directory could not be written to when it was opened. Each later write tries again.
    pub fn unwritable(&self) -> Option<&StoreError> {
        self.unwritable.as_ref()
    }

    /// Reads the newest images that are whole: those in force last, or older ones, or a base that is in no record.
    /// Damaged images are removed with the next commit.
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
            // The delta is read first, as it is small: if it is damaged, no base is read in vain.
            let delta = match pair.delta {
                Some(delta) => Some(read(self.delta_path(delta))?),
                None => None,
            };
            let base = read(self.base_path(pair.base))?;
            Some(FoundImages {
                pair,
                published,
                base,
                delta,
            })
        });
        self.forget(&refused);
        Loaded { found, refused }
    }

    /// The images that came into force, the newest first.
    pub fn history(&self) -> &[Published] {
        &self.manifest.0
    }

    /// Whether a file is in this directory.
    pub fn has(&self, file: &Path) -> bool {
        file.parent() == Some(&self.dir)
    }

    /// The path of a base.
    pub fn base_path(&self, base: Base) -> PathBuf {
        self.dir.join(base.to_string())
    }

    /// The path of a delta.
    pub fn delta_path(&self, delta: Delta) -> PathBuf {
        self.dir.join(delta.to_string())
    }

    /// Creates an empty file, which a compiler writes to or replaces. Only one is in use at a time, so older ones are
    /// removed.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be created.
    pub fn create_base_file(&mut self) -> Result<PathBuf, StoreError> {
        self.ready()?;
        self.remove_leftovers();
        // A compiler that outlived the last server must not write to this server's file, and the next number may be
        // the same.
        let now = Timestamp::now().as_nanosecond();
        let name = names::temporary("base", format_args!("{}-{now}", self.number()));
        let path = self.dir.join(name);
        // For the compiler, which replaces it.
        File::create_new(&path).map_err(StoreError::io(&path, "made"))?;
        Ok(path)
    }

    /// Gives a number to the file of [`Store::create_base_file`], once it is whole. [`Store::commit`] puts it in force.
    ///
    /// # Errors
    /// [`StoreError`] if it does not exist or can't be renamed.
    pub fn install_base(&mut self, file: &Path) -> Result<Base, StoreError> {
        self.ready()?;
        let base = Base(self.number());
        durable::install(file, &self.base_path(base))?;
        self.fresh_base = Some(base);
        Ok(base)
    }

    /// Writes a base. [`Store::commit`] puts it in force.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be written.
    pub fn write_base(&mut self, bytes: &[u8]) -> Result<Base, StoreError> {
        self.ready()?;
        let base = Base(self.number());
        durable::replace(&self.base_path(base), bytes, Access::Umask)?;
        self.fresh_base = Some(base);
        Ok(base)
    }

    /// Writes a delta. [`Store::commit`] puts it in force.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be written.
    pub fn write_delta(&mut self, bytes: &[u8]) -> Result<Delta, StoreError> {
        self.ready()?;
        let delta = Delta(self.number());
        durable::replace(&self.delta_path(delta), bytes, Access::Umask)?;
        self.fresh_delta = Some(delta);
        Ok(delta)
    }

    /// Records that images are in force: after this a restart reads them. Removes images that are too old to be kept,
    /// and those that have the same rules as the new ones.
    ///
    /// # Errors
    /// [`StoreError::Gone`] if one of them is no longer in the directory; others if the record can't be written. Then
    /// the record is as it was.
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
        manifest.write(&self.dir)?;
        self.manifest = manifest;
        self.fresh_base = self.fresh_base.filter(|fresh| *fresh != pair.base);
        self.fresh_delta = self.fresh_delta.filter(|fresh| Some(*fresh) != pair.delta);
        self.remove_old();
        Ok(())
    }

    /// Removes files that a compiler left half-written, as they take space.
    pub fn remove_leftovers(&self) {
        self.remove(|kind| kind == Kind::Temporary);
    }

    /// Creates and locks the directory again if it was removed meanwhile.
    fn ready(&mut self) -> Result<(), StoreError> {
        if self.lock.as_ref().is_some_and(Lock::is_in_place) {
            return Ok(());
        }
        self.lock = None;
        durable::create_directory(&self.dir)?;
        let mut lock = Lock::take(&self.dir)?;
        lock.sign()?;
        self.lock = Some(lock);
        self.survey()
    }

    /// Removes leftovers, and makes the next number larger than that of any image.
    fn survey(&mut self) -> Result<(), StoreError> {
        let files = self.files().map_err(StoreError::io(&self.dir, "read"))?;
        if self.lock.is_some() {
            self.remove_leftovers();
        }
        let last = files.into_iter().map(|(_, kind)| match kind {
            Kind::Base(Base(number)) | Kind::Delta(Delta(number)) => number,
            Kind::Temporary | Kind::Transfer => 0,
        });
        self.next = self.next.max(last.max().unwrap_or(0) + 1);
        Ok(())
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// A missing file of a pair, if there is one.
    fn missing(&self, pair: Pair) -> Option<PathBuf> {
        let delta = pair.delta.map(|delta| self.delta_path(delta));
        let mut paths = [self.base_path(pair.base)].into_iter().chain(delta);
        // A file that can't be accessed may exist.
        paths.find(|path| !path.try_exists().unwrap_or(true))
    }

    /// Bases that are in no record, the newest first.
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

    /// Removes pairs with a damaged image from the record: they would be kept in place of good ones.
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

    /// Removes images that are neither in the record nor about to come into force.
    fn remove_old(&self) {
        self.remove(|kind| match kind {
            Kind::Base(base) => !self.manifest.names_base(base) && self.fresh_base != Some(base),
            Kind::Delta(delta) => {
                !self.manifest.names_delta(delta) && self.fresh_delta != Some(delta)
            }
            Kind::Temporary | Kind::Transfer => false,
        });
    }

    fn remove(&self, chosen: impl Fn(Kind) -> bool) {
        let files = self.files().unwrap_or_default().into_iter();
        for (path, _) in files.filter(|(_, kind)| chosen(*kind)) {
            if let Err(error) = fs::remove_file(&path) {
                // The file only takes space, and the next removal tries again. The same holds if a power cut brings
                // a removed file back, as nothing is synced here.
                tracing::warn!(path = %path.shown(), %error, "an old file can't be removed from the state directory");
            }
        }
    }

    /// The images and leftovers in the directory, by their names.
    fn files(&self) -> io::Result<Vec<(PathBuf, Kind)>> {
        let entries = fs::read_dir(&self.dir)?.flatten();
        let files = entries.filter_map(|entry| {
            let kind = Kind::of(entry.file_name().to_str()?)?;
            Some((entry.path(), kind))
        });
        Ok(files.collect())
    }
}
