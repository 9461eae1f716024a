//! Differences between two policies: in the answers that clients get, or in the rules of lists.

pub mod answers;
pub mod rules;
pub mod triggers;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::Config;
use crate::control::guard::policy::GuardPolicy;
use crate::control::inspect::policy_at::PolicyAt;
use crate::control::journal::JournalError;
use crate::control::rollback::stored::{PastError, read_generation};
use crate::policy::images::Images;

/// The kind of a difference in the answers for a name, or in a list's rules on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The name is blocked, or has a rule, only in the new policy.
    Added,
    /// The name is blocked, or has a rule, only in the old policy.
    Removed,
    /// Both block the name with different answers, or have different rules on it; or neither blocks it, and they
    /// filter upstream's answer differently.
    Changed,
}

/// Numbers of differences by their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many are [`Change::Added`].
    pub added: usize,
    /// How many are [`Change::Removed`].
    pub removed: usize,
    /// How many are [`Change::Changed`].
    pub changed: usize,
}

impl Counts {
    /// Counts a difference.
    pub fn add(&mut self, change: Change) {
        match change {
            Change::Added => self.added += 1,
            Change::Removed => self.removed += 1,
            Change::Changed => self.changed += 1,
        }
    }
}

/// Numbers of differences, by the name of the source that makes them.
pub type CountsBySource = BTreeMap<String, Counts>;

/// Two generations to compare.
#[derive(Debug)]
pub enum Generations {
    /// The journal has both policies, the old one first.
    Recorded(Box<[PolicyAt; 2]>),
    /// The journal does not have both: only the rules of their lists, from the state directory.
    Kept([Images; 2]),
}

/// A reason why two policies can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The state directory does not have the generation, or can't be read.
    #[error(transparent)]
    Store(#[from] PastError),
    /// No state directory is configured.
    #[error("there are no generations without a `dir` in [state]; name two files")]
    NoStateDir,
}

impl Generations {
    /// Reads two generations, the old one first. `journal` has the files of the journal, the oldest first; if it is
    /// empty, the journal of the configuration is read.
    ///
    /// # Errors
    /// [`DiffError`]
    pub fn read(
        config: &Config,
        journal: &[PathBuf],
        [old, new]: [u64; 2],
    ) -> Result<Self, DiffError> {
        let guard_policy = GuardPolicy::read(config);
        let recorded =
            |generation| PolicyAt::generation(config, &guard_policy, journal, generation);
        Ok(match (recorded(old)?, recorded(new)?) {
            (Some(old), Some(new)) => Self::Recorded(Box::new([old, new])),
            _ => Self::Kept([kept_lists(config, old)?, kept_lists(config, new)?]),
        })
    }
}

/// The rules of all lists in a generation, from the state directory.
///
/// # Errors
/// [`DiffError`]
pub fn kept_lists(config: &Config, generation: u64) -> Result<Images, DiffError> {
    let dir = config.state.dir.as_ref().ok_or(DiffError::NoStateDir)?;
    let kept = read_generation(dir, config.journal.path.as_deref(), generation)?;
    Ok(kept.into_images())
}
