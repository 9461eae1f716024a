//! Counts the connections to the addresses of metrics by their end, and logs those that the server ended.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::families::Writer;

/// The least time between two lines of the log about connections with the same end.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its request was answered.
    Served,
    /// It had no request that could be read in time, or the client closed it early.
    Failed,
    /// It took too long, because the client reads too slowly.
    Cut,
    /// The client is not permitted.
    NotPermitted,
}

/// The label of each end.
const RESULTS: [(&str, End); 4] = [
    ("served", End::Served),
    ("failed", End::Failed),
    ("cut", End::Cut),
    ("not_permitted", End::NotPermitted),
];

/// The counters of connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    counts: [AtomicU64; RESULTS.len()],
    /// When the last line about each end was logged.
    logged: Mutex<[Option<Instant>; RESULTS.len()]>,
}

impl Connections {
    /// Counts a connection of `client`. Writes a line to the log if the server ended it, and the last such line is old.
    pub(super) fn ended(&self, end: End, client: IpAddr) {
        let connections = self.counts[end as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let client = client.to_canonical();
        match end {
            End::Served | End::Failed => {}
            End::Cut if self.may_log(end) => tracing::warn!(
                %client, connections,
                "a scrape of the metrics was cut because its client reads too slowly; more of them are only counted for a minute"
            ),
            End::NotPermitted if self.may_log(end) => tracing::warn!(
                %client, connections,
                "a client that [metrics] allow does not permit was refused; more of them are only counted for a minute"
            ),
            End::Cut | End::NotPermitted => {}
        }
    }

    fn may_log(&self, end: End) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let last = &mut logged[end as usize];
        let now = Instant::now();
        let may_log = last.is_none_or(|last| now.duration_since(last) >= LOG_PAUSE);
        if may_log {
            *last = Some(now);
        }
        may_log
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let samples = RESULTS.map(|(result, end)| {
            let count = self.counts[end as usize].load(Ordering::Relaxed);
            ([("result", result)], count)
        });
        writer.counters(
            "metrics_connections",
            "Connections to the addresses of metrics, by their end.",
            None,
            samples,
        )
    }
}
