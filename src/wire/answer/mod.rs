//! An upstream answer in the form that the cache stores: the records that answer the question, in the order
//! of the CNAME chain, in a letter case that reveals nothing of the query sent upstream.
//!
//! All other records are dropped when the answer arrives. Records of other names (RFC 5452, section 6; RFC
//! 2181, section 5.4.1) would bypass the policy, which checks the queried name and its chain.

mod block;
mod chain;
mod compress;
mod destinations;
mod rdata;
mod records;
mod rewrite;
mod spelling;

use std::net::IpAddr;
use std::num::NonZeroU16;

pub use self::block::{BlockSign, UpstreamBlock};
use self::chain::Chain;
pub use self::chain::MAX_HOPS;
pub(super) use self::compress::{Compressor, LAST_TARGET, label_starts};
use self::destinations::{AddressRecords, DestinationCounts};
pub(super) use self::rdata::{RdataLayout, copy as copy_data};
pub use self::rdata::{is_same_data, is_well_formed};
use self::records::ParsedResponse;
pub use self::records::{AnswerError, UpstreamEde};
pub(super) use self::records::{Record, records};
pub use self::rewrite::Intake;
use self::rewrite::Writer;
use super::name::Name;
use super::{HEADER, edns, flag, read_u16, read_u32, rtype};

/// Whether a message has TC set. Does not look at its records.
pub fn is_cut(message: &[u8]) -> bool {
    read_u16(message, 2).is_some_and(|flags| flags & flag::TC != 0)
}

/// An upstream answer to one question.
#[derive(Debug)]
pub struct Answer {
    /// One block, because each further block would cost an access to memory: the message with clamped TTLs; the offsets
    /// of its TTL fields, two bytes each; the offsets of the target and the TTL of each hop; the offsets of the targets
    /// of SVCB and HTTPS records; and for each address hint, the offset of the data of its record and the offset of the
    /// hint.
    bytes: Box<[u8]>,
    wire_len: u16,
    /// See [`server`](Self::server).
    server: Option<NonZeroU16>,
    hop_count: u16,
    destinations: DestinationCounts,
    question_end: u16,
    additional_at: u16,
    flags: u16,
    rcode: u16,
    is_unfinished: bool,
    is_referral: bool,
    counts: [u16; 3],
    remarks: Remarks,
    ttl: Option<u32>,
    /// A digest of the answer section without signatures and TTLs, independent of its order.
    digest: u64,
}

/// What upstream says about its answer.
#[derive(Debug)]
struct Remarks {
    errors: Box<[UpstreamEde]>,
    block: Option<Box<UpstreamBlock>>,
}

impl Answer {
    /// Reads a response to the question with this name, type and class.
    ///
    /// # Errors
    /// [`AnswerError`] if the message is not a response, or does not answer that question.
    pub fn parse(
        message: &[u8],
        name: &Name,
        rtype: u16,
        class: u16,
        intake: Intake,
    ) -> Result<Self, AnswerError> {
        let malformed = AnswerError::Malformed;
        let word = |at| read_u16(message, at).ok_or(malformed);
        let flags = word(2)?;
        if message.len() > super::MAX_MESSAGE || flags & flag::QR == 0 {
            return Err(malformed);
        }
        let (asked, at) = Name::parse(message, HEADER).map_err(|_| malformed)?;
        if word(4)? != 1 || asked != *name || word(at)? != rtype || word(at + 2)? != class {
            return Err(AnswerError::OtherQuestion);
        }
        let parsed = ParsedResponse::parse(message, at + 4).ok_or(malformed)?;
        let rcode = edns::full_rcode(flags, parsed.edns);
        let chain = Chain::follow(&parsed, name, rtype)?;
        let is_referral = rcode == 0 && !chain.is_answered() && parsed.is_referral();
        if rcode == 0 && !chain.is_answered() && chain.hops.is_empty() {
            if is_referral {
                return Err(AnswerError::Referral);
            }
            if parsed.has_answers {
                return Err(AnswerError::Unrelated);
            }
        }
        let last = chain.last(name);
        let is_unfinished = rcode == 0
            && !chain.hops.is_empty()
            && !chain.is_answered()
            && chain::soa(&parsed, last).is_none();
        let mut writer = Writer::new(message, name, rtype, intake);
        let ttl = writer.sections(&parsed, &chain, rcode).ok_or(malformed)?;
        let question_end = HEADER + name.wire().len() + 4;
        let written = writer.finish();
        Ok(Self {
            bytes: written.bytes,
            wire_len: written.wire_len,
            server: None,
            hop_count: chain.hops.len() as u16,
            destinations: written.destinations,
            question_end: question_end as u16,
            additional_at: written.additional_at,
            flags,
            rcode,
            is_unfinished,
            is_referral,
            counts: written.counts,
            remarks: Remarks {
                errors: parsed.errors.into(),
                block: None,
            },
            ttl,
            digest: written.digest,
        })
    }

    /// The full response code, including the extended bits.
    pub fn rcode(&self) -> u16 {
        self.rcode
    }

    /// Whether upstream set TC, so that the query must be repeated over TCP.
    pub fn truncated(&self) -> bool {
        self.flags & flag::TC != 0
    }

    /// Whether it has a chain to a name and says nothing about that name.
    pub fn is_unfinished(&self) -> bool {
        self.is_unfinished
    }

    /// Whether it has a chain to a name for which it refers to other servers. It is only of use if those servers are known.
    pub fn is_referral(&self) -> bool {
        self.is_referral
    }

    /// Permits to cache an answer for as long as the CNAME records of its first `hops` hops are valid. To be called if
    /// only these are used, because other servers are asked for the name that they lead to.
    pub fn keep_chain(&mut self, hops: usize) {
        self.ttl = self.chain().take(hops).map(|(_, ttl)| ttl).min();
    }

    /// Whether upstream set AD: the data is authentic.
    pub fn authentic(&self) -> bool {
        self.flags & flag::AD != 0
    }

    /// How many seconds the answer may be cached: the lowest TTL of the answer section, or the TTL of the
    /// negative answer (RFC 2308, section 5). `None` if it must not be cached.
    pub fn ttl(&self) -> Option<u32> {
        self.ttl
    }

    /// Upstream's Extended DNS Errors.
    pub fn errors(&self) -> &[UpstreamEde] {
        &self.remarks.errors
    }

    /// Records the number of the server that sent it.
    pub fn set_server(&mut self, server: NonZeroU16) {
        self.server = Some(server);
    }

    /// The number of the server that sent it, if that was recorded.
    pub fn server(&self) -> Option<NonZeroU16> {
        self.server
    }

    /// The sign that upstream blocks the name, if there is one.
    pub fn block_sign(&self, is_landing: impl Fn(IpAddr) -> bool) -> Option<BlockSign> {
        let codes = self.errors().iter().map(|error| error.code);
        block::sign(self.rcode, codes, self.addresses(), is_landing)
    }

    /// Records that upstream blocks the name.
    pub fn mark_blocked(&mut self, block: UpstreamBlock) {
        self.remarks.block = Some(Box::new(block));
    }

    /// How upstream blocks the name, if it was found to do so.
    pub fn upstream_block(&self) -> Option<&UpstreamBlock> {
        self.remarks.block.as_deref()
    }

    /// Whether it answers a question with this name and type.
    pub fn is_about(&self, name: &Name, rtype: u16) -> bool {
        self.is_about_wire(name.wire(), rtype)
    }

    /// Like [`is_about`](Self::is_about), for a name in lower case and wire form.
    #[inline]
    pub fn is_about_wire(&self, name: &[u8], rtype: u16) -> bool {
        let question = &self.bytes[HEADER..self.question_end()];
        question
            .split_at_checked(name.len())
            .is_some_and(|(asked, rest)| asked == name && rest.starts_with(&rtype.to_be_bytes()))
    }

    /// The queried name in lower case and wire form, and the queried type.
    pub fn question(&self) -> (&[u8], u16) {
        let end = self.question_end() - 4;
        let rtype = read_u16(&self.bytes, end).unwrap_or_default();
        (&self.bytes[HEADER..end], rtype)
    }

    /// The message, and the offsets that follow it in memory.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The approximate size in memory.
    pub fn footprint(&self) -> usize {
        let errors = self.errors().iter().map(|e| e.text.len() + 24);
        let block = self.upstream_block();
        let block = block.map_or(0, |block| size_of_val(block) + block.server.len());
        size_of::<Self>() + self.bytes.len() + errors.sum::<usize>() + block
    }

    /// The targets of the CNAME chain in order, each with the TTL of its record.
    pub fn chain(&self) -> impl Iterator<Item = (Name, u32)> {
        let hops = &self.behind_ttls()[..4 * usize::from(self.hop_count)];
        hops.chunks_exact(4).filter_map(move |hop| {
            let (target, ttl_at) = hop.split_at(2);
            let (name, _) = Name::parse_compressed(self.wire(), offset(target)).ok()?;
            Some((name, read_u32(self.wire(), offset(ttl_at))?))
        })
    }

    /// The targets of SVCB and HTTPS records in the answer section (RFC 9460, section 2.5), each with the
    /// offset of the record's data. Records with the target `.`, which stands for their owner, are left out.
    pub fn service_targets(&self) -> impl Iterator<Item = (Name, usize)> {
        let targets = &self.behind_ttls()[4 * usize::from(self.hop_count)..];
        let targets = &targets[..2 * usize::from(self.destinations.targets)];
        targets.chunks_exact(2).filter_map(move |target| {
            let at = offset(target);
            let (name, _) = Name::parse(self.wire(), at).ok()?;
            Some((name, at - 2))
        })
    }

    /// The addresses of the A or AAAA records that answer the question.
    #[inline]
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + Clone {
        let AddressRecords { first, count } = self.destinations.addresses;
        let fields = self.ttl_fields().skip(first.into()).take(count.into());
        // The length of the data follows the TTL.
        fields.filter_map(|ttl_at| self.address_at(ttl_at + 6))
    }

    /// The address hints of SVCB and HTTPS records in the answer section (RFC 9460, section 7.3), each with the offset of the
    /// record's data.
    pub fn hints(&self) -> impl Iterator<Item = (IpAddr, usize)> {
        let start = 4 * usize::from(self.hop_count) + 2 * usize::from(self.destinations.targets);
        let hints = self.behind_ttls()[start..].chunks_exact(4);
        hints.enumerate().filter_map(|(place, hint)| {
            let (record, at) = (offset(&hint[..2]), offset(&hint[2..]));
            let len = if place < usize::from(self.destinations.hints_v4) {
                4
            } else {
                16
            };
            Some((address(self.wire().get(at..at + len)?)?, record))
        })
    }

    /// The address in the data of an A or AAAA record, which starts at this offset. `None` if the data has another length than
    /// an address.
    #[inline]
    pub fn address_at(&self, data: usize) -> Option<IpAddr> {
        let len = usize::from(read_u16(self.wire(), data.checked_sub(2)?)?);
        address(self.wire().get(data..data + len)?)
    }

    /// The number of SVCB and HTTPS records in the answer section.
    pub fn services(&self) -> usize {
        usize::from(self.destinations.services)
    }

    /// Whether both answer sections have the same content, apart from signatures, TTLs and order. Compares
    /// digests that are not cryptographic: the owner of a zone can construct two answers of the zone that
    /// agree, and so keep a stale one in the cache.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.rcode == other.rcode && self.digest == other.digest
    }

    /// Whether it has records that are sent only if the query has DO: signatures, or denials of existence.
    pub fn has_dnssec(&self) -> bool {
        self.records().any(|record| record.is_dnssec())
    }

    /// Whether the records of an owner are signed, or else the proof that it has none. A CNAME record is signed if the DNAME
    /// record is that it follows from (RFC 6672, section 5.3.1).
    pub fn is_signed(&self, owner: &Name) -> bool {
        let is_owned = |record: &Record| record.is_owned_by(self.wire(), owner) == Some(true);
        let own = |record: &Record| record.section != 1 && is_owned(record);
        let signs_above = |record: &Record| {
            let is_above = |above: Name| {
                let labels = above.label_count();
                labels < owner.label_count() && owner.ancestor(labels) == above.wire()
            };
            record.signs(self.wire(), rtype::DNAME)
                && record.owner(self.wire()).is_some_and(is_above)
        };
        let has_records = self.records().any(|record| own(&record));
        self.records().any(|record| match has_records {
            true => record.is_dnssec() && own(&record) || signs_above(&record),
            false => record.is_dnssec() && record.section == 1,
        })
    }

    /// The records of the first `hops` hops of the chain: the CNAMEs, the DNAMEs that they follow from, and the signatures of
    /// both.
    pub(super) fn hop_records(&self, hops: usize) -> impl Iterator<Item = Record> {
        let (mut last, mut count) = (None, 0);
        self.records().map_while(move |record| {
            let is_signature = record.signs(self.wire(), rtype::CNAME);
            let is_of_last =
                || last.is_some_and(|at| self.name_at(record.owner) == self.name_at(at));
            let is_of_hop = match is_signature {
                true => is_of_last(),
                false => count < hops && record.section == 0,
            };
            if record.fields.rtype == rtype::CNAME {
                (last, count) = (Some(record.owner), count + 1);
            }
            is_of_hop.then_some(record)
        })
    }

    /// The proofs that a wildcard stands for the owners of the first `hops` hops, if one does (RFC 4035, section 3.1.3.3).
    pub(super) fn hop_proofs(&self, hops: usize) -> impl Iterator<Item = Record> {
        let is_expanded = |record: Record| record.signs_wildcard(self.wire());
        let is_needed = self.hop_records(hops).any(is_expanded);
        let records = self
            .records()
            .filter(|record| record.section == 1 && record.is_dnssec());
        records.filter(move |record| is_needed && !record.signs(self.wire(), rtype::SOA))
    }

    /// The size of the message.
    pub fn message_len(&self) -> usize {
        usize::from(self.wire_len)
    }

    /// The offset of the additional section in the message.
    pub fn additional_at(&self) -> usize {
        usize::from(self.additional_at)
    }

    /// The name at this offset of the message.
    pub fn name_at(&self, at: usize) -> Option<Name> {
        let (name, _) = Name::parse_compressed(self.wire(), at).ok()?;
        Some(name)
    }

    /// Whether it has an additional section.
    pub fn has_additional(&self) -> bool {
        self.counts[2] > 0
    }

    pub(super) fn question_end(&self) -> usize {
        usize::from(self.question_end)
    }

    pub(super) fn wire(&self) -> &[u8] {
        &self.bytes[..usize::from(self.wire_len)]
    }

    /// The number of TTL fields: each record has one.
    #[inline]
    fn ttl_count(&self) -> usize {
        self.counts.into_iter().map(usize::from).sum()
    }

    fn behind_ttls(&self) -> &[u8] {
        &self.bytes[usize::from(self.wire_len) + 2 * self.ttl_count()..]
    }

    /// All records, without header and question.
    pub(super) fn body(&self) -> &[u8] {
        &self.wire()[self.question_end()..]
    }

    /// The records of the message.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        records(self.wire(), self.question_end(), self.counts)
    }

    /// The offsets of the TTL fields, which hold the clamped TTLs from upstream.
    pub(super) fn ttl_fields(&self) -> impl Iterator<Item = usize> + Clone {
        let offsets = &self.bytes[usize::from(self.wire_len)..][..2 * self.ttl_count()];
        offsets.chunks_exact(2).map(offset)
    }

    pub(super) fn counts(&self) -> [u16; 3] {
        self.counts
    }
}

/// The address in four or sixteen bytes.
#[inline]
fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn offset(pair: &[u8]) -> usize {
    usize::from(u16::from_ne_bytes([pair[0], pair[1]]))
}

#[cfg(test)]
mod tests;
