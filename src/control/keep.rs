//! Owns keeping what is in force: where images lie on the disk, and when they get there.
//! Refuses to hold anything up: what can't be kept serves all the same, and is told.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::compose::Images;
use super::reload::Control;
use super::store::{Pair, Store, StoreError};
use crate::config::State;
use crate::policy::builder::Builder;
use crate::policy::image::Image;

/// Access to the state directory, for threads that may wait for it.
#[derive(Clone)]
pub(super) struct Keeper {
    place: Arc<Mutex<Place>>,
    /// Why nothing is kept; by itself, as the other one is locked while the disk works.
    problem: Arc<Mutex<Option<String>>>,
}

struct Place {
    /// The state directory that is configured.
    dir: Option<PathBuf>,
    keep: usize,
    store: Option<Store>,
    /// For a server that has no state directory, or can't use it: a directory that ends with it.
    scratch: Option<(Store, tempfile::TempDir)>,
    /// What is on the disk of what is in force, in the one or the other.
    pair: Option<Pair>,
    /// Why nothing is kept.
    problem: Option<String>,
}

impl Place {
    /// Opens the state directory, if it is to be one and is not open.
    fn open(&mut self) -> Result<(), StoreError> {
        let Some(dir) = self.dir.as_ref().filter(|_| self.store.is_none()) else {
            return Ok(());
        };
        let store = Store::open(dir, self.keep)?;
        self.problem = store.unwritable().map(ToString::to_string);
        self.store = Some(store);
        // What lies elsewhere is not in it.
        self.pair = None;
        Ok(())
    }

    /// Where images are put now.
    fn active(&mut self) -> Option<&mut Store> {
        let scratch = self.scratch.as_mut().map(|(store, _)| store);
        self.store.as_mut().or(scratch)
    }
}

/// What is to be kept.
pub(super) struct Keep {
    images: Images,
    /// A new base's file that has no number yet.
    place: Option<PathBuf>,
    generation: u64,
}

impl Keeper {
    /// Opens the state directory, if there is to be one.
    ///
    /// # Errors
    /// When another process has it.
    pub(super) fn open(state: &State) -> Result<Self, StoreError> {
        let mut place = Place {
            dir: state.dir.clone(),
            keep: state.keep,
            store: None,
            scratch: None,
            pair: None,
            problem: None,
        };
        match place.open() {
            Ok(()) => {}
            Err(error @ StoreError::InUse { .. }) => return Err(error),
            Err(error) => place.problem = Some(error.to_string()),
        }
        if let Some(problem) = &place.problem {
            tracing::error!(
                problem,
                "the state directory can't be used; a restart will read the lists"
            );
        }
        Ok(Self {
            problem: Arc::new(Mutex::new(place.problem.clone())),
            place: Arc::new(Mutex::new(place)),
        })
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the last attempt to keep something failed.
    pub(super) fn problem(&self) -> Option<String> {
        let problem = self.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The images that were in force last, and their generation.
    pub(super) fn restore(&self) -> Option<(Images, u64)> {
        let mut place = self.place();
        let loaded = place.store.as_mut()?.load();
        for refused in &loaded.refused {
            tracing::error!(%refused, "kept image refused");
        }
        let found = loaded.found?;
        place.pair = Some(found.pair);
        let images = Images {
            base: Some(Arc::new(found.base)),
            delta: found.delta.map(Arc::new),
        };
        Some((
            images,
            found.published.map_or(0, |published| published.generation),
        ))
    }

    /// Where a new base is to be written, and the file of the one in force, if there is one.
    pub(super) fn places(&self) -> Result<(PathBuf, Option<PathBuf>), StoreError> {
        let mut place = self.place();
        if place.active().is_none() {
            let io = |source| StoreError::Io {
                path: std::env::temp_dir(),
                done: "used for a directory of its own",
                source,
            };
            let scratch = tempfile::Builder::new().prefix("tapis-").tempdir();
            let scratch = scratch.map_err(io)?;
            // Nothing will be looked for there after the server has ended.
            place.scratch = Some((Store::open(scratch.path(), 1)?, scratch));
        }
        let pair = place.pair;
        let store = place.active().expect("one was opened above");
        let base = pair.map(|pair| store.base_path(pair.base));
        Ok((store.place_for_base()?, base.filter(|base| base.exists())))
    }

    /// Writes what is in force to the disk.
    fn keep(&self, keep: &Keep) {
        let mut place = self.place();
        keep_in(&mut place, keep);
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.clone_from(&place.problem);
    }
}

fn keep_in(place: &mut Place, keep: &Keep) {
    let opened = place.open();
    let pair = place.pair;
    let Some(store) = place.active() else {
        place.problem = opened.err().map(|error| error.to_string());
        return;
    };
    // A base's file in a directory that was left is in none.
    let here = keep.place.as_ref().filter(|file| store.has(file));
    let result = write(store, keep, here, pair);
    let told = result.as_ref().err().map(ToString::to_string);
    let told = opened.err().map(|error| error.to_string()).or(told);
    if let Some(problem) = &told {
        tracing::error!(problem, "what is in force is not kept");
    } else if place.problem.is_some() {
        tracing::info!("what is in force is kept again");
    }
    place.problem = told;
    // A base that has no file can't be carried over from: all its lists will be read again.
    place.pair = result.ok().or(pair.filter(|_| keep.place.is_none()));
}

fn write(
    store: &mut Store,
    keep: &Keep,
    place: Option<&PathBuf>,
    old: Option<Pair>,
) -> Result<Pair, StoreError> {
    let base = match (place, old.filter(|_| keep.place.is_none())) {
        (Some(place), _) => store.adopt_base(place)?,
        (None, Some(old)) => old.base,
        (None, None) => {
            let place = store.place_for_base()?;
            let io = |source| StoreError::Io {
                path: place.clone(),
                done: "written",
                source,
            };
            let written = fs::write(&place, base(keep).octets());
            let written = written.and_then(|()| File::open(&place)?.sync_all());
            written.map_err(io)?;
            store.adopt_base(&place)?
        }
    };
    let delta = keep.images.delta.as_ref();
    let delta = delta
        .map(|delta| store.put_delta(delta.octets()))
        .transpose()?;
    let pair = Pair { base, delta };
    store.commit(pair, keep.generation)?;
    Ok(pair)
}

/// The base in force; one without rules if there is none.
fn base(keep: &Keep) -> Arc<Image> {
    let nothing = || Builder::new().finish().expect("there is room for nothing");
    keep.images
        .base
        .clone()
        .unwrap_or_else(|| Arc::new(nothing()))
}

impl Control {
    /// Starts to keep what is in force, if that is not on its way already.
    pub(super) fn start_keeping(&mut self) {
        if self.keeping || !std::mem::take(&mut self.unkept) {
            return;
        }
        self.keeping = true;
        let keep = Keep {
            images: self.images.clone(),
            place: self.base_place.take(),
            generation: self.generation(),
        };
        let (keeper, send) = (self.keeper.clone(), self.kept.0.clone());
        tokio::task::spawn_blocking(move || {
            keeper.keep(&keep);
            // Nobody waits when the server ends.
            let _ = send.blocking_send(());
        });
    }
}
