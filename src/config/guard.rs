//! The section `[guard]`: limits for updates of lists, and names that no list may block.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::findings::{Findings, quote};
use super::reader::{At, Reader, Strings, WordOrStrings};
use super::suggest::nearest;
use super::values::{choice, each, file, number};
use crate::names::typed;
use crate::wire::name::Name;

/// The maximum of `max_age_hours`: ten years.
pub(super) const HOURS_MAX: u32 = 10 * 365 * 24;
/// The maximum of `popular_first`.
const FIRST_MAX: usize = 100_000;

const SUFFIXES: &[(&str, PublicSuffixes)] = &[
    ("all", PublicSuffixes::All),
    ("icann", PublicSuffixes::Icann),
    ("none", PublicSuffixes::None),
];

/// The section `[guard]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardRails {
    /// Limits for whole lists.
    pub limits: Limits,
    /// The public suffixes that no rule may cover.
    pub public_suffixes: PublicSuffixes,
    /// A file of names that no rule may cover, in the format `domains`.
    pub protect: Option<PathBuf>,
    /// A file of popular names, the most popular first.
    pub popular: Option<PathBuf>,
    /// The number of popular names that no rule may cover: 1 to 100,000.
    pub popular_first: usize,
    /// Names whose rules are released from the guards of single rules.
    pub release: Vec<Name>,
}

/// Limits for whole lists. An update beyond them is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// The largest loss of rules in force, in per cent; 100 turns the limit off.
    pub shrink_percent: u32,
    /// The largest growth over the rules in force, in per cent; at most 1,000,000. 0 turns the limit off.
    pub grow_percent: u32,
    /// The largest age of the file, in hours; at most ten years. 0 turns the limit off.
    pub max_age_hours: u32,
    /// The largest share of bad lines, in per cent; 100 turns the limit off.
    pub bad_percent: u32,
}

/// The public suffixes that no rule may cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublicSuffixes {
    /// All public suffixes.
    All,
    /// The public suffixes of registries, such as `co.id`. A rule that covers a company's suffix, such as `github.io`,
    /// is reported but stays in force, because block lists block dynamic-DNS providers on purpose.
    #[default]
    Icann,
    /// No public suffixes.
    None,
}

/// A guard of single rules, named after the names that it protects. Images store a variant's name, so it can't be
/// renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// An address or another number in place of a name.
    Number,
    /// A top-level domain.
    TopLevel,
    /// A name below which anybody can register names.
    PublicSuffix,
    /// A name of this server.
    Own,
    /// A name in the operator's file.
    Protected,
    /// One of the most popular names.
    Popular,
    /// Names that a pattern matches only if it is cut off. No configuration has this guard.
    Cut,
}

impl Protection {
    /// All guards that a list can have warn only.
    pub const ALL: [Self; 6] = [
        Self::Number,
        Self::TopLevel,
        Self::PublicSuffix,
        Self::Own,
        Self::Protected,
        Self::Popular,
    ];

    /// Its name in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::TopLevel => "top-level",
            Self::PublicSuffix => "public-suffix",
            Self::Own => "own",
            Self::Protected => "protected",
            Self::Popular => "popular",
            Self::Cut => "cut",
        }
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A set of guards of single rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Protection>", into = "Vec<Protection>")]
pub struct Protections(u8);

impl Protections {
    /// No guard.
    pub const NONE: Self = Self(0);
    /// All guards.
    pub const ALL: Self = Self(0b11_1111);

    /// Whether the set contains the guard.
    pub fn has(self, protection: Protection) -> bool {
        self.0 & 1 << protection as u8 != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The guards of the set.
    pub fn iter(self) -> impl Iterator<Item = Protection> {
        Protection::ALL
            .into_iter()
            .filter(move |protection| self.has(*protection))
    }
}

impl FromIterator<Protection> for Protections {
    fn from_iter<I: IntoIterator<Item = Protection>>(protections: I) -> Self {
        Self(
            protections
                .into_iter()
                .fold(0, |set, protection| set | 1 << protection as u8),
        )
    }
}

impl From<Vec<Protection>> for Protections {
    fn from(protections: Vec<Protection>) -> Self {
        protections.into_iter().collect()
    }
}

impl From<Protections> for Vec<Protection> {
    fn from(protections: Protections) -> Self {
        protections.iter().collect()
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

/// Validates the section.
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

/// Validates `guards` of a list: the guards that only warn of the list's rules, and do not leave them out.
pub(super) fn only_warning(
    given: Option<At<WordOrStrings>>,
    findings: &mut Findings,
) -> Option<Protections> {
    let At { key, line, value } = given?;
    match value {
        WordOrStrings::Strings(value) => {
            let protections = each(Some(At { key, line, value }), findings, protection)?;
            Some(protections.into_iter().collect())
        }
        WordOrStrings::Word(word) if word == "warn" => Some(Protections::ALL),
        WordOrStrings::Word(word) => {
            let remedy = match protection(&word) {
                Ok(protection) => format!("for one guard alone write [\"{protection}\"]"),
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

fn protection(text: &str) -> Result<Protection, String> {
    if let Some(protection) = Protection::ALL
        .into_iter()
        .find(|protection| protection.word() == text)
    {
        return Ok(protection);
    }
    if matches!(
        text,
        "empty" | "bad" | "shrunk" | "grown" | "old" | "format"
    ) {
        return Err(format!(
            "which is a guard of whole lists: remove it; to accept a list that it rejects: tapis reload --accept LIST:{text}"
        ));
    }
    let words = || Protection::ALL.into_iter().map(Protection::word);
    let near = nearest(text, words()).map(|near| format!("; did you mean \"{near}\"?"));
    let all = words().collect::<Vec<_>>().join(", ");
    Err(format!(
        "which is not a guard of rules, must be one of {all}{}",
        near.unwrap_or_default()
    ))
}

fn released(text: &str) -> Result<Name, String> {
    match typed::one(text) {
        Ok((name, None)) if name.label_count() > 0 => Ok(name),
        Ok((_, None)) => Err("the root, which no rule may block: remove it".to_owned()),
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
    fn missing_keys_have_their_defaults_and_set_keys_count() {
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
        assert_eq!(warn(""), Protections::NONE);
        assert_eq!(warn("guards = \"warn\""), Protections::ALL);
        assert_eq!(warn("guards = []"), Protections::NONE);
        let some = warn("guards = [\"popular\", \"top-level\"]");
        let some: Vec<_> = some.iter().collect();
        assert_eq!(some, [Protection::TopLevel, Protection::Popular]);
        assert_eq!(
            Protection::ALL.into_iter().collect::<Protections>(),
            Protections::ALL
        );
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
                "guards holds \"shrunk\", which is a guard of whole lists: remove it; to accept a list that it rejects: \
                 tapis reload --accept LIST:shrunk",
            ),
            (
                "[\"populer\"]",
                "guards holds \"populer\", which is not a guard of rules, must be one of number, top-level, \
                 public-suffix, own, protected, popular; did you mean \"popular\"?",
            ),
            (
                "[\"own\", \"own\"]",
                "guards holds \"own\", which is a duplicate: remove it",
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
            (".", "the root, which no rule may block: remove it"),
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
            ["2: release holds \"CO.ID\", which is a duplicate: remove it"]
        );
    }
}
