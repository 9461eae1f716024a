//! Answers that the server makes itself: blocks, local zones, class CH, refusals.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::policy::decide::Matched;
use crate::policy::local::LocalZone;
use crate::policy::rule::{Action, Blocking};
use crate::policy::snapshot::Snapshot;
use crate::wire::answer::Answer;
use crate::wire::edns::Ede;
use crate::wire::name::Name;
use crate::wire::query::Query;
use crate::wire::reply::{Owner, Reply};
use crate::wire::{Rcode, rtype};

/// TTL of local zones, in seconds (RFC 6303, section 3).
const LOCAL_TTL: u32 = 10_800;
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
    let rcode = match blocking.action {
        Action::Drop => return false,
        Action::Refused => Rcode::Refused,
        Action::Nxdomain if nxdomain => Rcode::NxDomain,
        Action::Nxdomain | Action::Nodata | Action::Sinkhole => Rcode::NoError,
    };
    let mut reply = Reply::new(query, rcode, limit, out);
    if blocking.action != Action::Refused {
        let target = match place {
            BlockedAt::Question => None,
            BlockedAt::Target {
                answer,
                hops,
                age,
                stale_ttl,
                ..
            } => {
                let ttl = |ttl: u32| stale_ttl.unwrap_or(ttl.saturating_sub(*age));
                let hops = answer.chain().take(*hops);
                let hops = hops.map(|(name, hop)| (name, ttl(hop).min(blocking.ttl_secs)));
                chain(&mut reply, hops)
            }
        };
        let is_service = matches!(place, BlockedAt::Target { service: true, .. });
        let owner = target.as_ref().map_or(Owner::Question, Owner::Name);
        if !sinkhole(&mut reply, query.rtype, blocking, owner) {
            // A rule that is not on a name decides about the whole name.
            let blocked = target.as_ref().unwrap_or(&query.name);
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
    let text = blocking.extra_text.as_str();
    match blocking.ede.code() {
        Some(code) => reply.finish(&[Ede { code, text }], None),
        None => reply.finish(&[], None),
    }
    true
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

/// Writes the sinkhole's addresses of the queried type. False if there are none.
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
    if matches!(asked, rtype::AAAA | rtype::ANY) {
        for &address in &blocking.sinkhole_v6 {
            reply.address(owner, blocking.ttl_secs, address.into());
            any = true;
        }
    }
    any
}

/// Whether the query is for data of the parent zone: the DS record of a locally served zone. By the parent's answer
/// validators learn that the zone is unsigned (RFC 8375, section 4; RFC 6303, section 3).
pub(super) fn is_parents(query: &Query<'_>, zone: LocalZone, labels: usize) -> bool {
    zone == LocalZone::Empty && query.rtype == rtype::DS && query.name.label_count() == labels
}

/// Answers a query for a name that never goes upstream. `labels` is the number of labels of its zone's name.
pub(super) fn local(
    query: &Query<'_>,
    zone: LocalZone,
    labels: usize,
    limit: usize,
    out: &mut Vec<u8>,
) {
    let apex = query.name.label_count() == labels;
    let rcode = match zone {
        LocalZone::Nonexistent => Rcode::NxDomain,
        LocalZone::Empty if !apex => Rcode::NxDomain,
        LocalZone::Empty | LocalZone::Loopback | LocalZone::NoData => Rcode::NoError,
    };
    let mut reply = Reply::new(query, rcode, limit, out);
    let asked = |types: &[u16]| types.contains(&query.rtype) || query.rtype == rtype::ANY;
    let mut any = false;
    if zone == LocalZone::Loopback {
        if asked(&[rtype::A]) {
            reply.address(Owner::Question, LOCAL_TTL, IpAddr::V4(Ipv4Addr::LOCALHOST));
            any = true;
        }
        if asked(&[rtype::AAAA]) {
            reply.address(Owner::Question, LOCAL_TTL, IpAddr::V6(Ipv6Addr::LOCALHOST));
            any = true;
        }
    }
    if zone == LocalZone::Empty && apex {
        if asked(&[rtype::NS]) {
            reply.ns(Owner::Question, LOCAL_TTL, &query.name);
            any = true;
        }
        if asked(&[rtype::SOA]) {
            reply.soa(Owner::Question, LOCAL_TTL, 1, true);
            any = true;
        }
    }
    if !any {
        reply.soa(Owner::Ancestor(labels), LOCAL_TTL, 1, false);
    }
    reply.finish(&[], None);
}
