//! Writes the `unbound` format: `local-zone` for a name with those below it, `local-data` for a name alone.

use std::fmt::Write;

use domain::base::iana::Rtype;

use crate::control::list_file::write::meaning::Does;
use crate::control::list_file::write::names::push_escaped;
use crate::control::list_file::write::reason::Reason;
use crate::control::list_file::write::rule::Rule;
use crate::policy::record::LocalRecord;
use crate::policy::rule::{Action, Scope};
use crate::wire::rtype;

/// Appends the lines of a rule.
pub(super) fn write(rule: &Rule<'_>, text: &mut String) -> Result<(), Reason> {
    rule.is_usual()?;
    let (name, scope) = rule.name()?;
    let mut owner = String::new();
    push_escaped(name, &mut owner);
    match scope {
        Scope::Subtree => zone(rule, &owner, text),
        Scope::Exact => data(rule, &owner, text),
        Scope::Below => Err(Reason::Below),
    }
}

fn zone(rule: &Rule<'_>, owner: &str, text: &mut String) -> Result<(), Reason> {
    let kind = match &rule.meaning.does {
        Does::AsList if rule.list.allows => "always_transparent",
        Does::Allow => "always_transparent",
        Does::AsList => "always_null",
        Does::Block(Action::Nxdomain) => "always_nxdomain",
        Does::Block(Action::Nodata) => "always_nodata",
        Does::Block(Action::Refused) => "always_refuse",
        Does::Block(Action::Drop) => "always_deny",
        Does::Block(Action::Sinkhole) if rule.meaning.is_as_list(rule.list) => "always_null",
        // Unbound does not know its addresses.
        Does::Block(Action::Sinkhole) => return Err(Reason::Answer),
        Does::Alias(_) | Does::Records(_) => "redirect",
    };
    let _ = writeln!(text, "local-zone: \"{owner}.\" {kind}");
    records(rule, owner, text);
    Ok(())
}

fn data(rule: &Rule<'_>, owner: &str, text: &mut String) -> Result<(), Reason> {
    match &rule.meaning.does {
        _ if rule.meaning.is_as_list(rule.list) && !rule.list.allows => {
            // Queries of other types get NODATA, as there are data.
            let _ = writeln!(text, "local-data: \"{owner}. A 0.0.0.0\"");
            Ok(())
        }
        // Other types of zones apply to the names below, too.
        Does::AsList | Does::Allow | Does::Block(_) => Err(Reason::Exact),
        Does::Alias(_) | Does::Records(_) => {
            records(rule, owner, text);
            Ok(())
        }
    }
}

/// The records of a rule, if it has some.
fn records(rule: &Rule<'_>, owner: &str, text: &mut String) {
    match &rule.meaning.does {
        Does::Records(records) => {
            for record in records {
                line(owner, record, text);
            }
        }
        Does::Alias(target) => {
            let record = LocalRecord {
                rtype: rtype::CNAME,
                ttl_secs: Some(rule.meaning.ttl_secs),
                data: target.wire().into(),
            };
            line(owner, &record, text);
        }
        Does::AsList | Does::Allow | Does::Block(_) => {}
    }
}

/// A record. Its data may be in double quotes, so the whole is in single ones.
fn line(owner: &str, record: &LocalRecord, text: &mut String) {
    let kind = Rtype::from_int(record.rtype);
    let ttl_secs = record.ttl_secs.unwrap_or_default();
    // The quote would end the value, and the other sign begin a comment.
    let data = record.rdata().to_string();
    let data = data.replace('\'', r"\039").replace(" #", r" \035");
    let _ = writeln!(text, "local-data: '{owner}. {ttl_secs} IN {kind} {data}'");
}
