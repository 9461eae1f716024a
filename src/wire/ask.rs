//! Owns the questions that go upstream, and which messages answer them.
//! Refuses to read records: `answer` does.
//!
//! Nothing of the client's travels on but name, type, DO and CD. Each question has a random ID, and
//! each letter of its name a random case, which answers repeat: so many more bits a forger must guess
//! (RFC 5452, section 9; draft-vixie-dnsext-dns0x20).

use super::{HEADER, UDP_PAYLOAD, class, edns, flag, read_u16, rtype};

/// Octets of randomness for one question: an ID, and a bit for each octet of a name.
pub const RANDOM: usize = 2 + 32;

/// Longest answer by UDP that is taken, in octets. We announce 1232; some servers do not listen.
pub const LONGEST_ANSWER: usize = 4096;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'n> {
    /// The name in lower-cased wire form.
    pub name: &'n [u8],
    /// QTYPE. The class is IN.
    pub rtype: u16,
    /// Whether DNSSEC records are part of the answer.
    pub dnssec_ok: bool,
    /// Whether upstream is told not to check.
    pub checking_disabled: bool,
}

/// Writes a query with RD, AD to be told whether the answer is authentic (RFC 6840, section 5.7),
/// and EDNS. What `out` held is gone; at most 282 octets are written.
pub fn write(question: &Question<'_>, random: &[u8; RANDOM], out: &mut Vec<u8>) {
    let checking = if question.checking_disabled {
        flag::CD
    } else {
        0
    };
    let flags = flag::RD | flag::AD | checking;
    out.clear();
    out.extend_from_slice(&random[..2]);
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 1]);
    let start = out.len();
    out.extend_from_slice(question.name);
    // Length octets are at most 63, so none is a letter.
    for (at, octet) in out[start..].iter_mut().enumerate() {
        let is_upper = random[2 + at / 8 % 32] >> (at % 8) & 1;
        *octet ^= if octet.is_ascii_lowercase() {
            is_upper << 5
        } else {
            0
        };
    }
    out.extend_from_slice(&question.rtype.to_be_bytes());
    out.extend_from_slice(&class::IN.to_be_bytes());
    let ttl = if question.dnssec_ok { edns::DO_BIT } else { 0 };
    out.push(0);
    out.extend_from_slice(&rtype::OPT.to_be_bytes());
    out.extend_from_slice(&UDP_PAYLOAD.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
}

/// The question section of a query that [`write()`] wrote.
pub fn question_of(query: &[u8]) -> &[u8] {
    // The OPT record has eleven octets.
    &query[HEADER..query.len() - 11]
}

/// How a message fits to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is its answer.
    Answer,
    /// It would be, but for the case of its letters.
    OtherCase,
    /// It is none, or another question's.
    Foreign,
}

/// Whether `message` is a response to the question section `asked`. The ID is the caller's to compare.
pub fn fit(message: &[u8], asked: &[u8]) -> Fit {
    let is_response = read_u16(message, 2).is_some_and(|flags| flags & flag::QR != 0);
    let question = message.get(HEADER..HEADER + asked.len());
    match question {
        Some(_) if !is_response || read_u16(message, 4) != Some(1) => Fit::Foreign,
        Some(question) if question == asked => Fit::Answer,
        // Type and class are no letters that differ by case alone: compared as they are.
        Some(question)
            if question.eq_ignore_ascii_case(asked)
                && question[asked.len() - 4..] == asked[asked.len() - 4..] =>
        {
            Fit::OtherCase
        }
        _ => Fit::Foreign,
    }
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
    fn a_query_is_read_by_another_implementation_and_has_the_case_that_chance_says() {
        let mut random = [0; RANDOM];
        random[..4].copy_from_slice(&[0xAB, 0xCD, 0b0000_0110, 0b0000_0010]);
        let mut out = vec![9; 3];
        write(&ASKED, &random, &mut out);
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
    fn only_a_response_with_the_same_question_and_case_is_the_answer() {
        let mut query = Vec::new();
        write(&ASKED, &[0xFF; RANDOM], &mut query);
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
}
