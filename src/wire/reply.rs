//! Writes answers: header, question, records, OPT, and truncation. Does not allocate if `out` has room for a
//! message, except for more than sixteen records in [`Reply::copy_some`].

use std::net::IpAddr;
use std::ops::Range;

use smallvec::SmallVec;

use super::answer::{self, Answer, Compressor, LAST_TARGET, Record, label_starts};
use super::edns::{self, Ede};
use super::name::Name;
use super::query::Query;
use super::{HEADER, Rcode, UDP_PAYLOAD, flag, rtype};

/// The owner of a record. The question has the queried name, so a pointer of two bytes refers to it or an ancestor.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'n> {
    /// The queried name.
    Question,
    /// The ancestor of the queried name with this number of labels.
    Ancestor(usize),
    /// Any other name. A pointer if it is the target of one of the last two CNAME records or above it, else written in full.
    Name(&'n Name),
}

/// Writes an answer that is only a header, for a packet that is rejected. `packet` must have a header, so the answer
/// is never longer than the packet.
pub fn header_only(packet: &[u8], rcode: Rcode, out: &mut Vec<u8>) {
    out.clear();
    let Some(header) = packet.first_chunk::<HEADER>() else {
        return;
    };
    let sent = u16::from_be_bytes([header[2], header[3]]);
    // The opcode is copied: RFC 1035, section 4.1.1.
    let flags = edns::answer_flags(sent) | (sent & 0x7800) | (rcode as u16 & 0xF);
    out.extend_from_slice(&header[..2]);
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
}

/// An answer being written; [`finish`](Self::finish) completes it.
#[derive(Debug)]
pub struct Reply<'q, 'p, 'o> {
    query: &'q Query<'p>,
    out: &'o mut Vec<u8>,
    limit: usize,
    flags: u16,
    rcode: u16,
    /// The number of records in the answer, authority and additional sections.
    counts: [u16; 3],
    /// Where the target of the last CNAME record is; empty if there is none. The target is written in full, so that
    /// pointers can refer to it.
    target: Range<usize>,
    /// Where the target of the CNAME record before that is. It owns the last one, and that one's signatures.
    target_before: Range<usize>,
}

impl<'q, 'p, 'o> Reply<'q, 'p, 'o> {
    /// Starts an answer to `query` of at most `limit` bytes, overwriting `out`.
    pub fn new(query: &'q Query<'p>, rcode: Rcode, limit: usize, out: &'o mut Vec<u8>) -> Self {
        out.clear();
        out.extend_from_slice(&[0; HEADER]);
        out.extend_from_slice(query.question());
        Self {
            query,
            out,
            limit,
            flags: edns::answer_flags(query.flags()),
            rcode: rcode as u16,
            counts: [0; 3],
            target: 0..0,
            target_before: 0..0,
        }
    }

    /// Appends an A or AAAA record to the answer section.
    pub fn address(&mut self, owner: Owner<'_>, ttl: u32, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.record(owner, rtype::A, ttl, &[&v4.octets()]),
            IpAddr::V6(v6) => self.record(owner, rtype::AAAA, ttl, &[&v6.octets()]),
        }
        self.counts[0] += 1;
    }

    /// Appends a CNAME record to the answer section.
    pub fn cname(&mut self, owner: Owner<'_>, ttl: u32, target: &Name) {
        self.record(owner, rtype::CNAME, ttl, &[target.wire()]);
        let written = self.out.len() - target.wire().len()..self.out.len();
        self.target_before = std::mem::replace(&mut self.target, written);
        self.counts[0] += 1;
    }

    /// Appends a record with this data to the answer section.
    pub fn data(&mut self, owner: Owner<'_>, rtype: u16, ttl: u32, data: &[u8]) {
        self.record(owner, rtype, ttl, &[data]);
        self.counts[0] += 1;
    }

    /// Sets the response code NXDOMAIN.
    pub fn deny(&mut self) {
        self.rcode = Rcode::NxDomain as u16;
    }

    /// Sets TC: the client is to repeat the query over a stream.
    pub fn truncate(&mut self) {
        self.flags |= flag::TC;
    }

    /// Appends an NS record to the answer section.
    pub fn ns(&mut self, owner: Owner<'_>, ttl: u32, target: &Name) {
        self.record(owner, rtype::NS, ttl, &[target.wire()]);
        self.counts[0] += 1;
    }

    /// Appends a TXT record with one string, truncated to 255 bytes.
    pub fn txt(&mut self, owner: Owner<'_>, ttl: u32, text: &str) {
        let text = &text.as_bytes()[..text.len().min(255)];
        self.record(owner, rtype::TXT, ttl, &[&[text.len() as u8], text]);
        self.counts[0] += 1;
    }

    /// Appends the HINFO record that answers ANY (RFC 8482, section 4.2).
    pub fn hinfo(&mut self, ttl: u32) {
        self.record(Owner::Question, rtype::HINFO, ttl, &[b"\x07RFC8482\x00"]);
        self.counts[0] += 1;
    }

    /// Appends an SOA record with its TTL as MINIMUM (RFC 2308, section 5): to the answer section if the SOA
    /// was `asked` for, else to the authority section.
    pub fn soa(&mut self, owner: Owner<'_>, ttl: u32, serial: u32, asked: bool) {
        const RNAME: &[u8] = b"\x06nobody\x07invalid\x00";
        const MNAME: &[u8] = b"\x05tapis\x07invalid\x00";
        let numbers = [serial, 3600, 600, 604_800, ttl].map(u32::to_be_bytes);
        let data = [MNAME, RNAME, numbers.as_flattened()];
        self.record(owner, rtype::SOA, ttl, &data);
        self.counts[usize::from(!asked)] += 1;
    }

    /// Appends an SOA record with this data to the authority section.
    pub fn zone_soa(&mut self, owner: Owner<'_>, ttl: u32, data: &[u8]) {
        self.record(owner, rtype::SOA, ttl, &[data]);
        self.counts[1] += 1;
    }

    /// Appends an SOA record with this data to the additional section. Returns the offset of that section.
    pub fn additional_soa(&mut self, owner: &Name, ttl: u32, data: &[u8]) -> usize {
        let at = self.out.len();
        self.record(Owner::Name(owner), rtype::SOA, ttl, &[data]);
        self.counts[2] += 1;
        at
    }

    fn record(&mut self, owner: Owner<'_>, rtype: u16, ttl: u32, data: &[&[u8]]) {
        let asked = self.query.name;
        match owner {
            Owner::Question => self.pointer(HEADER),
            Owner::Ancestor(labels) => self.pointer(HEADER + asked.ancestor_start(labels)),
            Owner::Name(other) => self.name(other),
        }
        let size: usize = data.iter().map(|part| part.len()).sum();
        self.out.extend_from_slice(&rtype.to_be_bytes());
        self.out.extend_from_slice(&self.query.class.to_be_bytes());
        self.out.extend_from_slice(&ttl.to_be_bytes());
        self.out.extend_from_slice(&(size as u16).to_be_bytes());
        for part in data {
            self.out.extend_from_slice(part);
        }
    }

    /// Writes a name: in full, or as a pointer into the target of one of the last two CNAME records.
    fn name(&mut self, name: &Name) {
        let place = self.place_in(&self.target, name);
        match place.or_else(|| self.place_in(&self.target_before, name)) {
            Some(at) => self.pointer(at),
            None => self.out.extend_from_slice(name.wire()),
        }
    }

    /// Where a name is that equals the end of this written name, if a pointer can refer to it.
    fn place_in(&self, target: &Range<usize>, name: &Name) -> Option<usize> {
        let written = &self.out[target.clone()];
        let start = written.len().checked_sub(name.wire().len())?;
        let is_label = label_starts(written).any(|label| label == start);
        let at = target.start + start;
        (is_label && written[start..] == *name.wire() && at <= LAST_TARGET).then_some(at)
    }

    /// Writes a pointer to a name at offset `at` (RFC 1035, section 4.1.4), which is at most [`LAST_TARGET`].
    fn pointer(&mut self, at: usize) {
        self.out
            .extend_from_slice(&(0xC000 | at as u16).to_be_bytes());
    }

    /// Copies an upstream answer of this `age` in seconds: response code, sections and AD. Every TTL is
    /// reduced by the age, or set to `stale_ttl`.
    pub fn copy(&mut self, answer: &Answer, age: u32, stale_ttl: Option<u32>) {
        self.rcode = answer.rcode();
        if answer.additional_at() > self.limit {
            // The reply would be truncated anyway, so an answer of up to 64 KB is not copied.
            self.flags |= flag::TC;
            return;
        }
        let start = self.out.len();
        debug_assert_eq!(start, answer.question_end(), "same question, same length");
        let (mut records, mut counts) = (answer.body(), answer.counts());
        if start + records.len() > self.limit {
            // The additional section is dropped first anyway.
            records = &records[..answer.additional_at() - answer.question_end()];
            counts[2] = 0;
        }
        self.out.extend_from_slice(records);
        for at in answer.ttl_fields() {
            self.lower_ttl(at, age, stale_ttl);
        }
        self.counts = counts;
        if answer.authentic() && self.query.wants_ad() {
            self.flags |= flag::AD;
        }
    }

    /// Copies the records of an upstream answer that `keeps` accepts. `keeps` has three arguments: whether the
    /// record is in the additional section, and the offsets of its owner and data in the message. If a record
    /// of the answer section is left out, three other things are left out as well: AD, the signatures of its
    /// RRset, and the authority section. They are valid for the whole RRset only. Returns the offset of the
    /// additional section.
    ///
    /// Only SVCB and HTTPS records of the queried type, and records of the additional section, may be left
    /// out. Compression pointers are copied verbatim, so a pointer that is kept must not refer to bytes that
    /// move. The CNAME chain comes first, with its signatures; it is kept and does not move. SVCB and HTTPS
    /// records point only into the chain or to the question, and records of the additional section only to the
    /// question. The signatures of the RRset and the authority section come after the RRset, and may contain
    /// other pointers. They are kept only if the RRset is complete, so that nothing before them moves.
    pub fn copy_some(
        &mut self,
        answer: &Answer,
        age: u32,
        stale_ttl: Option<u32>,
        mut keeps: impl FnMut(bool, usize, usize) -> bool,
    ) -> usize {
        self.rcode = answer.rcode();
        let wire = answer.wire();
        let mut is_whole = true;
        let mut additional_at = self.out.len();
        debug_assert_eq!(additional_at, answer.question_end(), "same question");
        let kept: SmallVec<[Record; 16]> = answer
            .records()
            .filter(|record| {
                let keeps = keeps(record.section == 2, record.owner, record.fields.data);
                is_whole &= keeps || record.section == 2;
                keeps
            })
            .collect();
        for record in kept {
            let is_proof = || record.section == 1 || record.signs(wire, self.query.rtype);
            if !is_whole && is_proof() {
                continue;
            }
            let start = self.out.len();
            self.out
                .extend_from_slice(&wire[record.owner..record.fields.end]);
            self.lower_ttl(start + record.fields.ttl_at - record.owner, age, stale_ttl);
            self.counts[record.section] += 1;
            if record.section < 2 {
                additional_at = self.out.len();
            }
        }
        if is_whole && answer.authentic() && self.query.wants_ad() {
            self.flags |= flag::AD;
        }
        additional_at
    }

    /// Appends the first `hops` hops of an upstream answer, which is about the target of the last CNAME record, or about the
    /// queried name if there is none. The signatures are left out if the query has no DO.
    pub fn append_chain(&mut self, answer: &Answer, hops: usize, age: u32, stale_ttl: Option<u32>) {
        for record in answer.hop_records(hops) {
            // `finish` truncates the answer.
            if self.out.len() > self.limit || record.is_dnssec() && !self.query.dnssec_ok() {
                continue;
            }
            let Some(name) = answer.name_at(record.owner) else {
                continue;
            };
            let labels = name.label_count();
            let asked = self.query.name;
            let owner = match labels <= asked.label_count() && asked.ancestor(labels) == name.wire()
            {
                true => Owner::Ancestor(labels),
                false => Owner::Name(&name),
            };
            let ttl = record.fields.ttl.saturating_sub(age);
            let ttl = stale_ttl.unwrap_or(ttl);
            match record.fields.rtype {
                rtype::CNAME => {
                    if let Some(target) = answer.name_at(record.fields.data) {
                        self.cname(owner, ttl, &target);
                    }
                }
                // The names in the data of these types are not compressed.
                rtype => {
                    let data = &answer.wire()[record.fields.data..record.fields.end];
                    self.data(owner, rtype, ttl, data);
                }
            }
        }
    }

    /// Appends the proofs of an upstream answer, without which the signatures of its first `hops` hops don't count. To be
    /// called after the last record of the answer section.
    pub fn append_proofs(
        &mut self,
        answer: &Answer,
        hops: usize,
        age: u32,
        stale_ttl: Option<u32>,
    ) {
        if self.query.dnssec_ok() {
            self.append_all(answer, answer.hop_proofs(hops), age, stale_ttl);
        }
    }

    /// Sets AD if the query asks for it: all records are authentic.
    pub fn authenticate(&mut self) {
        if self.query.wants_ad() {
            self.flags |= flag::AD;
        }
    }

    /// Appends the upstream answer for the target of the last CNAME record: its response code, answer section and
    /// authority section. DNSSEC records are left out unless `is_signed`: that is false if no signature covers that CNAME
    /// record. AD is not set.
    pub fn append(&mut self, answer: &Answer, age: u32, stale_ttl: Option<u32>, is_signed: bool) {
        self.rcode = answer.rcode();
        let asked = self.query.rtype;
        let is_kept = |record: &Record| {
            record.section < 2 && (is_signed || !record.is_dnssec() || record.fields.rtype == asked)
        };
        self.append_all(answer, answer.records().filter(is_kept), age, stale_ttl);
    }

    /// Appends records of an upstream answer. Names are compressed for this message, because pointers of the upstream answer
    /// don't fit it.
    fn append_all(
        &mut self,
        answer: &Answer,
        records: impl Iterator<Item = Record>,
        age: u32,
        stale_ttl: Option<u32>,
    ) {
        let target = self.target.clone();
        let mut compressor = Compressor::of_name(&self.out[target.clone()], target.start);
        for record in records {
            // `finish` truncates the answer, so an answer of up to 64 KB is not copied.
            if self.out.len() > self.limit {
                return;
            }
            let start = self.out.len();
            let ttl = record.fields.ttl.saturating_sub(age);
            let ttl = stale_ttl.unwrap_or(ttl);
            match self.append_record(&mut compressor, answer, &record, ttl) {
                Some(()) => self.counts[record.section] += 1,
                // What the cache holds is well-formed.
                None => self.out.truncate(start),
            }
        }
    }

    /// Appends one record of an upstream answer with this TTL.
    fn append_record(
        &mut self,
        compressor: &mut Compressor,
        answer: &Answer,
        record: &Record,
        ttl: u32,
    ) -> Option<()> {
        let (wire, fields) = (answer.wire(), &record.fields);
        compressor.copy(wire, record.owner, true, self.out)?;
        self.out.extend_from_slice(&fields.rtype.to_be_bytes());
        self.out.extend_from_slice(&fields.class.to_be_bytes());
        self.out.extend_from_slice(&ttl.to_be_bytes());
        self.out.extend_from_slice(&[0; 2]);
        let data_at = self.out.len();
        answer::copy_data(wire, record, compressor, self.out)?;
        let len = u16::try_from(self.out.len() - data_at).ok()?;
        self.out[data_at - 2..data_at].copy_from_slice(&len.to_be_bytes());
        Some(())
    }

    fn lower_ttl(&mut self, at: usize, age: u32, stale_ttl: Option<u32>) {
        if let Some(field) = self.out.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            let ttl = u32::from_be_bytes(*field).saturating_sub(age);
            *field = stale_ttl.unwrap_or(ttl).to_be_bytes();
        }
    }

    /// Writes the OPT record if the query had one, and the header. If the answer is too long, EXTRA-TEXT is
    /// dropped first, then the additional section (which starts at `body_end`, if it may be dropped), then
    /// all records, with TC set (RFC 2181, section 9).
    pub fn finish(mut self, errors: &[Ede<'_>], body_end: Option<usize>) {
        let question_end = HEADER + self.query.question().len();
        let full = self.opt_size(errors, true);
        let bare = self.opt_size(errors, false);
        let mut texts = true;
        if self.out.len() + full > self.limit {
            texts = false;
        }
        if self.out.len() + bare > self.limit
            && let Some(end) = body_end
        {
            self.out.truncate(end);
            self.counts[2] = 0;
        }
        if self.out.len() + bare > self.limit {
            self.out.truncate(question_end);
            self.counts = [0; 3];
            self.flags |= flag::TC;
            self.flags &= !flag::AD;
        }
        self.write_opt(errors, texts);
        self.write_header();
    }

    fn opt_size(&self, errors: &[Ede<'_>], texts: bool) -> usize {
        if self.query.edns.is_none() {
            return 0;
        }
        let text = |e: &Ede<'_>| if texts { e.text.len() } else { 0 };
        11 + errors.iter().map(|e| 6 + text(e)).sum::<usize>()
    }

    fn write_opt(&mut self, errors: &[Ede<'_>], texts: bool) {
        let Some(client) = self.query.edns else {
            return;
        };
        let size = self.opt_size(errors, texts) - 11;
        let ttl =
            u32::from(self.rcode >> 4) << 24 | if client.dnssec_ok { edns::DO_BIT } else { 0 };
        self.out.push(0);
        self.out.extend_from_slice(&rtype::OPT.to_be_bytes());
        self.out.extend_from_slice(&UDP_PAYLOAD.to_be_bytes());
        self.out.extend_from_slice(&ttl.to_be_bytes());
        self.out.extend_from_slice(&(size as u16).to_be_bytes());
        for error in errors {
            let text = if texts { error.text.as_bytes() } else { &[] };
            self.out.extend_from_slice(&edns::OPTION_EDE.to_be_bytes());
            self.out
                .extend_from_slice(&(2 + text.len() as u16).to_be_bytes());
            self.out.extend_from_slice(&error.code.to_be_bytes());
            self.out.extend_from_slice(text);
        }
        self.counts[2] += 1;
    }

    fn write_header(&mut self) {
        let mut rcode = self.rcode;
        if rcode > 0xF && self.query.edns.is_none() {
            rcode = Rcode::ServFail as u16;
        }
        let flags = self.flags | (rcode & 0xF);
        let header = &mut self.out[..HEADER];
        header[..2].copy_from_slice(&self.query.id());
        header[2..4].copy_from_slice(&flags.to_be_bytes());
        header[4..6].copy_from_slice(&1_u16.to_be_bytes());
        for (field, count) in header[6..].chunks_exact_mut(2).zip(self.counts) {
            field.copy_from_slice(&count.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Message;

    fn query_packet(edns: bool) -> Vec<u8> {
        let mut packet = b"\xAB\xCD\x01\x10\x00\x01\x00\x00\x00\x00\x00".to_vec();
        packet.push(u8::from(edns));
        packet.extend_from_slice(b"\x01a\x07eXample\x00\x00\x01\x00\x01");
        if edns {
            packet.extend_from_slice(b"\x00\x00\x29\x02\x00\x00\x00\x00\x00\x00\x00");
        }
        packet
    }

    fn parsed(out: &[u8]) -> Message {
        Message::from_vec(out).expect("another implementation reads it")
    }

    #[test]
    fn another_implementation_parses_an_address_answer() {
        let packet = query_packet(true);
        let mut name = Name::default();
        let query = Query::parse(&packet, &mut name).expect("read");
        let mut out = Vec::new();
        let mut reply = Reply::new(&query, Rcode::NoError, 512, &mut out);
        reply.address(Owner::Question, 60, IpAddr::from([0, 0, 0, 0]));
        let why = Ede {
            code: 16,
            text: "an order",
        };
        reply.finish(&[why], None);
        let message = parsed(&out);
        assert_eq!(message.metadata.id, 0xABCD);
        assert!(message.metadata.recursion_available && message.metadata.checking_disabled);
        assert!(!message.metadata.authoritative && !message.metadata.authentic_data);
        assert_eq!(message.answers[0].to_string(), "a.eXample. 60 IN A 0.0.0.0");
        assert!(out.ends_with(b"\x00\x0F\x00\x0A\x00\x10an order"));
        assert!(
            out.windows(9).any(|w| w == b"\x01a\x07eXampl"),
            "case is kept"
        );
    }

    #[test]
    fn an_answer_that_is_too_long_loses_extra_text_first_and_records_last() {
        let packet = query_packet(true);
        let mut name = Name::default();
        let query = Query::parse(&packet, &mut name).expect("read");
        let text = "t".repeat(600);
        let why = [Ede {
            code: 15,
            text: &text,
        }];
        let mut out = Vec::new();
        let mut reply = Reply::new(&query, Rcode::NoError, query.udp_limit(), &mut out);
        reply.address(Owner::Question, 60, IpAddr::from([0; 16]));
        reply.finish(&why, None);
        let message = parsed(&out);
        assert!(!message.metadata.truncation && message.answers.len() == 1);
        assert!(out.ends_with(b"\x00\x0F\x00\x02\x00\x0F"), "the code stays");

        let mut reply = Reply::new(&query, Rcode::NoError, query.udp_limit(), &mut out);
        for _ in 0..40 {
            reply.address(Owner::Question, 60, IpAddr::from([0; 16]));
        }
        reply.finish(&why, None);
        let message = parsed(&out);
        assert!(message.metadata.truncation && message.answers.is_empty());
        assert!(out.len() <= 512 && out.ends_with(b"\x00\x0F\x00\x02\x00\x0F"));
    }

    #[test]
    fn an_answer_to_a_query_without_edns_has_no_edns() {
        let packet = query_packet(false);
        let mut name = Name::default();
        let query = Query::parse(&packet, &mut name).expect("read");
        let mut out = Vec::new();
        let reply = Reply::new(&query, Rcode::Refused, 512, &mut out);
        reply.finish(&[Ede { code: 18, text: "" }], None);
        assert_eq!(out.len(), packet.len());
        assert_eq!(parsed(&out).additionals.len(), 0);
    }

    #[test]
    fn the_owner_of_the_soa_is_the_matched_ancestor() {
        let packet = query_packet(true);
        let mut name = Name::default();
        let query = Query::parse(&packet, &mut name).expect("read");
        let mut out = Vec::new();
        let mut reply = Reply::new(&query, Rcode::NxDomain, 512, &mut out);
        reply.soa(Owner::Ancestor(1), 60, 7, false);
        reply.finish(&[], None);
        let message = parsed(&out);
        let soa = &message.authorities[0];
        assert_eq!(soa.name.to_string(), "eXample.");
        assert_eq!(soa.ttl, 60);
        assert!(soa.data.to_string().ends_with(" 7 3600 600 604800 60"));
    }

    #[test]
    fn a_bare_header_is_never_longer_than_the_packet() {
        let mut out = Vec::new();
        header_only(
            b"\x01\x02\x29\x00\x00\x09\x00\x00\x00\x00\x00\x00",
            Rcode::NotImp,
            &mut out,
        );
        assert_eq!(out, b"\x01\x02\xA9\x84\x00\x00\x00\x00\x00\x00\x00\x00");
    }
}
