//! The sections `[[local]]`: records of single names, and whole zones, that are answered locally.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use super::findings::{Findings, quote};
use super::local_record::{self, RECORDS, Values};
use super::reader::{At, Reader};
use super::values::{file, number, zone};
use crate::names::typed;
use crate::policy::record::{self, LocalRecord, RecordError};
use crate::policy::rule::Scope;
use crate::wire::name::Name;
use crate::wire::rtype;

/// The TTL of records if a section sets none, in seconds: a change is felt within minutes.
const TTL_SECS: u32 = 300;
/// The longest TTL of records, a week.
pub(super) const TTL_MAX_SECS: u32 = 7 * 24 * 60 * 60;

/// A section `[[local]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSection {
    /// Its first line.
    pub line: u32,
    /// What it answers.
    pub content: LocalContent,
}

/// What a section `[[local]]` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalContent {
    /// These records; at least one.
    Records(Vec<OwnedRecord>),
    /// A zone. No two sections have the same, and none is inside another one.
    Zone {
        /// Its name.
        zone: Box<Name>,
        /// Its master file.
        file: PathBuf,
    },
}

/// A record with its owner. An owner that begins with `*` is a wildcard (RFC 4592).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The owner.
    pub owner: Name,
    /// The record. Its TTL is set.
    pub record: LocalRecord,
}

impl LocalSection {
    /// The name of its zone, if it has one.
    pub fn zone(&self) -> Option<&Name> {
        match &self.content {
            LocalContent::Zone { zone, .. } => Some(zone),
            LocalContent::Records(_) => None,
        }
    }
}

/// A section `[[local]]`, before validation.
pub(super) struct Raw {
    line: u32,
    name: Option<At<String>>,
    records: Vec<(u16, Values)>,
    ttl_secs: Option<At<i64>>,
    reverse: Option<At<bool>>,
    zone: Option<At<String>>,
    file: Option<At<String>>,
}

impl Raw {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        let records = RECORDS.iter().filter_map(|&(key, rtype)| {
            let values = table.word_or_strings(key)?;
            Some((rtype, values))
        });
        let records = records.collect();
        Self {
            line: table.line(),
            records,
            name: table.string("name"),
            ttl_secs: table.integer("ttl-secs"),
            reverse: table.boolean("reverse"),
            zone: table.string("zone"),
            file: table.string("file"),
        }
    }
}

/// Validates the sections. Invalid ones are left out.
pub(super) fn validate(raw: Vec<Raw>, findings: &mut Findings) -> Vec<LocalSection> {
    let sections = raw.into_iter().filter_map(|raw| section(raw, findings));
    let sections: Vec<_> = sections.collect();
    report_zones(&sections, findings);
    report_contradictions(&sections, findings);
    sections
}

fn section(raw: Raw, findings: &mut Findings) -> Option<LocalSection> {
    let line = raw.line;
    let content = match (&raw.name, &raw.zone) {
        (Some(_), None) => named(raw, findings),
        (None, Some(_)) => zone_section(raw, findings),
        (None, None) => {
            let message = "[[local]] has neither `name` nor `zone`: add name = \"...\" and its records, or zone = \"...\" \
                           and file = \"...\"";
            findings.report(line, message.to_owned());
            None
        }
        (Some(name), Some(_)) => {
            let message = "[[local]] has both `name` and `zone`: write a section for each";
            findings.report(name.line, message.to_owned());
            None
        }
    };
    let content = content?;
    Some(LocalSection { line, content })
}

fn zone_section(raw: Raw, findings: &mut Findings) -> Option<LocalContent> {
    let name_only = raw
        .records
        .iter()
        .map(|(_, values)| (values.key, values.line));
    let ttl_secs = raw.ttl_secs.iter().map(|at| (at.key, at.line));
    let reverse = raw.reverse.iter().map(|at| (at.key, at.line));
    for (key, line) in name_only.chain(ttl_secs).chain(reverse) {
        let message =
            format!("{key} is for a section with a `name`: write it into the zone's file");
        findings.report(line, message);
    }
    if raw.file.is_none() {
        let message = "[[local]] has a `zone` and no `file`: add file = \"...\"";
        findings.report(raw.line, message.to_owned());
    }
    let zone = apex(raw.zone?, findings);
    let file = file(raw.file, findings);
    Some(LocalContent::Zone {
        zone: Box::new(zone?),
        file: file?,
    })
}

/// The name of a zone; not the root.
pub(super) fn apex(given: At<String>, findings: &mut Findings) -> Option<Name> {
    let At { key, line, value } = given;
    let refusal = match zone(&value) {
        _ if typed::is_address(value.as_bytes()) => "an address, not a zone".to_owned(),
        Ok(name) if name.label_count() > 0 => return Some(name),
        Ok(_) => "the root, which is above every name: name a zone; [upstream] servers answer for all names".to_owned(),
        Err(why) => why,
    };
    findings.report(line, format!("{key} is {}, {refusal}", quote(&value)));
    None
}

fn named(raw: Raw, findings: &mut Findings) -> Option<LocalContent> {
    if let Some(file) = &raw.file {
        let message = "file is for a section with a `zone`: remove it, or name the zone".to_owned();
        findings.report(file.line, message);
    }
    if raw.records.is_empty() {
        let keys: Vec<_> = RECORDS.iter().map(|(key, _)| *key).collect();
        let message = format!(
            "[[local]] has no records: add one of {}, as in a = \"192.0.2.1\"",
            keys.join(", ")
        );
        findings.report(raw.line, message);
    }
    let ttl_secs = number(raw.ttl_secs, 0..=TTL_MAX_SECS, findings).unwrap_or(TTL_SECS);
    let mut records = Vec::new();
    for (rtype, values) in raw.records {
        records.extend(local_record::records(rtype, values, ttl_secs, findings));
    }
    let owner = owner(raw.name, findings)?;
    if let Err(error) = record::check(&records) {
        let problem = match error {
            RecordError::CnameWithOthers => {
                "a cname and other records, or two of them, but a name with a CNAME record has no other data: remove the cname or \
                 the others".to_owned()
            }
            other => other.to_string(),
        };
        findings.report(raw.line, format!("[[local]] of {owner} has {problem}"));
        return None;
    }
    let reverse = raw.reverse.filter(|at| at.value);
    let pointers = reverse.and_then(|reverse| pointers(&owner, &records, &reverse, findings));
    let owned = records.into_iter().map(|record| OwnedRecord {
        owner: owner.clone(),
        record,
    });
    let records: Vec<_> = owned.chain(pointers.into_iter().flatten()).collect();
    (!records.is_empty()).then_some(LocalContent::Records(records))
}

/// The owner of a section's records. Only its first label may be `*`.
fn owner(given: Option<At<String>>, findings: &mut Findings) -> Option<Name> {
    let At { key, line, value } = given?;
    let parsed = parse_owner(&value);
    parsed
        .map_err(|refusal| {
            findings.report(line, format!("{key} is {}, {refusal}", quote(&value)));
        })
        .ok()
}

/// The owner of records, from its text.
///
/// # Errors
/// Why it is not one.
pub(super) fn parse_owner(text: &str) -> Result<Name, String> {
    match typed::one(text) {
        Ok((name, _)) if name.label_count() == 0 => Err("the root: write another name".to_owned()),
        Ok((name, None)) => Ok(name),
        Ok((below, Some(Scope::Below))) => {
            let wire = [b"\x01*", below.wire()].concat();
            let parsed = Name::parse(&wire, 0).map_err(|error| error.to_string());
            Ok(parsed?.0)
        }
        Ok((_, Some(_))) => Err(
            "a name with a scope: write the name alone, or a wildcard as in \"*.x.example\""
                .to_owned(),
        ),
        Err(why) => Err(why.to_string()),
    }
}

/// The PTR records of a name's addresses.
fn pointers(
    owner: &Name,
    records: &[LocalRecord],
    reverse: &At<bool>,
    findings: &mut Findings,
) -> Option<Vec<OwnedRecord>> {
    if owner.wire().starts_with(b"\x01*") {
        let message = "reverse is true, but a wildcard is the name of no address: remove it";
        findings.report(reverse.line, message.to_owned());
        return None;
    }
    let pointers = records.iter().filter_map(|record| {
        Some(OwnedRecord {
            owner: reverse_name(address(record)?),
            record: LocalRecord {
                rtype: rtype::PTR,
                ttl_secs: record.ttl_secs,
                data: owner.wire().into(),
            },
        })
    });
    let pointers: Vec<_> = pointers.collect();
    if pointers.is_empty() {
        let message =
            "reverse is true, but the section has no addresses: add `a` or `aaaa`, or remove it";
        findings.report(reverse.line, message.to_owned());
    }
    Some(pointers)
}

fn address(record: &LocalRecord) -> Option<IpAddr> {
    match record.rtype {
        rtype::A => <[u8; 4]>::try_from(&*record.data).ok().map(IpAddr::from),
        rtype::AAAA => <[u8; 16]>::try_from(&*record.data).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The name under which the PTR records of an address are (RFC 1035, section 3.5; RFC 3596, section 2.5).
fn reverse_name(address: IpAddr) -> Name {
    let text = match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let digits = v6.octets().into_iter().rev();
            let digits = digits.map(|byte| format!("{:x}.{:x}.", byte & 0xF, byte >> 4));
            digits.collect::<String>() + "ip6.arpa"
        }
    };
    Name::from_text(&text).expect("the text above is a name")
}

/// Whether a name is a zone's name, or below it.
pub(super) fn is_within(name: &Name, zone: &Name) -> bool {
    let labels = zone.label_count();
    labels <= name.label_count() && name.ancestor(labels) == zone.wire()
}

/// Reports zones inside each other, and names inside zones.
fn report_zones(sections: &[LocalSection], findings: &mut Findings) {
    for (place, section) in sections.iter().enumerate() {
        let Some(outer) = section.zone() else {
            continue;
        };
        let line = section.line;
        for (other_place, other) in sections.iter().enumerate() {
            match &other.content {
                LocalContent::Zone { zone, .. } if **zone == *outer && place < other_place => {
                    let message = format!(
                        "zone {zone} is also that of the section on line {line}: remove one"
                    );
                    findings.report(other.line, message);
                }
                LocalContent::Zone { zone, .. } if **zone != *outer && is_within(zone, outer) => {
                    let message = format!(
                        "zone {zone} is inside zone {outer} of line {line}: write its records into the file of {outer}"
                    );
                    findings.report(other.line, message);
                }
                LocalContent::Records(records) => {
                    let inside = records.iter().find(|owned| is_within(&owned.owner, outer));
                    let Some(OwnedRecord { owner, .. }) = inside else {
                        continue;
                    };
                    let message = format!(
                        "{owner} is inside zone {outer} of line {line}: write its records into the file of {outer}"
                    );
                    findings.report(other.line, message);
                }
                LocalContent::Zone { .. } => {}
            }
        }
    }
}

/// Reports owners whose sections together have a CNAME record and other records, or more records than an answer has room for.
fn report_contradictions(sections: &[LocalSection], findings: &mut Findings) {
    let mut owners: HashMap<&Name, (u32, Vec<LocalRecord>)> = HashMap::new();
    for section in sections {
        let LocalContent::Records(records) = &section.content else {
            continue;
        };
        for OwnedRecord { owner, record } in records {
            let (line, known) = owners
                .entry(owner)
                .or_insert_with(|| (section.line, Vec::new()));
            let is_same =
                |other: &LocalRecord| (other.rtype, &other.data) == (record.rtype, &record.data);
            if known.iter().any(is_same) {
                continue;
            }
            known.push(record.clone());
            let problem = match record::check(known) {
                Ok(()) => continue,
                Err(RecordError::CnameWithOthers) => {
                    "a name with a CNAME record has no other data: remove one of the two".to_owned()
                }
                Err(other) => other.to_string(),
            };
            known.pop();
            let message =
                format!("{owner} also has records by the section on line {line}: {problem}");
            findings.report(section.line, message);
        }
    }
}
