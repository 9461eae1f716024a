//! The names of a made-up Internet: what the servers of a test answer about each name, and what models expect of them.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, MX, PTR, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::support::upstream::{Asked, Upstream, answer, name, soa};

/// The types that are asked for.
pub(super) const TYPES: [RecordType; 8] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::TXT,
    RecordType::HTTPS,
    RecordType::PTR,
    RecordType::MX,
    RecordType::SRV,
    RecordType::CNAME,
];

/// A query for a name and a type.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) name: String,
    pub(super) rtype: RecordType,
}

/// An answer, as far as two programs must agree: the response code, and the records without their TTLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) records: Vec<String>,
}

impl Answer {
    /// Records of one owner.
    pub(super) fn of(owner: &str, rtype: RecordType, data: &[&str]) -> Self {
        let records = data.iter().map(|data| format!("{owner} {rtype} {data}"));
        let mut records: Vec<_> = records.collect();
        records.sort();
        Self {
            code: ResponseCode::NoError,
            records,
        }
    }

    /// An answer without records.
    pub(super) fn empty(code: ResponseCode) -> Self {
        Self {
            code,
            records: Vec::new(),
        }
    }

    /// The addresses that a blocked name gets; NODATA for other types.
    pub(super) fn sinkhole(question: &Question, addresses: [&str; 2]) -> Self {
        let Question { name, rtype } = question;
        match rtype {
            RecordType::A => Self::of(name, *rtype, &addresses[..1]),
            RecordType::AAAA => Self::of(name, *rtype, &addresses[1..]),
            _ => Self::empty(ResponseCode::NoError),
        }
    }

    /// The records of the asked type among those of a name: pairs of types and data. NODATA if there are none.
    pub(super) fn local(question: &Question, records: &[(RecordType, &str)]) -> Self {
        let data = records.iter().filter(|(rtype, _)| *rtype == question.rtype);
        let data: Vec<_> = data.map(|(_, data)| *data).collect();
        Self::of(&question.name, question.rtype, &data)
    }

    /// Whether it is NODATA, also for the last name of a chain.
    pub(super) fn is_nodata(&self) -> bool {
        let mut records = self.records.iter();
        self.code == ResponseCode::NoError && records.all(|record| record.contains(" CNAME "))
    }

    pub(super) fn from_message(message: &Message) -> Self {
        let records = message.answers.iter().map(|record| {
            let owner = record.name.to_lowercase().to_string();
            let owner = owner.trim_end_matches('.');
            format!("{owner} {} {}", record.record_type(), record.data)
        });
        let mut records: Vec<_> = records.collect();
        records.sort();
        Self {
            code: message.metadata.response_code,
            records,
        }
    }
}

/// A server of the Internet. Each site gives names other addresses.
#[derive(Clone, Copy)]
pub(super) struct Site(pub(super) u8);

impl Site {
    /// What is true about a name.
    pub(super) fn answer(self, question: &Question) -> Answer {
        let (code, data) = self.records(&question.name, question.rtype);
        let data: Vec<_> = data.iter().map(ToString::to_string).collect();
        let data: Vec<_> = data.iter().map(String::as_str).collect();
        Answer {
            code,
            ..Answer::of(&question.name, question.rtype, &data)
        }
    }

    fn records(self, name: &str, rtype: RecordType) -> (ResponseCode, Vec<RData>) {
        if name.split('.').any(|label| label.starts_with("gone")) {
            return (ResponseCode::NXDomain, Vec::new());
        }
        let sum = name
            .bytes()
            .fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let host = |label: &str| Name::from_ascii(format!("{label}.example.")).expect("a name");
        let data = match rtype {
            RecordType::A => vec![RData::A(A::new(198, 51, self.0, sum))],
            RecordType::AAAA if sum % 2 == 0 => {
                let site = self.0.into();
                vec![RData::AAAA(AAAA::new(
                    0x2001,
                    0xdb8,
                    site,
                    0,
                    0,
                    0,
                    0,
                    sum.into(),
                ))]
            }
            RecordType::TXT => vec![RData::TXT(TXT::new(vec![format!("{sum} of {}", self.0)]))],
            RecordType::MX => vec![RData::MX(MX::new(10, host("mail")))],
            RecordType::PTR => vec![RData::PTR(PTR(host("pointer")))],
            _ => Vec::new(),
        };
        (ResponseCode::NoError, data)
    }

    /// Starts the server.
    pub(super) fn start(self) -> Upstream {
        Upstream::start(move |asked| Some(self.message(asked)))
    }

    fn message(self, asked: &Asked) -> Message {
        let question = &asked.message.queries[0];
        let name = name(asked);
        let (code, data) = self.records(&name, question.query_type());
        let mut message = answer(asked, code);
        if data.is_empty() {
            // A zone cut at the second label from the end makes every negative answer provable.
            let zone = name.rsplit('.').take(2).collect::<Vec<_>>();
            let zone = zone.into_iter().rev().collect::<Vec<_>>().join(".");
            message.authorities.push(soa(&format!("{zone}."), 60));
        }
        let records = data
            .into_iter()
            .map(|data| Record::from_rdata(question.name().clone(), 300, data));
        message.answers.extend(records);
        message
    }
}

/// A name and all names above it.
pub(super) fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| {
        name.split_once('.').map(|(_, above)| above)
    })
}

/// Whether a name is this one or below it.
pub(super) fn is_in(name: &str, zone: &str) -> bool {
    ancestors(name).any(|above| above == zone)
}

/// The number in a name that consists of a word, a number, and the end of a name.
pub(super) fn number<'n>(name: &'n str, word: &str, end: &str) -> Option<&'n str> {
    let number = name.strip_prefix(word)?.strip_suffix(end)?;
    number.parse::<u16>().is_ok().then_some(number)
}

/// Whether a name, or one above it, consists of a word, a number, and the end of a name.
pub(super) fn is_in_numbered(name: &str, word: &str, end: &str) -> bool {
    ancestors(name).any(|above| number(above, word, end).is_some())
}

/// Queries of all types for each name, for two names below it, and for the one above it.
pub(super) fn questions<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<Question> {
    let mut all = std::collections::BTreeSet::new();
    for name in names {
        all.extend([
            name.to_owned(),
            format!("www.{name}"),
            format!("a.gone.{name}"),
        ]);
        all.extend(name.split_once('.').map(|(_, above)| above.to_owned()));
    }
    let of_all_types = |name: String| {
        TYPES.map(|rtype| Question {
            name: name.clone(),
            rtype,
        })
    };
    all.into_iter().flat_map(of_all_types).collect()
}
