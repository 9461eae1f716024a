//! Answers from local names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::synthesized;
use crate::policy::local::{LocalAnswer, LocalData, SPECIAL_USE_TTL, SpecialUseZone};
use crate::wire::name::Name;
use crate::wire::query::Query;
use crate::wire::reply::{Owner, Reply};
use crate::wire::{Rcode, rtype};

/// Answers a query for a name that is answered locally and is no alias.
pub(super) fn answer(query: &Query<'_>, found: LocalAnswer<'_>, limit: usize, out: &mut Vec<u8>) {
    let mut reply = Reply::new(query, Rcode::NoError, limit, out);
    records(&mut reply, query.rtype, None, query.name, found);
    reply.finish(&[], None);
}

/// Writes the records of `name`, or the SOA record of a negative answer. `alias` is the name if it is not the queried
/// one.
pub(super) fn records(
    reply: &mut Reply<'_, '_, '_>,
    asked: u16,
    alias: Option<&Name>,
    name: &Name,
    found: LocalAnswer<'_>,
) {
    let owner = alias.map_or(Owner::Question, Owner::Name);
    let (is_answered, ttl) = match found.data {
        LocalData::SpecialUse(zone) => {
            let is_apex = name.label_count() == found.labels;
            let is_answered = special_use(reply, asked, (owner, name), zone, is_apex);
            (is_answered, SPECIAL_USE_TTL)
        }
        LocalData::Nonexistent => {
            reply.deny();
            (false, SPECIAL_USE_TTL)
        }
        LocalData::Records(all) => {
            // A target that is an alias in turn, which was not followed.
            let shown = found.alias(asked).map_or(asked, |_| rtype::CNAME);
            let ttl = all.iter().filter_map(|record| record.ttl_secs).min();
            let is_answered = synthesized::records(reply, shown, all, owner);
            (is_answered, ttl.unwrap_or(SPECIAL_USE_TTL))
        }
    };
    if is_answered {
        return;
    }
    let above = alias.and_then(|name| Name::parse(name.ancestor(found.labels), 0).ok());
    let owner = match &above {
        Some((zone, _)) => Owner::Name(zone),
        None => Owner::Ancestor(found.labels),
    };
    match found.soa {
        Some(soa) => reply.zone_soa(owner, soa.negative_ttl, &soa.data),
        None => reply.soa(owner, ttl, 1, false),
    }
}

/// Writes the records of a name in a special-use zone. False if it has none of the queried type.
fn special_use(
    reply: &mut Reply<'_, '_, '_>,
    asked: u16,
    (owner, name): (Owner<'_>, &Name),
    zone: SpecialUseZone,
    is_apex: bool,
) -> bool {
    let does_not_exist = match zone {
        SpecialUseZone::Nonexistent => true,
        SpecialUseZone::Empty => !is_apex,
        SpecialUseZone::Loopback | SpecialUseZone::NoData => false,
    };
    if does_not_exist {
        reply.deny();
    }
    let asked = |rtype: u16| [rtype, rtype::ANY].contains(&asked);
    let mut any = false;
    if zone == SpecialUseZone::Loopback {
        if asked(rtype::A) {
            reply.address(owner, SPECIAL_USE_TTL, IpAddr::V4(Ipv4Addr::LOCALHOST));
            any = true;
        }
        if asked(rtype::AAAA) {
            reply.address(owner, SPECIAL_USE_TTL, IpAddr::V6(Ipv6Addr::LOCALHOST));
            any = true;
        }
    }
    if zone == SpecialUseZone::Empty && is_apex {
        if asked(rtype::NS) {
            reply.ns(owner, SPECIAL_USE_TTL, name);
            any = true;
        }
        if asked(rtype::SOA) {
            reply.soa(owner, SPECIAL_USE_TTL, 1, true);
            any = true;
        }
    }
    any
}
