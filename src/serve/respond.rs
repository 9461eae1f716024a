//! Owns the order in which a query is judged, from octets to octets.
//! Refuses sockets and clocks: whoever has them calls it, so every rule is tested without either.

use std::net::IpAddr;
use std::sync::Arc;

use super::cache::{Cache, Entry, Failure, Key, Lookup, STALE_TTL};
use super::own::{self, Place};
use crate::policy::snapshot::{Decision, Snapshot};
use crate::stats::Count;
use crate::wire::edns::{Ede, code};
use crate::wire::query::{Fault, Query, Reject};
use crate::wire::reply::{self, Reply};
use crate::wire::{Rcode, class, rtype};

/// Who asks, and by which kind of transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address that the query came from.
    pub ip: IpAddr,
    /// Whether the answer goes over a stream, where it may have 65,535 octets.
    pub stream: bool,
}

/// What is to be done with a packet.
#[derive(Debug)]
pub enum Step {
    /// Nothing.
    Drop(Count),
    /// `out` holds the answer.
    Reply(Count),
    /// Upstream must be asked; [`conclude`] makes the answer of what it says.
    Resolve(Key, Option<Arc<Entry>>),
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

/// Where true answers come from.
enum Truth<'t> {
    Cache(&'t Cache),
    Given(&'t Resolution),
}

/// Judges one packet at `now` (seconds of the server's clock). Replaces what `out` held; never
/// allocates when `out` has room for an answer, but for [`Step::Resolve`].
pub fn respond(
    now: u32,
    client: Client,
    packet: &[u8],
    snapshot: &Snapshot,
    cache: &Cache,
    out: &mut Vec<u8>,
) -> Step {
    judge(now, client, packet, snapshot, &Truth::Cache(cache), out)
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
    judge(
        now,
        client,
        packet,
        snapshot,
        &Truth::Given(resolution),
        out,
    )
}

fn judge(
    now: u32,
    client: Client,
    packet: &[u8],
    snapshot: &Snapshot,
    truth: &Truth<'_>,
    out: &mut Vec<u8>,
) -> Step {
    let query = match Query::read(packet) {
        Ok(query) => query,
        Err(reject) => return refuse_packet(reject, snapshot.permits(client.ip), packet, out),
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
        return Step::Reply(Count::Denied);
    }
    if let Some((rcode, count)) = beyond(&query, snapshot, limit, out) {
        if let Some(rcode) = rcode {
            own::bare(&query, rcode, &[], limit, out);
        }
        return Step::Reply(count);
    }
    let serial = snapshot.generation as u32;
    let allowed = match snapshot.decide(&query.name) {
        Decision::Blocked { by, nxdomain } => {
            let place = Place::Question;
            return match own::blocked(&query, by, nxdomain, &place, serial, limit, out) {
                true => Step::Reply(Count::Blocked),
                false => Step::Drop(Count::BlockedDrop),
            };
        }
        Decision::Allowed(_) => true,
        Decision::Pass => false,
    };
    if let Some((zone, labels)) = snapshot.local.lookup(&query.name)
        && !own::is_parents(&query, zone, labels)
    {
        own::local(&query, zone, labels, limit, out);
        return Step::Reply(Count::Local);
    }
    if !query.recursion_desired() {
        let why = [Ede {
            code: code::NOT_AUTHORITATIVE,
            text: "",
        }];
        own::bare(&query, Rcode::Refused, &why, limit, out);
        return Step::Reply(Count::NoRecursion);
    }
    if query.rtype == rtype::ANY {
        own::any(&query, limit, out);
        return Step::Reply(Count::Any);
    }
    let road = Road {
        now,
        query: &query,
        snapshot,
        allowed,
        limit,
    };
    match truth {
        Truth::Cache(cache) => match cache.lookup(&query, now) {
            Lookup::Fresh(entry) => road.fresh(&entry, Count::CacheHits, out),
            Lookup::Failed(failure, stale) => road.failed(Some(&failure), stale, true, out),
            Lookup::Miss(stale) => Step::Resolve(Key::new(&query), stale),
        },
        Truth::Given(Resolution::Answered(entry)) => road.fresh(entry, Count::Resolved, out),
        Truth::Given(Resolution::Failed(failure, stale)) => {
            road.failed(Some(failure), stale.clone(), false, out)
        }
        Truth::Given(Resolution::Overloaded(stale)) => road.failed(None, stale.clone(), false, out),
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
        Reject::Drop(_) => Step::Drop(count),
        Reject::Header(..) if !permitted => Step::Drop(Count::DeniedMalformed),
        Reject::Header(rcode, _) => {
            reply::header_only(packet, rcode, out);
            Step::Reply(count)
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
        rtype::OPT => Some((Some(Rcode::FormErr), Count::Question)),
        rtype::FIRST_META..rtype::ANY => Some((Some(Rcode::NotImp), Count::MetaType)),
        _ => None,
    }
}

/// The rest of the road, once only the truth is missing.
struct Road<'a, 'p> {
    now: u32,
    query: &'a Query<'p>,
    snapshot: &'a Snapshot,
    allowed: bool,
    limit: usize,
}

impl Road<'_, '_> {
    fn fresh(&self, entry: &Entry, count: Count, out: &mut Vec<u8>) -> Step {
        self.copy(entry, count, None, None, out)
    }

    /// Without an answer: the one past its TTL if there is one (RFC 8767), else upstream's own
    /// word, else SERVFAIL.
    fn failed(
        &self,
        failure: Option<&Failure>,
        stale: Option<Arc<Entry>>,
        remembered: bool,
        out: &mut Vec<u8>,
    ) -> Step {
        if let Some(entry) = stale {
            let code = match entry.answer.rcode() == Rcode::NxDomain as u16 {
                true => code::STALE_NXDOMAIN,
                false => code::STALE_ANSWER,
            };
            return self.copy(&entry, Count::Stale, Some(STALE_TTL), Some(code), out);
        }
        let Some(failure) = failure else {
            own::bare(self.query, Rcode::ServFail, &[], self.limit, out);
            return Step::Reply(Count::Overloaded);
        };
        let extra = remembered.then_some(code::CACHED_ERROR);
        if let Some(said) = &failure.said {
            return self.copy(said, Count::Failed, None, extra, out);
        }
        let why = [Some(failure.code), extra].map(|code| Ede {
            code: code.unwrap_or_default(),
            text: "",
        });
        let why = &why[..1 + usize::from(remembered)];
        own::bare(self.query, Rcode::ServFail, why, self.limit, out);
        Step::Reply(Count::Failed)
    }

    /// Upstream's answer, unless a name on its chain of CNAMEs is blocked. An allow rule on the
    /// asked name ends evaluation.
    fn copy(
        &self,
        entry: &Entry,
        count: Count,
        stale_ttl: Option<u32>,
        extra: Option<u16>,
        out: &mut Vec<u8>,
    ) -> Step {
        let answer = &entry.answer;
        // Who asks for the CNAME itself gets it; its target is judged when it is asked for.
        if !self.allowed && self.query.rtype != rtype::CNAME {
            let chain = answer.chain().map(|(name, _)| name);
            let (hops, decision) = self.snapshot.decide_chain(chain);
            if let Decision::Blocked { by, nxdomain } = decision {
                let place = Place::Target {
                    answer,
                    hops,
                    age: entry.age(self.now),
                    stale_ttl,
                };
                let serial = self.snapshot.generation as u32;
                return match own::blocked(self.query, by, nxdomain, &place, serial, self.limit, out)
                {
                    true => Step::Reply(Count::BlockedTarget),
                    false => Step::Drop(Count::BlockedDrop),
                };
            }
        }
        let mut reply = Reply::new(self.query, Rcode::NoError, self.limit, out);
        reply.copy(answer, entry.age(self.now), stale_ttl);
        let mut why = [Ede { code: 0, text: "" }; 6];
        let held = answer.errors().iter().map(|e| Ede {
            code: e.code,
            text: &e.text,
        });
        let extra = extra.map(|code| Ede { code, text: "" });
        let mut count_of_errors = 0;
        for (place, error) in why.iter_mut().zip(extra.into_iter().chain(held)) {
            *place = error;
            count_of_errors += 1;
        }
        reply.finish(&why[..count_of_errors], Some(answer.additional_at()));
        Step::Reply(count)
    }
}
