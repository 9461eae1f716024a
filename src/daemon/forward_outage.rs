//! Detects and reports outages of forwarded zones: times at which none of their servers gives usable answers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::outage::{PERIOD, Subject, alarm, describe_servers, seconds_since, usable};
use crate::config::shown::counted;
use crate::serve::cache::Key;
use crate::serve::routes::PoolId;
use crate::serve::upstream::Pool;
use crate::serve::upstream::pools::{ForwardPool, Forwarding, Pools};
use crate::serve::upstream::state::OutageWatch;
use crate::wire::rtype;

/// The number of pools that are sent a test query at a time: of those with a known outage, and of all others. So however many
/// pools have an outage, that of another is found at once, and so is the end of one if clients get answers.
const AT_ONCE: usize = 32;
/// The number of alarms about single pools. All others are in one alarm.
const MOST_ALARMS: usize = 8;

/// The current outages of forwarded zones, for `status`.
#[derive(Clone, Debug, Default)]
pub(super) struct ForwardOutages(Arc<Mutex<Outages>>);

/// By pool: its zones may change while the outage lasts.
type Outages = HashMap<PoolId, ForwardOutage>;

#[derive(Debug)]
struct ForwardOutage {
    since: Timestamp,
    /// The first zone.
    zone: String,
    /// All zones, as they are shown.
    zones: String,
    pool: Arc<Pool>,
}

/// By pool; `None` while a check runs.
type Watches = HashMap<PoolId, Option<OutageWatch>>;

/// The permits for test queries: to pools with an outage, and to others.
struct Tests([Semaphore; 2]);

impl Default for Tests {
    fn default() -> Self {
        Self([Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE)])
    }
}

/// The check of a pool.
struct Check {
    forwarding: Arc<Forwarding>,
    /// The index of the pool.
    at: usize,
    watch: OutageWatch,
}

impl Check {
    /// Returns itself, and whether there is an outage.
    async fn run(mut self, Tests([of_out, of_others]): &Tests) -> (Self, bool) {
        let tests = match self.watch.goes_on(self.pool()) {
            true => of_out,
            false => of_others,
        };
        let permit = tests.acquire().await;
        let of = &self.forwarding.pools()[self.at];
        let is_out = match of.zones.first() {
            Some(zone) => {
                let test = Key::of(zone, rtype::SOA);
                self.watch.look(&of.pool, &test).await
            }
            None => false,
        };
        drop(permit);
        (self, is_out)
    }

    fn pool(&self) -> &Pool {
        &self.forwarding.pools()[self.at].pool
    }
}

impl ForwardOutages {
    /// The alarms for `status`, by first zone.
    pub(super) fn alarms(&self) -> Vec<String> {
        let outages = self.lock();
        let mut sorted: Vec<_> = outages.values().collect();
        sorted.sort_unstable_by(|one, other| one.zone.cmp(&other.zone));
        let shown = sorted.into_iter().take(MOST_ALARMS);
        let mut alarms: Vec<_> = shown.map(ForwardOutage::alarm).collect();
        if outages.len() > MOST_ALARMS {
            let more = (outages.len() - MOST_ALARMS) as u64;
            let more = counted(more, "other section", "other sections");
            alarms.push(format!(
                "no server of {more} of [[forward]] gives usable answers: see the log"
            ));
        }
        alarms
    }

    /// Checks periodically until the service stops. No check waits for that of another pool.
    pub(super) async fn follow(self, pools: Arc<Pools>, stop: CancellationToken) {
        let follow = async {
            let tests = Tests::default();
            let mut watches = HashMap::new();
            let mut running = FuturesUnordered::new();
            let mut period = tokio::time::interval(PERIOD);
            period.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = period.tick() => {
                        let due = self.begin(&pools.forwarding(), &mut watches);
                        running.extend(due.into_iter().map(|check| check.run(&tests)));
                    }
                    Some((check, is_out)) = running.next() => {
                        let Check { forwarding, at, watch } = check;
                        let of = &forwarding.pools()[at];
                        // It may have been removed meanwhile.
                        if let Some(known) = watches.get_mut(&of.pool.id()) {
                            *known = Some(watch);
                            self.note(of, is_out);
                        }
                    }
                }
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    /// Forgets pools that are not in use any more. Returns the checks of those that need a test query, and are not being
    /// checked.
    fn begin(&self, forwarding: &Arc<Forwarding>, watches: &mut Watches) -> Vec<Check> {
        let mut due = Vec::new();
        let mut before = std::mem::take(watches);
        for (at, of) in watched(forwarding) {
            let id = of.pool.id();
            let known = before.remove(&id);
            let watch = match known.unwrap_or_else(|| Some(OutageWatch::default())) {
                Some(watch) if watch.needs_test(&of.pool) => {
                    let forwarding = Arc::clone(forwarding);
                    due.push(Check {
                        forwarding,
                        at,
                        watch,
                    });
                    None
                }
                watch => watch,
            };
            watches.insert(id, watch);
        }
        self.lock().retain(|id, _| watches.contains_key(id));
        due
    }

    /// Notes whether there is an outage of a pool, and the zones that it has now.
    fn note(&self, of: &ForwardPool, is_out: bool) {
        let Some(zone) = of.zones.first().map(ToString::to_string) else {
            return;
        };
        let zones = shown_zones(of);
        let mut outages = self.lock();
        match (outages.remove(&of.pool.id()), is_out) {
            (None, true) => {
                let servers = describe_servers(&of.pool.state());
                tracing::error!(
                    zones,
                    servers,
                    "no server of a forwarded zone gives usable answers"
                );
                let outage = ForwardOutage {
                    since: Timestamp::now(),
                    zone,
                    zones,
                    pool: Arc::clone(&of.pool),
                };
                outages.insert(of.pool.id(), outage);
            }
            (Some(known), true) => {
                let outage = ForwardOutage {
                    zone,
                    zones,
                    ..known
                };
                outages.insert(of.pool.id(), outage);
            }
            (Some(known), false) => {
                let servers = usable(&of.pool.state());
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

    fn lock(&self) -> MutexGuard<'_, Outages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ForwardOutage {
    fn alarm(&self) -> String {
        let Self { zone, zones, .. } = self;
        let subject = Subject {
            server: &format!("server of [[forward]] zone {zones}"),
            queries: "queries for its names that are neither blocked nor in the cache",
            key: "its `servers`",
            test: &format!("the SOA record of {zone}"),
        };
        alarm(self.since, &self.pool.state(), &subject)
    }
}

/// The pools, each once, with their indices.
fn watched(forwarding: &Forwarding) -> impl Iterator<Item = (usize, &ForwardPool)> {
    let mut seen = HashSet::new();
    let pools = forwarding.pools().iter().enumerate();
    pools.filter(move |(_, of)| seen.insert(of.pool.id()))
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;
    use crate::serve::resolver::tests::{BOUNDS, Fate};
    use crate::serve::upstream::server::Server;
    use crate::wire::ask::Dialect;
    use crate::wire::name::Name;

    const TIMEOUT: Duration = Duration::from_secs(5);

    /// A pool whose server never answers.
    fn dead(zone: &str) -> ForwardPool {
        let server = Server::new(SocketAddr::from(([192, 0, 2, 1], 53)), Dialect::FULL);
        let pool = Pool::new(
            vec![server],
            Arc::new(Fate::Silent),
            TIMEOUT,
            BOUNDS,
            Arc::default(),
            Arc::default(),
        );
        ForwardPool {
            zones: vec![Name::from_text(zone).expect("a name")],
            pool: Arc::new(pool.of_zones()),
        }
    }

    /// Asks for names until the server is known to be silent.
    async fn ask(of: &ForwardPool) {
        while !OutageWatch::default().needs_test(&of.pool) {
            let _ = of
                .pool
                .ask(&Key::of(&of.zones[0], rtype::A), None, None)
                .await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_found_at_once_beside_hundreds_of_others() {
        let mut all: Vec<_> = (0..400).map(|number| dead(&format!("z{number}"))).collect();
        all.push(dead("late"));
        let late = all[400].pool.id();
        let default = Pool::new(
            Vec::new(),
            Arc::new(Fate::Silent),
            TIMEOUT,
            BOUNDS,
            Arc::default(),
            Arc::default(),
        );
        let pools = Arc::new(Pools::new(Arc::new(default)));
        pools.replace(Forwarding::new(all.clone()));
        let outages = ForwardOutages::default();
        let stop = CancellationToken::new();
        let following = tokio::spawn(outages.clone().follow(Arc::clone(&pools), stop.clone()));
        join_all(all[..400].iter().map(ask)).await;
        let has_late = |outages: &Outages| outages.contains_key(&late);
        let until = async |is_so: &dyn Fn(&Outages) -> bool| {
            let start = tokio::time::Instant::now();
            while !is_so(&outages.lock()) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            start.elapsed()
        };
        until(&|outages| outages.len() == 400).await;
        ask(&all[400]).await;
        let found = until(&has_late).await;
        assert!(found < PERIOD + 2 * TIMEOUT, "{found:?}");
        // Those that are removed are forgotten, whether a check runs or not.
        pools.replace(Forwarding::new(all.split_off(400)));
        let forgotten = until(&|outages| outages.len() == 1).await;
        assert!(forgotten <= 2 * PERIOD, "{forgotten:?}");
        stop.cancel();
        following.await.expect("it ends");
        assert!(has_late(&outages.lock()));
    }

    /// The same pool with other zones.
    fn with_zones(of: &ForwardPool, zones: &[&str]) -> ForwardPool {
        let zones = zones.iter().map(|zone| Name::from_text(zone));
        ForwardPool {
            zones: zones.collect::<Result<_, _>>().expect("names"),
            pool: Arc::clone(&of.pool),
        }
    }

    /// The zones of all alarms.
    fn alarmed(outages: &ForwardOutages) -> Vec<String> {
        let alarms = outages.alarms();
        let zones = alarms.iter().map(|alarm| {
            let (_, rest) = alarm.split_once("[[forward]] zone ").expect("zones");
            let (zones, _) = rest.split_once(" has given").expect("an alarm");
            zones.to_owned()
        });
        zones.collect()
    }

    #[test]
    fn an_outage_stays_that_of_its_servers_when_their_zones_change() {
        let outages = ForwardOutages::default();
        let one = dead("a");
        outages.note(&with_zones(&one, &["a", "b"]), true);
        assert_eq!(alarmed(&outages), ["a and 1 more"]);
        outages.note(&with_zones(&one, &["b"]), true);
        assert_eq!(alarmed(&outages), ["b"]);
        // Other servers that have the first zone now answer, and then they don't.
        let other = dead("a");
        outages.note(&other, false);
        assert_eq!(alarmed(&outages), ["b"]);
        outages.note(&other, true);
        assert_eq!(alarmed(&outages), ["a", "b"]);
        outages.note(&with_zones(&one, &["b"]), false);
        assert_eq!(alarmed(&outages), ["a"]);
        outages.note(&with_zones(&other, &["c", "a"]), false);
        assert!(alarmed(&outages).is_empty());
    }
}
