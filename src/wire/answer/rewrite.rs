//! Writes the records of an answer: in the chain's order, with names in a neutral letter case.
//!
//! Our queries have random letter case (see `ask`), and upstreams copy it into owners and into targets
//! that are made of the asked name. It must not reach clients: labels that the asked name has are
//! written in lower case, and names that end in it point at the question, which a reply has as its
//! client spelled it.

use smallvec::SmallVec;

use super::chain::{Chain, Hop, soa};
use super::rdata::{RdataLayout, additional_names};
use super::records::{ParsedResponse, Record};
use super::spelling::{AskedLabels, CasedName};
use crate::wire::name::Name;
use crate::wire::{HEADER, MAX_MESSAGE, class, rtype};

/// Places of labels that later names may point at, and how many of them the asked name may take; further
/// names are written in full.
const MAX_POSITIONS: usize = 64;
const ASKED_POSITIONS: usize = 32;
/// Most steps that finding known endings of names may cost an answer, each a place or a label that is
/// compared; further names are written in full. 1024 records with usual names take less than 200,000, but 238
/// names of 127 labels took two million.
const MAX_STEPS: usize = 1 << 18;
/// Most services that a name has; more are a way to keep us busy, and fit no datagram.
const MAX_SERVICES: u16 = 64;
/// A compression pointer has fourteen bits (RFC 1035, section 4.1.4).
const LAST_TARGET: usize = 0x3FFF;
/// A pointer to the question's name.
const ASKED: [u8; 2] = [0xC0, HEADER as u8];

/// How an upstream's answer is prepared for the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intake {
    /// TTLs below this are raised to it, in seconds.
    pub min_ttl: u32,
    /// TTLs above this are lowered to it, in seconds; one with the top bit set is such a TTL
    /// (RFC 8767, section 4).
    pub max_ttl: u32,
    /// TTLs of negative answers above this are lowered to it, in seconds.
    pub max_negative_ttl: u32,
    /// Whether the additional section keeps addresses of names that the answer mentions.
    pub additional: bool,
}

impl Intake {
    pub(super) fn ttl(self, ttl: u32) -> u32 {
        ttl.clamp(self.min_ttl, self.max_ttl)
    }
}

/// An answer's bytes, as [`Answer`](super::Answer) keeps them.
pub(super) struct Written {
    pub(super) bytes: Box<[u8]>,
    pub(super) wire_len: u16,
    pub(super) ttl_count: u16,
    pub(super) services: u16,
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
    label_positions: SmallVec<[LabelPosition; MAX_POSITIONS]>,
    /// How many of [`MAX_STEPS`] are left.
    steps: usize,
    ttl_fields: SmallVec<[u16; 16]>,
    /// For each hop, where its target and its TTL are.
    hops: SmallVec<[[u16; 2]; 4]>,
    service_targets: SmallVec<[u16; 4]>,
    services: u16,
    additional_at: usize,
    counts: [u16; 3],
    /// A hash of the record that is being written, and the sum of those of the answer section.
    hash: u64,
    digest: u64,
}

/// Where a label starts that names may point at.
#[derive(Clone, Copy)]
struct LabelPosition {
    at: u16,
    /// Length of the name from there on, written in full: few others have the same.
    len: u16,
}

/// A record that was written.
#[derive(Clone, Copy)]
struct WrittenRecord {
    ttl: u32,
    ttl_at: usize,
    data_at: usize,
}

impl<'m> Writer<'m> {
    /// Starts with header and question.
    pub(super) fn new(message: &'m [u8], asked: &'m Name, rtype: u16, intake: Intake) -> Self {
        let mut out = Vec::with_capacity(message.len() + 64);
        out.extend_from_slice(&[0; HEADER]);
        out.extend_from_slice(asked.wire());
        out.extend_from_slice(&rtype.to_be_bytes());
        out.extend_from_slice(&class::IN.to_be_bytes());
        let labels = (1..=asked.label_count()).rev();
        let label_positions = labels.map(|labels| LabelPosition {
            at: (HEADER + asked.ancestor_start(labels)) as u16,
            len: asked.ancestor(labels).len() as u16,
        });
        Self {
            message,
            asked,
            asked_labels: AskedLabels::of(asked),
            intake,
            label_positions: label_positions.take(ASKED_POSITIONS).collect(),
            steps: MAX_STEPS,
            additional_at: out.len(),
            out,
            ttl_fields: SmallVec::new(),
            hops: SmallVec::new(),
            service_targets: SmallVec::new(),
            services: 0,
            counts: [0; 3],
            hash: 0,
            digest: 0,
        }
    }

    /// Writes all sections; returns for how many seconds the answer may be kept. `None` if the data of
    /// a record is malformed.
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
        // As the chain spells it, so that each owner is a pointer there, and none at another owner.
        let owner = match chain.hops.last() {
            Some(hop) => Some(self.target(hop)?),
            None => None,
        };
        for record in &chain.final_records {
            let placed = self.copy(record, None, owner.as_ref())?;
            least = least.min(placed.ttl);
            if matches!(record.fields.rtype, rtype::SVCB | rtype::HTTPS) {
                self.note_service(placed.data_at)?;
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
            // Without an SOA a negative answer is not kept (RFC 2308, section 5). A chain that leads to
            // no record of the asked type is one, whatever signatures accompany it.
            None => is_positive.then_some(least),
        })
    }

    /// Copies the addresses of names that the answer mentions.
    fn additional(&mut self, parsed: &ParsedResponse<'_>, chain: &Chain) -> Option<()> {
        let names = additional_names(parsed, chain, self.asked)?;
        for rtype in [rtype::A, rtype::AAAA] {
            for record in parsed.of(2, rtype) {
                if names.contains(&record.owner(self.message)?) {
                    // Each may be left out of a reply, so none may point at another.
                    self.label_positions.clear();
                    self.copy(record, None, None)?;
                }
            }
        }
        Some(())
    }

    /// Writes a step of the chain with its signatures; returns the least TTL, and where its CNAME is.
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

    /// The name that a step leads to, as it was written.
    fn target(&self, hop: &Hop) -> Option<CasedName> {
        let Some(cname) = &hop.cname else {
            return Some(CasedName::from_name(&hop.target));
        };
        let (target, _) = CasedName::read(self.message, cname.fields.data, &self.asked_labels)?;
        Some(target)
    }

    /// Writes the CNAME that follows from a DNAME, with its TTL (RFC 6672, section 3.1).
    fn synthesise(&mut self, hop: &Hop, ttl: u32) -> Option<WrittenRecord> {
        self.name(&CasedName::from_name(&hop.owner), true);
        let placed = self.head(rtype::CNAME, ttl);
        let target = CasedName::from_name(&hop.target);
        self.name(&target, true);
        self.hash = fnv_of_name(self.hash, target.from(0));
        self.close(0, placed)
    }

    /// Copies the signatures over an RRset; returns the least TTL.
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

    /// Copies denials of existence with their signatures: negative answers need them, and so do
    /// positive ones that a wildcard made (RFC 4035, section 3.1.3).
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

    /// Copies a record, with its own TTL and owner or others; the TTL is clamped.
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
                let (owner, _) = CasedName::read(self.message, record.owner, &self.asked_labels)?;
                self.name(&owner, true);
            }
        }
        let placed = self.head(fields.rtype, ttl.unwrap_or(fields.ttl));
        self.data(fields.rtype, fields.data, fields.end)?;
        self.close(record.section, placed)
    }

    /// Writes what is between a record's owner and its data; the length is for `close` to fill in.
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

    /// Completes a record. `None` if the message has grown too long.
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

    /// Copies a record's data. Names that may be compressed there must be read (RFC 3597, section 4):
    /// what they point at has moved. `None` if there are others than there must be.
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
            let (name, behind) = CasedName::read(message, at, &self.asked_labels)?;
            self.name(&name, shape.compressed);
            self.hash = fnv_of_name(self.hash, name.from(0));
            at = behind;
        }
        let rest = message.get(at..end)?;
        self.out.extend_from_slice(rest);
        self.hash = fnv(self.hash, rest);
        // Others would read other names, or none.
        shape
            .trailing
            .is_none_or(|expected| rest.len() == expected)
            .then_some(())
    }

    /// Writes a name; a pointer for what of it stands in the message already.
    fn name(&mut self, name: &CasedName, compressed: bool) {
        for start in name.labels() {
            let suffix = name.from(start);
            let len = suffix.len() as u16;
            if compressed && let Some(at) = self.find(suffix) {
                self.out.extend_from_slice(&(0xC000 | at).to_be_bytes());
                return;
            }
            if self.out.len() <= LAST_TARGET && self.label_positions.len() < MAX_POSITIONS {
                let at = self.out.len() as u16;
                self.label_positions.push(LabelPosition { at, len });
            }
            let label = usize::from(suffix[0]);
            self.out.extend_from_slice(&suffix[..=label]);
        }
        self.out.push(0);
    }

    /// Where the rest of a name stands already; `None` also when there are no steps left.
    fn find(&mut self, suffix: &[u8]) -> Option<u16> {
        for place in &self.label_positions {
            self.steps = self.steps.checked_sub(1)?;
            if usize::from(place.len) == suffix.len()
                && is_name_at(&self.out, usize::from(place.at), suffix, &mut self.steps)
            {
                return Some(place.at);
            }
        }
        None
    }

    /// Notes where a service's target is, unless that is the owner itself (RFC 9460, section 2.5).
    /// `None` if there is none, or there are too many.
    fn note_service(&mut self, data_at: usize) -> Option<()> {
        let (target, _) = Name::read(&self.out, data_at + 2).ok()?;
        self.services += 1;
        if self.services > MAX_SERVICES {
            return None;
        }
        if target.label_count() > 0 {
            self.service_targets.push((data_at + 2) as u16);
        }
        Some(())
    }

    /// Appends the index.
    pub(super) fn finish(self) -> Written {
        let mut bytes = self.out;
        let wire_len = bytes.len() as u16;
        let hops = self.hops.as_flattened();
        let offsets = self
            .ttl_fields
            .iter()
            .chain(hops)
            .chain(&self.service_targets);
        bytes.extend(offsets.flat_map(|at| at.to_ne_bytes()));
        Written {
            bytes: bytes.into(),
            wire_len,
            ttl_count: self.ttl_fields.len() as u16,
            services: self.services,
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

/// The same, letter case aside. Only of names: in addresses, texts and numbers every bit counts. Names of
/// types that are newer than RFC 3597 are compared as bytes (its section 6).
fn fnv_of_name(hash: u64, name: &[u8]) -> u64 {
    let folded = |hash, byte: &u8| fnv_of_byte(hash, &byte.to_ascii_lowercase());
    name.iter().fold(hash, folded)
}

fn fnv_of_byte(hash: u64, byte: &u8) -> u64 {
    (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
}

/// Whether a name, written out, is what stands at that place of a message that this writer wrote. False also
/// when there are no `steps` left.
fn is_name_at(out: &[u8], mut at: usize, name: &[u8], steps: &mut usize) -> bool {
    let mut rest = name;
    loop {
        let Some(left) = steps.checked_sub(1) else {
            return false;
        };
        *steps = left;
        let Some(&size) = out.get(at) else {
            return false;
        };
        if size >= 0xC0 {
            // Pointers lead backwards only, so this ends.
            at = usize::from(size & 0x3F) << 8 | usize::from(out[at + 1]);
            continue;
        }
        let label = usize::from(size) + 1;
        let Some((expected, behind)) = rest.split_at_checked(label) else {
            return false;
        };
        if out.get(at..at + label) != Some(expected) {
            return false;
        }
        if size == 0 {
            return behind.is_empty();
        }
        (at, rest) = (at + label, behind);
    }
}
