//! The validated configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::comments::Comments;
use super::dnstap::Dnstap;
use super::download::{Download, Downloads};
use super::exception::Exception;
use super::feed::Feed;
use super::forward::Forward;
use super::guard::{GuardRails, Protections};
use super::local::LocalSection;
use super::metrics::Metrics;
use super::process::Process;
use super::publish::Publish;
use super::recording::QueryLog;
use super::special_use::SpecialUse;
use super::top::Top;
use super::upstream::{Upstream, UpstreamServer};
use super::zone::PolicyZone;
use crate::policy::rule::{Blocking, Scope, Source};
use crate::wire::name::Name;

/// The journal in the state directory.
const JOURNAL: &str = "journal.jsonl";

/// A validated configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Its origin.
    pub origin: Origin,
    /// Listen addresses, clients and limits.
    pub server: Server,
    /// The upstream servers.
    pub upstream: Upstream,
    /// The cache.
    pub cache: Cache,
    /// Names that are answered locally, or by the servers of their zone.
    pub local: Local,
    /// The state directory.
    pub state: StateConfig,
    /// How lists are downloaded.
    pub downloads: Downloads,
    /// The journal.
    pub journal: JournalFiles,
    /// The guard rails.
    pub guard: GuardRails,
    /// The lists and the rules of feeds, in the order of the file, which is their precedence. Names are unique.
    pub lists: Vec<List>,
    /// How the zones of feeds are transferred. Each has a list of the same name.
    pub feeds: Vec<Feed>,
    /// The zones that the policy is published as. Their names are unique.
    pub publish: Vec<Publish>,
    /// Authorities' orders.
    pub orders: Orders,
    /// The operator's exceptions.
    pub exceptions: Exceptions,
    /// Values from the command line, which have been applied.
    pub overrides: Overrides,
}

/// Values from the command line that override those of the file, at the start and at each reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Replaces `[server] listen`, unless empty.
    pub listen: Vec<SocketAddr>,
    /// Replaces `[server] allow`, unless empty.
    pub allow: Vec<IpNet>,
    /// Replaces `[upstream] servers`, unless empty.
    pub upstream: Vec<UpstreamServer>,
    /// Replaces `[server] control`.
    pub control: Option<PathBuf>,
}

/// The origin of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The program itself.
    BuiltIn,
    /// The file with this path, as it was given.
    File(PathBuf),
}

/// Listen addresses, clients and limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Addresses for UDP and TCP: at least one, no duplicates. Port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// UDP worker threads, at most 1024; 0 means one per core.
    pub workers: usize,
    /// Networks of the clients that may send queries. Empty means none.
    pub allow: Vec<IpNet>,
    /// The control socket; `None` means the first usable one of the default paths.
    pub control: Option<PathBuf>,
    /// A group whose members may use the control socket, too.
    pub control_group: Option<String>,
    /// The answer to `version.bind` in class CH, at most 255 bytes; `None` means REFUSED.
    pub version: Option<String>,
    /// The answer to `id.server` in class CH, at most 255 bytes; `None` means REFUSED.
    pub id: Option<String>,
    /// The maximum number of open TCP connections, 1 to 65535.
    pub tcp_connections: usize,
    /// The maximum number of open TCP connections of one client: at least one, at most `tcp_connections`.
    pub tcp_connections_per_client: usize,
    /// How long a TCP connection may be idle, 1 second to an hour.
    pub tcp_idle: Duration,
    /// How finished queries are recorded.
    pub recording: Recording,
    /// The age after which UDP queries are not answered any more; 100 ms to a minute.
    pub discard: Duration,
    /// Where the metrics are served.
    pub metrics: Metrics,
    /// How the process runs.
    pub process: Process,
}

/// How finished queries are recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// The query log.
    pub query_log: QueryLog,
    /// The receiver of dnstap.
    pub dnstap: Dnstap,
    /// Lists of the most frequent names, clients and sources.
    pub top: Top,
}

/// Size and lifetimes of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Memory for answers, 1 MiB to 64 GiB.
    pub size_bytes: u64,
    /// Shorter TTLs are raised to this; at most an hour, and at most `max_ttl_secs`.
    pub min_ttl_secs: u32,
    /// Longer TTLs are lowered to this; 1 second to a week.
    pub max_ttl_secs: u32,
    /// Longer TTLs of negative answers are lowered to this; at least `min_ttl_secs`, at most a week.
    pub max_negative_ttl_secs: u32,
    /// How long after its TTL an answer may be served when upstream fails (RFC 8767); at most a week, 0 turns it
    /// off.
    pub stale_secs: u32,
    /// Whether addresses in upstream's additional sections are passed on, except those of blocked names.
    pub additional: bool,
}

/// Names that are answered locally, or by the servers of their zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The special-use zones.
    pub special_use: SpecialUse,
    /// The operator's names and zones, in the order of the file.
    pub sections: Vec<LocalSection>,
    /// The forwarded zones, in the order of the file. No two have the same name.
    pub forwards: Vec<Forward>,
}

/// The state directory and the compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// The state directory; `None` means that nothing is kept on disk.
    pub dir: Option<PathBuf>,
    /// The number of images kept, 1 to 100.
    pub keep: usize,
    /// How long the rules of replaced lists are kept.
    pub history: History,
    /// How long a compiling process may report no progress before it is killed, 10 seconds to a day.
    pub deadline: Duration,
}

/// Limits for the rules of replaced lists, which are kept so that the policy at a past time can be reconstructed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// How long they are kept, in days; 0 keeps none.
    pub days: u32,
    /// Their maximum size on disk, in bytes.
    pub bytes: u64,
}

/// The files of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalFiles {
    /// The journal, by default `journal.jsonl` in the state directory; `None` means no journal.
    pub path: Option<PathBuf>,
    /// The keys that authenticate the journal's head.
    pub key: Option<PathBuf>,
}

/// The files of authorities' orders, and the answers for their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// The directory of their files; `None` means that there are no orders.
    pub dir: Option<PathBuf>,
    /// Orders built into the program: the path and text of each file at build time.
    pub embedded: &'static [(&'static str, &'static str)],
    /// The language of the text sent to clients with a blocked answer (BCP 47, lower case).
    pub language: String,
    /// The answer, unless an order specifies another one.
    pub blocking: Blocking,
}

/// The operator's exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceptions {
    /// A directory of files with further exceptions.
    pub dir: Option<PathBuf>,
    /// The exceptions in the configuration's file.
    pub own: Vec<Exception>,
}

/// A list: its file, format and effect. The rules of a feed are a list, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The format of the file.
    pub format: Format,
    /// The characters that begin a comment line.
    pub comments: Comments,
    /// The scope of a bare name; [`Scope::Exact`] or [`Scope::Subtree`], never [`Scope::Below`].
    pub scope: Scope,
    /// The column of a table that has the names, or the key of JSON whose values are names.
    pub column: Option<Arc<str>>,
    /// Whether the server refuses to start without this list.
    pub required: bool,
    /// The guards of single rules that only warn about rules of this list, and leave none out.
    pub warn: Protections,
    /// The location of the text.
    pub content: Content,
    /// Where the file is downloaded from; `None` if others write it.
    pub download: Option<Box<Download>>,
    /// How its rules are applied; `Some` exactly if the format is [`Format::Rpz`].
    pub zone: Option<PolicyZone>,
    /// The source of its rules. The path is normalized, and relative to the working directory unless the
    /// configuration's path is absolute. For a feed, it is `zone:` and the zone's name.
    pub source: Source,
}

/// The format of a list's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One name per line.
    Domains,
    /// An address and its names per line, as in `/etc/hosts`.
    Hosts,
    /// A filter list for DNS, in the syntax of ad blockers.
    Adblock,
    /// A response policy zone.
    Rpz,
    /// A configuration of dnsmasq.
    Dnsmasq,
    /// A configuration of Unbound.
    Unbound,
    /// A list of dnscrypt-proxy: `*.x` and `x` are x with all names below it.
    Wildcard,
    /// A table of which one column has names.
    Csv,
    /// JSON of which the values of one key are names.
    Json,
    /// The one that the start of the file shows.
    Auto,
}

impl Format {
    /// Its name in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Domains => "domains",
            Self::Hosts => "hosts",
            Self::Rpz => "rpz",
            Self::Adblock => "adblock",
            Self::Dnsmasq => "dnsmasq",
            Self::Unbound => "unbound",
            Self::Wildcard => "wildcard",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Auto => "auto",
        }
    }

    /// Whether a block list of this format can have rules that allow names and precede those of other lists.
    pub fn has_allow_rules(self) -> bool {
        match self {
            Self::Adblock | Self::Auto => true,
            // In configurations, the deepest name decides. The order of policy zones says how far their PASSTHRU counts.
            Self::Domains
            | Self::Hosts
            | Self::Rpz
            | Self::Dnsmasq
            | Self::Unbound
            | Self::Wildcard
            | Self::Csv
            | Self::Json => false,
        }
    }
}

/// The location of a list's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the file at the source's path.
    File,
    /// In the program; the source's path is that of the file at build time.
    Embedded(&'static str),
    /// Nowhere: the rules of a feed are transferred from the zone's primaries.
    Transferred,
}

impl Content {
    /// The text, if it is in the program.
    pub fn embedded(self) -> Option<&'static str> {
        match self {
            Self::Embedded(text) => Some(text),
            Self::File | Self::Transferred => None,
        }
    }
}

impl List {
    /// The name of its policy zone, if the list is one and the name is configured.
    pub fn apex(&self) -> Option<&Name> {
        self.zone.as_ref()?.apex.as_ref()
    }

    /// Whether its rules are those of a feed.
    pub fn is_feed(&self) -> bool {
        self.content == Content::Transferred
    }
}

impl StateConfig {
    /// The default path of the journal; `None` without a state directory.
    pub(super) fn journal(&self) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join(JOURNAL))
    }
}

impl Config {
    /// Whether the journals of `self` and `other` have different paths. If each is at the default path in its own state
    /// directory, that does not count as different.
    pub fn moves_journal(&self, other: &Self) -> bool {
        let is_default = |config: &Self| config.journal.path == config.state.journal();
        self.journal.path != other.journal.path && !(is_default(self) && is_default(other))
    }

    /// Applies `overrides`.
    pub fn with_overrides(mut self, overrides: Overrides) -> Self {
        if !overrides.listen.is_empty() {
            self.server.listen.clone_from(&overrides.listen);
        }
        if !overrides.allow.is_empty() {
            self.server.allow.clone_from(&overrides.allow);
        }
        if !overrides.upstream.is_empty() {
            self.upstream.named.clear();
            self.upstream.servers = Some(overrides.upstream.clone());
        }
        if overrides.control.is_some() {
            self.server.control.clone_from(&overrides.control);
        }
        self.overrides = overrides;
        self
    }
}
