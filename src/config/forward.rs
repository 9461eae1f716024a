//! The sections `[[forward]]`: zones whose names are asked of other servers than those of `[upstream]`.

use std::collections::HashMap;
use std::time::Duration;

use super::findings::{Findings, quote};
use super::local::{LocalSection, apex};
use super::reader::{At, Reader, WordOrStrings};
use super::selection::{self, Strategy};
use super::upstream::{self, RawServers, UpstreamServer};
use crate::wire::name::Name;

/// A section `[[forward]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Its first line.
    pub line: u32,
    /// The zones: at least one.
    pub zones: Vec<Name>,
    /// Their servers: at least one, no duplicates.
    pub servers: Vec<UpstreamServer>,
    /// How long all attempts for a query may take; `None` means as long as those to `[upstream]`.
    pub timeout: Option<Duration>,
    /// The order of the servers; `None` means as in `[upstream]`.
    pub strategy: Option<Strategy>,
}

/// A section `[[forward]]`, before validation.
pub(super) struct Raw {
    line: u32,
    zone: Option<At<WordOrStrings>>,
    servers: Option<RawServers>,
    timeout_ms: Option<At<i64>>,
    strategy: Option<At<String>>,
}

impl Raw {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            line: table.line(),
            zone: table.required_word_or_strings("zone"),
            servers: upstream::required_servers(table),
            timeout_ms: table.integer("timeout-ms"),
            strategy: table.string("strategy"),
        }
    }
}

/// Validates the sections. Invalid ones are left out.
pub(super) fn validate(
    raw: Vec<Raw>,
    sections: &[LocalSection],
    findings: &mut Findings,
) -> Vec<Forward> {
    let mut known = HashMap::new();
    let local = sections.iter();
    let local = local.filter_map(|section| Some((section.zone()?, section.line)));
    let local: HashMap<_, _> = local.collect();
    let forwards = raw.into_iter().filter_map(|raw| {
        let timeout = upstream::timeout(raw.timeout_ms, findings);
        let strategy = selection::strategy(raw.strategy, findings);
        let servers = raw
            .servers
            .and_then(|given| upstream::servers(given, None, findings));
        let zones = zones(raw.zone?, &local, &mut known, findings);
        Some(Forward {
            line: raw.line,
            zones: Some(zones).filter(|zones| !zones.is_empty())?,
            servers: servers.filter(|servers| !servers.is_empty())?,
            timeout,
            strategy,
        })
    });
    forwards.collect()
}

/// The zones of a section. `local` has those of files, and `known` those of the sections before, with their lines.
fn zones(
    given: At<WordOrStrings>,
    local: &HashMap<&Name, u32>,
    known: &mut HashMap<Name, u32>,
    findings: &mut Findings,
) -> Vec<Name> {
    let At { key, line, value } = given;
    let given = match value {
        WordOrStrings::Word(value) => vec![At { key, line, value }],
        WordOrStrings::Strings(values) => values,
    };
    if given.is_empty() {
        let message = format!("{key} is empty, must name at least one: add one");
        findings.report(line, message);
    }
    let mut zones = Vec::new();
    for given in given {
        let (line, shown) = (given.line, quote(&given.value));
        let Some(zone) = apex(given, findings) else {
            continue;
        };
        if let Some(of) = local.get(&zone) {
            let message = format!(
                "{key} is {shown}, but [[local]] on line {of} answers that zone from its file: remove one of the two"
            );
            findings.report(line, message);
        }
        if let Some(first) = known.insert(zone.clone(), line) {
            let message = format!(
                "{key} is {shown}, but line {first} has the same zone: remove one of the two"
            );
            findings.report(line, message);
        }
        zones.push(zone);
    }
    zones
}
