//! Replaces servers in clear by the encrypted ones that they designate, once these are verified (RFC 9462).
//!
//! The servers as configured stay known beside those that are asked. All replacements of the pool's servers pass here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;

use super::bootstrap::Means;
use super::designation_check::{Check, Finding, Verified};
use crate::config::Config;
use crate::control::gauges::DiscoveryStatus;
use crate::serve::upstream::Pool;
use crate::serve::upstream::server::Target;

/// The bounds of the time after which a server is asked again, whatever its TTL; the last one if it is asked in clear.
const SOONEST: Duration = Duration::from_secs(60);
const LATEST: Duration = Duration::from_secs(24 * 3600);
const LATEST_IN_CLEAR: Duration = Duration::from_secs(3600);
/// How often to look whether the encrypted servers work.
const PERIOD: Duration = Duration::from_secs(5);

/// Whether designations count, and for whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Discovery {
    is_on: bool,
    /// The addresses of this server, which must not be used as upstream.
    listen: Arc<[SocketAddr]>,
}

impl Discovery {
    /// The settings of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            is_on: config.upstream.discover,
            listen: config.server.listen.as_slice().into(),
        }
    }
}

/// The servers of a pool as configured, and the encrypted ones in their place.
#[derive(Clone)]
pub(super) struct Designations(Arc<Shared>);

struct Shared {
    pool: Arc<Pool>,
    means: Means,
    state: Mutex<State>,
    /// Marks a change of the servers or settings, and a request to ask again.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    discovery: Discovery,
    /// The servers as configured.
    servers: Vec<Target>,
    /// The servers in clear among them.
    known: Vec<Known>,
}

/// The state of a server in clear.
#[derive(Clone)]
struct Known {
    plain: Target,
    verified: Option<Verified>,
    /// Why it is asked in clear, or why the encrypted server can't be confirmed. `None` before the first check ends, too.
    why: Option<String>,
    failures: u32,
    /// When to ask next, and which request to ask it is: a check that began before the last request does not count.
    due: Instant,
    request: u64,
    /// When the last check ended.
    checked: Option<Instant>,
}

impl Known {
    fn new(plain: Target, now: Instant) -> Self {
        Self {
            plain,
            verified: None,
            why: None,
            failures: 0,
            due: now,
            request: 0,
            checked: None,
        }
    }

    fn demand(&mut self, now: Instant) {
        self.due = now;
        self.request += 1;
    }

    fn note(&mut self, found: Finding, now: Instant) {
        let pause = match found.ttl {
            Some(ttl) => {
                self.failures = 0;
                Duration::from_secs(ttl.into())
            }
            None => {
                let pause = SOONEST * 2_u32.saturating_pow(self.failures.min(8));
                self.failures = self.failures.saturating_add(1);
                pause.min(LATEST_IN_CLEAR)
            }
        };
        let latest = match found.verified {
            Some(_) => LATEST,
            None => LATEST_IN_CLEAR,
        };
        self.due = now + pause.clamp(SOONEST, latest);
        self.checked = Some(now);
        self.log(&found);
        (self.verified, self.why) = (found.verified, found.why);
    }

    fn log(&self, found: &Finding) {
        let server = self.plain.address.to_string();
        let why = found.why.as_deref().unwrap_or_default();
        match (&self.verified, &found.verified) {
            (Some(before), Some(now)) if before.target == now.target => {
                if self.why != found.why && !why.is_empty() {
                    tracing::warn!(
                        server,
                        encrypted = now.shown,
                        why,
                        "the encrypted server in its place can't be confirmed"
                    );
                }
            }
            (_, Some(now)) => {
                tracing::info!(
                    server,
                    encrypted = now.shown,
                    "a verified encrypted server is asked in its place"
                );
            }
            (Some(before), None) => {
                tracing::warn!(
                    server,
                    encrypted = before.shown,
                    why,
                    "asked in clear again, in place of the encrypted server"
                );
            }
            (None, None) if self.why != found.why => {
                tracing::info!(
                    server,
                    why,
                    "asked in clear: there is no verified encrypted server in its place"
                );
            }
            (None, None) => {}
        }
    }

    fn status(&self) -> DiscoveryStatus {
        DiscoveryStatus {
            server: self.plain.address.socket,
            encrypted: self
                .verified
                .as_ref()
                .map(|verified| verified.shown.clone()),
            problem: self.why.clone(),
        }
    }
}

impl State {
    /// Keeps what is known about servers in clear that stay.
    fn set(&mut self, servers: &[Target], now: Instant) {
        self.servers = servers.to_vec();
        let mut before = std::mem::take(&mut self.known);
        if !self.discovery.is_on {
            return;
        }
        let plain = servers.iter().filter(|server| server.tls.is_none());
        let known = plain.map(|server| {
            let at = before.iter().position(|known| known.plain == *server);
            at.map_or_else(
                || Known::new(server.clone(), now),
                |at| before.swap_remove(at),
            )
        });
        self.known = known.collect();
    }

    /// The servers to ask.
    fn asked(&self) -> Vec<Target> {
        let asked = self.servers.iter().map(|server| {
            let known = self.known.iter().find(|known| known.plain == *server);
            let verified = known.and_then(|known| known.verified.as_ref());
            verified.map_or(server, |verified| &verified.target).clone()
        });
        asked.collect()
    }

    /// Checks encrypted servers that do not work earlier than planned.
    fn hasten(&mut self, failing: &[Target], now: Instant) {
        for known in &mut self.known {
            let fails = known
                .verified
                .as_ref()
                .is_some_and(|verified| failing.contains(&verified.target));
            let is_early = known.checked.is_some_and(|at| now < at + SOONEST);
            if fails && !is_early {
                known.due = known.due.min(now);
            }
        }
    }
}

impl Designations {
    /// Replaces the servers of `pool`. Without discovery, these are the ones as configured.
    pub(super) fn new(pool: Arc<Pool>, means: Means) -> Self {
        let servers = pool.targets();
        Self(Arc::new(Shared {
            pool,
            means,
            state: Mutex::new(State {
                servers,
                ..State::default()
            }),
            changed: watch::Sender::new(()),
        }))
    }

    /// Changes the settings, and the servers as configured unless they are `None`.
    pub(super) fn configure(&self, discovery: Discovery, servers: Option<Vec<Target>>) {
        let mut state = self.lock();
        state.discovery = discovery;
        let servers = servers.unwrap_or_else(|| state.servers.clone());
        self.set_in(&mut state, &servers);
    }

    /// Replaces the servers as configured.
    pub(super) fn set(&self, servers: &[Target]) {
        self.set_in(&mut self.lock(), servers);
    }

    fn set_in(&self, state: &mut State, servers: &[Target]) {
        state.set(servers, Instant::now());
        self.replace(state);
        self.0.changed.send_replace(());
    }

    /// Asks all servers in clear again at once.
    pub(super) fn ask_again(&self) {
        let now = Instant::now();
        for known in &mut self.lock().known {
            known.demand(now);
        }
        self.0.changed.send_replace(());
    }

    /// The servers as configured.
    pub(super) fn servers(&self) -> Vec<Target> {
        self.lock().servers.clone()
    }

    /// What is known about each server in clear, for `status`.
    pub(super) fn status(&self) -> Vec<DiscoveryStatus> {
        self.lock().known.iter().map(Known::status).collect()
    }

    /// Asks the servers in clear, each time that it is due.
    pub(super) async fn follow(self) {
        let mut changed = self.0.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let now = Instant::now();
            let due = self.due(now);
            if due.is_empty() {
                let pause = tokio::time::sleep_until(self.next(now));
                tokio::select! {
                    () = pause => {
                        let failing = self.0.pool.failing();
                        self.lock().hasten(&failing, Instant::now());
                    }
                    _ = changed.changed() => {}
                }
                continue;
            }
            let check = self.check();
            let checks = due.into_iter().map(|known| {
                let check = check.clone();
                async move {
                    let found = check.run(known.plain.clone(), known.verified.clone()).await;
                    (known, found)
                }
            });
            let mut checks: FuturesUnordered<_> = checks.collect();
            let all = async {
                while let Some((asked, found)) = checks.next().await {
                    self.note(&asked, found);
                }
            };
            // After a change, the servers that are still due are asked from the start.
            tokio::select! {
                () = all => {}
                _ = changed.changed() => {}
            }
        }
    }

    fn due(&self, now: Instant) -> Vec<Known> {
        let state = self.lock();
        let due = state.known.iter().filter(|known| known.due <= now);
        due.cloned().collect()
    }

    /// When to look again.
    fn next(&self, now: Instant) -> Instant {
        let state = self.lock();
        let is_any_used = state.known.iter().any(|known| known.verified.is_some());
        let latest = now + if is_any_used { PERIOD } else { LATEST };
        let due = state.known.iter().map(|known| known.due);
        due.min().map_or(latest, |due| due.min(latest))
    }

    fn check(&self) -> Check {
        Check {
            means: self.0.means.clone(),
            listen: Arc::clone(&self.lock().discovery.listen),
            timeout: self.0.pool.timeout(),
        }
    }

    fn note(&self, asked: &Known, found: Finding) {
        let mut state = self.lock();
        let mut known = state.known.iter_mut();
        let is_it =
            |known: &&mut Known| known.plain == asked.plain && known.request == asked.request;
        if let Some(known) = known.find(is_it) {
            known.note(found, Instant::now());
        }
        self.replace(&state);
    }

    /// The state is locked meanwhile, so the last replacement is that of the last state.
    fn replace(&self, state: &State) {
        let asked = state.asked();
        if self.0.pool.targets() != asked {
            self.0.pool.replace(&asked);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ask::Dialect;

    fn server(last: u8) -> Target {
        Target::plain(SocketAddr::from(([192, 0, 2, last], 53)), Dialect::FULL)
    }

    fn verified(last: u8) -> Verified {
        Verified {
            target: server(last),
            shown: format!("tls://192.0.2.{last}"),
        }
    }

    fn finding(verified: Option<Verified>, ttl: Option<u32>) -> Finding {
        let why = verified.is_none().then(|| "a reason".to_owned());
        Finding { verified, why, ttl }
    }

    fn on() -> State {
        State {
            discovery: Discovery {
                is_on: true,
                ..Discovery::default()
            },
            ..State::default()
        }
    }

    #[test]
    fn a_server_is_asked_again_after_its_ttl_within_bounds_and_after_failures_ever_later() {
        let now = Instant::now();
        let mut known = Known::new(server(1), now);
        for (ttl, in_clear, pause) in [
            (0, false, SOONEST),
            (300, false, Duration::from_secs(300)),
            (300, true, Duration::from_secs(300)),
            (u32::MAX, false, LATEST),
            (u32::MAX, true, LATEST_IN_CLEAR),
        ] {
            let found = (!in_clear).then(|| verified(2));
            known.note(finding(found, Some(ttl)), now);
            assert_eq!(known.due, now + pause, "{ttl} {in_clear}");
        }
        let mut pauses = Vec::new();
        for _ in 0..8 {
            known.note(finding(None, None), now);
            pauses.push((known.due - now).as_secs());
        }
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn the_encrypted_server_takes_the_place_of_the_one_in_clear_and_a_change_of_others_keeps_it() {
        let now = Instant::now();
        let mut state = on();
        state.set(&[server(1), server(2)], now);
        state.known[1].note(finding(Some(verified(9)), Some(600)), now);
        assert_eq!(state.asked(), [server(1), server(9)]);
        state.set(&[server(2), server(3)], now);
        assert_eq!(state.asked(), [server(9), server(3)]);
        assert_eq!(state.known[0].due, now + Duration::from_secs(600));
        state.discovery.is_on = false;
        state.set(&[server(2), server(3)], now);
        assert_eq!(state.asked(), [server(2), server(3)]);
    }

    #[test]
    fn an_encrypted_server_that_fails_is_checked_early_but_not_often() {
        let now = Instant::now();
        let mut state = on();
        state.set(&[server(1)], now);
        state.known[0].note(finding(Some(verified(9)), Some(86_400)), now);
        let planned = state.known[0].due;
        let early = now + SOONEST - Duration::from_secs(1);
        state.hasten(&[server(9)], early);
        assert_eq!(state.known[0].due, planned);
        let later = now + SOONEST;
        state.hasten(&[server(8)], later);
        assert_eq!(state.known[0].due, planned, "another one fails");
        state.hasten(&[server(9)], later);
        assert_eq!(state.known[0].due, later);
    }
}
