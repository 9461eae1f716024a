//! Detects and reports outages: times at which no upstream server gives usable answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::gauges::upstream_status;
use crate::serve::cache::Key;
use crate::serve::upstream::Pool;
use crate::serve::upstream::state::{OutageWatch, ServerState};

/// How often to check.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// The start of the current outage, if there is one, for `status`.
#[derive(Clone, Debug, Default)]
pub(super) struct Outage(Arc<Mutex<Option<Timestamp>>>);

impl Outage {
    /// When it began.
    pub(super) fn since(&self) -> Option<Timestamp> {
        *self.lock()
    }

    /// The alarm for `status`.
    pub(super) fn alarm(&self, servers: &[ServerState]) -> Option<String> {
        let since = (*self.lock())?;
        Some(alarm(since, servers, &Subject::UPSTREAM))
    }

    /// Checks periodically until the service stops.
    pub(super) async fn follow(self, pool: Arc<Pool>, stop: CancellationToken) {
        let follow = async {
            let mut watch = OutageWatch::default();
            loop {
                tokio::time::sleep(PERIOD).await;
                let is_out = watch.look(&pool, &Key::root_servers()).await;
                self.note(is_out, &pool.state());
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    fn note(&self, is_out: bool, servers: &[ServerState]) {
        let mut since = self.lock();
        match (*since, is_out) {
            (None, true) => {
                let servers = describe_servers(servers);
                tracing::error!(servers, "no upstream server gives usable answers");
                *since = Some(Timestamp::now());
            }
            (Some(at), false) => {
                let servers = usable(servers);
                let seconds = seconds_since(at);
                tracing::info!(servers, seconds, "upstream answers again");
                *since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The words of an alarm about some servers.
pub(super) struct Subject<'t> {
    pub(super) server: &'t str,
    /// The queries that are not answered.
    pub(super) queries: &'t str,
    /// The key with the servers.
    pub(super) key: &'t str,
    /// What the test query asks for.
    pub(super) test: &'t str,
}

impl Subject<'_> {
    const UPSTREAM: Self = Self {
        server: "upstream server",
        queries: "queries that are neither blocked nor in the cache",
        key: "[upstream] servers",
        test: "the root zone",
    };
}

/// The alarm about an outage since a time.
pub(super) fn alarm(since: Timestamp, servers: &[ServerState], subject: &Subject<'_>) -> String {
    let Subject {
        server,
        queries,
        key,
        test,
    } = subject;
    let is_over = servers.iter().any(is_usable);
    let servers = describe_servers(servers);
    if is_over {
        return format!(
            "from {since:.0} on no {server} gave usable answers; one may give them again ({servers}): this alarm ends when a \
             server answers the test query for {test}, or after some more seconds of usable answers"
        );
    }
    format!(
        "no {server} has given usable answers since {since:.0} ({servers}): {queries} are answered by SERVFAIL, or by \
         upstream's error; check the network and {key}"
    )
}

pub(super) fn seconds_since(at: Timestamp) -> i64 {
    Timestamp::now().duration_since(at).as_secs()
}

/// The addresses of the servers whose last answers were usable.
pub(super) fn usable(servers: &[ServerState]) -> String {
    let servers = servers.iter().filter(|server| is_usable(server));
    let servers: Vec<_> = servers.map(|server| server.address.to_string()).collect();
    servers.join(", ")
}

/// Whether its last answers were usable.
fn is_usable(server: &ServerState) -> bool {
    server.latency.is_some() && !server.silent && !server.late && !server.failing
}

/// The state of each server.
pub(super) fn describe_servers(servers: &[ServerState]) -> String {
    let describe = |server: &ServerState| {
        let mut troubles = match server.silent {
            true => vec![
                server
                    .problem
                    .clone()
                    .unwrap_or_else(|| "no answer".to_owned()),
            ],
            false => upstream_status(server.clone()).troubles(),
        };
        if let Some(latency) = server.latency.filter(|_| server.late && !server.silent) {
            let latency = latency.as_millis();
            troubles.push(format!("answers after {latency} ms, later than timeout-ms"));
        }
        if troubles.is_empty() {
            let state = match server.latency {
                Some(_) => "its last answer could be used",
                None => "no answer yet",
            };
            troubles.push(state.to_owned());
        }
        format!("{}: {}", server.address, troubles.join(", "))
    };
    let all: Vec<_> = servers.iter().map(describe).collect();
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::upstream::traffic::TrafficCounts;
    use crate::serve::upstream::{BlockCounts, FailureCounts};
    use crate::wire::ask::Dialect;

    fn server(silent: bool, latency: Option<u64>) -> ServerState {
        ServerState {
            address: "192.0.2.1:53".parse().expect("an address"),
            down: silent,
            silent,
            unanswered: 0,
            late: false,
            latency: latency.map(Duration::from_millis),
            dialect: Dialect {
                edns: true,
                random_case: true,
            },
            referrals: 0,
            failing: false,
            encrypted: false,
            certificate_end: None,
            problem: None,
            failures: FailureCounts::default(),
            blocks: BlockCounts::default(),
            traffic: TrafficCounts::default(),
        }
    }

    fn alarm(server: ServerState) -> String {
        let outage = Outage::default();
        outage.note(true, &[]);
        outage.alarm(&[server]).expect("an alarm")
    }

    #[test]
    fn only_a_silent_server_is_reported_as_without_answer() {
        let silent = alarm(server(true, Some(1)));
        assert!(
            silent.contains("(192.0.2.1:53: no answer): queries that"),
            "{silent}"
        );
        let back = alarm(server(false, Some(1)));
        assert!(!back.contains("no answer"), "{back}");
        assert!(!back.contains("has given usable answers"), "{back}");
        assert!(
            back.contains("(192.0.2.1:53: its last answer could be used)"),
            "{back}"
        );
        let new = alarm(server(false, None));
        assert!(new.contains("192.0.2.1:53: no answer yet"), "{new}");
    }

    #[test]
    fn a_failing_or_late_server_is_not_called_usable() {
        let failing = ServerState {
            failing: true,
            failures: FailureCounts {
                recent: vec![("SERVFAIL", 3)],
                total: vec![("SERVFAIL", 3)],
            },
            ..server(false, Some(1))
        };
        let late = ServerState {
            late: true,
            ..server(false, Some(900))
        };
        for (server, said) in [
            (failing, "192.0.2.1:53: 3 answers SERVFAIL)"),
            (
                late,
                "192.0.2.1:53: answers after 900 ms, later than timeout-ms)",
            ),
        ] {
            let alarm = alarm(server);
            assert!(
                alarm.starts_with("no upstream server has given usable answers since"),
                "{alarm}"
            );
            assert!(alarm.contains(said), "{alarm}");
        }
    }
}
