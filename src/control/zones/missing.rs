//! Sources that have had no version yet. A zone without their rules must not be published: its secondaries would no longer
//! block what these sources block, until the first version of each is there.

use crate::policy::published::Selection;
use crate::policy::rule::Kind;

/// A source of the policy without a first version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A list or a feed.
    Source {
        /// The word for its kind in messages.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The orders or the exceptions, because their directory could not be read.
    All(Kind),
}

impl Missing {
    /// Whether its rules would be published.
    fn is_selected(&self, selection: &Selection) -> bool {
        match self {
            Self::Source { name, .. } => selection.has_list(name),
            Self::All(kind) => selection.has_all(*kind),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Source { what, name } => format!("{what} {name}"),
            Self::All(Kind::Exception) => "exceptions".to_owned(),
            Self::All(_) => "orders".to_owned(),
        }
    }
}

/// Why a zone with these sources is not published, as a sentence; `None` if all of them have a version.
pub(super) fn problem(missing: &[Missing], selection: &Selection) -> Option<String> {
    let missing = missing
        .iter()
        .filter(|missing| missing.is_selected(selection));
    let names: Vec<_> = missing.map(Missing::shown).collect();
    let has = match names.as_slice() {
        [] => return None,
        [one] if one.contains(' ') => "has",
        _ => "have",
    };
    let names = names.join(" and ");
    Some(format!(
        "not published, because {names} {has} no version yet, and secondaries would lose these rules; secondaries keep the last \
         version; to go on without, remove it from the configuration, or from `sources` of this zone"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_that_are_published_are_waited_for() {
        let feed = Missing::Source {
            what: "feed",
            name: "ministry".to_owned(),
        };
        let missing = [Missing::All(Kind::Order), feed];
        let named = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned());
            Selection::Named(names.collect())
        };
        for (selection, expected) in [
            (Selection::All, Some("orders and feed ministry have no")),
            (named(&["other", "ministry"]), Some("feed ministry has no")),
            (named(&[Selection::ALL_ORDERS]), Some("orders have no")),
            (named(&[Selection::ALL_EXCEPTIONS, "other"]), None),
        ] {
            let problem = problem(&missing, &selection);
            match expected {
                Some(text) => assert!(problem.is_some_and(|problem| problem.contains(text))),
                None => assert_eq!(problem, None),
            }
        }
        assert_eq!(problem(&[], &Selection::All), None);
    }
}
