//! Whether the images in force are on the disk.
//!
//! ```text
//!                images changed                 a write starts: not while a rollback runs
//!   written ----------------------> unwritten ----------------------> being written
//!    ^                               ^   ^                              |  |   |
//!    |                               |   |  images changed meanwhile    |  |   |
//!    |                               |   +------------------------------+  |   |
//!    |  the next generation, or      |                                     |   |
//!    |  after half a minute          +------------- failed <---------------+   |
//!    +-------------------------------------------------------------------------+
//! ```
//!
//! Nothing waits for the disk: images that can't be written are in force all the same, and that is an alarm.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::control::persist::image_store::{ImageStore, Unsaved};
use crate::policy::images::Images;

/// The time after which a failed write is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// The write under way, or the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// No write is under way, and the last one did not fail.
    Idle,
    Writing,
    /// The last write failed.
    Failed {
        /// When it is tried again; the next generation tries earlier.
        retry_at: Instant,
    },
}

/// Writes the images in force to the disk.
pub(crate) struct Persistence {
    pub(crate) store: ImageStore,
    progress: Progress,
    /// The images in force are not those on the disk, and no write was started for them.
    is_dirty: bool,
    /// Whether a write succeeded.
    pub(crate) written: (mpsc::Sender<bool>, mpsc::Receiver<bool>),
    /// The first generation of the images in force.
    images_generation: u64,
    /// The compiler's file of the base in force, until it has been given its number.
    base_file: Option<PathBuf>,
}

impl Persistence {
    pub(crate) fn new(store: ImageStore) -> Self {
        Self {
            store,
            progress: Progress::Idle,
            is_dirty: false,
            written: mpsc::channel(1),
            images_generation: 0,
            base_file: None,
        }
    }

    /// Records that the images in force are not those on the disk.
    pub(crate) fn mark_dirty(&mut self) {
        self.is_dirty = true;
    }

    /// Records the compiler's file of the base that comes into force.
    pub(crate) fn set_base_file(&mut self, file: PathBuf) {
        self.base_file = Some(file);
    }

    /// Forgets the compiler's file, as its base is no longer in force.
    pub(crate) fn drop_base_file(&mut self) {
        self.base_file = None;
    }

    /// Whether a write is under way.
    pub(crate) fn is_writing(&self) -> bool {
        self.progress == Progress::Writing
    }

    /// Whether no write is under way or due. Also true after a failed write: then the store itself writes the
    /// base for the compiler.
    pub(crate) fn is_written(&self) -> bool {
        !self.is_writing() && !self.is_dirty && self.base_file.is_none()
    }

    /// Records that the images are in force as of this generation, if they are not on the disk. A failed write is tried
    /// again now. Images that did not change keep the number of an earlier generation.
    pub(crate) fn publish(&mut self, generation: u64) {
        if self.is_dirty {
            self.images_generation = generation;
        }
        self.retry();
    }

    /// Tries a failed write again, if there was one.
    pub(crate) fn retry(&mut self) {
        if matches!(self.progress, Progress::Failed { .. }) {
            self.progress = Progress::Idle;
            self.is_dirty = true;
        }
    }

    /// Starts to write the images in force, if they are not on the disk and not being written. While a rollback is
    /// running, nothing is written: after a restart, all stored images from a certain generation on count as those of
    /// the rollback. The record of the rollback names that generation.
    pub(crate) fn start(&mut self, images: &Images, is_rolling: bool) {
        if matches!(self.progress, Progress::Failed { retry_at } if retry_at <= Instant::now()) {
            self.retry();
        }
        if self.is_writing() || is_rolling || !std::mem::take(&mut self.is_dirty) {
            return;
        }
        self.progress = Progress::Writing;
        let unsaved = Unsaved {
            images: images.clone(),
            file: self.base_file.take(),
            generation: self.images_generation,
        };
        let (store, send) = (self.store.clone(), self.written.0.clone());
        let writing = tokio::task::spawn_blocking(move || store.save(&unsaved));
        tokio::spawn(async move {
            let is_saved = writing.await.unwrap_or_else(|_| {
                tracing::error!(
                    "writing images failed inside tapis, which is a bug; please report it"
                );
                false
            });
            // The receiver is gone if the server ends.
            let _ = send.send(is_saved).await;
        });
    }

    /// Ends a write. If it failed, for example on a full disk, it is tried again.
    pub(crate) fn finish(&mut self, is_saved: bool) {
        let retry_at = Instant::now() + RETRY;
        self.progress = match is_saved {
            true => Progress::Idle,
            false => Progress::Failed { retry_at },
        };
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::control::Control;
    use crate::control::data_plane::NoHosts;
    use crate::control::sources::wall_clock::Still;

    async fn end_write(control: &mut Control) {
        control.persist_images();
        assert!(control.persist.is_writing(), "a write is tried");
        let is_saved = control.persist.written.1.recv().await.expect("it ends");
        control.persist.finish(is_saved);
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
    async fn an_archive_that_can_not_be_written_is_an_alarm_and_no_older_generation_is_removed() {
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
        let control = Control::start(config, Arc::new(Still), Arc::new(NoHosts));
        let mut control = control.expect("a first generation");
        end_write(&mut control).await;
        let problem = control.persist.store.problem().expect("an alarm");
        assert!(problem.contains("past"), "{problem}");
        assert!(!control.persist.is_dirty, "the generation is kept");
        assert_eq!(generation(&dir), control.generation());
        assert_eq!(control.persist.progress, Progress::Idle);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn images_that_could_not_be_written_are_written_by_the_next_generation_or_after_a_while()
    {
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
            let control = Control::start(config, Arc::new(Still), Arc::new(NoHosts));
            let mut control = control.expect("a first generation");
            end_write(&mut control).await;
            // The directory is missing, and can't be created again.
            fs::rename(&dir, folder.path().join("away")).expect("renamed");
            fs::write(&dir, "").expect("written");
            control.persist.mark_dirty();
            control.publish();
            let images = control.generation();
            end_write(&mut control).await;
            assert!(control.persist.store.problem().is_some());
            control.persist_images();
            assert!(!control.persist.is_writing(), "not at once");
            fs::remove_file(&dir).expect("removed");
            fs::rename(folder.path().join("away"), &dir).expect("renamed");
            if by_generation {
                // A new generation tries the write again, for example when an order changes.
                control.publish();
            } else {
                control.persist.progress = Progress::Failed {
                    retry_at: Instant::now(),
                };
            }
            end_write(&mut control).await;
            assert_eq!(control.persist.store.problem(), None);
            assert_eq!(control.persist.progress, Progress::Idle);
            assert_eq!(generation(&dir), images, "that of the images");
        }
    }
}
