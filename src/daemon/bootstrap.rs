//! Upstream servers that are given by name: finds their addresses by the servers of `bootstrap`, and follows changes.
//!
//! The names are asked of these servers alone, never of this server itself, whose answers depend on the addresses. If
//! the servers of `bootstrap` give no answer, the last known addresses stay in use.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::hosts;
use super::resolv_conf::SourceProblem;
use super::target::{DEFAULT_PLACE, UpstreamError, own_address, resolve, target};
use crate::config::Config;
use crate::config::upstream::NamedServer;
use crate::serve::upstream::Pool;
use crate::serve::upstream::connect::Network;
use crate::serve::upstream::pools::Pools;
use crate::serve::upstream::server::{Server, Target};
use crate::stats::Counters;
use crate::sys::udp::Ports;
use crate::tls::client::Authorities;
use crate::wire::answer::Intake;
use crate::wire::ask::Dialect;
use crate::wire::name::Name;

/// The bounds of the time for which addresses are used before they are asked again, whatever their TTL.
const SOONEST: Duration = Duration::from_secs(2);
const LATEST: Duration = Duration::from_secs(24 * 3600);
/// The pause after a failure, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long the start of the server waits for the first addresses.
const FIRST_WAIT: Duration = Duration::from_secs(3);
/// Failures in a row after which known addresses are reported as not confirmed.
const DOUBTED_AFTER: u32 = 3;
/// The most addresses of a name that are used.
const MOST_ADDRESSES: usize = 8;

/// What queries to the servers of `bootstrap` are sent with.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) network: Arc<Network>,
    pub(super) ports: Arc<Ports>,
    pub(super) counters: Arc<Counters>,
}

/// The servers that are given by name, and those at fixed addresses.
#[derive(Debug)]
pub(super) struct Bootstrap {
    named: Vec<NamedServer>,
    /// The certificates of their authorities, as they were when the configuration was read.
    authorities: Authorities,
    /// The addresses of this server, which must not be used as upstream.
    listen: Vec<SocketAddr>,
    timeout: Duration,
    intake: Intake,
    /// The servers at fixed addresses, in the order of the configuration.
    fixed: Vec<Target>,
    /// The servers that are asked for the names.
    resolvers: Vec<Target>,
    known: BTreeMap<Name, Known>,
    /// The addresses that were found, for those that follow this configuration's names later.
    found: FoundAddresses,
    problem: SourceProblem,
    /// The last servers.
    servers: Vec<Target>,
}

/// The addresses of names that were found last. They outlive a change of the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct FoundAddresses(Arc<Mutex<BTreeMap<Name, Vec<IpAddr>>>>);

impl FoundAddresses {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Vec<IpAddr>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known about a name.
#[derive(Clone, Debug)]
struct Known {
    addresses: Vec<IpAddr>,
    failures: u32,
    /// Why the last attempt failed.
    why: String,
    /// When to ask next.
    due: Instant,
}

impl Known {
    fn note(&mut self, found: Result<(Vec<IpAddr>, u32), String>, now: Instant) {
        match found {
            Ok((mut addresses, ttl)) => {
                // The order of the records in an answer may differ each time.
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(MOST_ADDRESSES);
                self.addresses = addresses;
                self.failures = 0;
                let ttl = Duration::from_secs(ttl.into());
                self.due = now + ttl.clamp(SOONEST, LATEST);
            }
            Err(why) => {
                let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(8));
                self.failures = self.failures.saturating_add(1);
                self.why = why;
                self.due = now + pause.min(LONGEST_PAUSE);
            }
        }
    }

    /// The problem for `status`.
    fn problem(&self, host: &Name) -> Option<String> {
        let why = &self.why;
        let remedy =
            "check the network and [upstream] bootstrap, or write addresses in [upstream] servers";
        match self.failures {
            0 => None,
            _ if self.addresses.is_empty() => Some(format!(
                "upstream {host} is not used, because its address is not known ({why}): {remedy}"
            )),
            1..DOUBTED_AFTER => None,
            _ => Some(format!(
                "the addresses of upstream {host} can't be confirmed ({why}), and the last known ones stay in use: {remedy}"
            )),
        }
    }
}

impl Bootstrap {
    /// Prepares the search for the addresses of a configuration's servers. `None` if no server is given by name.
    ///
    /// # Errors
    /// [`UpstreamError`] if a server of `bootstrap` is this server itself, or behind an interface that does not exist, or
    /// if connections to a server can't be encrypted.
    pub(super) fn new(
        config: &Config,
        intake: Intake,
        fixed: Vec<Target>,
        mut authorities: Authorities,
    ) -> Result<Option<Self>, UpstreamError> {
        const PLACE: &str = "in [upstream] bootstrap";
        if config.upstream.named.is_empty() {
            return Ok(None);
        }
        let resolvers = config.upstream.bootstrap.iter().map(|address| {
            let address = resolve(address.clone(), PLACE)?;
            own_address(address.socket, &config.server.listen, PLACE)?;
            Ok(Target::plain(address, Dialect::FULL))
        });
        let resolvers = resolvers.collect::<Result<_, UpstreamError>>()?;
        for named in &config.upstream.named {
            // Only the address is not known yet.
            target(named.server(), &[], DEFAULT_PLACE, &mut authorities)?;
        }
        let now = Instant::now();
        let unknown = || Known {
            addresses: Vec::new(),
            failures: 0,
            why: String::new(),
            due: now,
        };
        let named = config.upstream.named.iter();
        Ok(Some(Self {
            named: config.upstream.named.clone(),
            authorities,
            listen: config.server.listen.clone(),
            timeout: config.upstream.timeout,
            intake,
            servers: fixed.clone(),
            fixed,
            resolvers,
            known: named.map(|of| (of.host.clone(), unknown())).collect(),
            found: FoundAddresses::default(),
            problem: SourceProblem::default(),
        }))
    }

    /// The problem with the names.
    pub(super) fn problem(&self) -> SourceProblem {
        self.problem.clone()
    }

    /// Begins with addresses that were found under an earlier configuration, and records those that are found from now on.
    pub(super) fn adopt(&mut self, found: &FoundAddresses) {
        self.found = found.clone();
        let mut found = found.lock();
        for (host, known) in &mut self.known {
            match found.get(host) {
                Some(addresses) if known.addresses.is_empty() => {
                    known.addresses.clone_from(addresses);
                }
                _ if known.addresses.is_empty() => {}
                _ => drop(found.insert(host.clone(), known.addresses.clone())),
            }
        }
        drop(found);
        (self.servers, _) = self.all();
    }

    /// All servers whose addresses are known.
    pub(super) fn servers(&self) -> &[Target] {
        &self.servers
    }

    /// Finds the addresses of all names for the first time. If the servers of `bootstrap` do not answer soon, this ends
    /// without them.
    pub(super) async fn find_first(&mut self, means: &Means) {
        let pools = self.pools(means);
        // `follow` begins with another attempt.
        let _ = tokio::time::timeout(FIRST_WAIT, self.refresh(&pools)).await;
    }

    /// Calls `replace` with all servers each time that they change.
    pub(super) async fn follow(mut self, means: Means, replace: impl Fn(&[Target])) {
        let pools = self.pools(&means);
        loop {
            let due = self.known.values().map(|known| known.due).min();
            let Some(due) = due else {
                return;
            };
            tokio::time::sleep_until(due).await;
            if self.refresh(&pools).await {
                replace(&self.servers);
            }
        }
    }

    /// The servers of `bootstrap`, in a separate pool.
    fn pools(&self, means: &Means) -> Pools {
        let Means {
            network,
            ports,
            counters,
        } = means;
        let pool = Pool::new(
            self.resolvers.iter().cloned().map(Server::of).collect(),
            Arc::clone(network) as _,
            self.timeout,
            self.intake,
            Arc::clone(ports),
            Arc::clone(counters),
        );
        Pools::new(Arc::new(pool))
    }

    /// Asks for the names whose time has come. Returns whether the servers have changed.
    async fn refresh(&mut self, pools: &Pools) -> bool {
        let now = Instant::now();
        let due = self.known.iter().filter(|(_, known)| known.due <= now);
        let due: Vec<_> = due.map(|(host, _)| host.clone()).collect();
        let found = join_all(due.iter().map(|host| hosts::addresses(pools, host))).await;
        let now = Instant::now();
        for (host, found) in due.iter().zip(found) {
            if let Some(known) = self.known.get_mut(host) {
                if let Err(why) = &found
                    && known.failures == 0
                {
                    tracing::warn!(%host, why, "the address of an upstream server can't be found");
                }
                known.note(found, now);
                let addresses = known.addresses.clone();
                self.found.lock().insert(host.clone(), addresses);
            }
        }
        let (servers, left_out) = self.all();
        let problems = self
            .known
            .iter()
            .filter_map(|(host, known)| known.problem(host))
            .chain(left_out);
        let problems: Vec<_> = problems.collect();
        self.problem
            .set((!problems.is_empty()).then(|| problems.join("; ")));
        if servers == self.servers {
            return false;
        }
        tracing::info!(
            before = shown(&self.servers),
            now = shown(&servers),
            "upstream servers changed"
        );
        self.servers = servers;
        true
    }

    /// All servers whose addresses are known, in the order of the configuration, and problems of those that are left out.
    fn all(&mut self) -> (Vec<Target>, Vec<String>) {
        let named = &self.named;
        let (mut servers, mut problems) = (Vec::new(), Vec::new());
        let mut fixed = self.fixed.iter();
        for place in 0..self.fixed.len() + named.len() {
            let Some(of) = named.iter().find(|of| of.place == place) else {
                servers.extend(fixed.next().cloned());
                continue;
            };
            let addresses = self.known.get(&of.host).map(|known| &*known.addresses);
            for ip in addresses.unwrap_or_default() {
                match target(
                    &of.at(*ip),
                    &self.listen,
                    DEFAULT_PLACE,
                    &mut self.authorities,
                ) {
                    Ok(target) if servers.contains(&target) => {}
                    Ok(target) => servers.push(target),
                    Err(problem) => problems.push(problem.to_string()),
                }
            }
        }
        (servers, problems)
    }
}

fn shown(servers: &[Target]) -> String {
    let servers = servers.iter().map(|server| server.address.to_string());
    servers.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(now: Instant) -> Known {
        Known {
            addresses: Vec::new(),
            failures: 0,
            why: String::new(),
            due: now,
        }
    }

    #[test]
    fn addresses_are_asked_again_after_their_ttl_within_bounds() {
        let now = Instant::now();
        let mut known = unknown(now);
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        for (ttl, pause) in [
            (0, SOONEST),
            (300, Duration::from_secs(300)),
            (u32::MAX, LATEST),
        ] {
            known.note(Ok((vec![ip(2), ip(1), ip(2)], ttl)), now);
            assert_eq!(known.due, now + pause);
            assert_eq!(known.addresses, [ip(1), ip(2)]);
        }
    }

    #[test]
    fn failures_keep_the_addresses_and_are_reported_when_there_are_several() {
        let now = Instant::now();
        let host = Name::from_text("resolver.example").expect("a name");
        let fail = |known: &mut Known| known.note(Err("no answer".to_owned()), now);
        let mut known = unknown(now);
        fail(&mut known);
        let problem = known.problem(&host).expect("it can't be used");
        assert!(
            problem.contains("its address is not known (no answer)"),
            "{problem}"
        );
        let address = IpAddr::from([192, 0, 2, 1]);
        known.note(Ok((vec![address], 60)), now);
        assert_eq!(known.problem(&host), None);
        let mut pauses = Vec::new();
        for failures in 1..=9 {
            fail(&mut known);
            pauses.push((known.due - now).as_secs());
            assert_eq!(known.problem(&host).is_some(), failures >= DOUBTED_AFTER);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(known.addresses, [address]);
        let problem = known.problem(&host).expect("an alarm");
        assert!(
            problem.contains("can't be confirmed (no answer)"),
            "{problem}"
        );
        known.note(Ok((vec![address], 60)), now);
        assert_eq!(known.problem(&host), None);
    }
}
