//! The pools of upstream servers: the default one, and those of forwarded zones. The pool of a query follows from its name.
//! Each pool has its own servers and their health.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::quality::RandomState;

use super::Pool;
use super::server::{Server, Target};
use crate::config::selection::{OnUpstreamBlock, Selection};
use crate::serve::cache::{Entry, Key};
use crate::serve::routes::{PoolId, Routes};
use crate::wire::answer::Answer;
use crate::wire::name::Name;

/// All pools. Those of forwarded zones can be replaced while they are used.
#[derive(Debug)]
pub struct Pools {
    default: Arc<Pool>,
    forwarding: ArcSwap<Forwarding>,
}

/// The pools of forwarded zones.
#[derive(Debug, Default)]
pub struct Forwarding {
    pools: Vec<ForwardPool>,
    routes: Arc<Routes>,
    /// The place of each pool in `pools`.
    places: HashMap<PoolId, usize, RandomState>,
}

/// Zones, and the pool of their servers.
#[derive(Clone, Debug)]
pub struct ForwardPool {
    /// The zones.
    pub zones: Vec<Name>,
    /// Their servers.
    pub pool: Arc<Pool>,
}

impl Pool {
    /// The same pool, for names of forwarded zones.
    pub fn of_zones(self) -> Self {
        Self {
            id: PoolId::unique(),
            ..self
        }
    }

    /// Changes the order in which the servers are asked, and which of their answers count.
    pub fn select(&self, selection: &Selection) {
        if **self.intake.selection() != *selection {
            self.intake.set_selection(selection.clone());
            self.renew();
        }
    }

    /// The treatment of answers by which a server blocks a name.
    pub fn on_block(&self) -> OnUpstreamBlock {
        self.intake.selection().on_upstream_block
    }

    /// The number that identifies it.
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// Its servers, in the order of the configuration.
    pub fn targets(&self) -> Vec<Target> {
        let held = self.lock();
        held.all
            .iter()
            .map(|server| server.target().clone())
            .collect()
    }
}

impl Forwarding {
    /// These pools, whose zones all have different names.
    pub fn new(pools: Vec<ForwardPool>) -> Self {
        let zones = pools.iter().flat_map(|of| {
            let id = of.pool.id();
            of.zones.iter().map(move |zone| (zone, id))
        });
        let routes = Arc::new(Routes::new(zones));
        let ids = pools.iter().map(|of| of.pool.id());
        let places = ids.zip(0..).collect();
        Self {
            pools,
            routes,
            places,
        }
    }

    /// The pools, in the order of the configuration.
    pub fn pools(&self) -> &[ForwardPool] {
        &self.pools
    }

    /// The routes to them.
    pub fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    /// The pool of the innermost zone with a name.
    fn find(&self, key: &Key) -> Option<&Arc<Pool>> {
        match self.routes.of(key.name(), key.rtype()) {
            PoolId::DEFAULT => None,
            id => Some(&self.pools[*self.places.get(&id)?].pool),
        }
    }
}

impl Pools {
    /// The default pool alone.
    pub fn new(default: Arc<Pool>) -> Self {
        Self {
            default,
            forwarding: ArcSwap::default(),
        }
    }

    /// The pool that is asked for names in no forwarded zone.
    pub fn default_pool(&self) -> &Arc<Pool> {
        &self.default
    }

    /// The pools of forwarded zones.
    pub fn forwarding(&self) -> Arc<Forwarding> {
        self.forwarding.load_full()
    }

    /// The server with a number; `None` if it is not asked any more.
    pub fn server(&self, number: NonZeroU16) -> Option<Arc<Server>> {
        let forwarding = self.forwarding.load();
        let forwards = forwarding.pools().iter().map(|forward| &forward.pool);
        let mut pools = [&self.default].into_iter().chain(forwards);
        pools.find_map(|pool| {
            let held = pool.lock();
            let mut servers = held.all.iter();
            servers.find(|server| server.number() == number).cloned()
        })
    }

    /// Replaces the pools of forwarded zones. Queries in flight for names of which another pool is asked now
    /// are dispatched again.
    pub fn replace(&self, forwarding: Forwarding) {
        let forwards = forwarding.pools().iter().map(|forward| &forward.pool);
        for pool in forwards.chain([&self.default]) {
            pool.intake.set_routes(pool.id(), forwarding.routes());
        }
        self.forwarding.store(Arc::new(forwarding));
    }

    /// Makes workers send later queries from new ports, because the open ones were opened under earlier settings.
    pub fn renew(&self) {
        self.default.renew();
        for forward in self.forwarding.load().pools() {
            forward.pool.renew();
        }
    }

    /// The pool that is asked for a key.
    pub fn of(&self, key: &Key) -> Arc<Pool> {
        self.forwarded(key)
            .unwrap_or_else(|| Arc::clone(&self.default))
    }

    /// The number of the pool that is asked for a key.
    pub fn id_of(&self, key: &Key) -> PoolId {
        let forwarding = self.forwarding.load();
        forwarding.routes.of(key.name(), key.rtype())
    }

    /// The pool that is asked for a key; `None` if it is the default one.
    pub(in crate::serve) fn forwarded(&self, key: &Key) -> Option<Arc<Pool>> {
        self.forwarding.load().find(key).cloned()
    }

    /// The name that another pool must be asked for to complete an answer of `pool`.
    pub fn handed_off(&self, answer: &Answer, pool: PoolId) -> Option<Name> {
        let (_, rtype) = answer.question();
        let forwarding = self.forwarding.load();
        let hops = forwarding.routes.handoff(pool, answer, rtype)?;
        let (name, _) = answer.chain().nth(usize::from(hops).checked_sub(1)?)?;
        Some(name)
    }

    /// An answer of a pool, for the cache, by the routes to the pools of forwarded zones.
    pub(in crate::serve) fn entry(&self, answer: Answer, now: u32, pool: PoolId) -> Entry {
        Entry::of_pool(answer, now, pool, &self.forwarding.load().routes)
    }
}
