//! The figures of the control plane for monitoring. The control loop publishes them, so that a reader never waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;

use crate::config::order::State;
use crate::policy::rule::Action;

/// Where the figures are published. There are none before the first, and while no metrics are served.
pub type PublishedFigures = Arc<ArcSwapOption<Figures>>;

/// The state of the control plane in numbers. Immutable: the control loop publishes another one each second, and with each
/// generation.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The generation in force, and when it came into force.
    pub generation: (u64, Timestamp),
    /// The images in force.
    pub images: Vec<ImageFigures>,
    /// The lists and feeds, in the order of the configuration.
    pub sources: Vec<SourceFigures>,
    /// The number of orders in each state.
    pub orders: BTreeMap<State, u64>,
    /// Orders in force whose review is overdue.
    pub overdue_reviews: u64,
    /// When the next order or exception begins or ends.
    pub next_change: Option<Timestamp>,
    /// Exceptions in force, and those that ended.
    pub exceptions: (u64, u64),
    /// The number of alarms, without those of the data plane.
    pub alarms: u64,
    /// Keys of the configuration in force that need a restart.
    pub restart: u64,
    /// The work of the compiler.
    pub compile: Work,
    /// The work of putting generations in force.
    pub publish: Work,
    /// Reloads without a problem, and those with problems.
    pub reloads: [u64; 2],
    /// Where the hits of each source are counted.
    pub hits: Arc<Vec<HitFigures>>,
    /// When these figures were published.
    pub at: Timestamp,
}

/// How often something was done, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// How often.
    pub runs: u64,
    /// The time of the last run.
    pub last: Duration,
    /// The time of all runs.
    pub total: Duration,
}

impl Work {
    /// Adds a run.
    pub(crate) fn add(&mut self, took: Duration) {
        self.runs += 1;
        self.last = took;
        self.total += took;
    }
}

/// Where the hits of a source are counted, or those of all orders of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HitFigures {
    /// `list`, `feed` or `authority`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whether queries were only counted, as it is paused or disabled, and not blocked.
    pub is_logged_only: bool,
    /// Its action, for counters that do not tell actions apart.
    pub action: Action,
    /// The slots of its counters.
    pub slots: Vec<usize>,
}

/// Publishes figures, and keeps the part of them that only changes with a generation.
#[derive(Debug, Default)]
pub(crate) struct FiguresPublisher {
    /// Where they are published.
    pub(crate) published: PublishedFigures,
    /// Where hits are counted, and the generation of that.
    pub(crate) hits: (u64, Arc<Vec<HitFigures>>),
    /// The slots of the orders of each authority, also of orders that are gone: a sum of counters must not decrease.
    pub(crate) authorities: BTreeMap<String, BTreeSet<usize>>,
}

/// An image.
#[derive(Clone, Debug)]
pub struct ImageFigures {
    /// `base`, `delta` or `orders`.
    pub name: &'static str,
    /// The number of its rules.
    pub rules: u64,
    /// Bytes of memory.
    pub bytes: usize,
}

/// A list or a feed.
#[derive(Clone, Debug)]
pub struct SourceFigures {
    /// `list` or `feed`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whether rules of it are in force.
    pub is_in_force: bool,
    /// The number of its rules in force.
    pub rules: u64,
    /// The number of bad lines in the file that its rules are from.
    pub bad_lines: u64,
    /// When the version in force was loaded.
    pub loaded: Option<Timestamp>,
    /// How long that took, in seconds.
    pub load_seconds: f64,
    /// The time from which its age is counted: when a primary or a mirror last sent or confirmed the version in force; for a
    /// file that others write, when it was written.
    pub current_at: Option<Timestamp>,
    /// When its servers are asked next.
    pub next_attempt: Option<Timestamp>,
    /// The number of its alarms.
    pub alarms: u64,
    /// The primaries that present certificates, and when these end.
    pub certificate_ends: Vec<(SocketAddr, Timestamp)>,
    /// How often each fault of its servers occurred.
    pub faults: Vec<(String, u64)>,
}

impl Figures {
    /// Why the policy is not in force as it is configured, in one line; `None` if it is. An older version of a list is in force
    /// as well: it is an alarm, but no reason to send queries elsewhere.
    pub fn unready(&self) -> Option<String> {
        if self.generation.0 == 0 {
            return Some("no generation is in force yet".to_owned());
        }
        let mut sources = self.sources.iter();
        let missing = sources.find(|source| !source.is_in_force)?;
        let SourceFigures { kind, name, .. } = missing;
        Some(format!(
            "{kind} {name} has no rules in force; see `tapis status`"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, is_in_force: bool) -> SourceFigures {
        SourceFigures {
            kind: "list",
            name: name.to_owned(),
            is_in_force,
            rules: 0,
            bad_lines: 0,
            loaded: None,
            load_seconds: 0.0,
            current_at: None,
            next_attempt: None,
            alarms: 1,
            certificate_ends: Vec::new(),
            faults: Vec::new(),
        }
    }

    #[test]
    fn the_policy_is_ready_once_every_source_has_rules_in_force_even_with_alarms() {
        let mut figures = Figures::default();
        assert!(figures.unready().is_some(), "nothing was published");
        figures.generation.0 = 1;
        figures.sources = vec![source("ads", true), source("law", false)];
        let why = figures.unready().expect("a reason");
        assert!(why.contains("list law"), "{why}");
        figures.sources[1].is_in_force = true;
        assert_eq!(figures.unready(), None);
    }
}
