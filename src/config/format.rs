//! The formats of lists: their names in the configuration, and the keys that have no meaning with them.

use super::findings::{Findings, quote};
use super::raw;
use super::reader::At;
use super::types::Format;
use super::values::choice;

const FORMATS: &[(&str, Format)] = &[
    ("adblock", Format::Adblock),
    ("auto", Format::Auto),
    ("csv", Format::Csv),
    ("dnsmasq", Format::Dnsmasq),
    ("domains", Format::Domains),
    ("hosts", Format::Hosts),
    ("json", Format::Json),
    ("rpz", Format::Rpz),
    ("unbound", Format::Unbound),
    ("wildcard", Format::Wildcard),
];

/// Other names of formats, and the name here.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("abp", "adblock"),
    ("adguard", "adblock"),
    ("bind", "rpz"),
    ("dnscrypt", "wildcard"),
    ("dnscrypt-proxy", "wildcard"),
    ("domain", "domains"),
    ("host", "hosts"),
    ("ndjson", "json"),
    ("plain", "domains"),
    ("regex", "adblock"),
    ("table", "csv"),
    ("tsv", "csv"),
    ("ublock", "adblock"),
    ("zone", "rpz"),
];

/// Validates the format of a list.
pub(super) fn validate(given: Option<At<String>>, findings: &mut Findings) -> Option<Format> {
    let Some(given) = given else {
        return Some(Format::Domains);
    };
    let other = OTHER_NAMES
        .iter()
        .find(|(name, _)| given.value.eq_ignore_ascii_case(name));
    if let Some((_, name)) = other {
        let message = format!(
            "format is {}: did you mean \"{name}\"?",
            quote(&given.value)
        );
        findings.report(given.line, message);
        return None;
    }
    choice(Some(given), FORMATS, findings)
}

/// Reports the keys that have no meaning for a list of this format.
pub(super) fn report_unused(format: Format, raw: &raw::List, findings: &mut Findings) {
    let mut report = |key: Option<(&str, u32)>, of: &str, why: &str| {
        if let Some((key, line)) = key {
            let message = format!("{key} has no meaning for {of}, as {why}: remove it");
            findings.report(line, message);
        }
    };
    let place = |given: &Option<At<String>>| given.as_ref().map(|at| (at.key, at.line));
    let (scope, comments) = (place(&raw.scope), place(&raw.comments));
    match format {
        Format::Adblock => {
            let of = "an adblock list";
            report(scope, of, "`||x^` and `x` are separate rules");
            report(comments, of, "its comments begin with `!` or `#`");
        }
        Format::Dnsmasq => {
            let of = "a configuration of dnsmasq";
            report(
                scope,
                of,
                "its options are about a name with all names below it",
            );
            report(comments, of, "its comments begin with `#`");
        }
        Format::Unbound => {
            let of = "a configuration of Unbound";
            report(
                scope,
                of,
                "`local-zone` is about a name with all names below it, and `local-data` about one name",
            );
            report(comments, of, "its comments begin with `#`");
        }
        Format::Wildcard => {
            report(
                scope,
                "a list with wildcards",
                "its names are names with all names below them, and `=x` is one name",
            );
        }
        Format::Csv => report(comments, "a CSV table", "its comments begin with `#`"),
        Format::Json => report(comments, "JSON", "it has no comments"),
        Format::Auto | Format::Domains | Format::Hosts | Format::Rpz => {}
    }
    let column = place(&raw.column);
    match format {
        Format::Csv if column.is_none() => {
            let message = "a CSV table needs `column`: the title of the column that has the names, or its number".to_owned();
            findings.report(raw.line, message);
        }
        Format::Auto | Format::Csv | Format::Json | Format::Rpz => {}
        _ => report(column, "this format", "only `csv` and `json` have columns"),
    }
}
