//! The hits of each list and order, over restarts: the counts of this server are added to those of earlier servers, in
//! a file of the state directory.
//!
//! ```text
//!               each minute, if hits were counted
//!   stored -----------------------------------------> being written <----------+
//!     ^                                                 |      |               | after ten seconds
//!     +-------------------------------------------------+      +-------> kept in memory
//!                          written                      failed: an alarm
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use crate::config::regular;
use crate::config::shown::Show;
use crate::control::file_tasks::FileTasks;
use crate::control::gauges::Gauges;
use crate::control::persist::durable::{self, Access};
use crate::control::publish::slots::Slots;

/// The file in the state directory.
const FILE: &str = "hits.json";
/// The name to which a damaged file is moved.
const DAMAGED: &str = "hits.damaged";
/// A larger file is something else.
const SIZE_MAX: u64 = 64 << 20;
/// How often counts are written. A crash loses the hits since the last write.
const EVERY: Duration = Duration::from_secs(60);
/// The time after which a failed write is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// How long the shutdown waits for counts that are being written.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The hits of each list and order since a time, by their sources' names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    since: Timestamp,
    hits: BTreeMap<String, u64>,
}

impl Counts {
    fn since(since: Timestamp) -> Self {
        Self {
            since,
            hits: BTreeMap::new(),
        }
    }

    /// Reads the file; `None` if there is none. One that is damaged is moved away.
    fn read(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(FILE);
        let failed = |error| format!("{}: can't be read: {error}", path.shown());
        // An error here may mean that its file system is not mounted yet.
        fs::metadata(dir).map_err(failed)?;
        let text = match regular::read(&path, SIZE_MAX).map_err(io::Error::from) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        match serde_json::from_slice(&text) {
            Ok(counts) => Ok(Some(counts)),
            Err(error) => {
                durable::rename(&path, &dir.join(DAMAGED)).map_err(|error| error.to_string())?;
                let problem = format!("{}: {error}", path.shown());
                tracing::error!(
                    problem,
                    moved_to = DAMAGED,
                    "the counts of hits were damaged: hits are counted from now on"
                );
                Ok(None)
            }
        }
    }

    fn add(&mut self, hits: &BTreeMap<String, u64>) {
        for (source, count) in hits {
            *self.hits.entry(source.clone()).or_default() += count;
        }
    }

    fn write(&self, dir: &Path) -> Result<(), String> {
        let text = serde_json::to_vec(self).expect("numbers and times have a JSON form");
        // After a power cut, the file may have the counts of a minute ago. That is no worse than a crash, which loses
        // the hits of the last minute.
        durable::replace_unsynced(&dir.join(FILE), &text, Access::Private)
            .map_err(|error| error.to_string())
    }
}

/// The counts in the state directory.
#[derive(Clone, Debug)]
pub(crate) struct StoredCounts {
    dir: PathBuf,
    /// The counts of servers before this one.
    before: Counts,
    /// The counts that were read or written last.
    file: Option<Counts>,
    /// Whether a damaged file was moved away.
    has_damaged: bool,
}

impl StoredCounts {
    /// Reads the file. If its counts are not those that this server read or wrote last, they are those of servers
    /// before this one: this is the first read, or earlier reads did not find them.
    fn read(&mut self) -> Result<(), String> {
        let file = Counts::read(&self.dir)?;
        self.has_damaged = self.dir.join(DAMAGED).exists();
        if let Some(counts) = &file
            && file != self.file
        {
            self.before.clone_from(counts);
        }
        self.file = file;
        Ok(())
    }

    /// Writes the sum of the counts of earlier servers and those of this server. Reads the file first, so that counts
    /// which could not be read before are not overwritten.
    fn write(&mut self, hits: &BTreeMap<String, u64>) -> Result<(), String> {
        self.read()?;
        let mut counts = self.before.clone();
        counts.add(hits);
        counts.write(&self.dir)?;
        self.file = Some(counts);
        Ok(())
    }
}

/// The counts of hits.
pub(crate) struct Hits {
    stored: Option<StoredCounts>,
    /// When this server began to count.
    since: Timestamp,
    /// The counts of this server that were written last.
    written: BTreeMap<String, u64>,
    due: Instant,
    problem: Option<String>,
    /// Writes the counts.
    pub(crate) tasks: FileTasks<(), Counted>,
}

/// The counts that were written, or why they could not be written.
pub(crate) type Counted = Result<Box<StoredCounts>, String>;

impl Hits {
    /// Reads the file in the state directory. If that fails, it is read again before it is written.
    pub(crate) fn read(dir: Option<&Path>) -> Self {
        let since = Timestamp::now();
        let mut stored = dir.map(|dir| StoredCounts {
            dir: dir.to_owned(),
            before: Counts::since(since),
            file: None,
            has_damaged: false,
        });
        let read = stored.as_mut().map_or(Ok(()), StoredCounts::read);
        let problem = read.err();
        if let Some(problem) = &problem {
            tracing::error!(problem, "hits are not kept");
        }
        Self {
            stored,
            since,
            written: BTreeMap::new(),
            due: Instant::now() + if problem.is_some() { RETRY } else { EVERY },
            problem,
            tasks: FileTasks::new(),
        }
    }

    /// The time since which hits are counted.
    pub(crate) fn since(&self) -> Timestamp {
        let stored = self.stored.as_ref();
        stored.map_or(self.since, |stored| stored.before.since)
    }

    /// The alarm if counts can't be written or read, or were damaged.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Some(problem) = &self.problem {
            return Some(format!("hits are not kept: {problem}"));
        }
        let damaged = self.stored.as_ref().filter(|stored| stored.has_damaged)?;
        let (path, since) = (damaged.dir.join(DAMAGED), self.since());
        Some(format!(
            "{}: damaged, so hits are counted since {since:.0}; remove it to end this alarm",
            path.shown()
        ))
    }
}

impl Hits {
    /// How often a source blocked a query; `None` if it was never in force.
    pub(crate) fn of(&self, source: &str, gauges: &Gauges, slots: &Slots) -> Option<u64> {
        let slot = slots.known(source);
        let now = slot.and_then(|slot| gauges.list_hits.get(slot).copied());
        let stored = self.stored.as_ref();
        let before = stored.and_then(|stored| stored.before.hits.get(source).copied());
        (now.is_some() || before.is_some()).then(|| now.unwrap_or(0) + before.unwrap_or(0))
    }

    /// The counts of this server.
    fn counts(gauges: &Gauges, slots: &Slots) -> BTreeMap<String, u64> {
        let counts = slots.all().map(|(source, slot)| {
            let now = gauges.list_hits.get(slot).copied().unwrap_or(0);
            (source.to_owned(), now)
        });
        counts.filter(|(_, now)| *now > 0).collect()
    }

    /// Writes the counts if that is due, and they changed or the last write failed.
    pub(crate) fn start_writing(&mut self, gauges: impl FnOnce() -> Gauges, slots: &Slots) {
        let Some(mut stored) = self.stored.clone() else {
            return;
        };
        if self.due > Instant::now() || self.tasks.is_running(&()) {
            return;
        }
        self.due = Instant::now() + EVERY;
        let counts = Self::counts(&gauges(), slots);
        let is_written = stored.file.is_some() && self.written == counts;
        if is_written && self.problem().is_none() {
            return;
        }
        let path = stored.dir.join(FILE).shown().to_string();
        self.written.clone_from(&counts);
        let work = move || stored.write(&counts).map(|()| Box::new(stored));
        self.tasks.start((), path, work);
    }

    /// Ends a write.
    pub(crate) fn finish(&mut self, counted: Counted) {
        match counted {
            Ok(stored) => {
                if self.problem.take().is_some() {
                    tracing::info!("hits are kept again");
                }
                self.stored = Some(*stored);
            }
            Err(problem) => {
                if self.problem.as_ref() != Some(&problem) {
                    tracing::error!(problem, "hits are not kept");
                }
                self.problem = Some(problem);
                self.due = Instant::now() + RETRY;
            }
        }
    }

    /// Writes the last counts, at the shutdown. First waits for a write that is running: otherwise that write could
    /// overwrite these counts, or its counts could be added twice.
    pub(crate) async fn write_last(&mut self, gauges: &Gauges, slots: &Slots) {
        let written = timeout(LAST_WAIT, async {
            while self.tasks.is_running(&()) {
                if let (_, Some(counted)) = self.tasks.next().await {
                    self.finish(counted);
                }
            }
        });
        if written.await.is_err() {
            let problem = "earlier counts are still being written: check the disk";
            tracing::error!(problem, "hits since the last minute are lost");
            return;
        }
        let Some(mut stored) = self.stored.clone() else {
            return;
        };
        let counts = Self::counts(gauges, slots);
        if let Err(problem) = tokio::task::block_in_place(|| stored.write(&counts)) {
            tracing::error!(problem, "hits since the last minute are lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::config::Config;
    use crate::control::Control;
    use crate::control::data_plane::Following;
    use crate::control::data_plane::NoHosts;
    use crate::control::sources::wall_clock::Still;

    #[test]
    fn counts_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Counts::read(folder.path()), Ok(None));
        let hits = [("ads".to_owned(), 7), ("order:x-1".to_owned(), 2)];
        let counts = Counts {
            since: Timestamp::UNIX_EPOCH,
            hits: hits.into(),
        };
        counts.write(folder.path()).expect("written");
        assert_eq!(Counts::read(folder.path()), Ok(Some(counts)));
        assert_eq!(
            Hits::read(Some(folder.path())).since(),
            Timestamp::UNIX_EPOCH
        );
        let files = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(files, 1, "nothing else is left over");
    }

    /// A server whose state directory is `mnt/state`, and how often its order blocked.
    fn start(folder: &Path) -> (Control, Arc<AtomicU64>) {
        let file = folder.join("tapis.toml");
        fs::write(&file, "[state]\ndir = \"mnt/state\"\n").expect("written");
        let config = Config::load(&file).expect("a configuration");
        let control = tokio::task::block_in_place(|| {
            Control::start(config, Arc::new(Still), Arc::new(NoHosts))
        });
        let mut control = control.expect("a first generation");
        let slot = control
            .publication
            .slots
            .of("order:x-1")
            .expect("there is room");
        let hits = Arc::new(AtomicU64::new(5));
        let counted = Arc::clone(&hits);
        let gauges = move || {
            let mut list_hits = vec![0; usize::from(slot) + 1];
            list_hits[usize::from(slot)] = counted.load(Ordering::Relaxed);
            Gauges {
                list_hits,
                ..Gauges::default()
            }
        };
        control.publication.plane = Following::new(Arc::new(gauges));
        (control, hits)
    }

    async fn write_last(control: &mut Control) {
        let gauges = control.publication.plane.gauges();
        let slots = &control.publication.slots;
        control.hits.write_last(&gauges, slots).await;
    }

    fn of(control: &Control, gauges: &Gauges) -> Option<u64> {
        let slots = &control.publication.slots;
        control.hits.of("order:x-1", gauges, slots)
    }

    /// Writes the counts now.
    async fn count(control: &mut Control) {
        control.hits.due = Instant::now();
        control.write_hits();
        while control.hits.tasks.is_running(&()) {
            let event = control.component_event().await;
            control.route(event);
        }
    }

    const BEFORE: &str = r#"{"since":"2026-01-01T00:00:00Z","hits":{"ads":1,"order:x-1":3}}"#;

    #[tokio::test(flavor = "multi_thread")]
    async fn counts_that_appear_late_are_added_to_and_not_replaced() {
        type Away = (fn(&Path), fn(&Path));
        let (absent, unreadable, empty): (Away, Away, Away) = (
            (|_| (), |dir| fs::create_dir_all(dir).expect("made")),
            // A directory can't be read.
            (
                |dir| fs::create_dir_all(dir.join(FILE)).expect("made"),
                |dir| fs::remove_dir(dir.join(FILE)).expect("removed"),
            ),
            // Like a directory that a file system will be mounted on.
            (|dir| fs::create_dir_all(dir).expect("made"), |_| ()),
        );
        for ((remove, restore), is_known) in [(absent, false), (unreadable, false), (empty, true)] {
            let folder = tempfile::tempdir().expect("a folder");
            let dir = folder.path().join("mnt/state");
            remove(&dir);
            let (mut control, hits) = start(folder.path());
            count(&mut control).await;
            assert_eq!(control.hits.problem().is_none(), is_known);
            restore(&dir);
            fs::write(dir.join(FILE), BEFORE).expect("written");
            for new in [6, 7] {
                hits.store(new, Ordering::Relaxed);
                count(&mut control).await;
            }
            assert_eq!(control.hits.problem(), None);
            let kept = fs::read_to_string(dir.join(FILE)).expect("readable");
            let expected = BEFORE.replace(":3}", ":10}");
            assert_eq!(kept, expected);
            assert_eq!(control.hits.since().to_string(), "2026-01-01T00:00:00Z");
            let gauges = control.publication.plane.gauges();
            assert_eq!(of(&control, &gauges), Some(10));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_shutdown_of_a_server_that_could_not_read_the_counts_keeps_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("mnt/state");
        let (mut control, _) = start(folder.path());
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join(FILE), BEFORE).expect("written");
        write_last(&mut control).await;
        let kept = fs::read_to_string(dir.join(FILE)).expect("readable");
        assert_eq!(kept, BEFORE.replace(":3}", ":8}"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_last_counts_follow_those_that_are_being_written_and_count_nothing_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("mnt/state");
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join(FILE), BEFORE).expect("written");
        let (mut control, hits) = start(folder.path());
        control.hits.due = Instant::now();
        control.write_hits();
        let written = |text: String| {
            let dir = dir.clone();
            move || fs::read_to_string(dir.join(FILE)).is_ok_and(|found| found == text)
        };
        let first = written(BEFORE.replace(":3}", ":8}"));
        while !first() {
            tokio::task::yield_now().await;
        }
        assert!(control.hits.tasks.is_running(&()), "not finished");
        hits.store(6, Ordering::Relaxed);
        write_last(&mut control).await;
        assert!(written(BEFORE.replace(":3}", ":9}"))());
        assert!(!control.hits.tasks.is_running(&()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn damaged_counts_are_moved_away_and_are_an_alarm_until_they_are_removed() {
        for damage in ["", "{\"since\":", "{\"hits\":{}}"] {
            let folder = tempfile::tempdir().expect("a folder");
            let dir = folder.path().join("mnt/state");
            fs::create_dir_all(&dir).expect("made");
            fs::write(dir.join(FILE), damage).expect("written");
            let began = Timestamp::now();
            let (mut control, _) = start(folder.path());
            assert!(control.hits.since() >= began);
            let aside = dir.join("hits.damaged");
            assert_eq!(fs::read_to_string(&aside).expect("moved"), damage);
            for _ in 0..2 {
                let problem = control.hits.problem().expect("an alarm");
                assert!(problem.contains("hits.damaged"), "{problem}");
                count(&mut control).await;
            }
            let kept = fs::read_to_string(dir.join(FILE)).expect("readable");
            assert!(kept.contains("\"order:x-1\":5"), "{kept}");
            fs::remove_file(aside).expect("removed");
            count(&mut control).await;
            assert_eq!(control.hits.problem(), None);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn counts_are_written_each_minute_if_there_are_new_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("mnt/state");
        fs::create_dir_all(&dir).expect("made");
        let (mut control, counted) = start(folder.path());
        for (hits, is_written) in [(3, true), (3, false), (5, true)] {
            counted.store(hits, Ordering::Relaxed);
            control.write_hits();
            assert!(!control.hits.tasks.is_running(&()), "it is not due");
            control.hits.due = Instant::now();
            control.write_hits();
            assert_eq!(control.hits.tasks.is_running(&()), is_written);
            while control.hits.tasks.is_running(&()) {
                let event = control.component_event().await;
                control.route(event);
            }
            let kept = Counts::read(&dir).expect("readable");
            assert_eq!(kept.expect("a file").hits["order:x-1"], hits);
        }
        // Counts that can't be written are an alarm until they can.
        let path = dir.join(FILE);
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        for (hits, is_alarm) in [(6, true), (6, false)] {
            control.hits.due = Instant::now();
            counted.store(hits, Ordering::Relaxed);
            control.write_hits();
            while control.hits.tasks.is_running(&()) {
                let event = control.component_event().await;
                control.route(event);
            }
            assert_eq!(control.hits.problem().is_some(), is_alarm);
            let _ = fs::remove_dir(&path);
        }
    }
}
