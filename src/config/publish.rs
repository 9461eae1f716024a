//! The section `[[publish]]`: the policy in force as a policy zone for other servers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;

use crate::wire::name::Name;

use super::address::ServerAddress;
use super::findings::{Findings, quote};
use super::reader::{At, Reader, Strings};
use super::suggest::nearest;
use super::tsig::{self, Tsig};
use super::values::{each, file, network, non_empty_array, number, zone};

/// The words for all orders and for all exceptions in `sources`.
const ORDERS: &str = "orders";
const EXCEPTIONS: &str = "exceptions";

const MINUTE_SECS: u32 = 60;
const DAY_SECS: u32 = 24 * 60 * MINUTE_SECS;
const HISTORY_CHANGES: usize = 100;
const HISTORY_CHANGES_MAX: usize = 10_000;
const HISTORY_MIB: u64 = 16;
const HISTORY_MIB_MAX: u64 = 1024;

/// A zone that the policy in force is published as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The name of the zone.
    pub zone: Name,
    /// The sources whose rules are published; `None` means all.
    pub sources: Option<PublishedSources>,
    /// The networks that may transfer the zone; `None` means that they do not matter.
    pub allow_transfer: Option<Vec<IpNet>>,
    /// The key that queries must be signed with; `None` means that they need not be signed.
    pub tsig: Option<Tsig>,
    /// The secondaries that are sent NOTIFY messages, no duplicates.
    pub notify: Vec<SocketAddr>,
    /// The host in the zone's SOA and NS records.
    pub name_server: Name,
    /// The times of its SOA record.
    pub timers: PublishedTimers,
    /// The most changes that are kept for incremental transfers, at most 10,000; 0 keeps none.
    pub history_changes: usize,
    /// The most bytes that they may have together, 1 MiB to 1 GiB.
    pub history_bytes: u64,
    /// A file that each version is written to.
    pub export: Option<PathBuf>,
}

/// The sources whose rules are published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedSources {
    /// Lists and feeds by name.
    pub lists: Vec<String>,
    /// All orders.
    pub orders: bool,
    /// All exceptions.
    pub exceptions: bool,
}

/// The times in a published zone's SOA record, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedTimers {
    /// When secondaries ask for a newer version, 1 second to a day.
    pub refresh: u32,
    /// When they ask again after a failure, 1 second to a day.
    pub retry: u32,
    /// When they drop the zone if they can't ask, 1 minute to a year, and over `refresh`.
    pub expire: u32,
    /// The TTL of SOA and NS records and of negative answers, at most a day.
    pub ttl: u32,
}

impl Publish {
    /// Whether any server may transfer the zone. If not, it is only written to a file.
    fn is_transferable(&self) -> bool {
        self.allow_transfer.is_some() || self.tsig.is_some()
    }

    /// A sentence for each setting that is valid, but probably a mistake.
    pub fn warnings(&self) -> Vec<String> {
        let zone = &self.zone;
        let weak = self.tsig.as_ref().and_then(Tsig::warning);
        let weak = weak.map(|warning| {
            format!("publish {zone}: {warning} with the operators of the secondaries")
        });
        let networks = self.allow_transfer.as_ref().map(IpNet::aggregate);
        let networks = networks.unwrap_or_default();
        let everything = networks.iter().find(|network| network.prefix_len() == 0);
        let open = everything.filter(|_| self.tsig.is_none()).map(|network| {
            format!(
                "publish {zone}: allow-transfer has every address ({network}), so strangers can read the policy; name the \
                 networks of the secondaries there, or set `tsig`"
            )
        });
        let is_vain = !self.notify.is_empty() && !self.is_transferable();
        let vain = is_vain.then(|| {
            format!(
                "publish {zone}: notify has no use, because no server may transfer the zone; set `allow-transfer` or \
                 `tsig`, or remove `notify`"
            )
        });
        let is_anywhere = self.tsig.is_some() && self.allow_transfer.is_none();
        let anywhere = is_anywhere.then(|| {
            format!(
                "publish {zone}: without allow-transfer, any address may connect to this server and try keys; name the \
                 networks of the secondaries there"
            )
        });
        [weak, open, vain, anywhere].into_iter().flatten().collect()
    }
}

/// A section `[[publish]]`, before validation.
pub(super) struct Raw {
    line: u32,
    zone: Option<At<String>>,
    sources: Option<Strings>,
    allow_transfer: Option<Strings>,
    tsig: Option<tsig::Raw>,
    notify: Option<Strings>,
    name_server: Option<At<String>>,
    timers: RawTimers,
    history_changes: Option<At<i64>>,
    history_mib: Option<At<i64>>,
    export: Option<At<String>>,
}

struct RawTimers {
    refresh_secs: Option<At<i64>>,
    retry_secs: Option<At<i64>>,
    expire_secs: Option<At<i64>>,
    ttl_secs: Option<At<i64>>,
}

impl Raw {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            line: table.line(),
            zone: table.required_string("zone"),
            sources: table.strings("sources"),
            allow_transfer: table.strings("allow-transfer"),
            tsig: tsig::read(table),
            notify: table.strings("notify"),
            name_server: table.string("name-server"),
            timers: RawTimers {
                refresh_secs: table.integer("refresh-secs"),
                retry_secs: table.integer("retry-secs"),
                expire_secs: table.integer("expire-secs"),
                ttl_secs: table.integer("ttl-secs"),
            },
            history_changes: table.integer("history-changes"),
            history_mib: table.integer("history-mib"),
            export: table.string("export"),
        }
    }
}

/// Validates the sections. One without a valid zone is left out. `lists` are the names of all lists and feeds.
pub(super) fn validate(
    sections: Vec<Raw>,
    lists: &[&str],
    findings: &mut Findings,
) -> Vec<Publish> {
    let mut zones = HashMap::new();
    let mut exports = HashMap::new();
    let sections = sections.into_iter();
    let published = sections.filter_map(|raw| {
        let (line, at) = (raw.line, raw.export.as_ref().map(|at| at.line));
        let published = section(raw, lists, findings)?;
        if let Some(first) = zones.insert(published.zone.clone(), line) {
            let zone = quote(&published.zone.to_string());
            let message =
                format!("zone is {zone}, but the [[publish]] on line {first} has the same zone: remove one of the two");
            findings.report(line, message);
        }
        if let (Some(path), Some(at)) = (&published.export, at)
            && let Some(first) = exports.insert(path.clone(), at)
        {
            let message = format!("export is the same file as on line {first}: name another file");
            findings.report(at, message);
        }
        Some(published)
    });
    published.collect()
}

fn section(raw: Raw, lists: &[&str], findings: &mut Findings) -> Option<Publish> {
    let given = raw.zone.as_ref().map(|at| (at.key, at.line));
    let is_given = raw.allow_transfer.is_some() || raw.tsig.is_some();
    let is_closed = !is_given && raw.export.is_none();
    if let (true, Some((_, line))) = (is_closed, given) {
        let message = "[[publish]] has neither `allow-transfer` nor `tsig`, so no server may transfer the zone: add \
                       allow-transfer = [\"...\"] with the addresses of the secondaries, or \
                       tsig = { name = \"...\", secret-file = \"...\" }";
        findings.report(line, message.to_owned());
    }
    let allow_transfer = non_empty_array(raw.allow_transfer, findings);
    let published = Publish {
        sources: raw.sources.map(|given| sources(given, lists, findings)),
        allow_transfer: each(allow_transfer, findings, network),
        tsig: raw.tsig.and_then(|given| tsig::validate(given, findings)),
        notify: each(raw.notify, findings, secondary).unwrap_or_default(),
        name_server: name(raw.name_server, findings).unwrap_or_else(localhost),
        timers: timers(raw.timers, findings),
        history_changes: number(raw.history_changes, 0..=HISTORY_CHANGES_MAX, findings)
            .unwrap_or(HISTORY_CHANGES),
        history_bytes: number(raw.history_mib, 1..=HISTORY_MIB_MAX, findings)
            .unwrap_or(HISTORY_MIB)
            * 1024
            * 1024,
        export: file(raw.export, findings),
        zone: apex(raw.zone?, findings)?,
    };
    Some(published)
}

/// The name of the zone, which is not the root.
fn apex(given: At<String>, findings: &mut Findings) -> Option<Name> {
    let (key, line) = (given.key, given.line);
    let name = name(Some(given), findings)?;
    if name.label_count() == 0 {
        let message = format!(
            "{key} is the root, which can't be a policy zone: write another name, as in \"rpz.example\""
        );
        findings.report(line, message);
        return None;
    }
    Some(name)
}

fn name(given: Option<At<String>>, findings: &mut Findings) -> Option<Name> {
    let At { key, line, value } = given?;
    match zone(&value) {
        Ok(name) => Some(name),
        Err(why) => {
            findings.report(line, format!("{key} is {}, {why}", quote(&value)));
            None
        }
    }
}

/// The name server of most policy zones. Nobody asks for it.
fn localhost() -> Name {
    Name::from_text("localhost").expect("a name")
}

/// The address of a secondary, with its port if that is not 53.
fn secondary(text: &str) -> Result<SocketAddr, String> {
    let address = ServerAddress::from_str(text)?;
    match address.zone {
        None => Ok(address.socket),
        Some(_) => Err("which is link-local: write a global address of the server".to_owned()),
    }
}

fn sources(given: Strings, lists: &[&str], findings: &mut Findings) -> PublishedSources {
    let mut found = PublishedSources::default();
    let Some(given) = non_empty_array(Some(given), findings) else {
        return found;
    };
    let names = || lists.iter().copied();
    for At { key, line, value } in given.value {
        let shown = quote(&value);
        let is_list = names().any(|name| name == value);
        let taken = match value.as_str() {
            ORDERS | EXCEPTIONS if is_list => {
                let message = format!(
                    "{key} holds {shown}, which means all {value}, but a list has this name, too: rename the list"
                );
                findings.report(line, message);
                continue;
            }
            ORDERS => std::mem::replace(&mut found.orders, true),
            EXCEPTIONS => std::mem::replace(&mut found.exceptions, true),
            _ if is_list => {
                let is_there = found.lists.contains(&value);
                found.lists.push(value);
                is_there
            }
            _ => {
                let near = nearest(&value, names().chain([ORDERS, EXCEPTIONS]));
                let remedy = match near {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "name a list, a feed, \"orders\" or \"exceptions\"".to_owned(),
                };
                findings.report(
                    line,
                    format!("{key} holds {shown}, which is no source; {remedy}"),
                );
                continue;
            }
        };
        if taken {
            findings.report(
                line,
                format!("{key} holds {shown}, which is a duplicate: remove it"),
            );
        }
    }
    found
}

fn timers(raw: RawTimers, findings: &mut Findings) -> PublishedTimers {
    let line = [&raw.expire_secs, &raw.refresh_secs];
    let line = line.into_iter().flatten().next().map(|at| at.line);
    let refresh = number(raw.refresh_secs, 1..=DAY_SECS, findings).unwrap_or(5 * MINUTE_SECS);
    let retry = number(raw.retry_secs, 1..=DAY_SECS, findings).unwrap_or(MINUTE_SECS);
    let expire = number(raw.expire_secs, MINUTE_SECS..=365 * DAY_SECS, findings);
    let expire = expire.unwrap_or(7 * DAY_SECS);
    if let Some(line) = line.filter(|_| expire <= refresh) {
        let message = format!(
            "expire-secs is {expire}, must be over refresh-secs, which is {refresh}: raise the one or lower the other"
        );
        findings.report(line, message);
    }
    PublishedTimers {
        refresh,
        retry,
        expire,
        ttl: number(raw.ttl_secs, 0..=DAY_SECS, findings).unwrap_or(MINUTE_SECS),
    }
}
