//! The operator's exceptions in files: names that are not blocked although a rule blocks them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use toml::de::DeTable;

use super::error::Problems;
use super::findings::{Findings, quote};
use super::moment::Moment;
use super::reader::{At, Reader, Strings};
use super::syntax;
use super::values::{SCOPES, choice, is_plain_name, line, non_empty, rule_name};
use crate::config::shown::path_text;
use crate::policy::rule::{Against, Scope, Source};
use crate::wire::name::Name;

/// The value of `against` for all lists and orders.
const ALL: &str = "all";

/// An operator's decision not to block a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// The name.
    #[serde(serialize_with = "write_name", deserialize_with = "read_name")]
    pub name: Name,
    /// Whether the exception covers the name, the names below it, or both.
    pub scope: Scope,
    /// The lists and orders that it overrides.
    pub against: Against,
    /// The reason.
    pub reason: String,
    /// The person or office that decided.
    pub author: String,
    /// When it ends; `None` if it has no end.
    pub until: Option<Moment>,
    /// The file that contains it.
    #[serde(serialize_with = "path_text")]
    pub path: PathBuf,
    /// Its first line in that file.
    pub line: u32,
}

fn write_name<S: Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

fn read_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    let text = String::deserialize(deserializer)?;
    Name::from_text(&text).map_err(de::Error::custom)
}

/// A section `[[exception]]`, before validation.
pub(super) struct Raw {
    line: u32,
    name: Option<At<String>>,
    scope: Option<At<String>>,
    against: Option<Strings>,
    reason: Option<At<String>>,
    author: Option<At<String>>,
    until: Option<At<Moment>>,
}

impl Raw {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            line: table.line(),
            name: table.required_string("name"),
            scope: table.required_string("scope"),
            against: table.required_strings("against"),
            reason: table.required_string("reason"),
            author: table.required_string("author"),
            until: table.moment("until"),
        }
    }
}

/// Parses a file of exceptions. `path` is only used in messages; the file is not opened.
///
/// # Errors
/// All problems of the text.
pub fn parse(text: &str, path: &Path) -> Result<Vec<Exception>, Problems> {
    let mut findings = Findings::new(path, text.as_bytes());
    let read = |table: DeTable<'_>, findings: &mut Findings| {
        Reader::read_all(table, findings, |file| {
            file.sections("exception", Raw::read)
        })
    };
    let raw = syntax::parse(text, &mut findings, read);
    let exceptions = validate(raw, &mut findings);
    findings.conclude(exceptions)
}

/// Validates exceptions. Invalid ones are left out, and reported.
pub(super) fn validate(raw: Vec<Raw>, findings: &mut Findings) -> Vec<Exception> {
    let exceptions = raw.into_iter();
    exceptions
        .filter_map(|raw| {
            let reason = line(non_empty(raw.reason, findings), findings);
            let author = line(non_empty(raw.author, findings), findings);
            let scope = choice(raw.scope, SCOPES, findings);
            let against = against(raw.against, findings);
            Some(Exception {
                name: rule_name(raw.name, findings)?,
                scope: scope?,
                against: against?,
                reason: reason?,
                author: author?,
                until: raw.until.map(|until| until.value),
                path: findings.path().to_owned(),
                line: raw.line,
            })
        })
        .collect()
}

fn against(given: Option<Strings>, findings: &mut Findings) -> Option<Against> {
    let given = given?;
    let (key, at) = (given.key, given.line);
    let (mut names, mut seen) = (Vec::new(), HashSet::new());
    for At { line, value, .. } in given.value {
        let name = value.strip_prefix(Source::ORDER).unwrap_or(&value);
        if !is_plain_name(name) {
            let shown = quote(&value);
            let message = format!(
                "{key} holds {shown}, must be the name of a list or feed, an order as \"order:ID\", or \"all\""
            );
            findings.report(line, message);
            return None;
        }
        if !seen.insert(value.clone()) {
            let message = format!("{key} holds {} twice: remove one", quote(&value));
            findings.report(line, message);
        }
        names.push(value);
    }
    if names.is_empty() {
        let message = format!("{key} is empty: name lists, feeds and orders, or write [\"all\"]");
        findings.report(at, message);
        return None;
    }
    match names.iter().any(|name| name == ALL) {
        true if names.len() > 1 => {
            let message = format!("{key} holds \"all\" and more: remove one of the two");
            findings.report(at, message);
            None
        }
        true => Some(Against::All),
        false => Some(Against::Named(names)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> String {
        match parse(text, Path::new("x.toml")) {
            Ok(exceptions) => format!("{exceptions:?}"),
            Err(problems) => problems.to_string(),
        }
    }

    const GOOD: &str = r#"
[[exception]]
name = "münchen.example"
scope = "subtree"
against = ["ads", "order:id-2017-07-14"]
reason = "the city's own site"
author = "noc@isp.example"
until = 2026-12-01T00:00:00+07:00
"#;

    #[test]
    fn an_exception_has_a_name_sources_that_it_overrides_a_reason_an_author_and_an_end() {
        let all = parse(GOOD, Path::new("x.toml")).expect("valid");
        let [one] = &all[..] else {
            panic!("one: {all:?}")
        };
        assert_eq!(one.name.to_string(), "xn--mnchen-3ya.example");
        let named = ["ads", "order:id-2017-07-14"].map(str::to_owned).to_vec();
        assert_eq!(one.against, Against::Named(named));
        assert_eq!(one.line, 2);
        let all = GOOD.replace(r#"["ads", "order:id-2017-07-14"]"#, r#"["all"]"#);
        assert!(outcome(&all).contains("against: All"));
    }

    #[test]
    fn a_missing_key_is_reported_with_the_exceptions_line() {
        for (field, remedy) in [
            (
                "name",
                "x.toml:2: [[exception]] has no `name`: add name = \"...\"",
            ),
            (
                "scope",
                "x.toml:2: [[exception]] has no `scope`: add scope = \"...\"",
            ),
            (
                "against",
                "x.toml:2: [[exception]] has no `against`: add against = [\"...\"]",
            ),
            (
                "reason",
                "x.toml:2: [[exception]] has no `reason`: add reason = \"...\"",
            ),
            (
                "author",
                "x.toml:2: [[exception]] has no `author`: add author = \"...\"",
            ),
        ] {
            let without: Vec<_> = GOOD
                .lines()
                .filter(|line| !line.starts_with(field))
                .collect();
            assert_eq!(outcome(&without.join("\n")), remedy);
        }
    }

    #[test]
    fn an_exception_overrides_all_or_named_sources() {
        for (against, problem) in [
            (
                "[]",
                "against is empty: name lists, feeds and orders, or write [\"all\"]",
            ),
            (
                "[\"all\", \"ads\"]",
                "against holds \"all\" and more: remove one of the two",
            ),
            (
                "[\"ads\", \"ads\"]",
                "against holds \"ads\" twice: remove one",
            ),
            (
                "[\"Ads!\"]",
                "against holds \"Ads!\", must be the name of a list or feed, an order as \"order:ID\", or \"all\"",
            ),
        ] {
            let text = GOOD.replace(r#"["ads", "order:id-2017-07-14"]"#, against);
            assert_eq!(outcome(&text), format!("x.toml:5: {problem}"));
        }
    }
}
