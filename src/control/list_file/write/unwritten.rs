//! The rules that a format can't say, counted by the reason.

use std::collections::BTreeMap;
use std::fmt;

/// Why a rule can't be written in a format. The text follows a number of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// The format has no rules on single names.
    #[error("on a name without those below it")]
    Exact,
    /// The format has no rules on names with those below them.
    #[error("on a name and all names below it")]
    Subtree,
    /// The format has no rules on names below others.
    #[error("on all names below a name")]
    Below,
    /// The name would be read as something else.
    #[error("on names that the format can't have")]
    Name,
    /// The format has no such patterns.
    #[error("with patterns")]
    Pattern,
    /// The format has no networks.
    #[error("on networks")]
    Network,
    /// The format has no rules that allow names.
    #[error("that allow names")]
    Allow,
    /// The format does not have this answer.
    #[error("with answers of their own")]
    Answer,
    /// The format has no TTLs.
    #[error("with TTLs of their own")]
    Ttl,
    /// In the format, the rule would precede other rules.
    #[error("with another precedence")]
    Precedence,
    /// The format has no conditions.
    #[error("for some queries only")]
    Condition,
    /// The format has only one of the rules on this name.
    #[error("beside another rule on the same name")]
    Beside,
}

/// Counts of rules that are left out of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwritten(BTreeMap<Reason, u64>);

impl Unwritten {
    /// Counts rules. Rules for one reason may be counted in parts.
    pub fn add(&mut self, reason: Reason, count: u64) {
        if count > 0 {
            *self.0.entry(reason).or_default() += count;
        }
    }

    /// The number of rules.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The number of rules for one reason.
    pub fn count(&self, reason: Reason) -> u64 {
        self.0.get(&reason).copied().unwrap_or_default()
    }
}

/// The counts with their reasons: `10 on all names below a name, 2 with patterns`.
impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (reason, count) in &self.0 {
            write!(f, "{separator}{count} {reason}")?;
            separator = ", ";
        }
        Ok(())
    }
}
