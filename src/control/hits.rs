//! How often lists and orders blocked a query, over restarts: what this server counts is added to what the state directory has of
//! those before.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::errands::{Errand, Landed};
use super::hold_file::put;
use super::reload::Control;
use super::status::Gauges;
use crate::config::regular;
use crate::config::shown::Show;

/// The file in the state directory.
const FILE: &str = "hits.json";
/// A larger file is something else.
const SIZE_MAX: u64 = 64 << 20;
/// How often counts are written. A crash loses those since.
const EVERY: Duration = Duration::from_secs(60);

/// How often each list and order, by its source's name, blocked a query since an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    since: Timestamp,
    hits: BTreeMap<String, u64>,
}

impl Counts {
    fn none() -> Self {
        Self {
            since: Timestamp::now(),
            hits: BTreeMap::new(),
        }
    }

    fn read(dir: &Path) -> Result<Self, String> {
        let path = dir.join(FILE);
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.shown());
        match regular::read(&path, SIZE_MAX).map_err(io::Error::from) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::none()),
            Err(error) => Err(failed(&error)),
        }
    }

    fn write(&self, dir: &Path) -> Result<(), String> {
        let text = serde_json::to_vec(self).expect("numbers and times have a JSON form");
        let failed = |error| format!("{}: can't be written: {error}", dir.join(FILE).shown());
        put(dir, FILE, &text).map_err(failed)
    }
}

/// What is known of hits.
#[derive(Debug)]
pub(super) struct Hits {
    dir: Option<PathBuf>,
    /// What servers before this one counted.
    before: Counts,
    /// What is on the disk.
    kept: Option<Counts>,
    due: Instant,
    problem: Option<String>,
}

impl Hits {
    /// Reads the state directory. Counts that can't be read begin again.
    pub(super) fn read(dir: Option<&Path>) -> Self {
        let before = dir.map_or_else(|| Ok(Counts::none()), Counts::read);
        let before = before.unwrap_or_else(|problem| {
            tracing::error!(
                problem,
                "hits are counted from now on: those before can't be read"
            );
            Counts::none()
        });
        Self {
            dir: dir.map(Path::to_owned),
            before,
            kept: None,
            due: Instant::now() + EVERY,
            problem: None,
        }
    }

    /// Since when hits are counted.
    pub(super) fn since(&self) -> Timestamp {
        self.before.since
    }

    /// Why the last ones are not on the disk.
    pub(super) fn problem(&self) -> Option<String> {
        let problem = self.problem.as_ref()?;
        Some(format!("hits are not kept: {problem}"))
    }
}

impl Control {
    /// How often a source blocked a query since hits are counted; `None` if it was never in force.
    pub(super) fn hits(&self, source: &str, gauges: &Gauges) -> Option<u64> {
        let slot = self.slots.known(source);
        let now = slot.and_then(|slot| gauges.list_hits.get(slot).copied());
        let before = self.hits.before.hits.get(source).copied();
        (now.is_some() || before.is_some()).then(|| now.unwrap_or(0) + before.unwrap_or(0))
    }

    fn counts(&self, gauges: &Gauges) -> Counts {
        let mut counts = self.hits.before.clone();
        for (source, slot) in self.slots.all() {
            let now = gauges.list_hits.get(slot).copied().unwrap_or(0);
            if now > 0 {
                *counts.hits.entry(source.to_owned()).or_default() += now;
            }
        }
        counts
    }

    /// Has the counts written, if that is due and they are other ones.
    pub(super) fn start_counting(&mut self) {
        let Some(dir) = self.hits.dir.clone() else {
            return;
        };
        if self.hits.due > Instant::now() || self.errands.is_running(&Errand::Count) {
            return;
        }
        self.hits.due = Instant::now() + EVERY;
        let counts = self.counts(&self.plane.gauges());
        if self.hits.kept.as_ref() == Some(&counts) {
            return;
        }
        let places = dir.join(FILE).shown().to_string();
        let work = move || Landed::Counted(counts.write(&dir).map(|()| Box::new(counts)));
        self.errands.start(Errand::Count, places, work);
    }

    pub(super) fn land_counted(&mut self, counted: Result<Box<Counts>, String>) {
        match counted {
            Ok(counts) => (self.hits.kept, self.hits.problem) = (Some(*counts), None),
            Err(problem) => {
                if self.hits.problem.as_ref() != Some(&problem) {
                    tracing::error!(problem, "hits are not kept");
                }
                self.hits.problem = Some(problem);
            }
        }
    }

    /// Writes the last counts, at the server's end.
    pub(super) fn keep_counts(&self, gauges: &Gauges) {
        let Some(dir) = &self.hits.dir else { return };
        if let Err(problem) = self.counts(gauges).write(dir) {
            tracing::error!(problem, "hits since the last minute are lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::control::plane::Following;
    use crate::control::wall::Still;

    #[test]
    fn counts_are_read_as_they_were_written_and_damaged_ones_begin_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Counts::read(folder.path()).expect("nothing is there");
        assert!(first.hits.is_empty());
        let hits = [("ads".to_owned(), 7), ("order:x-1".to_owned(), 2)];
        let counts = Counts {
            since: Timestamp::UNIX_EPOCH,
            hits: hits.into(),
        };
        counts.write(folder.path()).expect("written");
        assert_eq!(Counts::read(folder.path()), Ok(counts.clone()));
        assert_eq!(Hits::read(Some(folder.path())).before, counts);
        let files = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(files, 1, "nothing else is left over");
        for damage in ["", "{\"since\":", "{\"hits\":{}}"] {
            fs::write(folder.path().join(FILE), damage).expect("written");
            let began = Timestamp::now();
            let hits = Hits::read(Some(folder.path()));
            assert!(hits.since() >= began && hits.before.hits.is_empty());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn counts_are_written_each_minute_if_there_are_new_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tapis.toml");
        fs::write(&file, "[state]\ndir = \"state\"\n").expect("written");
        let config = Config::load(&file).expect("a configuration");
        let control = tokio::task::block_in_place(|| Control::start(config, Arc::new(Still)));
        let mut control = control.expect("a first generation");
        let slot = control.slots.of("order:x-1").expect("there is room");
        let gauges = move |hits: u64| {
            let mut list_hits = vec![0; usize::from(slot) + 1];
            list_hits[usize::from(slot)] = hits;
            Gauges {
                list_hits,
                ..Gauges::default()
            }
        };
        for (hits, is_written) in [(3, true), (3, false), (5, true)] {
            control.plane = Following::new(Arc::new(move || gauges(hits)));
            control.start_counting();
            assert!(!control.errands.is_running(&Errand::Count), "it is not due");
            control.hits.due = Instant::now();
            control.start_counting();
            assert_eq!(control.errands.is_running(&Errand::Count), is_written);
            while control.errands.is_running(&Errand::Count) {
                let (errand, landed) = control.errands.next().await.expect("it ends");
                control.land_errand(&errand, landed);
            }
            let kept = Counts::read(&folder.path().join("state")).expect("readable");
            assert_eq!(kept.hits["order:x-1"], hits);
        }
        // What can't be written is an alarm until it can.
        let path = folder.path().join("state").join(FILE);
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        for (hits, is_alarm) in [(6, true), (6, false)] {
            control.hits.due = Instant::now();
            control.plane = Following::new(Arc::new(move || gauges(hits)));
            control.start_counting();
            while control.errands.is_running(&Errand::Count) {
                let (errand, landed) = control.errands.next().await.expect("it ends");
                control.land_errand(&errand, landed);
            }
            assert_eq!(control.hits.problem().is_some(), is_alarm);
            let _ = fs::remove_dir(&path);
        }
    }
}
