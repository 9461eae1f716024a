//! Answers that the server makes itself: blocks, class CH, refusals.

use arrayvec::ArrayVec;

use crate::policy::decide::Matched;
use crate::policy::record::{LocalRecord, MAX_RECORD_BYTES, RECORD_OVERHEAD};
use crate::policy::rule::{Action, Blocking, EffectAnswer};
use crate::policy::snapshot::Snapshot;
use crate::wire::answer::Answer;
use crate::wire::edns::{Ede, code};
use crate::wire::name::Name;
use crate::wire::query::Query;
use crate::wire::reply::{Owner, Reply};
use crate::wire::{Rcode, rtype};

/// TTL of the answer to ANY, in seconds.
const ANY_TTL: u32 = 3600;

/// An answer without records: a response code and the reasons for it.
pub(super) fn bare(q: &Query<'_>, rcode: Rcode, why: &[Ede<'_>], limit: usize, out: &mut Vec<u8>) {
    Reply::new(q, rcode, limit, out).finish(why, None);
}

/// Answers ANY about a name that is not blocked (RFC 8482, section 4.2).
pub(super) fn any(query: &Query<'_>, limit: usize, out: &mut Vec<u8>) {
    let mut reply = Reply::new(query, Rcode::NoError, limit, out);
    reply.hinfo(ANY_TTL);
    reply.finish(&[], None);
}

/// Answers `version.bind` and `id.server` (RFC 4892) as configured. False for all other names.
pub(super) fn chaos(
    query: &Query<'_>,
    snapshot: &Snapshot,
    limit: usize,
    out: &mut Vec<u8>,
) -> bool {
    let text = match query.name.wire() {
        b"\x07version\x04bind\x00" | b"\x07version\x06server\x00" => &snapshot.version,
        b"\x02id\x06server\x00" | b"\x08hostname\x04bind\x00" => &snapshot.id,
        _ => &None,
    };
    let (Some(text), rtype::TXT | rtype::ANY) = (text, query.rtype) else {
        return false;
    };
    let mut reply = Reply::new(query, Rcode::NoError, limit, out);
    reply.txt(Owner::Question, 0, text);
    reply.finish(&[], None);
    true
}

/// Where a block applies: at the queried name, or at a name that its CNAME chain leads to.
pub(super) enum BlockedAt<'a> {
    /// The queried name itself.
    Question,
    /// The name after `hops` hops of the answer's chain.
    Target {
        answer: &'a Answer,
        hops: usize,
        /// Whether the name after these hops owns an SVCB or HTTPS record whose target is blocked. False if that name
        /// itself is blocked.
        service: bool,
        /// The age of the answer in seconds.
        age: u32,
        /// The TTL of all records, if the answer is stale.
        stale_ttl: Option<u32>,
    },
}

/// Answers a blocked query by the rule's action. False if the action is to send nothing.
pub(super) fn blocked(
    query: &Query<'_>,
    by: Matched<'_>,
    nxdomain: bool,
    place: &BlockedAt<'_>,
    serial: u32,
    limit: usize,
    out: &mut Vec<u8>,
) -> bool {
    let blocking = by.blocking;
    if let Some(EffectAnswer::TcpOnly) = blocking.effect_answer {
        let mut reply = Reply::new(query, Rcode::NoError, limit, out);
        reply.truncate();
        // The name is not blocked, so there is no reason to give.
        reply.finish(&[], None);
        return true;
    }
    let rcode = match blocking.action {
        Action::Drop => return false,
        Action::Refused => Rcode::Refused,
        Action::Nxdomain if nxdomain => Rcode::NxDomain,
        Action::Nxdomain | Action::Nodata | Action::Sinkhole => Rcode::NoError,
    };
    let mut reply = Reply::new(query, rcode, limit, out);
    let mut why: ArrayVec<Ede<'_>, 2> = reason(blocking).into_iter().collect();
    if blocking.action != Action::Refused {
        let stale = place.stale_code();
        why.extend(stale.map(|code| Ede { code, text: "" }));
        let target = place.chain(&mut reply, blocking);
        let is_service = matches!(place, BlockedAt::Target { service: true, .. });
        let owner = target.as_ref().map_or(Owner::Question, Owner::Name);
        // If the blocked name is the target of an SVCB or HTTPS record, the records of the rule would belong to that
        // target. They are left out, because the target is not the queried name.
        let is_answered = match &blocking.effect_answer {
            None => sinkhole(&mut reply, query.rtype, blocking, owner),
            Some(EffectAnswer::Records(all)) if !is_service => {
                records(&mut reply, query.rtype, all, owner)
            }
            Some(_) => false,
        };
        // A policy zone has its SOA record in the additional section, and none in the authority section.
        if !is_answered && by.source.zone.is_none() {
            // A rule whose trigger is not a name, such as an address, counts as a rule on the blocked name.
            let blocked = target.as_ref().unwrap_or(query.name);
            let labels = by.hit.labels().unwrap_or(blocked.label_count());
            // The target of a service does not appear in the answer. Therefore the owner of the SVCB or HTTPS record
            // owns the SOA, too: caches would not accept an SOA with another owner.
            let above = |name: &Name| Name::parse(name.ancestor(labels), 0).ok();
            let matched = match is_service {
                true => target.map(|name| (name, 0)),
                false => target.as_ref().and_then(above),
            };
            let owner = match &matched {
                Some((name, _)) => Owner::Name(name),
                None if is_service => Owner::Question,
                None => Owner::Ancestor(labels),
            };
            reply.soa(owner, blocking.ttl_secs, serial, false);
        }
    }
    let body_end = zone_soa(&mut reply, by);
    reply.finish(&why, body_end);
    true
}

/// Writes the SOA record of the policy zone that a rule belongs to, if it is to be written. Returns the offset of the
/// additional section then.
pub(super) fn zone_soa(reply: &mut Reply<'_, '_, '_>, by: Matched<'_>) -> Option<usize> {
    let soa = by.source.zone.as_ref()?.soa.as_ref()?;
    Some(reply.additional_soa(&soa.apex, by.blocking.ttl_secs, &soa.data))
}

/// The Extended DNS Error of a block.
pub(super) fn reason(blocking: &Blocking) -> Option<Ede<'_>> {
    let text = blocking.extra_text.as_str();
    let code = blocking.ede.code()?;
    Some(Ede { code, text })
}

/// Answers a query for an alias whose target would be too long (RFC 6672, section 2.2).
pub(super) fn too_long(query: &Query<'_>, blocking: &Blocking, limit: usize, out: &mut Vec<u8>) {
    let why = reason(blocking);
    bare(query, Rcode::YxDomain, why.as_slice(), limit, out);
}

impl BlockedAt<'_> {
    /// The name at this place.
    pub(super) fn name(&self, asked: &Name) -> Name {
        let target = match self {
            Self::Question => None,
            Self::Target { answer, hops, .. } => answer.chain().take(*hops).last(),
        };
        target.map_or_else(|| asked.clone(), |(name, _)| name)
    }

    /// The number of hops up to this place.
    pub(super) fn hops(&self) -> usize {
        match self {
            Self::Question => 0,
            Self::Target { hops, .. } => *hops,
        }
    }

    /// The INFO-CODE that says that the chain is stale.
    pub(super) fn stale_code(&self) -> Option<u16> {
        match self {
            Self::Target {
                stale_ttl: Some(_), ..
            } => Some(code::STALE_ANSWER),
            _ => None,
        }
    }

    /// Writes the chain up to the blocked name, and returns that name if it is not the queried one.
    pub(super) fn chain(&self, reply: &mut Reply<'_, '_, '_>, blocking: &Blocking) -> Option<Name> {
        let Self::Target {
            answer,
            hops,
            age,
            stale_ttl,
            ..
        } = self
        else {
            return None;
        };
        let ttl = |ttl: u32| stale_ttl.unwrap_or(ttl.saturating_sub(*age));
        let hops = answer.chain().take(*hops);
        let hops = hops.map(|(name, hop)| (name, ttl(hop).min(blocking.ttl_secs)));
        chain(reply, hops)
    }
}

/// Writes the chain up to the blocked name, without signatures, and returns that name.
fn chain(reply: &mut Reply<'_, '_, '_>, hops: impl Iterator<Item = (Name, u32)>) -> Option<Name> {
    let mut at = None;
    for (target, ttl) in hops {
        let owner = at.as_ref().map_or(Owner::Question, Owner::Name);
        reply.cname(owner, ttl, &target);
        at = Some(target);
    }
    at
}

/// Writes the records of the queried type, which are sorted by type. False if there are none. A query of type ANY gets
/// the RRsets that fit in one message (RFC 8482, section 4.1).
pub(super) fn records(
    reply: &mut Reply<'_, '_, '_>,
    asked: u16,
    all: &[LocalRecord],
    owner: Owner<'_>,
) -> bool {
    let mut room = MAX_RECORD_BYTES;
    let mut any = false;
    for rrset in all.chunk_by(|one, other| one.rtype == other.rtype) {
        let bytes: usize = rrset.iter().map(LocalRecord::answer_bytes).sum();
        if ![rrset[0].rtype, rtype::ANY].contains(&asked) || bytes > room {
            continue;
        }
        room -= bytes;
        for record in rrset {
            reply.data(
                owner,
                record.rtype,
                record.ttl_secs.unwrap_or(0),
                &record.data,
            );
        }
        any = true;
    }
    any
}

/// Writes the sinkhole's addresses of the queried type. False if there are none. A query of type ANY gets the addresses
/// of both types only if they fit in one message.
fn sinkhole(
    reply: &mut Reply<'_, '_, '_>,
    asked: u16,
    blocking: &Blocking,
    owner: Owner<'_>,
) -> bool {
    if blocking.action != Action::Sinkhole {
        return false;
    }
    let mut any = false;
    if matches!(asked, rtype::A | rtype::ANY) {
        for &address in &blocking.sinkhole_v4 {
            reply.address(owner, blocking.ttl_secs, address.into());
            any = true;
        }
    }
    let bytes = |count: usize, address: usize| count * (RECORD_OVERHEAD + address);
    let both = bytes(blocking.sinkhole_v4.len(), 4) + bytes(blocking.sinkhole_v6.len(), 16);
    let follows = asked == rtype::ANY && (!any || both <= MAX_RECORD_BYTES);
    if follows || asked == rtype::AAAA {
        for &address in &blocking.sinkhole_v6 {
            reply.address(owner, blocking.ttl_secs, address.into());
            any = true;
        }
    }
    any
}
