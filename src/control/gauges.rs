//! The present state of the data plane, as reported to the control plane. The fields are part of the control socket's
//! API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::recording::TopReport;
use crate::config::shown::counted;

/// The state of the data plane.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Gauges {
    /// The user that the process runs as.
    #[serde(default)]
    pub user: Option<u32>,
    /// Which files it can change.
    #[serde(default)]
    pub landlock: LandlockReport,
    /// Which events it logs.
    #[serde(default)]
    pub log: Option<LogReport>,
    /// The addresses that it listens on.
    pub listen: Vec<SocketAddr>,
    /// The addresses on which metrics are served.
    #[serde(default)]
    pub metrics: Vec<SocketAddr>,
    /// The upstream servers.
    pub upstream: Vec<UpstreamStatus>,
    /// The servers in clear that were asked for encrypted ones, if `[upstream] discover` is on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discovery: Vec<DiscoveryStatus>,
    /// Since when no upstream server gives usable answers.
    #[serde(default)]
    pub outage_since: Option<Timestamp>,
    /// Packets that the kernel dropped within the last five minutes.
    #[serde(default)]
    pub kernel_drops_recent: u64,
    /// Problems of all upstream servers together, and of the log; they are among the alarms.
    #[serde(skip)]
    pub problems: Vec<String>,
    /// Queries that wait for upstream.
    pub waiting: usize,
    /// Answers in the cache.
    pub cache_entries: usize,
    /// Bytes of these answers.
    pub cache_octets: u64,
    /// Events since the start, by name.
    pub counters: serde_json::Map<String, serde_json::Value>,
    /// Queries since the start, by type.
    pub query_types: serde_json::Map<String, serde_json::Value>,
    /// Response times of upstream.
    pub upstream_latency: Histogram,
    /// Where finished queries are recorded.
    #[serde(default)]
    pub recording: RecordingReport,
    /// Hits of lists and orders, by their slots (`publish::slots`).
    #[serde(skip)]
    pub list_hits: Vec<u64>,
}

/// The restriction of the server's process by Landlock. If it is neither in force nor unavailable, the configuration turns it
/// off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockReport {
    /// Whether it is in force.
    pub in_force: bool,
    /// The directories below which files can be changed.
    #[serde(default)]
    pub below: Vec<PathBuf>,
    /// Why it is not in force, although the configuration wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

/// Which events are logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReport {
    /// The level or filter in force.
    pub level: String,
    /// Where it comes from.
    pub source: LogSource,
    /// The user who set it, if a verb did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// When it ends, if it was set for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The level that holds without the verb.
    pub configured: String,
}

/// Where the level of the log comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogSource {
    /// The configuration, or its default.
    Configuration,
    /// The variable `RUST_LOG` of the server.
    Variable,
    /// The option `--log-level` of the server.
    Argument,
    /// The verb `log level`.
    Verb,
}

/// The sinks of finished queries that are on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RecordingReport {
    /// The query log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_log: Option<SinkReport>,
    /// The receiver of dnstap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dnstap: Option<SinkReport>,
    /// The most frequent names, clients and sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<TopReport>,
}

/// A sink of finished queries. The numbers count queries since the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SinkReport {
    /// Where it records.
    pub target: String,
    /// Queries that were recorded.
    pub recorded: u64,
    /// Queries that were not recorded because the recorder was too slow for them.
    pub dropped: u64,
    /// Queries that were not chosen by `sample`.
    pub sampled_out: u64,
    /// Queries that were not recorded because of an error.
    pub lost: u64,
    /// Errors.
    pub errors: u64,
    /// The present problem, a sentence; it is among the alarms.
    pub problem: Option<String>,
}

/// Durations of events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Upper bounds in milliseconds, and how many events took at most that long (cumulative).
    pub buckets: Vec<(f64, u64)>,
    /// The number of all events.
    pub count: u64,
    /// The sum of all durations, in milliseconds.
    pub sum_ms: f64,
}

/// A server in clear that was asked for encrypted ones which replace it (RFC 9462).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiscoveryStatus {
    /// Its address.
    pub server: SocketAddr,
    /// The verified encrypted server that is asked in its place, as a configuration would name it; `None` if it is asked in
    /// clear.
    pub encrypted: Option<String>,
    /// Why it is asked in clear, or why the encrypted server can't be confirmed. `None` while the first check is not over.
    pub problem: Option<String>,
}

/// An upstream server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its address.
    pub address: SocketAddr,
    /// The forwarded zones that it is asked for; empty if it is asked for all other names.
    #[serde(default)]
    pub zones: Vec<String>,
    /// Whether it failed so often that it is not asked for a while.
    pub down: bool,
    /// How many of the last queries in a row it did not answer.
    #[serde(default)]
    pub unanswered: u32,
    /// Its smoothed round-trip time in milliseconds; `None` before the first answer.
    pub latency_ms: Option<f64>,
    /// Whether queries to it carry EDNS. After it rejected EDNS, queries are sent without it for some minutes.
    pub edns: bool,
    /// Whether queries to it have random letter case. If its answers changed the case, and it could not be asked by
    /// TCP, queries are sent without random case for some minutes.
    pub random_case: bool,
    /// The number of its referrals to other servers: a server that does not recurse sends those.
    pub referrals: u64,
    /// Whether it is asked by encrypted connections alone.
    #[serde(default)]
    pub encrypted: bool,
    /// When its certificate ends, as of the last TLS handshake.
    #[serde(default)]
    pub certificate_end: Option<Timestamp>,
    /// How it is asked first: `udp`, `tls`, `https`, `quic` or `h3`.
    #[serde(default)]
    pub transport: String,
    /// Why no connection to it can be established or used; `None` once one can.
    #[serde(default)]
    pub problem: Option<String>,
    /// Unusable answers since the last usable one, by response code. `unreadable` counts those that can't be read as an
    /// answer to their query.
    #[serde(default)]
    pub failures: BTreeMap<String, u64>,
    /// All unusable answers since the server was configured.
    #[serde(default)]
    pub failures_total: BTreeMap<String, u64>,
    /// All answers by which it blocked names since it was configured.
    #[serde(default)]
    pub blocks: u64,
}

impl UpstreamStatus {
    /// The unusable answers since the last usable one, and what they may mean, a phrase each.
    pub fn troubles(&self) -> Vec<String> {
        let referrals = (self.referrals > 0).then(|| {
            let referrals = counted(self.referrals, "referral", "referrals");
            format!("{referrals}: it does not recurse")
        });
        let failures = self.failures.iter().map(|(kind, &count)| {
            let answers = counted(count, "answer", "answers");
            let hint = match kind.as_str() {
                "FORMERR" | "NOTIMP" if self.edns => {
                    ": no EDNS there? See `edns` of [upstream] servers"
                }
                "REFUSED" => ": this machine may not ask it, or it does not recurse",
                _ => "",
            };
            match kind.as_str() {
                "other" => format!("{answers} with other errors"),
                "unreadable" => format!("{answers} that can't be read"),
                "http_status" => format!("{answers} with a status of HTTP other than 200"),
                "http_content" => format!("{answers} of HTTP without a DNS message"),
                "http_protocol" => {
                    format!("{answers} that broke off or against the rules of HTTP")
                }
                "quic_protocol" => {
                    format!("{answers} that broke off or against the rules of DNS over QUIC")
                }
                "unasked" => format!("{answers} to queries that it was not asked"),
                tls if tls.starts_with("tls_") => {
                    let handshakes = counted(count, "TLS handshake", "TLS handshakes");
                    format!("{handshakes} failed ({})", tls.trim_start_matches("tls_"))
                }
                code => format!("{answers} {code}{hint}"),
            }
        });
        let problem = self.problem.iter().cloned();
        problem.chain(referrals).chain(failures).collect()
    }
}
