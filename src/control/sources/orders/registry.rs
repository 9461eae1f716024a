//! The registry of all orders and exceptions: reads their files, and computes their sources, rules and next change for a
//! given instant. These computations do not read the clock.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use jiff::Timestamp;
use tokio::time::Instant;

use super::directory::FollowedDirectory;
use super::findings::Findings;
use super::rules;
use crate::config::exception::Exception;
use crate::config::order::Order;
use crate::config::order::State;
use crate::config::shown::Show;
use crate::config::{Config, Exceptions, Orders, exception};
use crate::control::guard::policy::GuardPolicy;
use crate::control::sources::deadline::DEADLINE;
use crate::control::sources::orders::schedule::{Schedule, supersessions};
use crate::control::sources::watch::Touched;
use crate::policy::image::Image;
use crate::policy::rule::{Kind, Scope, Source};
use crate::wire::name::Name;

/// All orders and exceptions. Clones share the contents of the files.
#[derive(Clone, Debug)]
pub struct OrderRegistry {
    pub(super) config: Orders,
    pub(super) orders: FollowedDirectory<Order>,
    pub(super) exceptions: FollowedDirectory<Vec<Exception>>,
    /// The exceptions of the configuration file.
    own: Vec<Exception>,
    /// The file of each order, by id. Another file with the same id is rejected.
    pub(super) holders: HashMap<String, PathBuf>,
    /// Each file that is rejected because another file has its id, with that id and the other file.
    pub(super) doubles: HashMap<PathBuf, (String, PathBuf)>,
    /// When each superseded order ends, by its id.
    superseded: HashMap<String, Timestamp>,
    /// A sentence for each `supersedes` that has no effect.
    pub(super) vain: Vec<String>,
    /// Why the last good states that files had before the start are not all known.
    pub(super) unrecalled: Option<String>,
    rules: Option<Arc<Image>>,
    /// The alarm that the rules of some orders or exceptions are missing in `rules`.
    pub(super) overfull: Option<String>,
    /// Increases with each change.
    version: u64,
    /// The findings of the guard rails in the orders.
    findings: Findings,
    /// The number of orders at the last [`conclude`](Self::conclude).
    pub(super) count: usize,
    /// The order at the last [`conclude`](Self::conclude), if there was exactly one.
    pub(super) only: Option<Arc<Order>>,
    /// The number of orders before all of them disappeared at once; `None` once that is confirmed.
    pub(super) vanished: Option<usize>,
}

/// An order and its schedule.
#[derive(Clone, Copy, Debug)]
pub struct Known<'b> {
    /// The order, as its file has it.
    pub order: &'b Order,
    /// When it begins, pauses and ends.
    pub schedule: Schedule<'b>,
}

impl OrderRegistry {
    /// A sentence for each directory of the configuration that can't be listed. The configuration is rejected then.
    pub(crate) fn unlisted(config: &Config) -> Vec<String> {
        let folders = [&config.orders.dir, &config.exceptions.dir];
        let unlisted = folders.into_iter().flatten().filter_map(|dir| {
            let (error, dir) = (fs::read_dir(dir).err()?, dir.shown());
            Some(format!(
                "configuration rejected, {dir}: cannot be listed: {error}"
            ))
        });
        unlisted.collect()
    }

    /// Reads all files. A file that can't be read within 10 s is a problem.
    pub fn read(config: &Config) -> Self {
        let (registry, _) = Self::read_at_start(config, DEADLINE);
        registry
    }

    /// Reads all files, and waits for each no longer than the deadline. Returns also whether all of them answered.
    pub(crate) fn read_at_start(config: &Config, deadline: Duration) -> (Self, bool) {
        let mut registry = Self::nothing(config);
        registry.set(config);
        let (orders, exceptions) = (&mut registry.orders, &mut registry.exceptions);
        let all = thread::scope(|scope| {
            let exceptions = scope.spawn(|| exceptions.read_at_start(exception::parse, deadline));
            let orders = orders.read_at_start(Order::parse, deadline);
            let exceptions = exceptions.join();
            exceptions.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) && orders
        });
        registry.conclude();
        if registry.lacks_last_good() {
            registry.recall(config);
        }
        (registry, all)
    }

    fn nothing(config: &Config) -> Self {
        Self {
            config: config.orders.clone(),
            orders: FollowedDirectory::default(),
            exceptions: FollowedDirectory::default(),
            own: Vec::new(),
            holders: HashMap::new(),
            doubles: HashMap::new(),
            unrecalled: None,
            superseded: HashMap::new(),
            vain: Vec::new(),
            rules: None,
            overfull: None,
            version: 0,
            findings: Findings::default(),
            count: 0,
            only: None,
            vanished: None,
        }
    }

    /// A registry of orders (paths and texts) and exceptions from the journal alone: the files of `config` are not
    /// read.
    pub fn of_past(
        config: &Config,
        orders: Vec<(PathBuf, String)>,
        exceptions: Vec<Exception>,
    ) -> Self {
        let mut registry = Self::nothing(config);
        for (path, text) in orders {
            registry.orders.embed(&path, &text, Order::parse);
        }
        registry.own = exceptions;
        registry.conclude();
        registry
    }

    /// Applies a new configuration, and reads all files that changed.
    pub fn configure(&mut self, config: &Config) {
        let changed = self.set(config);
        if self.refresh().is_empty() && changed {
            self.conclude();
        }
    }

    /// Applies a new configuration without reading files. Returns whether something changed.
    fn set(&mut self, config: &Config) -> bool {
        let Exceptions { dir, own } = &config.exceptions;
        let mut changed = self.config != config.orders || self.own != *own;
        self.config.clone_from(&config.orders);
        self.own.clone_from(own);
        let has_moved = self.orders.set(config.orders.dir.as_deref());
        if has_moved {
            self.vanished = None;
            self.unrecalled = None;
        }
        if has_moved || self.rules.is_none() {
            changed = true;
            for (path, text) in config.orders.embedded {
                self.orders.embed(Path::new(path), text, Order::parse);
            }
        }
        changed | self.exceptions.set(dir.as_deref())
    }

    /// Whether there is an alarm that all orders disappeared at once.
    pub(crate) fn has_loss(&self) -> bool {
        self.vanished.is_some()
    }

    /// Ends the alarm that all orders disappeared, as the operator confirms it.
    pub(crate) fn confirm_loss(&mut self) {
        if self.vanished.take().is_some() {
            self.version += 1;
        }
    }

    /// Reads all files that changed, and returns them.
    pub fn refresh(&mut self) -> Vec<PathBuf> {
        let mut changed = self.orders.read_all(Order::parse);
        changed.extend(self.exceptions.read_all(exception::parse));
        if !changed.is_empty() {
            self.conclude();
        }
        changed
    }

    /// The kinds of which nothing is known, because their directory could never be listed: orders, exceptions.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = Kind> {
        let orders = (Kind::Order, self.orders.is_unknown());
        let exceptions = (Kind::Exception, self.exceptions.is_unknown());
        let unknown = [orders, exceptions].into_iter().filter(|(_, is)| *is);
        unknown.map(|(kind, _)| kind)
    }

    /// The absolute path of the directory of orders.
    pub fn orders_dir(&self) -> Option<&Path> {
        self.orders.path()
    }

    /// The absolute paths of the directories of orders and exceptions.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        [self.orders.path(), self.exceptions.path()]
            .into_iter()
            .flatten()
    }

    /// Whether a path is one of the directories, or may be one of their files.
    pub(crate) fn concerns(&self, path: &Path) -> bool {
        self.orders.concerns(path) || self.exceptions.concerns(path)
    }

    /// Handles an event of a file.
    pub(crate) fn touch(&mut self, touched: &Touched, now: Instant) {
        self.orders.touch(touched, now);
        self.exceptions.touch(touched, now);
    }

    /// Checks all files for changes that the system did not report.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.orders.sweep(now);
        self.exceptions.sweep(now);
    }

    /// Whether the file with this absolute path is to be read.
    pub(crate) fn is_due(&self, path: &Path) -> bool {
        self.orders.is_due(path) || self.exceptions.is_due(path)
    }

    /// The earliest instant at which a file is to be read.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.orders
            .due()
            .into_iter()
            .chain(self.exceptions.due())
            .min()
    }

    /// Reads the files that have settled, and returns those that changed.
    pub(crate) fn read_due(&mut self, now: Instant) -> Vec<PathBuf> {
        let mut changed = self.orders.read_due(now, Order::parse);
        changed.extend(self.exceptions.read_due(now, exception::parse));
        if !changed.is_empty() {
            self.conclude();
        }
        changed
    }

    /// Computes everything that follows from the files and does not depend on the time.
    pub(super) fn conclude(&mut self) {
        self.version += 1;
        self.find_doubles();
        self.look_for_loss();
        let (superseded, vain) = supersessions(self.orders());
        let superseded = superseded.into_iter().map(|(id, at)| (id.to_owned(), at));
        let vain = vain.into_iter().map(|(_, text)| text);
        (self.superseded, self.vain) = (superseded.collect(), vain.collect());
        let mut rules = self.rules.take();
        self.overfull = rules::renew(&mut rules, || self.orders(), self.exceptions());
        self.rules = rules;
        if let Some(problem) = &self.overfull {
            tracing::error!(problem, "orders or exceptions refused");
        }
    }

    /// A number that increases with each change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Checks orders against the guard policy: those that changed, or all if the policy changed. Slow for many orders, so
    /// it belongs in the file task that reads them, not in the control loop.
    pub(crate) fn check(&mut self, guard_policy: &Arc<GuardPolicy>) {
        let mut findings = std::mem::take(&mut self.findings);
        findings.renew(guard_policy, self.version, self.texts());
        self.findings = findings;
    }

    /// The findings of the last [`check`](Self::check) in an order, a sentence each.
    pub(crate) fn findings(&self, order: &Order) -> &[String] {
        self.findings.of(order)
    }

    /// The warnings about an order that supersedes others, as if its file were in the directory, a sentence each.
    pub fn ineffective_supersessions(&self, order: &Order) -> Vec<String> {
        let others = self.orders().filter(|other| other.id != order.id);
        let (_, ineffective) = supersessions(others.chain([order]));
        let of_order = ineffective.into_iter().filter(|(id, _)| *id == order.id);
        of_order.map(|(_, text)| text).collect()
    }

    /// The orders of all files, except those rejected because another file has the same id.
    pub fn orders(&self) -> impl Iterator<Item = &Order> + Clone {
        self.texts().map(|(order, _)| order)
    }

    /// Like [`orders`](Self::orders), with the texts of the files.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&Order, &Arc<str>)> + Clone {
        let files = self.orders.files().iter();
        let single = files.filter(|(path, _)| !self.doubles.contains_key(*path));
        single
            .filter_map(|(_, tracked)| tracked.good.as_ref().map(|(order, text)| (&**order, text)))
    }

    /// The orders with their schedules.
    pub fn known(&self) -> impl Iterator<Item = Known<'_>> {
        self.orders().map(|order| Known {
            order,
            schedule: self.schedule(order),
        })
    }

    /// The schedule of one of the orders.
    pub fn schedule<'b>(&self, order: &'b Order) -> Schedule<'b> {
        Schedule::new(order, self.superseded.get(&order.id).copied())
    }

    /// All exceptions, including expired ones.
    pub fn exceptions(&self) -> impl Iterator<Item = &Exception> + Clone {
        let files = self.exceptions.files().values();
        let good = files.filter_map(|tracked| tracked.good.as_ref());
        self.own
            .iter()
            .chain(good.flat_map(|(exceptions, _)| &**exceptions))
    }

    /// The compiled rules of all orders and exceptions, in force or not.
    pub fn rules(&self) -> Option<&Arc<Image>> {
        self.rules.as_ref()
    }

    /// The sources in force at an instant, in order of precedence: exceptions in the order of their files, then orders by
    /// the date on which they come into force.
    pub fn sources(&self, at: Timestamp) -> Vec<Arc<Source>> {
        let mut orders: Vec<_> = self
            .orders()
            .filter(|order| self.schedule(order).state(at) == State::InForce)
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

    /// The state of each order at an instant, with its id.
    pub(crate) fn states(&self, at: Timestamp) -> Vec<(String, State)> {
        let state = |known: Known<'_>| (known.order.id.clone(), known.schedule.state(at));
        self.known().map(state).collect()
    }

    /// The rules in force at an instant, with the names of their sources.
    pub fn rules_at(&self, at: Timestamp) -> Vec<(String, &Name, Scope)> {
        let sources = self.sources(at);
        let names: HashSet<&str> = sources.iter().map(|source| &*source.name).collect();
        let all = rules::all(self.orders(), self.exceptions());
        all.filter(|(source, ..)| names.contains(&**source))
            .collect()
    }

    /// The next instant at which an order or an exception begins, pauses or ends.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let orders = self
            .orders()
            .filter_map(|order| self.schedule(order).next(after));
        let untils = self.exceptions().filter_map(|exception| exception.until);
        let untils = untils
            .map(|until| until.at())
            .filter(|until| *until > after);
        orders.chain(untils).min()
    }

    /// The rules that match a name, by the names of their sources; the rule of highest precedence is first.
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

    /// The order whose source has this name.
    pub fn order(&self, source: &str) -> Option<&Order> {
        let id = source.strip_prefix(Source::ORDER)?;
        self.orders().find(|order| order.id == id)
    }

    /// The exception whose source has this name.
    pub fn exception(&self, source: &str) -> Option<&Exception> {
        let all = self.exceptions().enumerate();
        let mut named = all.map(|(number, one)| (rules::exception_name(number, one), one));
        named
            .find(|(name, _)| name == source)
            .map(|(_, exception)| exception)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rule::Against;

    fn order(id: &str, more: &str) -> (PathBuf, String) {
        let text = format!(
            "id = \"{id}\"\nlegal-basis = [\"x\"]\nreason = {{ en = \"x\" }}\n\
             review-at = 2030-01-01T00:00:00Z\nauthority = {{ name = \"x\" }}\n\
             redress = {{ how = \"x\" }}\n{more}\n\
             [[targets]]\nname = \"x.example\"\nscope = \"subtree\"\n"
        );
        (format!("{id}.toml").into(), text)
    }

    fn exception(name: &str, more: &str) -> Exception {
        let text = format!(
            "[[exception]]\nname = \"{name}\"\nscope = \"exact\"\nagainst = [\"order:b\", \"ads\"]\n\
             reason = \"x\"\nauthor = \"x\"\n{more}"
        );
        let parsed = exception::parse(&text, Path::new("x.toml"));
        parsed.expect("an exception").remove(0)
    }

    fn registry(orders: Vec<(PathBuf, String)>, exceptions: Vec<Exception>) -> OrderRegistry {
        OrderRegistry::of_past(&Config::built_in(), orders, exceptions)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// The names of the sources in force, in order of precedence.
    fn sources(registry: &OrderRegistry, instant: Timestamp) -> Vec<String> {
        let sources = registry.sources(instant).into_iter();
        sources.map(|source| source.name.clone()).collect()
    }

    const NOON: &str = "2026-03-01T12:00:00Z";
    const BEFORE: &str = "2026-03-01T11:59:59.999999999Z";

    #[test]
    fn orders_are_sorted_by_their_beginning_whatever_their_ids_and_files() {
        let orders = [
            order("a", "effective-from = 2026-02-01T00:00:00Z"),
            order("b", "effective-from = 2026-01-01T00:00:00Z"),
            // The same instant as the previous one in another time zone: the id decides.
            order("aa", "effective-from = 2026-01-01T07:00:00+07:00"),
        ];
        let paths = ["1.toml", "2.toml", "3.toml"].map(PathBuf::from);
        let orders = paths.into_iter().zip(orders);
        let orders = orders.map(|(path, (_, text))| (path, text));
        let registry = registry(orders.collect(), Vec::new());
        let expected = ["order:aa", "order:b", "order:a"];
        assert_eq!(sources(&registry, at(NOON)), expected);
        assert_eq!(
            sources(&registry, at("2026-01-15T00:00:00Z")),
            expected[..2]
        );
    }

    #[test]
    fn orders_that_are_all_gone_at_once_are_reported_until_that_is_confirmed_or_one_is_there_again()
    {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = Config::built_in();
        config.orders.dir = Some(dir.path().to_owned());
        config.orders.embedded = &[];
        let write = |ids: &[&str]| {
            for id in ids {
                let (path, text) = order(id, "effective-from = 2026-01-01T00:00:00Z");
                fs::write(dir.path().join(path), text).expect("written");
            }
        };
        let remove = |id: &str| {
            fs::remove_file(dir.path().join(format!("{id}.toml"))).expect("removed");
        };
        let sweep = |registry: &mut OrderRegistry| {
            let now = Instant::now();
            registry.sweep(now);
            registry.sweep(now);
            registry.read_due(now);
            registry.problems()
        };
        write(&["a", "b", "c"]);
        let mut registry = OrderRegistry::read(&config);
        remove("c");
        assert_eq!(sweep(&mut registry), [""; 0]);
        remove("a");
        remove("b");
        let problems = sweep(&mut registry);
        assert!(
            problems[0].contains(": all 2 orders are gone at once"),
            "{problems:?}"
        );
        assert_eq!(
            registry.orders().count(),
            0,
            "orders without files are not in force"
        );
        assert_eq!(sweep(&mut registry), problems, "it stays");
        let mut confirmed = registry.clone();
        assert!(confirmed.refresh().is_empty());
        confirmed.configure(&config);
        assert_eq!(
            confirmed.problems(),
            problems,
            "reading again confirms nothing"
        );
        let version = confirmed.version();
        confirmed.confirm_loss();
        assert_eq!(confirmed.problems(), [""; 0]);
        assert_ne!(confirmed.version(), version);
        write(&["d"]);
        assert_eq!(sweep(&mut registry), [""; 0]);
        remove("d");
        let problems = sweep(&mut registry);
        assert!(
            problems[0].contains(": the only order is gone"),
            "{problems:?}"
        );
    }

    #[test]
    fn an_exception_ends_at_its_instant_and_not_after_it() {
        let exceptions = vec![
            exception("a.x.example", &format!("until = {NOON}")),
            exception("b.x.example", ""),
        ];
        let registry = registry(Vec::new(), exceptions);
        let [ends, stays] = ["exception:a.x.example#0", "exception:b.x.example#1"];
        assert_eq!(sources(&registry, at(BEFORE)), [ends, stays]);
        assert_eq!(sources(&registry, at(NOON)), [stays]);
        let rules = |instant| {
            let rules = registry.rules_at(at(instant)).into_iter();
            rules.map(|(source, ..)| source).collect::<Vec<_>>()
        };
        assert_eq!(
            (rules(BEFORE), rules(NOON)),
            (vec![ends.into(), stays.into()], vec![stays.into()])
        );
        assert_eq!(registry.next(at(BEFORE)), Some(at(NOON)));
        assert_eq!(registry.next(at(NOON)), None);
    }

    #[test]
    fn an_order_begins_and_ends_at_its_instants_and_its_exceptions_with_it() {
        let dates = format!("effective-from = 2026-01-01T00:00:00Z\nexpires-at = {NOON}");
        let (path, text) = order("b", &dates);
        let text = text + "except = [\"free.x.example\"]\n";
        let registry = registry(vec![(path, text)], Vec::new());
        assert_eq!(
            sources(&registry, at(BEFORE)),
            ["order:b/except", "order:b"]
        );
        assert_eq!(sources(&registry, at(NOON)), Vec::<String>::new());
        assert_eq!(
            sources(&registry, at("2025-12-31T23:59:59Z")),
            Vec::<String>::new()
        );
        assert_eq!(sources(&registry, at("2026-01-01T00:00:00Z")).len(), 2);
        assert_eq!(
            registry.next(at("2025-01-01T00:00:00Z")),
            Some(at("2026-01-01T00:00:00Z"))
        );
    }

    #[test]
    fn the_next_change_is_the_earliest_of_orders_and_exceptions() {
        for (begins, until, next) in [("01", "02", "01"), ("02", "01", "01"), ("02", "02", "02")] {
            let dates = format!("effective-from = 2026-{begins}-01T00:00:00Z");
            let until = format!("until = 2026-{until}-01T00:00:00Z");
            let exceptions = vec![exception("a.x.example", &until)];
            let registry = registry(vec![order("b", &dates)], exceptions);
            let next = at(&format!("2026-{next}-01T00:00:00Z"));
            assert_eq!(registry.next(at("2025-01-01T00:00:00Z")), Some(next));
        }
    }

    #[test]
    fn a_source_leads_back_to_its_order_or_exception() {
        let orders = vec![
            order("a", "effective-from = 2026-01-01T00:00:00Z"),
            order("b", "effective-from = 2026-02-01T00:00:00Z"),
        ];
        let exceptions = vec![exception("a.x.example", ""), exception("b.x.example", "")];
        let registry = registry(orders, exceptions);
        for source in registry.sources(at(NOON)) {
            let order = registry
                .order(&source.name)
                .map(|order| format!("order:{}", order.id));
            let number = |exception: &Exception| {
                let number = usize::from(exception.name.to_string().starts_with('b'));
                format!("exception:{}#{number}", exception.name)
            };
            let exception = registry.exception(&source.name).map(number);
            assert_eq!(order.xor(exception).as_ref(), Some(&source.name));
        }
    }

    #[test]
    fn the_rules_that_match_a_name_are_sorted_by_precedence() {
        let (path, text) = order("a", "effective-from = 2026-01-01T00:00:00Z");
        let more = "[[targets]]\nname = \"a.x.example\"\nscope = \"exact\"\n\
                    [[targets]]\nname = \"other.example\"\nscope = \"exact\"\n";
        let registry = registry(
            vec![(path, text + more)],
            vec![exception("a.x.example", "")],
        );
        let name = Name::from_text("a.x.example").expect("a name");
        let matching = registry.matching(&name);
        let reported = |source: &str| {
            let rules = matching.get(source).map_or(&[][..], Vec::as_slice);
            let reported = rules
                .iter()
                .map(|(owner, scope)| format!("{owner} {scope:?}"));
            reported.collect::<Vec<_>>()
        };
        assert_eq!(
            reported("order:a"),
            ["a.x.example Exact", "x.example Subtree"]
        );
        assert_eq!(reported("exception:a.x.example#0"), ["a.x.example Exact"]);
        assert_eq!(matching.len(), 2);
    }

    #[test]
    fn orders_and_exceptions_without_effect_are_reported() {
        let withdrawn = "effective-from = 2026-03-01T00:00:00Z\nlifted-at = 2026-02-01T00:00:00Z";
        let orders = vec![
            order("a", withdrawn),
            order(
                "b",
                "effective-from = 2026-01-01T00:00:00Z\nsupersedes = [\"gone\"]",
            ),
        ];
        let registry = registry(orders, vec![exception("a.x.example", "")]);
        let reported = |lists: &[&str]| registry.warnings(lists.iter().copied());
        let remarks = [
            "order b: it supersedes `gone`, which does not exist",
            "order a: it ends before it begins, so it is never in force",
            "x.toml:1: the exception for a.x.example overrides an authority's order:b",
        ];
        assert_eq!(reported(&["ads"]), remarks);
        let unknown = "x.toml:1: the exception for a.x.example overrides `ads`, which is unknown";
        assert_eq!(reported(&[])[3..], [unknown]);
        let gone = Exception {
            against: Against::Named(vec!["order:gone".to_owned()]),
            ..exception("a.x.example", "")
        };
        let remarked = self::registry(Vec::new(), vec![gone]).warnings(["ads"].into_iter());
        let reported =
            "x.toml:1: the exception for a.x.example overrides `order:gone`, which is unknown";
        assert_eq!(remarked, [reported]);
        let both = "effective-from = 2026-03-01T00:00:00Z\nlifted-at = 2026-03-01T00:00:00Z";
        let remarked =
            self::registry(vec![order("a", both)], Vec::new()).warnings([""; 0].into_iter());
        let expected =
            "order a: it ends at the instant at which it begins, so it is never in force";
        assert_eq!(remarked, [expected]);
        let states = registry.states(at(NOON));
        let expected = [
            ("a".to_owned(), State::Lifted),
            ("b".to_owned(), State::InForce),
        ];
        assert_eq!(states, expected);
        assert_eq!(registry.problems(), Vec::<String>::new());
    }

    #[test]
    fn a_second_file_with_the_id_of_another_one_does_not_count() {
        let (_, text) = order("a", "effective-from = 2026-01-01T00:00:00Z");
        let late = text.replace("2026-01-01", "2026-02-01");
        let files = vec![("one.toml".into(), text), ("two.toml".into(), late)];
        let registry = registry(files, Vec::new());
        let [order] = &*registry.orders().collect::<Vec<_>>() else {
            panic!("more than one");
        };
        assert_eq!(order.path, Path::new("one.toml"));
        assert_eq!(
            registry.problems(),
            [
                "two.toml: id is \"a\", as in one.toml, which counts: give this order another id, or remove \
              one of the two files"
            ]
        );
    }

    #[test]
    fn a_superseded_order_blocks_nothing_any_more() {
        let orders = vec![
            order("a", "effective-from = 2026-01-01T00:00:00Z"),
            order(
                "b",
                &format!("effective-from = {NOON}\nsupersedes = [\"a\"]"),
            ),
        ];
        let registry = registry(orders, Vec::new());
        let states = |instant| {
            registry
                .states(at(instant))
                .into_iter()
                .map(|(_, state)| state)
        };
        assert_eq!(sources(&registry, at(BEFORE)), ["order:a"]);
        assert!(states(BEFORE).eq([State::InForce, State::Scheduled]));
        assert_eq!(sources(&registry, at(NOON)), ["order:b"]);
        assert!(states(NOON).eq([State::Superseded, State::InForce]));
        assert_eq!(registry.next(at(BEFORE)), Some(at(NOON)));
    }

    fn configuration(folder: &tempfile::TempDir, more: &str) -> Config {
        let text = format!("[orders]\npath = \"orders\"\n{more}");
        Config::parse(&text, &folder.path().join("tapis.toml")).expect("a configuration")
    }

    /// A folder with a directory of orders, and a configuration that names it.
    fn folder() -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("orders")).expect("made");
        let config = configuration(&folder, "");
        (folder, config)
    }

    #[test]
    fn a_new_exception_of_the_configuration_is_in_force_though_no_file_changed() {
        let (folder, config) = folder();
        let (path, text) = order("b", "effective-from = 2026-01-01T00:00:00Z");
        fs::write(folder.path().join("orders").join(path), text).expect("written");
        let mut registry = OrderRegistry::read(&config);
        let version = registry.version();
        registry.configure(&config);
        assert_eq!(registry.version(), version, "nothing changed");
        let own = "[[exception]]\nname = \"a.example\"\nscope = \"exact\"\nagainst = [\"ads\"]\n\
                   reason = \"x\"\nauthor = \"x\"\n";
        registry.configure(&configuration(&folder, own));
        assert_ne!(registry.version(), version);
        assert_eq!(
            sources(&registry, at(NOON)),
            ["exception:a.example#0", "order:b"]
        );
        assert_eq!(registry.rules().map(|rules| rules.facts().rules), Some(2));
    }

    #[test]
    fn other_directories_of_orders_and_exceptions_are_used_though_both_are_empty() {
        let (folder, _) = folder();
        let of = |dir: &str| {
            let dir = folder.path().join(dir);
            fs::create_dir_all(dir.join("orders")).expect("made");
            fs::create_dir_all(dir.join("exceptions")).expect("made");
            let text = "[orders]\npath = \"orders\"\n[exceptions]\npath = \"exceptions\"\n";
            Config::parse(text, &dir.join("tapis.toml")).expect("a configuration")
        };
        let (path, text) = order("b", "effective-from = 2026-01-01T00:00:00Z");
        let first = of("first");
        let folder = folder.path().join("first/orders");
        fs::write(folder.join(path), text).expect("written");
        let mut registry = OrderRegistry::read(&first);
        assert_eq!(sources(&registry, at(NOON)), ["order:b"]);
        registry.configure(&of("second"));
        assert_eq!(sources(&registry, at(NOON)), Vec::<String>::new());
        assert!(
            registry
                .rules()
                .is_none_or(|rules| rules.facts().rules == 0)
        );
    }

    #[test]
    fn a_second_file_counts_when_the_first_one_has_another_id_or_is_gone() {
        let (folder, config) = folder();
        let dates = "effective-from = 2026-01-01T00:00:00Z";
        let write = |file: &str, id: &str, more: &str| {
            let (_, text) = order(id, dates);
            let path = folder.path().join("orders").join(file);
            fs::write(path, text + more).expect("written");
        };
        write("1.toml", "a", "");
        write("2.toml", "a", "# the second\n");
        let mut registry = OrderRegistry::read(&config);
        let reported = |registry: &OrderRegistry| {
            let name = |order: &Order| {
                order
                    .path
                    .file_name()
                    .map(|name| name.display().to_string())
            };
            let files: Vec<_> = registry.orders().filter_map(name).collect();
            (files.join(" "), registry.problems().len())
        };
        assert_eq!(reported(&registry), ("1.toml".to_owned(), 1));
        let version = registry.version();
        write("1.toml", "other", "");
        assert_eq!(registry.refresh().len(), 1);
        assert_ne!(registry.version(), version);
        assert_eq!(reported(&registry), ("1.toml 2.toml".to_owned(), 0));
        // The second file holds the id now.
        write("1.toml", "a", "");
        registry.refresh();
        assert_eq!(reported(&registry), ("2.toml".to_owned(), 1));
        fs::remove_file(folder.path().join("orders/2.toml")).expect("removed");
        registry.refresh();
        assert_eq!(reported(&registry), ("1.toml".to_owned(), 0));
        assert!(registry.refresh().is_empty(), "nothing changed since");
    }
}
