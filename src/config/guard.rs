//! Owns the section `[guard]`: when a list's newest state is held, and which names no list's rule may cover.
//! Refuses to read the files that it names, and to judge.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::findings::Findings;
use super::raw::Strings;
use super::reader::{At, Reader};
use super::typed;
use super::values::{choice, each, file, number};
use crate::wire::name::Name;

/// Ten years.
const HOURS_MAX: u32 = 10 * 365 * 24;
/// Most names of a popularity file that count.
const FIRST_MAX: usize = 100_000;

const SUFFIXES: &[(&str, PublicSuffixes)] = &[
    ("all", PublicSuffixes::All),
    ("icann", PublicSuffixes::Icann),
    ("none", PublicSuffixes::None),
];

/// The section `[guard]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardRails {
    /// What a whole list is judged by.
    pub limits: Limits,
    /// Which public suffixes no rule may cover.
    pub public_suffixes: PublicSuffixes,
    /// A file of names that no rule may reach, in the format `domains`.
    pub protect: Option<PathBuf>,
    /// A file of popular names, the most popular first.
    pub popular: Option<PathBuf>,
    /// How many of them no rule may reach: 1 to 100,000.
    pub popular_first: usize,
    /// Names whose rules count all the same.
    pub release: Vec<Name>,
}

/// What a whole list is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Held is what lost more than this share of the rules in force; at most 100, which holds nothing.
    pub shrink_percent: u32,
    /// Held is what has more than this share of rules more than are in force; at most 1,000,000. 0
    /// holds nothing.
    pub grow_percent: u32,
    /// Held is what was written longer ago; at most ten years. 0 holds nothing.
    pub max_age_hours: u32,
    /// Held is what has more than this share of bad lines; at most 100, which holds nothing.
    pub bad_percent: u32,
}

/// Which public suffixes no rule may cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublicSuffixes {
    /// All.
    All,
    /// Those of registries, such as `co.id`. A rule that covers one of a company, such as
    /// `github.io`, counts and is reported: block lists mean dynamic-DNS providers.
    #[default]
    Icann,
    /// None.
    None,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shrink_percent: 50,
            grow_percent: 900,
            max_age_hours: 0,
            bad_percent: 50,
        }
    }
}

#[derive(Default)]
pub(super) struct Raw {
    shrink_percent: Option<At<i64>>,
    grow_percent: Option<At<i64>>,
    max_age_hours: Option<At<i64>>,
    bad_percent: Option<At<i64>>,
    public_suffixes: Option<At<String>>,
    protect: Option<At<String>>,
    popular: Option<At<String>>,
    popular_first: Option<At<i64>>,
    release: Option<Strings>,
}

impl Raw {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            shrink_percent: table.integer("shrink-percent"),
            grow_percent: table.integer("grow-percent"),
            max_age_hours: table.integer("max-age-hours"),
            bad_percent: table.integer("bad-percent"),
            public_suffixes: table.string("public-suffixes"),
            protect: table.string("protect"),
            popular: table.string("popular"),
            popular_first: table.integer("popular-first"),
            release: table.strings("release"),
        }
    }
}

/// The section that `raw` stands for.
pub(super) fn validate(raw: Raw, findings: &mut Findings) -> GuardRails {
    let usual = Limits::default();
    GuardRails {
        limits: Limits {
            shrink_percent: number(raw.shrink_percent, 0..=100, findings)
                .unwrap_or(usual.shrink_percent),
            grow_percent: number(raw.grow_percent, 0..=1_000_000, findings)
                .unwrap_or(usual.grow_percent),
            max_age_hours: number(raw.max_age_hours, 0..=HOURS_MAX, findings)
                .unwrap_or(usual.max_age_hours),
            bad_percent: number(raw.bad_percent, 0..=100, findings).unwrap_or(usual.bad_percent),
        },
        public_suffixes: choice(raw.public_suffixes, SUFFIXES, findings).unwrap_or_default(),
        protect: file(raw.protect, findings),
        popular: file(raw.popular, findings),
        popular_first: number(raw.popular_first, 1..=FIRST_MAX, findings).unwrap_or(1000),
        release: each(raw.release, findings, released).unwrap_or_default(),
    }
}

fn released(text: &str) -> Result<Name, String> {
    match typed::one(text) {
        Ok((name, None)) if name.label_count() > 0 => Ok(name),
        Ok((_, None)) => Err("the root, a rule on which never counts: remove it".to_owned()),
        Ok((name, Some(_))) => Err(format!(
            "a name with a scope: write \"{name}\", which releases its rules of all scopes"
        )),
        Err(why) => Err(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::{problems, valid};
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_set_counts() {
        let guard = valid("").guard;
        assert_eq!(guard.limits, Limits::default());
        assert_eq!((guard.popular_first, guard.release.len()), (1000, 0));
        assert_eq!(guard, valid("[guard]\n").guard);
        let text = "[guard]\nshrink-percent = 10\ngrow-percent = 0\nmax-age-hours = 72\n\
                    bad-percent = 100\npublic-suffixes = \"icann\"\nprotect = \"p.txt\"\n\
                    popular = \"/top.csv\"\npopular-first = 10\nrelease = [\"CO.id\", \"b\u{fc}cher.example\"]";
        let guard = valid(text).guard;
        let limits = Limits {
            shrink_percent: 10,
            grow_percent: 0,
            max_age_hours: 72,
            bad_percent: 100,
        };
        assert_eq!(guard.limits, limits);
        assert_eq!(guard.public_suffixes, PublicSuffixes::Icann);
        assert!(guard.protect.expect("a path").ends_with("p.txt"));
        assert_eq!(guard.popular.as_deref(), Some(Path::new("/top.csv")));
        let released: Vec<_> = guard.release.iter().map(ToString::to_string).collect();
        assert_eq!(released, ["co.id", "xn--bcher-kva.example"]);
    }

    #[test]
    fn a_released_name_is_written_without_a_scope() {
        for (text, why) in [
            (
                ".co.id",
                "a name with a scope: write \"co.id\", which releases its rules of all scopes",
            ),
            (".", "the root, a rule on which never counts: remove it"),
            (
                "https://x.example/",
                "a URL or a path; write the host name alone",
            ),
        ] {
            let found = problems(&format!("[guard]\nrelease = [\"{text}\"]"));
            assert_eq!(found, [format!("2: release holds \"{text}\", {why}")]);
        }
        let found = problems("[guard]\nrelease = [\"co.id\", \"CO.ID\"]");
        assert_eq!(
            found,
            ["2: release holds \"CO.ID\", which is there already: remove it"]
        );
    }
}
