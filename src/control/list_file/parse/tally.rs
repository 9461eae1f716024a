//! Counts the lines of a list by their results and problems, and guesses the format of a list in a wrong format.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::control::list_file::parse::bad::{Bad, BadLine};
use crate::control::list_file::parse::detect::Detected;
use crate::control::list_file::parse::foreign::{FileFormat, Foreign};
use crate::control::list_file::parse::not_applicable::{IgnoredLine, NotApplicable};
use crate::control::list_file::parse::watched::Watched;
use crate::control::list_file::suppressed::SuppressedRules;
use crate::names::typed::Mistyped;
use crate::policy::record::hexadecimal;
use crate::policy::rpz::HiddenRecords;
use crate::policy::rpz::settings::ZoneSoa;
use crate::wire::name::Name;

/// How many bad lines are kept with their text; the others are only counted.
const KEPT: usize = 10;

/// The results of reading a list, in numbers.
///
/// Each line that is neither blank nor a comment is bad or ignored, or has at least one rule or skipped name. Here a rule
/// that a guard leaves out counts as well. A hosts line with valid and invalid names is bad and has rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Lines that are neither blank nor comments.
    pub lines: u32,
    /// Lines with only a comment. A list that has only such lines is empty on purpose.
    pub comments: u32,
    /// Rules that no guard left out. A hosts line may have several.
    pub rules: u32,
    /// Names that are skipped on purpose, such as `localhost` in a hosts file.
    pub skipped: u32,
    /// The number of bad lines by problem, in the order in which the problems first occurred.
    pub bad: Vec<(Bad, u32)>,
    /// Bad lines that have at least as many valid names as invalid ones.
    pub mostly_good: u32,
    /// The first ten bad lines, in the order of the file.
    pub first: Vec<BadLine>,
    /// The number of lines that are ignored by reason, in the order in which the reasons first occurred. They are not bad:
    /// what they ask for is not a resolver's business.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<(NotApplicable, u32)>,
    /// The first ten ignored lines, in the order of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first_ignored: Vec<IgnoredLine>,
    /// The rules that guards left out or warned of.
    pub guarded: SuppressedRules,
    /// Whether the last line has a line end. If it has none, the file may be truncated.
    pub ended: bool,
    /// The format that was recognised, if the list has `format = "auto"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detected: Option<Detected>,
    /// The SOA record of a policy zone. `None` for other lists, and for a zone without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneFacts>,
    /// The owners of the zone's records that are ignored because of others. Only for a zone that was transferred.
    #[serde(skip_serializing_if = "HiddenRecords::is_empty")]
    pub hidden: HiddenRecords,
    /// What the lines that are watched became; `None` if no line is.
    #[serde(skip)]
    pub watched: Option<Box<Watched>>,
}

/// The SOA record of a policy zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneFacts {
    /// The name of the zone.
    pub apex: Name,
    /// SERIAL.
    pub serial: u32,
    /// The TTL of the record, in seconds.
    pub ttl_secs: u32,
    /// RDATA without compressed names.
    #[serde(with = "hexadecimal")]
    pub data: Box<[u8]>,
}

impl ZoneFacts {
    /// The facts of an SOA record. `None` if its data is malformed.
    pub fn new(apex: &Name, ttl_secs: u32, data: &[u8]) -> Option<Self> {
        let (_, at) = Name::parse(data, 0).ok()?;
        let (_, at) = Name::parse(data, at).ok()?;
        let numbers = data.get(at..).filter(|numbers| numbers.len() == 20)?;
        let serial = numbers.first_chunk().copied().map(u32::from_be_bytes)?;
        Some(Self {
            apex: apex.clone(),
            serial,
            ttl_secs,
            data: data.into(),
        })
    }

    /// The record as answers have it. `None` if its data has no valid names.
    pub fn record(&self) -> Option<ZoneSoa> {
        let valid = Self::new(&self.apex, self.ttl_secs, &self.data)?;
        Some(ZoneSoa {
            apex: Box::new(valid.apex),
            data: valid.data,
        })
    }
}

impl Tally {
    /// The number of bad lines.
    pub fn bad_total(&self) -> u32 {
        self.bad.iter().map(|(_, count)| count).sum()
    }

    /// The number of ignored lines.
    pub fn ignored_total(&self) -> u32 {
        self.ignored.iter().map(|(_, count)| count).sum()
    }

    /// The number of bad lines without those that are [mostly good](Self::mostly_good): one typing error in a hosts line
    /// of nine names does not mean that the file has another format.
    pub fn mostly_bad(&self) -> u32 {
        self.bad_total().saturating_sub(self.mostly_good)
    }

    /// Whether more than this percentage of [`lines`](Self::lines) is mostly bad. Then the file is probably in
    /// another format, or not a list.
    pub fn is_bad_over(&self, percent: u32) -> bool {
        u64::from(self.mostly_bad()) * 100 > u64::from(percent) * u64::from(self.lines)
    }

    /// The format that most of the bad lines have, if one can be recognised.
    pub fn format(&self) -> Option<FileFormat> {
        let html = Bad::Foreign(Foreign::Html);
        // The first line of a web page decides, because its other lines may be any text.
        if self
            .first
            .first()
            .is_some_and(|first| first.problem == html)
        {
            return Some(FileFormat::Foreign(Foreign::Html));
        }
        // Another format has comments that begin with this character. If other lines have the syntax of that format, it
        // is the format of the list, and setting `comments` would not help.
        let format_of_comment = |first| {
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
                let foreign = format_of_comment(first).unwrap_or(Foreign::Comment(first));
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
        // Most rules of some filter lists can't be recognised, but their first line can.
        let first = self.first.first().and_then(|first| format(first.problem));
        most.or(first.filter(|first| *first == FileFormat::Foreign(Foreign::Adblock)))
    }

    fn count(&self, matches: impl Fn(Bad) -> bool) -> u32 {
        let counted = self.bad.iter().filter(|(bad, _)| matches(*bad));
        counted.map(|(_, count)| count).sum()
    }

    /// Adds a line. `content` is the full line, which becomes the excerpt if no name on it is valid.
    pub(super) fn add(&mut self, line: u32, content: &[u8], line_tally: &LineTally) {
        self.rules += line_tally.rules;
        self.skipped += line_tally.skipped;
        if let Some(reason) = line_tally.ignored {
            self.ignore(line, content, reason);
        }
        if line_tally.skipped > 0
            && let Some(watched) = self.watches(line)
        {
            watched.skipped.push(line);
        }
        let Some(invalid) = &line_tally.invalid else {
            return;
        };
        let is_partial = line_tally.rules + line_tally.skipped > 0;
        let shown = if is_partial { &invalid.text } else { content };
        self.reject(line, shown, invalid.problem);
        self.mostly_good += u32::from(line_tally.rules >= invalid.count);
    }

    pub(crate) fn reject(&mut self, line: u32, content: &[u8], problem: Bad) {
        match self.bad.iter_mut().find(|(known, _)| *known == problem) {
            Some((_, count)) => *count += 1,
            None => self.bad.push((problem, 1)),
        }
        let keep = || BadLine::new(line, content, problem);
        keep_first(&mut self.first, line, |kept| kept.line, keep);
        if let Some(watched) = self.watches(line) {
            watched.bad.push(keep());
        }
    }

    /// Watches these lines.
    pub(super) fn watch(&mut self, lines: RangeInclusive<u32>) {
        self.watched = Some(Box::new(Watched::new(lines)));
    }

    fn watches(&mut self, line: u32) -> Option<&mut Watched> {
        self.watched
            .as_deref_mut()
            .filter(|watched| watched.has(line))
    }

    pub(super) fn ignore(&mut self, line: u32, content: &[u8], reason: NotApplicable) {
        match self.ignored.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.ignored.push((reason, 1)),
        }
        let keep = || IgnoredLine::new(line, content, reason);
        keep_first(&mut self.first_ignored, line, |kept| kept.line, keep);
        if let Some(watched) = self.watches(line) {
            watched.ignored.push(keep());
        }
    }

    /// Takes back a bad line that is deleted.
    pub(crate) fn withdraw(&mut self, content: &[u8], problem: Bad) {
        if let Some((_, count)) = self.bad.iter_mut().find(|(known, _)| *known == problem) {
            *count = count.saturating_sub(1);
        }
        self.bad.retain(|(_, count)| *count > 0);
        let BadLine { text, .. } = BadLine::new(0, content, problem);
        let is_it = |known: &BadLine| known.problem == problem && known.text == text;
        if let Some(at) = self.first.iter().position(is_it) {
            self.first.remove(at);
        }
    }
}

/// Keeps a line if it is one of the first. Rules that depend on several lines are checked at the end of the file, so the
/// lines are not reported in the order of the file.
fn keep_first<L>(
    first: &mut Vec<L>,
    line: u32,
    number: impl Fn(&L) -> u32,
    keep: impl FnOnce() -> L,
) {
    let at = first.partition_point(|kept| number(kept) <= line);
    if at < KEPT {
        first.truncate(KEPT - 1);
        first.insert(at, keep());
    }
}

/// The results of one line, in numbers.
#[derive(Debug, Default)]
pub(super) struct LineTally {
    pub(super) rules: u32,
    pub(super) skipped: u32,
    /// Why a part of the line gives no rule although it is not bad.
    pub(super) ignored: Option<NotApplicable>,
    pub(super) invalid: Option<Invalid>,
}

/// The invalid names of a line.
#[derive(Debug)]
pub(super) struct Invalid {
    /// The problem of the first one.
    problem: Bad,
    count: u32,
    /// All of them, separated by spaces.
    text: Vec<u8>,
}

impl LineTally {
    /// A line with one rule.
    pub(super) fn rule() -> Self {
        Self {
            rules: 1,
            ..Self::default()
        }
    }

    /// A line that is skipped on purpose.
    pub(super) fn skipped() -> Self {
        Self {
            skipped: 1,
            ..Self::default()
        }
    }

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

    #[test]
    fn the_first_lines_are_kept_in_the_order_of_the_file_although_they_are_reported_late() {
        let mut tally = Tally::default();
        for line in (4..=40).chain([2, 3, 1]) {
            tally.reject(line, b"x", Bad::Root);
            tally.ignore(line, b"x", NotApplicable::Option);
        }
        let kept: Vec<_> = tally.first.iter().map(|bad| bad.line).collect();
        assert_eq!(kept, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let ignored = tally.first_ignored.iter().map(|ignored| ignored.line);
        assert_eq!(ignored.collect::<Vec<_>>(), kept);
        assert_eq!((tally.bad_total(), tally.ignored_total()), (40, 40));
    }
}
