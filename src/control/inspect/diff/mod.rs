//! What differs between two policies: the answers that clients get, or the rules of lists.

pub mod answers;
pub mod rules;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::config::Config;
use crate::control::guard::policy::GuardPolicy;
use crate::control::inspect::policy_at::PolicyAt;
use crate::control::journal::JournalError;
use crate::control::persist::store::{PastError, read_generation};
use crate::policy::images::Images;
use crate::wire::name::Name;

/// How a name or a rule differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is blocked, or has a rule, in the new policy alone.
    Added,
    /// The same in the old policy alone.
    Removed,
    /// In both, in another way; or in neither, and upstream's answer is filtered in another way.
    Changed,
}

/// How many names differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// How many of them are [`Change::Added`].
    pub added: usize,
    /// How many of them are [`Change::Removed`].
    pub removed: usize,
    /// How many of them are [`Change::Changed`].
    pub changed: usize,
}

impl Counts {
    fn add(&mut self, change: Change) {
        match change {
            Change::Added => self.added += 1,
            Change::Removed => self.removed += 1,
            Change::Changed => self.changed += 1,
        }
    }
}

/// How many names differ, by the source that makes the difference.
pub type CountsBySource = BTreeMap<String, Counts>;

/// Two generations, as far as they are known.
#[derive(Debug)]
pub enum Generations {
    /// The journal has both policies, the old one first.
    Recorded(Box<[PolicyAt; 2]>),
    /// The journal does not have both. These are the rules of their lists, which the state directory keeps.
    Kept([Images; 2]),
}

/// Why two policies can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The state directory does not keep the generation, or it can't be read.
    #[error(transparent)]
    Store(#[from] PastError),
    /// No state directory is configured.
    #[error("there are no generations without a `dir` in [state]; name two files")]
    NoStateDir,
}

impl Generations {
    /// Reads two generations, the old one first, from `journal`, the journal's files with the oldest first, or from the
    /// configuration's journal if there are none.
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

/// The rules of the lists of a generation that the state directory keeps.
///
/// # Errors
/// [`DiffError`]
pub fn kept_lists(config: &Config, generation: u64) -> Result<Images, DiffError> {
    let dir = config.state.dir.as_ref().ok_or(DiffError::NoStateDir)?;
    let kept = read_generation(dir, config.journal.as_deref(), generation)?;
    Ok(kept.into_images())
}

fn name_text<S: Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}
