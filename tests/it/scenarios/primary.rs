//! A primary server of a policy zone. It first has the zone's file, and then, once time has passed,
//! what the ranges of the scenario say: a feed has no file, so it gets its first state by a transfer.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::records::{name, record};
use super::recursor::Recursor;

/// The zone's SOA record if its file has none. A server that has this serial asks for another one
/// after ten seconds, and may get the whole zone as an answer to IXFR.
const SOA: &str = "@ SOA ns.invalid. host.invalid. 0 10 10 86400 3600";

pub(super) struct Primary {
    apex: Name,
    addresses: Vec<IpAddr>,
    /// The first state, without the SOA record at its end.
    file: Vec<Record>,
    is_released: AtomicBool,
}

impl Primary {
    pub(super) fn new(
        apex: Name,
        addresses: Vec<IpAddr>,
        mut file: Vec<Record>,
    ) -> Result<Self, String> {
        let soa = file.iter().position(is_soa);
        let soa = match soa {
            Some(at) => file.remove(at),
            None => record(SOA, &apex)?,
        };
        file.insert(0, soa);
        Ok(Self {
            apex,
            addresses,
            file,
            is_released: AtomicBool::new(false),
        })
    }

    /// Serves what the ranges say from now on.
    pub(super) fn release(&self) {
        self.is_released.store(true, Ordering::Relaxed);
    }

    /// The name for which the zone has a TXT record with its serial: it shows from outside which
    /// state is in force.
    pub(super) fn probe() -> Name {
        name("serial.scenario.").expect("a name")
    }

    /// The serial.
    pub(super) fn serial(&self, step: u32, recursor: &Recursor) -> Option<u32> {
        self.soa(step, recursor).as_ref().and_then(serial)
    }

    /// The records of an answer; `None` if the query is not about the zone.
    pub(super) fn answer(
        &self,
        step: u32,
        query: &Message,
        recursor: &Recursor,
    ) -> Option<Vec<Record>> {
        let question = query.queries.first()?;
        if *question.name() != self.apex {
            return None;
        }
        match question.query_type() {
            RecordType::SOA => Some(vec![self.soa(step, recursor)?]),
            RecordType::AXFR => self.whole(step, recursor),
            RecordType::IXFR => match query.authorities.iter().find_map(serial) {
                Some(known) => self.changes(known, step, recursor),
                None => self.whole(step, recursor),
            },
            _ => None,
        }
    }

    fn soa(&self, step: u32, recursor: &Recursor) -> Option<Record> {
        match self.is_released.load(Ordering::Relaxed) {
            false => self.file.first().cloned(),
            true => self.range(step, RecordType::SOA, recursor)?.pop(),
        }
    }

    fn whole(&self, step: u32, recursor: &Recursor) -> Option<Vec<Record>> {
        let mut records = match self.is_released.load(Ordering::Relaxed) {
            false => self.file.clone(),
            true => {
                let mut records = self.range(step, RecordType::AXFR, recursor)?;
                records.pop();
                records
            }
        };
        let soa = records.first()?.clone();
        records.push(self.mark(serial(&soa)?));
        records.push(soa);
        Some(records)
    }

    /// The changes since a serial, or the whole zone (RFC 1995, section 4).
    fn changes(&self, known: u32, step: u32, recursor: &Recursor) -> Option<Vec<Record>> {
        let soa = self.soa(step, recursor)?;
        let current = serial(&soa)?;
        if current == known {
            return Some(vec![soa]);
        }
        let changes = self.range(step, RecordType::IXFR, recursor);
        let from = changes.iter().flatten().nth(1).and_then(serial);
        match (changes, from) {
            (Some(mut records), Some(serial)) if serial == known => {
                records.insert(2, self.mark(known));
                records.insert(records.len() - 1, self.mark(current));
                Some(records)
            }
            _ => self.whole(step, recursor),
        }
    }

    fn range(&self, step: u32, rtype: RecordType, recursor: &Recursor) -> Option<Vec<Record>> {
        let question = Query::query(self.apex.clone(), rtype);
        let entry = recursor.entry(step, &self.addresses, &question)?;
        Some(entry.answer.clone())
    }

    fn mark(&self, serial: u32) -> Record {
        let owner = Self::probe().append_domain(&self.apex).expect("short");
        let data = TXT::new(vec![serial.to_string()]);
        Record::from_rdata(owner, 3600, RData::TXT(data))
    }
}

fn is_soa(record: &Record) -> bool {
    record.record_type() == RecordType::SOA
}

fn serial(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::configuration::{primaries, servers};
    use crate::scenarios::parse::Scenario;

    const TRANSFERS: &str = "\
rpz:
	name: \"rpz.example.\"
	primary: 192.0.2.1
	zonefile:
TEMPFILE_NAME file
TEMPFILE_CONTENTS file
a CNAME .
@ SOA ns. host. 1 2 3 4 5
TEMPFILE_END
CONFIG_END
SCENARIO_BEGIN
RANGE_BEGIN 0 9
ADDRESS 192.0.2.1
ENTRY_BEGIN
MATCH qname qtype
SECTION QUESTION
rpz.example. IN SOA
SECTION ANSWER
rpz.example. SOA ns. host. 3 2 3 4 5
ENTRY_END
ENTRY_BEGIN
MATCH qname qtype
SECTION QUESTION
rpz.example. IN IXFR
SECTION ANSWER
rpz.example. SOA ns. host. 3 2 3 4 5
rpz.example. SOA ns. host. 1 2 3 4 5
a.rpz.example. CNAME .
rpz.example. SOA ns. host. 3 2 3 4 5
b.rpz.example. CNAME .
rpz.example. SOA ns. host. 3 2 3 4 5
ENTRY_END
ENTRY_BEGIN
MATCH qname qtype
SECTION QUESTION
rpz.example. IN AXFR
SECTION ANSWER
rpz.example. SOA ns. host. 3 2 3 4 5
b.rpz.example. CNAME .
rpz.example. SOA ns. host. 3 2 3 4 5
ENTRY_END
RANGE_END
SCENARIO_END
";

    /// The answer to a query, as the serials and the owners of records.
    fn transfer(
        (primary, recursor): (&Primary, &Recursor),
        rtype: RecordType,
        known: Option<u32>,
    ) -> Vec<String> {
        let mut query = Message::query();
        query
            .queries
            .push(Query::query(primary.apex.clone(), rtype));
        let soa = |serial| record(&format!("@ SOA ns. host. {serial} 2 3 4 5"), &primary.apex);
        query
            .authorities
            .extend(known.map(|serial| soa(serial).expect("a record")));
        let records = primary.answer(0, &query, recursor).expect("an answer");
        let show = |record: &Record| match &record.data {
            RData::SOA(soa) => soa.serial.to_string(),
            RData::TXT(text) => format!("{} {text}", record.name),
            _ => record.name.to_string(),
        };
        records.iter().map(show).collect()
    }

    #[test]
    fn a_primary_has_the_file_and_then_the_ranges() {
        use RecordType::{AXFR, IXFR, SOA};
        let scenario = Scenario::parse(TRANSFERS).expect("a scenario");
        let recursor = Recursor::new(&scenario, servers(&scenario).expect("servers"));
        let primary = primaries(&scenario).expect("primaries").remove(0);
        let mark = |serial| format!("serial.scenario.rpz.example. {serial}");
        let [one, three] = [mark(1), mark(3)];
        let [a, b] = ["a.rpz.example.", "b.rpz.example."];
        let both = (&primary, &recursor);
        assert_eq!(transfer(both, SOA, None), ["1"]);
        assert_eq!(transfer(both, AXFR, None), ["1", a, &one, "1"]);
        assert_eq!(transfer(both, IXFR, Some(1)), ["1"]);
        assert_eq!(primary.serial(0, &recursor), Some(1));
        primary.release();
        assert_eq!(transfer(both, SOA, None), ["3"]);
        assert_eq!(
            transfer(both, IXFR, Some(1)),
            ["3", "1", &one, a, "3", b, &three, "3"]
        );
        assert_eq!(transfer(both, IXFR, Some(3)), ["3"]);
        assert_eq!(transfer(both, IXFR, Some(2)), ["3", b, &three, "3"]);
        assert_eq!(transfer(both, AXFR, None), ["3", b, &three, "3"]);
        assert_eq!(primary.serial(0, &recursor), Some(3));
        assert_eq!(primary.serial(10, &recursor), None);
    }
}
