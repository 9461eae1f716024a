//! The names of a draft: local records, forwarded zones, and names that are blocked. Configurations may have hundreds of
//! thousands of them, so each is found by its name.

use std::collections::HashSet;
use std::net::IpAddr;

use toml_edit::Value;

use super::super::findings::quote;
use super::super::local::{TTL_MAX_SECS, parse_owner};
use super::super::local_record::{self, RECORDS};
use super::draft::{Draft, SourceLine};
use super::draft_parts::{ForwardDraft, GeneralZone, LocalDraft, RecordDraft, written};
use super::reverse::reverse_name;
use crate::names::typed;
use crate::policy::record::{self, LocalRecord, RecordError};
use crate::wire::name::Name;

impl Draft {
    /// Adds a record of a local name, unless `[[local]]` can't have it. `*.x` is a wildcard.
    pub(super) fn record(
        &mut self,
        name: &str,
        key: &'static str,
        value: impl Into<String>,
        ttl_secs: Option<u32>,
        line: &SourceLine,
    ) {
        let (bare, is_wildcard) = match name.strip_prefix("*.") {
            Some(bare) => (bare, true),
            None => (name, false),
        };
        let bare = match typed::one(bare) {
            Ok((bare, None)) if bare.label_count() > 0 => bare,
            Ok(_) => return self.leave(line, name, "not the name of records"),
            Err(error) => return self.leave(line, name, error.to_string()),
        };
        let owner = match parse_owner(&written(&bare, is_wildcard)) {
            Ok(owner) => owner,
            Err(why) => return self.leave(line, name, why),
        };
        let text = value.into();
        let record = match parse_record(key, &text) {
            Ok(record) => record,
            Err(why) => return self.leave(line, format!("{key} of {name}"), why),
        };
        let at = self.index.locals.get(&owner).cloned();
        let at = at.unwrap_or_default();
        let known = at.iter().flat_map(|at| &self.locals[*at].records);
        let mut all: Vec<_> = known.map(|known| known.record.clone()).collect();
        if all.contains(&record) {
            return;
        }
        all.push(record.clone());
        if let Err(error) = record::check(&all) {
            let reason = match error {
                RecordError::CnameWithOthers => {
                    "the name has a CNAME record and other records: remove one of them".to_owned()
                }
                other => other.to_string(),
            };
            return self.leave(line, format!("{key} of {name}"), reason);
        }
        let record = RecordDraft { key, text, record };
        let ttl_secs = ttl_secs.map(|secs| self.ttl(secs, line));
        let same = |at: &&usize| self.locals[**at].ttl_secs == ttl_secs;
        if let Some(at) = at.iter().find(same) {
            return self.locals[*at].records.push(record);
        }
        let sections = self.index.locals.entry(owner);
        sections.or_default().push(self.locals.len());
        self.locals.push(LocalDraft {
            name: bare,
            ttl_secs,
            is_wildcard,
            records: vec![record],
            line: line.clone(),
        });
    }

    /// A TTL that `[[local]]` can have. Each one that is too long is reported once: a file may set it for all its names.
    fn ttl(&mut self, secs: u32, line: &SourceLine) -> u32 {
        if secs > TTL_MAX_SECS && self.index.long_ttls.insert(secs) {
            let reason = format!(
                "ttl-secs of local names must be 0 to {TTL_MAX_SECS}: {TTL_MAX_SECS} is used for all with this TTL"
            );
            self.leave(line, format!("TTL {secs}"), reason);
        }
        secs.min(TTL_MAX_SECS)
    }

    /// Adds an address record.
    pub(super) fn address(
        &mut self,
        name: &str,
        address: IpAddr,
        ttl_secs: Option<u32>,
        line: &SourceLine,
    ) {
        let key = if address.is_ipv4() { "a" } else { "aaaa" };
        self.record(name, key, address.to_string(), ttl_secs, line);
    }

    /// Adds the PTR record of an address, unless it has one: in hosts files, the first name of an address counts.
    pub(super) fn pointer(
        &mut self,
        address: IpAddr,
        target: &str,
        ttl_secs: Option<u32>,
        line: &SourceLine,
    ) {
        if self.index.pointers.insert(address) {
            self.record(&reverse_name(address), "ptr", target, ttl_secs, line);
        }
    }

    /// Forwards a zone to a server.
    pub(super) fn forward(&mut self, zone: &str, server: &str, line: &SourceLine) {
        let bare = zone_text(zone);
        if bare.is_empty() {
            return self.push("upstream", "servers", server, line);
        }
        let zone = match typed::one(bare) {
            Ok((name, _)) => name,
            Err(error) => {
                return self.leave(line, format!("forwarding of {zone}"), error.to_string());
            }
        };
        if let Some(at) = self.index.forwards.get(&zone) {
            let servers = &mut self.forwards[*at].servers;
            if !servers.iter().any(|known| known == server) {
                servers.push(server.to_owned());
            }
            return;
        }
        self.index
            .forwards
            .insert(zone.clone(), self.forwards.len());
        self.forwards.push(ForwardDraft {
            zone,
            servers: vec![server.to_owned()],
            line: line.clone(),
        });
    }

    /// Sends the names of a zone to the general servers, although a zone above it is forwarded to others, or, with `always`,
    /// answered by this server itself.
    pub(super) fn forward_generally(&mut self, zone: &Name, always: bool, line: &SourceLine) {
        let (zone, line) = (zone.clone(), line.clone());
        self.index.general.push(GeneralZone { zone, always, line });
    }

    /// Writes a section for each zone that goes to the general servers, if it needs one.
    pub(super) fn resolve_general_zones(&mut self) {
        let servers = self.setting("upstream", "servers");
        let servers = servers.and_then(|setting| setting.value.as_array());
        let servers = servers.into_iter().flatten().filter_map(Value::as_str);
        let servers: Vec<_> = servers.map(str::to_owned).collect();
        for GeneralZone { zone, always, line } in std::mem::take(&mut self.index.general) {
            let outer = self.forwarded_above(&zone);
            if self.index.forwards.contains_key(&zone) || outer.is_none() && !always {
                continue;
            }
            if servers.is_empty() {
                let goes = outer.map_or("is answered locally".to_owned(), |outer| {
                    format!("goes to those of zone {outer}")
                });
                let reason = format!(
                    "it goes to the general servers, which the configuration does not name, so that it {goes}: name them in a \
                     [[forward]] section for this zone"
                );
                self.leave(&line, format!("zone {zone}"), reason);
                continue;
            }
            for server in &servers {
                self.forward(&zone.to_string(), server, &line);
            }
        }
    }

    /// The innermost forwarded zone above a name.
    fn forwarded_above(&self, name: &Name) -> Option<&Name> {
        let above = (1..name.label_count()).rev();
        let mut above = above.filter_map(|labels| Name::parse(name.ancestor(labels), 0).ok());
        above.find_map(|(above, _)| {
            self.index
                .forwards
                .get_key_value(&above)
                .map(|(zone, _)| zone)
        })
    }

    /// Reports a setting of a forwarded zone, such as one of its servers, that does not carry over. If no server of the
    /// zone does, [`report_lost_zones`](Self::report_lost_zones) reports the zone as well.
    pub(super) fn leave_of_zone(
        &mut self,
        zone: &str,
        line: &SourceLine,
        setting: impl Into<String>,
        reason: impl Into<String>,
    ) {
        self.leave(line, setting, reason);
        self.note_zone(zone, line);
    }

    /// Notes that a zone has servers of its own, of which none may carry over.
    pub(super) fn note_zone(&mut self, zone: &str, line: &SourceLine) {
        if let Ok((name, _)) = typed::one(zone_text(zone))
            && name.label_count() > 0
        {
            self.index.lost.push((name, line.clone()));
        }
    }

    /// Reports each zone whose names would go to the general servers because none of its own carries over.
    pub(super) fn report_lost_zones(&mut self) {
        let mut reported = HashSet::new();
        for (zone, line) in std::mem::take(&mut self.index.lost) {
            if self.index.forwards.contains_key(&zone) || !reported.insert(zone.clone()) {
                continue;
            }
            let to = self.forwarded_above(&zone);
            let to = to.map_or("[upstream]".to_owned(), |outer| format!("zone {outer}"));
            let reason = format!(
                "none of its servers carries over, so its names are sent to the servers of {to}: name plain servers for it in a \
                 [[forward]] section"
            );
            self.leave(&line, format!("zone {zone}"), reason);
        }
    }

    /// Notes that a name is blocked with all names below.
    pub(super) fn block(&mut self, name: &Name) {
        self.blocked.insert(name.wire().to_vec());
    }

    /// Whether a name is blocked by the program's own rules.
    pub(super) fn is_below_block(&self, name: &Name) -> bool {
        let text = name.to_string();
        self.blocked_ends.iter().any(|end| text.ends_with(end))
            || (1..=name.label_count()).any(|labels| self.blocked.contains(name.ancestor(labels)))
    }
}

/// A record, without its TTL.
///
/// # Errors
/// Why `[[local]]` can't have it.
fn parse_record(key: &str, text: &str) -> Result<LocalRecord, String> {
    let (_, rtype) = RECORDS
        .iter()
        .find(|(known, _)| *known == key)
        .ok_or("not a type of records that [[local]] has")?;
    let data = local_record::data(*rtype, text);
    let data = data.map_err(|refusal| format!("{} is the value, {refusal}", quote(text)))?;
    Ok(LocalRecord {
        rtype: *rtype,
        ttl_secs: None,
        data: data.into(),
    })
}

/// The name of a zone without the marks for its subtree.
fn zone_text(zone: &str) -> &str {
    zone.trim_start_matches("*.").trim_start_matches('.')
}
