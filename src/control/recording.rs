//! Requests about the queries that the running server finishes: top lists, and queries as they come. The types are part
//! of the control socket's API.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// The most frequent names, clients and sources of the last minutes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TopReport {
    /// The time that the lists are about.
    pub seconds: u64,
    /// The queries that were counted within this time.
    pub queries: u64,
    /// The queries that the server was too busy to count.
    #[serde(default)]
    pub missing: u64,
    /// Queried names.
    pub names: TopList,
    /// Queried names of blocked queries.
    pub blocked_names: TopList,
    /// Clients, in the form that `[query-log] client` says.
    pub clients: TopList,
    /// Lists, zones and orders that blocked queries.
    pub sources: TopList,
}

/// The most frequent texts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TopList {
    /// The most frequent one first.
    pub entries: Vec<TopEntry>,
    /// By how much a count may be too high. None is too low, except for missing queries.
    pub error: u64,
}

/// A text, and how often it was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopEntry {
    /// The text.
    pub text: String,
    /// The number of queries.
    pub count: u64,
}

impl TopReport {
    /// The report with the first entries of each list.
    pub fn first(&self, entries: usize) -> Self {
        let first = |list: &TopList| TopList {
            entries: list.entries.iter().take(entries).cloned().collect(),
            error: list.error,
        };
        Self {
            seconds: self.seconds,
            queries: self.queries,
            missing: self.missing,
            names: first(&self.names),
            blocked_names: first(&self.blocked_names),
            clients: first(&self.clients),
            sources: first(&self.sources),
        }
    }
}

/// A request for queries as they come. All of its conditions must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TailRequest {
    /// Only queries for this name.
    #[serde(default)]
    pub name: Option<String>,
    /// Only queries for this name and the names below it.
    #[serde(default)]
    pub zone: Option<String>,
    /// Only queries of this client: an address, a network, or, if clients are hashed, a hash.
    #[serde(default)]
    pub client: Option<String>,
    /// Only blocked queries.
    #[serde(default)]
    pub blocked: bool,
}

/// Parts of a text of lines: each is a query as in the query log, a [`TailEvent`], or empty.
pub type TailParts = mpsc::Receiver<Vec<u8>>;

/// A line between those of queries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TailEvent {
    /// This many queries are missing here, because the reader or the server was too slow for them.
    Missing(u64),
    /// No more lines follow, and why.
    End(String),
}

/// The queries that the running server finishes.
pub trait RecordedQueries: Send + Sync {
    /// The newest top lists with up to `entries` entries each; `None` if they are off.
    fn top(&self, entries: usize) -> Option<TopReport>;

    /// Begins to pass on queries. The answer is why that is refused, or the lines. It does not come if the server is
    /// stopping.
    fn tail(&self, request: TailRequest) -> oneshot::Receiver<Result<TailParts, String>>;
}
