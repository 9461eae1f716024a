//! Holds a new configuration until all its new lists and orders are read. Then it comes into force as a whole, or not
//! at all.
//!
//! ```text
//!                 all lists are read                             they were read
//!   lists are ---------------------> orders and exceptions -----------------------> whole -----> joined, in force
//!   being read                       are being read <---------------------------------+             |
//!       |                                 |               orders in force changed                   |
//!       |  a list is refused,             |  too late                                               | too large
//!       |  or not read in time            v                                                         v
//!       +---------------------------> rejected <----------------------------------------------------+
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::shown::Show;
use crate::config::{Config, List};
use crate::control::data_plane::Change;
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release::Guards;
use crate::control::local_names::LocalSources;
use crate::control::sources::files::Files;
use crate::control::sources::lists::load::Refusal;
use crate::control::sources::lists::state::ListState;
use crate::control::sources::orders::registry::OrderRegistry;

/// How long a new configuration waits for files that are being written, and for each file that is being read.
const PENDING_MAX: Duration = Duration::from_secs(30);

/// A new configuration that waits for its files.
#[derive(Debug)]
pub(crate) struct PendingConfig {
    pub(crate) config: Config,
    pub(crate) guard_policy: Arc<GuardPolicy>,
    pub(crate) local: LocalSources,
    /// The change that the data plane has prepared for the configuration; `None` if the data plane uses it already.
    pub(crate) change: Option<Change>,
    since: Instant,
    /// Its lists whose rules are not in force yet: new ones, and those that come from another file or are read in
    /// another way.
    pub(crate) lists: Vec<ListState>,
    orders: PendingOrders,
}

/// The orders and exceptions of a pending configuration.
#[derive(Debug)]
enum PendingOrders {
    Unread,
    /// They are being read.
    Reading {
        since: Instant,
    },
    /// They were read.
    Read {
        /// When the first attempt to read them began.
        since: Instant,
        /// The version of the registry in force when reading began. Files that were read for a later version are
        /// missing in `registry`.
        of: u64,
        registry: Box<OrderRegistry>,
    },
}

/// The orders and exceptions of a new configuration.
pub(crate) struct ConfiguredOrders {
    pub(crate) config: Config,
    /// The version of the registry in force when reading began.
    pub(crate) of: u64,
    pub(crate) registry: OrderRegistry,
}

impl PendingConfig {
    /// A configuration with its guard policy and local names, and the current signatures of the files of its lists.
    pub(crate) fn new(
        config: Config,
        (guard_policy, local): (Arc<GuardPolicy>, LocalSources),
        change: Option<Change>,
        active: &[ListState],
        files: &Files,
    ) -> Self {
        let known = |list: &&List| active.iter().any(|state| is(state, list));
        let fresh = config.lists.iter().filter(|list| !known(list));
        let fresh = fresh.cloned().map(|list| {
            let mut list = ListState::new(list);
            list.set_looked(files);
            // For the guards, a list with the same name and kind is the same list, whatever its file. A list of another
            // kind is checked differently, so that fewer of its rules may remain.
            let is_same = |state: &&ListState| {
                state.name() == list.name() && state.source.kind == list.source.kind
            };
            let named = active.iter().find(is_same);
            list.earlier.before = named.map_or(Vec::new(), ListState::in_force);
            // A list that is read in another way may have other mistakes, so no guard stays released.
            for before in &mut list.earlier.before {
                before.released = Guards::NONE;
            }
            list
        });
        let fresh = fresh.collect();
        Self {
            config,
            guard_policy,
            local,
            change,
            since: Instant::now(),
            lists: fresh,
            orders: PendingOrders::Unread,
        }
    }

    /// Whether all lists have been read, or can't be read for now: a file that is always being written, or whose
    /// reading never ends, is waited for no longer than [`PENDING_MAX`].
    pub(crate) fn is_ready(&self) -> bool {
        let late = self.since.elapsed() > PENDING_MAX;
        let rests = |list: &ListState| late || (list.due().is_none() && !list.is_looked_for());
        let ready = |list: &ListState| match list.loading {
            Some(_) => hanging(list).is_some(),
            None => rests(list),
        };
        self.lists.iter().all(ready)
    }

    /// Whether its lists can be joined with those in force, given the version of the registry in force.
    pub(crate) fn is_whole(&self, version: u64) -> bool {
        self.has_orders(version) && self.is_ready() && self.problems().is_empty()
    }

    /// Whether its orders were read for this version of the registry in force.
    pub(crate) fn has_orders(&self, version: u64) -> bool {
        matches!(&self.orders, PendingOrders::Read { of, .. } if *of == version)
    }

    /// Records that its orders are being read. If they were read before, that result lacks newer orders.
    pub(crate) fn begin_orders(&mut self, now: Instant) {
        let since = match self.orders {
            PendingOrders::Unread => now,
            PendingOrders::Reading { since } | PendingOrders::Read { since, .. } => since,
        };
        self.orders = PendingOrders::Reading { since };
    }

    /// Records that reading its orders began at `since`.
    #[cfg(test)]
    pub(crate) fn backdate_orders(&mut self, since: Instant) {
        self.orders = PendingOrders::Reading { since };
    }

    /// Takes its orders, which were read for version `of` of the registry in force. Drops them if this configuration
    /// has not begun to read its orders: then they were read for an earlier request for an equal configuration.
    pub(crate) fn finish_orders(&mut self, of: u64, registry: OrderRegistry) {
        if let PendingOrders::Reading { since } | PendingOrders::Read { since, .. } = self.orders {
            self.orders = PendingOrders::Read {
                since,
                of,
                registry: Box::new(registry),
            };
        }
    }

    /// Whether reading its orders has begun.
    pub(crate) fn has_begun_orders(&self) -> bool {
        !matches!(self.orders, PendingOrders::Unread)
    }

    /// Returns its orders, if they were read.
    pub(crate) fn take_orders(&mut self) -> Option<OrderRegistry> {
        match std::mem::replace(&mut self.orders, PendingOrders::Unread) {
            PendingOrders::Read { registry, .. } => Some(*registry),
            PendingOrders::Unread | PendingOrders::Reading { .. } => None,
        }
    }

    /// The directories of its orders and exceptions.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let Config {
            orders, exceptions, ..
        } = &self.config;
        let folders = [&orders.dir, &exceptions.dir].into_iter().flatten();
        folders.cloned().collect()
    }

    /// Why it can't come into force.
    pub(crate) fn problems(&self) -> Vec<String> {
        let reported = self.lists.iter().filter_map(|list| {
            let name = list.name();
            if let Some(seconds) = hanging(list) {
                let path = list.source.path.shown();
                return Some(format!(
                    "configuration rejected, {name}: {path}: not read in {seconds} s: check the disk or the network mount"
                ));
            }
            match (&list.refused, &list.loaded) {
                // A new feed has no rules before its first transfer, which starts when the configuration is in force.
                (Some((Refusal::NoTransfer(_), _)), _) => None,
                (Some((refusal, _)), _) => {
                    Some(format!("configuration rejected, {name}: {refusal}"))
                }
                (None, None) => {
                    let path = list.source.path.shown();
                    Some(format!(
                        "configuration rejected, {name}: {path} is still being written, or its file system does not answer"
                    ))
                }
                (None, Some(_)) => None,
            }
        });
        let late = match self.orders {
            PendingOrders::Reading { since } => Some(since.elapsed()),
            PendingOrders::Unread | PendingOrders::Read { .. } => None,
        };
        let unread = late.filter(|late| *late > PENDING_MAX).map(|late| {
            let folders = self.folders();
            let folders: Vec<_> = folders
                .iter()
                .map(|folder| folder.shown().to_string())
                .collect();
            format!(
                "configuration rejected, {}: not read in {} s: check the disk or the network mount",
                folders.join(", "),
                late.as_secs()
            )
        });
        reported.chain(unread).collect()
    }

    /// Returns the configuration, its lists in the order of the configuration, and the lists in force that the
    /// configuration does not have. Lists that stay the same keep their state.
    pub(crate) fn merge(
        self,
        mut active: Vec<ListState>,
    ) -> (Config, Vec<ListState>, Vec<ListState>) {
        let mut fresh = self.lists;
        let mut lists = Vec::new();
        for config in &self.config.lists {
            let named = |state: &ListState| state.name() == config.source.name;
            let state = match (
                fresh.iter().position(named),
                active.iter().position(|s| is(s, config)),
            ) {
                (Some(place), _) => Some(fresh.swap_remove(place).without_rules()),
                (None, Some(place)) => {
                    let mut state = active.swap_remove(place);
                    state.reconfigure(config.clone());
                    Some(state)
                }
                (None, None) => None,
            };
            lists.extend(state);
        }
        (self.config, lists, active)
    }
}

/// For how many seconds a list has been read, if that is too long. The compiler, which reads large lists, has another
/// deadline.
fn hanging(list: &ListState) -> Option<u64> {
    let loading = list.loading.filter(|_| !list.is_large())?;
    let elapsed = loading.since.elapsed();
    (elapsed > PENDING_MAX).then_some(elapsed.as_secs())
}

/// Whether `list` has the same name and describes the same rules as the list with this state.
fn is(state: &ListState, list: &List) -> bool {
    state.name() == list.source.name && state.reads_as(list)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::time::{advance, pause};

    use super::*;

    /// A new configuration with these lists.
    fn pending(names: &[&str]) -> PendingConfig {
        let list = |name: &&str| format!("[[list]]\nname = \"{name}\"\npath = \"{name}\"\n");
        let text: String = names.iter().map(list).collect();
        let config = Config::parse(&text, Path::new("/tapis.toml")).expect("valid");
        let guard_policy = Arc::new(GuardPolicy::read(&config));
        let local = LocalSources::read(&config);
        PendingConfig::new(config, (guard_policy, local), None, &[], &Files::new())
    }

    #[tokio::test]
    async fn a_configuration_is_rejected_if_reading_one_of_its_lists_never_ends() {
        pause();
        let mut pending = pending(&["hangs", "rests"]);
        pending.lists[0].start(1);
        assert!(!pending.is_ready());
        advance(PENDING_MAX).await;
        assert!(!pending.is_ready(), "not yet");
        advance(Duration::from_secs(1)).await;
        assert!(pending.is_ready());
        let problems = pending.problems();
        let expected = "configuration rejected, hangs: /hangs: not read in 31 s: check the disk or the network mount";
        assert_eq!(problems[0], expected);
    }

    #[tokio::test]
    async fn a_read_that_began_late_has_the_full_time() {
        pause();
        let mut pending = pending(&["hangs"]);
        pending.lists[0].request(1, Guards::NONE, Instant::now());
        advance(PENDING_MAX - Duration::from_secs(1)).await;
        pending.lists[0].start(1);
        advance(Duration::from_secs(20)).await;
        assert!(!pending.is_ready());
        advance(Duration::from_secs(11)).await;
        assert!(pending.is_ready() && !pending.problems().is_empty());
    }
}
