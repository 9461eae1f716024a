//! The pools of upstream servers: the default one, and one for each section of forwarded zones. The pool of a query follows
//! from its name. Each pool has its own servers and their health.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::quality::RandomState;

use super::Pool;
use crate::config::upstream::ServerAddress;
use crate::serve::cache::Key;
use crate::wire::ask::Dialect;
use crate::wire::name::Name;
use crate::wire::rtype;

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
    /// The index of each zone's pool.
    zones: HashMap<Box<[u8]>, usize, RandomState>,
    /// The bytes of the longest name of a zone.
    longest: usize,
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
    /// The same pool, whose servers may know no names but those in these zones.
    pub fn of_zones(mut self, zones: &[Name]) -> Self {
        self.intake.set_zones(zones);
        self
    }

    /// Whether these are its servers, in this order.
    pub fn has_servers(&self, servers: &[(ServerAddress, Dialect)]) -> bool {
        let held = self.lock();
        let mut both = held.all.iter().zip(servers);
        held.all.len() == servers.len()
            && both.all(|(server, (address, permitted))| server.is(address, *permitted))
    }
}

impl Forwarding {
    /// These pools, whose zones all have different names.
    pub fn new(pools: Vec<ForwardPool>) -> Self {
        let mut zones = HashMap::default();
        for (index, pool) in pools.iter().enumerate() {
            for zone in &pool.zones {
                zones.insert(zone.wire().into(), index);
            }
        }
        let names = pools.iter().flat_map(|pool| &pool.zones);
        let longest = names.map(|zone| zone.wire().len()).max();
        Self {
            longest: longest.unwrap_or(0),
            pools,
            zones,
        }
    }

    /// The pools, in the order of the configuration.
    pub fn pools(&self) -> &[ForwardPool] {
        &self.pools
    }

    /// The pool of the innermost zone with a name. The DS records of a zone are its parent's (RFC 4035, section 3.1.4.1).
    fn find(&self, name: &[u8], rtype: u16) -> Option<&Arc<Pool>> {
        let mut at = 0;
        while let Some(label @ 1..) = name.get(at).copied() {
            let zone = &name[at..];
            let is_of_parent = at == 0 && rtype == rtype::DS;
            if zone.len() <= self.longest
                && !is_of_parent
                && let Some(index) = self.zones.get(zone)
            {
                return Some(&self.pools[*index].pool);
            }
            at += 1 + usize::from(label);
        }
        None
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

    /// Replaces the pools of forwarded zones. Queries in flight continue with the pool that they were sent to.
    pub fn replace(&self, forwarding: Forwarding) {
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
    pub(in crate::serve) fn of(&self, key: &Key) -> Arc<Pool> {
        self.forwarded(key)
            .unwrap_or_else(|| Arc::clone(&self.default))
    }

    /// The pool that is asked for a key; `None` if it is the default one.
    pub(in crate::serve) fn forwarded(&self, key: &Key) -> Option<Arc<Pool>> {
        self.forwarding
            .load()
            .find(key.name(), key.rtype())
            .cloned()
    }

    /// Whether a pool is the one that is asked for a key now. An answer of another one is not kept: its servers were
    /// replaced since it was asked.
    pub(in crate::serve) fn asks(&self, pool: &Arc<Pool>, key: &Key) -> bool {
        let forwarding = self.forwarding.load();
        let asked = forwarding.find(key.name(), key.rtype());
        Arc::ptr_eq(asked.unwrap_or(&self.default), pool)
    }

    /// Whether a pool is in use.
    pub(super) fn has(&self, pool: &Arc<Pool>) -> bool {
        let forwarding = self.forwarding.load();
        let mut pools = forwarding.pools().iter().map(|forward| &forward.pool);
        Arc::ptr_eq(&self.default, pool) || pools.any(|other| Arc::ptr_eq(other, pool))
    }
}
