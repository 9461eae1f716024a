//! The ports that are in use for sending, by pool.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::serve::routes::PoolId;
use crate::serve::upstream::Pool;
use crate::sys::udp::Outbox;

/// The number of ports that are in use for sending at one time. More ports make smaller batches: in a flood, a query
/// costs some 13 µs with one port, 0.5 µs more with 8 and 0.7 µs more with 16 ports; with 4 no difference was measured.
pub(super) const AT_ONCE: usize = 4;
/// The maximum number of queries of one port that are sent together.
const TOGETHER: usize = 16;
/// The length of the longest query, in bytes.
const QUERY: usize = 282;

/// A port in use for sending, with its queries that are not sent yet.
pub(super) struct ActivePort {
    /// The index of the port.
    pub(super) place: Option<usize>,
    pub(super) outbox: Outbox,
    /// IDs of the queries in the outbox.
    pub(super) drafts: Vec<u16>,
}

/// The ports in use for sending to the servers of one pool.
pub(super) struct Lane {
    pub(super) pool: Arc<Pool>,
    pub(super) active: Box<[ActivePort]>,
    /// Whether it is among those with drafts.
    is_listed: bool,
}

/// The lane of the default pool, and those of forwarded zones that have ports in use: there may be thousands of zones, and
/// a lane takes 20 KB.
pub(super) struct Lanes {
    default: Lane,
    forwarded: HashMap<PoolId, Lane, RandomState>,
    /// The lanes that may have queries in an outbox.
    drafted: Vec<PoolId>,
    /// The maximum number of ports of a lane.
    most: usize,
}

impl Lane {
    fn new(pool: Arc<Pool>, most: usize) -> Self {
        let slot = |_| ActivePort {
            place: None,
            outbox: Outbox::new(TOGETHER, QUERY),
            drafts: Vec::with_capacity(TOGETHER),
        };
        Self {
            pool,
            active: (0..AT_ONCE.min(most)).map(slot).collect(),
            is_listed: false,
        }
    }

    /// The slot that has this port in use.
    pub(super) fn slot_of(&self, place: usize) -> Option<usize> {
        let mut slots = self.active.iter();
        slots.position(|slot| slot.place == Some(place))
    }
}

impl Lanes {
    /// Lanes of a worker that may have `most` ports open.
    pub(super) fn new(default: Arc<Pool>, most: usize) -> Self {
        Self {
            default: Lane::new(default, most),
            forwarded: HashMap::default(),
            drafted: Vec::new(),
            most,
        }
    }

    /// The lane of a pool, if it has ports in use.
    pub(super) fn get(&self, of: PoolId) -> Option<&Lane> {
        match of {
            PoolId::DEFAULT => Some(&self.default),
            of => self.forwarded.get(&of),
        }
    }

    /// Like [`get`](Self::get), to change it.
    pub(super) fn get_mut(&mut self, of: PoolId) -> Option<&mut Lane> {
        match of {
            PoolId::DEFAULT => Some(&mut self.default),
            of => self.forwarded.get_mut(&of),
        }
    }

    /// Makes a lane for the pool of a forwarded zone, unless there is one.
    pub(super) fn open(&mut self, pool: Arc<Pool>) -> PoolId {
        let (id, most) = (pool.id(), self.most);
        let lane = self.forwarded.entry(id);
        lane.or_insert_with(|| Lane::new(pool, most));
        id
    }

    /// Removes the lane of a forwarded zone if it has no ports.
    pub(super) fn close_unused(&mut self, of: PoolId) {
        let is_unused = |lane: &Lane| lane.active.iter().all(|slot| slot.place.is_none());
        if self.forwarded.get(&of).is_some_and(is_unused) {
            self.forwarded.remove(&of);
        }
    }

    /// Notes that a lane has a query in an outbox.
    pub(super) fn list(&mut self, of: PoolId) {
        if let Some(lane) = self.get_mut(of)
            && !std::mem::replace(&mut lane.is_listed, true)
        {
            self.drafted.push(of);
        }
    }

    /// Takes the next lane that may have queries in an outbox.
    pub(super) fn take_listed(&mut self) -> Option<PoolId> {
        let of = self.drafted.pop()?;
        if let Some(lane) = self.get_mut(of) {
            lane.is_listed = false;
        }
        Some(of)
    }

    /// The number of lanes.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        1 + self.forwarded.len()
    }
}
