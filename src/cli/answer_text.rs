//! Prints the records and errors of answers, and the rules that led to them.

use std::io::{self, Write};
use std::path::Path;

use crate::config::shown::{Show, Shown};
use crate::control::admin::verdict::Answer;
use crate::control::inspect::explain::source_label;
use crate::policy::explain::Role;
use crate::policy::rule::Kind;

/// Prints the records of the answer section and the Extended DNS Errors, each on a line behind `indent`.
pub(super) fn print_records(answer: &Answer, indent: &str, out: &mut impl Write) -> io::Result<()> {
    for record in &answer.records {
        writeln!(out, "{indent}{}", Shown::new(&**record))?;
    }
    for ede in &answer.ede {
        let (code, text) = ede.split_once(' ').unwrap_or((ede, ""));
        let meaning = meaning(code).map_or(String::new(), |name| format!(" ({name})"));
        let line = format!("{indent}EDE {code}{meaning} {text}");
        writeln!(out, "{}", Shown::new(line.trim_end()))?;
    }
    Ok(())
}

/// The meaning of an INFO-CODE about a blocked name (RFC 8914, section 4).
fn meaning(code: &str) -> Option<&'static str> {
    match code {
        "15" => Some("Blocked"),
        "16" => Some("Censored"),
        "17" => Some("Filtered"),
        "18" => Some("Prohibited"),
        _ => None,
    }
}

/// A matching rule.
pub(super) struct RuleText<'r> {
    /// As lists write it.
    pub(super) rule: &'r str,
    pub(super) kind: Kind,
    pub(super) source: &'r str,
    pub(super) path: &'r Path,
    /// The line of the file that has it, if that is known.
    pub(super) line: Option<u32>,
    /// Its part in the decision; `None` if that is not known.
    pub(super) role: Option<Role>,
    /// Further lines about it.
    pub(super) more: &'r mut dyn Iterator<Item = &'r String>,
}

/// Prints a rule, where it is from, and its part in the decision.
pub(super) fn print_rule(text: RuleText<'_>, out: &mut impl Write) -> io::Result<()> {
    let kind = match text.kind {
        Kind::Block => "block",
        Kind::Allow => "allow",
        Kind::Order => "order",
        Kind::Exception => "exception",
    };
    let line = text.line.map_or(String::new(), |line| format!(":{line}"));
    let (mark, note) = match text.role {
        Some(Role::Decides) => ("rule", ""),
        Some(Role::Ignored) => ("also", " (ignored because of an exception)"),
        Some(Role::Fails) => ("also", " (its condition does not hold for this query)"),
        Some(Role::LogOnly) => ("also", " (logged only)"),
        Some(Role::Loses) | None => ("also", ""),
    };
    let source = source_label(text.source, Some(text.path));
    let (rule, path) = (text.rule, text.path.shown());
    writeln!(
        out,
        "  {mark} {rule} ({kind}, {source}, {path}{line}){note}"
    )?;
    for line in text.more {
        writeln!(out, "    {}", Shown::new(&**line))?;
    }
    Ok(())
}
