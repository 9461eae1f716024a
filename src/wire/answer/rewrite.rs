//! Writes the records of an answer in the order of the chain, with a neutral letter case.
//!
//! Queries to upstreams have a random letter case (see `ask`), which upstreams copy into owners, and into
//! targets that contain the queried name. It must not reach clients. Therefore labels of the queried name are
//! written in lower case, and names that end with the queried name point to the question, in which a reply
//! repeats the client's spelling.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::chain::{Chain, Hop, soa};
use super::compress::Compressor;
use super::destinations::{AddressRecords, DestinationCounts, Destinations};
use super::rdata::{RdataLayout, additional_names};
use super::records::{ParsedResponse, Record};
use super::spelling::{AskedLabels, CasedName};
use crate::wire::name::Name;
use crate::wire::{HEADER, MAX_MESSAGE, class, rtype};

/// A pointer to the question's name.
const ASKED: [u8; 2] = [0xC0, HEADER as u8];

/// How an upstream answer is prepared for the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intake {
    /// Lower TTLs are raised to this number of seconds.
    pub min_ttl: u32,
    /// Higher TTLs are lowered to this number of seconds, including those with the top bit set (RFC 8767,
    /// section 4).
    pub max_ttl: u32,
    /// Higher TTLs of negative answers are lowered to this number of seconds.
    pub max_negative_ttl: u32,
    /// Whether addresses of names in the answer are kept in the additional section.
    pub additional: bool,
}

impl Intake {
    pub(super) fn ttl(self, ttl: u32) -> u32 {
        ttl.clamp(self.min_ttl, self.max_ttl)
    }
}

/// The parts of an [`Answer`](super::Answer) that the writer produces.
pub(super) struct Written {
    pub(super) bytes: Box<[u8]>,
    pub(super) wire_len: u16,
    pub(super) destinations: DestinationCounts,
    pub(super) additional_at: u16,
    pub(super) counts: [u16; 3],
    pub(super) digest: u64,
}

/// Writes an answer.
pub(super) struct Writer<'m> {
    message: &'m [u8],
    asked: &'m Name,
    asked_labels: AskedLabels,
    intake: Intake,
    out: Vec<u8>,
    compressor: Compressor,
    ttl_fields: SmallVec<[u16; 16]>,
    /// The offsets of target and TTL of each hop.
    hops: SmallVec<[[u16; 2]; 4]>,
    destinations: Destinations,
    additional_at: usize,
    counts: [u16; 3],
    /// The hash of the current record, and the sum of the hashes of the answer section.
    hash: u64,
    digest: u64,
}

/// The positions of a record that was written.
#[derive(Clone, Copy)]
struct WrittenRecord {
    ttl: u32,
    ttl_at: usize,
    data_at: usize,
}

impl<'m> Writer<'m> {
    /// Starts an answer with header and question.
    pub(super) fn new(message: &'m [u8], asked: &'m Name, rtype: u16, intake: Intake) -> Self {
        let mut out = Vec::with_capacity(message.len() + 64);
        out.extend_from_slice(&[0; HEADER]);
        out.extend_from_slice(asked.wire());
        out.extend_from_slice(&rtype.to_be_bytes());
        out.extend_from_slice(&class::IN.to_be_bytes());
        Self {
            message,
            asked,
            asked_labels: AskedLabels::of(asked),
            intake,
            compressor: Compressor::of_name(asked.wire(), HEADER),
            additional_at: out.len(),
            out,
            ttl_fields: SmallVec::new(),
            hops: SmallVec::new(),
            destinations: Destinations::default(),
            counts: [0; 3],
            hash: 0,
            digest: 0,
        }
    }

    /// Writes all sections. Returns how many seconds the answer may be cached; the outer `None` means that
    /// the data of a record is malformed.
    pub(super) fn sections(
        &mut self,
        parsed: &ParsedResponse<'_>,
        chain: &Chain,
        rcode: u16,
    ) -> Option<Option<u32>> {
        let mut least = u32::MAX;
        for hop in &chain.hops {
            let (ttl, cname) = self.hop(parsed, hop)?;
            least = least.min(ttl);
            self.hops
                .push([cname.data_at, cname.ttl_at].map(|at| at as u16));
        }
        if let Some(hop) = &chain.renamed {
            least = least.min(self.hop(parsed, hop)?.0);
        }
        let last = chain.last(self.asked);
        // The owner of the final records, in the spelling of the chain. So each of these records has a pointer into the
        // chain as its owner, and none points to the owner of another one.
        let owner = match chain.hops.last() {
            Some(hop) => Some(self.target(hop)?),
            None => None,
        };
        if let Some(rtype::A | rtype::AAAA) = chain.final_records.first().map(|r| r.fields.rtype) {
            self.destinations.addresses = AddressRecords {
                first: self.ttl_fields.len() as u16,
                count: chain.final_records.len() as u16,
            };
        }
        for record in &chain.final_records {
            let placed = self.copy(record, None, owner.as_ref())?;
            least = least.min(placed.ttl);
            if matches!(record.fields.rtype, rtype::SVCB | rtype::HTTPS) {
                let data_at = placed.data_at;
                self.destinations.note_service(&self.out, data_at)?;
            }
        }
        if let Some(record) = chain.final_records.first() {
            let covered = record.fields.rtype;
            least = least.min(self.signatures(parsed, 0, last, covered, owner.as_ref())?);
        }
        let is_positive = rcode == 0 && chain.is_answered();
        let negative = soa(parsed, last)
            .filter(|_| !is_positive)
            .map(|(record, ttl)| (record, ttl.min(self.intake.max_negative_ttl)));
        if let Some((record, ttl)) = &negative {
            let owner = record.owner(self.message)?;
            self.copy(record, Some(*ttl), None)?;
            self.signatures(parsed, 1, &owner, rtype::SOA, None)?;
        }
        self.proofs(parsed)?;
        self.additional_at = self.out.len();
        if self.intake.additional {
            self.additional(parsed, chain)?;
        }
        Some(match negative {
            Some((_, ttl)) => Some(self.intake.ttl(ttl).min(least)),
            // A negative answer without an SOA is not cached (RFC 2308, section 5). A chain without a record
            // of the queried type is negative, whatever signatures accompany it.
            None => is_positive.then_some(least),
        })
    }

    /// Copies the addresses of names that the answer mentions.
    fn additional(&mut self, parsed: &ParsedResponse<'_>, chain: &Chain) -> Option<()> {
        let names = additional_names(parsed, chain, self.asked)?;
        let (mut places, mut records) = (HashMap::new(), Vec::new());
        for rtype in [rtype::A, rtype::AAAA] {
            for record in parsed.of(2, rtype) {
                let owner = record.owner(self.message)?;
                if names.contains(&owner) {
                    let next = places.len();
                    records.push((*places.entry(owner).or_insert(next), record));
                }
            }
        }
        // A reply is checked owner by owner, so the records of one owner must be adjacent. The sort is stable: A
        // records of an owner stay before AAAA records.
        records.sort_by_key(|(place, _)| *place);
        for (_, record) in records {
            // A reply may leave out any of these records, so none may point to another.
            self.compressor.clear();
            self.copy(record, None, None)?;
        }
        Some(())
    }

    /// Writes a hop with its signatures. Returns the lowest TTL, and the position of its CNAME.
    fn hop(&mut self, parsed: &ParsedResponse<'_>, hop: &Hop) -> Option<(u32, WrittenRecord)> {
        let mut least = u32::MAX;
        if let Some(dname) = &hop.dname {
            least = self.copy(dname, None, None)?.ttl;
            let owner = dname.owner(self.message)?;
            least = least.min(self.signatures(parsed, 0, &owner, rtype::DNAME, None)?);
        }
        let placed = match (&hop.cname, &hop.dname) {
            (Some(cname), _) => {
                let placed = self.copy(cname, None, None)?;
                least = least.min(self.signatures(parsed, 0, &hop.owner, rtype::CNAME, None)?);
                placed
            }
            (None, dname) => self.synthesise(hop, dname.as_ref()?.fields.ttl)?,
        };
        Some((least.min(placed.ttl), placed))
    }

    /// The target of a hop, as it was written.
    fn target(&self, hop: &Hop) -> Option<CasedName> {
        let Some(cname) = &hop.cname else {
            return Some(CasedName::from_name(&hop.target));
        };
        let (target, _) = CasedName::parse(self.message, cname.fields.data, &self.asked_labels)?;
        Some(target)
    }

    /// Writes the CNAME that a DNAME implies, with the DNAME's TTL (RFC 6672, section 3.1).
    fn synthesise(&mut self, hop: &Hop, ttl: u32) -> Option<WrittenRecord> {
        self.name(&CasedName::from_name(&hop.owner), true);
        let placed = self.head(rtype::CNAME, ttl);
        let target = CasedName::from_name(&hop.target);
        self.name(&target, true);
        self.hash = fnv_of_name(self.hash, target.from(0));
        self.close(0, placed)
    }

    /// Copies the signatures of an RRset. Returns their lowest TTL.
    fn signatures(
        &mut self,
        parsed: &ParsedResponse<'_>,
        section: usize,
        owner: &Name,
        covered: u16,
        spelling: Option<&CasedName>,
    ) -> Option<u32> {
        let mut least = u32::MAX;
        for record in parsed.of(section, rtype::RRSIG) {
            if record.signs(self.message, covered) && record.is_owned_by(self.message, owner)? {
                least = least.min(self.copy(record, None, spelling)?.ttl);
            }
        }
        Some(least)
    }

    /// Copies denials of existence with their signatures. Negative answers need them, and so do positive
    /// answers from a wildcard (RFC 4035, section 3.1.3).
    fn proofs(&mut self, parsed: &ParsedResponse<'_>) -> Option<()> {
        const PROOFS: [u16; 2] = [rtype::NSEC, rtype::NSEC3];
        for record in parsed.records.iter().filter(|record| record.section == 1) {
            let signs = |covered: &u16| record.signs(self.message, *covered);
            if PROOFS.contains(&record.fields.rtype) || PROOFS.iter().any(signs) {
                self.copy(record, None, None)?;
            }
        }
        Some(())
    }

    /// Copies a record with a clamped TTL. `ttl` and `owner` replace its own.
    fn copy(
        &mut self,
        record: &Record,
        ttl: Option<u32>,
        owner: Option<&CasedName>,
    ) -> Option<WrittenRecord> {
        let fields = &record.fields;
        match (owner, self.message.get(record.owner..record.owner + 2)) {
            (Some(owner), _) => self.name(owner, true),
            (None, Some(owner)) if owner == ASKED => self.out.extend_from_slice(&ASKED),
            _ => {
                let (owner, _) = CasedName::parse(self.message, record.owner, &self.asked_labels)?;
                self.name(&owner, true);
            }
        }
        let placed = self.head(fields.rtype, ttl.unwrap_or(fields.ttl));
        self.data(fields.rtype, fields.data, fields.end)?;
        self.close(record.section, placed)
    }

    /// Writes type, class and TTL of a record, and leaves room for the length, which `close` fills in.
    fn head(&mut self, rtype: u16, ttl: u32) -> WrittenRecord {
        let ttl = self.intake.ttl(ttl);
        self.hash = fnv(FNV_START, &rtype.to_be_bytes());
        self.out.extend_from_slice(&rtype.to_be_bytes());
        self.out.extend_from_slice(&class::IN.to_be_bytes());
        let ttl_at = self.out.len();
        self.out.extend_from_slice(&ttl.to_be_bytes());
        self.out.extend_from_slice(&[0, 0]);
        WrittenRecord {
            ttl,
            ttl_at,
            data_at: self.out.len(),
        }
    }

    /// Completes a record. `None` if the message is too long.
    fn close(&mut self, section: usize, placed: WrittenRecord) -> Option<WrittenRecord> {
        if self.out.len() > MAX_MESSAGE {
            return None;
        }
        let len = (self.out.len() - placed.data_at) as u16;
        self.out[placed.data_at - 2..placed.data_at].copy_from_slice(&len.to_be_bytes());
        self.ttl_fields.push(placed.ttl_at as u16);
        self.counts[section] += 1;
        let rtype = &self.out[placed.ttl_at - 4..placed.ttl_at - 2];
        if section == 0 && *rtype != rtype::RRSIG.to_be_bytes() {
            self.digest = self.digest.wrapping_add(self.hash);
        }
        Some(placed)
    }

    /// Copies the data of a record. Names that may be compressed must be rewritten (RFC 3597, section 4),
    /// because the bytes that they point to have moved. `None` if the data does not have the layout of its
    /// type.
    fn data(&mut self, rtype: u16, start: usize, end: usize) -> Option<()> {
        let message = self.message;
        let Some(shape) = RdataLayout::of(rtype) else {
            self.out.extend_from_slice(&message[start..end]);
            self.hash = fnv(self.hash, &message[start..end]);
            return Some(());
        };
        let mut at = shape.names_at(message, start)?;
        let before = message.get(start..at.min(end))?;
        self.out.extend_from_slice(before);
        self.hash = fnv(self.hash, before);
        for _ in 0..shape.names {
            let (name, after) = CasedName::parse(message, at, &self.asked_labels)?;
            self.name(&name, shape.compressed);
            self.hash = fnv_of_name(self.hash, name.from(0));
            at = after;
        }
        let rest = message.get(at..end)?;
        self.out.extend_from_slice(rest);
        self.hash = fnv(self.hash, rest);
        // If the length is wrong, other software might read other names from the data.
        shape
            .trailing
            .is_none_or(|expected| rest.len() == expected)
            .then_some(())
    }

    /// Writes a name; compresses it if allowed.
    fn name(&mut self, name: &CasedName, compressed: bool) {
        self.compressor.write(&mut self.out, name, compressed);
    }

    /// Appends the offsets of TTLs, hops and destinations to the message.
    pub(super) fn finish(self) -> Written {
        let mut bytes = self.out;
        let wire_len = bytes.len() as u16;
        let hops = self.hops.as_flattened();
        let offsets = self
            .ttl_fields
            .iter()
            .chain(hops)
            .chain(self.destinations.offsets());
        bytes.extend(offsets.flat_map(|at| at.to_ne_bytes()));
        Written {
            bytes: bytes.into(),
            wire_len,
            destinations: self.destinations.counts(),
            additional_at: self.additional_at as u16,
            counts: self.counts,
            digest: self.digest,
        }
    }
}

const FNV_START: u64 = 0xCBF2_9CE4_8422_2325;

/// FNV-1a.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, fnv_of_byte)
}

/// FNV-1a of a name, ignoring letter case. Only for names: in other data each bit counts. Names in types
/// newer than RFC 3597 are compared as bytes (RFC 3597, section 6).
fn fnv_of_name(hash: u64, name: &[u8]) -> u64 {
    let folded = |hash, byte: &u8| fnv_of_byte(hash, &byte.to_ascii_lowercase());
    name.iter().fold(hash, folded)
}

fn fnv_of_byte(hash: u64, byte: &u8) -> u64 {
    (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
}
