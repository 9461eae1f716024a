//! Counts of the rules that were written, and of those that were left out, by reason.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::shown::counted;
use crate::control::list_file::write::format::WrittenFormat;
use crate::control::list_file::write::reason::Reason;

/// The counts for a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenList {
    /// The number of rules that the text has.
    pub rules: u64,
    /// Those of them that have their own TTL, which the text does not have.
    pub without_ttl: u64,
    /// Those that the text does not have.
    pub unwritten: Unwritten,
}

impl WrittenList {
    /// A sentence on the rules and TTLs that the text lacks. `None` if it lacks nothing.
    pub fn left_out(&self, format: WrittenFormat) -> Option<String> {
        let left = self.unwritten.total();
        let all = counted(self.rules + left, "rule", "rules");
        let format = format.format().word();
        let rules = format!(
            "{left} of {all} can't be written as {format}: {}",
            self.unwritten
        );
        let ttls = format!(
            "{} of {all} written without a TTL, which {format} does not have",
            self.without_ttl
        );
        match (left > 0, self.without_ttl > 0) {
            (true, true) => Some(format!("{rules}; {ttls}")),
            (true, false) => Some(rules),
            (false, true) => Some(ttls),
            (false, false) => None,
        }
    }
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

    /// Adds the counts of other rules.
    pub fn extend(&mut self, other: &Self) {
        for (reason, count) in &other.0 {
            self.add(*reason, *count);
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
