//! The steps and endings that [`respond`](super::respond) returns for a message, and the outcome of asking upstream.

use std::num::NonZeroU16;
use std::sync::Arc;

use super::cache::{Entry, Failure, Key};
use crate::policy::ranking::Hit;
use crate::stats::Count;

/// How a query is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How it ended.
    pub count: Count,
    /// The rule that blocked it.
    pub rule: Option<Hit>,
    /// The rule on its answer that would have decided if its list were not logged only.
    pub logged: Option<Hit>,
}

impl From<Count> for Tally {
    fn from(count: Count) -> Self {
        Self {
            count,
            rule: None,
            logged: None,
        }
    }
}

impl Tally {
    /// Whether the answer is upstream's.
    pub(super) fn is_from_upstream(&self) -> bool {
        self.rule.is_none() && matches!(self.count, Count::Resolved | Count::Failed)
    }

    /// A query that `rule` blocked.
    pub(super) fn blocked(count: Count, rule: Hit) -> Self {
        Self {
            rule: Some(rule),
            ..count.into()
        }
    }
}

/// How a query ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Without an answer.
    Drop(Tally),
    /// `out` holds the answer.
    Reply(Tally),
}

/// The next step for a message.
#[derive(Debug)]
pub enum Step {
    /// The message gets no answer.
    Drop(Tally),
    /// `out` holds the answer.
    Reply(Tally),
    /// `out` holds the answer, with data from the cache that is popular and about to expire, so upstream should be
    /// asked again.
    Refresh(Key, Tally),
    /// Upstream must be asked; [`conclude`](super::respond::conclude) then writes the answer. The key is that of the
    /// query, or that of the target of an alias. The entry is an answer past its TTL, in case upstream fails.
    Resolve(Key, Option<Arc<Entry>>),
}

impl From<Ending> for Step {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Drop(tally) => Self::Drop(tally),
            Ending::Reply(tally) => Self::Reply(tally),
        }
    }
}

/// How often a message that waits for upstream was dispatched before. Upstream is asked for a second name if a CNAME
/// rule applies to a name in its answer, and for another name if the policy changes meanwhile. The number is limited,
/// so that every query ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attempt {
    /// Never.
    #[default]
    First,
    /// Once.
    Second,
    /// As often as permitted: the message must be answered with the data that is known.
    Last,
}

impl Attempt {
    /// The attempt after this one.
    pub fn next(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second | Self::Last => Self::Last,
        }
    }
}

/// How asking upstream ended.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// With an answer.
    Answered(Arc<Entry>),
    /// Without an answer; there may be a stale one.
    Failed(Arc<Failure>, Option<Arc<Entry>>),
    /// Too many queries are waiting already; there may be a stale answer.
    Overloaded(Option<Arc<Entry>>),
    /// Other servers than those that were asked are the ones to ask now.
    Outdated,
}

impl Resolution {
    /// The number of the upstream server that answered.
    pub(super) fn server(&self) -> Option<NonZeroU16> {
        match self {
            Self::Answered(entry) => entry.answer.server(),
            Self::Failed(failure, _) => failure.said.as_ref()?.answer.server(),
            Self::Overloaded(_) | Self::Outdated => None,
        }
    }

    /// The approximate size of the answers that it holds, in bytes.
    pub(super) fn footprint(&self) -> usize {
        let (said, stale) = match self {
            Self::Answered(entry) => (Some(entry), None),
            Self::Failed(failure, stale) => (failure.said.as_ref(), stale.as_ref()),
            Self::Overloaded(stale) => (None, stale.as_ref()),
            Self::Outdated => (None, None),
        };
        let entries = said.into_iter().chain(stale);
        entries.map(|entry| entry.answer.footprint()).sum()
    }
}
