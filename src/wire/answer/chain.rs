//! Finds the records of a response that answer its question: the chain of CNAMEs and DNAMEs from the queried
//! name, and the records at its end.

use smallvec::SmallVec;

use super::records::{AnswerError, ParsedResponse, Record};
use crate::wire::name::Name;
use crate::wire::{read_u32, rtype};

/// The maximum length of a chain; a response with a longer one is rejected.
pub const MAX_HOPS: usize = 16;

/// The maximum number of CNAMEs and DNAMEs in an answer section, each of which is compared at each hop.
const MAX_ALIASES: usize = 2 * MAX_HOPS;

/// One hop from a name to another.
pub(super) struct Hop {
    /// The DNAME record above the owner, if there is one (RFC 6672).
    pub(super) dname: Option<Record>,
    /// If `None`, the CNAME is synthesized from the DNAME.
    pub(super) cname: Option<Record>,
    pub(super) owner: Name,
    pub(super) target: Name,
}

/// The chain from the queried name to its records.
pub(super) struct Chain {
    /// The hops, in order.
    pub(super) hops: Vec<Hop>,
    /// The answer to a query of type CNAME for a name below a DNAME. Its target is not followed.
    pub(super) renamed: Option<Box<Hop>>,
    /// The records of the queried type at the last name.
    pub(super) final_records: SmallVec<[Record; 4]>,
}

impl Chain {
    /// Follows the chain from `asked`. The records of the response may have any order.
    pub(super) fn follow(
        parsed: &ParsedResponse<'_>,
        asked: &Name,
        rtype: u16,
    ) -> Result<Self, AnswerError> {
        let aliases = parsed.of(0, rtype::CNAME).chain(parsed.of(0, rtype::DNAME));
        if aliases.count() > MAX_ALIASES {
            return Err(AnswerError::Chain);
        }
        let mut hops: Vec<Hop> = Vec::new();
        let mut renamed = None;
        loop {
            let at = hops.last().map_or(asked, |hop| &hop.target);
            // A CNAME is the answer to a query of type CNAME (RFC 1034, section 3.6.2).
            let hop = match step(parsed, at)? {
                Some(hop) if rtype == rtype::CNAME => {
                    renamed = Some(hop).filter(|hop| hop.dname.is_some()).map(Box::new);
                    break;
                }
                Some(hop) => hop,
                None => break,
            };
            if hops.len() == MAX_HOPS {
                return Err(AnswerError::Chain);
            }
            hops.push(hop);
        }
        let last = hops.last().map_or(asked, |hop| &hop.target);
        let mut final_records = SmallVec::new();
        // A malformed owner is an error, whatever the type of its record.
        for record in parsed.records.iter().filter(|record| record.section == 0) {
            let is_final = is_owned(parsed, record, last)? && record.fields.rtype == rtype;
            if is_final && renamed.is_none() {
                final_records.push(*record);
            }
        }
        Ok(Self {
            hops,
            renamed,
            final_records,
        })
    }

    /// The last name of the chain.
    pub(super) fn last<'n>(&'n self, asked: &'n Name) -> &'n Name {
        self.hops.last().map_or(asked, |hop| &hop.target)
    }

    /// Whether there are records of the queried type.
    pub(super) fn is_answered(&self) -> bool {
        !self.final_records.is_empty() || self.renamed.is_some()
    }
}

fn is_owned(
    parsed: &ParsedResponse<'_>,
    record: &Record,
    name: &Name,
) -> Result<bool, AnswerError> {
    let owned = record.is_owned_by(parsed.message, name);
    owned.ok_or(AnswerError::Malformed)
}

/// The hop from a name. `None` if no CNAME or DNAME applies to it.
fn step(parsed: &ParsedResponse<'_>, at: &Name) -> Result<Option<Hop>, AnswerError> {
    let malformed = AnswerError::Malformed;
    let mut cname: Option<(Record, Name)> = None;
    for record in parsed.of(0, rtype::CNAME) {
        if !is_owned(parsed, record, at)? {
            continue;
        }
        let target = target(parsed, record).ok_or(malformed)?;
        // A duplicate record counts once. Two targets are an error: the policy would be applied to only one of them.
        if cname.as_ref().is_some_and(|(_, other)| *other != target) {
            return Err(AnswerError::Chain);
        }
        cname.get_or_insert((*record, target));
    }
    let dname = dname_above(parsed, at)?;
    let hop = match (cname, dname) {
        (None, None) => None,
        (Some((cname, target)), dname) => Some(Hop {
            // A DNAME with another target than the CNAME is not part of the chain.
            dname: dname
                .filter(|(_, to)| *to == target)
                .map(|(dname, _)| dname),
            cname: Some(cname),
            owner: at.clone(),
            target,
        }),
        (None, Some((dname, target))) => Some(Hop {
            dname: Some(dname),
            cname: None,
            owner: at.clone(),
            target,
        }),
    };
    Ok(hop)
}

/// The DNAME above a name, and the name that results from it (RFC 6672, section 2.2).
fn dname_above(
    parsed: &ParsedResponse<'_>,
    at: &Name,
) -> Result<Option<(Record, Name)>, AnswerError> {
    for record in parsed.of(0, rtype::DNAME) {
        let owner = record.owner(parsed.message);
        let owner = owner.ok_or(AnswerError::Malformed)?;
        let labels = owner.label_count();
        if labels >= at.label_count() || at.ancestor(labels) != owner.wire() {
            continue;
        }
        let target = target(parsed, record).ok_or(AnswerError::Malformed)?;
        let kept = &at.wire()[..at.ancestor_start(labels)];
        let renamed = [kept, target.wire()].concat();
        // A name that gets too long is YXDOMAIN (RFC 6672, section 2.2); the chain ends there.
        let renamed = Name::parse(&renamed, 0).ok();
        return Ok(renamed.map(|(renamed, _)| (*record, renamed)));
    }
    Ok(None)
}

/// The target of a CNAME or DNAME. `None` if its data is not exactly a name.
fn target(parsed: &ParsedResponse<'_>, record: &Record) -> Option<Name> {
    let (target, end) = Name::parse_compressed(parsed.message, record.fields.data).ok()?;
    (end == record.fields.end).then_some(target)
}

/// The SOA record of a negative answer and the answer's TTL (RFC 2308, section 5). `None` without an SOA of a
/// zone that contains `name`.
pub(super) fn soa(parsed: &ParsedResponse<'_>, name: &Name) -> Option<(Record, u32)> {
    let is_above = |record: &&Record| {
        record.owner(parsed.message).is_some_and(|owner| {
            let labels = owner.label_count();
            labels <= name.label_count() && name.ancestor(labels) == owner.wire()
        })
    };
    let soa = parsed.of(1, rtype::SOA).find(is_above)?;
    // MINIMUM is the last of five numbers after two names (RFC 1035, section 3.3.13).
    if soa.fields.end - soa.fields.data < 22 {
        return None;
    }
    let minimum = read_u32(parsed.message, soa.fields.end - 4)?;
    Some((*soa, soa.fields.ttl.min(minimum)))
}
