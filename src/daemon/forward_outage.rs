//! Detects and reports outages of forwarded zones: times at which none of their servers gives usable answers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::outage::{PERIOD, Subject, alarm, describe_servers, seconds_since, usable};
use crate::config::shown::counted;
use crate::serve::cache::Key;
use crate::serve::upstream::Pool;
use crate::serve::upstream::pools::{ForwardPool, Forwarding, Pools};
use crate::serve::upstream::state::OutageWatch;
use crate::wire::name::Name;
use crate::wire::rtype;

/// The number of pools that are sent a test query at a time.
const AT_ONCE: usize = 32;
/// The number of alarms about single pools. All others are in one alarm.
const MOST_ALARMS: usize = 8;

/// The current outages of forwarded zones, for `status`.
#[derive(Clone, Debug, Default)]
pub(super) struct ForwardOutages(Arc<Mutex<Outages>>);

/// By the first zone of the pool.
type Outages = BTreeMap<String, ForwardOutage>;

#[derive(Debug)]
struct ForwardOutage {
    since: Timestamp,
    /// The zones, as they are shown.
    zones: String,
    pool: Arc<Pool>,
}

impl ForwardOutages {
    /// The alarms for `status`.
    pub(super) fn alarms(&self) -> Vec<String> {
        let outages = self.lock();
        let shown = outages.iter().take(MOST_ALARMS);
        let mut alarms: Vec<_> = shown.map(|(zone, outage)| outage.alarm(zone)).collect();
        if outages.len() > MOST_ALARMS {
            let more = (outages.len() - MOST_ALARMS) as u64;
            let more = counted(more, "other section", "other sections");
            alarms.push(format!(
                "no server of {more} of [[forward]] gives usable answers: see the log"
            ));
        }
        alarms
    }

    /// Checks periodically until the service stops.
    pub(super) async fn follow(self, pools: Arc<Pools>, stop: CancellationToken) {
        let follow = async {
            let mut watches = HashMap::new();
            loop {
                tokio::time::sleep(PERIOD).await;
                let forwarding = pools.forwarding();
                let looks = watched(&forwarding).map(|(zone, of)| {
                    let id = of.pool.id();
                    let mut watch: OutageWatch = watches.remove(&id).unwrap_or_default();
                    async move {
                        let test = Key::of(zone, rtype::SOA);
                        let is_out = watch.look(&of.pool, &test).await;
                        (id, watch, (of, is_out))
                    }
                });
                let looks: Vec<_> = looks.collect();
                let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
                let mut all = Vec::new();
                let mut next = HashMap::new();
                while let Some((id, watch, looked)) = looks.next().await {
                    next.insert(id, watch);
                    all.push(looked);
                }
                watches = next;
                self.note(&all);
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    /// Notes whether there is an outage of each of these pools. All others are not in use any more.
    fn note(&self, all: &[(&ForwardPool, bool)]) {
        let mut outages = self.lock();
        let mut before = std::mem::take(&mut *outages);
        for (of, is_out) in all {
            let Some(zone) = of.zones.first().map(ToString::to_string) else {
                continue;
            };
            let known = before.remove(&zone);
            let known = known.filter(|known| Arc::ptr_eq(&known.pool, &of.pool));
            match (known, is_out) {
                (None, true) => {
                    let zones = shown_zones(of);
                    let servers = describe_servers(&of.pool.state());
                    tracing::error!(
                        zones,
                        servers,
                        "no server of a forwarded zone gives usable answers"
                    );
                    let outage = ForwardOutage {
                        since: Timestamp::now(),
                        zones,
                        pool: Arc::clone(&of.pool),
                    };
                    outages.insert(zone, outage);
                }
                (Some(known), true) => _ = outages.insert(zone, known),
                (Some(known), false) => {
                    let (zones, servers) = (&known.zones, usable(&of.pool.state()));
                    let seconds = seconds_since(known.since);
                    tracing::info!(
                        zones,
                        servers,
                        seconds,
                        "the servers of a forwarded zone answer again"
                    );
                }
                (None, false) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Outages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ForwardOutage {
    fn alarm(&self, zone: &str) -> String {
        let zones = &self.zones;
        let subject = Subject {
            server: &format!("server of [[forward]] zone {zones}"),
            queries: "queries for its names that are neither blocked nor in the cache",
            key: "its `servers`",
            test: &format!("the SOA record of {zone}"),
        };
        alarm(self.since, &self.pool.state(), &subject)
    }
}

/// The pools, each once, with their first zones.
fn watched(forwarding: &Forwarding) -> impl Iterator<Item = (&Name, &ForwardPool)> {
    let mut seen = HashSet::new();
    let pools = forwarding.pools().iter();
    let pools = pools.filter(move |of| seen.insert(of.pool.id()));
    pools.filter_map(|of| Some((of.zones.first()?, of)))
}

/// The first zone, and how many others there are.
fn shown_zones(of: &ForwardPool) -> String {
    let first = of.zones.first().map(ToString::to_string);
    let first = first.unwrap_or_default();
    match of.zones.len().saturating_sub(1) as u64 {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
