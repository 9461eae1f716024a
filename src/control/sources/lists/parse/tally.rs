//! Owns the account of one reading: what the lines gave, and what was wrong with the others.
//! Refuses to decide what follows from it.

use serde::{Deserialize, Serialize};

use crate::control::guard::suppressed::SuppressedRules;
use crate::control::sources::lists::parse::bad::{Bad, BadLine};
use crate::control::sources::lists::parse::foreign::{FileFormat, Foreign};
use crate::names::typed::Mistyped;

/// Bad lines that are kept with their text; the others are only counted.
const KEPT: usize = 10;

/// What reading a list came to.
///
/// Each line that holds something is bad or gives at least one rule, left out by a guard or not, or
/// skipped name. A hosts line with valid and invalid names is bad and gives rules.
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
    /// Bad lines that gave at least as many rules as they have invalid names.
    pub mostly_good: u32,
    /// The first ten bad lines.
    pub first: Vec<BadLine>,
    /// What guards did to rules.
    pub guarded: SuppressedRules,
    /// The last line has an end. One that has none may be cut off.
    pub ended: bool,
}

impl Tally {
    /// How many lines were bad.
    pub fn bad_total(&self) -> u32 {
        self.bad.iter().map(|(_, count)| count).sum()
    }

    /// How many lines were bad for the most part. A typing error among nine valid names of a hosts
    /// line does not mean that the file is no list.
    pub fn mostly_bad(&self) -> u32 {
        self.bad_total().saturating_sub(self.mostly_good)
    }

    /// Whether more than that share of the lines that hold something are mostly bad: most likely the
    /// file is of another format, or no list at all.
    pub fn is_bad_over(&self, percent: u32) -> bool {
        u64::from(self.mostly_bad()) * 100 > u64::from(percent) * u64::from(self.lines)
    }

    /// The format that most of the bad lines have, if it is not the list's.
    pub fn format(&self) -> Option<FileFormat> {
        let html = Bad::Foreign(Foreign::Html);
        // The other lines of a page are text of any kind.
        if self
            .first
            .first()
            .is_some_and(|first| first.problem == html)
        {
            return Some(FileFormat::Foreign(Foreign::Html));
        }
        // With other comment characters the rest of such a file would be bad all the same.
        let of_comment = |first| {
            let foreign = Foreign::with_comment(first);
            let has_it = self.count(|bad| bad == Bad::Foreign(foreign)) > 0;
            has_it.then_some(foreign)
        };
        let has_scheme = || self.first.iter().any(|bad| bad.text.contains("://"));
        let format = |bad| match bad {
            Bad::HostsLine => Some(FileFormat::Hosts),
            Bad::NoAddress | Bad::Scoped => Some(FileFormat::Domains),
            Bad::Unaddressed | Bad::Typed(Mistyped::Url) if has_scheme() => Some(FileFormat::Urls),
            Bad::NoName | Bad::Typed(Mistyped::Address) => Some(FileFormat::Addresses),
            Bad::Foreign(Foreign::Comment(first)) => {
                let foreign = of_comment(first).unwrap_or(Foreign::Comment(first));
                Some(FileFormat::Foreign(foreign))
            }
            Bad::Foreign(foreign) => Some(FileFormat::Foreign(foreign)),
            _ => None,
        };
        let mut formats = self.bad.iter().filter_map(|&(bad, _)| format(bad));
        let most = formats.find(|&wanted| {
            let count = self.count(|bad| format(bad) == Some(wanted));
            u64::from(count) * 2 > u64::from(self.bad_total())
        });
        // Most rules of some filter lists look like nothing in particular; their beginning does not.
        let first = self.first.first().and_then(|first| format(first.problem));
        most.or(first.filter(|first| *first == FileFormat::Foreign(Foreign::Adblock)))
    }

    fn count(&self, is: impl Fn(Bad) -> bool) -> u32 {
        let counted = self.bad.iter().filter(|(bad, _)| is(*bad));
        counted.map(|(_, count)| count).sum()
    }

    /// Adds a line. `content` is the whole line, which is shown if nothing on it is valid.
    pub(super) fn add(&mut self, line: u32, content: &[u8], gain: &Gain) {
        self.rules += gain.rules;
        self.skipped += gain.skipped;
        let Some(invalid) = &gain.invalid else { return };
        let is_partial = gain.rules + gain.skipped > 0;
        let shown = if is_partial { &invalid.text } else { content };
        self.reject(line, shown, invalid.problem);
        self.mostly_good += u32::from(gain.rules >= invalid.count);
    }

    pub(crate) fn reject(&mut self, line: u32, content: &[u8], problem: Bad) {
        match self.bad.iter_mut().find(|(known, _)| *known == problem) {
            Some((_, count)) => *count += 1,
            None => self.bad.push((problem, 1)),
        }
        if self.first.len() < KEPT {
            self.first.push(BadLine::new(line, content, problem));
        }
    }
}

/// The contents of one line.
#[derive(Debug, Default)]
pub(super) struct Gain {
    pub(super) rules: u32,
    pub(super) skipped: u32,
    pub(super) invalid: Option<Invalid>,
}

/// The invalid names of a line.
#[derive(Debug)]
pub(super) struct Invalid {
    /// The problem of the first one.
    problem: Bad,
    count: u32,
    /// All of them, with a space between.
    text: Vec<u8>,
}

impl Gain {
    /// Adds an invalid name.
    #[cold]
    pub(super) fn reject(&mut self, name: &[u8], problem: Bad) {
        match &mut self.invalid {
            None => {
                self.invalid = Some(Invalid {
                    problem,
                    count: 1,
                    text: name.to_vec(),
                });
            }
            Some(invalid) => {
                invalid.count += 1;
                invalid.text.push(b' ');
                invalid.text.extend(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
