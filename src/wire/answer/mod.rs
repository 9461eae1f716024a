//! Owns an upstream's answer as the server keeps it: wire without OPT, with the places of its TTLs.
//! Refuses to interpret records beyond TTLs, CNAMEs and SOAs.

use super::edns::{self, Edns, Fields, OPTION_EDE};
use super::name::Name;
use super::{HEADER, class, flag, read_u16, read_u32, rtype};

/// Most hops of a CNAME chain that are followed; a longer one is no answer.
const MAX_HOPS: usize = 16;
/// Most Extended DNS Errors kept of an answer, and most octets of each one's text.
const MAX_ERRORS: usize = 4;
const MAX_TEXT: usize = 200;

/// Why octets are not an answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not a response, or the message ends too early.
    #[error("the answer is malformed")]
    Malformed,
    /// The question section is not the question that was sent.
    #[error("the answer is to another question")]
    OtherQuestion,
    /// A CNAME chain that is circular or longer than sixteen hops.
    #[error("the CNAME chain is circular or too long")]
    Chain,
}

/// A record's TTL field: its offset from the message's start, and its value, clamped.
#[derive(Clone, Copy, Debug)]
struct Mark {
    ttl_at: u16,
    ttl: u32,
}

/// An Extended DNS Error of upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldEde {
    /// INFO-CODE.
    pub code: u16,
    /// EXTRA-TEXT; octets that are no UTF-8 are replaced, 200 octets are kept.
    pub text: Box<str>,
}

/// Bounds for TTLs, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlBounds {
    /// Shorter ones are raised to this.
    pub min: u32,
    /// Longer ones are cut to this.
    pub max: u32,
}

impl TtlBounds {
    /// A TTL as it is kept. One with the top bit set counts as zero (RFC 2181, section 8).
    fn clamp(self, ttl: u32) -> u32 {
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        ttl.clamp(self.min, self.max)
    }
}

/// Whether a message says that it was cut (TC), whatever its records look like.
pub fn is_cut(message: &[u8]) -> bool {
    read_u16(message, 2).is_some_and(|flags| flags & flag::TC != 0)
}

/// An upstream's answer to one question.
#[derive(Debug)]
pub struct Answer {
    /// One block, as each further one would be a wait for memory: the message, with TTLs clamped;
    /// behind it the offsets of its TTL fields, two octets each; behind those the chain's CNAMEs in
    /// the chain's order, each with the offsets of its target and of its TTL.
    octets: Box<[u8]>,
    wire_len: u16,
    mark_count: u16,
    question_end: u16,
    additional_at: u16,
    flags: u16,
    rcode: u16,
    counts: [u16; 3],
    errors: Box<[HeldEde]>,
    ttl: Option<u32>,
}

/// A CNAME record of the answer section.
struct Cname {
    owner: Name,
    target: Name,
    target_at: u16,
    ttl_at: u16,
}

/// What the walk over the records collects.
struct Walk {
    marks: Vec<Mark>,
    cnames: Vec<Cname>,
    /// Offset and end of the OPT record, and what it says.
    opt: Option<(usize, usize, Edns)>,
    errors: Vec<HeldEde>,
    additional_at: usize,
    answer_ttl: Option<u32>,
    soa_ttl: Option<u32>,
    /// The type that was asked for, and whether the answer section has a record of it.
    asked: u16,
    has_asked: bool,
    end: usize,
}

impl Answer {
    /// Reads a response to `question` (name, type, class). TTLs are clamped to `bounds`.
    ///
    /// # Errors
    /// [`AnswerError`] when it is none, or not to that question.
    pub fn read(
        message: &[u8],
        name: &Name,
        rtype: u16,
        class: u16,
        bounds: TtlBounds,
    ) -> Result<Self, AnswerError> {
        let malformed = AnswerError::Malformed;
        let word = |at| read_u16(message, at).ok_or(malformed);
        let flags = word(2)?;
        if message.len() > super::MAX_MESSAGE || flags & flag::QR == 0 {
            return Err(malformed);
        }
        let (asked, at) = Name::read(message, HEADER).map_err(|_| malformed)?;
        if word(4)? != 1 || asked != *name || word(at)? != rtype || word(at + 2)? != class {
            return Err(AnswerError::OtherQuestion);
        }
        let question_end = at + 4;
        let mut counts = [word(6)?, word(8)?, word(10)?];
        let walk = walk(message, question_end, rtype, counts, bounds).ok_or(malformed)?;
        let mut end = walk.end;
        let mut additional_at = walk.additional_at;
        let mut marks = walk.marks;
        if let Some((start, behind, _)) = walk.opt {
            counts[2] -= 1;
            end = if behind == walk.end {
                start
            } else {
                // Records behind OPT can't be moved, for their names may point at each other.
                // The additional section is the one that may be left out (RFC 2181, section 9).
                marks.retain(|mark| usize::from(mark.ttl_at) < additional_at);
                counts[2] = 0;
                additional_at
            };
        }
        additional_at = additional_at.min(end);
        let full_rcode = edns::full_rcode(flags, walk.opt.map(|(_, _, edns)| edns));
        let chain = follow(name, &walk.cnames)?;
        let ttl = match (walk.answer_ttl, walk.soa_ttl) {
            (answer, Some(soa)) => Some(answer.unwrap_or(u32::MAX).min(soa)),
            (Some(answer), None) if full_rcode == 0 && walk.has_asked => Some(answer),
            // RFC 2308, section 5: without an SOA a negative answer is not kept. A chain that leads
            // to no record of the asked type is one, whatever signatures stand beside it.
            _ => None,
        };
        let mut octets = Vec::with_capacity(end + 2 * marks.len() + 4 * chain.len());
        octets.extend_from_slice(&message[..end]);
        for mark in &marks {
            let at = usize::from(mark.ttl_at);
            octets[at..at + 4].copy_from_slice(&mark.ttl.to_be_bytes());
        }
        octets.extend(marks.iter().flat_map(|mark| mark.ttl_at.to_ne_bytes()));
        for (target, ttl_at) in chain {
            octets.extend([target, ttl_at].map(u16::to_ne_bytes).as_flattened());
        }
        Ok(Self {
            octets: octets.into(),
            wire_len: end as u16,
            mark_count: marks.len() as u16,
            question_end: question_end as u16,
            additional_at: additional_at as u16,
            flags,
            rcode: full_rcode,
            counts,
            errors: walk.errors.into(),
            ttl,
        })
    }

    /// The full response code, extended bits included.
    pub fn rcode(&self) -> u16 {
        self.rcode
    }

    /// Whether upstream set TC: the answer must be asked for again by TCP.
    pub fn truncated(&self) -> bool {
        self.flags & flag::TC != 0
    }

    /// Whether upstream says that the data is authentic.
    pub fn authentic(&self) -> bool {
        self.flags & flag::AD != 0
    }

    /// For how many seconds the answer may be kept: the least TTL of its answer section, or that of
    /// the negative answer (RFC 2308, section 5). Nothing: it may not.
    pub fn ttl(&self) -> Option<u32> {
        self.ttl
    }

    /// Upstream's Extended DNS Errors.
    pub fn errors(&self) -> &[HeldEde] {
        &self.errors
    }

    /// Whether the question that it answers is about that name and type.
    pub fn is_about(&self, name: &Name, rtype: u16) -> bool {
        let question = &self.octets[HEADER..self.question_end()];
        // Octets of lengths are below any letter's.
        question
            .split_at_checked(name.wire().len())
            .is_some_and(|(asked, rest)| {
                asked.eq_ignore_ascii_case(name.wire()) && rest.starts_with(&rtype.to_be_bytes())
            })
    }

    /// Its message and what else belongs to it, in one block.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Octets that the answer takes in memory, roughly.
    pub fn footprint(&self) -> usize {
        let errors: usize = self.errors.iter().map(|e| e.text.len() + 24).sum();
        size_of::<Self>() + self.octets.len() + errors
    }

    /// The names that the chain of CNAMEs leads to from the asked one, in order, each with the TTL
    /// that its record came with.
    pub fn chain(&self) -> impl Iterator<Item = (Name, u32)> {
        let offset = |pair: &[u8]| u16::from_ne_bytes([pair[0], pair[1]]);
        let hops = self
            .behind(2 * usize::from(self.mark_count))
            .chunks_exact(4);
        hops.filter_map(move |hop| {
            let (target, ttl_at) = hop.split_at(2);
            let (name, _) = Name::read_compressed(self.wire(), offset(target).into()).ok()?;
            Some((name, read_u32(self.wire(), offset(ttl_at).into())?))
        })
    }

    /// Where the additional section starts, from the message's start.
    pub fn additional_at(&self) -> usize {
        usize::from(self.additional_at)
    }

    pub(super) fn question_end(&self) -> usize {
        usize::from(self.question_end)
    }

    fn wire(&self) -> &[u8] {
        &self.octets[..usize::from(self.wire_len)]
    }

    /// What stands so far behind the message.
    fn behind(&self, octets: usize) -> &[u8] {
        &self.octets[usize::from(self.wire_len) + octets..]
    }

    pub(super) fn records(&self) -> &[u8] {
        &self.wire()[self.question_end()..]
    }

    /// The offsets of the TTL fields; each holds the TTL that the answer came with.
    pub(super) fn ttl_fields(&self) -> impl Iterator<Item = usize> {
        let offsets = &self.behind(0)[..2 * usize::from(self.mark_count)];
        let offsets = offsets.chunks_exact(2);
        offsets.map(|pair| usize::from(u16::from_ne_bytes([pair[0], pair[1]])))
    }

    pub(super) fn counts(&self) -> [u16; 3] {
        self.counts
    }
}

fn walk(
    message: &[u8],
    start: usize,
    asked: u16,
    counts: [u16; 3],
    bounds: TtlBounds,
) -> Option<Walk> {
    let mut walk = Walk {
        marks: Vec::with_capacity(
            counts
                .iter()
                .map(|&c| usize::from(c))
                .sum::<usize>()
                .min(64),
        ),
        cnames: Vec::new(),
        opt: None,
        errors: Vec::new(),
        additional_at: start,
        answer_ttl: None,
        soa_ttl: None,
        asked,
        has_asked: false,
        end: start,
    };
    for (section, count) in counts.into_iter().enumerate() {
        if section == 2 {
            walk.additional_at = walk.end;
        }
        for _ in 0..count {
            let owner = walk.end;
            let (_, behind) = Name::read_compressed(message, owner).ok()?;
            let record = edns::fields(message, behind)?;
            walk.end = record.end;
            walk.take(message, section, owner, record, bounds)?;
        }
    }
    Some(walk)
}

impl Walk {
    fn take(
        &mut self,
        message: &[u8],
        section: usize,
        owner: usize,
        record: Fields,
        bounds: TtlBounds,
    ) -> Option<()> {
        if record.rtype == rtype::OPT {
            if section != 2 || self.opt.is_some() {
                return None;
            }
            let edns = Edns::from_fields(record.class, record.ttl);
            self.opt = Some((owner, record.end, edns));
            let data = &message[record.data..record.end];
            return edns::options(data, |code, data| self.take_option(code, data)).then_some(());
        }
        let mut ttl = bounds.clamp(record.ttl);
        let internet = record.class == class::IN;
        if section == 1 && record.rtype == rtype::SOA && internet {
            // MINIMUM is the last of five numbers behind two names (RFC 1035, section 3.3.13).
            if record.end - record.data < 22 {
                return None;
            }
            let minimum = read_u32(message, record.end - 4)?;
            ttl = ttl.min(bounds.clamp(minimum));
            self.soa_ttl = Some(ttl);
        }
        if section == 0 {
            self.has_asked |= record.rtype == self.asked || self.asked == rtype::ANY;
            self.answer_ttl = Some(self.answer_ttl.unwrap_or(u32::MAX).min(ttl));
            if record.rtype == rtype::CNAME && internet {
                let (owner, _) = Name::read_compressed(message, owner).ok()?;
                let (target, behind) = Name::read_compressed(message, record.data).ok()?;
                // Others would read another target, or none.
                if behind != record.end {
                    return None;
                }
                self.cnames.push(Cname {
                    owner,
                    target,
                    target_at: record.data as u16,
                    ttl_at: record.ttl_at as u16,
                });
            }
        }
        self.marks.push(Mark {
            ttl_at: record.ttl_at as u16,
            ttl,
        });
        Some(())
    }

    fn take_option(&mut self, code: u16, data: &[u8]) {
        if code == OPTION_EDE
            && self.errors.len() < MAX_ERRORS
            && let Some(info) = read_u16(data, 0)
        {
            let text = &data[2..data.len().min(2 + MAX_TEXT)];
            self.errors.push(HeldEde {
                code: info,
                text: String::from_utf8_lossy(text).into(),
            });
        }
    }
}

/// Orders the CNAMEs along the chain that starts at `from`, whatever order upstream wrote them in.
/// Those that no hop leads to are left out. Each is told by the offsets of its target and its TTL.
fn follow(from: &Name, cnames: &[Cname]) -> Result<Vec<(u16, u16)>, AnswerError> {
    let mut chain = Vec::new();
    let mut at = from;
    while let Some(hop) = cnames.iter().find(|hop| hop.owner == *at) {
        if chain.len() == MAX_HOPS {
            return Err(AnswerError::Chain);
        }
        chain.push((hop.target_at, hop.ttl_at));
        at = &hop.target;
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: TtlBounds = TtlBounds {
        min: 0,
        max: 86_400,
    };

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    fn record(owner: &[u8], rtype: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let mut wire = owner.to_vec();
        wire.extend_from_slice(&rtype.to_be_bytes());
        wire.extend_from_slice(&[0, 1]);
        wire.extend_from_slice(&ttl.to_be_bytes());
        wire.extend_from_slice(&(data.len() as u16).to_be_bytes());
        wire.extend_from_slice(data);
        wire
    }

    fn message(flags: u16, sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
        let mut wire = vec![0, 9];
        wire.extend_from_slice(&flags.to_be_bytes());
        wire.extend_from_slice(&[0, 1]);
        for section in sections {
            wire.extend_from_slice(&(section.len() as u16).to_be_bytes());
        }
        wire.extend_from_slice(b"\x01a\x02tv\x00\x00\x01\x00\x01");
        wire.extend(sections.concat().concat());
        wire
    }

    fn read(message: &[u8]) -> Result<Answer, AnswerError> {
        Answer::read(message, &name("a.tv"), 1, 1, BOUNDS)
    }

    const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x08\x00\x0F\x00\x04\x00\x07no";
    const SOA: &[u8] =
        b"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x1E";

    #[test]
    fn opt_goes_and_its_errors_stay() {
        let a = record(b"\xC0\x0C", rtype::A, 300, &[1, 2, 3, 4]);
        let glue = record(b"\xC0\x0C", rtype::AAAA, 200, &[0; 16]);
        let wire = message(0x8180, [&[a], &[], &[glue, OPT.to_vec()]]);
        let answer = read(&wire).expect("an answer");
        assert_eq!(answer.counts(), [1, 0, 1]);
        assert_eq!(answer.wire().len(), wire.len() - OPT.len());
        assert_eq!(answer.ttl(), Some(300), "the answer section alone counts");
        assert_eq!(&*answer.errors()[0].text, "no");
        assert_eq!(answer.errors()[0].code, 7);
    }

    #[test]
    fn an_opt_before_other_records_takes_the_additional_section_along() {
        let glue = record(b"\xC0\x0C", rtype::AAAA, 200, &[0; 16]);
        let a = record(b"\xC0\x0C", rtype::A, 300, &[1, 2, 3, 4]);
        let wire = message(0x8180, [&[a], &[], &[OPT.to_vec(), glue]]);
        let answer = read(&wire).expect("an answer");
        assert_eq!(
            (answer.counts(), answer.ttl_fields().count()),
            ([1, 0, 0], 1)
        );
        assert_eq!(answer.wire().len(), answer.additional_at());
    }

    #[test]
    fn a_negative_answer_lives_as_long_as_its_soa_says_and_without_one_not_at_all() {
        let soa = record(b"\x02tv\x00", rtype::SOA, 3600, SOA);
        let wire = message(0x8183, [&[], std::slice::from_ref(&soa), &[]]);
        assert_eq!(read(&wire).expect("an answer").ttl(), Some(30));
        assert_eq!(
            read(&message(0x8183, [&[], &[], &[]]))
                .expect("an answer")
                .ttl(),
            None
        );
        let alias = record(b"\xC0\x0C", rtype::CNAME, 20, b"\x01b\xC0\x0E");
        let wire = message(0x8183, [&[alias], &[soa], &[]]);
        assert_eq!(read(&wire).expect("an answer").ttl(), Some(20));
    }

    #[test]
    fn a_signed_alias_that_leads_to_nothing_is_not_kept_without_an_soa() {
        let alias = record(b"\xC0\x0C", rtype::CNAME, 20, b"\x01b\xC0\x0E");
        let signature = record(b"\xC0\x0C", 46, 20, &[0; 24]);
        let a = record(b"\x01b\xC0\x0E", rtype::A, 20, &[1, 2, 3, 4]);
        let ttl = |answers: &[Vec<u8>]| {
            let wire = message(0x8180, [answers, &[], &[]]);
            read(&wire).expect("an answer").ttl()
        };
        assert_eq!(ttl(&[alias.clone(), signature.clone()]), None);
        assert_eq!(ttl(&[alias, signature, a]), Some(20));
    }

    #[test]
    fn an_owner_that_points_at_itself_or_past_the_end_makes_no_answer() {
        for owner in [b"\xC0\x16", b"\xFF\xFF"] {
            let a = record(owner, rtype::A, 20, &[1, 2, 3, 4]);
            let wire = message(0x8180, [&[a], &[], &[]]);
            assert_eq!(read(&wire).err(), Some(AnswerError::Malformed));
        }
    }

    #[test]
    fn the_chain_is_followed_in_whatever_order_it_comes() {
        let second = record(b"\x01b\xC0\x0E", rtype::CNAME, 20, b"\x01c\xC0\x0E");
        let first = record(b"\xC0\x0C", rtype::CNAME, 10, b"\x01b\xC0\x0E");
        let stray = record(b"\x01x\xC0\x0E", rtype::CNAME, 10, b"\x01y\xC0\x0E");
        let last = record(b"\x01c\xC0\x0E", rtype::A, 30, &[1, 2, 3, 4]);
        let wire = message(0x8180, [&[second, stray, first, last], &[], &[]]);
        let hops: Vec<_> = read(&wire).expect("an answer").chain().collect();
        assert_eq!(hops, [(name("b.tv"), 10), (name("c.tv"), 20)]);
    }

    #[test]
    fn a_circular_chain_is_no_answer() {
        let first = record(b"\xC0\x0C", rtype::CNAME, 10, b"\x01b\xC0\x0E");
        let second = record(b"\x01b\xC0\x0E", rtype::CNAME, 10, b"\xC0\x0C");
        let wire = message(0x8180, [&[first, second], &[], &[]]);
        assert_eq!(read(&wire).expect_err("circular"), AnswerError::Chain);
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_refused() {
        let good = message(0x8180, [&[], &[], &[]]);
        assert!(read(&good).is_ok());
        assert_eq!(
            read(&message(0x0100, [&[], &[], &[]])).err(),
            Some(AnswerError::Malformed)
        );
        let other = Answer::read(&good, &name("b.tv"), 1, 1, BOUNDS);
        assert_eq!(other.err(), Some(AnswerError::OtherQuestion));
        let a = record(b"\xC0\x0C", rtype::A, 300, &[1, 2, 3, 4]);
        let wire = message(0x8180, [&[a], &[], &[]]);
        for cut in 0..wire.len() {
            assert!(read(&wire[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn ttls_are_clamped_and_absurd_ones_count_as_zero() {
        let bounds = TtlBounds { min: 5, max: 100 };
        assert_eq!(
            [0, 50, 1000, 1 << 31].map(|t| bounds.clamp(t)),
            [5, 50, 100, 5]
        );
    }
}
