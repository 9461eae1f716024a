//! The hook that is called once for each finished query, however it finished.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use crate::policy::decide::Matched;
use crate::policy::ranking::Hit;
use crate::policy::rule::{Action, EffectAnswer};
use crate::policy::snapshot::Snapshot;
use crate::stats::{Count, Counters};
use crate::wire::name::Name;
use crate::wire::query::Query;

/// Observes finished queries. A tuple of observers is an observer. The observer is a type parameter of the data plane,
/// so calling it needs no dynamic dispatch, and a property that it does not read costs nothing.
pub trait Observer: Send + Sync + 'static {
    /// Called exactly once for each message, by the thread that finishes it and before the answer leaves. A worker
    /// calls it between packets: it must not block, and should not allocate.
    fn finished(&self, query: &Finished<'_>);
}

/// A query that has its answer, or gets none.
pub struct Finished<'q> {
    /// The sender of the query.
    pub client: &'q Client,
    /// The message as it was received.
    pub packet: &'q [u8],
    /// The answer; `None` if none is sent.
    pub response: Option<&'q [u8]>,
    /// How it ended; `None` if its connection or the server ended first.
    pub outcome: Option<Count>,
    /// The number of the upstream server that the answer comes from; `None` if it comes from elsewhere.
    pub upstream: Option<NonZeroU16>,
    /// The policy under which it ended.
    pub snapshot: &'q Snapshot,
    /// When it was received.
    pub received: Instant,
    /// When it ended. For a query that a worker answers at once, this is the time at which its batch was received.
    pub ended: Instant,
    /// The rule that blocked it.
    pub(super) rule: Option<Hit>,
    /// The rule on its answer that would have decided if its list were not logged only.
    pub(super) logged: Option<Hit>,
    /// The query, if the policy was applied to its name.
    pub(super) query: Option<&'q Query<'q>>,
}

impl Finished<'_> {
    /// The name in lower case; `None` if the message is malformed.
    pub fn name(&self) -> Option<Name> {
        self.read(|query| query.name.clone())
    }

    /// The type; `None` if the message is malformed.
    pub fn rtype(&self) -> Option<u16> {
        self.read(|query| query.rtype)
    }

    /// The response code in the answer's header. BADVERS appears as NOERROR, because its upper bits are in the OPT
    /// record.
    pub fn rcode(&self) -> Option<u8> {
        Some(self.response?.get(3)? & 0x0F)
    }

    /// The length of the answer; 0 if none is sent.
    pub fn response_len(&self) -> usize {
        self.response.map_or(0, <[u8]>::len)
    }

    /// How long it took.
    pub fn took(&self) -> Duration {
        self.ended.saturating_duration_since(self.received)
    }

    /// The rule that blocked it, and the rule's source.
    pub fn matched(&self) -> Option<Matched<'_>> {
        let view = self.snapshot.view(self.client.view);
        self.rule.map(|hit| view.matched(hit))
    }

    /// The rule that would have blocked it if its list were not logged only, and the rule's source. Looks the name up
    /// again if some list is.
    pub fn would_block(&self) -> Option<Matched<'_>> {
        let view = self.snapshot.view(self.client.view);
        let query = self.query.filter(|_| view.has_logged_only())?;
        // Policy zones are about recursive queries only (section 2 of the draft).
        if !query.recursion_desired() || self.response.is_none() {
            return None;
        }
        let view = view.over(self.client.transport.is_stream());
        let view = view.for_type(query.rtype);
        let view = view.for_client(self.client.address);
        view.would_block(query.name, self.logged)
    }

    fn read<T>(&self, property: impl FnOnce(&Query<'_>) -> T) -> Option<T> {
        match self.query {
            Some(query) => Some(property(query)),
            None => {
                let mut name = Name::default();
                let query = Query::parse(self.packet, &mut name);
                query.ok().as_ref().map(property)
            }
        }
    }
}

/// The word for where an answer comes from; `None` if there is none, or it is an error of this server.
pub fn origin(outcome: Option<Count>, is_blocked: bool) -> Option<&'static str> {
    if is_blocked {
        return Some("policy");
    }
    match outcome? {
        Count::Local | Count::Chaos | Count::Any => Some("local"),
        Count::CacheHits => Some("cache"),
        Count::Stale => Some("stale-cache"),
        Count::Resolved | Count::Failed => Some("upstream"),
        Count::ZoneAnswers => Some("published-zone"),
        _ => None,
    }
}

/// The index of a rule's action in [`ACTIONS`](crate::stats::ACTIONS).
fn action(matched: &Matched<'_>) -> usize {
    match &matched.blocking.effect_answer {
        Some(EffectAnswer::Records(_)) => 5,
        Some(EffectAnswer::Cname { .. }) => 6,
        Some(EffectAnswer::TcpOnly) => 7,
        None => match matched.blocking.action {
            Action::Nxdomain => 0,
            Action::Nodata => 1,
            Action::Sinkhole => 2,
            Action::Refused => 3,
            Action::Drop => 4,
        },
    }
}

impl Observer for Counters {
    #[inline]
    fn finished(&self, query: &Finished<'_>) {
        let rtype = query.query.map(|query| query.rtype);
        self.bump_query(query.client.transport.index(), rtype, query.outcome);
        for matched in [query.matched(), query.would_block()].into_iter().flatten() {
            if let Some(list) = query.snapshot.slot(&matched) {
                self.bump_list(list, action(&matched));
            }
        }
    }
}

impl<O: Observer> Observer for Arc<O> {
    #[inline]
    fn finished(&self, query: &Finished<'_>) {
        O::finished(self, query);
    }
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    #[inline]
    fn finished(&self, query: &Finished<'_>) {
        self.0.finished(query);
        self.1.finished(query);
    }
}
