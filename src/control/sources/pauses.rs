//! The pauses of lists and feeds. While a list is paused, its rules decide nothing; it is loaded, checked and transferred
//! as always, so its newest state counts again as soon as the pause ends.
//!
//! ```text
//!                pause                      the end, by the clock; the clock set back before the beginning;
//!   in force -----------> paused            `resume`; the list is no longer configured
//!      ^                   |  | ^                   |
//!      |                   |  +-+ pause: another end|
//!      +-------------------+------------------------+
//!
//!                                 a change                      written
//!   the file is as it should be -----------> being written ------------------> as it should be
//!                                             ^    |    | another change meanwhile: written again
//!                                             +----+----+
//!                                    next sweep    | failed: an alarm
//! ```
//!
//! A change counts at once, whether it can be stored or not: whoever pauses a list has names that are blocked by mistake,
//! and a disk that does not answer must not prolong that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::config::Config;
use crate::config::pause::Pause;
use crate::config::regular;
use crate::config::shown::Show;
use crate::control::file_tasks::FileTasks;
use crate::control::journal::pauses::settings;
use crate::control::journal::settings::Settings;
use crate::control::persist::durable::{self, Access};
use crate::policy::rule::Source;

/// The file in the state directory.
const FILE: &str = "pauses.json";
/// A larger file is something else.
const SIZE_MAX: u64 = 16 << 20;

/// The version of the pauses that was written, or could not be.
pub(crate) type Written = (u64, Result<(), String>);

/// Pauses by the labels of lists and feeds: `list ads`, `feed ministry`. So a feed in place of a list of the same name is
/// not paused.
pub(crate) type BySource = BTreeMap<String, Pause>;

/// The pauses in force, and the file that keeps them over restarts.
pub(crate) struct Pauses {
    in_force: BySource,
    /// The state directory; without one, a restart ends all pauses.
    dir: Option<PathBuf>,
    /// Counts the changes.
    version: u64,
    /// The version that the file has.
    stored: u64,
    /// The last version that could not be written.
    failed: Option<u64>,
    problem: Option<String>,
    /// Writes the file.
    pub(crate) tasks: FileTasks<(), Written>,
}

impl Pauses {
    pub(crate) fn new(dir: Option<&Path>) -> Self {
        Self {
            in_force: BySource::new(),
            dir: dir.map(Path::to_owned),
            version: 0,
            stored: 0,
            failed: None,
            problem: None,
            tasks: FileTasks::new(),
        }
    }

    /// Restores the pauses of an earlier server that are not over, of the lists with these labels.
    pub(crate) fn restore(&mut self, now: Timestamp, labels: &BTreeSet<String>) {
        let Some(dir) = &self.dir else { return };
        let stored = match read(dir) {
            Ok(stored) => stored,
            Err(problem) => {
                tracing::error!(problem, "pauses of lists are lost");
                self.problem = Some(problem);
                return;
            }
        };
        for (source, pause) in stored {
            if !pause.is_in_force(now) || !labels.contains(&source) {
                tracing::info!(source, "its pause is over");
                // Otherwise, a list that comes back into the configuration would be paused again.
                self.version += 1;
                continue;
            }
            log_pause(&source, &pause);
            self.in_force.insert(source, pause);
        }
    }

    /// The pauses in force.
    pub(crate) fn in_force(&self) -> &BySource {
        &self.in_force
    }

    /// The source, marked as paused if it is.
    pub(crate) fn applied(&self, label: &str, source: &Arc<Source>) -> Arc<Source> {
        match self.in_force.contains_key(label) {
            false => Arc::clone(source),
            true => Arc::new(Source {
                paused: true,
                ..Source::clone(source)
            }),
        }
    }

    /// Pauses a source, with this end and reason in place of those that it had.
    pub(crate) fn pause(&mut self, label: &str, pause: Pause) {
        log_pause(label, &pause);
        self.in_force.insert(label.to_owned(), pause);
        self.version += 1;
    }

    /// Pauses all of these sources. One that is paused for longer stays so.
    pub(crate) fn pause_all(&mut self, labels: &[String], pause: &Pause) {
        for label in labels {
            let longer = |known: &Pause| known.until > pause.until;
            if !self.in_force.get(label).is_some_and(longer) {
                self.pause(label, pause.clone());
            }
        }
    }

    /// Ends the pauses of these sources. Returns the labels of those that were paused.
    pub(crate) fn resume(&mut self, labels: &[String]) -> Vec<String> {
        self.end(|label, _| labels.iter().any(|resumed| resumed == label))
    }

    /// Ends the pauses that are over by the clock. Returns their sources' labels.
    pub(crate) fn end_by_clock(&mut self, now: Timestamp) -> Vec<String> {
        self.end(|_, pause| !pause.is_in_force(now))
    }

    /// Drops the pauses of all sources but these.
    pub(crate) fn retain(&mut self, labels: &BTreeSet<String>) {
        self.end(|label, _| !labels.contains(label));
    }

    fn end(&mut self, is_over: impl Fn(&str, &Pause) -> bool) -> Vec<String> {
        let over = self.in_force.iter();
        let over = over.filter(|(label, pause)| is_over(label, pause));
        let over: Vec<_> = over.map(|(label, _)| label.clone()).collect();
        for source in &over {
            tracing::info!(source, "no longer paused");
            self.in_force.remove(source);
        }
        self.version += u64::from(!over.is_empty());
        over
    }

    /// When the next pause ends.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.in_force.values().map(|pause| pause.until).min()
    }

    /// The number of changes so far.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether there is a file that keeps pauses.
    pub(crate) fn has_file(&self) -> bool {
        self.dir.is_some()
    }

    /// Whether a version is stored; an error if it could not be. `None` while it is being written.
    pub(crate) fn stored(&self, version: u64) -> Option<Result<(), &str>> {
        if !self.has_file() || self.stored >= version {
            return Some(Ok(()));
        }
        let failed = self.failed.filter(|failed| *failed >= version);
        failed.map(|_| Err(self.problem.as_deref().unwrap_or_default()))
    }

    /// The alarm if the file can't be written, or could not be read.
    pub(crate) fn problem(&self) -> Option<String> {
        let problem = self.problem.as_ref()?;
        Some(format!("pauses of lists are not kept: {problem}"))
    }

    /// Starts to write the file if something has changed.
    pub(crate) fn start_writing(&mut self) {
        let (version, is_tried) = (self.version, self.failed == Some(self.version));
        let Some(dir) = &self.dir else { return };
        if version == self.stored || is_tried || self.tasks.is_running(&()) {
            return;
        }
        let path = dir.join(FILE);
        let text = serde_json::to_vec(&self.in_force).expect("texts and times have a JSON form");
        let work = move || {
            let written = durable::replace(&path, &text, Access::Private);
            (version, written.map_err(|error| error.to_string()))
        };
        let place = dir.join(FILE).shown().to_string();
        self.tasks.start((), place, work);
    }

    /// Ends a write; `None` if it panicked.
    pub(crate) fn finish_writing(&mut self, written: Option<Written>) {
        let broken = || {
            let problem =
                format!("writing {FILE} failed inside tapis, which is a bug; please report it");
            (self.version, Err(problem))
        };
        match written.unwrap_or_else(broken) {
            (version, Ok(())) => {
                (self.stored, self.failed, self.problem) = (version, None, None);
            }
            (version, Err(problem)) => {
                if self.problem.as_ref() != Some(&problem) {
                    tracing::error!(problem, "pauses of lists are not kept");
                }
                (self.failed, self.problem) = (Some(version), Some(problem));
            }
        }
    }

    /// Lets a failed write be tried again.
    pub(crate) fn retry(&mut self) {
        self.failed = None;
    }
}

fn log_pause(source: &str, pause: &Pause) {
    let Pause {
        until,
        reason,
        user,
        ..
    } = pause;
    tracing::warn!(source, %until, reason, user, "paused: its rules decide nothing");
}

/// The pauses that a server with this configuration would restore, as settings; those in force at `at`.
///
/// # Errors
/// A sentence, if the file can't be read.
pub(crate) fn stored_pauses(config: &Config, at: Timestamp) -> Result<Settings, String> {
    let stored = config.state.dir.as_deref().map(read).transpose()?;
    let mut paused = stored.unwrap_or_default();
    paused.retain(|_, pause| pause.is_in_force(at));
    let sources = config.lists.iter().map(|list| &list.source);
    Ok(settings(sources, &paused))
}

/// The pauses in a state directory, also those that are over.
fn read(dir: &Path) -> Result<BySource, String> {
    let path = dir.join(FILE);
    let bad = |error: &dyn std::fmt::Display| {
        let path = path.shown();
        format!(
            "{path}: can't be read, so no list is paused: {error}; pause again, or remove the file"
        )
    };
    match regular::read(&path, SIZE_MAX).map_err(io::Error::from) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| bad(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BySource::new()),
        Err(error) => Err(bad(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::SignedDuration;

    use super::*;
    use crate::control::persist::durable::faults;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("a time")
    }

    fn pause(from: i64, seconds: i64) -> Pause {
        Pause::new(at(from), SignedDuration::from_secs(seconds), "broken", 7).expect("valid")
    }

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("list {name}")).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        labels(names).into_iter().collect()
    }

    /// The names of the paused lists, with the seconds at which their pauses end.
    fn paused(pauses: &Pauses) -> Vec<(&str, i64)> {
        let all = pauses.in_force().iter();
        let shown = all.map(|(label, pause)| {
            let name = label.strip_prefix("list ").expect("a list");
            (name, pause.until.as_second() - 1_000_000)
        });
        shown.collect()
    }

    /// Writes the file, as the control loop does.
    async fn write(pauses: &mut Pauses) {
        pauses.start_writing();
        while pauses.tasks.is_running(&()) {
            let (_, written) = pauses.tasks.next().await;
            pauses.finish_writing(written);
            pauses.start_writing();
        }
    }

    #[test]
    fn a_pause_ends_by_the_clock_by_resume_and_with_its_list() {
        let mut pauses = Pauses::new(None);
        assert_eq!(pauses.next_end(), None);
        for (name, seconds) in [("a", 10), ("b", 20), ("c", 30), ("d", 40)] {
            pauses.pause(&format!("list {name}"), pause(0, seconds));
        }
        assert_eq!(pauses.next_end(), Some(at(10)));
        assert_eq!(pauses.end_by_clock(at(9)), labels(&[]));
        assert_eq!(pauses.end_by_clock(at(10)), labels(&["a"]));
        assert_eq!(pauses.resume(&labels(&["a", "b", "x"])), labels(&["b"]));
        pauses.retain(&set(&["a", "b", "d"]));
        assert_eq!(paused(&pauses), [("d", 40)]);
        assert_eq!(pauses.end_by_clock(at(100)), labels(&["d"]));
        assert_eq!(pauses.next_end(), None);
    }

    #[test]
    fn a_clock_that_is_set_back_prolongs_no_pause_beyond_its_dates() {
        let mut pauses = Pauses::new(None);
        pauses.pause("list early", pause(0, 100));
        pauses.pause("list late", pause(50, 100));
        assert_eq!(pauses.end_by_clock(at(20)), labels(&["late"]));
        assert_eq!(pauses.end_by_clock(at(-3600)), labels(&["early"]));
    }

    #[test]
    fn a_second_pause_of_a_list_replaces_its_end_and_one_of_all_only_prolongs_it() {
        let mut pauses = Pauses::new(None);
        pauses.pause("list a", pause(0, 100));
        pauses.pause("list a", pause(0, 50));
        assert_eq!(paused(&pauses), [("a", 50)]);
        pauses.pause_all(&labels(&["a", "b"]), &pause(0, 20));
        assert_eq!(paused(&pauses), [("a", 50), ("b", 20)]);
        pauses.pause_all(&labels(&["a", "b"]), &pause(0, 200));
        assert_eq!(paused(&pauses), [("a", 200), ("b", 200)]);
    }

    #[tokio::test]
    async fn a_restart_keeps_pauses_of_configured_lists_that_are_not_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut pauses = Pauses::new(Some(folder.path()));
        for (name, seconds) in [("a", 100), ("over", 10), ("gone", 100)] {
            pauses.pause(&format!("list {name}"), pause(0, seconds));
        }
        assert_eq!(pauses.stored(pauses.version()), None);
        write(&mut pauses).await;
        assert_eq!(pauses.stored(pauses.version()), Some(Ok(())));
        let mut next = Pauses::new(Some(folder.path()));
        next.restore(at(10), &set(&["a", "over"]));
        assert_eq!(paused(&next), [("a", 100)]);
        assert_eq!(next.in_force()["list a"], pause(0, 100));
        let mut feed = Pauses::new(Some(folder.path()));
        let label = BTreeSet::from(["feed a".to_owned()]);
        feed.restore(at(10), &label);
        assert_eq!(paused(&feed), [], "a feed of that name is another source");
    }

    #[tokio::test]
    async fn changes_during_a_write_are_written_after_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut pauses = Pauses::new(Some(folder.path()));
        pauses.pause("list a", pause(0, 100));
        pauses.start_writing();
        pauses.pause("list b", pause(0, 100));
        let version = pauses.version();
        let (_, written) = pauses.tasks.next().await;
        pauses.finish_writing(written);
        assert_eq!(pauses.stored(version), None);
        write(&mut pauses).await;
        assert_eq!(pauses.stored(version), Some(Ok(())));
        let stored = read(folder.path()).expect("readable");
        assert_eq!(stored, *pauses.in_force());
    }

    #[tokio::test]
    async fn a_pause_that_can_not_be_stored_counts_and_is_written_again_after_a_sweep() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut pauses = Pauses::new(Some(folder.path()));
        let broken = faults::broken(folder.path());
        pauses.pause("list a", pause(0, 100));
        write(&mut pauses).await;
        assert_eq!(paused(&pauses), [("a", 100)]);
        let stored = pauses.stored(pauses.version());
        let problem = stored.expect("it was tried").expect_err("it failed");
        assert!(problem.contains(FILE), "{problem}");
        assert!(pauses.problem().is_some());
        drop(broken);
        write(&mut pauses).await;
        assert!(pauses.problem().is_some(), "not before the next sweep");
        pauses.retry();
        write(&mut pauses).await;
        assert_eq!(pauses.problem(), None);
        assert_eq!(pauses.stored(pauses.version()), Some(Ok(())));
    }

    #[test]
    fn a_damaged_file_pauses_nothing_and_is_an_alarm() {
        let folder = tempfile::tempdir().expect("a folder");
        for damage in ["", "{", "[]", "{\"list a\":{}}"] {
            fs::write(folder.path().join(FILE), damage).expect("written");
            let mut pauses = Pauses::new(Some(folder.path()));
            pauses.restore(at(0), &set(&["a"]));
            assert_eq!(paused(&pauses), []);
            let alarm = pauses.problem().expect("an alarm");
            assert!(alarm.contains("no list is paused"), "{alarm}");
        }
    }
}
