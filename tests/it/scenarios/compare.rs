//! Compares an answer with the expected one.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::{Record, RecordType};

use super::entry::{Entry, Flag, Match};
use crate::support::client::errors;

/// What differs, as both messages with marks before the lines; `None` if the answer is as expected.
///
/// AA is not compared. The authority and additional sections are compared if the entry has them,
/// as Unbound leaves them out by default.
pub(super) fn difference(expected: &Entry, answer: &Message) -> Option<String> {
    let mut report = Report::default();
    let question = answer.queries.first();
    let asked = question.map(|question| {
        let name = question.name().to_lowercase();
        (name, question.query_type())
    });
    let own = &expected.question;
    report.compare(
        expected.has(Match::Opcode),
        "opcode",
        OpCode::Query,
        answer.metadata.op_code,
    );
    report.compare(
        expected.has(Match::Rcode),
        "rcode",
        expected.rcode,
        answer.metadata.response_code,
    );
    report.compare(
        expected.has(Match::Flags),
        "flags",
        words(expected.flags.clone()),
        words(flags(answer)),
    );
    report.compare(
        expected.has(Match::Qname),
        "qname",
        own.name().to_lowercase().to_string(),
        asked
            .as_ref()
            .map_or(String::new(), |(name, _)| name.to_string()),
    );
    report.compare(
        expected.has(Match::Qtype),
        "qtype",
        own.query_type(),
        asked.map_or(RecordType::ZERO, |(_, rtype)| rtype),
    );
    let codes = errors(answer).into_iter();
    let codes: Vec<String> = codes.map(|(code, _)| code.to_string()).collect();
    if let Some(code) = expected.ede {
        report.compare(true, "ede", code.to_string(), codes.join(" "));
    }
    let with_ttl = expected.has(Match::Ttl);
    if expected.has(Match::Answer) {
        report.compare_records("answer", &expected.answer, &answer.answers, with_ttl);
    }
    if let (true, Some(records)) = (expected.has(Match::Authority), &expected.authority) {
        report.compare_records("authority", records, &answer.authorities, with_ttl);
    }
    if let (true, Some(records)) = (expected.has(Match::Additional), &expected.additional) {
        report.compare_records("additional", records, &answer.additionals, with_ttl);
    }
    report.differs.then_some(report.text)
}

#[derive(Default)]
struct Report {
    text: String,
    differs: bool,
}

impl Report {
    fn compare<T: PartialEq + fmt::Display>(&mut self, counts: bool, what: &str, own: T, got: T) {
        if own == got {
            self.line(' ', what, &own);
            return;
        }
        self.differs |= counts;
        let [minus, plus] = if counts { ['-', '+'] } else { [' ', ' '] };
        self.line(minus, what, &own);
        self.line(plus, what, &got);
    }

    /// Compares records as a set.
    fn compare_records(&mut self, what: &str, own: &[Record], got: &[Record], with_ttl: bool) {
        let is_equal = |own: &Record, got: &Record| {
            own.name == got.name && own.data == got.data && (!with_ttl || own.ttl == got.ttl)
        };
        let show = |record: &Record| match with_ttl {
            true => format!(
                "{} {} {} {}",
                record.name,
                record.ttl,
                record.record_type(),
                record.data
            ),
            false => format!("{} {} {}", record.name, record.record_type(), record.data),
        };
        let mut rest: Vec<&Record> = got.iter().collect();
        for record in own {
            let at = rest.iter().position(|got| is_equal(record, got));
            let mark = match at {
                Some(at) => {
                    rest.remove(at);
                    ' '
                }
                None => '-',
            };
            self.differs |= mark == '-';
            self.line(mark, what, show(record));
        }
        for record in rest {
            self.differs = true;
            self.line('+', what, show(record));
        }
    }

    fn line(&mut self, mark: char, what: &str, value: impl fmt::Display) {
        let _ = writeln!(self.text, "  {mark} {what:10} {value}");
    }
}

fn flags(message: &Message) -> BTreeSet<Flag> {
    let header = &message.metadata;
    let with_do = message.edns.as_ref();
    let with_do = with_do.is_some_and(|edns| edns.flags().dnssec_ok);
    let flags = [
        (header.message_type == MessageType::Response, Flag::Qr),
        (header.truncation, Flag::Tc),
        (header.recursion_desired, Flag::Rd),
        (header.recursion_available, Flag::Ra),
        (header.authentic_data, Flag::Ad),
        (header.checking_disabled, Flag::Cd),
        (with_do, Flag::Do),
    ];
    let set = flags.into_iter().filter(|(is_set, _)| *is_set);
    set.map(|(_, flag)| flag).collect()
}

/// The flags that are compared.
fn words(mut flags: BTreeSet<Flag>) -> String {
    flags.remove(&Flag::Aa);
    let words: Vec<String> = flags.iter().map(Flag::to_string).collect();
    words.join(" ")
}
