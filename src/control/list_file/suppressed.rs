//! The rules of a list that were left out or only reported when it was read, with the reasons. They are not bad lines.

use serde::{Deserialize, Serialize};

use crate::config::guard::Protection;

/// The rules of one list that are suppressed, and those that are only reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SuppressedRules {
    /// The number of suppressed rules by the kind of name that they cover, in the order of first occurrence.
    pub left_out: Vec<(Protection, u32)>,
    /// The first suppressed rules.
    pub first: Vec<LeftOut>,
    /// The number of rules that apply although they cover a protected name.
    pub warned: u32,
    /// The first of those.
    pub first_warned: Vec<LeftOut>,
    /// Names whose rules apply, or are not reported, because they are released.
    pub released: Vec<String>,
}

/// A rule that is suppressed or reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its line, from 1.
    pub line: u32,
    /// The rule in the notation of lists.
    pub rule: String,
    /// The kind of name that it covers.
    #[serde(rename = "ward")]
    pub protection: Protection,
    /// A description that follows the rule: `covers the public suffix co.id`.
    pub why: String,
}

impl SuppressedRules {
    /// The number of suppressed rules.
    pub fn total(&self) -> u32 {
        self.left_out.iter().map(|(_, count)| count).sum()
    }

    /// Takes back what was recorded about rules that are deleted, or read again.
    pub fn withdraw(&mut self, recorded: &Self) {
        for (protection, count) in &recorded.left_out {
            let mut known = self.left_out.iter_mut();
            if let Some((_, known)) = known.find(|(known, _)| known == protection) {
                *known = known.saturating_sub(*count);
            }
        }
        self.left_out.retain(|(_, count)| *count > 0);
        self.warned = self.warned.saturating_sub(recorded.warned);
        remove(&mut self.first, &recorded.first);
        remove(&mut self.first_warned, &recorded.first_warned);
    }
}

/// Removes the first entry of each of these rules.
fn remove(first: &mut Vec<LeftOut>, rules: &[LeftOut]) {
    for rule in rules {
        if let Some(at) = first.iter().position(|known| known.rule == rule.rule) {
            first.remove(at);
        }
    }
}
