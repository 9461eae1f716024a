//! Owns the words of `status` and of a reload's report: their fields are an interface.
//! Refuses to gather them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::order::Dates;
use crate::config::shown::{counted, path_text};
use crate::control::guard::protected::Protection;
use crate::control::guard::release::Guard;
use crate::control::guard::suppressed::LeftOut;
use crate::control::journal::entry::Cause;
use crate::control::sources::orders::schedule::State;
use crate::policy::rule::{Action, Kind, Scope};

/// All that a running server says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The server's process.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// The configuration's file by its absolute path; without one the built-in default is in force.
    pub config: Option<PathBuf>,
    /// The state directory that it uses, by its absolute path: that of the configuration at its start.
    #[serde(default)]
    pub state_dir: Option<PathBuf>,
    /// The journal that it writes, likewise.
    #[serde(default)]
    pub journal: Option<PathBuf>,
    /// The policy's generation.
    pub generation: u64,
    /// When that was put in force.
    pub published_at: Timestamp,
    /// The compiled rules in force: an image of all large lists, and one of the small ones that
    /// stands before it; either may be missing.
    pub images: Vec<ImageStatus>,
    /// Whether something that was configured is not in force; `alarms` says what.
    pub degraded: bool,
    /// What needs the operator's attention, a sentence each.
    pub alarms: Vec<String>,
    /// Keys that changed in the configuration and count only after a restart.
    #[serde(default)]
    pub restart: Vec<String>,
    /// The lists in the order of the configuration.
    pub lists: Vec<ListStatus>,
    /// Authorities' orders, and the operator's exceptions.
    pub orders: OrdersStatus,
    /// The data plane.
    #[serde(flatten)]
    pub gauges: Gauges,
}

/// What the data plane says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Gauges {
    /// The user that the process runs as.
    #[serde(default)]
    pub user: Option<u32>,
    /// Addresses that it answers on.
    pub listen: Vec<SocketAddr>,
    /// The upstream servers.
    pub upstream: Vec<UpstreamStatus>,
    /// What is wrong with them as a whole, and with the log; these are among the alarms.
    #[serde(skip)]
    pub problems: Vec<String>,
    /// Questions that wait for upstream now.
    pub waiting: usize,
    /// Answers in the cache.
    pub cache_entries: usize,
    /// Octets that they take.
    pub cache_octets: u64,
    /// Events since the start, by name.
    pub counters: serde_json::Map<String, serde_json::Value>,
    /// Questions since the start, by type.
    pub query_types: serde_json::Map<String, serde_json::Value>,
    /// How long upstream took to answer.
    pub upstream_latency: Histogram,
    /// Hits of lists by their places, which `control::slots` knows.
    #[serde(skip)]
    pub list_hits: Vec<u64>,
}

/// Events by how long they took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Upper bounds in milliseconds, and how many events took at most so long: each counts those
    /// before it, too.
    pub buckets: Vec<(f64, u64)>,
    /// All events.
    pub count: u64,
    /// Milliseconds that all took together.
    pub sum_ms: f64,
}

/// Compiled rules.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageStatus {
    /// Rules in it.
    pub rules: u64,
    /// Rules left out, as others of the same list cover them.
    pub pruned: u64,
    /// Octets of memory that it takes.
    pub octets: usize,
    /// When it was made.
    pub made_at: Timestamp,
}

/// An upstream server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it failed so often that it is left alone for a while.
    pub down: bool,
    /// How many queries in a row it left unanswered, up to the last one.
    #[serde(default)]
    pub unanswered: u32,
    /// Its smoothed round-trip time in milliseconds, once known.
    pub latency_ms: Option<f64>,
    /// Whether queries to it carry EDNS; not if it refused that some minutes ago.
    pub edns: bool,
    /// Whether queries to it have random letter case; not if its answers changed it some minutes ago,
    /// and it can't be asked by TCP.
    pub random_case: bool,
    /// How often it referred to other servers instead of answering, as one that does not recurse.
    pub referrals: u64,
    /// Answers that were no use since the last one that was, by response code; `unreadable` are those that are no
    /// answer to their query.
    #[serde(default)]
    pub failures: BTreeMap<String, u64>,
    /// All of those since the server is known.
    #[serde(default)]
    pub failures_total: BTreeMap<String, u64>,
}

impl UpstreamStatus {
    /// What it answered instead of usable answers since the last one of those, and what that may mean: a phrase
    /// each.
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
                code => format!("{answers} {code}{hint}"),
            }
        });
        referrals.into_iter().chain(failures).collect()
    }
}

/// Which state of a list is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListHealth {
    /// The newest.
    Current,
    /// An older one: the newest was refused.
    Held,
    /// None: it was never read whole.
    Missing,
}

/// A list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListStatus {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Block or allow.
    pub kind: Kind,
    /// What a block answers.
    pub action: Action,
    /// What a bare name in it means.
    pub scope: Scope,
    /// Which state is in force.
    pub state: ListHealth,
    /// The generation as which a rollback holds it, if one does.
    #[serde(default)]
    pub held_as: Option<u64>,
    /// Why the newest one is not.
    pub alarm: Option<String>,
    /// Since when that stands so.
    pub alarm_since: Option<Timestamp>,
    /// The guards that say so; releasing them takes it as it is.
    #[serde(default)]
    pub guards: Vec<Guard>,
    /// Different rules in force.
    pub rules: usize,
    /// Queries that it blocked since `hits_since` of the orders; `None` before it was in force.
    pub hits: Option<u64>,
    /// When the state in force was read.
    pub loaded_at: Option<Timestamp>,
    /// How long that took, in milliseconds.
    pub took_ms: u64,
    /// BLAKE3 digest of the file as it was read, in hexadecimal.
    pub digest: Option<String>,
    /// Whether its last line has an end.
    #[serde(default)]
    pub ended: bool,
    /// Lines that hold something.
    pub lines: u32,
    /// Names that were left out on purpose (`localhost` and the like).
    pub skipped: u32,
    /// Whether all of it must be enforced: it is `required`, or has `guards` that only warn. A bad line of it is a rule
    /// that is not enforced.
    #[serde(default)]
    pub whole: bool,
    /// Bad lines by kind.
    pub bad: Vec<BadCount>,
    /// The first bad lines.
    pub first_bad: Vec<BadLine>,
    /// Rules that are left out, by what they would cover.
    #[serde(default)]
    pub left_out: Vec<LeftOutCount>,
    /// The first 1000 of them.
    #[serde(default)]
    pub first_left_out: Vec<LeftOut>,
    /// How many rules count although they cover what they should not.
    #[serde(default)]
    pub warned: u32,
    /// The first 1000 of them.
    #[serde(default)]
    pub first_warned: Vec<LeftOut>,
}

/// Authorities' orders, and the operator's exceptions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OrdersStatus {
    /// How many orders are in each state.
    pub states: BTreeMap<State, usize>,
    /// How many exceptions count, and how many are over.
    pub exceptions: usize,
    /// See `exceptions`.
    pub exceptions_over: usize,
    /// Orders in force whose review is overdue, by their ids.
    pub overdue_reviews: Vec<String>,
    /// When something begins or ends next.
    pub next_change: Option<Timestamp>,
    /// What is right, but says something in vain or unusual, a sentence each.
    pub warnings: Vec<String>,
    /// Queries that orders blocked since `hits_since`, by their ids; those without any left out.
    pub hits: BTreeMap<String, u64>,
    /// Since when hits are counted: those of earlier servers are in the state directory.
    #[serde(default)]
    pub hits_since: Option<Timestamp>,
}

/// The orders that a server has, whatever their files say by now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KnownOrders {
    /// The directory of their files by its absolute path.
    pub dir: Option<PathBuf>,
    /// The orders by their ids.
    pub orders: BTreeMap<String, KnownOrder>,
}

/// An order as a server has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KnownOrder {
    /// The file.
    #[serde(serialize_with = "path_text")]
    pub path: PathBuf,
    /// The state.
    pub state: State,
    /// The dates that it follows from.
    pub dates: Dates,
}

/// How many lines are bad in one way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BadCount {
    /// What is wrong.
    pub problem: String,
    /// In how many lines.
    pub count: u32,
}

/// How many rules are left out for one reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftOutCount {
    /// What they would cover.
    #[serde(rename = "ward")]
    pub protection: Protection,
    /// How many there are.
    pub count: u32,
}

/// A bad line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BadLine {
    /// Its number, counted from 1.
    pub line: u32,
    /// What stands there, shortened.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A wish to reload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReloadRequest {
    /// Guards that are released for the newest state of a list, each as `LIST:GUARD`.
    #[serde(default)]
    pub accept: Vec<String>,
}

impl ReloadRequest {
    /// The same as a change's cause, for a user.
    pub(crate) fn cause(&self, user: u32) -> Cause {
        let accept = self.accept.iter().map(|list| format!(" --accept {list}"));
        let verb = format!("reload{}", accept.collect::<String>());
        Cause::Verb { verb, user }
    }
}

/// A wish to read an order's file that was changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OrdersRequest {
    /// The verb that changed it, as it was given.
    pub verb: String,
    /// The file, absolute.
    pub path: PathBuf,
}

impl OrdersRequest {
    /// The same as a change's cause, for a user.
    pub(crate) fn cause(&self, user: u32) -> Cause {
        let verb = self.verb.clone();
        Cause::Verb { verb, user }
    }
}

/// Lists that are kept, so that a rollback can put them in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredLists {
    /// The generations that had them, from the first to the last of each run.
    pub generations: Vec<(u64, u64)>,
    /// When they came into force first.
    pub at: Timestamp,
    /// Their rules; `None` if an older version kept them.
    pub rules: Option<u64>,
}

/// A wish to go back to the lists of a generation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// Which; `None` lets lists that are held follow their files again.
    pub generation: Option<u64>,
}

impl RollbackRequest {
    /// The same as a change's cause, for a user.
    pub(crate) fn cause(&self, user: u32) -> Cause {
        let verb = match self.generation {
            Some(generation) => format!("rollback {generation}"),
            None => "rollback --release".to_owned(),
        };
        Cause::Verb { verb, user }
    }
}

/// How a reload ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The generation in force afterwards.
    pub generation: u64,
    /// Lists that were read anew and are in force.
    pub loaded: Vec<String>,
    /// What was not taken, and why; the old state stays in force.
    pub problems: Vec<String>,
    /// Keys that changed in the configuration and count only after a restart.
    pub restart: Vec<String>,
    /// What differs in the configuration that it put in force: keys, as in `server.allow`, lists, and sections.
    #[serde(default)]
    pub changed: Vec<String>,
    /// What is right in the configuration and most likely not meant, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Lists with bad lines, and those of the lists that were read which have names left out on purpose.
    #[serde(default)]
    pub unused: Vec<UnusedLines>,
    /// Lists that are still being read.
    #[serde(default)]
    pub reading: Vec<String>,
    /// The generation as which lists are held.
    #[serde(default)]
    pub held_as: Option<u64>,
}

/// How many lines of a list make no rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnusedLines {
    /// The list.
    pub list: String,
    /// Bad lines.
    pub bad: u32,
    /// Names that were left out on purpose (`localhost` and the like).
    pub skipped: u32,
}
