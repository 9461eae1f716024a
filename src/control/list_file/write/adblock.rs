//! Writes the `adblock` format, whose names have no escapes. A rule that allows a name is written with `@@`, also in a list
//! that allows names anyway, so that programs which do not know this setting do the same.

use std::fmt::{Display, Write};
use std::net::IpAddr;

use domain::base::iana::Rtype;

use crate::control::list_file::write::meaning::Does;
use crate::control::list_file::write::names::push_plain;
use crate::control::list_file::write::reason::Reason;
use crate::control::list_file::write::rule::{Rule, Trigger, are_addresses};
use crate::policy::condition::{Condition, TypeSet};
use crate::policy::effect::Tier;
use crate::policy::prefix::{AddressOf, Prefix};
use crate::policy::record::LocalRecord;
use crate::policy::rule::{Action, Scope};
use crate::wire::name::Name;
use crate::wire::rtype;

/// The part of a rule before its modifiers, with `@@` if it allows names.
type Start = (&'static str, String);

/// Appends the lines of a rule.
pub(super) fn write(rule: &Rule<'_>, text: &mut String) -> Result<(), Reason> {
    let meaning = rule.meaning;
    let mask = mask(rule)?;
    let conditions = conditions(meaning.condition.as_deref())?;
    match (&meaning.does, meaning.tier) {
        (Does::AsList, Tier::Usual) if rule.list.allows => {
            line(("@@", mask), &conditions, text);
        }
        (_, Tier::Usual) if meaning.is_as_list(rule.list) => line(("", mask), &conditions, text),
        (Does::AsList, Tier::Important) => line(("", mask), &important(conditions), text),
        (Does::Allow, Tier::First) => line(("@@", mask), &conditions, text),
        (Does::Allow, Tier::ImportantFirst) => line(("@@", mask), &important(conditions), text),
        (Does::AsList | Does::Allow, _) => return Err(Reason::Precedence),
        (Does::Records(records), Tier::Usual) => hosts(rule, records, text)?,
        (_, Tier::Rewrite) => {
            for answer in answers(rule)? {
                let answer = answer.replace(',', r"\,");
                let mut modifiers = conditions.clone();
                modifiers.push(format!("dnsrewrite={answer}"));
                line(("", mask.clone()), &modifiers, text);
            }
        }
        _ => return Err(Reason::Answer),
    }
    Ok(())
}

/// The pattern of a rule.
fn mask(rule: &Rule<'_>) -> Result<String, Reason> {
    let mut mask = match rule.trigger {
        Trigger::Pattern(pattern) => return Ok(format!("/{pattern}/")),
        Trigger::Name(name, Scope::Subtree) if name.label_count() == 0 => {
            return Ok("*".to_owned());
        }
        Trigger::Network(prefix) => {
            let address = only_address(&prefix).ok_or(Reason::Network)?;
            return Ok(format!("||{address}^"));
        }
        Trigger::Name(_, Scope::Exact) => "|".to_owned(),
        Trigger::Name(_, Scope::Subtree) => "||".to_owned(),
        Trigger::Name(_, Scope::Below) => "*.".to_owned(),
    };
    let (name, _) = rule.name()?;
    push_name(name, &mut mask)?;
    mask.push('^');
    Ok(mask)
}

/// The address of a rule on answers, which has no networks of several addresses.
fn only_address(prefix: &Prefix) -> Option<IpAddr> {
    let network = prefix.network();
    let is_one = network.prefix_len() == network.max_prefix_len();
    (prefix.of == AddressOf::Answer && is_one).then(|| network.addr())
}

fn push_name(name: &Name, text: &mut String) -> Result<(), Reason> {
    if !name.is_plain() {
        return Err(Reason::Name);
    }
    push_plain(name, text);
    Ok(())
}

/// The modifiers of a condition.
fn conditions(condition: Option<&Condition>) -> Result<Vec<String>, Reason> {
    let mut modifiers = Vec::new();
    let Some(condition) = condition else {
        return Ok(modifiers);
    };
    if let Some(types) = condition.types() {
        let prefix = match types {
            TypeSet::Only(_) => "",
            TypeSet::AllBut(_) => "~",
        };
        let types = types.types().iter();
        let types = types.map(|rtype| format!("{prefix}{}", Rtype::from_int(*rtype)));
        modifiers.push(format!("dnstype={}", types.collect::<Vec<_>>().join("|")));
    }
    if !condition.except().is_empty() {
        let mut names = "denyallow=".to_owned();
        for (place, name) in condition.except().iter().enumerate() {
            if place > 0 {
                names.push('|');
            }
            push_name(name, &mut names)?;
        }
        modifiers.push(names);
    }
    Ok(modifiers)
}

fn important(mut modifiers: Vec<String>) -> Vec<String> {
    modifiers.push("important".to_owned());
    modifiers
}

fn line((sign, mask): Start, modifiers: &[String], text: &mut String) {
    let separator = if modifiers.is_empty() { "" } else { "$" };
    let _ = writeln!(text, "{sign}{mask}{separator}{}", modifiers.join(","));
}

/// A name with addresses, as in a file of hosts.
fn hosts(rule: &Rule<'_>, records: &[LocalRecord], text: &mut String) -> Result<(), Reason> {
    let (name, Scope::Exact) = rule.name()? else {
        return Err(Reason::Answer);
    };
    rule.is_usual()?;
    are_addresses(records)?;
    for record in records {
        let _ = write!(text, "{} ", record.rdata());
        push_name(name, text)?;
        text.push('\n');
    }
    Ok(())
}

/// The values of `$dnsrewrite`, one for each line.
fn answers(rule: &Rule<'_>) -> Result<Vec<String>, Reason> {
    let of_code = |code: &str| Ok(vec![code.to_owned()]);
    match &rule.meaning.does {
        Does::Block(Action::Nodata) => of_code("NOERROR"),
        Does::Block(Action::Nxdomain) => of_code("NXDOMAIN"),
        Does::Block(Action::Refused) => of_code("REFUSED"),
        Does::Alias(target) => {
            let mut value = "NOERROR;CNAME;".to_owned();
            push_name(target, &mut value)?;
            Ok(vec![value])
        }
        Does::Records(records) if !records.is_empty() => records.iter().map(record_value).collect(),
        _ => Err(Reason::Answer),
    }
}

fn record_value(record: &LocalRecord) -> Result<String, Reason> {
    let value = |data: &dyn Display| {
        let rtype = Rtype::from_int(record.rtype);
        format!("NOERROR;{rtype};{data}")
    };
    match record.rtype {
        rtype::TXT => Ok(value(&strings(&record.data).ok_or(Reason::Answer)?)),
        // Types that can't be rewritten show when the line is read again.
        _ => Ok(value(&record.rdata())),
    }
}

/// The text of a TXT record, without the limits of its character strings.
fn strings(data: &[u8]) -> Option<String> {
    let mut text = Vec::with_capacity(data.len());
    let mut rest = data;
    while let Some((size, tail)) = rest.split_first() {
        let (string, tail) = tail.split_at_checked(usize::from(*size))?;
        text.extend(string);
        rest = tail;
    }
    // A line break would end the rule.
    let text = String::from_utf8(text).ok()?;
    (!text.contains(['\n', '\r'])).then_some(text)
}
