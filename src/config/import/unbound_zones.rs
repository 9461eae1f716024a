//! Unbound's `local-zone` and `local-data`: records of single names become `[[local]]` sections, and zones that block become
//! a list in Unbound's format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use super::draft::{Draft, SourceLine};
use super::reverse::reverse_name;
use crate::names::typed;
use crate::policy::local::special_use::{is_below_special_use, is_special_use};
use crate::wire::name::Name;

/// The TTL of records that have none.
const TTL_SECS: u32 = 3600;

/// The zones and records of a configuration.
#[derive(Default)]
pub(super) struct LocalZones {
    /// The zones by their names in wire form, with the type.
    zones: BTreeMap<Vec<u8>, (Name, String)>,
    first: Option<SourceLine>,
    records: Vec<Record>,
}

struct Record {
    owner: Name,
    ttl_secs: u32,
    rtype: String,
    data: String,
    line: SourceLine,
}

/// How a zone treats names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ZoneKind {
    /// Names without records are resolved.
    Open,
    /// Like `Open`, and other types of names with records are resolved, too.
    OpenTypes,
    /// Names without records are blocked.
    Closed,
    /// All names are blocked, whatever records there are.
    Always,
    /// All names are answered with the records of the zone's name.
    Redirect,
}

fn kind(text: &str) -> Option<ZoneKind> {
    Some(match text {
        "transparent" | "inform" | "nodefault" => ZoneKind::Open,
        "typetransparent" => ZoneKind::OpenTypes,
        "static" | "refuse" | "deny" | "inform_deny" => ZoneKind::Closed,
        "always_null" | "always_nxdomain" | "always_nodata" | "always_refuse" | "always_deny" => {
            ZoneKind::Always
        }
        "always_transparent" | "block_a" => {
            return (text == "always_transparent").then_some(ZoneKind::Open);
        }
        "redirect" | "inform_redirect" => ZoneKind::Redirect,
        _ => return None,
    })
}

/// Lets the names of a zone go to the general servers, if this server, like Unbound, answers it, or a zone above it,
/// itself.
fn unblock(zone: &Name, line: &SourceLine, draft: &mut Draft) {
    if is_special_use(zone) {
        draft.push("special-use", "forward", zone.to_string(), line);
    } else if is_below_special_use(zone) {
        // A part of such a zone is no zone of its own that could be removed.
        draft.forward_generally(zone, true, line);
    }
}

impl LocalZones {
    /// Adds a `local-zone` with its name and type.
    pub(super) fn zone(&mut self, values: &[String], line: &SourceLine, draft: &mut Draft) {
        let [name, kind_text, ..] = values else {
            return draft.leave(line, "local-zone", "must have a name and a type");
        };
        let shown = format!("local-zone: {name} {kind_text}");
        let Some(kind) = kind(kind_text) else {
            return draft.leave(line, shown, "not a type of zones that Tapis knows");
        };
        match typed::one(name) {
            Ok((zone, None)) if zone.label_count() > 0 => {
                if matches!(kind, ZoneKind::Open | ZoneKind::OpenTypes) {
                    unblock(&zone, line, draft);
                }
                if !matches!(kind, ZoneKind::Open | ZoneKind::OpenTypes) {
                    self.first.get_or_insert_with(|| line.clone());
                }
                self.zones
                    .insert(zone.wire().to_vec(), (zone, kind_text.clone()));
            }
            Ok(_) => draft.leave(line, shown, "a rule on all names is not possible in a list"),
            Err(error) => draft.leave(line, shown, error.to_string()),
        }
    }

    /// Adds a `local-data`: `name [TTL] [class] type data`.
    pub(super) fn data(&mut self, text: &str, line: &SourceLine, draft: &mut Draft) {
        let mut words = text.split_whitespace().peekable();
        let owner = words.next().map(typed::one);
        let ttl_secs = words.next_if(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
        words.next_if(|word| word.eq_ignore_ascii_case("IN"));
        let rtype = words.next();
        let (Some(Ok((owner, None))), Some(rtype)) = (owner, rtype) else {
            return draft.leave(
                line,
                format!("local-data: {text}"),
                "not a record of a name",
            );
        };
        // Data may have spaces in quotes, which must stay.
        let data = after_word(text, rtype);
        self.records.push(Record {
            owner,
            ttl_secs: ttl_secs
                .and_then(|secs| secs.parse().ok())
                .unwrap_or(TTL_SECS),
            rtype: rtype.to_ascii_uppercase(),
            data: data.to_owned(),
            line: line.clone(),
        });
    }

    /// Adds a `local-data-ptr`: `address [TTL] name`.
    pub(super) fn pointer(&mut self, text: &str, line: &SourceLine, draft: &mut Draft) {
        let words: Vec<_> = text.split_whitespace().collect();
        let address = words.first().and_then(|word| word.parse::<IpAddr>().ok());
        let (Some(address), [_, between @ .., target]) = (address, &words[..]) else {
            return draft.leave(
                line,
                format!("local-data-ptr: {text}"),
                "not an address and a name",
            );
        };
        let ttl = between.first().unwrap_or(&"");
        self.data(
            &format!("{} {ttl} PTR {target}", reverse_name(address)),
            line,
            draft,
        );
    }

    /// Adds the sections and the list to the draft.
    pub(super) fn finish(self, draft: &mut Draft) {
        let has_blocks = self.first.is_some();
        let mut list = "server:\n".to_owned();
        if has_blocks {
            for (name, text) in self.zones.values() {
                // Writing to memory does not fail.
                let _ = writeln!(list, "  local-zone: \"{name}.\" {text}");
                if kind(text) == Some(ZoneKind::Closed) {
                    draft.block(name);
                }
            }
        }
        for record in &self.records {
            match self.kind_of(&record.owner) {
                // These zones ignore records.
                ZoneKind::Always => {}
                ZoneKind::Redirect => {
                    let Record {
                        owner,
                        ttl_secs,
                        rtype,
                        data,
                        ..
                    } = record;
                    let _ = writeln!(list, "  local-data: '{owner}. {ttl_secs} {rtype} {data}'");
                }
                kind => {
                    if kind == ZoneKind::OpenTypes {
                        let reason =
                            "names with records of their own have no records of other types";
                        draft.leave(
                            &record.line,
                            format!("local-data in a typetransparent zone: {}", record.owner),
                            reason,
                        );
                    }
                    add(record, draft);
                }
            }
        }
        if let Some(line) = self.first {
            let keys = vec![("format", "unbound".into()), ("guards", "warn".into())];
            draft.file_list(
                "unbound-zones",
                ("unbound-zones.conf".to_owned(), list),
                keys,
                &line,
            );
        }
    }

    /// The kind of the innermost zone of a name. Without one, it is as in a transparent zone.
    fn kind_of(&self, name: &Name) -> ZoneKind {
        let labels = (1..=name.label_count()).rev();
        let mut zones = labels.filter_map(|labels| self.zones.get(name.ancestor(labels)));
        zones
            .next()
            .and_then(|(_, text)| kind(text))
            .unwrap_or(ZoneKind::Open)
    }
}

/// Adds a record as a `[[local]]` section.
fn add(record: &Record, draft: &mut Draft) {
    let Record {
        owner,
        ttl_secs,
        rtype,
        data,
        line,
    } = record;
    let owner = owner.to_string();
    let key = match rtype.as_str() {
        "A" => "a",
        "AAAA" => "aaaa",
        "CNAME" => "cname",
        "PTR" => "ptr",
        "MX" => "mx",
        "SRV" => "srv",
        "TXT" => "txt",
        _ => {
            let reason = "[[local]] has no records of this type: use a zone file";
            return draft.leave(line, format!("local-data: {owner} {rtype}"), reason);
        }
    };
    let value = match key {
        "txt" => match text(data) {
            Some(text) => text,
            None => {
                let reason = "a text record of several strings has no counterpart in [[local]]: use a zone file";
                return draft.leave(line, format!("local-data: {owner} TXT"), reason);
            }
        },
        _ => data
            .trim_end_matches(if matches!(key, "cname" | "ptr") {
                '.'
            } else {
                ' '
            })
            .to_owned(),
    };
    draft.record(&owner, key, value, Some(*ttl_secs), line);
}

/// The string of a TXT record that has only one.
fn text(data: &str) -> Option<String> {
    match data.strip_prefix('"') {
        Some(inner) => inner
            .strip_suffix('"')
            .filter(|inner| !inner.contains('"'))
            .map(str::to_owned),
        None => (!data.contains(char::is_whitespace)).then(|| data.to_owned()),
    }
}

/// The text behind a word, without the whitespace between.
fn after_word<'t>(text: &'t str, word: &str) -> &'t str {
    let start = word.as_ptr() as usize - text.as_ptr() as usize;
    text[start + word.len()..].trim()
}
