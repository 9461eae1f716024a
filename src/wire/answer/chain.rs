//! Which records of a response answer its question: the chain of CNAMEs and DNAMEs from the asked
//! name, and the records that it ends at.

use smallvec::SmallVec;

use super::records::{AnswerError, ParsedResponse, Record};
use crate::wire::name::Name;
use crate::wire::{read_u32, rtype};

/// Most hops of a chain that are followed; a longer one is no answer.
const MAX_HOPS: usize = 16;

/// Most CNAMEs and DNAMEs of an answer section: each is compared at each hop.
const MAX_ALIASES: usize = 2 * MAX_HOPS;

/// One step from a name to another.
pub(super) struct Hop {
    /// The record that renames a whole subtree, if one does (RFC 6672).
    pub(super) dname: Option<Record>,
    /// Without one, the CNAME follows from the DNAME.
    pub(super) cname: Option<Record>,
    pub(super) owner: Name,
    pub(super) target: Name,
}

/// The way from the asked name to its records.
pub(super) struct Chain {
    /// Those that lead to another name, in order.
    pub(super) hops: Vec<Hop>,
    /// A DNAME above the asked name in an answer to a query for its CNAME: that CNAME is the answer,
    /// and leads nowhere.
    pub(super) renamed: Option<Box<Hop>>,
    /// The records of the asked type that the last name owns.
    pub(super) final_records: SmallVec<[Record; 4]>,
}

impl Chain {
    /// Follows the chain from `asked`, whatever order upstream wrote it in.
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
            // A query for the CNAME itself is answered by it (RFC 1034, section 3.6.2).
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
        // A malformed owner is found whatever its record's type.
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

    /// Whether the asked records are there.
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

/// The step from a name, if a CNAME or DNAME of the answer section makes one.
fn step(parsed: &ParsedResponse<'_>, at: &Name) -> Result<Option<Hop>, AnswerError> {
    let malformed = AnswerError::Malformed;
    let mut cname: Option<(Record, Name)> = None;
    for record in parsed.of(0, rtype::CNAME) {
        if !is_owned(parsed, record, at)? {
            continue;
        }
        let target = target(parsed, record).ok_or(malformed)?;
        // A record that came twice is one record; of two targets, only one would be judged.
        if cname.as_ref().is_some_and(|(_, other)| *other != target) {
            return Err(AnswerError::Chain);
        }
        cname.get_or_insert((*record, target));
    }
    let dname = dname_above(parsed, at)?;
    let hop = match (cname, dname) {
        (None, None) => None,
        (Some((cname, target)), dname) => Some(Hop {
            // One that does not lead where the CNAME leads has no part in the chain.
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

/// The DNAME of a name above, and where that leads (RFC 6672, section 2.2).
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
        // Too long a name is YXDOMAIN (RFC 6672, section 2.2): it leads nowhere.
        let renamed = Name::read(&renamed, 0).ok();
        return Ok(renamed.map(|(renamed, _)| (*record, renamed)));
    }
    Ok(None)
}

/// The name that a CNAME's or DNAME's data is. `None` if it is anything else.
fn target(parsed: &ParsedResponse<'_>, record: &Record) -> Option<Name> {
    let (target, end) = Name::read_compressed(parsed.message, record.fields.data).ok()?;
    (end == record.fields.end).then_some(target)
}

/// The SOA of a negative answer, and the TTL of that answer (RFC 2308, section 5). `None` if there is
/// none of a zone that has `name`.
pub(super) fn soa(parsed: &ParsedResponse<'_>, name: &Name) -> Option<(Record, u32)> {
    let is_above = |record: &&Record| {
        record.owner(parsed.message).is_some_and(|owner| {
            let labels = owner.label_count();
            labels <= name.label_count() && name.ancestor(labels) == owner.wire()
        })
    };
    let soa = parsed.of(1, rtype::SOA).find(is_above)?;
    // MINIMUM is the last of five numbers behind two names (RFC 1035, section 3.3.13).
    if soa.fields.end - soa.fields.data < 22 {
        return None;
    }
    let minimum = read_u32(parsed.message, soa.fields.end - 4)?;
    Some((*soa, soa.fields.ttl.min(minimum)))
}
