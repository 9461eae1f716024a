//! Answers a query in the way of a client's query, and reports how it was answered. No observer counts or records it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Begun, Resolver};
use crate::policy::ranking::Hit;
use crate::policy::snapshot::Snapshot;
use crate::serve::alias;
use crate::serve::cache::{Entry, Key, KeyRef, Lookup};
use crate::serve::client::Client;
use crate::serve::dispatch::{Conclusion, Dispatcher, Message};
use crate::serve::observe::{Finished, Observer};
use crate::serve::step::{Attempt, Resolution};
use crate::stats::Count;
use crate::wire::name::Name;
use crate::wire::query::Query;

/// The most cached answers that are followed from one to the next.
const MOST_PARTS: usize = 8;

/// A query that has ended, and what its answer is made of.
#[derive(Debug)]
pub struct Traced {
    /// The answer; `None` if the client gets none.
    pub response: Option<Vec<u8>>,
    /// How it ended.
    pub outcome: Count,
    /// The rule that blocked it.
    pub rule: Option<Hit>,
    /// The policy under which it ended.
    pub snapshot: Arc<Snapshot>,
    /// What upstream says about the names that the answer depends on.
    pub parts: Vec<Part>,
    /// How long it took.
    pub took: Duration,
}

/// What upstream says about one name.
#[derive(Debug)]
pub struct Part {
    /// The query for it.
    pub key: Key,
    /// The answer; `None` if upstream gave no usable one.
    pub entry: Option<Arc<Entry>>,
    /// How long the query waited for upstream; `None` if the answer, or the failure, was in the cache.
    pub waited: Option<Duration>,
}

impl Traced {
    /// The names to which the CNAME records of upstream lead, in order.
    pub fn chain(&self) -> Vec<Name> {
        let entries = self.parts.iter().filter_map(|part| part.entry.as_ref());
        let chain = entries.flat_map(|entry| {
            let hops = entry.handoff().unwrap_or(usize::MAX);
            entry.answer.chain().take(hops)
        });
        chain.map(|(name, _)| name).collect()
    }

    /// The addresses in upstream's answers, those in hints included.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let entries = self.parts.iter().filter_map(|part| part.entry.as_ref());
        let addresses = entries.flat_map(|entry| {
            let hints = entry.answer.hints().map(|(address, _)| address);
            entry.answer.addresses().chain(hints)
        });
        addresses.collect()
    }

    /// The targets of SVCB and HTTPS records in upstream's answers.
    pub fn services(&self) -> Vec<Name> {
        let entries = self.parts.iter().filter_map(|part| part.entry.as_ref());
        let targets = entries.flat_map(|entry| entry.answer.service_targets());
        targets.map(|(name, _)| name).collect()
    }
}

/// The end of a query.
#[derive(Default)]
struct Seen(Mutex<Option<(Count, Option<Hit>)>>);

impl Observer for Seen {
    fn finished(&self, query: &Finished<'_>) {
        let end = query.outcome.map(|count| (count, query.rule));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}

impl<O: Observer> Resolver<O> {
    /// Answers a message by the policy, the cache and upstream as they are for this client. Upstream's answer is cached. It
    /// takes as long as upstream does; dropping the future ends the wait.
    pub async fn trace(self: &Arc<Self>, client: &Client, packet: &[u8]) -> Traced {
        let message = Message {
            client,
            packet,
            received: Instant::now(),
        };
        let seen = Seen::default();
        let (mut attempt, mut parts) = (Attempt::First, Vec::new());
        let (response, snapshot) = loop {
            let (begun, snapshot) = self.with(&seen, |dispatcher| {
                self.begin_by(dispatcher, message, attempt)
            });
            let (key, stale) = match begun {
                Begun::Reply(answer) => break (Some(answer), snapshot),
                Begun::Nothing => break (None, snapshot),
                Begun::Resolve(key, stale) => (key, stale),
            };
            // An old snapshot must not stay in memory for as long as upstream takes.
            drop(snapshot);
            let since = Instant::now();
            let resolution = self.resolve_uncounted(client.address, key.clone(), stale);
            let resolution = resolution.await;
            let entry = match &resolution {
                Resolution::Answered(entry) => Some(Arc::clone(entry)),
                _ => None,
            };
            let waited = Some(since.elapsed());
            parts.push(Part { key, entry, waited });
            let mut out = Vec::with_capacity(512);
            let (conclusion, snapshot) = self.with(&seen, |dispatcher| {
                dispatcher.conclude(message, &resolution, attempt, &mut out)
            });
            match conclusion {
                Conclusion::Reply => break (Some(out), snapshot),
                Conclusion::Nothing => break (None, snapshot),
                Conclusion::Restart => attempt = attempt.next(),
            }
        };
        let end = seen.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (outcome, rule) = end.expect("a query that ends is observed");
        let took = message.received.elapsed();
        self.add_cached(message, (outcome, rule), &snapshot, &mut parts);
        Traced {
            response,
            outcome,
            rule,
            snapshot,
            parts,
            took,
        }
    }

    /// Calls `dispatch` with a dispatcher for the current snapshot and time that reports to `seen`. Returns the snapshot, too.
    fn with<T>(
        &self,
        seen: &Seen,
        dispatch: impl FnOnce(&Dispatcher<'_, Seen>) -> T,
    ) -> (T, Arc<Snapshot>) {
        let shared = &self.responder.shared;
        let snapshot = Arc::clone(&shared.policy.load());
        let dispatcher = Dispatcher::new(&snapshot, shared, seen, Instant::now());
        let result = dispatch(&dispatcher);
        drop(dispatcher);
        (result, snapshot)
    }

    /// Adds the answers that were in the cache. They are looked up again, so one may have been evicted meanwhile.
    fn add_cached(
        &self,
        message: Message<'_>,
        (outcome, rule): (Count, Option<Hit>),
        snapshot: &Snapshot,
        parts: &mut Vec<Part>,
    ) {
        let mut name = Name::default();
        let Ok(query) = Query::parse(message.packet, &mut name) else {
            return;
        };
        let is_of_upstream = matches!(
            outcome,
            Count::CacheHits
                | Count::Resolved
                | Count::Stale
                | Count::Failed
                | Count::Overloaded
                | Count::BlockedTarget
        );
        let asked = is_of_upstream.then(|| KeyRef::new(&query).to_key());
        let matched = rule.map(|hit| snapshot.view(message.client.view).matched(hit));
        let alias = match matched {
            Some(matched) => alias::target_of(&matched, query.name),
            None => {
                let local = snapshot.local.lookup(query.name, query.rtype);
                let alias = local.and_then(|found| found.alias(query.rtype));
                alias.map(|alias| alias.target.clone())
            }
        };
        let alias = alias.map(|target| KeyRef::of_alias(&query, &target).to_key());
        for start in asked.into_iter().chain(alias) {
            let mut next = Some(start);
            for _ in 0..MOST_PARTS {
                let Some(key) = next else {
                    break;
                };
                next = self.part(key, parts);
            }
        }
    }

    /// Adds the cached answer to a key, unless upstream was asked for it. Returns the key of the name that its chain leads to,
    /// if another pool is asked for that.
    fn part(&self, key: Key, parts: &mut Vec<Part>) -> Option<Key> {
        let same = |part: &&Part| part.key == key && part.entry.is_some();
        let known = parts.iter().find(same).and_then(|part| part.entry.clone());
        let entry = match known {
            Some(entry) => entry,
            None => {
                let shared = &self.responder.shared;
                let found = match shared.cache.lookup_key(key.as_ref(), shared.clock.now()) {
                    Lookup::Fresh(entry) => Some(entry),
                    Lookup::Failed(_, stale) => stale,
                    Lookup::Miss(stale) => Some(stale?),
                };
                if found.is_some() || parts.iter().all(|part| part.key != key) {
                    parts.push(Part {
                        key: key.clone(),
                        entry: found.clone(),
                        waited: None,
                    });
                }
                found?
            }
        };
        let target = entry.handed_off()?;
        Some(key.with_name(&target))
    }
}
