//! Answers a query. The input is a packet, its client and the time; the output is an answer or the next step. This
//! module uses neither sockets nor a clock, so that each rule of the protocol can be tested without them.

use std::net::IpAddr;

use super::cache::{Cache, Key, Lookup};
use super::client::Client;
use super::context::AnswerContext;
use super::step::{Ending, Resolution, Step, Tally};
use super::synthesized;
use super::worker_cache::{Location, WorkerCache};
use crate::policy::decide::{Decision, PolicyView};
use crate::policy::snapshot::Snapshot;
use crate::policy::view::ViewId;
use crate::stats::Count;
use crate::wire::edns::{Ede, code};
use crate::wire::query::{Fault, Query, Reject};
use crate::wire::reply;
use crate::wire::{Rcode, class, rtype};

/// A query to whose name the policy applies.
#[derive(Debug)]
pub struct Asked<'p> {
    /// The query.
    pub query: Query<'p>,
    /// The view of its client.
    pub view: ViewId,
    /// The address of its client.
    client: IpAddr,
    limit: usize,
}

impl Asked<'_> {
    /// The policy that applies to the client.
    #[inline]
    pub(super) fn policy<'s>(&self, snapshot: &'s Snapshot) -> PolicyView<'s> {
        snapshot.view(self.view).for_client(self.client)
    }
}

/// Answers one packet at `now` (seconds of the server's clock), or returns the next step. Overwrites `out`. May wait
/// for another thread that writes to the cache.
///
/// Allocates nothing if `out` has room for the answer, with three exceptions: [`Step::Resolve`] and [`Step::Refresh`];
/// an answer of more than sixteen records that has an additional section or blocked services; an answer with more than
/// four blocked services.
pub fn respond(
    now: u32,
    client: &Client,
    packet: &[u8],
    snapshot: &Snapshot,
    cache: &Cache,
    out: &mut Vec<u8>,
) -> Step {
    match read_one(client, packet, snapshot, out) {
        Ok(asked) => {
            let decision = asked.policy(snapshot).decide(&asked.query.name);
            answer(now, &asked, &decision, snapshot, cache, out)
        }
        Err(ending) => ending.into(),
    }
}

/// Answers the same packet with the outcome of asking upstream, under the snapshot that is in force now: a block
/// that came in the meantime applies at once.
pub fn conclude(
    now: u32,
    client: &Client,
    packet: &[u8],
    snapshot: &Snapshot,
    resolution: &Resolution,
    out: &mut Vec<u8>,
) -> Ending {
    match read_one(client, packet, snapshot, out) {
        Ok(asked) => {
            let decision = asked.policy(snapshot).decide(&asked.query.name);
            conclude_read(now, &asked, &decision, snapshot, resolution, out)
        }
        Err(ending) => ending,
    }
}

/// Reads a packet and makes all checks that come before the policy decides on the qname.
///
/// # Errors
/// The [`Ending`] of a query that needs no policy; `out` holds the answer, if there is one.
#[inline(always)]
pub(super) fn read<'p>(
    client: &Client,
    packet: &'p [u8],
    snapshot: &Snapshot,
    out: &mut Vec<u8>,
) -> Result<Asked<'p>, Ending> {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(reject) => {
            let permitted = snapshot.permits(client.address);
            return Err(refuse_packet(reject, permitted, packet, out));
        }
    };
    let limit = if client.transport.is_stream() {
        query.stream_limit()
    } else {
        query.udp_limit()
    };
    if !snapshot.permits(client.address) {
        let why = [Ede {
            code: code::PROHIBITED,
            text: "",
        }];
        synthesized::bare(&query, Rcode::Refused, &why, limit, out);
        return Err(Ending::Reply(Count::Denied.into()));
    }
    if let Some((rcode, count)) = beyond(&query, snapshot, limit, out) {
        if let Some(rcode) = rcode {
            synthesized::bare(&query, rcode, &[], limit, out);
        }
        return Err(Ending::Reply(count.into()));
    }
    Ok(Asked {
        query,
        view: client.view,
        client: client.address,
        limit,
    })
}

/// Like [`read`], but not inlined. Its callers handle one message at a time, so inlining would only enlarge the code.
#[inline(never)]
pub(super) fn read_one<'p>(
    client: &Client,
    packet: &'p [u8],
    snapshot: &Snapshot,
    out: &mut Vec<u8>,
) -> Result<Asked<'p>, Ending> {
    read(client, packet, snapshot, out)
}

/// Answers a packet that was too long to be received whole.
pub(super) fn oversized(
    client: &Client,
    packet: &[u8],
    snapshot: &Snapshot,
    out: &mut Vec<u8>,
) -> Ending {
    if !snapshot.permits(client.address) {
        return Ending::Drop(Count::DeniedMalformed.into());
    }
    // Some messages, such as responses, are always dropped. They must not be answered when they are too long, either.
    if matches!(Query::parse(packet), Err(Reject::Drop(_))) {
        return Ending::Drop(Count::Oversized.into());
    }
    reply::header_only(packet, Rcode::FormErr, out);
    Ending::Reply(Count::Oversized.into())
}

/// The second half of [`respond`], after the policy has decided on the name.
pub(super) fn answer(
    now: u32,
    asked: &Asked<'_>,
    decision: &Decision<'_>,
    snapshot: &Snapshot,
    cache: &Cache,
    out: &mut Vec<u8>,
) -> Step {
    match synthesize(now, asked, decision, snapshot, out) {
        Ok(context) => known(&context, cache.lookup(context.query, now), out),
        Err(ending) => ending.into(),
    }
}

/// Like [`answer`], for a worker. Its worker cache has the answer, if at all, at the given location. Never waits:
/// `None` if another thread writes to the cache where the answer would be.
#[inline]
pub(super) fn try_answer(
    now: u32,
    asked: &Asked<'_>,
    decision: &Decision<'_>,
    snapshot: &Snapshot,
    cache: &Cache,
    (worker_cache, location): (&mut WorkerCache, Location),
    out: &mut Vec<u8>,
) -> Option<Step> {
    let context = match synthesize(now, asked, decision, snapshot, out) {
        Ok(context) => context,
        Err(ending) => return Some(ending.into()),
    };
    if let Some(entry) = worker_cache.get(location, context.query, now) {
        return Some(context.hit(entry, entry.is_due(now), out));
    }
    let lookup = cache.try_lookup(context.query, now)?;
    if let Lookup::Fresh(entry, _) = &lookup {
        worker_cache.insert(location, context.query, entry, now);
    }
    Some(known(&context, lookup, out))
}

/// The second half of [`conclude`], after the policy has decided on the name.
pub(super) fn conclude_read(
    now: u32,
    asked: &Asked<'_>,
    decision: &Decision<'_>,
    snapshot: &Snapshot,
    resolution: &Resolution,
    out: &mut Vec<u8>,
) -> Ending {
    let context = match synthesize(now, asked, decision, snapshot, out) {
        Ok(context) => context,
        Err(ending) => return ending,
    };
    match resolution {
        Resolution::Answered(entry) => context.fresh(entry, Count::Resolved, out),
        Resolution::Failed(failure, stale) => {
            context.failed(Some(failure), stale.clone(), false, out)
        }
        Resolution::Overloaded(stale) => context.failed(None, stale.clone(), false, out),
    }
}

/// Answers with the result of a cache lookup.
fn known(context: &AnswerContext<'_, '_>, known: Lookup, out: &mut Vec<u8>) -> Step {
    match known {
        Lookup::Fresh(entry, due) => context.hit(&entry, due, out),
        Lookup::Failed(failure, stale) => context.failed(Some(&failure), stale, true, out).into(),
        Lookup::Miss(stale) => Step::Resolve(Key::new(context.query), stale),
    }
}

/// Answers queries that need no upstream data; for all others, returns the context of their answers.
#[inline(always)]
fn synthesize<'a, 'p>(
    now: u32,
    asked: &'a Asked<'p>,
    decision: &Decision<'_>,
    snapshot: &'a Snapshot,
    out: &mut Vec<u8>,
) -> Result<AnswerContext<'a, 'p>, Ending> {
    let Asked { query, limit, .. } = asked;
    let limit = *limit;
    let serial = snapshot.generation as u32;
    let past = match decision {
        // Validators need the DS and DNSKEY RRsets of a blocked name to validate the names under it (RFC 4035,
        // section 5).
        Decision::Blocked { closed: false, .. }
            if matches!(query.rtype, rtype::DS | rtype::DNSKEY) =>
        {
            decision.past()
        }
        Decision::Blocked { by, nxdomain, .. } => {
            let rule = Some(by.hit);
            let tally = |count| Tally { count, rule };
            let at = &synthesized::BlockedAt::Question;
            let is_answered = synthesized::blocked(query, *by, *nxdomain, at, serial, limit, out);
            return Err(match is_answered {
                true => Ending::Reply(tally(Count::Blocked)),
                false => Ending::Drop(tally(Count::BlockedDrop)),
            });
        }
        Decision::Allowed(_) | Decision::Excepted(_) | Decision::Pass => decision.past(),
    };
    if let Some((zone, labels)) = snapshot.local.lookup(&query.name)
        && !synthesized::is_parents(query, zone, labels)
    {
        synthesized::local(query, zone, labels, limit, out);
        return Err(Ending::Reply(Count::Local.into()));
    }
    if !query.recursion_desired() {
        let why = [Ede {
            code: code::NOT_AUTHORITATIVE,
            text: "",
        }];
        synthesized::bare(query, Rcode::Refused, &why, limit, out);
        return Err(Ending::Reply(Count::NoRecursion.into()));
    }
    if query.rtype == rtype::ANY {
        synthesized::any(query, limit, out);
        return Err(Ending::Reply(Count::Any.into()));
    }
    Ok(AnswerContext {
        now,
        query,
        policy: asked.policy(snapshot),
        past,
        limit,
    })
}

/// The end of a packet that could not be read. Only permitted clients get an answer.
fn refuse_packet(reject: Reject, permitted: bool, packet: &[u8], out: &mut Vec<u8>) -> Ending {
    let count = match reject.fault() {
        Fault::Short => Count::Short,
        Fault::Response => Count::Response,
        Fault::Opcode => Count::Opcode,
        Fault::QuestionCount => Count::QuestionCount,
        Fault::Question => Count::Question,
        Fault::Records => Count::Records,
        Fault::Edns => Count::Edns,
    };
    match reject {
        Reject::Drop(_) => Ending::Drop(count.into()),
        Reject::Header(..) if !permitted => Ending::Drop(Count::DeniedMalformed.into()),
        Reject::Header(rcode, _) => {
            reply::header_only(packet, rcode, out);
            Ending::Reply(count.into())
        }
    }
}

/// Handles queries to which no rule on names applies: unknown EDNS versions, other classes, transfers and meta-types.
/// If the response code is `None`, the answer has already been written.
fn beyond(
    query: &Query<'_>,
    snapshot: &Snapshot,
    limit: usize,
    out: &mut Vec<u8>,
) -> Option<(Option<Rcode>, Count)> {
    if query.unknown_version() {
        return Some((Some(Rcode::BadVers), Count::EdnsVersion));
    }
    if query.class != class::IN {
        let answered = query.class == class::CH && synthesized::chaos(query, snapshot, limit, out);
        return Some(match answered {
            true => (None, Count::Chaos),
            false => (Some(Rcode::Refused), Count::Refused),
        });
    }
    match query.rtype {
        rtype::AXFR | rtype::IXFR => Some((Some(Rcode::Refused), Count::Refused)),
        // Type 0 is reserved, and no record has it (RFC 6895, section 3.1).
        rtype::OPT | 0 => Some((Some(Rcode::FormErr), Count::Question)),
        rtype::FIRST_META..rtype::ANY => Some((Some(Rcode::NotImp), Count::MetaType)),
        _ => None,
    }
}
