//! Owns keeping what is in force: where images lie on the disk, and when they get there.
//! Refuses to hold anything up: what can't be kept serves all the same, and is told.

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
pub(super) struct Keeper(Arc<Mutex<Place>>);

struct Place {
    store: Option<Store>,
    /// The directory of a server that has none of its own; it ends with the server.
    scratch: Option<tempfile::TempDir>,
    keep: usize,
    /// What is on the disk of what is in force.
    pair: Option<Pair>,
    /// Why nothing is kept.
    problem: Option<String>,
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
            store: None,
            scratch: None,
            keep: state.keep,
            pair: None,
            problem: None,
        };
        if let Some(dir) = &state.dir {
            match Store::open(dir, state.keep) {
                Ok(store) => {
                    place.problem = store.unwritable().map(ToString::to_string);
                    place.store = Some(store);
                }
                Err(error @ StoreError::InUse { .. }) => return Err(error),
                Err(error) => place.problem = Some(error.to_string()),
            }
        }
        if let Some(problem) = &place.problem {
            tracing::error!(
                problem,
                "the state directory can't be used; a restart will read the lists"
            );
        }
        Ok(Self(Arc::new(Mutex::new(place))))
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the last attempt to keep something failed.
    pub(super) fn problem(&self) -> Option<String> {
        self.place().problem.clone()
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
        let keep = place.keep;
        let pair = place.pair;
        if place.store.is_none() {
            let io = |source| StoreError::Io {
                path: std::env::temp_dir(),
                done: "used for a directory of its own",
                source,
            };
            let scratch = tempfile::Builder::new()
                .prefix("tapis-")
                .tempdir()
                .map_err(io)?;
            place.store = Some(Store::open(scratch.path(), keep)?);
            place.scratch = Some(scratch);
        }
        let store = place.store.as_mut().expect("it was opened above");
        let base = pair.map(|pair| store.base_path(pair.base));
        Ok((store.place_for_base()?, base.filter(|base| base.exists())))
    }

    /// Writes what is in force to the disk.
    fn keep(&self, keep: &Keep) {
        let mut place = self.place();
        let old = place.pair;
        let Some(store) = &mut place.store else {
            return;
        };
        let result = write(store, keep, old);
        if let Err(error) = &result {
            tracing::error!(%error, "what is in force is not kept");
        } else if place.problem.is_some() {
            tracing::info!("what is in force is kept again");
        }
        place.problem = result.as_ref().err().map(ToString::to_string);
        // A base that has no file can't be carried over from: all its lists will be read again.
        place.pair = result.ok().or(old.filter(|_| keep.place.is_none()));
    }
}

fn write(store: &mut Store, keep: &Keep, old: Option<Pair>) -> Result<Pair, StoreError> {
    let base = match (&keep.place, old) {
        (Some(place), _) => store.adopt_base(place)?,
        (None, Some(old)) => old.base,
        (None, None) => {
            let place = store.place_for_base()?;
            let io = |source| StoreError::Io {
                path: place.clone(),
                done: "written",
                source,
            };
            std::fs::write(&place, base(keep).octets()).map_err(io)?;
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
