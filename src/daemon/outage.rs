//! Reports when no upstream server answers any more, and when one does again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::serve::upstream::{Pool, ServerState};

/// How often to look.
const PERIOD: Duration = Duration::from_secs(1);

/// The outage that goes on now, if any, for `status`.
#[derive(Clone, Debug, Default)]
pub(super) struct Outage(Arc<Mutex<Option<Since>>>);

/// Since when which servers have been silent.
#[derive(Debug)]
struct Since {
    at: Timestamp,
    servers: String,
}

impl Outage {
    /// What `status` says of it.
    pub(super) fn alarm(&self) -> Option<String> {
        self.lock().as_ref().map(|Since { at, servers }| {
            format!(
                "no upstream server answers since {at:.0} ({servers}): what is neither blocked nor in the cache gets \
                 SERVFAIL; check the network and [upstream] servers"
            )
        })
    }

    /// Looks again and again until the service ends.
    pub(super) async fn follow(self, pool: Arc<Pool>, stop: CancellationToken) {
        let follow = async {
            loop {
                tokio::time::sleep(PERIOD).await;
                let stands = self.lock().is_some();
                let is_out = pool.is_out(stands).await;
                self.note(is_out, &pool.state());
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    fn note(&self, is_out: bool, servers: &[ServerState]) {
        let mut since = self.lock();
        match (since.as_ref(), is_out) {
            (None, true) => {
                let servers = named(servers.iter());
                tracing::error!(servers, "no upstream server answers");
                let at = Timestamp::now();
                *since = Some(Since { at, servers });
            }
            (Some(Since { at, .. }), false) => {
                let servers = named(servers.iter().filter(|server| !server.silent));
                let seconds = Timestamp::now().duration_since(*at).as_secs();
                tracing::info!(servers, seconds, "upstream answers again");
                *since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Since>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named<'s>(servers: impl Iterator<Item = &'s ServerState>) -> String {
    let addresses: Vec<SocketAddr> = servers.map(|server| server.address).collect();
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}
