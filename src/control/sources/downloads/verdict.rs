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
    /// They do not come into force, because of what the copy contains. The reason is a sentence.
    Rejected(String),
    /// They may come into force later: something else keeps the copy from being read. The reason is a sentence.
    Postponed(String),
}

impl From<&Refusal> for Verdict {
    fn from(refusal: &Refusal) -> Self {
        let is_of_system = refusal.passing()
            || refusal.transient()
            || refusal.waits_for_room()
            || refusal.is_first();
        match is_of_system || refusal.is_rollback() {
            true => Self::Postponed(refusal.to_string()),
            false => Self::Rejected(refusal.to_string()),
        }
    }
}
