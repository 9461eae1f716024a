//! The answer of Tapis to a query, as docs/policy.md and docs/rpz.md describe it: a model that shares no code with the
//! server.

use std::collections::BTreeSet;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::ask::{Outcome, Question, text};
use super::truth::{self, Resolved};
use super::zones::{Action, Zone};

/// The answer to a query under these zones. With `spares_signed`, rules do not change signed answers to clients that ask
/// for signatures.
pub(super) fn answer(zones: &[Zone], question: &Question, spares_signed: bool) -> Outcome {
    let upstream = truth::resolve(&question.name, question.rtype);
    let spares_signed = spares_signed && question.dnssec;
    for hops in 0..upstream.names.len() {
        let place = &upstream.names[..=hops];
        let rule = deciding(zones, question, place, &upstream, spares_signed);
        if let Some(action) = rule {
            return outcome(action, place, question.rtype, &upstream);
        }
    }
    unchanged(&upstream)
}

/// The rule that decides about the last name of `place`, which is the chain from the queried name to that name.
fn deciding<'z>(
    zones: &'z [Zone],
    question: &Question,
    place: &[String],
    upstream: &Resolved,
    spares_signed: bool,
) -> Option<&'z Action> {
    let name = last(place);
    let (is_first, is_last) = (place.len() == 1, place.len() == upstream.names.len());
    let is_spared = spares_signed && truth::is_signed(name);
    let applies = |action: &&Action| !is_spared || allows(action, name);
    let on_name = zones.iter().enumerate().find_map(|(at, zone)| {
        let client = Some(question.client).filter(|_| is_first);
        let of_client = client.and_then(|client| zone.on_client(client));
        let rule = of_client.or_else(|| zone.on(name));
        Some((at, rule.filter(applies)?))
    });
    // Upstream is not asked for a blocked name, so there are no addresses.
    let is_asked = !is_first || on_name.is_none_or(|(_, action)| allows(action, name));
    let earlier = on_name.map_or(zones.len(), |(at, _)| at);
    let on_address = match is_last && is_asked {
        true => zones[..earlier].iter().find_map(|zone| {
            let rule = zone.on_addresses(&upstream.addresses());
            rule.filter(applies)
        }),
        false => None,
    };
    on_address.or(on_name.map(|(_, action)| action))
}

/// Whether an action lets a name be answered by upstream.
fn allows(action: &Action, name: &str) -> bool {
    match action {
        Action::Passthru => true,
        // A name that is its own target is allowed.
        Action::Cname(target) => target == name,
        _ => false,
    }
}

/// The answer if the rule on the last name of `place` has this action.
fn outcome(action: &Action, place: &[String], rtype: RecordType, upstream: &Resolved) -> Outcome {
    let name = last(place);
    let chain = place.windows(2).map(|pair| alias(&pair[0], &pair[1]));
    match action {
        Action::Passthru => unchanged(upstream),
        Action::Cname(target) if target == name => unchanged(upstream),
        Action::Drop => Outcome::Dropped,
        // All queries come by UDP.
        Action::TcpOnly => Outcome::Truncated,
        Action::Nxdomain => Outcome::Answer(ResponseCode::NXDomain, chain.collect()),
        Action::Nodata => Outcome::Answer(ResponseCode::NoError, chain.collect()),
        Action::Records(records) => {
            let asked = rtype.to_string();
            let records = records.iter().filter(|(of, _)| *of == asked);
            let records = records.map(|(of, data)| {
                let data = data.trim_matches('"');
                format!("{name}. {of} {data}")
            });
            Outcome::Answer(ResponseCode::NoError, chain.chain(records).collect())
        }
        Action::Cname(target) => redirect(target, place, rtype),
        Action::Garden(garden) => redirect(&format!("{name}.{garden}"), place, rtype),
    }
}

/// Upstream's answer.
fn unchanged(upstream: &Resolved) -> Outcome {
    let records = upstream.records.iter().map(text).collect();
    Outcome::Answer(upstream.rcode, records)
}

/// The chain, the redirect, and the records of its target, unless these are not asked for or lead back to the chain.
fn redirect(target: &str, place: &[String], rtype: RecordType) -> Outcome {
    let chain = place.windows(2).map(|pair| alias(&pair[0], &pair[1]));
    let mut records: BTreeSet<_> = chain.collect();
    records.insert(alias(last(place), target));
    let resolved = truth::resolve(target, rtype);
    let is_loop = resolved.names.iter().any(|name| place.contains(name));
    if rtype == RecordType::CNAME || is_loop {
        return Outcome::Answer(ResponseCode::NoError, records);
    }
    records.extend(resolved.records.iter().map(text));
    Outcome::Answer(resolved.rcode, records)
}

fn alias(owner: &str, target: &str) -> String {
    format!("{owner}. CNAME {target}.")
}

fn last(place: &[String]) -> &str {
    place.last().expect("a place has a name")
}
