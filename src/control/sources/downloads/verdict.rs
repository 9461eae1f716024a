//! The result of reading a copy that was replaced.

use tokio::sync::oneshot;

use crate::control::sources::lists::load::Refusal;

/// A copy that was replaced.
#[derive(Debug)]
pub(crate) struct Replaced {
    /// The name of the list.
    pub(crate) list: String,
    /// Where the result is sent. It is dropped if the list is not read.
    pub(crate) done: oneshot::Sender<Verdict>,
}

/// The result of reading a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its rules are in force.
    InForce,
    /// They do not come into force, because of what the copy contains.
    Rejected(Reason),
    /// They may come into force later: something else keeps the copy from being read.
    Postponed(Reason),
}

/// Why the rules of a copy are not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    /// A sentence.
    pub(crate) text: String,
    /// Whether the copy may be damaged, so that it must be compared with what was downloaded.
    pub(crate) is_suspect: bool,
}

impl Verdict {
    /// Whether the copy may be damaged.
    pub(super) fn is_suspect(&self) -> bool {
        match self {
            Self::InForce => false,
            Self::Rejected(reason) | Self::Postponed(reason) => reason.is_suspect,
        }
    }
}

impl From<&Refusal> for Verdict {
    fn from(refusal: &Refusal) -> Self {
        let is_of_system = refusal.passing()
            || refusal.transient()
            || refusal.waits_for_room()
            || refusal.is_first();
        let reason = Reason {
            text: refusal.to_string(),
            is_suspect: refusal.may_be_damaged(),
        };
        match is_of_system || refusal.is_rollback() {
            true => Self::Postponed(reason),
            false => Self::Rejected(reason),
        }
    }
}
