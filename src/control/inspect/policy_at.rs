//! The policy at a moment, reconstructed from the journal, the state directory and the files of lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::past::read_journal;
use super::past_rules::{self, KeptImages, PastRules, find_in};
use crate::config::paths::{is_of_feed, section};
use crate::config::pause::Pause;
use crate::config::{Config, List};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release::Guards;
use crate::control::journal::entry::Setting;
use crate::control::journal::past::{Moment, Past, Served};
use crate::control::journal::pauses::{marked, pause};
use crate::control::journal::settings::Settings;
use crate::control::journal::{JournalError, setting_changes, settings};
use crate::control::local_names::LocalSources;
use crate::control::publish::compose;
use crate::control::rollback::record::held;
use crate::control::rollback::stored::read_generation;
use crate::control::sources::lists::load::load;
use crate::control::sources::orders::registry::OrderRegistry;
use crate::control::sources::pauses::stored_pauses;
use crate::policy::builder::Builder;
use crate::policy::decide::Decision;
use crate::policy::image::path::{Path, labels};
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::{Image, TooLarge};
use crate::policy::images::Images;
use crate::policy::rule::{Kind, Scope};
use crate::policy::snapshot::Snapshot;
use crate::wire::name::Name;

/// The policy at a moment.
#[derive(Debug)]
pub struct PolicyAt {
    /// The configuration; settings of that moment that are recorded replace those of today.
    pub config: Config,
    /// The orders and exceptions.
    pub registry: OrderRegistry,
    /// The lists, in the order of the configuration.
    pub lists: Vec<ListAt>,
    /// Whether it is not known which lists were configured at that moment. `lists` is empty then.
    pub are_lists_unknown: bool,
    /// Whether a server was running.
    pub served: Served,
    /// Sentences about gaps in the record, and other remarks.
    pub notes: Vec<String>,
    /// The generation in force at that moment; `None` if it is not recorded.
    pub in_force: Option<u64>,
    settings: Settings,
    /// The images of the state directory, if they have the rules of all these lists.
    kept: Option<Images>,
    /// When the generation came into force; `None` if no generation is recorded.
    since: Option<Timestamp>,
    at: Timestamp,
}

/// How long the previous generation may stay in force after the journal entry of a new one, which is written first.
const PUBLISHING_MAX: SignedDuration = SignedDuration::from_millis(250);

/// A list at a moment.
#[derive(Debug)]
pub struct ListAt {
    /// The list, as it was configured at that moment.
    pub list: List,
    /// Its rules.
    pub rules: ListRules,
    /// Whether its file still has the content of that moment.
    pub is_file_unchanged: bool,
}

/// The rules of a list at a moment.
#[derive(Debug)]
pub enum ListRules {
    /// All rules.
    Rules(PastRules),
    /// The file is rejected today. A server may have an earlier state of it in force, which is not known here.
    Rejected,
    /// The rules of that moment are not known.
    Unknown,
}

/// A matching rule of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRule {
    /// The index of the list in [`PolicyAt::lists`].
    pub list: usize,
    /// The rule's name.
    pub owner: Name,
    /// Its scope.
    pub scope: Scope,
}

impl PolicyAt {
    /// The policy of the present files, with the orders and exceptions that are in force at `at`.
    pub fn now(config: &Config, guard_policy: &GuardPolicy, at: Timestamp) -> Self {
        let held = config.state.dir.as_deref().and_then(held);
        let held = held.map(|generation| {
            format!(
                "lists are held as they were in generation {generation}: the server answers by those, \
                 and not by the present files"
            )
        });
        let mut notes: Vec<_> = held.into_iter().collect();
        let settings = stored_pauses(config, at).unwrap_or_else(|problem| {
            notes.push(problem);
            Settings::new()
        });
        let mut read = |list: &List| {
            let rules = match load(list, guard_policy, &[], Guards::NONE) {
                Ok(fresh) => all_rules(fresh.image),
                Err(refusal) => {
                    notes.push(format!("{}: {refusal}", list.source.name));
                    ListRules::Rejected
                }
            };
            ListAt {
                list: marked(list.clone(), &settings),
                rules,
                is_file_unchanged: true,
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
            settings,
            kept: None,
            since: None,
            at,
        }
    }

    /// The pause of the list with this name.
    pub fn pause(&self, list: &str) -> Option<Pause> {
        let mut lists = self.lists.iter().map(|at| &at.list.source);
        let source = lists.find(|source| source.name == list)?;
        pause(&self.settings, source)
    }

    /// The policy at a past moment, from the journal. If there is no journal, or it does not reach back so far, the lists
    /// are unknown, and the orders and exceptions are those of today's files, by their dates.
    ///
    /// `files` has the files of the journal, the oldest first; if it is empty, the journal of the configuration is read.
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
                "{why}: orders and exceptions are those of the present files, and the rules of lists are not known"
            )],
            in_force: None,
            settings: Settings::new(),
            kept: None,
            since: None,
            at,
        };
        if config.journal.path.is_none() && files.is_empty() {
            return by_dates(Served::Yes, "there is no journal".to_owned());
        }
        let unrecorded = |why| by_dates(Served::Unrecorded, why);
        match read_journal(config, files, Moment::At(at)) {
            Ok(Some(past)) => Self::from_past(config, guard_policy, past, at, None),
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
    /// [`JournalError`] if the journal can't be read.
    pub fn generation(
        config: &Config,
        guard_policy: &GuardPolicy,
        files: &[PathBuf],
        generation: u64,
    ) -> Result<Option<Self>, JournalError> {
        let past = read_journal(config, files, Moment::Generation(generation))?;
        let kept = config.state.dir.as_ref().and_then(|dir| {
            let kept = read_generation(dir, config.journal.path.as_deref(), generation).ok()?;
            Some(kept.into_images())
        });
        Ok(past.map(|past| {
            let since = past.since;
            Self::from_past(config, guard_policy, past, since, kept)
        }))
    }

    /// Whether the previous generation may still have been in force at that moment.
    pub fn may_follow_previous(&self) -> bool {
        let age = self.since.map(|since| self.at.duration_since(since));
        age.is_some_and(|age| age < PUBLISHING_MAX)
    }

    /// The policy just before its generation came into force; `None` if no earlier generation is recorded.
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

    fn from_past(
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
        // These may be images of an earlier generation, as generations that differ only in orders share images. They
        // are used only if they have all lists.
        let kept = kept.filter(|kept| {
            past.lists
                .iter()
                .all(|entry| find_in(kept, entry).is_some())
        });
        let lists = past.lists.iter().map(|entry| {
            let mut known = today.lists.iter();
            let known = known.find(|list| list.source.name == entry.name);
            let list = marked(settings::list(entry, &past.settings, known), &past.settings);
            let (rules, is_file_unchanged) = match kept.as_ref().and_then(|kept| find_in(kept, entry)) {
                Some(rules) => (Some(rules), false),
                None => past_rules::find(today, guard_policy, entry, &list, &mut images),
            };
            let rules = match rules {
                Some(rules) => ListRules::Rules(rules),
                None => {
                    let changed = match is_of_feed(&entry.path) {
                        true => "",
                        false => "its file has changed, and ",
                    };
                    notes.push(format!(
                        "{} {}: its rules in generation {generation} (since {since}) are not known: {changed}the state \
                         directory does not have them",
                        section(&entry.path),
                        entry.name
                    ));
                    ListRules::Unknown
                }
            };
            ListAt {
                list,
                rules,
                is_file_unchanged,
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

    /// A snapshot for one name, without most list rules on unrelated names, and the matching rules of lists.
    ///
    /// # Errors
    /// If an image can't hold all these rules.
    pub fn snapshot_for(&self, name: &Name) -> Result<(Snapshot, Vec<ListRule>), TooLarge> {
        let wanted = Path::from(name);
        let mut matching: Vec<ListRule> = Vec::new();
        // By policy zone: the numbers of labels that its names share with the name. The greatest is that of the closest
        // encloser.
        let mut shared: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let base = self.merge_rules(|list, path, scope| {
            let related =
                path.starts_with(wanted.as_bytes()) || wanted.as_bytes().starts_with(path);
            if related && wanted.as_bytes().starts_with(path) {
                let owner = Path::of(path).to_name();
                if scope.reaches(&owner, name) {
                    matching.push(ListRule { list, owner, scope });
                }
            }
            let is_zone = self.lists[list].list.zone.is_some();
            // A name below an ancestor may end its wildcards. One for each ancestor suffices.
            let is_first = is_zone && {
                let pairs = labels(path).zip(labels(wanted.as_bytes()));
                let count = pairs.take_while(|(one, other)| one == other).count();
                shared.entry(list).or_default().insert(count)
            };
            related || is_first
        })?;
        matching.retain(|rule| {
            let encloser = shared.get(&rule.list).and_then(BTreeSet::last);
            encloser.is_none_or(|encloser| rule.owner.label_count() >= *encloser)
        });
        let images = Images {
            base: Some(Arc::new(base)),
            orders: self.registry.rules().cloned(),
            ..Images::default()
        };
        Ok((self.snapshot(images), matching))
    }

    /// Images of all known rules.
    ///
    /// # Errors
    /// If an image can't hold all of them.
    pub fn images(&self) -> Result<Images, TooLarge> {
        let images = match &self.kept {
            Some(kept) => kept.clone(),
            None => Arc::new(self.merge_rules(|_, _, _| true)?).into(),
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
        let local = LocalSources::read(&self.config);
        compose::snapshot(&self.config, local.names(), sources, images, 1)
    }

    /// The settings that have another value in `newer`.
    pub fn changes(&self, newer: &Self) -> Vec<Setting> {
        setting_changes(&self.settings, &newer.settings)
    }

    /// One image of the rules on names that `wanted` selects, and of all rules with other triggers. `wanted` is called with
    /// the index of the list, the path of the rule's name, and the scope.
    fn merge_rules(
        &self,
        mut wanted: impl FnMut(usize, &[u8], Scope) -> bool,
    ) -> Result<Image, TooLarge> {
        let mut builder = Builder::new();
        for (at, past) in self.lists.iter().enumerate() {
            let ListRules::Rules(rules) = &past.rules else {
                continue;
            };
            let source = builder.source(ImageSource {
                amendable: past.list.zone.is_some(),
                ..ImageSource::named(&past.list.source.name)
            })?;
            let mut cursor = rules.images.rule_cursor(|list| *list == *rules.list);
            while cursor.advance() {
                for rule in cursor.rules() {
                    if wanted(at, cursor.path(), rule.scope) {
                        builder.insert_path(cursor.path(), source, rule.scope, rule.effect)?;
                    }
                }
            }
            if let Some((image, _)) = rules.images.find(&rules.list) {
                let sources = &image.provenance().sources;
                let is_list = |number: u16| sources[usize::from(number)].name == *rules.list;
                builder.add_triggers(image, |number| is_list(number).then_some(source))?;
            }
        }
        builder.finish()
    }

    /// Whether the rules of a list are not known.
    pub fn has_unknown_rules(&self) -> bool {
        let mut lists = self.lists.iter();
        lists.any(|list| matches!(list.rules, ListRules::Unknown))
    }

    /// Whether rules that are not known could change the decision. Compares only the places of sources: important rules of a
    /// later list, which precede those of earlier ones, are left out, and so are rules on the client and on addresses.
    pub fn may_be_overruled(&self, snapshot: &Snapshot, decision: &Decision<'_>) -> bool {
        let decides = match decision {
            Decision::Blocked { by, .. } | Decision::Allowed(by) => by.index(),
            Decision::Pass | Decision::Excepted(_) => usize::MAX,
        };
        let sources = snapshot.sources();
        if self.are_lists_unknown {
            // Only the decision of an order is certain. An exception has no start date, so it may not have existed
            // then; and lists may have been configured whose rules are not known.
            let source = sources.get(decides);
            return source.is_none_or(|source| source.kind != Kind::Order);
        }
        let unknown = self
            .lists
            .iter()
            .filter(|list| matches!(list.rules, ListRules::Unknown))
            .filter(|list| !list.list.source.is_logged_only());
        let mut ranks = unknown.map(|list| {
            let name = &list.list.source.name;
            let rank = sources.iter().position(|source| source.name == *name);
            // The snapshot may leave out a source without rules, so its rank is not known.
            rank.unwrap_or(0)
        });
        ranks.any(|rank| rank < decides)
    }
}

/// The rules of an image of a single list.
fn all_rules(image: Arc<Image>) -> ListRules {
    ListRules::Rules(PastRules::in_image(image, 0))
}
