//! Owns the section `[guard]`: when a list's newest state is held, and which names no list's rule may cover.
//! Refuses to read the files that it names, and to judge.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::findings::{Findings, quote};
use super::raw::Strings;
use super::reader::{At, Reader, WordOrStrings};
use super::suggest::nearest;
use super::values::{choice, each, file, number};
use crate::names::typed;
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

/// A guard of single rules: what a rule would cover. Images know it by its name, so a name stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ward {
    /// It is an address or another number, and no name.
    Number,
    /// A top-level domain.
    TopLevel,
    /// A name under which strangers register theirs.
    PublicSuffix,
    /// A name of this server.
    Own,
    /// A name of the operator's file.
    Protected,
    /// One of the most popular names.
    Popular,
}

impl Ward {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Number,
        Self::TopLevel,
        Self::PublicSuffix,
        Self::Own,
        Self::Protected,
        Self::Popular,
    ];

    /// What it is called in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::TopLevel => "top-level",
            Self::PublicSuffix => "public-suffix",
            Self::Own => "own",
            Self::Protected => "protected",
            Self::Popular => "popular",
        }
    }
}

impl fmt::Display for Ward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A set of guards of single rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Ward>", into = "Vec<Ward>")]
pub struct WardSet(u8);

impl WardSet {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(0b11_1111);

    /// Whether the guard is among them.
    pub fn has(self, ward: Ward) -> bool {
        self.0 & 1 << ward as u8 != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Ward> {
        Ward::ALL.into_iter().filter(move |ward| self.has(*ward))
    }
}

impl FromIterator<Ward> for WardSet {
    fn from_iter<I: IntoIterator<Item = Ward>>(wards: I) -> Self {
        Self(wards.into_iter().fold(0, |set, ward| set | 1 << ward as u8))
    }
}

impl From<Vec<Ward>> for WardSet {
    fn from(wards: Vec<Ward>) -> Self {
        wards.into_iter().collect()
    }
}

impl From<WardSet> for Vec<Ward> {
    fn from(wards: WardSet) -> Self {
        wards.iter().collect()
    }
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

/// The guards that leave no rule of a list out, and only report it.
pub(super) fn only_warning(
    given: Option<At<WordOrStrings>>,
    findings: &mut Findings,
) -> Option<WardSet> {
    let At { key, line, value } = given?;
    match value {
        WordOrStrings::Strings(value) => {
            let wards = each(Some(At { key, line, value }), findings, ward)?;
            Some(wards.into_iter().collect())
        }
        WordOrStrings::Word(word) if word == "warn" => Some(WardSet::ALL),
        WordOrStrings::Word(word) => {
            let remedy = match ward(&word) {
                Ok(ward) => format!("for one guard alone write [\"{ward}\"]"),
                Err(_) => "write \"warn\", or the guards in brackets".to_owned(),
            };
            let message = format!(
                "{key} is {}, must be \"warn\" or an array of guards: {remedy}",
                quote(&word)
            );
            findings.report(line, message);
            None
        }
    }
}

fn ward(text: &str) -> Result<Ward, String> {
    if let Some(ward) = Ward::ALL.into_iter().find(|ward| ward.word() == text) {
        return Ok(ward);
    }
    if matches!(text, "empty" | "bad" | "shrunk" | "grown" | "old") {
        return Err(format!(
            "which guards the list as a whole: remove it; what it holds is taken with: tapis reload --accept LIST:{text}"
        ));
    }
    let words = || Ward::ALL.into_iter().map(Ward::word);
    let near = nearest(text, words()).map(|near| format!("; did you mean \"{near}\"?"));
    let all = words().collect::<Vec<_>>().join(", ");
    Err(format!(
        "which is no guard of rules, those are {all}{}",
        near.unwrap_or_default()
    ))
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
    fn a_list_names_the_guards_that_only_warn_of_its_rules() {
        let warn = |text: &str| {
            let text = format!("[[list]]\nname = \"a\"\npath = \"a\"\n{text}\n");
            valid(&text).lists[0].warn
        };
        assert_eq!(warn(""), WardSet::NONE);
        assert_eq!(warn("guards = \"warn\""), WardSet::ALL);
        assert_eq!(warn("guards = []"), WardSet::NONE);
        let some = warn("guards = [\"popular\", \"top-level\"]");
        let some: Vec<_> = some.iter().collect();
        assert_eq!(some, [Ward::TopLevel, Ward::Popular]);
        assert_eq!(Ward::ALL.into_iter().collect::<WardSet>(), WardSet::ALL);
        for (text, why) in [
            (
                "\"off\"",
                "guards is \"off\", must be \"warn\" or an array of guards: write \"warn\", or the guards in \
                 brackets",
            ),
            (
                "\"popular\"",
                "guards is \"popular\", must be \"warn\" or an array of guards: for one guard alone write \
                 [\"popular\"]",
            ),
            (
                "[\"shrunk\"]",
                "guards holds \"shrunk\", which guards the list as a whole: remove it; what it holds is taken with: \
                 tapis reload --accept LIST:shrunk",
            ),
            (
                "[\"populer\"]",
                "guards holds \"populer\", which is no guard of rules, those are number, top-level, public-suffix, \
                 own, protected, popular; did you mean \"popular\"?",
            ),
            (
                "[\"own\", \"own\"]",
                "guards holds \"own\", which is there already: remove it",
            ),
            (
                "true",
                "guards is true, must be a word or an array of strings: write it as \"WORD\" or [\"...\", \"...\"]",
            ),
        ] {
            let text = format!("[[list]]\nname = \"a\"\npath = \"a\"\nguards = {text}\n");
            assert_eq!(problems(&text), [format!("4: {why}")]);
        }
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
