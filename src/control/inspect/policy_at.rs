//! The policy at a moment, as far as the journal, the state directory and the files of lists have it.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::past_rules::{self, KeptImages, find_in};
use crate::config::{Config, List};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release::Guards;
use crate::control::journal::entry::Setting;
use crate::control::journal::past::{Moment, Past, Served};
use crate::control::journal::settings::Settings;
use crate::control::journal::{JournalError, setting_changes, settings, unwritten_since};
use crate::control::persist::rollback_file::held;
use crate::control::persist::store::{Rules, read_generation};
use crate::control::publish::compose;
use crate::control::sources::lists::load::load;
use crate::control::sources::orders::registry::OrderRegistry;
use crate::policy::builder::Builder;
use crate::policy::image::path::Path;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::values::ImageRule;
use crate::policy::image::{Image, TooLarge};
use crate::policy::images::Images;
use crate::policy::rule::{Kind, Scope};
use crate::policy::snapshot::{Decision, Snapshot};
use crate::wire::name::Name;

/// The policy at a moment.
#[derive(Debug)]
pub struct PolicyAt {
    /// The configuration, with the settings of that moment where they are recorded.
    pub config: Config,
    /// The orders and exceptions.
    pub registry: OrderRegistry,
    /// The lists, in their order.
    pub lists: Vec<ListAt>,
    /// Whether it is not known which lists there were.
    pub are_lists_unknown: bool,
    /// Whether a server answered.
    pub served: Served,
    /// What is not known and other remarks, a sentence each.
    pub notes: Vec<String>,
    /// The generation that was in force then, if the journal has it.
    pub in_force: Option<u64>,
    settings: Settings,
    /// The images that had all rules of these lists.
    kept: Option<Images>,
    /// When its generation came into force; `None` if no generation is recorded.
    since: Option<Timestamp>,
    at: Timestamp,
}

/// How long after its journal entry a generation may not be in force yet: the entry is written first.
const SETTLING: SignedDuration = SignedDuration::from_millis(250);

/// A list.
#[derive(Debug)]
pub struct ListAt {
    /// The list, as it was configured.
    pub list: List,
    /// Its rules.
    pub rules: ListRules,
    /// Whether its file has the same content as then.
    pub is_file: bool,
}

/// The rules of a list, as far as they are known.
#[derive(Debug)]
pub enum ListRules {
    /// All of them.
    Rules(Rules<Arc<Image>>),
    /// The file is rejected today. The state that a server has in force instead is not known.
    Refused,
    /// They are not known.
    Unknown,
}

/// A rule of a list that matches a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRule {
    /// The index of the list.
    pub list: usize,
    /// The rule's name.
    pub owner: Name,
    /// Its scope.
    pub scope: Scope,
}

impl PolicyAt {
    /// The present policy: all files as they are, with the orders and exceptions that are in force at `at`.
    pub fn now(config: &Config, guard_policy: &GuardPolicy, at: Timestamp) -> Self {
        let held = config.state.dir.as_deref().and_then(held);
        let held = held.map(|generation| {
            format!(
                "lists are held as they were in generation {generation}: the server answers by those, \
                 and not by the files as they are"
            )
        });
        let mut notes: Vec<_> = held.into_iter().collect();
        let mut read = |list: &List| {
            let rules = match load(list, guard_policy, &[], Guards::NONE) {
                Ok(fresh) => whole(fresh.image),
                Err(refusal) => {
                    notes.push(format!("{}: {refusal}", list.source.name));
                    ListRules::Refused
                }
            };
            ListAt {
                list: list.clone(),
                rules,
                is_file: true,
            }
        };
        Self {
            lists: config.lists.iter().map(&mut read).collect(),
            config: config.clone(),
            registry: OrderRegistry::read(config),
            are_lists_unknown: false,
            served: Served::Yes,
            notes,
            in_force: None,
            settings: Settings::new(),
            kept: None,
            since: None,
            at,
        }
    }

    /// The policy at a past moment, by the journal. If that does not reach back so far, the lists are unknown, and the
    /// orders and exceptions are those of today's files; if there is no journal, their dates decide.
    ///
    /// `files` are the journal's files, the oldest first; without them it is the configuration's.
    pub fn moment(
        config: &Config,
        guard_policy: &GuardPolicy,
        files: &[PathBuf],
        at: Timestamp,
    ) -> Self {
        let by_dates = |served: Served, why: String| Self {
            config: config.clone(),
            registry: OrderRegistry::read(config),
            lists: Vec::new(),
            are_lists_unknown: true,
            served,
            notes: vec![format!(
                "{why}: orders and exceptions count as their files say today, and what lists held is not known"
            )],
            in_force: None,
            settings: Settings::new(),
            kept: None,
            since: None,
            at,
        };
        if config.journal.is_none() && files.is_empty() {
            return by_dates(Served::Yes, "there is no journal".to_owned());
        }
        let unrecorded = |why| by_dates(Served::Unrecorded, why);
        match past(config, files, Moment::At(at)) {
            Ok(Some(past)) => Self::of(config, guard_policy, past, at, None),
            Ok(None) => unrecorded(
                "the journal does not reach back so far (if it was moved away, name its files with --journal, the \
                 oldest first)"
                    .to_owned(),
            ),
            Err(error) => unrecorded(error.to_string()),
        }
    }

    /// The policy of a generation when it came into force; `None` if the journal does not have it.
    ///
    /// # Errors
    /// [`JournalError`] when it can't be read.
    pub fn generation(
        config: &Config,
        guard_policy: &GuardPolicy,
        files: &[PathBuf],
        generation: u64,
    ) -> Result<Option<Self>, JournalError> {
        let past = past(config, files, Moment::Generation(generation))?;
        let kept = config.state.dir.as_ref().and_then(|dir| {
            let kept = read_generation(dir, config.journal.as_deref(), generation).ok()?;
            Some(kept.into_images())
        });
        Ok(past.map(|past| {
            let since = past.since;
            Self::of(config, guard_policy, past, since, kept)
        }))
    }

    /// Whether the generation before may still have been in force at that moment.
    pub fn is_fresh(&self) -> bool {
        let age = self.since.map(|since| self.at.duration_since(since));
        age.is_some_and(|age| age < SETTLING)
    }

    /// The policy just before its generation came into force; `None` if no generation of that time is recorded.
    pub fn before(
        &self,
        config: &Config,
        guard_policy: &GuardPolicy,
        files: &[PathBuf],
    ) -> Option<Self> {
        let before = self
            .since?
            .checked_sub(SignedDuration::from_nanos(1))
            .ok()?;
        Some(Self::moment(config, guard_policy, files, before))
            .filter(|before| before.since.is_some())
    }

    fn of(
        today: &Config,
        guard_policy: &GuardPolicy,
        past: Past,
        at: Timestamp,
        kept: Option<Images>,
    ) -> Self {
        let (generation, since) = (past.generation, past.since);
        let mut notes = Vec::new();
        match past.served {
            Served::Yes => {}
            Served::Stopped(stopped) => notes.push(format!(
                "the server was not running: it was stopped at {stopped}"
            )),
            Served::Unknown(ran) => notes.push(format!(
                "whether the server was running is not known: it was killed, or the machine stopped, at some \
                 time after {ran}"
            )),
            Served::Incomplete(since) => notes.push(format!(
                "what was in force after {since} is not known: entries of the journal are missing from then on"
            )),
            Served::Unrecorded => {}
        }
        if past.settings.is_empty() {
            notes.push(
                "answers are given as configured today: the journal has no settings of that time"
                    .to_owned(),
            );
        }
        let config = settings::configured(today, &past.settings);
        let mut images = KeptImages::default();
        // Generations that differ only in orders share images, so they may be of other lists.
        let kept = kept.filter(|kept| {
            past.lists
                .iter()
                .all(|entry| find_in(kept, entry).is_some())
        });
        let lists = past.lists.iter().map(|entry| {
            let mut known = today.lists.iter();
            let known = known.find(|list| list.source.name == entry.name);
            let list = settings::list(entry, &past.settings, known);
            let (rules, is_file) = match kept.as_ref().and_then(|kept| find_in(kept, entry)) {
                Some(rules) => (Some(rules), false),
                None => past_rules::find(today, guard_policy, entry, &list, &mut images),
            };
            let rules = match rules {
                Some(rules) => ListRules::Rules(rules),
                None => {
                    notes.push(format!(
                        "list {}: what it held in generation {generation} (since {since}) is not known: its file \
                         is another one today, and the state directory does not have its rules",
                        entry.name
                    ));
                    ListRules::Unknown
                }
            };
            ListAt {
                list,
                rules,
                is_file,
            }
        });
        let lists = lists.collect();
        Self {
            registry: OrderRegistry::of_past(&config, past.orders, past.exceptions),
            config,
            lists,
            are_lists_unknown: false,
            served: past.served,
            notes,
            in_force: Some(generation),
            settings: past.settings,
            kept,
            since: Some(since),
            at,
        }
    }

    /// A snapshot for one name, without rules that can't affect it, and the rules of lists that match the name.
    ///
    /// # Errors
    /// When the rules are too many.
    pub fn snapshot_for(&self, name: &Name) -> Result<(Snapshot, Vec<ListRule>), TooLarge> {
        let wanted = Path::from(name);
        let mut matching = Vec::new();
        let base = self.join(|list, path, scope| {
            let related =
                path.starts_with(wanted.as_bytes()) || wanted.as_bytes().starts_with(path);
            if related && wanted.as_bytes().starts_with(path) {
                let owner = Path::of(path).to_name();
                if scope.reaches(&owner, name) {
                    matching.push(ListRule { list, owner, scope });
                }
            }
            related
        })?;
        let images = Images {
            base: Some(Arc::new(base)),
            orders: self.registry.rules().cloned(),
            ..Images::default()
        };
        Ok((self.snapshot(images), matching))
    }

    /// All rules that are known.
    ///
    /// # Errors
    /// When they are too many.
    pub fn images(&self) -> Result<Images, TooLarge> {
        let images = match &self.kept {
            Some(kept) => kept.clone(),
            None => Arc::new(self.join(|_, _, _| true)?).into(),
        };
        Ok(Images {
            orders: self.registry.rules().cloned(),
            ..images
        })
    }

    /// A snapshot of the policy with the rules of these images.
    pub fn snapshot(&self, images: Images) -> Snapshot {
        // The orders of a generation stay in force until the next one, whatever their dates.
        let mut sources = self.registry.sources(self.since.unwrap_or(self.at));
        let lists = self.lists.iter();
        sources.extend(lists.map(|past| Arc::new(past.list.source.clone())));
        compose::snapshot(&self.config, sources, images, 1)
    }

    /// The settings that have another value in `newer`.
    pub fn changes(&self, newer: &Self) -> Vec<Setting> {
        setting_changes(&self.settings, &newer.settings)
    }

    /// An image of the rules for which `wanted` is true, given the list's index, the path of the rule's name, and its
    /// scope.
    fn join(&self, mut wanted: impl FnMut(usize, &[u8], Scope) -> bool) -> Result<Image, TooLarge> {
        let mut builder = Builder::new();
        for (at, past) in self.lists.iter().enumerate() {
            let ListRules::Rules(rules) = &past.rules else {
                continue;
            };
            let source = builder.source(ImageSource {
                whole: true,
                ..ImageSource::named(&past.list.source.name)
            })?;
            let mut cursor = rules.image.cursor();
            while cursor.advance() {
                for rule in cursor.rules().filter(|rule| rule.source == rules.source) {
                    if wanted(at, cursor.path(), rule.scope) {
                        builder.insert_path(cursor.path(), ImageRule { source, ..rule })?;
                    }
                }
            }
        }
        builder.finish()
    }

    /// Whether the rules of a list are not known.
    pub fn has_unknown_rules(&self) -> bool {
        let mut lists = self.lists.iter();
        lists.any(|list| matches!(list.rules, ListRules::Unknown))
    }

    /// Whether the rules of an unknown list could change the decision.
    pub fn is_open(&self, snapshot: &Snapshot, decision: &Decision<'_>) -> bool {
        let decides = match decision {
            Decision::Blocked { by, .. } | Decision::Allowed(by) => by.hit.source,
            Decision::Pass | Decision::Excepted(_) => usize::MAX,
        };
        let sources = snapshot.sources();
        if self.are_lists_unknown {
            // An exception has no start date, and any list may have been configured.
            let source = sources.get(decides);
            return source.is_none_or(|source| source.kind != Kind::Order);
        }
        let unknown = self
            .lists
            .iter()
            .filter(|list| matches!(list.rules, ListRules::Unknown));
        let mut ranks = unknown.map(|list| {
            let name = &list.list.source.name;
            let rank = sources.iter().position(|source| source.name == *name);
            // A source without rules may be left out.
            rank.unwrap_or(0)
        });
        ranks.any(|rank| rank < decides)
    }
}

/// The orders and exceptions of a past moment, by the configuration's journal. Those of the files as they are, if the
/// moment is `None` or in the future, there is no journal, or it does not have the moment: then also why.
pub fn orders_at(config: &Config, at: Option<Timestamp>) -> (OrderRegistry, Option<String>) {
    let at = at.filter(|at| *at <= Timestamp::now() && config.journal.is_some());
    let why = match at.map(|at| past(config, &[], Moment::At(at))) {
        None => None,
        Some(Ok(Some(past))) => {
            let registry = OrderRegistry::of_past(config, past.orders, past.exceptions);
            return (registry, None);
        }
        Some(Ok(None)) => Some("the journal does not reach back so far".to_owned()),
        Some(Err(error)) => Some(error.to_string()),
    };
    let why = why.map(|why| format!("{why}: orders are shown by their files as they are today"));
    (OrderRegistry::read(config), why)
}

/// The journal's record of a moment; `None` if it does not reach back so far.
fn past(config: &Config, files: &[PathBuf], moment: Moment) -> Result<Option<Past>, JournalError> {
    let files: Vec<_> = files.iter().map(PathBuf::as_path).collect();
    match (&config.journal, &files[..]) {
        (Some(path), []) => {
            let unwritten = unwritten_since(config.state.dir.as_deref(), path);
            match Past::read_with(&[path], moment, unwritten) {
                Err(error) if error.is_absent() => Ok(None),
                past => past,
            }
        }
        (_, files) => Past::read_files(files, moment),
    }
}

fn whole(image: Image) -> ListRules {
    ListRules::Rules(Rules {
        image: Arc::new(image),
        source: 0,
    })
}
