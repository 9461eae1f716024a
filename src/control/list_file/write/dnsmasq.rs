//! Writes the `dnsmasq` format. Its names have no escapes.

use std::fmt::Write;

use crate::control::list_file::write::meaning::Does;
use crate::control::list_file::write::names::push_plain;
use crate::control::list_file::write::reason::Reason;
use crate::control::list_file::write::rule::{Rule, Trigger, are_addresses};
use crate::policy::rule::{Action, Scope};

/// Appends the lines of a rule.
pub(super) fn write(rule: &Rule<'_>, text: &mut String) -> Result<(), Reason> {
    rule.is_usual()?;
    let names = names(rule)?;
    let _ = match &rule.meaning.does {
        Does::Block(Action::Nxdomain) => writeln!(text, "address=/{names}/"),
        Does::Allow => writeln!(text, "server=/{names}/#"),
        Does::AsList if rule.list.allows => writeln!(text, "server=/{names}/#"),
        _ if rule.meaning.is_as_list(rule.list) => writeln!(text, "address=/{names}/#"),
        Does::Records(records) => {
            are_addresses(records)?;
            for record in records {
                let address = record.rdata();
                let _ = writeln!(text, "address=/{names}/{address}");
            }
            Ok(())
        }
        Does::AsList | Does::Block(_) | Does::Alias(_) => return Err(Reason::Answer),
    };
    Ok(())
}

/// The names of a rule, as an option has them.
fn names(rule: &Rule<'_>) -> Result<String, Reason> {
    if let Trigger::Pattern(pattern) = rule.trigger {
        return ends(pattern).ok_or(Reason::Pattern);
    }
    let (name, scope) = rule.name()?;
    let mut text = match scope {
        Scope::Exact => return Err(Reason::Exact),
        Scope::Subtree => String::new(),
        Scope::Below => "*.".to_owned(),
    };
    if !name.is_plain() {
        return Err(Reason::Name);
    }
    push_plain(name, &mut text);
    Ok(text)
}

/// `*x` for a pattern of all names that end with x.
fn ends(pattern: &str) -> Option<String> {
    let end = pattern.strip_suffix('$')?.replace(r"\.", ".");
    // Another special character shows when the line is read again.
    (!end.starts_with('.')).then(|| format!("*{end}"))
}
