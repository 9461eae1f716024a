//! Owns keeping what is in force: where images lie on the disk, and when they get there.
//! Refuses to hold anything up: what can't be kept serves all the same, and is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::{History, State};
use crate::control::persist::store::{
    Base, Lists, Pair, Published, Store, StoreError, archive, read_generation,
};
use crate::policy::builder::Builder;
use crate::policy::image::Image;
use crate::policy::images::Images;

/// After how long keeping is tried again that failed.
const AGAIN: Duration = Duration::from_secs(30);

/// Access to the state directory, for threads that may wait for it.
#[derive(Clone)]
pub(crate) struct Keeper {
    places: Arc<Mutex<Places>>,
    /// Why nothing is kept; by itself, as the other one is locked while the disk works.
    problem: Arc<Mutex<Option<String>>>,
}

struct Places {
    /// The state directory that is configured, and how many images it keeps.
    dir: Option<PathBuf>,
    keep: usize,
    /// For how long rules are kept that were replaced.
    history: History,
    /// Open, if there is one that can be.
    state: Option<Place>,
    /// For the compiler of a server that has none, or can't write to it. Ends with the server.
    scratch: Option<(Place, tempfile::TempDir)>,
}

/// A directory, and which of its files has the base that is in force.
struct Place {
    store: Store,
    base: Option<(Arc<Image>, Base)>,
}

/// Where a compiler writes to, and the images that it carries rules over from.
pub(crate) struct CompileWorkspace {
    pub(crate) out: PathBuf,
    pub(crate) base: Option<PathBuf>,
    pub(crate) delta: Option<PathBuf>,
    /// It is not in the state directory.
    pub(crate) is_elsewhere: bool,
}

/// What is to be kept.
struct Keep {
    images: Images,
    /// A new base's file that has no number yet.
    file: Option<PathBuf>,
    generation: u64,
}

/// Images that are kept, by their files.
struct Kept {
    dir: PathBuf,
    base: PathBuf,
    delta: Option<PathBuf>,
    history: History,
}

impl Keeper {
    /// Opens the state directory, if there is to be one.
    ///
    /// # Errors
    /// When another process has it.
    pub(crate) fn open(state: &State) -> Result<Self, StoreError> {
        let mut places = Places {
            dir: state.dir.clone(),
            keep: state.keep,
            history: state.history,
            state: None,
            scratch: None,
        };
        let problem = match places.open() {
            Ok(()) => {
                let unwritable = places
                    .state
                    .as_ref()
                    .and_then(|place| place.store.unwritable());
                unwritable.map(ToString::to_string)
            }
            Err(error @ StoreError::InUse { .. }) => return Err(error),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = &problem {
            tracing::error!(problem, "the state directory can't be used");
        }
        Ok(Self {
            places: Arc::new(Mutex::new(places)),
            problem: Arc::new(Mutex::new(problem)),
        })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the last attempt to keep something failed.
    pub(crate) fn problem(&self) -> Option<String> {
        let problem = self.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The images that were in force last, and their generation.
    pub(crate) fn restore(&self) -> Option<(Images, u64)> {
        let mut places = self.places();
        let place = places.state.as_mut()?;
        let loaded = place.store.load();
        for refused in &loaded.refused {
            tracing::error!(%refused, "kept image refused");
        }
        let found = loaded.found?;
        let base = Arc::new(found.base);
        place.base = Some((Arc::clone(&base), found.pair.base));
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

    /// The images of an earlier generation, and their numbers.
    ///
    /// # Errors
    /// Why there are none, as a sentence.
    pub(crate) fn read_generation(
        &self,
        dir: &Path,
        journal: Option<&Path>,
        generation: u64,
    ) -> Result<(Images, Pair), String> {
        // Nothing is removed meanwhile.
        let _places = self.places();
        let kept = read_generation(dir, journal, generation).map_err(|error| error.to_string())?;
        let pair = kept.pair;
        Ok((kept.into_images(), pair))
    }

    /// Takes these images for those in force: the base lies on the disk already.
    pub(crate) fn adopt(&self, images: &Images, pair: Pair) {
        let mut places = self.places();
        if let (Some(place), Some(base)) = (&mut places.state, &images.base) {
            place.base = Some((Arc::clone(base), pair.base));
        }
    }

    /// Makes room for a compiler: in the state directory, or elsewhere if that can't be written to.
    /// The images are written there if they are not there. `elsewhere`: not in the state directory in any case.
    ///
    /// # Errors
    /// When there is no room anywhere.
    pub(crate) fn workspace(
        &self,
        images: &Images,
        elsewhere: bool,
    ) -> Result<CompileWorkspace, StoreError> {
        let mut places = self.places();
        if let Some(place) = places.state.as_mut().filter(|_| !elsewhere) {
            match place.workspace(images) {
                Ok(workspace) => return Ok(workspace),
                Err(error) => tracing::warn!(%error, "compiling elsewhere"),
            }
        }
        if places.scratch.is_none() {
            let folder = tempfile::Builder::new().prefix("tapis-").tempdir();
            let done = "used for a directory of its own";
            let folder = folder.map_err(io(done, &std::env::temp_dir()))?;
            // Nothing will be looked for there after the server has ended.
            let store = Store::open(folder.path(), 1)?;
            places.scratch = Some((Place { store, base: None }, folder));
        }
        let scratch = places.scratch.as_mut().expect("it was made above");
        Ok(CompileWorkspace {
            is_elsewhere: true,
            ..scratch.0.workspace(images)?
        })
    }

    /// Lets the next compiler have the base written anew: what lies on the disk may be damaged.
    pub(crate) fn distrust(&self) {
        let mut places = self.places();
        if let Some(place) = &mut places.state {
            place.base = None;
        }
        if let Some((place, _)) = &mut places.scratch {
            place.base = None;
        }
    }

    /// Makes all work in the state directory wait until the guard is dropped.
    #[cfg(test)]
    pub(crate) fn stall(&self) -> impl Sized + '_ {
        self.places()
    }

    /// Keeps it. Returns whether it is on the disk.
    fn keep(&self, keep: &Keep) -> bool {
        let result = self.places().keep(keep);
        let kept = result.is_ok();
        // A pair that is kept is not kept again for the archive's sake: that would push out older ones.
        let now = match result {
            Ok(kept) => kept.and_then(|kept| {
                let error = kept.archive(&keep.images).err()?;
                Some(format!("the rules of lists that were replaced: {error}"))
            }),
            Err(error) => Some(error.to_string()),
        };
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match (&now, &*problem) {
            // It is tried again and again.
            (Some(now), Some(before)) if now == before => {}
            (Some(problem), _) => tracing::error!(problem, "what is in force is not kept"),
            (None, Some(_)) => tracing::info!("what is in force is kept again"),
            (None, None) => {}
        }
        *problem = now;
        kept
    }
}

impl Places {
    /// Opens the state directory, if there is to be one and it is not open.
    fn open(&mut self) -> Result<(), StoreError> {
        if let (Some(dir), None) = (&self.dir, &self.state) {
            let store = Store::open(dir, self.keep)?;
            self.state = Some(Place { store, base: None });
        }
        Ok(())
    }

    /// Keeps it. Returns what is still to be archived.
    fn keep(&mut self, keep: &Keep) -> Result<Option<Kept>, StoreError> {
        if let Some((place, _)) = &mut self.scratch
            && keep.file.as_ref().is_some_and(|file| place.store.has(file))
        {
            // For the next compiler alone.
            let base = place.base_of(keep)?;
            place.store.commit(
                Pair { base, delta: None },
                keep.generation,
                Lists::default(),
            )?;
        }
        self.open()?;
        let Some(place) = &mut self.state else {
            return Ok(None);
        };
        let base = place.base_of(keep)?;
        let delta = keep.images.delta.as_ref();
        let delta = delta.map(|delta| place.store.put_delta(delta.bytes()));
        let delta = delta.transpose()?;
        let lists = Lists::of(&keep.images);
        place
            .store
            .commit(Pair { base, delta }, keep.generation, lists)?;
        let Some(dir) = &self.dir else {
            return Ok(None);
        };
        Ok(Some(Kept {
            dir: dir.clone(),
            base: place.store.base_path(base),
            delta: delta.map(|delta| place.store.delta_path(delta)),
            history: self.history,
        }))
    }
}

impl Kept {
    /// Archives the rules of its lists. That may take long, so others use the state directory meanwhile; nothing
    /// else is kept, so the images stay.
    fn archive(&self, images: &Images) -> Result<(), StoreError> {
        let delta = self.delta.as_deref();
        let now = Timestamp::now();
        archive::keep(&self.dir, images, &self.base, delta, self.history, now)
    }
}

impl Place {
    fn workspace(&mut self, images: &Images) -> Result<CompileWorkspace, StoreError> {
        let base = images.base.as_ref().map(|base| self.file_of(base));
        let base = base.transpose()?.map(|base| self.store.base_path(base));
        let out = self.store.place_for_base()?;
        let delta = images.delta.as_ref().map(|delta| {
            // A name of the same kind: removed with what a compiler leaves.
            let mut file = out.clone().into_os_string();
            file.push(".delta");
            let file = PathBuf::from(file);
            // Not synced: the compiler reads it at once, and removes it.
            match fs::write(&file, delta.bytes()) {
                Ok(()) => Ok(file),
                Err(error) => {
                    // Half of it only takes space.
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

    /// The number of a base's file, which is written if there is none.
    fn file_of(&mut self, image: &Arc<Image>) -> Result<Base, StoreError> {
        if let Some((of, base)) = &self.base
            && Arc::ptr_eq(of, image)
            && self.store.base_path(*base).exists()
        {
            return Ok(*base);
        }
        let base = self.store.put_base(image.bytes())?;
        self.base = Some((Arc::clone(image), base));
        Ok(base)
    }

    /// Takes over a base's file that lies here.
    fn take(&mut self, image: &Arc<Image>, file: &Path) -> Result<Base, StoreError> {
        let base = self.store.adopt_base(file)?;
        self.base = Some((Arc::clone(image), base));
        Ok(base)
    }

    /// The number of the file of the base that is to be kept; of one without rules if there is none.
    fn base_of(&mut self, keep: &Keep) -> Result<Base, StoreError> {
        let Some(image) = &keep.images.base else {
            return match &self.base {
                Some((of, base)) if of.facts().rules == 0 => Ok(*base),
                _ => self.file_of(&nothing()),
            };
        };
        match &keep.file {
            Some(file) if self.store.has(file) && file.exists() => self.take(image, file),
            _ => self.file_of(image),
        }
    }
}

fn io(done: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, done, source }
}

fn nothing() -> Arc<Image> {
    Arc::new(Builder::new().finish().expect("there is room for nothing"))
}

/// Whether the images in force are kept.
pub(crate) struct Persistence {
    pub(crate) keeper: Keeper,
    /// Whether the images in force are being written.
    pub(crate) keeping: bool,
    /// Whether they differ from those that are kept.
    pub(crate) unkept: bool,
    /// Whether they could be written.
    pub(crate) kept: (mpsc::Sender<bool>, mpsc::Receiver<bool>),
    /// When to try again if they could not; the next generation tries earlier.
    pub(crate) keep_again: Option<Instant>,
    /// The generation since which the images are in force.
    pub(crate) images_generation: u64,
    /// The file of a base that is in force and not kept yet.
    pub(crate) base_file: Option<PathBuf>,
}

impl Persistence {
    pub(crate) fn new(keeper: Keeper) -> Self {
        Self {
            keeper,
            keeping: false,
            unkept: false,
            kept: mpsc::channel(1),
            keep_again: None,
            images_generation: 0,
            base_file: None,
        }
    }
}

impl Persistence {
    /// Starts to write the images in force, if they are not kept and not being written. While a rollback is under way
    /// nothing is written: its file says from which generation on kept images are its own.
    pub(crate) fn start(&mut self, images: &Images, is_rolling: bool) {
        if self.keep_again.is_some_and(|at| at <= Instant::now()) {
            self.keep_again = None;
            self.unkept = true;
        }
        if self.keeping || is_rolling || !std::mem::take(&mut self.unkept) {
            return;
        }
        self.keeping = true;
        let keep = Keep {
            images: images.clone(),
            file: self.base_file.take(),
            generation: self.images_generation,
        };
        let (keeper, send) = (self.keeper.clone(), self.kept.0.clone());
        let writing = tokio::task::spawn_blocking(move || keeper.keep(&keep));
        tokio::spawn(async move {
            let kept = writing.await.unwrap_or_else(|_| {
                tracing::error!("keeping broke off inside tapis, which is a bug; please report it");
                false
            });
            // Nobody waits when the server ends.
            let _ = send.send(kept).await;
        });
    }

    /// Takes whether the images could be written. The disk may be full, or not mounted: it is tried again.
    pub(crate) fn land(&mut self, kept: bool) {
        self.keeping = false;
        self.keep_again = (!kept).then(|| Instant::now() + AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::control::Control;
    use crate::control::sources::wall_clock::Still;

    async fn end_keeping(control: &mut Control) {
        control.keep_images();
        assert!(control.persist.keeping, "it is tried");
        let kept = control.persist.kept.1.recv().await.expect("it ends");
        control.persist.land(kept);
    }

    /// The last generation that is recorded.
    fn generation(dir: &Path) -> u64 {
        let text = fs::read_to_string(dir.join("current")).expect("a record");
        let record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let newest = &record["published"][0];
        let again = newest["again"].as_array().and_then(|runs| runs.last());
        let last = again.map_or(&newest["generation"], |run| &run[1]);
        last.as_u64().expect("a number")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_archive_that_can_not_be_written_is_an_alarm_and_pushes_out_no_older_generation() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, file) = (
            folder.path().join("state"),
            folder.path().join("tapis.toml"),
        );
        let config =
            "[state]\ndir = \"state\"\nkeep = 2\n[[list]]\nname = \"ads\"\npath = \"ads\"\n";
        fs::write(&file, config).expect("written");
        fs::write(folder.path().join("ads"), "one.example\n").expect("written");
        fs::create_dir(&dir).expect("made");
        fs::write(dir.join("past"), "").expect("written");
        let config = Config::load(&file).expect("a configuration");
        let control = Control::start(config, Arc::new(Still));
        let mut control = control.expect("a first generation");
        end_keeping(&mut control).await;
        let problem = control.persist.keeper.problem().expect("an alarm");
        assert!(problem.contains("past"), "{problem}");
        assert!(!control.persist.unkept, "the generation is kept");
        assert_eq!(generation(&dir), control.generation());
        assert!(control.persist.keep_again.is_none());
    }

    #[test]
    fn the_archive_is_written_while_others_use_the_state_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State {
            dir: Some(folder.path().join("state")),
            ..Config::built_in().state
        };
        let past = folder.path().join("state/past");
        let keeper = Keeper::open(&state).expect("opened");
        let keep = Keep {
            images: Images::from(nothing()),
            file: None,
            generation: 1,
        };
        let mut places = keeper.places();
        let kept = places.keep(&keep).expect("kept").expect("a directory");
        assert!(!past.exists(), "not while others wait for it");
        kept.archive(&keep.images).expect("archived");
        assert!(past.exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_could_not_be_kept_is_kept_by_the_next_generation_or_after_a_while() {
        for by_generation in [true, false] {
            let folder = tempfile::tempdir().expect("a folder");
            let (dir, file) = (
                folder.path().join("state"),
                folder.path().join("tapis.toml"),
            );
            let config = "[state]\ndir = \"state\"\n[[list]]\nname = \"ads\"\npath = \"ads\"\n";
            fs::write(&file, config).expect("written");
            fs::write(folder.path().join("ads"), "one.example\n").expect("written");
            let config = Config::load(&file).expect("a configuration");
            let control = Control::start(config, Arc::new(Still));
            let mut control = control.expect("a first generation");
            end_keeping(&mut control).await;
            // The directory is not there, and nothing can be made in its place.
            fs::rename(&dir, folder.path().join("away")).expect("renamed");
            fs::write(&dir, "").expect("written");
            control.persist.unkept = true;
            control.publish();
            let images = control.generation();
            end_keeping(&mut control).await;
            assert!(control.persist.keeper.problem().is_some());
            control.keep_images();
            assert!(!control.persist.keeping, "not at once");
            fs::remove_file(&dir).expect("removed");
            fs::rename(folder.path().join("away"), &dir).expect("renamed");
            if by_generation {
                // Another order, say.
                control.publish();
            } else {
                control.persist.keep_again = Some(Instant::now());
            }
            end_keeping(&mut control).await;
            assert_eq!(control.persist.keeper.problem(), None);
            assert_eq!(control.persist.keep_again, None);
            assert_eq!(generation(&dir), images, "that of the images");
        }
    }
}
