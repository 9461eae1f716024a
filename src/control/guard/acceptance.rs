//! Decides whether a list's newest state may replace the one in force, and describes why not.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::Format;
use crate::config::guard::Limits;
use crate::config::paths::is_of_feed;
use crate::config::shown::{Show, counted};
use crate::control::guard::reading::Reading;
use crate::control::guard::release::{Guard, Guards};
use crate::control::list_file::parse::{Bad, Detected, FileFormat, Tally};
use crate::control::list_file::signature::Signature;

/// An update that adds fewer rules than this is never rejected for its growth: a new list may well be ten times as long
/// tomorrow. A list with fewer rules than this may be written by hand, so its last line may lack a line end.
const FEW: usize = 1000;

/// Precedes the command that accepts a list as it is.
pub(crate) const RELEASE: &str = ". To accept it unchanged: tapis reload";

/// The state of a list that is in force, or that was in force before a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Its distinct rules.
    pub rules: usize,
    /// The signature of its file; `None` for built-in content.
    pub signature: Option<Signature>,
    /// Guards that were released for it. They stay released.
    pub released: Guards,
    /// Whether the file's last line is known to have had a line end.
    #[serde(default)]
    pub ended: bool,
    /// The format that was recognised, if the list has `format = "auto"`.
    #[serde(default)]
    pub format: Option<Format>,
}

/// Guards that stay released for this state of the file. Guards on the number of rules do not stay released: other
/// rules of the same file may be suppressed now, so its number of rules may differ.
pub(crate) fn released_before(before: &[InForce], signature: Option<Signature>) -> Guards {
    let same = before.iter().filter(|known| known.signature == signature);
    let released = same.flat_map(|known| known.released.iter());
    released
        .filter(|guard| !matches!(guard, Guard::Shrunk | Guard::Grown))
        .collect()
}

/// The newest state of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewState<'n> {
    /// The name of the list.
    pub(crate) name: &'n str,
    /// Its file.
    pub(crate) path: &'n Path,
    /// Counts of its lines.
    pub(crate) tally: &'n Tally,
    /// Its distinct rules that apply; `None` if they are not counted yet.
    pub(crate) rules: Option<usize>,
    /// The signature of the file when it was read.
    pub(crate) signature: Option<Signature>,
    /// The time when it was read.
    pub(crate) at: Timestamp,
}

impl<'n> NewState<'n> {
    /// The state that was read, with the number of its distinct rules if that is known.
    pub(crate) fn new(
        name: &'n str,
        path: &'n Path,
        reading: &'n Reading,
        rules: Option<usize>,
    ) -> Self {
        Self {
            name,
            path,
            tally: &reading.tally,
            rules,
            signature: reading.signature,
            at: reading.at,
        }
    }
}

/// The problem of the first bad line, unless the file has another format: correcting that line would not help then.
fn problem_without_format(problem: Bad, format: Option<FileFormat>) -> String {
    format.map_or_else(|| format!(": {problem}"), |_| String::new())
}

/// An update of a list that guards reject. The last good state, if there is one, stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct HeldUpdate {
    path: PathBuf,
    name: String,
    reasons: Vec<Reason>,
    released: Guards,
}

/// Why a guard rejects an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("empty; to empty a list on purpose, leave a comment in its file")]
    Empty,
    #[error(
        "{bad} of {all} {are} bad, the first in {unit} {first}{problem}",
        problem = problem_without_format(*.problem, *.format),
        all = counted(*.lines, .units[0], .units[1]),
        are = are(*.bad),
        unit = .units[0]
    )]
    Bad {
        /// The words for one of its lines or records, and for several.
        units: [&'static str; 2],
        bad: u32,
        lines: u32,
        first: u32,
        problem: Bad,
        format: Option<FileFormat>,
    },
    #[error("{rules}, {percent} % fewer than the {before} in force", rules = counted(*.now, "rule", "rules"))]
    Shrunk {
        now: usize,
        before: usize,
        percent: usize,
    },
    #[error(
        "{rules}, fewer than the {before} in force, and its last line has no end any more: cut off?",
        rules = counted(*.now, "rule", "rules")
    )]
    Cut { now: usize, before: usize },
    #[error("{rules}, {more} in force", rules = counted(*.now, "rule", "rules"), more = more(*.now, *.before))]
    Grown { now: usize, before: usize },
    #[error(
        "it looks like `format = \"{now}\"` ({detected}), and the state in force like `format = \"{before}\"`: to read it in one \
         format whatever it looks like, set that format",
        now = .detected.format.word(),
        before = .before.word()
    )]
    Format { detected: Detected, before: Format },
    #[error("written at {since:.0}, over {limit} ago", limit = counted(*.hours, "hour", "hours"))]
    Old { since: Timestamp, hours: u32 },
}

/// Describes growth: in per cent up to 1000 %, then as a multiple.
fn more(now: usize, before: usize) -> String {
    let percent = percent(now - before, before);
    match percent < 1000 {
        true => format!("{percent} % more than the {before}"),
        false => format!(
            "{} times the {}",
            now / before,
            counted(before, "rule", "rules")
        ),
    }
}

/// `change` in per cent of `before`, rounded up.
fn percent(change: usize, before: usize) -> usize {
    change.saturating_mul(100).div_ceil(before)
}

fn are(count: u32) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

impl Reason {
    /// Whether no rule is left.
    fn is_empty(&self) -> bool {
        matches!(self, Self::Empty | Self::Shrunk { now: 0, .. })
    }

    fn guard(self) -> Guard {
        match self {
            Self::Empty => Guard::Empty,
            Self::Bad { .. } => Guard::Bad,
            Self::Shrunk { .. } | Self::Cut { .. } => Guard::Shrunk,
            Self::Grown { .. } => Guard::Grown,
            Self::Old { .. } => Guard::Old,
            Self::Format { .. } => Guard::Format,
        }
    }
}

impl HeldUpdate {
    /// The format that the file seems to have, if most of its lines are bad because of that.
    fn format(&self) -> Option<FileFormat> {
        self.reasons.iter().find_map(|reason| match reason {
            Reason::Bad { format, .. } => *format,
            _ => None,
        })
    }

    /// Whether at most one line in twenty is good.
    fn is_unreadable(&self) -> bool {
        self.reasons.iter().any(|reason| match reason {
            Reason::Bad { bad, lines, .. } => u64::from(*bad) * 20 >= u64::from(*lines) * 19,
            _ => false,
        })
    }

    /// The guards that reject the update.
    pub fn guards(&self) -> Guards {
        self.reasons.iter().map(|reason| reason.guard()).collect()
    }
}

impl fmt::Display for HeldUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.shown())?;
        for (number, reason) in self.reasons.iter().enumerate() {
            let between = if number > 0 { "; " } else { "" };
            write!(f, "{between}{reason}")?;
        }
        if let Some(format) = self.format() {
            // Accepting a file that is no list would be a mistake.
            return write!(f, ". The file is {format}");
        }
        if self.is_unreadable() {
            return f.write_str(match is_of_feed(&self.path) {
                true => {
                    ". Hardly a record of it is a rule: check whether the zone is a policy zone"
                }
                false => ". Hardly a line of it can be read: check what the file is",
            });
        }
        if is_of_feed(&self.path) && self.reasons.iter().any(|reason| reason.is_empty()) {
            // The whole zone is then refused as an empty one, whatever is accepted.
            return f.write_str(
                ". A zone without rules is not accepted: ask its operator whether it is meant to be empty. To apply none of \
                 its rules, remove the feed, or set policy = \"disabled\"",
            );
        }
        f.write_str(RELEASE)?;
        // A release is valid for one reading, so the command repeats the earlier releases.
        for guard in self.released.and(self.guards()).iter() {
            write!(f, " --accept {}:{guard}", self.name)?;
        }
        Ok(())
    }
}

/// When a file was written, if that is too long ago; `None` otherwise.
pub(crate) fn too_old(
    signature: Option<Signature>,
    limits: &Limits,
    at: Timestamp,
) -> Option<Timestamp> {
    let hours = SignedDuration::from_hours(limits.max_age_hours.into());
    let since = signature?.modified()?;
    (limits.max_age_hours > 0 && at.duration_since(since) > hours).then_some(since)
}

/// The problem of a list in force whose file is too old.
pub(crate) fn aged(name: &str, path: &Path, limits: &Limits, since: Timestamp) -> HeldUpdate {
    HeldUpdate {
        path: path.to_owned(),
        name: name.to_owned(),
        reasons: vec![Reason::Old {
            since,
            hours: limits.max_age_hours,
        }],
        released: Guards::NONE,
    }
}

/// Checks whether the newest state may replace the one in force, given the released guards. `before` has the state in
/// force, if there is one, and the state before a rollback: a new state that may replace one of them is accepted.
pub(crate) fn check_acceptance(
    new: &NewState<'_>,
    before: &[InForce],
    limits: &Limits,
    released: Guards,
) -> Result<(), HeldUpdate> {
    let again = released_before(before, new.signature);
    let mut checked = before.iter().map(Some).map(|before| {
        let held = check_acceptance_against(new, before, limits, released.and(again));
        held.map_err(|held| HeldUpdate { released, ..held })
    });
    let first = checked.next();
    let first = first.unwrap_or_else(|| check_acceptance_against(new, None, limits, released));
    first.or_else(|held| checked.find_map(Result::ok).ok_or(held))
}

fn check_acceptance_against(
    new: &NewState<'_>,
    before: Option<&InForce>,
    limits: &Limits,
    released: Guards,
) -> Result<(), HeldUpdate> {
    let found = [
        lines(new, limits),
        before.and_then(|before| count(new, before, limits)),
        before.and_then(|before| age(new, before, limits)),
        before.and_then(|before| format(new, before)),
    ];
    let holds = |reason: &Reason| !released.has(reason.guard());
    let reasons: Vec<_> = found.into_iter().flatten().filter(holds).collect();
    if reasons.is_empty() {
        return Ok(());
    }
    Err(HeldUpdate {
        path: new.path.to_owned(),
        name: new.name.to_owned(),
        reasons,
        released,
    })
}

fn lines(new: &NewState<'_>, limits: &Limits) -> Option<Reason> {
    let tally = new.tally;
    // A file with only comments is a valid empty list.
    if tally.lines == 0 && tally.comments == 0 {
        return Some(Reason::Empty);
    }
    let first = tally.first.first()?;
    tally.is_bad_over(limits.bad_percent).then(|| Reason::Bad {
        units: match is_of_feed(new.path) {
            true => ["record", "records"],
            false => ["line", "lines"],
        },
        bad: tally.mostly_bad(),
        lines: tally.lines,
        first: first.line,
        problem: first.problem,
        format: tally.format(),
    })
}

fn format(new: &NewState<'_>, in_force: &InForce) -> Option<Reason> {
    let (detected, before) = (new.tally.detected?, in_force.format?);
    // The format of a list without rules is not known.
    let is_known = in_force.rules > 0 && detected.is_certain();
    let differs = is_known && detected.format != before;
    differs.then_some(Reason::Format { detected, before })
}

fn count(new: &NewState<'_>, in_force: &InForce, limits: &Limits) -> Option<Reason> {
    let (now, before) = (new.rules?, in_force.rules);
    // A percentage of zero rules does not exist, and a file with only comments is empty on purpose.
    if before == 0 || new.tally.lines == 0 {
        return None;
    }
    let (gone, added) = (before.saturating_sub(now), now.saturating_sub(before));
    let percent = |change| percent(change, before);
    if percent(gone) > limits.shrink_percent as usize {
        let percent = percent(gone);
        return Some(Reason::Shrunk {
            now,
            before,
            percent,
        });
    }
    // In a short list the missing line end may come from an editor.
    if gone > 0 && before >= FEW && in_force.ended && !new.tally.ended {
        return Some(Reason::Cut { now, before });
    }
    let counts = limits.grow_percent > 0 && added >= FEW;
    (counts && percent(added) > limits.grow_percent as usize)
        .then_some(Reason::Grown { now, before })
}

fn age(new: &NewState<'_>, before: &InForce, limits: &Limits) -> Option<Reason> {
    let since = too_old(new.signature, limits, new.at)?;
    // The file in force may be read again although it did not change. Then there is no update to reject.
    (new.signature != before.signature).then_some(Reason::Old {
        since,
        hours: limits.max_age_hours,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: u32, bad: u32) -> Tally {
        let mut tally = Tally {
            lines,
            ..Tally::default()
        };
        for line in 1..=bad {
            tally.reject(line, b"x", Bad::Root);
        }
        tally
    }

    fn held(tally: &Tally, now: usize, before: Option<usize>, limits: Limits) -> Guards {
        let new = NewState {
            name: "ads",
            path: Path::new("lists/ads"),
            tally,
            rules: Some(now),
            signature: None,
            at: Timestamp::UNIX_EPOCH,
        };
        let before = before.map(|rules| InForce {
            rules,
            signature: None,
            released: Guards::NONE,
            ended: false,
            format: None,
        });
        let checked = check_acceptance(&new, before.as_slice(), &limits, Guards::NONE);
        checked.err().map_or(Guards::NONE, |held| held.guards())
    }

    #[test]
    fn a_list_that_loses_or_gains_more_than_the_share_of_its_rules_is_held() {
        let usual = Limits::default();
        let shrunk = Guards::from(Guard::Shrunk);
        let grown = Guards::from(Guard::Grown);
        for (now, before, guards) in [
            (1, 2, Guards::NONE),
            (1, 3, shrunk),
            (0, 1, shrunk),
            (49_999, 100_000, shrunk),
            (50_000, 100_000, Guards::NONE),
            (10_000, 1_000, Guards::NONE),
            (10_001, 1_000, grown),
            (1_001, 2, Guards::NONE),
            (1_002, 2, grown),
            (usize::MAX, 1, grown),
            (5_000_000, 0, Guards::NONE),
        ] {
            let found = held(&tally(9, 0), now, Some(before), usual);
            assert_eq!(found, guards, "{before} to {now}");
            assert_eq!(held(&tally(9, 0), now, None, usual), Guards::NONE);
            let off = Limits {
                shrink_percent: 100,
                grow_percent: 0,
                ..usual
            };
            assert_eq!(held(&tally(9, 0), now, Some(before), off), Guards::NONE);
        }
        let strict = Limits {
            shrink_percent: 0,
            grow_percent: 1,
            ..usual
        };
        assert_eq!(held(&tally(9, 0), 9_999, Some(10_000), strict), shrunk);
        assert_eq!(held(&tally(9, 0), 101_001, Some(100_000), strict), grown);
    }

    #[test]
    fn an_empty_file_a_file_of_comments_and_bad_lines_are_distinguished() {
        let usual = Limits::default();
        assert_eq!(
            held(&Tally::default(), 0, Some(9), usual),
            [Guard::Empty].into_iter().collect()
        );
        let lift = Tally {
            comments: 1,
            ..Tally::default()
        };
        assert_eq!(held(&lift, 0, Some(9), usual), Guards::NONE);
        assert_eq!(held(&tally(2, 1), 1, None, usual), Guards::NONE);
        assert_eq!(held(&tally(3, 2), 1, None, usual), Guard::Bad.into());
        let both = held(&tally(3, 2), 1, Some(9), usual);
        assert_eq!(both, [Guard::Bad, Guard::Shrunk].into_iter().collect());
        let off = Limits {
            bad_percent: 100,
            ..usual
        };
        assert_eq!(held(&tally(3, 3), 0, None, off), Guards::NONE);
    }

    #[test]
    fn a_file_is_old_when_it_was_written_longer_ago_than_the_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ads");
        std::fs::write(&file, "a.example\n").expect("written");
        let signature = Signature::of(&file).expect("there");
        let written = signature.modified().expect("a time");
        let limits = Limits {
            max_age_hours: 2,
            ..Limits::default()
        };
        let after = |seconds| written + SignedDuration::from_secs(seconds);
        let old = |at, signature| too_old(signature, &limits, at).is_some();
        assert!(!old(after(7200), Some(signature)) && old(after(7201), Some(signature)));
        assert!(!old(after(7201), None), "built-in content has no age");
        assert!(
            !old(after(-7201), Some(signature)),
            "a clock that was set back"
        );
        let new = NewState {
            name: "ads",
            path: &file,
            tally: &tally(9, 0),
            rules: Some(9),
            signature: Some(signature),
            at: after(7201),
        };
        let checked = |before: Option<Option<Signature>>, released| {
            let before = before.map(|signature| InForce {
                rules: 9,
                signature,
                released: Guards::NONE,
                ended: false,
                format: None,
            });
            check_acceptance(&new, before.as_slice(), &limits, released)
        };
        let held = checked(Some(None), Guards::NONE).expect_err("held");
        assert_eq!(held.guards(), Guard::Old.into());
        checked(Some(None), Guard::Old.into()).expect("released");
        checked(None, Guards::NONE).expect("better than nothing");
        checked(Some(Some(signature)), Guards::NONE).expect("it is in force");
    }

    #[test]
    fn a_guard_stays_released_for_the_same_state_of_the_file_unless_it_counts_rules() {
        let folder = tempfile::tempdir().expect("a folder");
        let signature = |name: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, name).expect("written");
            Some(Signature::of(&file).expect("there"))
        };
        let (one, other) = (signature("one"), signature("other"));
        let (bad, shrunk) = (Guards::from(Guard::Bad), Guards::from(Guard::Shrunk));
        let both = bad.and(shrunk);
        // Compared with the list in force, the new state has too few rules in each case.
        for (of, released, now, holds) in [
            (one, bad, 9, Guards::NONE),
            (one, Guards::NONE, 9, both),
            (other, bad, 9, both),
            (one, both, 1, shrunk),
            (other, both, 1, both),
        ] {
            let new = NewState {
                name: "ads",
                path: Path::new("lists/ads"),
                tally: &tally(3, 2),
                rules: Some(now),
                signature: of,
                at: Timestamp::UNIX_EPOCH,
            };
            let in_force = InForce {
                rules: 20,
                signature: None,
                released: Guards::NONE,
                ended: false,
                format: None,
            };
            let accepted = InForce {
                rules: 9,
                signature: one,
                released,
                ended: false,
                format: None,
            };
            let checked = check_acceptance(
                &new,
                &[in_force, accepted],
                &Limits::default(),
                Guards::NONE,
            );
            let held = checked.map_or_else(|held| held.guards(), |()| Guards::NONE);
            assert_eq!(held, holds, "{released:?} {now}");
        }
    }

    #[test]
    fn the_message_has_all_reasons_and_the_command_that_accepts_the_list() {
        let new = NewState {
            name: "ads",
            path: Path::new("lists/ads"),
            tally: &tally(3, 2),
            rules: Some(1),
            signature: None,
            at: Timestamp::UNIX_EPOCH,
        };
        let before = [InForce {
            rules: 9,
            signature: None,
            released: Guards::NONE,
            ended: false,
            format: None,
        }];
        let describe = |released| {
            let held = check_acceptance(&new, &before, &Limits::default(), released);
            held.expect_err("held").to_string()
        };
        let bad =
            "2 of 3 lines are bad, the first in line 1: a rule on the root would cover every name";
        let shrunk = "1 rule, 89 % fewer than the 9 in force";
        let command = "To accept it unchanged: tapis reload --accept ads:bad --accept ads:shrunk";
        assert_eq!(
            describe(Guards::NONE),
            format!("lists/ads: {bad}; {shrunk}. {command}")
        );
        assert_eq!(
            describe(Guard::Bad.into()),
            format!("lists/ads: {shrunk}. {command}")
        );
    }
}
