//! Keeps what some lines of a list became. For all lines, that would take more memory than the rules.

use std::ops::RangeInclusive;

use crate::control::list_file::parse::bad::BadLine;
use crate::control::list_file::parse::not_applicable::IgnoredLine;

/// What some lines became that are no rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    lines: RangeInclusive<u32>,
    /// The bad ones among them. A line may have several problems.
    pub bad: Vec<BadLine>,
    /// The ignored ones.
    pub ignored: Vec<IgnoredLine>,
    /// Those with names that are skipped on purpose.
    pub skipped: Vec<u32>,
}

impl Watched {
    pub(super) fn new(lines: RangeInclusive<u32>) -> Self {
        Self {
            lines,
            bad: Vec::new(),
            ignored: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Whether it keeps what this line became.
    pub(super) fn has(&self, line: u32) -> bool {
        self.lines.contains(&line)
    }
}
