//! Parses the master file of a zone that is answered locally (RFC 1035, section 5).

use std::collections::HashMap;

use super::entries::{Entries, Fault};
use crate::config::shown::counted;
use crate::control::list_file::parse::bad::{Bad, BadEntry, BadLine};
use crate::control::list_file::parse::zone_text::{Line, ZoneText};
use crate::policy::record::{self, LocalRecord, RecordError};
use crate::policy::rpz::ZoneRecord;
use crate::wire::name::Name;
use crate::wire::{class, rtype};

/// The problems of a file that are reported one by one.
const MOST_REPORTED: usize = 10;
/// The data of the shortest SOA record: two names and five numbers.
const SOA_BYTES: usize = 22;

/// The records of a zone, by owner. The apex has one SOA record.
pub(crate) type ZoneRecords = Vec<(Name, Vec<LocalRecord>)>;

/// Why a record can't be in a zone that is answered locally.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum LocalProblem {
    #[error("the owner is not in the zone: move the record to the file of its zone")]
    Outside,
    #[error("the record is not of class IN: remove it")]
    Class,
    #[error(
        "the record delegates names, and all names of this zone are answered from this file: remove it, and use [[forward]] for a \
         zone that other servers answer"
    )]
    Delegation,
    #[error("zones are answered without signatures: remove the DNSSEC records")]
    Signature,
    #[error("the zone has its SOA record already, or this is not the zone's name: remove it")]
    SecondSoa,
    #[error(transparent)]
    Record(#[from] RecordError),
}

struct ZoneLines<'z> {
    apex: &'z Name,
    text: ZoneText,
    owners: HashMap<Box<[u8]>, Owner>,
    has_soa: bool,
    problems: Vec<String>,
    more: usize,
}

#[derive(Default)]
struct Owner {
    records: Vec<LocalRecord>,
    /// The line of its last record.
    line: u32,
}

/// The records of the zone at `apex`.
///
/// # Errors
/// The problems of the file, a phrase each that begins with the line.
pub(crate) fn read(bytes: &[u8], apex: &Name) -> Result<ZoneRecords, Vec<String>> {
    let mut lines = ZoneLines {
        apex,
        text: ZoneText::new(Some(apex)),
        owners: HashMap::new(),
        has_soa: false,
        problems: Vec::new(),
        more: 0,
    };
    let mut entries = Entries::default();
    entries.feed(bytes, |number, entry| lines.entry(number, entry));
    entries.finish(|number, entry| lines.entry(number, entry));
    lines.finish()
}

impl ZoneLines<'_> {
    fn entry(&mut self, number: u32, entry: Result<&[u8], Fault>) {
        let problem = match entry.map_err(|fault| Bad::from(BadEntry::from(fault))) {
            Ok(text) => match self.text.parse(text) {
                Ok(Line::Directive) => return,
                Ok(Line::Record(record)) => {
                    let added = add(
                        self.apex,
                        &mut self.owners,
                        &mut self.has_soa,
                        number,
                        record,
                    );
                    match added {
                        Ok(()) => return,
                        Err(problem) => problem.to_string(),
                    }
                }
                Err(problem) => problem.to_string(),
            },
            Err(problem) => problem.to_string(),
        };
        // An entry that is not complete has no text.
        let shown = entry.map_or_else(|_| String::new(), |text| BadLine::excerpt(text) + ": ");
        self.report(number, &(shown + &problem));
    }

    fn report(&mut self, line: u32, problem: &str) {
        match self.problems.len() < MOST_REPORTED {
            true => self.problems.push(format!("{line}: {problem}")),
            false => self.more += 1,
        }
    }

    fn finish(mut self) -> Result<ZoneRecords, Vec<String>> {
        let mut zone = Vec::new();
        for (owner, Owner { records, line }) in std::mem::take(&mut self.owners) {
            let (owner, _) = Name::parse(&owner, 0).expect("the key is a name");
            let data = records.iter().filter(|record| record.rtype != rtype::SOA);
            let data: Vec<_> = data.cloned().collect();
            match record::check(&data) {
                Ok(()) => zone.push((owner, records)),
                Err(error) => self.report(line, &format!("{owner}: {error}")),
            }
        }
        if !self.has_soa && self.problems.is_empty() {
            let apex = self.apex;
            self.report(
                1,
                &format!("the zone has no SOA record: add that of {apex}"),
            );
        }
        if self.more > 0 {
            let more = counted(self.more, "more problem", "more problems");
            self.problems.push(format!("{more}: correct these first"));
        }
        match self.problems.is_empty() {
            true => Ok(zone),
            false => Err(self.problems),
        }
    }
}

fn add(
    apex: &Name,
    owners: &mut HashMap<Box<[u8]>, Owner>,
    has_soa: &mut bool,
    line: u32,
    record: ZoneRecord<'_>,
) -> Result<(), LocalProblem> {
    let (name, rtype) = (record.owner, record.rtype);
    let labels = apex.label_count();
    if name.label_count() < labels || name.ancestor(labels) != apex.wire() {
        return Err(LocalProblem::Outside);
    }
    let is_apex = name.label_count() == labels;
    let local = LocalRecord {
        rtype,
        ttl_secs: Some(record.ttl_secs),
        data: record.data.into(),
    };
    match rtype {
        _ if record.class != class::IN => return Err(LocalProblem::Class),
        rtype::DNAME => return Err(LocalProblem::Delegation),
        rtype::NS if !is_apex => return Err(LocalProblem::Delegation),
        rtype::DS => return Err(LocalProblem::Signature),
        _ if rtype::is_signature(rtype) => return Err(LocalProblem::Signature),
        rtype::SOA if *has_soa || !is_apex || record.data.len() < SOA_BYTES => {
            return Err(LocalProblem::SecondSoa);
        }
        rtype::SOA => *has_soa = true,
        _ => record::check(std::slice::from_ref(&local))?,
    }
    let owner = owners.entry(name.wire().into()).or_default();
    owner.records.push(local);
    owner.line = line;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apex() -> Name {
        Name::from_text("home.example").expect("a name")
    }

    const HEAD: &str = "$TTL 60\n@ SOA ns nobody 1 60 60 60 30\n NS ns\n";

    fn problems(more: &str) -> Vec<String> {
        read(format!("{HEAD}{more}\n").as_bytes(), &apex()).expect_err("problems")
    }

    #[test]
    fn a_zone_has_the_records_of_its_file_by_owner() {
        let text = format!("{HEAD}a A 192.0.2.1\n A 192.0.2.2\n* TXT x\nb CNAME a\n");
        let zone = read(text.as_bytes(), &apex()).expect("valid");
        let mut zone: Vec<_> = zone
            .iter()
            .map(|(owner, records)| (owner.to_string(), records.len()))
            .collect();
        zone.sort();
        let expected = [
            ("*.home.example", 1),
            ("a.home.example", 2),
            ("b.home.example", 1),
            ("home.example", 2),
        ];
        assert_eq!(
            zone,
            expected.map(|(owner, count)| (owner.to_owned(), count))
        );
    }

    #[test]
    fn what_a_local_zone_can_not_have_is_refused_with_its_line() {
        for (line, part) in [
            ("sub NS ns", "4: sub NS ns: the record delegates names"),
            (
                "sub DNAME x.",
                "4: sub DNAME x.: the record delegates names",
            ),
            (
                "a.other. A 192.0.2.1",
                "4: a.other. A 192.0.2.1: the owner is not in the zone",
            ),
            (
                "a CH A 192.0.2.1",
                "4: a CH A 192.0.2.1: the record is not of class IN",
            ),
            ("@ SOA ns nobody 1 60 60 60 30", "4: @ SOA"),
            ("a SOA ns nobody 1 60 60 60 30", "4: a SOA"),
            ("a DS 1 8 2 00", "remove the DNSSEC records"),
            (
                "a A 192.0.2.256",
                "4: a A 192.0.2.256: the data can't be read",
            ),
            (
                "a CNAME b\na A 192.0.2.1",
                "5: a.home.example: it has a CNAME record and other records",
            ),
            (
                "a TXT \"x",
                "4: a quote or a parenthesis has no counterpart",
            ),
        ] {
            let found = problems(line);
            assert_eq!(found.len(), 1, "{line}: {found:?}");
            assert!(found[0].contains(part), "{line}: {found:?}");
        }
    }

    #[test]
    fn a_zone_without_soa_record_is_refused() {
        let found = read(b"a A 192.0.2.1\n", &apex()).expect_err("refused");
        assert_eq!(
            found,
            ["1: the zone has no SOA record: add that of home.example"]
        );
    }

    #[test]
    fn the_first_of_many_problems_are_reported_and_the_rest_counted() {
        let found = problems(&"x\n".repeat(50));
        assert_eq!(found.len(), MOST_REPORTED + 1);
        assert_eq!(
            found[MOST_REPORTED],
            "40 more problems: correct these first"
        );
    }
}
