//! Owns the order in which a query is judged, from octets to octets.
//! Refuses sockets and clocks: whoever has them calls it, so every rule is tested without either.

use std::net::IpAddr;
use std::sync::Arc;

use super::cache::{Cache, Entry, Failure, Key, Lookup};
use super::context::AnswerContext;
use super::near::{Near, Place};
use super::own;
use crate::policy::snapshot::{Decision, Snapshot};
use crate::stats::{Count, Counters};
use crate::wire::edns::{Ede, code};
use crate::wire::query::{Fault, Query, Reject};
use crate::wire::reply;
use crate::wire::{Rcode, class, rtype};

/// Who asks, and by which kind of transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address that the query came from.
    pub ip: IpAddr,
    /// Whether the answer goes over a stream, where it may have 65,535 octets.
    pub stream: bool,
}

/// What is to be counted of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How it ended.
    pub count: Count,
    /// Where hits of the list are counted that decided on it.
    pub list: Option<u16>,
}

impl Tally {
    /// Counts it.
    pub fn add_to(self, counters: &Counters) {
        counters.bump(self.count);
        if let Some(list) = self.list {
            counters.bump_list(list);
        }
    }
}

impl From<Count> for Tally {
    fn from(count: Count) -> Self {
        Self { count, list: None }
    }
}

/// What is to be done with a packet.
#[derive(Debug)]
pub enum Step {
    /// Nothing.
    Drop(Tally),
    /// `out` holds the answer.
    Reply(Tally),
    /// `out` holds the answer, from the cache; it is asked for often and will soon be too old, so
    /// the question should be asked again.
    Refresh(Key),
    /// Upstream must be asked; [`conclude`] makes the answer of what it says.
    Resolve(Key, Option<Arc<Entry>>),
    /// Another thread writes where the answer would be; who may wait for it must [`respond`].
    Busy,
}

/// How asking upstream ended.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// With an answer.
    Answered(Arc<Entry>),
    /// Without one.
    Failed(Arc<Failure>, Option<Arc<Entry>>),
    /// Too many questions are waiting already.
    Overloaded(Option<Arc<Entry>>),
}

impl Resolution {
    /// Bytes of the answers that it holds, roughly.
    pub(super) fn footprint(&self) -> usize {
        let (said, stale) = match self {
            Self::Answered(entry) => (Some(entry), None),
            Self::Failed(failure, stale) => (failure.said.as_ref(), stale.as_ref()),
            Self::Overloaded(stale) => (None, stale.as_ref()),
        };
        let entries = said.into_iter().chain(stale);
        entries.map(|entry| entry.answer.footprint()).sum()
    }
}

/// Where true answers come from.
enum Truth<'t> {
    /// The cache, even if it has to be waited for.
    Cache(&'t Cache),
    /// The cache without waiting for it, and perhaps a worker's copy, with the place there.
    Near(&'t Cache, Option<(&'t mut Near, Place)>),
    Given(&'t Resolution),
}

/// A query whose name is the policy's to judge.
#[derive(Debug)]
pub struct Asked<'p> {
    /// The query.
    pub query: Query<'p>,
    limit: usize,
}

/// Judges one packet at `now` (seconds of the server's clock). Replaces what `out` held. When `out` has room
/// for an answer it allocates nothing, except for [`Step::Resolve`] and [`Step::Refresh`], and for answers of
/// more than sixteen records with an additional section or with blocked services, or with more than four
/// blocked services.
pub fn respond(
    now: u32,
    client: Client,
    packet: &[u8],
    snapshot: &Snapshot,
    cache: &Cache,
    out: &mut Vec<u8>,
) -> Step {
    judge(now, client, packet, snapshot, Truth::Cache(cache), out)
}

/// Judges the same packet again with what upstream said, under the snapshot that is in force now:
/// a block that came in the meantime bites at once.
pub fn conclude(
    now: u32,
    client: Client,
    packet: &[u8],
    snapshot: &Snapshot,
    resolution: &Resolution,
    out: &mut Vec<u8>,
) -> Step {
    judge(now, client, packet, snapshot, Truth::Given(resolution), out)
}

fn judge(
    now: u32,
    client: Client,
    packet: &[u8],
    snapshot: &Snapshot,
    truth: Truth<'_>,
    out: &mut Vec<u8>,
) -> Step {
    match read(client, packet, snapshot, out) {
        Ok(asked) => {
            let decision = snapshot.decide(&asked.query.name);
            decide(now, &asked, &decision, snapshot, truth, out)
        }
        Err(step) => step,
    }
}

/// The first half of [`respond`]: reads a packet, up to where the policy is asked about its name.
///
/// # Errors
/// The step, for what needs no policy: then `out` holds the answer, if it is one.
#[inline(always)]
pub fn read<'p>(
    client: Client,
    packet: &'p [u8],
    snapshot: &Snapshot,
    out: &mut Vec<u8>,
) -> Result<Asked<'p>, Step> {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(reject) => {
            return Err(refuse_packet(
                reject,
                snapshot.permits(client.ip),
                packet,
                out,
            ));
        }
    };
    let limit = if client.stream {
        query.stream_limit()
    } else {
        query.udp_limit()
    };
    if !snapshot.permits(client.ip) {
        let why = [Ede {
            code: code::PROHIBITED,
            text: "",
        }];
        own::bare(&query, Rcode::Refused, &why, limit, out);
        return Err(Step::Reply(Count::Denied.into()));
    }
    if let Some((rcode, count)) = beyond(&query, snapshot, limit, out) {
        if let Some(rcode) = rcode {
            own::bare(&query, rcode, &[], limit, out);
        }
        return Err(Step::Reply(count.into()));
    }
    Ok(Asked { query, limit })
}

/// The answer to a packet that was too long to be taken whole.
pub fn oversized(client: Client, packet: &[u8], snapshot: &Snapshot, out: &mut Vec<u8>) -> Step {
    if !snapshot.permits(client.ip) {
        return Step::Drop(Count::DeniedMalformed.into());
    }
    // What would be dropped if it were whole must not be answered now: a response, most of all.
    if matches!(Query::parse(packet), Err(Reject::Drop(_))) {
        return Step::Drop(Count::Oversized.into());
    }
    reply::header_only(packet, Rcode::FormErr, out);
    Step::Reply(Count::Oversized.into())
}

/// The second half of [`respond`], with what the policy says of the name, and where a worker's copy
/// of the cache would have the answer. Never waits for another thread: see [`Step::Busy`].
pub(super) fn answer(
    now: u32,
    asked: &Asked<'_>,
    decision: &Decision<'_>,
    snapshot: &Snapshot,
    cache: &Cache,
    near: Option<(&mut Near, Place)>,
    out: &mut Vec<u8>,
) -> Step {
    let truth = Truth::Near(cache, near);
    decide(now, asked, decision, snapshot, truth, out)
}

fn decide(
    now: u32,
    asked: &Asked<'_>,
    decision: &Decision<'_>,
    snapshot: &Snapshot,
    truth: Truth<'_>,
    out: &mut Vec<u8>,
) -> Step {
    let Asked { query, limit } = asked;
    let limit = *limit;
    let serial = snapshot.generation as u32;
    let past = match decision {
        // What proves to validators that the names below are what they are (RFC 4035, section 5).
        Decision::Blocked { closed: false, .. }
            if matches!(query.rtype, rtype::DS | rtype::DNSKEY) =>
        {
            decision.chain_exemption()
        }
        Decision::Blocked { by, nxdomain, .. } => {
            let list = snapshot.slot(by);
            let tally = |count| Tally { count, list };
            return match own::blocked(
                query,
                *by,
                *nxdomain,
                &own::Place::Question,
                serial,
                limit,
                out,
            ) {
                true => Step::Reply(tally(Count::Blocked)),
                false => Step::Drop(tally(Count::BlockedDrop)),
            };
        }
        Decision::Allowed(_) | Decision::Excepted(_) | Decision::Pass => decision.chain_exemption(),
    };
    if let Some((zone, labels)) = snapshot.local.lookup(&query.name)
        && !own::is_parents(query, zone, labels)
    {
        own::local(query, zone, labels, limit, out);
        return Step::Reply(Count::Local.into());
    }
    if !query.recursion_desired() {
        let why = [Ede {
            code: code::NOT_AUTHORITATIVE,
            text: "",
        }];
        own::bare(query, Rcode::Refused, &why, limit, out);
        return Step::Reply(Count::NoRecursion.into());
    }
    if query.rtype == rtype::ANY {
        own::any(query, limit, out);
        return Step::Reply(Count::Any.into());
    }
    let context = AnswerContext {
        now,
        query,
        snapshot,
        past,
        limit,
    };
    let known = match truth {
        Truth::Cache(cache) => cache.lookup(query, now),
        Truth::Near(cache, mut near) => {
            if let Some((near, place)) = &near
                && let Some(entry) = near.find(*place, query, now)
            {
                return context.hit(entry, entry.is_due(now), out);
            }
            let Some(known) = cache.try_lookup(query, now) else {
                return Step::Busy;
            };
            if let (Lookup::Fresh(entry, _), Some((near, place))) = (&known, &mut near) {
                near.keep(*place, query, entry, now);
            }
            known
        }
        Truth::Given(Resolution::Answered(entry)) => {
            return context.fresh(entry, Count::Resolved, out);
        }
        Truth::Given(Resolution::Failed(failure, stale)) => {
            return context.failed(Some(failure), stale.clone(), false, out);
        }
        Truth::Given(Resolution::Overloaded(stale)) => {
            return context.failed(None, stale.clone(), false, out);
        }
    };
    match known {
        Lookup::Fresh(entry, due) => context.hit(&entry, due, out),
        Lookup::Failed(failure, stale) => context.failed(Some(&failure), stale, true, out),
        Lookup::Miss(stale) => Step::Resolve(Key::new(query), stale),
    }
}

/// A packet that could not be read. Strangers get no answer to it.
fn refuse_packet(reject: Reject, permitted: bool, packet: &[u8], out: &mut Vec<u8>) -> Step {
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
        Reject::Drop(_) => Step::Drop(count.into()),
        Reject::Header(..) if !permitted => Step::Drop(Count::DeniedMalformed.into()),
        Reject::Header(rcode, _) => {
            reply::header_only(packet, rcode, out);
            Step::Reply(count.into())
        }
    }
}

/// Queries that no name's rule speaks of: unknown EDNS versions, other classes, transfers and
/// meta-types. Without a response code the answer is written already.
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
        let answered = query.class == class::CH && own::chaos(query, snapshot, limit, out);
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
