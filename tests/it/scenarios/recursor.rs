//! The recursive resolver behind the server: it finds its answers among the ranges of a scenario.

use std::net::IpAddr;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::entry::{Entry, Flag};
use super::parse::{Range, Scenario};
use super::records::{record, signs};

/// The most CNAME records, and the most referrals, that are followed.
const LIMIT: usize = 16;

pub(super) struct Recursor {
    ranges: Vec<Range>,
    /// Zones, and the servers that know them or lead to those that do.
    servers: Vec<(Name, Vec<IpAddr>)>,
}

#[derive(Debug)]
pub(super) struct Response {
    pub(super) rcode: ResponseCode,
    pub(super) answer: Vec<Record>,
    pub(super) authority: Vec<Record>,
}

impl Recursor {
    pub(super) fn new(scenario: &Scenario, servers: Vec<(Name, Vec<IpAddr>)>) -> Self {
        let ranges = scenario.ranges.clone();
        Self { ranges, servers }
    }

    /// The answer with its whole chain of CNAME records. A chain that leads to a name for which the
    /// scenario has no answer ends there with NODATA; without a chain, that is SERVFAIL.
    /// Signatures are left out if the query does not ask for them.
    pub(super) fn resolve(&self, step: u32, question: &Query, with_signatures: bool) -> Response {
        let mut response = self.resolve_signed(step, question);
        if !with_signatures {
            for records in [&mut response.answer, &mut response.authority] {
                records.retain(|record| record.record_type() != RecordType::RRSIG);
            }
        }
        response
    }

    fn resolve_signed(&self, step: u32, question: &Query) -> Response {
        let rtype = question.query_type();
        let mut name = question.name().clone();
        let mut answer = Vec::new();
        for _ in 0..LIMIT {
            let question = Query::query(name.clone(), rtype);
            let Some(entry) = self.ask(step, &question) else {
                break;
            };
            let target = collect(entry, &question, &mut answer);
            match target {
                Some(target) => name = target,
                None => {
                    return Response {
                        rcode: entry.rcode,
                        answer,
                        authority: entry.authority.clone().unwrap_or_default(),
                    };
                }
            }
        }
        let (rcode, authority) = match answer.is_empty() {
            true => (ResponseCode::ServFail, Vec::new()),
            false => (ResponseCode::NoError, vec![soa()]),
        };
        Response {
            rcode,
            answer,
            authority,
        }
    }

    /// The answer of the authoritative servers, behind all referrals.
    fn ask(&self, step: u32, question: &Query) -> Option<&Entry> {
        let known = self.servers.iter();
        let above = known.filter(|(zone, _)| zone.zone_of(question.name()));
        let (_, addresses) = above.max_by_key(|(zone, _)| zone.num_labels())?;
        let mut addresses = addresses.clone();
        for _ in 0..LIMIT {
            let entry = self.entry(step, &addresses, question)?;
            match referral(entry, question) {
                Some(next) => addresses = next,
                None => return Some(entry),
            }
        }
        None
    }

    /// The first entry that answers the question at one of these addresses.
    pub(super) fn entry(
        &self,
        step: u32,
        addresses: &[IpAddr],
        question: &Query,
    ) -> Option<&Entry> {
        let ranges = self.ranges.iter();
        let ranges = ranges.filter(|range| range.steps.contains(&step));
        let serves = |range: &&Range| {
            let mut addresses = addresses.iter();
            addresses.any(|address| range.addresses.contains(address))
        };
        let mut entries = ranges.filter(serves).flat_map(|range| &range.entries);
        entries.find(|entry| entry.answers(question))
    }
}

/// Adds the records that answer the question. Returns the name that a chain of CNAME records leads
/// to, if the entry does not have the records of that name.
fn collect(entry: &Entry, question: &Query, answer: &mut Vec<Record>) -> Option<Name> {
    let rtype = question.query_type();
    let mut name = question.name().clone();
    for links in 0..LIMIT {
        let at = entry.answer.iter().filter(|record| record.name == name);
        let is_wanted = |record: &&Record| {
            let own = record.record_type();
            own == rtype || rtype == RecordType::ANY || signs(record, rtype)
        };
        let found: Vec<Record> = at.clone().filter(is_wanted).cloned().collect();
        if !found.is_empty() {
            answer.extend(found);
            return None;
        }
        let mut aliases = at.clone().filter_map(|record| match &record.data {
            RData::CNAME(target) => Some((record, &target.0)),
            _ => None,
        });
        match aliases.next() {
            Some((record, target)) => {
                let signatures = at.filter(|record| signs(record, RecordType::CNAME));
                answer.push(record.clone());
                answer.extend(signatures.cloned());
                name = target.clone();
            }
            None => return (links > 0).then_some(name),
        }
    }
    Some(name)
}

/// The SOA record of NODATA at the end of a chain: without one, the chain could not be cached.
fn soa() -> Record {
    let soa = record(". SOA . . 1 3600 600 86400 3600", &Name::root());
    soa.expect("a record")
}

/// The addresses that a referral leads to; `None` if the entry is an answer.
fn referral(entry: &Entry, question: &Query) -> Option<Vec<IpAddr>> {
    let authority = entry.authority.as_deref().unwrap_or_default();
    let servers = authority.iter().filter_map(|record| match &record.data {
        RData::NS(server) if record.name.zone_of(question.name()) => Some(&server.0),
        _ => None,
    });
    let servers: Vec<&Name> = servers.collect();
    let is_answer = !entry.answer.is_empty() || entry.flags.contains(&Flag::Aa);
    if is_answer || servers.is_empty() || entry.rcode != ResponseCode::NoError {
        return None;
    }
    let glue = entry.additional.as_deref().unwrap_or_default().iter();
    let glue = glue.filter(|record| servers.contains(&&record.name));
    let addresses = glue.filter_map(|record| match record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    Some(addresses.collect())
}
