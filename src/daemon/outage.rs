//! Reports when no upstream server gives usable answers any more, and when one does again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::live::upstream;
use crate::serve::upstream::{OutageWatch, Pool, ServerState};

/// How often to look.
const PERIOD: Duration = Duration::from_secs(1);

/// Since when there is an outage, if there is one now, for `status`.
#[derive(Clone, Debug, Default)]
pub(super) struct Outage(Arc<Mutex<Option<Timestamp>>>);

impl Outage {
    /// What `status` says of it.
    pub(super) fn alarm(&self, servers: &[ServerState]) -> Option<String> {
        let since = (*self.lock())?;
        let servers = described(servers);
        Some(format!(
            "no upstream server gives usable answers since {since:.0} ({servers}): what is neither blocked nor in the \
             cache gets SERVFAIL, or the error that upstream gives; check the network and [upstream] servers"
        ))
    }

    /// Looks again and again until the service ends.
    pub(super) async fn follow(self, pool: Arc<Pool>, stop: CancellationToken) {
        let follow = async {
            let mut watch = OutageWatch::default();
            loop {
                tokio::time::sleep(PERIOD).await;
                let is_out = watch.look(&pool).await;
                self.note(is_out, &pool.state());
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    fn note(&self, is_out: bool, servers: &[ServerState]) {
        let mut since = self.lock();
        match (*since, is_out) {
            (None, true) => {
                let servers = described(servers);
                tracing::error!(servers, "no upstream server gives usable answers");
                *since = Some(Timestamp::now());
            }
            (Some(at), false) => {
                let answers = |server: &&ServerState| {
                    server.latency.is_some() && !server.silent && !server.late && !server.failing
                };
                let servers = servers.iter().filter(answers);
                let servers: Vec<_> = servers.map(|server| server.address.to_string()).collect();
                let servers = servers.join(", ");
                let seconds = Timestamp::now().duration_since(at).as_secs();
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

/// Each server, and what comes of asking it.
fn described(servers: &[ServerState]) -> String {
    let describe = |server: &ServerState| {
        let mut troubles = match server.silent {
            true => Vec::new(),
            false => upstream(server.clone()).troubles(),
        };
        if let Some(latency) = server.latency.filter(|_| server.late && !server.silent) {
            let latency = latency.as_millis();
            troubles.push(format!("answers after {latency} ms, later than timeout-ms"));
        }
        if troubles.is_empty() {
            troubles.push("no answer".to_owned());
        }
        format!("{}: {}", server.address, troubles.join(", "))
    };
    let all: Vec<_> = servers.iter().map(describe).collect();
    all.join("; ")
}
