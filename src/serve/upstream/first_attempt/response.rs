//! Matches a datagram from upstream with the open queries of its port, and evaluates it.

use std::sync::Arc;

use tokio::time::Instant;

use super::port::Port;
use crate::serve::inflight::QueryId;
use crate::serve::routes::PoolId;
use crate::serve::upstream::PriorAttempt;
use crate::serve::upstream::exchange::{How, Transport};
use crate::serve::upstream::reply::{Evaluation, Received, Sent};
use crate::serve::upstream::server::Server;
use crate::stats::{Count, Counters};
use crate::sys::udp::Inbox;
use crate::wire::answer::{Answer, is_cut};
use crate::wire::ask;
use crate::wire::read_u16;

/// The end of a worker's attempt.
#[derive(Debug)]
pub(in crate::serve) struct UpstreamEvent {
    /// The in-flight query.
    pub(in crate::serve) query_id: QueryId,
    /// How it ended.
    pub(in crate::serve) result: AttemptResult,
}

/// How a worker's attempt ended.
#[derive(Debug)]
pub(in crate::serve) enum AttemptResult {
    /// With a usable answer of this pool.
    Answered(Answer, PoolId),
    /// Without one, or with one that is used only if no other server has another: the pool has to be asked.
    Unfinished(PriorAttempt),
}

/// Evaluates one datagram; `None` if it changes nothing for any client.
pub(super) fn receive(
    port: &mut Port,
    inbox: &Inbox,
    slot: usize,
    now: Instant,
    counters: &Counters,
) -> Option<UpstreamEvent> {
    let bytes = inbox.packet(slot);
    let id = read_u16(bytes, 0);
    let Some(at) = port.sent.iter().position(|sent| Some(sent.query.id) == id) else {
        counters.bump(Count::UpstreamStray);
        return None;
    };
    let dialect = port.sent[at].query.dialect;
    let fit = port.sent[at].query.fit(bytes, counters)?;
    let sent = port.sent.swap_remove(at);
    let server = &port.to.server;
    let took = now.saturating_duration_since(sent.at);
    counters.upstream_took(took);
    server.traffic.took(took);
    port.pool.try_answered(server, took);
    let how = How {
        client: None,
        over: Transport::Udp,
        dialect,
    };
    let received = Received {
        bytes,
        fit,
        // An answer longer than we announced counts as truncated, too. It may have come in fragments, and fragments
        // after the first one carry neither port nor ID.
        is_cut: bytes.len() > ask::udp_limit(dialect.edns) || inbox.is_cut(slot) || is_cut(bytes),
        at: now,
    };
    let key = &sent.query_id.key;
    let asked = Sent {
        server,
        how,
        key,
        intake: &port.pool.intake,
        counters,
    };
    let evaluation = asked.evaluate(received);
    let (said, again) = match evaluation {
        Evaluation::Answer(answer) if port.pool.intake.accepts(&answer) => {
            return Some(UpstreamEvent {
                query_id: sent.query_id,
                result: AttemptResult::Answered(answer, port.pool.id()),
            });
        }
        Evaluation::Answer(answer) => (Some(answer), None),
        Evaluation::Again(again) => (None, Some(again)),
        Evaluation::Garbage => (None, None),
    };
    // After a query was handed over, only a usable answer matters.
    let prior = PriorAttempt {
        server: Arc::clone(server),
        since: sent.at,
        responded: true,
        said,
        again,
        open: None,
    };
    (!sent.handed_over).then_some(UpstreamEvent {
        query_id: sent.query_id,
        result: AttemptResult::Unfinished(prior),
    })
}

/// The event of a query that was not answered.
pub(super) fn unanswered(query_id: QueryId, server: &Arc<Server>, since: Instant) -> UpstreamEvent {
    let prior = PriorAttempt {
        server: Arc::clone(server),
        since,
        responded: false,
        said: None,
        again: None,
        open: None,
    };
    UpstreamEvent {
        query_id,
        result: AttemptResult::Unfinished(prior),
    }
}
