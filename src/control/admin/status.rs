//! The requests and answers of the control socket's API. Their fields are an interface.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Format;
use crate::config::order::Dates;
use crate::config::order::State;
use crate::config::pause::Pause;
use crate::config::shown::path_text;
use crate::control::gauges::Gauges;
use crate::control::guard::protected::Protection;
use crate::control::guard::release::Guard;
use crate::control::journal::entry::Cause;
use crate::control::list_file::parse::Detected;
use crate::control::list_file::suppressed::LeftOut;
use crate::control::sources::downloads::report::DownloadReport;
use crate::control::sources::feeds::report::FeedReport;
use crate::control::zones::report::ZoneReport;
use crate::policy::rule::{Action, Kind, Scope};

/// The status of a running server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The server's process.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// The absolute path of the configuration's file; `None` for the built-in one.
    pub config: Option<PathBuf>,
    /// The absolute path of the state directory, from the configuration at the start.
    #[serde(default)]
    pub state_dir: Option<PathBuf>,
    /// The absolute path of the journal, from the configuration at the start.
    #[serde(default)]
    pub journal: Option<PathBuf>,
    /// The policy's generation.
    pub generation: u64,
    /// When it came into force.
    pub published_at: Timestamp,
    /// The images in force: the base, the delta and the orders image, as far as they exist.
    pub images: Vec<ImageStatus>,
    /// Whether there are problems; see `alarms`. Files that can't be watched do not count here.
    pub degraded: bool,
    /// Problems for the operator, a sentence each.
    pub alarms: Vec<String>,
    /// Keys that changed in the configuration and take effect only after a restart.
    #[serde(default)]
    pub restart: Vec<String>,
    /// The lists in the order of the configuration.
    pub lists: Vec<ListStatus>,
    /// How the zones of feeds are transferred, by name.
    #[serde(default)]
    pub feeds: Vec<FeedReport>,
    /// The published zones.
    #[serde(default)]
    pub published: Vec<ZoneReport>,
    /// Authorities' orders, and the operator's exceptions.
    pub orders: OrdersStatus,
    /// The state of the data plane.
    #[serde(flatten)]
    pub gauges: Gauges,
}

/// A request for the rules in force of a source as text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportRequest {
    /// The name of a list or a feed.
    pub source: String,
    /// The format of the text.
    pub format: Format,
}

/// The trailer of an answer to [`ExportRequest`] that says which rules the text does not have.
pub const LEFT_OUT: &str = "tapis-left-out";

/// A request to ask the primaries of a feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FeedRequest {
    /// The name of the feed.
    pub feed: String,
    /// Whether the whole zone is to be transferred, whatever its serial.
    #[serde(default)]
    pub whole: bool,
}

/// A request to ask the servers of downloaded lists. The answer has the lists, each with the number of the request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DownloadRequest {
    /// The name of the list; `None` means all that are downloaded.
    #[serde(default)]
    pub list: Option<String>,
}

/// An image: compiled rules.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageStatus {
    /// The number of rules in it.
    pub rules: u64,
    /// The number of rules that were left out because other rules of the same list cover their names.
    pub pruned: u64,
    /// Bytes of memory.
    #[serde(rename = "octets")]
    pub bytes: usize,
    /// When it was compiled.
    pub made_at: Timestamp,
}

/// Which version of a list is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListHealth {
    /// The newest version.
    Current,
    /// An older version, as the newest was refused.
    Held,
    /// None, as it was never read completely.
    Missing,
}

/// A list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListStatus {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// How it is downloaded; `None` if others write its file.
    #[serde(default)]
    pub download: Option<DownloadReport>,
    /// Block or allow.
    pub kind: Kind,
    /// How blocked names are answered.
    pub action: Action,
    /// The scope of a bare name in it.
    pub scope: Scope,
    /// Which version is in force.
    pub state: ListHealth,
    /// If a rollback holds the list: the generation that was rolled back to.
    #[serde(default)]
    pub held_as: Option<u64>,
    /// Why the newest version is not in force, or that the version in force is too old.
    pub alarm: Option<String>,
    /// The time since which the newest version is not in force.
    pub alarm_since: Option<Timestamp>,
    /// The guards that rejected the newest version, or that object to the age of the version in force. If the guards
    /// that rejected the newest version are released, that version comes into force as it is.
    #[serde(default)]
    pub guards: Vec<Guard>,
    /// The number of distinct rules in force.
    pub rules: usize,
    /// Queries that it blocked since [`OrdersStatus::hits_since`]; those that it would have blocked if it is disabled. `None`
    /// if it was never in force.
    pub hits: Option<u64>,
    /// Whether its rules have no effect: it is a policy zone with `policy = "disabled"`.
    #[serde(default)]
    pub disabled: bool,
    /// Its pause, if the operator has paused it.
    #[serde(default)]
    pub paused: Option<PauseStatus>,
    /// When the version in force was read.
    pub loaded_at: Option<Timestamp>,
    /// How long that took, in milliseconds.
    pub took_ms: u64,
    /// BLAKE3 digest of the file, in hexadecimal.
    pub digest: Option<String>,
    /// Whether its last line ends with a line break.
    #[serde(default)]
    pub ended: bool,
    /// The format that was recognised, if the list has `format = "auto"`.
    #[serde(default)]
    pub detected: Option<Detected>,
    /// Lines that are neither empty nor comments.
    pub lines: u32,
    /// The number of names that were left out on purpose (`localhost` and the like).
    pub skipped: u32,
    /// Whether all of it must be enforced: in the configuration, it has `required = true`, or its key `guards` names
    /// guards that only warn. In such a list, a bad line is a rule that is not enforced.
    #[serde(default)]
    pub whole: bool,
    /// Bad lines by kind.
    pub bad: Vec<BadCount>,
    /// The first bad lines.
    pub first_bad: Vec<BadLine>,
    /// Lines that are ignored, by reason. They are not bad: what they ask for is not a resolver's business.
    #[serde(default)]
    pub ignored: Vec<IgnoredCount>,
    /// The first ignored lines.
    #[serde(default)]
    pub first_ignored: Vec<IgnoredLine>,
    /// Suppressed rules, by the protection that they would break.
    #[serde(default)]
    pub left_out: Vec<LeftOutCount>,
    /// The first 1000 of them.
    #[serde(default)]
    pub first_left_out: Vec<LeftOut>,
    /// How many rules are in force although they cover protected names.
    #[serde(default)]
    pub warned: u32,
    /// The first 1000 of them.
    #[serde(default)]
    pub first_warned: Vec<LeftOut>,
}

/// The pause of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PauseStatus {
    /// Its times, reason and user.
    #[serde(flatten)]
    pub pause: Pause,
    /// Queries that the list would have blocked while it was paused, now or earlier, since
    /// [`OrdersStatus::hits_since`].
    pub would_have_blocked: u64,
}

/// Authorities' orders, and the operator's exceptions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OrdersStatus {
    /// How many orders are in each state.
    pub states: BTreeMap<State, usize>,
    /// The number of exceptions in force.
    pub exceptions: usize,
    /// The number of exceptions that ended.
    pub exceptions_over: usize,
    /// IDs of orders in force whose review is overdue.
    pub overdue_reviews: Vec<String>,
    /// When the next order or exception begins or ends.
    pub next_change: Option<Timestamp>,
    /// Warnings about valid files, a sentence each.
    pub warnings: Vec<String>,
    /// Queries that each order blocked since `hits_since`, by the order's ID. Orders that blocked none are not in it.
    pub hits: BTreeMap<String, u64>,
    /// The time since which hits are counted, across restarts.
    #[serde(default)]
    pub hits_since: Option<Timestamp>,
}

/// The orders that a server has read. Their files may have changed since.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KnownOrders {
    /// The absolute path of their directory.
    pub dir: Option<PathBuf>,
    /// The orders, by their IDs.
    pub orders: BTreeMap<String, KnownOrder>,
}

/// An order that a server has read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KnownOrder {
    /// The file.
    #[serde(serialize_with = "path_text")]
    pub path: PathBuf,
    /// The state.
    pub state: State,
    /// The dates that the state follows from.
    pub dates: Dates,
}

/// The bad lines with the same problem.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BadCount {
    /// The problem.
    pub problem: String,
    /// The number of lines.
    pub count: u32,
}

/// The ignored lines with the same reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IgnoredCount {
    /// The reason.
    pub reason: String,
    /// The number of lines.
    pub count: u32,
}

/// An ignored line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IgnoredLine {
    /// Its number, counted from 1.
    pub line: u32,
    /// Its text, shortened.
    pub text: String,
    /// Why it is ignored.
    pub reason: String,
}

/// The rules suppressed by one protection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftOutCount {
    /// The protection.
    #[serde(rename = "ward")]
    pub protection: Protection,
    /// The number of rules.
    pub count: u32,
}

/// A bad line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BadLine {
    /// Its number, counted from 1.
    pub line: u32,
    /// Its text, shortened.
    pub text: String,
    /// The problem.
    pub problem: String,
}

/// A request to reload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReloadRequest {
    /// Guards that are released for the newest version of a list, each as `LIST:GUARD`.
    #[serde(default)]
    pub accept: Vec<String>,
}

impl ReloadRequest {
    /// The cause of the change, with the user.
    pub(crate) fn cause(&self, user: u32) -> Cause {
        let accept = self.accept.iter().map(|list| format!(" --accept {list}"));
        let verb = format!("reload{}", accept.collect::<String>());
        Cause::Verb { verb, user }
    }
}

/// A request to read an order's file that a verb changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OrdersRequest {
    /// The verb, as it was given.
    pub verb: String,
    /// The file, absolute.
    pub path: PathBuf,
}

impl OrdersRequest {
    /// The cause of the change, with the user.
    pub(crate) fn cause(&self, user: u32) -> Cause {
        let verb = self.verb.clone();
        Cause::Verb { verb, user }
    }
}

/// A request to roll back to the lists of a generation, or to release a rollback.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// The generation; `None` for a release.
    pub generation: Option<u64>,
}

impl RollbackRequest {
    /// The cause of the change, with the user.
    pub(crate) fn cause(&self, user: u32) -> Cause {
        let verb = match self.generation {
            Some(generation) => format!("rollback {generation}"),
            None => "rollback --release".to_owned(),
        };
        Cause::Verb { verb, user }
    }
}

/// The result of a reload, a rollback, or another request for a change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The generation in force afterwards.
    pub generation: u64,
    /// Lists that were read and are in force.
    pub loaded: Vec<String>,
    /// Refused files, other reasons why the request failed, and what a rollback does not restore. If a file is refused,
    /// the version in force stays in force.
    pub problems: Vec<String>,
    /// Keys that changed in the configuration and take effect only after a restart.
    pub restart: Vec<String>,
    /// The changes of the configuration that the request put in force: keys such as `server.allow`, lists, and
    /// sections.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Settings of the configuration that are valid and most likely a mistake, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Lists with bad lines. Also lists from which names were left out on purpose, but only if this request loaded the
    /// list.
    #[serde(default)]
    pub unused: Vec<UnusedLines>,
    /// Lists that are still being read.
    #[serde(default)]
    pub reading: Vec<String>,
    /// The generation of a rollback that is in force.
    #[serde(default)]
    pub held_as: Option<u64>,
}

/// The lines of a list that are no rules.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnusedLines {
    /// The list.
    pub list: String,
    /// The path of its file, or that of a feed's rules.
    #[serde(default)]
    pub path: PathBuf,
    /// The number of bad lines.
    pub bad: u32,
    /// The number of names that were left out on purpose (`localhost` and the like).
    pub skipped: u32,
}
