//! The names of a draft: local records, forwarded zones, and names that are blocked. Configurations may have hundreds of
//! thousands of them, so each is found by its name.

use std::collections::HashSet;
use std::net::IpAddr;

use super::draft::{Draft, SourceLine};
use super::draft_parts::{ForwardDraft, LocalDraft};
use super::servers::reverse_name;
use crate::names::typed;
use crate::wire::name::Name;

impl Draft {
    /// Adds a record of a local name. `*.x` is a wildcard. Values that are names must be valid.
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
        let owner = match typed::one(bare) {
            Ok((owner, None)) if owner.label_count() > 0 => owner,
            Ok(_) => return self.leave(line, name, "not the name of records"),
            Err(error) => return self.leave(line, name, error.to_string()),
        };
        let value = value.into();
        let at = self.index.locals.get(&(owner.clone(), is_wildcard));
        let at = at.cloned().unwrap_or_default();
        let contradicts = at.iter().any(|at| {
            let mut keys = self.locals[*at].records.iter();
            keys.any(|(other, text)| {
                (*other == "cname") != (key == "cname") || *other == "cname" && *text != value
            })
        });
        if contradicts {
            let reason = "the name has a CNAME record and other records: remove one of them";
            return self.leave(line, format!("{key} of {name}"), reason);
        }
        let same = |at: &&usize| self.locals[**at].ttl_secs == ttl_secs;
        match at.iter().find(same).map(|at| &mut self.locals[*at]) {
            Some(known) if known.records.contains(&(key, value.clone())) => {}
            Some(known) => known.records.push((key, value)),
            None => {
                let sections = self.index.locals.entry((owner.clone(), is_wildcard));
                sections.or_default().push(self.locals.len());
                self.locals.push(LocalDraft {
                    name: owner,
                    ttl_secs,
                    is_wildcard,
                    records: vec![(key, value)],
                    line: line.clone(),
                });
            }
        }
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
            let reason = "none of its servers carries over, so its names are sent to the servers of [upstream]: name plain servers for it \
                          in a [[forward]] section";
            self.leave(&line, format!("zone {zone}"), reason);
        }
    }

    /// Notes that a name is blocked with all names below.
    pub(super) fn block(&mut self, name: &Name) {
        self.blocked.insert(name.wire().to_vec());
    }

    /// Whether a name, or one above it, is blocked by [`block`](Self::block).
    pub(super) fn is_below_block(&self, name: &Name) -> bool {
        (1..=name.label_count()).any(|labels| self.blocked.contains(name.ancestor(labels)))
    }
}

/// The name of a zone without the marks for its subtree.
fn zone_text(zone: &str) -> &str {
    zone.trim_start_matches("*.").trim_start_matches('.')
}
