//! Validates the configuration: the default and the bounds of every key. Opens no files.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::policy::rule::{Against, Blocking, Ede, Kind, Scope, Source};

use super::blocking::{blocking, default_blocking};
use super::comments;
use super::exception;
use super::findings::{Findings, quote};
use super::guard;
use super::raw::{self, Raw};
use super::types::{
    Cache, Canary, Config, Content, Exceptions, Format, History, List, Local, Orders, Origin,
    Overrides, Server, StateConfig,
};
use super::upstream;
use super::values::{
    PORT, choice, directory, each, file, language, network, non_empty_array, number, plain_name,
    public_text, sockets, text, zone,
};

/// The maximum size of a character-string of a TXT record, in bytes (RFC 1035, section 3.3).
const TXT_MAX: usize = 255;
/// The maximum size of a group name on Linux, in bytes.
const GROUP_MAX: usize = 32;
const WEEK_SECS: u32 = 7 * 24 * 60 * 60;
const DAY_SECS: u32 = 24 * 60 * 60;
/// The default limit for negative answers: RFC 2308, section 5, recommends one to three hours.
const NEGATIVE_SECS: u32 = 3 * 60 * 60;

const CANARIES: &[(&str, Canary)] = &[("nxdomain", Canary::Nxdomain), ("forward", Canary::Forward)];
const KINDS: &[(&str, Kind)] = &[("block", Kind::Block), ("allow", Kind::Allow)];
/// Known formats of lists that are not supported.
const OTHER_FORMATS: &[&str] = &[
    "abp", "adblock", "adguard", "clash", "csv", "dnsmasq", "json", "regex", "rpz", "ublock",
    "unbound", "v2ray", "wildcard", "zone",
];
const FORMATS: &[(&str, Format)] = &[("domains", Format::Domains), ("hosts", Format::Hosts)];
/// The meanings of a bare name. `below` can only be written out, as `*.x`.
const SCOPES: &[(&str, Scope)] = &[("exact", Scope::Exact), ("subtree", Scope::Subtree)];

/// Validates a configuration. The result has defaults in place of invalid values, so a server must not use it if there
/// are findings.
pub(super) fn validate(raw: Raw, origin: Origin, findings: &mut Findings) -> Config {
    let block = blocking(raw.block, &default_blocking(), findings);
    let state = state(raw.state, findings);
    let journal = file(raw.journal.path, findings);
    Config {
        journal: journal.or_else(|| state.journal()),
        journal_key: file(raw.journal.key, findings),
        origin,
        server: server_section(raw.server, findings),
        upstream: upstream::validate(raw.upstream, findings),
        cache: cache(raw.cache, findings),
        local: local(raw.local, findings),
        state,
        guard: guard::validate(raw.guard, findings),
        lists: lists(raw.lists, &block, findings),
        orders: orders(raw.orders, block, findings),
        exceptions: Exceptions {
            dir: directory(raw.exceptions.path, findings),
            own: exception::validate(raw.exception, findings),
        },
        overrides: Overrides::default(),
    }
}

fn server_section(raw: raw::Server, findings: &mut Findings) -> Server {
    let listen = non_empty_array(raw.listen, findings);
    let tcp_connections = number(raw.tcp_connections, 1..=65535, findings).unwrap_or(1024);
    let per_client = number(
        raw.tcp_connections_per_client,
        1..=tcp_connections,
        findings,
    );
    Server {
        listen: sockets(listen, findings).unwrap_or_else(|| {
            [
                IpAddr::from(Ipv4Addr::LOCALHOST),
                Ipv6Addr::LOCALHOST.into(),
            ]
            .map(|ip| SocketAddr::new(ip, PORT))
            .to_vec()
        }),
        workers: number(raw.workers, 0..=1024, findings).unwrap_or(0),
        allow: each(raw.allow, findings, network).unwrap_or_else(|| {
            vec![
                IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
                IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
            ]
        }),
        control: file(raw.control, findings),
        control_group: text(raw.control_group, 1..=GROUP_MAX, findings),
        version: text(raw.version, 0..=TXT_MAX, findings),
        id: text(raw.id, 0..=TXT_MAX, findings),
        tcp_connections,
        tcp_connections_per_client: per_client.unwrap_or((tcp_connections / 4).max(1)),
        tcp_idle: Duration::from_secs(number(raw.tcp_idle_secs, 1..=3600, findings).unwrap_or(10)),
        discard: Duration::from_millis(
            number(raw.discard_ms, 100..=60_000, findings).unwrap_or(1900),
        ),
    }
}

fn cache(raw: raw::Cache, findings: &mut Findings) -> Cache {
    let lines =
        [&raw.min_ttl_secs, &raw.max_ttl_secs].map(|given| given.as_ref().map(|at| at.line));
    let size_mib: u64 = number(raw.size_mib, 1..=65_536, findings).unwrap_or(256);
    let min_ttl_secs = number(raw.min_ttl_secs, 0..=3600, findings).unwrap_or(0);
    let max_ttl_secs = number(raw.max_ttl_secs, 1..=WEEK_SECS, findings).unwrap_or(DAY_SECS);
    if min_ttl_secs > max_ttl_secs {
        // The defaults don't conflict, so the file has at least one of the two.
        let line = lines.into_iter().flatten().next().unwrap_or(1);
        let message = format!(
            "min-ttl-secs is {min_ttl_secs}, must be at most max-ttl-secs, which is \
             {max_ttl_secs}: lower the one or raise the other"
        );
        findings.report(line, message);
    }
    let negative_line = raw.max_negative_ttl_secs.as_ref().map(|at| at.line);
    let max_negative_ttl_secs =
        number(raw.max_negative_ttl_secs, 1..=WEEK_SECS, findings).unwrap_or(NEGATIVE_SECS);
    if min_ttl_secs > max_negative_ttl_secs {
        // The defaults don't conflict, so the file has this key.
        let message = format!(
            "max-negative-ttl-secs is {max_negative_ttl_secs}, must be at least min-ttl-secs, which is \
             {min_ttl_secs}: raise the one or lower the other"
        );
        findings.report(negative_line.unwrap_or(1), message);
    }
    Cache {
        size_bytes: size_mib * 1024 * 1024,
        min_ttl_secs,
        max_ttl_secs,
        max_negative_ttl_secs,
        stale_secs: number(raw.stale_secs, 0..=WEEK_SECS, findings).unwrap_or(DAY_SECS),
        additional: raw.additional.is_some_and(|given| given.value),
    }
}

fn local(raw: raw::Local, findings: &mut Findings) -> Local {
    Local {
        forward: each(raw.forward, findings, zone).unwrap_or_default(),
        use_application_dns: choice(raw.use_application_dns, CANARIES, findings)
            .unwrap_or(Canary::Nxdomain),
    }
}

fn state(raw: raw::State, findings: &mut Findings) -> StateConfig {
    let history_mib: u64 = number(raw.history_mib, 1..=1_048_576, findings).unwrap_or(1024);
    let compile_secs = number(raw.compile_secs, 10..=DAY_SECS, findings).unwrap_or(600);
    StateConfig {
        dir: directory(raw.dir, findings),
        keep: number(raw.keep, 1..=100, findings).unwrap_or(3),
        history: History {
            days: number(raw.history_days, 0..=3650, findings).unwrap_or(30),
            bytes: history_mib * 1024 * 1024,
        },
        deadline: Duration::from_secs(compile_secs.into()),
    }
}

fn orders(raw: raw::Orders, block: Blocking, findings: &mut Findings) -> Orders {
    Orders {
        dir: directory(raw.path, findings),
        embedded: &[],
        language: language(raw.language, findings).unwrap_or_else(|| "en".to_owned()),
        // Orders are always demanded by an authority, so their EDE code is Censored.
        blocking: Blocking {
            ede: Ede::Censored,
            ..block
        },
    }
}

fn lists(raw: Vec<raw::List>, block: &Blocking, findings: &mut Findings) -> Vec<List> {
    let mut names = HashMap::new();
    let mut lists = Vec::new();
    for raw in raw {
        if let Some(name) = &raw.name
            && let Some(first) = names.insert(name.value.clone(), name.line)
        {
            let shown = quote(&name.value);
            let message = format!(
                "name is {shown}, but the list on line {first} has the same name: rename one"
            );
            findings.report(name.line, message);
        }
        lists.extend(list(raw, block, findings));
    }
    lists
}

/// Validates a list; `None` if its name, path or format is invalid, or the name or path is missing.
fn list(raw: raw::List, block: &Blocking, findings: &mut Findings) -> Option<List> {
    let name = plain_name(raw.name, findings);
    let path = file(raw.path, findings);
    let public = public_text(raw.text, findings);
    let kind = choice(raw.kind, KINDS, findings).unwrap_or(Kind::Block);
    let format = match raw.format {
        None => Some(Format::Domains),
        Some(given) if OTHER_FORMATS.contains(&&*given.value.to_ascii_lowercase()) => {
            let message = format!(
                "format is \"{}\", which is not supported: use the list's edition as plain names (\"domains\") or as \
                 a hosts file (\"hosts\")",
                given.value
            );
            findings.report(given.line, message);
            None
        }
        given => choice(given, FORMATS, findings),
    };
    let comments = comments::validate(raw.comments, findings).unwrap_or_default();
    let scope = choice(raw.scope, SCOPES, findings).unwrap_or(Scope::Exact);
    let warn = guard::only_warning(raw.guards, findings).unwrap_or_default();
    let mut blocking = blocking(raw.block, block, findings);
    let name = name?;
    blocking.extra_text = match public {
        Some(text) => format!("{name}: {text}"),
        None => name.clone(),
    };
    Some(List {
        format: format?,
        comments,
        scope,
        required: raw.required.is_some_and(|at| at.value),
        warn,
        content: Content::File,
        source: Source {
            name,
            path: path?,
            kind,
            blocking,
            against: Against::All,
        },
    })
}
