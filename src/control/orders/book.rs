//! Owns all orders and exceptions that are known, and what follows from them at an instant: sources, rules, the next change.
//! Refuses to ask what time it is, and to put anything in force.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::watch::Touched;
use super::folder::Folder;
use super::life::{Life, State, supersessions};
use super::rules;
use crate::config::exception::{self, Exception};
use crate::config::order::Order;
use crate::config::{Config, Exceptions, Orders};
use crate::policy::image::Image;
use crate::policy::rule::{Scope, Source};
use crate::wire::name::Name;

/// Problems that are reported of all files together, and warnings: `status`, log and journal hold each.
const MOST_REPORTED: usize = 1000;

/// All orders and exceptions. A clone shares what the files say.
#[derive(Clone, Debug)]
pub struct Book {
    config: Orders,
    orders: Folder<Order>,
    exceptions: Folder<Vec<Exception>>,
    /// The exceptions of the configuration's own file.
    own: Vec<Exception>,
    /// Which file has an order: a second one with the same id is refused.
    holders: HashMap<String, PathBuf>,
    /// Second files with the id of another one, each with that other one.
    doubles: HashMap<PathBuf, (String, PathBuf)>,
    /// When each order's place is taken by another one, by its id.
    superseded: HashMap<String, Timestamp>,
    /// What orders say that does not count.
    vain: Vec<String>,
    rules: Option<Arc<Image>>,
    /// Why there are no newer ones.
    overfull: Option<String>,
    /// Counts up whenever something else is known.
    version: u64,
}

/// An order, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'b> {
    /// What its file says.
    pub order: &'b Order,
    /// When it begins, pauses and ends.
    pub life: Life<'b>,
}

impl Book {
    /// Why a configuration can't be taken: its directories can't be listed.
    pub(in crate::control) fn unlisted(config: &Config) -> Vec<String> {
        let folders = [&config.orders.dir, &config.exceptions.dir];
        let unlisted = folders.into_iter().flatten().filter_map(|dir| {
            let (error, dir) = (fs::read_dir(dir).err()?, dir.display());
            Some(format!(
                "configuration not taken, {dir}: cannot be listed: {error}"
            ))
        });
        unlisted.collect()
    }

    /// Reads all files.
    pub fn read(config: &Config) -> Self {
        let mut book = Self::nothing(config);
        book.configure(config);
        book
    }

    fn nothing(config: &Config) -> Self {
        Self {
            config: config.orders.clone(),
            orders: Folder::default(),
            exceptions: Folder::default(),
            own: Vec::new(),
            holders: HashMap::new(),
            doubles: HashMap::new(),
            superseded: HashMap::new(),
            vain: Vec::new(),
            rules: None,
            overfull: None,
            version: 0,
        }
    }

    /// Of files and texts that were taken once; the configuration's own orders and exceptions don't count.
    pub fn of_past(
        config: &Config,
        orders: Vec<(PathBuf, String)>,
        exceptions: Vec<Exception>,
    ) -> Self {
        let mut book = Self::nothing(config);
        for (path, text) in orders {
            book.orders.embed(&path, &text, Order::parse);
        }
        book.own = exceptions;
        book.conclude();
        book
    }

    /// Takes a new configuration, and reads all that changed.
    pub fn configure(&mut self, config: &Config) {
        let Exceptions { dir, own } = &config.exceptions;
        let mut changed = self.config != config.orders || self.own != *own;
        self.config.clone_from(&config.orders);
        self.own.clone_from(own);
        if self.orders.set(config.orders.dir.as_deref()) || self.rules.is_none() {
            changed = true;
            for (path, text) in config.orders.embedded {
                self.orders.embed(Path::new(path), text, Order::parse);
            }
        }
        changed |= self.exceptions.set(dir.as_deref());
        if self.refresh().is_empty() && changed {
            self.conclude();
        }
    }

    /// Reads all files that changed, whoever writes them, and returns them.
    pub fn refresh(&mut self) -> Vec<PathBuf> {
        let mut changed = self.orders.read_all(Order::parse);
        changed.extend(self.exceptions.read_all(exception::parse));
        if !changed.is_empty() {
            self.conclude();
        }
        changed
    }

    /// The directories by their absolute paths.
    pub(in crate::control) fn folders(&self) -> impl Iterator<Item = &Path> {
        [self.orders.path(), self.exceptions.path()]
            .into_iter()
            .flatten()
    }

    /// Whether a path is one of the directories, or may be one of their files.
    pub(in crate::control) fn concerns(&self, path: &Path) -> bool {
        self.orders.concerns(path) || self.exceptions.concerns(path)
    }

    /// Something happened to a file.
    pub(in crate::control) fn touch(&mut self, touched: &Touched, now: Instant) {
        self.orders.touch(touched, now);
        self.exceptions.touch(touched, now);
    }

    /// Looks for changes that nobody told.
    pub(in crate::control) fn sweep(&mut self, now: Instant) {
        self.orders.sweep(now);
        self.exceptions.sweep(now);
    }

    /// When files are to be read.
    pub(in crate::control) fn due(&self) -> Option<Instant> {
        self.orders
            .due()
            .into_iter()
            .chain(self.exceptions.due())
            .min()
    }

    /// Reads the files whose writers are done. Returns those that changed.
    pub(in crate::control) fn read_due(&mut self, now: Instant) -> Vec<PathBuf> {
        let mut changed = self.orders.read_due(now, Order::parse);
        changed.extend(self.exceptions.read_due(now, exception::parse));
        if !changed.is_empty() {
            self.conclude();
        }
        changed
    }

    /// Draws all conclusions that need no clock.
    fn conclude(&mut self) {
        self.version += 1;
        self.find_doubles();
        let (superseded, vain) = supersessions(self.orders());
        let superseded = superseded.into_iter().map(|(id, at)| (id.to_owned(), at));
        (self.superseded, self.vain) = (superseded.collect(), vain);
        match rules::image(self.orders(), self.exceptions()) {
            Ok(image) => {
                self.rules = image.map(Arc::new);
                self.overfull = None;
            }
            Err(error) => {
                let told = format!("orders and exceptions: {error}; the ones before stay in force");
                tracing::error!(problem = told, "orders refused");
                self.overfull = Some(told);
            }
        }
    }

    fn find_doubles(&mut self) {
        let good = |sheet: &super::folder::Sheet<Order>| {
            sheet.good.as_ref().map(|(order, _)| order.id.clone())
        };
        let id_of = |path: &Path| self.orders.files().get(path).and_then(good);
        self.holders
            .retain(|id, path| id_of(path).as_ref() == Some(id));
        self.doubles.clear();
        for (path, sheet) in self.orders.files() {
            let Some(id) = good(sheet) else { continue };
            let holder = self
                .holders
                .entry(id.clone())
                .or_insert_with(|| path.clone());
            if holder != path {
                self.doubles.insert(path.clone(), (id, holder.clone()));
            }
        }
    }

    /// Another number whenever something else is known.
    pub(in crate::control) fn version(&self) -> u64 {
        self.version
    }

    /// The orders of all files, without those whose id another one has.
    pub fn orders(&self) -> impl Iterator<Item = &Order> + Clone {
        self.texts().map(|(order, _)| order)
    }

    /// The same with their files' texts.
    pub(in crate::control) fn texts(&self) -> impl Iterator<Item = (&Order, &Arc<str>)> + Clone {
        let files = self.orders.files().iter();
        let single = files.filter(|(path, _)| !self.doubles.contains_key(*path));
        single.filter_map(|(_, sheet)| sheet.good.as_ref().map(|(order, text)| (&**order, text)))
    }

    /// The orders with their lives.
    pub fn known(&self) -> impl Iterator<Item = Known<'_>> {
        self.orders().map(|order| Known {
            order,
            life: self.life(order),
        })
    }

    /// The life of one of the orders.
    pub fn life<'b>(&self, order: &'b Order) -> Life<'b> {
        Life::new(order, self.superseded.get(&order.id).copied())
    }

    /// All exceptions, with those that are over.
    pub fn exceptions(&self) -> impl Iterator<Item = &Exception> + Clone {
        let files = self.exceptions.files().values();
        let good = files.filter_map(|sheet| sheet.good.as_ref());
        self.own
            .iter()
            .chain(good.flat_map(|(exceptions, _)| &**exceptions))
    }

    /// The compiled rules of all of them, in force or not.
    pub fn rules(&self) -> Option<&Arc<Image>> {
        self.rules.as_ref()
    }

    /// What is in force at an instant: exceptions as they stand in the files, orders by their
    /// beginning.
    pub fn sources(&self, at: Timestamp) -> Vec<Arc<Source>> {
        let mut orders: Vec<_> = self
            .orders()
            .filter(|order| self.life(order).state(at) == State::InForce)
            .collect();
        orders.sort_by_key(|order| (order.dates.effective_from, &order.id));
        let exceptions = self.exceptions().enumerate();
        let exceptions = exceptions
            .filter(|(_, exception)| exception.until.is_none_or(|until| at < until.at()))
            .map(|(number, exception)| rules::exception_source(number, exception));
        let excepts = orders
            .iter()
            .filter_map(|order| rules::except_source(order));
        let sources = orders
            .iter()
            .map(|order| rules::order_source(order, &self.config));
        exceptions
            .chain(excepts)
            .chain(sources)
            .map(Arc::new)
            .collect()
    }

    /// What each order is at an instant, by its id.
    pub(in crate::control) fn states(&self, at: Timestamp) -> Vec<(String, State)> {
        let state = |known: Known<'_>| (known.order.id.clone(), known.life.state(at));
        self.known().map(state).collect()
    }

    /// The rules that are in force at an instant, with the names of their sources.
    pub fn rules_at(&self, at: Timestamp) -> Vec<(String, &Name, Scope)> {
        let sources = self.sources(at);
        let names: HashSet<&str> = sources.iter().map(|source| &*source.name).collect();
        let all = rules::all(self.orders(), self.exceptions());
        all.filter(|(source, ..)| names.contains(&**source))
            .collect()
    }

    /// The next instant at which something begins or ends.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let orders = self
            .orders()
            .filter_map(|order| self.life(order).next(after));
        let untils = self.exceptions().filter_map(|exception| exception.until);
        let untils = untils
            .map(|until| until.at())
            .filter(|until| *until > after);
        orders.chain(untils).min()
    }

    /// The rules that speak of a name by their sources' names, with their owners, the weightiest first.
    pub fn matching<'b>(&'b self, name: &Name) -> HashMap<String, Vec<(&'b Name, Scope)>> {
        let mut matching: HashMap<_, Vec<_>> = HashMap::new();
        for (source, owner, scope) in rules::all(self.orders(), self.exceptions()) {
            if scope.reaches(owner, name) {
                matching.entry(source).or_default().push((owner, scope));
            }
        }
        for rules in matching.values_mut() {
            rules.sort_by_key(|(owner, scope)| (Reverse(owner.label_count()), scope.weight()));
        }
        matching
    }

    /// The order that a source stands for.
    pub fn order(&self, source: &Source) -> Option<&Order> {
        let id = source.name.strip_prefix(Source::ORDER)?;
        self.orders().find(|order| order.id == id)
    }

    /// The exception that a source stands for.
    pub fn exception(&self, source: &Source) -> Option<&Exception> {
        let all = self.exceptions().enumerate();
        let mut named = all.map(|(number, one)| (rules::exception_name(number, one), one));
        named
            .find(|(name, _)| *name == source.name)
            .map(|(_, exception)| exception)
    }

    /// What is wrong with files, one sentence each. Of very many the first ones, and how many more there
    /// are.
    pub fn problems(&self) -> Vec<String> {
        fn refused<T>(folder: &Folder<T>) -> impl Iterator<Item = String> {
            let files = folder.files().values();
            let refused = files.filter_map(|sheet| {
                let (problems, _) = sheet.refused.as_ref()?;
                let kept = match sheet.good {
                    Some(_) => "; what it said before stays in force",
                    None => "",
                };
                Some(
                    problems
                        .0
                        .iter()
                        .map(move |problem| format!("{problem}{kept}")),
                )
            });
            let unlisted = folder.problem().map(str::to_owned);
            unlisted.into_iter().chain(refused.flatten())
        }
        let doubles = self.doubles.iter().map(|(path, (id, holder))| {
            let (path, holder) = (path.display(), holder.display());
            format!("{path}: id is \"{id}\", as in {holder}: rename one; that one counts")
        });
        let problems = refused(&self.orders)
            .chain(refused(&self.exceptions))
            .chain(doubles)
            .chain(self.overfull.iter().cloned());
        let (mut problems, more) = first(problems);
        problems.sort();
        problems.extend(more.map(|more| {
            format!("orders and exceptions: {more} more problems: correct the files above first")
        }));
        problems
    }

    /// What is right, but says something in vain or unusual, one sentence each; given the names of
    /// the lists. Of very many the first ones, and how many more there are.
    pub fn warnings<'n>(&self, lists: impl Iterator<Item = &'n str>) -> Vec<String> {
        let withdrawn = self
            .orders()
            .filter(|order| self.life(order).is_withdrawn());
        let withdrawn = withdrawn.map(|order| {
            let id = &order.id;
            format!("order {id}: it ends before it begins, so it is never in force")
        });
        let lists: HashSet<&str> = lists.collect();
        let known = |name: &str| match name.strip_prefix(Source::ORDER) {
            Some(id) => self.holders.contains_key(id),
            None => lists.contains(name),
        };
        let exceptions = self.exceptions();
        let against = exceptions.flat_map(|exception| rules::remarks(exception, known));
        let warnings = self.vain.iter().cloned().chain(withdrawn).chain(against);
        let (mut warnings, more) = first(warnings);
        warnings.extend(more.map(|more| format!("orders and exceptions: {more} more warnings")));
        warnings
    }
}

/// The first [`MOST_REPORTED`] of some sentences, and how many more there are, if any.
fn first(mut sentences: impl Iterator<Item = String>) -> (Vec<String>, Option<usize>) {
    let first = sentences.by_ref().take(MOST_REPORTED).collect();
    let more = sentences.count();
    (first, (more > 0).then_some(more))
}
