//! The problems and warnings of all files of orders and exceptions, as sentences.
//!
//! There may be very many: only those that are reported are formatted, the others are counted.

use std::collections::HashSet;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

use super::directory::FollowedDirectory;
use super::rules;
use crate::config;
use crate::config::shown::{Show, counted, first, more_warnings};
use crate::control::sources::orders::registry::{Known, OrderRegistry};
use crate::policy::rule::Source;

/// The most problems of all files together that are reported, and the most warnings. Each goes to `status`, log and
/// journal.
pub(crate) const MOST_REPORTED: usize = 1000;

enum Problem<'b> {
    /// A problem of a directory, or of all rules.
    Whole(&'b str),
    /// A problem of a file; if `kept`, its last good state stays in force.
    File {
        problem: &'b config::Problem,
        kept: bool,
    },
    /// A file that is rejected because another one has the same id.
    Double {
        path: &'b Path,
        id: &'b str,
        holder: &'b Path,
    },
}

impl Display for Problem<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(problem) => f.write_str(problem),
            Self::File { problem, kept } => {
                let kept = match kept {
                    true => "; its last good content stays in force",
                    false => "",
                };
                write!(f, "{problem}{kept}")
            }
            Self::Double { path, id, holder } => {
                let (path, holder) = (path.shown(), holder.shown());
                write!(
                    f,
                    "{path}: id is \"{id}\", as in {holder}, which counts: give this order another id, or \
                     remove one of the two files"
                )
            }
        }
    }
}

enum Warning<'b> {
    Vain(&'b str),
    /// The order with this id never comes into force; true if it ends at the instant at which it begins.
    Withdrawn(&'b str, bool),
    Exception(rules::Remark<'b>),
}

impl Display for Warning<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vain(remark) => f.write_str(remark),
            Self::Withdrawn(id, false) => write!(
                f,
                "order {id}: it ends before it begins, so it is never in force"
            ),
            Self::Withdrawn(id, true) => write!(
                f,
                "order {id}: it ends at the instant at which it begins, so it is never in force"
            ),
            Self::Exception(remark) => remark.fmt(f),
        }
    }
}

impl OrderRegistry {
    /// The problems of all files, one sentence each. If there are more than 1000, the last sentence says how
    /// many more.
    pub fn problems(&self) -> Vec<String> {
        fn refused<T>(folder: &FollowedDirectory<T>) -> impl Iterator<Item = Problem<'_>> {
            let files = folder.files().values();
            let refused = files.filter_map(|file| {
                let (problems, _) = file.refused.as_ref()?;
                let kept = file.good.is_some();
                let problems = problems.0.iter();
                Some(problems.map(move |problem| Problem::File { problem, kept }))
            });
            refused.flatten()
        }
        let doubles = self.doubles.iter();
        let doubles = doubles.map(|(path, (id, holder))| Problem::Double { path, id, holder });
        let loss = self.loss();
        let recollections: Vec<_> = self.recollections().collect();
        let unlisted = [
            self.orders.problem("orders"),
            self.exceptions.problem("exceptions"),
        ];
        let problems = unlisted
            .iter()
            .flatten()
            .map(|text| Problem::Whole(text))
            .chain(refused(&self.orders))
            .chain(refused(&self.exceptions))
            .chain(doubles)
            .chain(loss.as_deref().map(Problem::Whole))
            .chain(recollections.iter().map(|text| Problem::Whole(text)))
            .chain(self.overfull.as_deref().map(Problem::Whole));
        let (mut problems, more) = first(MOST_REPORTED, problems);
        problems.sort();
        problems.extend(more.map(|more| {
            format!(
                "orders and exceptions: {}: correct the files above first",
                counted(more, "more problem", "more problems")
            )
        }));
        problems
    }

    /// Warnings about valid files whose contents have no effect or are unusual, one sentence each, given the names of the
    /// lists. If there are more than 1000, the last sentence says how many more.
    pub fn warnings<'n>(&self, lists: impl Iterator<Item = &'n str>) -> Vec<String> {
        let withdrawn = self.known().filter(|known| known.schedule.is_withdrawn());
        let withdrawn = withdrawn.map(|Known { order, schedule }| {
            let from = order.dates.effective_from.at();
            Warning::Withdrawn(
                &order.id,
                schedule.end().is_some_and(|(end, _)| end == from),
            )
        });
        let lists: HashSet<&str> = lists.collect();
        let known = |name: &str| match name.strip_prefix(Source::ORDER) {
            Some(id) => self.holders.contains_key(id),
            None => lists.contains(name),
        };
        let exceptions = self.exceptions();
        let against = exceptions.flat_map(|exception| rules::remarks(exception, known));
        let vain = self.vain.iter().map(|vain| Warning::Vain(vain));
        let against = against.map(Warning::Exception);
        let (mut warnings, more) = first(MOST_REPORTED, vain.chain(withdrawn).chain(against));
        warnings.extend(more.map(|more| format!("orders and exceptions: {}", more_warnings(more))));
        warnings
    }
}
