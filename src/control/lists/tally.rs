//! Owns the account of one reading: what the lines gave, and what was wrong with the others.
//! Refuses to decide what follows from it.

use serde::{Deserialize, Serialize};

use super::bad::{Bad, BadLine};
use crate::control::guard::account::Account;

/// Bad lines that are kept with their text; the others are only counted.
const KEPT: usize = 10;

/// What reading a list came to.
///
/// Each line that holds something is bad, or gives at least one rule, left out by a guard or not, or
/// skipped name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Lines that hold something: neither blank nor only a comment.
    pub lines: u32,
    /// Lines that hold only a comment. A list may consist of them: then it is empty on purpose.
    pub comments: u32,
    /// Rules that were handed on and count; a hosts line may give several.
    pub rules: u32,
    /// Names that were passed over on purpose, such as `localhost` in a hosts file.
    pub skipped: u32,
    /// How many lines were bad, by problem, in the order in which the problems first occurred.
    pub bad: Vec<(Bad, u32)>,
    /// The first ten bad lines.
    pub first: Vec<BadLine>,
    /// What guards did to rules.
    pub guarded: Account,
}

impl Tally {
    /// How many lines were bad.
    pub fn bad_total(&self) -> u32 {
        self.bad.iter().map(|(_, count)| count).sum()
    }

    /// Whether more than that share of the lines that hold something are bad: most likely the file is
    /// of another format, or no list at all.
    pub fn is_bad_over(&self, percent: u32) -> bool {
        u64::from(self.bad_total()) * 100 > u64::from(percent) * u64::from(self.lines)
    }

    pub(super) fn add(&mut self, gain: Gain) {
        self.rules += gain.rules;
        self.skipped += gain.skipped;
    }

    pub(in crate::control) fn reject(&mut self, line: u32, content: &[u8], problem: Bad) {
        match self.bad.iter_mut().find(|(known, _)| *known == problem) {
            Some((_, count)) => *count += 1,
            None => self.bad.push((problem, 1)),
        }
        if self.first.len() < KEPT {
            self.first.push(BadLine::new(line, content, problem));
        }
    }
}

/// What a good line gave.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gain {
    pub(super) rules: u32,
    pub(super) skipped: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::typed::Mistyped;

    #[test]
    fn exactly_half_is_not_over_half() {
        for (lines, bad, over) in [
            (0, 0, false),
            (1, 0, false),
            (1, 1, true),
            (2, 1, false),
            (3, 1, false),
            (3, 2, true),
            (4, 2, false),
            (4, 3, true),
        ] {
            let tally = Tally {
                lines,
                bad: vec![(Bad::Typed(Mistyped::Utf8), bad)],
                ..Tally::default()
            };
            assert_eq!(tally.is_bad_over(50), over, "{bad} of {lines}");
        }
    }

    #[test]
    fn the_first_ten_bad_lines_are_kept_and_all_are_counted() {
        let mut tally = Tally::default();
        for line in 1..=25 {
            let problem = if line % 2 == 0 {
                Bad::Typed(Mistyped::Url)
            } else {
                Bad::Typed(Mistyped::Utf8)
            };
            tally.reject(line, b"x", problem);
        }
        assert_eq!(
            tally.bad,
            [
                (Bad::Typed(Mistyped::Utf8), 13),
                (Bad::Typed(Mistyped::Url), 12)
            ]
        );
        assert_eq!(tally.bad_total(), 25);
        let kept: Vec<_> = tally.first.iter().map(|bad| bad.line).collect();
        assert_eq!(kept, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }
}
