//! What files of orders and exceptions said before the start, as the journal has it.
//!
//! A start takes it for files that it can't read, so that a file system that is not mounted ends no order, and
//! to know which of two files had an order first.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::registry::OrderRegistry;
use crate::config::exception::Exception;
use crate::config::order::Order;
use crate::config::shown::Show;
use crate::config::{Config, Problems};
use crate::control::journal::Record;
use crate::control::sources::orders::directory::{Folder, TrackedFile};
use crate::control::sources::orders::schedule::{Schedule, State};

impl<T> Folder<T> {
    /// Whether there are files, or may be, of which no good state is known.
    pub(super) fn lacks_files(&self) -> bool {
        let lacks = |sheet: &TrackedFile<T>| sheet.good.is_none();
        self.problem.is_some() || self.files.values().any(lacks)
    }

    /// Takes what files of this directory said before the start, with their texts, where they can't be read
    /// now. Returns what all of them said, whether it counts or not.
    pub(super) fn recall(
        &mut self,
        all: impl Iterator<Item = (PathBuf, Result<(T, String), Problems>)>,
    ) -> Vec<(PathBuf, Arc<T>)> {
        let Some((dir, absolute)) = self.dir.clone() else {
            return Vec::new();
        };
        let mut said = Vec::new();
        for (path, parsed) in all {
            let parent = path.parent().unwrap_or(Path::new(""));
            let is_here = match path.is_absolute() {
                true => parent == absolute,
                // The server may have been started elsewhere.
                false => absolute.ends_with(parent),
            };
            let Some(path) = path.file_name().filter(|_| is_here) else {
                continue;
            };
            let path = dir.join(path);
            let parsed = parsed.map(|(value, text)| (Arc::new(value), Arc::from(text)));
            let values = parsed.iter();
            said.extend(values.map(|(value, _)| (path.clone(), Arc::clone(value))));
            let sheet = match self.files.get_mut(&path) {
                Some(sheet) if sheet.good.is_none() => sheet,
                None if self.problem.is_some() => self.files.entry(path).or_default(),
                _ => continue,
            };
            match parsed {
                Ok(good) => (sheet.good, sheet.is_recalled) = (Some(good), true),
                // Another version of the program took it.
                Err(problems) => {
                    let problems = (Arc::new(problems), Timestamp::now());
                    sheet.refused.get_or_insert(problems);
                }
            }
        }
        said
    }

    /// How many files have not been read since the start, and count as they were before it.
    pub(super) fn recalled(&self) -> usize {
        self.files
            .values()
            .filter(|sheet| sheet.is_recalled)
            .count()
    }
}

impl OrderRegistry {
    /// Whether it matters what files said before the start: some can't be read, all orders are gone, or two
    /// files have one id.
    pub(super) fn lacks_last_good(&self) -> bool {
        let lacks = self.orders.lacks_files() || self.exceptions.lacks_files();
        let are_gone = self.config.dir.is_some() && self.orders().next().is_none();
        lacks || are_gone || !self.doubles.is_empty()
    }

    /// Whether the journal, which could not be read yet, may have orders of files that could not be read either.
    pub(crate) fn may_have_more_orders(&self) -> bool {
        self.unrecalled.is_some() && self.orders.lacks_files()
    }

    /// The same of exceptions.
    pub(crate) fn may_have_more_exceptions(&self) -> bool {
        self.unrecalled.is_some() && self.exceptions.lacks_files()
    }

    fn may_have_more(&self) -> bool {
        self.may_have_more_orders() || self.may_have_more_exceptions()
    }

    /// Whether what files said before the start is not known, as the journal could not be read.
    pub(crate) fn is_unrecalled(&self) -> bool {
        self.unrecalled.is_some()
    }

    /// Reads the journal again, if it still matters. Returns whether it could be read.
    pub(crate) fn recall_late(&mut self, config: &Config) -> bool {
        if !self.may_have_more() {
            self.unrecalled = None;
            return false;
        }
        self.recall(config);
        !self.may_have_more()
    }

    /// Looks for orders that were there before the start, where the configuration has no directory of them.
    pub(crate) fn recall_unconfigured(&mut self, config: &Config) {
        if self.config.dir.is_none() && self.orders().next().is_none() {
            self.recall(config);
        }
    }

    /// Takes what files said when a server ran last, where they can't be read now. Without a journal
    /// nothing is known.
    pub(super) fn recall(&mut self, config: &Config) {
        let Some(journal) = &config.journal else {
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
        // Wherever their files are: the configuration may name another directory now, or none.
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
        // Their texts are not known.
        let exceptions = files
            .into_iter()
            .map(|(path, all)| (path, Ok((all, String::new()))));
        self.exceptions.recall(exceptions);
        self.conclude();
    }

    /// What is to be said of files that were not read since the start, a sentence each.
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
                        "{kind}: what files that can't be read said before the start is not known: {problem}"
                    ));
                }
                1 => "1 file".to_owned(),
                more => format!("{more} files"),
            };
            Some(format!(
                "{kind}: {files} could not be read since the start; what was in force before it stays"
            ))
        });
        sentences.into_iter().flatten()
    }

    /// An empty directory may be a mount point without its file system: that several orders are gone at once is
    /// reported, and that the only one is, if it was in force.
    pub(super) fn look_for_loss(&mut self) {
        let files = self.orders.files().iter();
        let single = files.filter(|(path, _)| !self.doubles.contains_key(*path));
        let orders: Vec<_> = single
            .filter_map(|(_, sheet)| Some(&sheet.good.as_ref()?.0))
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
            self.miss(before);
        }
    }

    fn miss(&mut self, orders: usize) {
        self.vanished = Some(orders);
        let problem = self.loss();
        tracing::error!(problem, "orders gone");
    }

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

    /// Of files with one id the one counts that had it first: another one that is put beside it, by mistake or
    /// not, must not change an order in force. Where none was there first, as all are new at a start, names
    /// decide. They are compared without their ending, as the name of a backup goes on where the original's
    /// ends: `x-1.toml` counts, and not `x-1-old.toml`.
    pub(super) fn find_doubles(&mut self) {
        let files = self.orders.files().iter();
        let good = files.filter_map(|(path, sheet)| Some((&*sheet.good.as_ref()?.0.id, path)));
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
    fn the_journal_is_read_once_for_what_files_said_and_not_if_all_can_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let orders = folder.path().join("orders");
        fs::create_dir(&orders).expect("made");
        let text = "[orders]\npath = \"orders\"\n[journal]\npath = \"journal.jsonl\"\n";
        let config = Config::parse(text, &folder.path().join("tapis.toml")).expect("valid");
        let mut journal = Journal::open(config.journal.as_ref().expect("a path"), None, None);
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
