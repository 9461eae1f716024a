//! Validates the configuration: the default and the bounds of every key. Opens no files.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::policy::rule::{Blocking, Ede};

use super::blocking::{blocking, default_blocking};
use super::dnstap::{self, RawDnstap};
use super::download;
use super::exception;
use super::findings::{Findings, quote};
use super::forward;
use super::guard;
use super::lists;
use super::local;
use super::metrics::{self, RawMetrics};
use super::process::{self, NAME_MAX, Process};
use super::publish;
use super::raw::{self, Raw};
use super::recording::{self, RawQueryLog};
use super::special_use;
use super::top::{self, RawTop};
use super::types::{
    Cache, Config, Exceptions, History, JournalFiles, Local, Orders, Origin, Overrides, Recording,
    Server, StateConfig,
};
use super::upstream;
use super::values::{
    PORT, directory, each, file, language, network, non_empty_array, number, socket_file, sockets,
    text,
};

/// The maximum size of a character-string of a TXT record, in bytes (RFC 1035, section 3.3).
const TXT_MAX: usize = 255;
const WEEK_SECS: u32 = 7 * 24 * 60 * 60;
const DAY_SECS: u32 = 24 * 60 * 60;
/// The default limit for negative answers: RFC 2308, section 5, recommends one to three hours.
const NEGATIVE_SECS: u32 = 3 * 60 * 60;

/// Validates a configuration. The result has defaults in place of invalid values, so a server must not use it if there
/// are findings.
pub(super) fn validate(mut raw: Raw, origin: Origin, findings: &mut Findings) -> Config {
    let local = local(&mut raw, findings);
    let block = blocking(raw.block, &default_blocking(), findings);
    let state = state(raw.state, findings);
    let journal = file(raw.journal.path, findings);
    let downloads = download::validate(raw.download, findings);
    let (lists, feeds) = lists::validate(
        (raw.lists, raw.feeds),
        &block,
        (state.dir.as_deref(), &downloads),
        findings,
    );
    let names: Vec<_> = lists.iter().map(|list| &*list.source.name).collect();
    let publish = publish::validate(raw.publish, &names, findings);
    let log_line = raw.query_log.line();
    let config = Config {
        journal: JournalFiles {
            path: journal.or_else(|| state.journal()),
            key: file(raw.journal.key, findings),
        },
        origin,
        server: Server {
            process: process::validate((raw.process, raw.log), findings),
            ..server_section(
                raw.server,
                (raw.metrics, raw.query_log, raw.dnstap, raw.top),
                findings,
            )
        },
        upstream: upstream::validate(raw.upstream, findings),
        cache: cache(raw.cache, findings),
        local,
        state,
        downloads,
        guard: guard::validate(raw.guard, findings),
        publish,
        lists,
        feeds,
        orders: orders(raw.orders, block, findings),
        exceptions: Exceptions {
            dir: directory(raw.exceptions.path, findings),
            own: exception::validate(raw.exception, findings),
        },
        overrides: Overrides::default(),
    };
    check_log_file(&config, log_line, findings);
    config
}

/// Reports if the file of the query log is another file of the configuration, to which lines would be appended.
fn check_log_file(config: &Config, line: Option<u32>, findings: &mut Findings) {
    let (Some(file), Some(line)) = (&config.server.recording.query_log.file, line) else {
        return;
    };
    let own = match &config.origin {
        Origin::File(path) => Some(path),
        Origin::BuiltIn => None,
    };
    let client_key = &config.server.recording.query_log.client_key;
    let lists = config.lists.iter().map(|list| &list.source.path);
    let all = [
        ("the configuration", own),
        ("the journal", config.journal.path.as_ref()),
        ("the key of the journal", config.journal.key.as_ref()),
        ("client-key", client_key.as_ref()),
    ];
    let named = all
        .into_iter()
        .filter_map(|(what, path)| Some((what, path?)));
    let mut others = named.chain(lists.map(|path| ("a list", path)));
    if let Some((what, _)) = others.find(|(_, path)| *path == file) {
        let shown = quote(&file.to_string_lossy());
        let message = format!(
            "file is {shown}, which is {what}, too: lines would be appended to it; choose another file"
        );
        findings.report(line, message);
    }
}

fn server_section(
    raw: raw::Server,
    (metrics, log, tap, top): (RawMetrics, RawQueryLog, RawDnstap, RawTop),
    findings: &mut Findings,
) -> Server {
    let listen = non_empty_array(raw.listen, findings);
    let tcp_connections = number(raw.tcp_connections, 1..=65535, findings).unwrap_or(1024);
    let per_client = number(
        raw.tcp_connections_per_client,
        1..=tcp_connections,
        findings,
    );
    let listen = sockets(listen, findings).unwrap_or_else(|| {
        [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ]
        .map(|ip| SocketAddr::new(ip, PORT))
        .to_vec()
    });
    Server {
        metrics: metrics::validate(metrics, &listen, findings),
        listen,
        workers: number(raw.workers, 0..=1024, findings).unwrap_or(0),
        allow: each(raw.allow, findings, network).unwrap_or_else(|| {
            vec![
                IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
                IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
            ]
        }),
        control: socket_file(raw.control, findings),
        control_group: text(raw.control_group, 1..=NAME_MAX, findings),
        version: text(raw.version, 0..=TXT_MAX, findings),
        id: text(raw.id, 0..=TXT_MAX, findings),
        tcp_connections,
        tcp_connections_per_client: per_client.unwrap_or((tcp_connections / 4).max(1)),
        tcp_idle: Duration::from_secs(number(raw.tcp_idle_secs, 1..=3600, findings).unwrap_or(10)),
        recording: Recording {
            query_log: recording::query_log(log, findings),
            dnstap: dnstap::dnstap(tap, findings),
            top: top::top(top, findings),
        },
        discard: Duration::from_millis(
            number(raw.discard_ms, 100..=60_000, findings).unwrap_or(1900),
        ),
        process: Process::default(),
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

fn local(raw: &mut Raw, findings: &mut Findings) -> Local {
    let sections = local::validate(std::mem::take(&mut raw.local), findings);
    let forwards = std::mem::take(&mut raw.forward);
    Local {
        special_use: special_use::validate(std::mem::take(&mut raw.special_use), findings),
        forwards: forward::validate(forwards, &sections, findings),
        sections,
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

#[cfg(test)]
mod tests {
    use super::super::tests::problems;

    #[test]
    fn the_query_log_is_no_other_file_of_the_configuration() {
        let of = |file: &str| {
            let text = format!(
                "[journal]\npath = \"j\"\nkey = \"k\"\n[query-log]\nfile = \"{file}\"\nclient-key = \"c\"\n[[list]]\nname = \"ads\"\npath = \"l\"\n"
            );
            problems(&text).join("\n")
        };
        for (file, what) in [
            ("j", "the journal, too"),
            ("./k", "the key of the journal, too"),
            ("c", "client-key, too"),
            ("x/../l", "a list, too"),
        ] {
            assert!(of(file).contains(what), "{}", of(file));
        }
        assert_eq!(of("log"), "");
    }
}
