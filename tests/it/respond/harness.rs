//! A server without sockets and clocks: lists, a snapshot of them, and a cache.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tapis::policy::builder::Builder;
use tapis::policy::effect::{Effect, EffectAction};
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::prefix::{AddressOf, Prefix};
use tapis::policy::rpz::settings::{ZonePolicy, ZoneSettings};
use tapis::policy::rule::{Action, Blocking, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::serve::cache::{Cache, Entry, Failure, Key};
use tapis::serve::client::{Client, Transport};
use tapis::serve::respond::{Known, conclude, respond};
use tapis::serve::routes::PoolId;
use tapis::serve::step::Resolution;
use tapis::wire::name::Name;
use tapis::wire::query::Query;

use super::ask::Ask;
use super::decoded::{Decoded, Outcome};
use super::upstream_answer::UpstreamAnswer;
use crate::support::policy;

/// The snapshot's generation, which is the serial of each synthesized SOA.
pub(super) const GENERATION: u64 = 41;
/// A client with permission, by UDP.
pub(super) const PERMITTED: Client = by(Transport::Udp, [192, 0, 2, 1]);
/// The same client by TCP.
pub(super) const PERMITTED_BY_STREAM: Client = by(Transport::Tcp, [192, 0, 2, 1]);
/// A client without permission.
pub(super) const NOT_PERMITTED: Client = by(Transport::Udp, [198, 51, 100, 1]);

const fn by(transport: Transport, [a, b, c, d]: [u8; 4]) -> Client {
    let address = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    Client::new(SocketAddr::new(address, 5353), transport)
}

/// A list. By default it blocks, with unspecified addresses as the sinkhole.
pub(super) struct List {
    source: Source,
    rules: Vec<(Trigger, Effect)>,
}

enum Trigger {
    Name(Box<Name>, Scope),
    Pattern(String),
    Prefix(Prefix),
}

pub(super) fn list(name: &str) -> List {
    let mut source = policy::list(name);
    source.blocking.sinkhole_v6 = vec![Ipv6Addr::UNSPECIFIED];
    List {
        source,
        rules: Vec::new(),
    }
}

impl List {
    pub(super) fn allowing(mut self) -> Self {
        self.source.kind = Kind::Allow;
        self
    }

    pub(super) fn action(mut self, action: Action) -> Self {
        self.source.blocking.action = action;
        self
    }

    /// As a policy zone.
    pub(super) fn zone(mut self, break_dnssec: bool) -> Self {
        let settings = ZoneSettings {
            policy: ZonePolicy::Given,
            max_ttl_secs: 60,
            break_dnssec,
        };
        self.source.zone = Some(Box::new(settings.into()));
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Blocking)) -> Self {
        change(&mut self.source.blocking);
        self
    }

    pub(super) fn exact(self, name: &str) -> Self {
        self.rule(name, Scope::Exact)
    }

    pub(super) fn subtree(self, name: &str) -> Self {
        self.rule(name, Scope::Subtree)
    }

    pub(super) fn below(self, name: &str) -> Self {
        self.rule(name, Scope::Below)
    }

    fn rule(self, name: &str, scope: Scope) -> Self {
        let name = Name::from_text(name).expect("a name");
        self.add(Trigger::Name(Box::new(name), scope))
    }

    pub(super) fn pattern(self, pattern: &str) -> Self {
        self.add(Trigger::Pattern(pattern.to_owned()))
    }

    pub(super) fn client(self, network: &str) -> Self {
        self.network(AddressOf::Client, network)
    }

    pub(super) fn address(self, network: &str) -> Self {
        self.network(AddressOf::Answer, network)
    }

    fn network(self, of: AddressOf, network: &str) -> Self {
        let network = network.parse().expect("a network");
        self.add(Trigger::Prefix(Prefix::new(of, network).expect("valid")))
    }

    fn add(mut self, trigger: Trigger) -> Self {
        self.rules.push((trigger, Effect::default()));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The last rule has this effect.
    pub(super) fn effect(mut self, effect: Effect) -> Self {
        self.rules.last_mut().expect("a rule").1 = effect;
        self
    }

    /// The last rule has an effect with this action.
    pub(super) fn acts(self, action: EffectAction) -> Self {
        self.effect(Effect {
            action,
            ..Effect::default()
        })
    }
}

/// A snapshot with these lists in this order.
pub(super) fn snapshot(lists: impl IntoIterator<Item = List>) -> Snapshot {
    let network = "192.0.2.0/24".parse().expect("a network");
    let mut snapshot = Snapshot::default();
    snapshot.generation = GENERATION;
    snapshot.clients = [network].iter().collect();
    let mut builder = Builder::new();
    let mut sources = Vec::new();
    for list in lists {
        let source = ImageSource::named(&list.source.name);
        let number = builder.source(source).expect("there is room");
        for (trigger, effect) in &list.rules {
            let added = match trigger {
                Trigger::Name(name, scope) => builder.insert_effect(name, number, *scope, effect),
                Trigger::Pattern(pattern) => builder.insert_pattern(pattern, number, effect),
                Trigger::Prefix(prefix) => builder.insert_prefix(*prefix, number, effect),
            };
            added.expect("a valid effect");
        }
        sources.push(Arc::new(list.source));
    }
    let rules = builder.finish().expect("there is room");
    snapshot.with_rules(sources, Arc::new(rules).into())
}

/// The server under test.
pub(super) struct Harness {
    pub(super) snapshot: Snapshot,
    pub(super) cache: Cache,
}

/// A server with these lists and an empty cache, which keeps answers for a day past their TTL.
pub(super) fn harness(lists: impl IntoIterator<Item = List>) -> Harness {
    Harness {
        snapshot: snapshot(lists),
        cache: Cache::new(1 << 20, 86_400),
    }
}

impl Harness {
    /// The answer to a query of a permitted client by UDP, at second 0.
    #[track_caller]
    pub(super) fn answer(&self, ask: Ask<'_>) -> Decoded {
        self.take(0, PERMITTED, &ask.packet()).reply()
    }

    /// The same at another time.
    #[track_caller]
    pub(super) fn answer_at(&self, now: u32, ask: Ask<'_>) -> Decoded {
        self.take(now, PERMITTED, &ask.packet()).reply()
    }

    /// The outcome of any packet.
    pub(super) fn take(&self, now: u32, client: Client, packet: &[u8]) -> Outcome {
        let mut out = b"leftovers of another answer".to_vec();
        let step = respond(now, &client, packet, &self.snapshot, &self.cache, &mut out);
        Outcome::new(step, out)
    }

    /// The outcome of a permitted client's query after upstream was asked.
    pub(super) fn conclude(&self, now: u32, ask: Ask<'_>, resolution: &Resolution) -> Outcome {
        let known = Known {
            resolution,
            cache: &self.cache,
            is_last: false,
        };
        self.conclude_with(now, ask, known)
    }

    /// The same; `known` also has the cache, and whether this is the last attempt.
    pub(super) fn conclude_with(&self, now: u32, ask: Ask<'_>, known: Known<'_>) -> Outcome {
        let packet = ask.packet();
        let mut out = b"leftovers of another answer".to_vec();
        let snapshot = &self.snapshot;
        let step = conclude(now, &PERMITTED, &packet, snapshot, known, &mut out);
        Outcome::new(step.expect("no thread writes to the cache"), out)
    }

    /// Caches an upstream answer to a query, at second 0.
    pub(super) fn learn(&self, ask: Ask<'_>, answer: UpstreamAnswer) {
        self.insert(ask, answer.entry(0));
    }

    pub(super) fn insert(&self, ask: Ask<'_>, entry: Arc<Entry>) {
        self.cache.insert(key(ask), entry);
    }

    /// Caches a failure of upstream at `now`.
    pub(super) fn fail(&self, ask: Ask<'_>, failure: Failure, now: u32) {
        self.cache
            .insert_failure(key(ask), Arc::new(failure), now, PoolId::DEFAULT);
    }
}

/// The cache's key of a query.
pub(super) fn key(ask: Ask<'_>) -> Key {
    Key::new(&Query::parse(&ask.packet(), &mut Name::default()).expect("a query"))
}
