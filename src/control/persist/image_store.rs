//! The images on the disk, and the files that contain them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::config::{History, StateConfig};
use crate::control::persist::store::{Base, Lists, Pair, Published, Store, StoreError, archive};
use crate::policy::builder::Builder;
use crate::policy::image::Image;
use crate::policy::images::Images;

/// Access to the state directory, for threads that may wait for the disk.
#[derive(Clone)]
pub(crate) struct ImageStore {
    directories: Arc<Mutex<Directories>>,
    /// Why the last write failed. It has its own lock, as that of `directories` is held while the disk works.
    problem: Arc<Mutex<Option<String>>>,
}

struct Directories {
    /// The configured state directory, and how many images it keeps.
    dir: Option<PathBuf>,
    keep: usize,
    /// For how long the rules of replaced lists are archived.
    history: History,
    /// The state directory, if it is configured and could be opened.
    state: Option<Directory>,
    /// A temporary directory for the compiler, if there is no state directory or it can't be written to.
    scratch: Option<(Directory, tempfile::TempDir)>,
}

/// An open directory, and the file in it that has the base in force.
struct Directory {
    store: Store,
    base: Option<(Arc<Image>, Base)>,
}

/// The compiler's output file, and the images from which it carries rules over.
pub(crate) struct CompileWorkspace {
    pub(crate) out: PathBuf,
    pub(crate) base: Option<PathBuf>,
    pub(crate) delta: Option<PathBuf>,
    /// Whether these files are outside of the state directory.
    pub(crate) is_elsewhere: bool,
}

/// Images to be written.
pub(crate) struct Unsaved {
    pub(crate) images: Images,
    /// The file of a new base that the compiler wrote, and that has no number yet.
    pub(crate) file: Option<PathBuf>,
    pub(crate) generation: u64,
}

/// The files of images that were written.
struct Saved {
    dir: PathBuf,
    base: PathBuf,
    delta: Option<PathBuf>,
    history: History,
}

impl ImageStore {
    /// Opens the state directory, if one is configured.
    ///
    /// # Errors
    /// If another process uses it. Other errors are reported by [`ImageStore::problem`].
    pub(crate) fn open(state: &StateConfig) -> Result<Self, StoreError> {
        let mut directories = Directories {
            dir: state.dir.clone(),
            keep: state.keep,
            history: state.history,
            state: None,
            scratch: None,
        };
        let problem = match directories.open() {
            Ok(()) => {
                let unwritable = directories
                    .state
                    .as_ref()
                    .and_then(|directory| directory.store.unwritable());
                unwritable.map(ToString::to_string)
            }
            Err(error @ StoreError::InUse { .. }) => return Err(error),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = &problem {
            tracing::error!(problem, "the state directory can't be used");
        }
        Ok(Self {
            directories: Arc::new(Mutex::new(directories)),
            problem: Arc::new(Mutex::new(problem)),
        })
    }

    fn directories(&self) -> MutexGuard<'_, Directories> {
        self.directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes and unlocks the state directory, for another process.
    pub(crate) fn release(&self) {
        self.directories().state = None;
    }

    /// Opens the state directory again. If that fails, the next write tries again.
    pub(crate) fn reopen(&self) {
        if let Err(problem) = self.directories().open() {
            tracing::error!(%problem, "the state directory can't be used");
            let mut last = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(problem.to_string());
        }
    }

    /// Why the last write failed.
    pub(crate) fn problem(&self) -> Option<String> {
        let problem = self.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the images that were in force last; also returns their generation.
    pub(crate) fn read_newest(&self) -> Option<(Images, u64)> {
        let mut directories = self.directories();
        let directory = directories.state.as_mut()?;
        let loaded = directory.store.load();
        for refused in &loaded.refused {
            tracing::error!(%refused, "kept image refused");
        }
        let found = loaded.found?;
        let base = Arc::new(found.base);
        directory.base = Some((Arc::clone(&base), found.pair.base));
        let published = found.published.as_ref();
        let generation = published.map_or(0, Published::last);
        let gone = found.published.and_then(|published| published.gone);
        let images = Images {
            base: Some(base),
            delta: found.delta.map(Arc::new),
            gone: Arc::new(gone.unwrap_or_default()),
            ..Images::default()
        };
        Some((images, generation))
    }

    /// Calls `read` while no write removes files of the state directory.
    pub(crate) fn while_unchanged<T>(&self, read: impl FnOnce() -> T) -> T {
        let _directories = self.directories();
        read()
    }

    /// Records that the base of these images is in the file of this pair, so it is not written again.
    pub(crate) fn set_base_file(&self, images: &Images, pair: Pair) {
        let mut directories = self.directories();
        if let (Some(directory), Some(base)) = (&mut directories.state, &images.base) {
            directory.base = Some((Arc::clone(base), pair.base));
        }
    }

    /// Prepares files for a compiler: in the state directory, or, if that can't be written to or `elsewhere` is set,
    /// in a temporary directory. Writes the images there if they are not there yet.
    ///
    /// # Errors
    /// If neither directory can be written to.
    pub(crate) fn workspace(
        &self,
        images: &Images,
        elsewhere: bool,
    ) -> Result<CompileWorkspace, StoreError> {
        let mut directories = self.directories();
        if let Some(directory) = directories.state.as_mut().filter(|_| !elsewhere) {
            match directory.workspace(images) {
                Ok(workspace) => return Ok(workspace),
                Err(error) => tracing::warn!(%error, "the compiler uses a temporary directory"),
            }
        }
        if directories.scratch.is_none() {
            let folder = tempfile::Builder::new().prefix("tapis-").tempdir();
            let done = "used to create a temporary directory in";
            let folder = folder.map_err(io(done, &std::env::temp_dir()))?;
            // The directory is removed when the server ends, so one image is enough.
            let store = Store::open(folder.path(), 1)?;
            directories.scratch = Some((Directory { store, base: None }, folder));
        }
        let scratch = directories.scratch.as_mut().expect("it was made above");
        Ok(CompileWorkspace {
            is_elsewhere: true,
            ..scratch.0.workspace(images)?
        })
    }

    /// Has the base written again for the next compiler, as the file may be damaged.
    pub(crate) fn forget_base_files(&self) {
        let mut directories = self.directories();
        if let Some(directory) = &mut directories.state {
            directory.base = None;
        }
        if let Some((directory, _)) = &mut directories.scratch {
            directory.base = None;
        }
    }

    /// Makes all work in the state directory wait until the result is dropped.
    #[cfg(test)]
    pub(crate) fn stall(&self) -> impl Sized + '_ {
        self.directories()
    }

    /// Writes images. Returns whether they are on the disk.
    pub(crate) fn save(&self, unsaved: &Unsaved) -> bool {
        let result = self.directories().save(unsaved);
        let is_saved = result.is_ok();
        // If only the archive fails, the images are not written again: each write may remove an older generation.
        let now = match result {
            Ok(saved) => saved.and_then(|saved| {
                let error = saved.archive(&unsaved.images).err()?;
                Some(format!("the rules of lists that were replaced: {error}"))
            }),
            Err(error) => Some(error.to_string()),
        };
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match (&now, &*problem) {
            // Logged once, however often it is tried again.
            (Some(now), Some(before)) if now == before => {}
            (Some(problem), _) => {
                tracing::error!(problem, "the state directory is not up to date");
            }
            (None, Some(_)) => tracing::info!("the state directory is up to date again"),
            (None, None) => {}
        }
        *problem = now;
        is_saved
    }
}

impl Directories {
    /// Opens the state directory, if it is configured and not open.
    fn open(&mut self) -> Result<(), StoreError> {
        if let (Some(dir), None) = (&self.dir, &self.state) {
            let store = Store::open(dir, self.keep)?;
            self.state = Some(Directory { store, base: None });
        }
        Ok(())
    }

    /// Writes images. Returns their files, from which their rules are archived; `None` if there is no state directory.
    fn save(&mut self, unsaved: &Unsaved) -> Result<Option<Saved>, StoreError> {
        if let Some((directory, _)) = &mut self.scratch
            && unsaved
                .file
                .as_ref()
                .is_some_and(|file| directory.store.has(file))
        {
            // The next compiler carries rules over from it.
            let base = directory.base_of(unsaved)?;
            let pair = Pair { base, delta: None };
            let store = &mut directory.store;
            store.commit(pair, unsaved.generation, Lists::default())?;
        }
        self.open()?;
        let Some(directory) = &mut self.state else {
            return Ok(None);
        };
        let base = directory.base_of(unsaved)?;
        let store = &mut directory.store;
        let delta = unsaved.images.delta.as_ref();
        let delta = delta.map(|delta| store.write_delta(delta.bytes()));
        let delta = delta.transpose()?;
        let lists = Lists::of(&unsaved.images);
        store.commit(Pair { base, delta }, unsaved.generation, lists)?;
        let Some(dir) = &self.dir else {
            return Ok(None);
        };
        Ok(Some(Saved {
            dir: dir.clone(),
            base: store.base_path(base),
            delta: delta.map(|delta| store.delta_path(delta)),
            history: self.history,
        }))
    }
}

impl Saved {
    /// Archives the rules of the lists. This may take long, so it does not hold the lock. The files of the images are
    /// not removed meanwhile, as only a write removes images, and only one write runs at a time.
    fn archive(&self, images: &Images) -> Result<(), StoreError> {
        let delta = self.delta.as_deref();
        let now = Timestamp::now();
        archive::archive(&self.dir, images, &self.base, delta, self.history, now)
    }
}

impl Directory {
    fn workspace(&mut self, images: &Images) -> Result<CompileWorkspace, StoreError> {
        let base = images.base.as_ref().map(|base| self.file_of(base));
        let base = base.transpose()?.map(|base| self.store.base_path(base));
        let out = self.store.create_base_file()?;
        let delta = images.delta.as_ref().map(|delta| {
            // Its name marks it as temporary, so it is removed with the other temporary files.
            let mut file = out.clone().into_os_string();
            file.push(".delta");
            let file = PathBuf::from(file);
            // Not synced: the compiler reads it at once, and then it is removed.
            match fs::write(&file, delta.bytes()) {
                Ok(()) => Ok(file),
                Err(error) => {
                    let _ = fs::remove_file(&file);
                    Err(io("written", &file)(error))
                }
            }
        });
        let delta = delta.transpose()?;
        Ok(CompileWorkspace {
            out,
            base,
            delta,
            is_elsewhere: false,
        })
    }

    /// The number of a base's file. Writes the file if there is none.
    fn file_of(&mut self, image: &Arc<Image>) -> Result<Base, StoreError> {
        if let Some((of, base)) = &self.base
            && Arc::ptr_eq(of, image)
            && self.store.base_path(*base).exists()
        {
            return Ok(*base);
        }
        let base = self.store.write_base(image.bytes())?;
        self.base = Some((Arc::clone(image), base));
        Ok(base)
    }

    /// The number of the base's file. If there is no base, the file has an image without rules.
    fn base_of(&mut self, unsaved: &Unsaved) -> Result<Base, StoreError> {
        let Some(image) = &unsaved.images.base else {
            return match &self.base {
                Some((of, base)) if of.facts().rules == 0 => Ok(*base),
                _ => self.file_of(&empty()),
            };
        };
        match &unsaved.file {
            Some(file) if self.store.has(file) && file.exists() => {
                let base = self.store.install_base(file)?;
                self.base = Some((Arc::clone(image), base));
                Ok(base)
            }
            _ => self.file_of(image),
        }
    }
}

fn io(done: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, done, source }
}

fn empty() -> Arc<Image> {
    Arc::new(Builder::new().finish().expect("there is room for nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_archive_is_written_while_others_use_the_state_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateConfig {
            dir: Some(folder.path().join("state")),
            ..Config::built_in().state
        };
        let past = folder.path().join("state/past");
        let store = ImageStore::open(&state).expect("opened");
        let unsaved = Unsaved {
            images: Images::from(empty()),
            file: None,
            generation: 1,
        };
        let mut directories = store.directories();
        let saved = directories.save(&unsaved).expect("written");
        let saved = saved.expect("a directory");
        assert!(!past.exists(), "not while others wait for it");
        saved.archive(&unsaved.images).expect("archived");
        assert!(past.exists());
    }
}
