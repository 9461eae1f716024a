//! The last good content that files of orders and exceptions had before the start, from the journal.
//!
//! This content replaces files that can't be read at the start, so that no order ends because a file system is not
//! mounted. It also decides which of two files with the same id had the order first.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::registry::OrderRegistry;
use crate::config::exception::Exception;
use crate::config::order::Order;
use crate::config::order::State;
use crate::config::shown::Show;
use crate::config::{Config, Problems};
use crate::control::journal::Record;
use crate::control::sources::orders::directory::{FollowedDirectory, TrackedFile};
use crate::control::sources::orders::schedule::Schedule;

impl<T> FollowedDirectory<T> {
    /// Whether there are files without good content, or may be, as the directory can't be listed.
    pub(super) fn lacks_files(&self) -> bool {
        let lacks = |file: &TrackedFile<T>| file.good.is_none();
        self.problem.is_some() || self.files.values().any(lacks)
    }

    /// Whether nothing is known of its files: it could never be listed, and none have content from before the start.
    pub(super) fn is_unknown(&self) -> bool {
        let is_known = self.files.values().any(|file| file.good.is_some());
        self.dir.is_some() && !self.was_listed && !is_known
    }

    /// Sets the content that files of this directory had before the start, with their texts, if they have no good
    /// content now. Returns the earlier content of all of them, even of those that have good content now.
    pub(super) fn recall(
        &mut self,
        all: impl Iterator<Item = (PathBuf, Result<(T, String), Problems>)>,
    ) -> Vec<(PathBuf, Arc<T>)> {
        let Some((dir, absolute)) = self.dir.clone() else {
            return Vec::new();
        };
        let mut known = Vec::new();
        for (path, parsed) in all {
            let parent = path.parent().unwrap_or(Path::new(""));
            let is_here = match path.is_absolute() {
                true => parent == absolute,
                // The server may have been started in another working directory.
                false => absolute.ends_with(parent),
            };
            let Some(path) = path.file_name().filter(|_| is_here) else {
                continue;
            };
            let path = dir.join(path);
            let parsed = parsed.map(|(value, text)| (Arc::new(value), Arc::from(text)));
            let values = parsed.iter();
            known.extend(values.map(|(value, _)| (path.clone(), Arc::clone(value))));
            let file = match self.files.get_mut(&path) {
                Some(file) if file.good.is_none() => file,
                None if self.problem.is_some() => self.files.entry(path).or_default(),
                _ => continue,
            };
            match parsed {
                Ok(good) => (file.good, file.is_recalled) = (Some(good), true),
                // Another version of the program accepted it.
                Err(problems) => {
                    let problems = (Arc::new(problems), Timestamp::now());
                    file.refused.get_or_insert(problems);
                }
            }
        }
        known
    }

    /// How many files have not been read since the start, and have the content from before it.
    pub(super) fn recalled(&self) -> usize {
        self.files.values().filter(|file| file.is_recalled).count()
    }
}

impl OrderRegistry {
    /// Whether the content before the start is needed: files can't be read, all orders are gone, or two files have the
    /// same id.
    pub(super) fn lacks_last_good(&self) -> bool {
        let lacks = self.orders.lacks_files() || self.exceptions.lacks_files();
        let are_gone = self.config.dir.is_some() && self.orders().next().is_none();
        lacks || are_gone || !self.doubles.is_empty()
    }

    /// Whether files can't be read, and the journal, which may have their orders, can't be read so far either.
    pub(crate) fn may_have_more_orders(&self) -> bool {
        self.unrecalled.is_some() && self.orders.lacks_files()
    }

    /// Like [`may_have_more_orders`](Self::may_have_more_orders), for exceptions.
    pub(crate) fn may_have_more_exceptions(&self) -> bool {
        self.unrecalled.is_some() && self.exceptions.lacks_files()
    }

    fn may_have_more(&self) -> bool {
        self.may_have_more_orders() || self.may_have_more_exceptions()
    }

    /// Whether the content before the start is unknown, as the journal can't be read so far.
    pub(crate) fn is_unrecalled(&self) -> bool {
        self.unrecalled.is_some()
    }

    /// Reads the journal again, if it is still needed. Returns whether it could be read.
    pub(crate) fn recall_late(&mut self, config: &Config) -> bool {
        if !self.may_have_more() {
            self.unrecalled = None;
            return false;
        }
        self.recall(config);
        !self.may_have_more()
    }

    /// Looks in the journal for orders from before the start, if the configuration names no directory of orders.
    pub(crate) fn recall_unconfigured(&mut self, config: &Config) {
        if self.config.dir.is_none() && self.orders().next().is_none() {
            self.recall(config);
        }
    }

    /// Sets the content from before the start for files that can't be read now. Does nothing without a journal.
    pub(super) fn recall(&mut self, config: &Config) {
        let Some(journal) = &config.journal.path else {
            return;
        };
        let absent = fs::metadata(journal).err();
        let absent = absent.filter(|_| self.orders.lacks_files() || self.exceptions.lacks_files());
        self.unrecalled =
            absent.map(|error| format!("{}: can't be read: {error}", journal.shown()));
        let record = match Record::replay(journal) {
            Ok(record) => record,
            Err(error) => {
                self.unrecalled = Some(error.to_string());
                return;
            }
        };
        let orders = record.orders.into_values().map(|(path, text)| {
            let parsed = Order::parse(&text, &path).map(|order| (order, text));
            (path, parsed)
        });
        let orders: Vec<_> = orders.collect();
        // Orders of any directory count: the configuration may name another one now, or none.
        let good = orders.iter().filter_map(|(_, parsed)| parsed.as_ref().ok());
        let good: Vec<_> = good.map(|(order, _)| order).collect();
        self.count = good.len();
        self.only = match &*good {
            [only] => Some(Arc::new((*only).clone())),
            _ => None,
        };
        let orders = self.orders.recall(orders.into_iter());
        self.holders = orders
            .into_iter()
            .map(|(path, order)| (order.id.clone(), path))
            .collect();
        let mut files: BTreeMap<PathBuf, Vec<Exception>> = BTreeMap::new();
        for exception in record.exceptions.into_values() {
            files
                .entry(exception.path.clone())
                .or_default()
                .push(exception);
        }
        // The journal does not have their texts.
        let exceptions = files
            .into_iter()
            .map(|(path, all)| (path, Ok((all, String::new()))));
        self.exceptions.recall(exceptions);
        self.conclude();
    }

    /// The alarms about files that have not been read since the start, one sentence each.
    pub(super) fn recollections(&self) -> impl Iterator<Item = String> {
        let kinds = [
            ("orders", self.orders.recalled(), self.orders.lacks_files()),
            (
                "exceptions",
                self.exceptions.recalled(),
                self.exceptions.lacks_files(),
            ),
        ];
        let sentences = kinds.map(|(kind, recalled, lacks)| {
            let files = match recalled {
                0 => {
                    let problem = self.unrecalled.as_ref().filter(|_| lacks)?;
                    return Some(format!(
                        "{kind}: the last good content of files that can't be read is not known: {problem}"
                    ));
                }
                1 => "1 file".to_owned(),
                more => format!("{more} files"),
            };
            Some(format!(
                "{kind}: {files} could not be read since the start; the last good content stays in force"
            ))
        });
        sentences.into_iter().flatten()
    }

    /// Raises an alarm if several orders are gone at once, or if the only one is gone and was in force: an empty
    /// directory may be a mount point without its file system.
    pub(super) fn look_for_loss(&mut self) {
        let files = self.orders.files().iter();
        let single = files.filter(|(path, _)| !self.doubles.contains_key(*path));
        let orders: Vec<_> = single
            .filter_map(|(_, file)| Some(&file.good.as_ref()?.0))
            .collect();
        let only = match &*orders {
            [only] => Some(Arc::clone(only)),
            _ => None,
        };
        let before = std::mem::replace(&mut self.count, orders.len());
        let only = std::mem::replace(&mut self.only, only);
        let now = Timestamp::now();
        let is_in_force =
            |order: Arc<Order>| Schedule::new(&order, None).state(now) == State::InForce;
        if self.count > 0 {
            self.vanished = None;
        } else if before > 1 || only.is_some_and(is_in_force) {
            self.report_loss(before);
        }
    }

    fn report_loss(&mut self, orders: usize) {
        self.vanished = Some(orders);
        let problem = self.loss();
        tracing::error!(problem, "orders gone");
    }

    /// The alarm that all orders are gone.
    pub(super) fn loss(&self) -> Option<String> {
        let gone = match self.vanished? {
            1 => "the only order is gone".to_owned(),
            more => format!("all {more} orders are gone at once"),
        };
        let (place, check) = match &self.config.dir {
            Some(dir) => (
                dir.shown().to_string(),
                "check whether the file system is mounted, and the `path` in [orders]",
            ),
            None => (
                "[orders]".to_owned(),
                "put its `path` back, which the configuration no longer has",
            ),
        };
        Some(format!(
            "{place}: {gone} and no longer in force: if that is a mistake, {check}; if not, confirm it with: tapis reload"
        ))
    }

    /// Finds files with the same id. The file that had the id first counts: a second one, added by mistake or on
    /// purpose, must not change an order in force. If all are new, as at a start, the first name counts. Names are
    /// compared without `.toml`, as the name of a backup is often a longer one: `x-1.toml` counts, and `x-1-old.toml`
    /// does not.
    pub(super) fn find_doubles(&mut self) {
        let files = self.orders.files().iter();
        let good = files.filter_map(|(path, file)| Some((&*file.good.as_ref()?.0.id, path)));
        let mut good: Vec<(&str, &PathBuf)> = good.collect();
        good.sort_by(|(_, one), (_, other)| one.file_stem().cmp(&other.file_stem()));
        let ids: HashMap<&PathBuf, &str> = good.iter().map(|(id, path)| (*path, *id)).collect();
        self.holders
            .retain(|id, path| ids.get(path) == Some(&&**id));
        self.doubles.clear();
        for (id, path) in good {
            match self.holders.get(id) {
                Some(holder) if holder == path => {}
                Some(holder) => {
                    let double = (id.to_owned(), holder.clone());
                    self.doubles.insert(path.clone(), double);
                }
                None => _ = self.holders.insert(id.to_owned(), path.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::control::journal::settings::Settings;
    use crate::control::journal::{Draft, Journal, READS};

    #[test]
    fn the_journal_is_read_once_for_earlier_content_and_not_if_all_files_can_be_read() {
        let folder = tempfile::tempdir().expect("a directory");
        let orders = folder.path().join("orders");
        fs::create_dir(&orders).expect("made");
        let text = "[orders]\npath = \"orders\"\n[journal]\npath = \"journal.jsonl\"\n";
        let config = Config::parse(text, &folder.path().join("tapis.toml")).expect("valid");
        let mut journal = Journal::open(config.journal.path.as_ref().expect("a path"), None, None);
        journal.publish(Draft {
            generation: 1,
            at: Timestamp::UNIX_EPOCH,
            causes: Vec::new(),
            lists: Vec::new(),
            order_records: None,
            states: Vec::new(),
            held: None,
            settings: Settings::new(),
        });
        journal.close(1);
        let reads = || {
            let before = READS.get();
            OrderRegistry::read(&config);
            READS.get() - before
        };
        assert_eq!(reads(), 1, "all orders may be gone");
        fs::write(orders.join("bad.toml"), "no order").expect("written");
        assert_eq!(reads(), 1, "a file that can't be read");
        fs::remove_file(orders.join("bad.toml")).expect("removed");
        let order = "id = \"x-1\"\nlegal-basis = [\"law\"]\nissued-at = 2020-01-01T00:00:00Z\n\
                     review-at = 2090-01-01T00:00:00Z\n[authority]\nname = \"A\"\n\
                     [reason]\nen = \"r\"\n[redress]\nhow = \"write\"\n\
                     [[targets]]\nname = \"order.example\"\nscope = \"exact\"\n";
        fs::write(orders.join("x-1.toml"), order).expect("written");
        assert_eq!(reads(), 0);
    }
}
