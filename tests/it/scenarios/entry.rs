//! A message of a scenario: a query, an answer of upstream, or an expected answer.

use std::collections::BTreeSet;
use std::fmt;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};

use super::lines::Lines;
use super::records::{name, record};

/// A message, and how it is compared.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) matches: BTreeSet<Match>,
    /// The code of the Extended DNS Error, if it must be equal.
    pub(super) ede: Option<u16>,
    /// The flags of the header, and DO.
    pub(super) flags: BTreeSet<Flag>,
    /// NOERROR unless the entry has another.
    pub(super) rcode: ResponseCode,
    pub(super) question: Query,
    pub(super) answer: Vec<Record>,
    /// `None` if the entry has no such section.
    pub(super) authority: Option<Vec<Record>>,
    /// `None` if the entry has no such section.
    pub(super) additional: Option<Vec<Record>>,
}

/// What must be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    Opcode,
    Qtype,
    Qname,
    /// The queried name, or a name above it.
    Subdomain,
    Rcode,
    Flags,
    Answer,
    Authority,
    Additional,
    Ttl,
    /// For a query: it is sent by TCP.
    Tcp,
    Udp,
}

const ALL: [Match; 8] = [
    Match::Opcode,
    Match::Qtype,
    Match::Qname,
    Match::Rcode,
    Match::Flags,
    Match::Answer,
    Match::Authority,
    Match::Additional,
];

/// The words after MATCH.
const MATCHES: &[(&str, &[Match])] = &[
    ("all", &ALL),
    ("opcode", &[Match::Opcode]),
    ("qtype", &[Match::Qtype]),
    ("qname", &[Match::Qname]),
    ("question", &[Match::Qtype, Match::Qname]),
    ("subdomain", &[Match::Subdomain]),
    ("rcode", &[Match::Rcode]),
    ("flags", &[Match::Flags]),
    ("answer", &[Match::Answer]),
    ("authority", &[Match::Authority]),
    ("additional", &[Match::Additional]),
    ("ttl", &[Match::Ttl]),
    ("TCP", &[Match::Tcp]),
    ("UDP", &[Match::Udp]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flag {
    Qr,
    Aa,
    Tc,
    Rd,
    Ra,
    Ad,
    Cd,
    Do,
}

const FLAGS: &[(&str, Flag)] = &[
    ("QR", Flag::Qr),
    ("AA", Flag::Aa),
    ("TC", Flag::Tc),
    ("RD", Flag::Rd),
    ("RA", Flag::Ra),
    ("AD", Flag::Ad),
    ("CD", Flag::Cd),
    ("DO", Flag::Do),
];

const RCODES: &[(&str, ResponseCode)] = &[
    ("NOERROR", ResponseCode::NoError),
    ("FORMERR", ResponseCode::FormErr),
    ("SERVFAIL", ResponseCode::ServFail),
    ("NXDOMAIN", ResponseCode::NXDomain),
    ("NOTIMP", ResponseCode::NotImp),
    ("REFUSED", ResponseCode::Refused),
    ("YXDOMAIN", ResponseCode::YXDomain),
];

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = FLAGS.iter().find(|(_, flag)| flag == self);
        f.write_str(word.map_or("", |(word, _)| word))
    }
}

impl Entry {
    /// Reads an entry whose first line, ENTRY_BEGIN, has been read.
    pub(super) fn read(lines: &mut Lines<'_>) -> Result<Self, String> {
        let mut entry = Self::empty();
        let mut section = "";
        let mut has_question = false;
        loop {
            let line = lines.next(&[';'])?;
            let (word, rest) = line.split();
            let read = match word {
                "ENTRY_END" if has_question => return Ok(entry),
                "ENTRY_END" => Err("the entry has no question".to_owned()),
                "MATCH" => entry.set_matches(&rest),
                // The ID and the question of an answer are always those of its query.
                "ADJUST" => known(&rest, &["copy_id", "copy_query"]),
                "REPLY" => entry.set_reply(&rest),
                "SECTION" => {
                    section = rest.first().copied().unwrap_or_default();
                    entry.open(section)
                }
                _ if section == "QUESTION" => {
                    has_question = true;
                    entry.set_question(word, &rest)
                }
                _ => entry.add(section, line.text),
            };
            read.map_err(|why| line.error(why))?;
        }
    }

    fn empty() -> Self {
        Self {
            matches: BTreeSet::new(),
            ede: None,
            flags: BTreeSet::new(),
            rcode: ResponseCode::NoError,
            question: Query::query(Name::root(), RecordType::ANY),
            answer: Vec::new(),
            authority: None,
            additional: None,
        }
    }

    pub(super) fn has(&self, matching: Match) -> bool {
        self.matches.contains(&matching)
    }

    /// Whether this is an answer to a question.
    pub(super) fn answers(&self, question: &Query) -> bool {
        let (own, asked) = (self.question.name(), question.name());
        (!self.has(Match::Qname) || own == asked)
            && (!self.has(Match::Subdomain) || own.zone_of(asked))
            && (!self.has(Match::Qtype) || self.question.query_type() == question.query_type())
    }

    /// The query.
    pub(super) fn query(&self) -> Message {
        let mut message = Message::query();
        let set = |flag| self.flags.contains(&flag);
        message.metadata.recursion_desired = set(Flag::Rd);
        message.metadata.checking_disabled = set(Flag::Cd);
        message.metadata.authentic_data = set(Flag::Ad);
        message.queries.push(self.question.clone());
        if set(Flag::Do) {
            let mut edns = hickory_proto::op::Edns::new();
            edns.set_max_payload(1232).set_dnssec_ok(true);
            message.edns = Some(edns);
        }
        message
    }

    fn set_matches(&mut self, words: &[&str]) -> Result<(), String> {
        for word in words {
            if let Some(code) = word.strip_prefix("ede=") {
                let code = code.parse().map_err(|error| format!("{error}: {word}"))?;
                self.ede = Some(code);
                continue;
            }
            let known = MATCHES.iter().find(|(known, _)| known == word);
            let (_, matches) = known.ok_or_else(|| format!("unknown word {word}"))?;
            self.matches.extend(*matches);
        }
        Ok(())
    }

    fn set_reply(&mut self, words: &[&str]) -> Result<(), String> {
        for word in words {
            let flag = FLAGS.iter().find(|(known, _)| known == word);
            let rcode = RCODES.iter().find(|(known, _)| known == word);
            match (flag, rcode) {
                (Some((_, flag)), _) => drop(self.flags.insert(*flag)),
                (_, Some((_, rcode))) => self.rcode = *rcode,
                (None, None) => return Err(format!("unknown word {word}")),
            }
        }
        Ok(())
    }

    fn set_question(&mut self, owner: &str, rest: &[&str]) -> Result<(), String> {
        let [class, rtype] = rest else {
            return Err("a question has a name, a class and a type".to_owned());
        };
        known(&[class], &["IN"])?;
        self.question = Query::query(name(owner)?, self::rtype(rtype)?);
        Ok(())
    }

    /// Begins a section, which may stay empty.
    fn open(&mut self, section: &str) -> Result<(), String> {
        match section {
            "AUTHORITY" => self.authority = Some(Vec::new()),
            "ADDITIONAL" => self.additional = Some(Vec::new()),
            _ => known(&[section], &["QUESTION", "ANSWER"])?,
        }
        Ok(())
    }

    fn add(&mut self, section: &str, text: &str) -> Result<(), String> {
        let record = record(text, &Name::root())?;
        match section {
            "ANSWER" => self.answer.push(record),
            "AUTHORITY" => self.authority.get_or_insert_default().push(record),
            "ADDITIONAL" => self.additional.get_or_insert_default().push(record),
            _ => return Err("unknown word".to_owned()),
        }
        Ok(())
    }
}

/// The type of a question: a name that hickory knows or leaves out, or TYPE and a number (RFC 3597).
fn rtype(text: &str) -> Result<RecordType, String> {
    let number = text.strip_prefix("TYPE").map(str::parse::<u16>);
    match (text, number) {
        ("IXFR", _) => Ok(RecordType::IXFR),
        (_, Some(Ok(number))) => Ok(RecordType::from(number)),
        _ => text.parse().map_err(|error| format!("{error}")),
    }
}

/// Refuses words that are not known.
fn known(words: &[&str], known: &[&str]) -> Result<(), String> {
    match words.iter().find(|word| !known.contains(word)) {
        Some(word) => Err(format!("unknown word {word}")),
        None => Ok(()),
    }
}
