//! Writes queries for upstreams, and matches responses to them.
//!
//! Only the name, the type, DO and CD of a client's query are passed on. Each query has a random ID, and each
//! letter of its name has a random case, which the answer must repeat. An attacker has to guess both (RFC
//! 5452, section 9; draft-vixie-dnsext-dns0x20).

use super::{HEADER, PLAIN_UDP, Rcode, UDP_PAYLOAD, class, edns, flag, read_u16, rtype, skip_name};

/// The number of random bytes of a query: an ID, and a bit for each byte of a name.
pub const RANDOM: usize = 2 + 32;

/// The size of the OPT record that [`write()`] writes.
const OPT_BYTES: usize = 11;
/// The code and the length of an option.
const OPTION_HEADER: usize = 4;

/// The extensions that a query uses. Some servers support neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// Whether the query has an OPT record (RFC 6891). Without one there is no DO bit either, so the answer
    /// has no signatures.
    pub edns: bool,
    /// Whether the case of each letter is random and must be repeated by the answer.
    pub random_case: bool,
}

impl Dialect {
    /// Both extensions.
    pub const FULL: Self = Self {
        edns: true,
        random_case: true,
    };
}

/// The question of a query, and its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'n> {
    /// The lower-cased name in wire form.
    pub name: &'n [u8],
    /// QTYPE. The class is IN.
    pub rtype: u16,
    /// Whether DNSSEC records are requested.
    pub dnssec_ok: bool,
    /// Whether upstream is asked not to validate.
    pub checking_disabled: bool,
}

/// Writes a query with RD set, and with AD set so that the answer reports whether it is authentic (RFC 6840,
/// section 5.7). Overwrites `out` with at most 282 bytes.
pub fn write(question: &Question<'_>, dialect: Dialect, random: &[u8; RANDOM], out: &mut Vec<u8>) {
    let checking = if question.checking_disabled {
        flag::CD
    } else {
        0
    };
    let flags = flag::RD | flag::AD | checking;
    out.clear();
    out.extend_from_slice(&random[..2]);
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, dialect.edns.into()]);
    let start = out.len();
    out.extend_from_slice(question.name);
    if dialect.random_case {
        // Length bytes are at most 63 and so never letters.
        for (at, byte) in out[start..].iter_mut().enumerate() {
            let is_upper = random[2 + at / 8 % 32] >> (at % 8) & 1;
            *byte ^= if byte.is_ascii_lowercase() {
                is_upper << 5
            } else {
                0
            };
        }
    }
    out.extend_from_slice(&question.rtype.to_be_bytes());
    out.extend_from_slice(&class::IN.to_be_bytes());
    if dialect.edns {
        let ttl = if question.dnssec_ok { edns::DO_BIT } else { 0 };
        out.push(0);
        out.extend_from_slice(&rtype::OPT.to_be_bytes());
        out.extend_from_slice(&UDP_PAYLOAD.to_be_bytes());
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
    }
}

/// Adds the option Padding (RFC 7830) to a query that [`write()`] wrote, so that its length is a multiple of `block`. Does
/// nothing without EDNS.
pub fn pad(query: &mut Vec<u8>, block: usize) {
    if !has_edns(query) {
        return;
    }
    let len = query.len() + OPTION_HEADER;
    let padding = len.next_multiple_of(block) - len;
    // The OPT record is the last one, and has no other option.
    let rdlen = query.len() - 2;
    query.truncate(rdlen);
    query.extend_from_slice(&((OPTION_HEADER + padding) as u16).to_be_bytes());
    query.extend_from_slice(&edns::OPTION_PADDING.to_be_bytes());
    query.extend_from_slice(&(padding as u16).to_be_bytes());
    query.resize(query.len() + padding, 0);
}

/// The question section of a query that [`write()`] wrote.
pub fn question_of(query: &[u8]) -> &[u8] {
    // The only additional record is OPT.
    let opt = if has_edns(query) { OPT_BYTES } else { 0 };
    &query[HEADER..query.len() - opt]
}

/// Whether a query that [`write()`] wrote has an OPT record.
pub fn has_edns(query: &[u8]) -> bool {
    query[11] != 0
}

/// The maximum size of an answer over UDP: the size announced with EDNS, or the limit without it.
pub fn udp_limit(edns: bool) -> usize {
    usize::from(if edns { UDP_PAYLOAD } else { PLAIN_UDP })
}

/// How a message fits a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is the answer.
    Answer,
    /// It would be the answer, but the case of a letter differs.
    OtherCase,
    /// A header alone with FORMERR or NOTIMP, which some servers send to refuse EDNS. Only its ID matches the
    /// query. So it is not an answer, but at most a reason to retry without EDNS.
    BareError,
    /// Not a response, or one to another query.
    Foreign,
}

/// Matches `message` against the question section `asked`. The caller compares the ID.
pub fn fit(message: &[u8], asked: &[u8]) -> Fit {
    let flags = read_u16(message, 2).unwrap_or(0);
    let is_response = flags & flag::QR != 0;
    if message.len() == HEADER && is_response && refuses(flags & 0x000F) {
        return Fit::BareError;
    }
    let question = message.get(HEADER..HEADER + asked.len());
    match question {
        Some(_) if !is_response || read_u16(message, 4) != Some(1) => Fit::Foreign,
        Some(question) if question == asked => Fit::Answer,
        // Type and class are compared exactly, because a byte of the type or class may have the value of a letter.
        Some(question)
            if question.eq_ignore_ascii_case(asked)
                && question[asked.len() - 4..] == asked[asked.len() - 4..] =>
        {
            Fit::OtherCase
        }
        _ => Fit::Foreign,
    }
}

/// Whether a server supports EDNS, as its answer to a query with EDNS shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdnsSupport {
    /// Supported, or the response code has nothing to do with EDNS.
    Fine,
    /// The server does not implement EDNS (RFC 6891, section 7), or not version 0.
    Refused,
    /// Perhaps not supported, or there is another reason:
    ///
    /// - SERVFAIL without an OPT record: RFC 2671 allowed it for servers without EDNS, but many servers with EDNS
    ///   report ordinary failures that way;
    /// - FORMERR or NOTIMP with an OPT record: some servers echo a query that they refuse.
    Doubtful,
}

/// The EDNS support that a valid [answer](Fit::Answer) shows. `rcode` is its full response code.
pub fn edns_support(answer: &[u8], rcode: u16) -> EdnsSupport {
    const SERVFAIL: u16 = Rcode::ServFail as u16;
    const BADVERS: u16 = Rcode::BadVers as u16;
    let has_opt = || opt(answer) != Opt::Absent;
    match rcode {
        BADVERS => EdnsSupport::Refused,
        code if refuses(code) && has_opt() => EdnsSupport::Doubtful,
        code if refuses(code) => EdnsSupport::Refused,
        SERVFAIL if !has_opt() => EdnsSupport::Doubtful,
        _ => EdnsSupport::Fine,
    }
}

/// For a message that is not a valid answer: whether its OPT record is malformed, or may be missing because the records
/// can't be read to their end. A server that does not implement EDNS may send such a message, with any response code.
pub fn has_broken_opt(message: &[u8]) -> bool {
    opt(message) == Opt::Broken
}

/// Whether servers without EDNS refuse it with this response code.
fn refuses(rcode: u16) -> bool {
    [Rcode::FormErr as u16, Rcode::NotImp as u16].contains(&rcode)
}

/// The OPT record of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opt {
    Absent,
    Whole,
    /// Its options overrun it, it is in the wrong section, there are several (RFC 6891, section 6.1.1), or
    /// the records end early, so that it may be missing.
    Broken,
}

fn opt(message: &[u8]) -> Opt {
    let count = |at| read_u16(message, at);
    let walk = || {
        let counts = [count(6)?, count(8)?, count(10)?];
        let sections = [0, 1, 2].into_iter().zip(counts);
        let sections = sections.flat_map(|(section, count)| (0..count).map(move |_| section));
        let mut at = skip_name(message, HEADER)? + 4;
        let mut found = Opt::Absent;
        for section in sections {
            let record = edns::fields(message, skip_name(message, at)?)?;
            if record.rtype == rtype::OPT {
                let has_options = edns::options(&message[record.data..record.end], |_, _| {});
                let is_whole = found == Opt::Absent && section == 2 && has_options;
                found = if is_whole { Opt::Whole } else { return None };
            }
            at = record.end;
        }
        Some(found)
    };
    walk().unwrap_or(Opt::Broken)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Message;

    use super::*;

    const ASKED: Question<'_> = Question {
        name: b"\x07example\x03com\x00",
        rtype: 28,
        dnssec_ok: true,
        checking_disabled: true,
    };

    #[test]
    fn another_implementation_parses_a_query_and_its_case_is_random() {
        let mut random = [0; RANDOM];
        random[..4].copy_from_slice(&[0xAB, 0xCD, 0b0000_0110, 0b0000_0010]);
        let mut out = vec![9; 3];
        write(&ASKED, Dialect::FULL, &random, &mut out);
        let message = Message::from_vec(&out).expect("a query");
        assert_eq!(message.metadata.id, 0xABCD);
        assert!(message.metadata.recursion_desired && message.metadata.checking_disabled);
        assert!(message.metadata.authentic_data);
        assert_eq!(message.queries[0].to_string(), "EXample.Com. IN AAAA");
        let edns = message.edns.expect("EDNS");
        assert!(edns.flags().dnssec_ok && edns.max_payload() == 1232);
        assert_eq!(question_of(&out), b"\x07EXample\x03Com\x00\x00\x1C\x00\x01");
    }

    #[test]
    fn only_a_response_with_an_equal_question_is_the_answer() {
        let mut query = Vec::new();
        write(&ASKED, Dialect::FULL, &[0xFF; RANDOM], &mut query);
        let asked = question_of(&query).to_vec();
        let end = HEADER + asked.len();
        assert_eq!(fit(&query, &asked), Fit::Foreign, "a query");
        let mut answer = query;
        answer[2] |= 0x80;
        assert_eq!(fit(&answer, &asked), Fit::Answer);
        let change = |at: usize, with: u8| {
            let mut answer = answer.clone();
            answer[at] ^= with;
            fit(&answer, &asked)
        };
        assert_eq!(change(HEADER + 1, 0x20), Fit::OtherCase);
        assert_eq!(change(HEADER + 1, 0x01), Fit::Foreign);
        assert_eq!(change(end - 3, 0x01), Fit::Foreign, "another type");
        assert_eq!(change(5, 0x03), Fit::Foreign, "two questions");
        assert_eq!(fit(&answer[..end - 1], &asked), Fit::Foreign);
        assert_eq!(fit(&[], &asked), Fit::Foreign);
    }
    #[test]
    fn a_query_to_an_old_server_has_neither_edns_nor_random_case() {
        let dialect = Dialect {
            edns: false,
            random_case: false,
        };
        let mut query = Vec::new();
        write(&ASKED, dialect, &[0xFF; RANDOM], &mut query);
        let message = Message::from_vec(&query).expect("a query");
        assert!(message.edns.is_none() && message.metadata.recursion_desired);
        assert_eq!(
            question_of(&query),
            b"\x07example\x03com\x00\x00\x1C\x00\x01"
        );
    }

    #[test]
    fn only_a_header_with_formerr_or_notimp_is_a_bare_error() {
        let bare = |flags: u16, len: usize| {
            let mut message = vec![0; len];
            message[2..4].copy_from_slice(&flags.to_be_bytes());
            fit(&message, b"\0\0\x01\0\x01")
        };
        assert_eq!(bare(0x8001, 12), Fit::BareError);
        assert_eq!(bare(0x8184, 12), Fit::BareError);
        assert_eq!(bare(0x0001, 12), Fit::Foreign, "a query");
        for rcode in [0x8000, 0x8002, 0x8003, 0x8005] {
            assert_eq!(bare(rcode, 12), Fit::Foreign, "another code");
        }
        assert_eq!(bare(0x8001, 13), Fit::Foreign);
        assert_eq!(bare(0x8001, 11), Fit::Foreign);
    }

    #[test]
    fn an_error_without_opt_refuses_edns_and_one_with_it_is_doubtful() {
        use EdnsSupport::{Doubtful, Fine, Refused};
        let answer = |opt: bool| {
            let mut query = Vec::new();
            let dialect = Dialect {
                edns: opt,
                random_case: false,
            };
            write(&ASKED, dialect, &[0; RANDOM], &mut query);
            query[2] |= 0x80;
            query
        };
        let (without, with) = (answer(false), answer(true));
        let mut twice = [&with[..], &with[with.len() - OPT_BYTES..]].concat();
        twice[11] = 2;
        let mut in_answer = with.clone();
        in_answer.swap(7, 11);
        let mut overrun = [&with[..], b"\x00\x0A\x00\x09x"].concat();
        overrun[with.len() - 1] = 5;
        let announced = with[..with.len() - OPT_BYTES].to_vec();
        let cut = with[..with.len() - 1].to_vec();
        let broken = [twice, in_answer, overrun, announced, cut];
        for (rcode, expected) in [
            (0, [Fine, Fine]),
            (1, [Refused, Doubtful]),
            (2, [Doubtful, Fine]),
            (3, [Fine, Fine]),
            (4, [Refused, Doubtful]),
            (5, [Fine, Fine]),
            (16, [Refused, Refused]),
        ] {
            assert_eq!(edns_support(&without, rcode), expected[0], "{rcode}");
            assert_eq!(edns_support(&with, rcode), expected[1], "{rcode}");
        }
        assert!(!has_broken_opt(&with) && !has_broken_opt(&without));
        for (number, broken) in broken.iter().enumerate() {
            assert!(has_broken_opt(broken), "{number}");
        }
    }
}
