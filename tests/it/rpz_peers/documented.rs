//! The answer of Tapis to a query, as docs/policy.md and docs/rpz.md describe it: a model that shares no code with the
//! server.

use std::collections::BTreeSet;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::ask::{Outcome, Question, text};
use super::truth::{self, Resolved};
use super::zones::{Action, Zone};

/// Policy zones, and how they are applied.
pub(super) struct Policy<'z> {
    pub(super) zones: &'z [Zone],
    /// Whether rules do not change signed answers to clients that ask for signatures.
    pub(super) spares_signed: bool,
    /// Whether rules on the addresses of blocked names apply, too. This is BIND's order: Tapis does not ask upstream for
    /// such names.
    pub(super) asks_for_blocked: bool,
}

impl<'z> Policy<'z> {
    /// The answer to a query.
    pub(super) fn answer(&self, question: &Question) -> Outcome {
        let upstream = truth::resolve(&question.name, question.rtype);
        for hops in 0..upstream.names.len() {
            let place = &upstream.names[..=hops];
            if let Some(action) = self.deciding(question, place, &upstream) {
                return outcome(action, place, question.rtype, &upstream);
            }
        }
        unchanged(&upstream)
    }

    /// The action of the rule that decides about the last name of `place`, which is the chain from the queried name to that
    /// name.
    fn deciding(
        &self,
        question: &Question,
        place: &[String],
        upstream: &Resolved,
    ) -> Option<&'z Action> {
        let name = last(place);
        let (is_first, is_last) = (place.len() == 1, place.len() == upstream.names.len());
        let is_spared = self.spares_signed && question.dnssec && truth::is_signed(name);
        let applies = |action: &&Action| !is_spared || allows(action, name);
        let on_name = self.zones.iter().enumerate().find_map(|(at, zone)| {
            let client = Some(question.client).filter(|_| is_first);
            let of_client = client.and_then(|client| zone.on_client(client));
            let rule = of_client.or_else(|| zone.on(name));
            Some((at, rule.filter(applies)?))
        });
        let has_addresses = !is_first
            || self.asks_for_blocked
            || on_name.is_none_or(|(_, action)| allows(action, name));
        let on_address = if is_last && has_addresses {
            // Within a zone, a rule on the name precedes.
            let earlier = on_name.map_or(self.zones.len(), |(at, _)| at);
            let addresses = upstream.addresses();
            let mut zones = self.zones[..earlier].iter();
            zones.find_map(|zone| zone.on_addresses(&addresses).filter(applies))
        } else {
            None
        };
        on_address.or(on_name.map(|(_, action)| action))
    }
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

/// The answer if the rule on the name after so many `hops` of the chain, or on its addresses, has this action.
pub(super) fn outcome_at(hops: usize, action: &Action, question: &Question) -> Outcome {
    let upstream = truth::resolve(&question.name, question.rtype);
    outcome(action, &upstream.names[..=hops], question.rtype, &upstream)
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
