//! Parses the `rpz` format: the master file of a response policy zone (RFC 1035, section 5; RFC 2308, section 4).

mod entries;
pub(crate) mod local;

use std::ops::RangeInclusive;

use self::entries::{Entries, Fault};
use crate::control::list_file::parse::bad::{Bad, BadEntry};
use crate::control::list_file::parse::rule::ParsedRule;
use crate::control::list_file::parse::tally::{Tally, ZoneFacts};
use crate::control::list_file::parse::zone_text::{Line, ZoneText};
use crate::policy::rpz::{RecordProblem, ZoneReader, ZoneRecord, ZoneRule};
use crate::wire::name::Name;
use crate::wire::rtype;

/// Parses a zone file from pieces, which may be cut anywhere.
pub(super) struct ZoneFile {
    entries: Entries,
    lines: ZoneLines,
}

struct ZoneLines {
    text: ZoneText,
    /// `None` until the apex is known.
    reader: Option<ZoneReader>,
    tally: Tally,
}

impl ZoneFile {
    /// A parser of the zone at `apex`; if there is none, that of the first SOA record.
    pub(super) fn new(apex: Option<&Name>) -> Self {
        Self {
            entries: Entries::default(),
            lines: ZoneLines {
                text: ZoneText::new(apex),
                reader: apex.cloned().map(ZoneReader::new),
                tally: Tally::default(),
            },
        }
    }

    /// Watches these lines.
    pub(super) fn watch(&mut self, lines: RangeInclusive<u32>) {
        self.lines.tally.watch(lines);
    }

    /// Parses the next piece of the file.
    pub(super) fn feed(&mut self, piece: &[u8], rule: &mut impl FnMut(ParsedRule<'_>)) {
        let Self { entries, lines } = self;
        entries.feed(piece, |number, entry| lines.entry(number, entry, rule));
    }

    /// The first line of a last entry that is not complete.
    pub(super) fn open_line(&self) -> Option<u32> {
        self.entries.open_line()
    }

    /// Ends the file.
    pub(super) fn finish(mut self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Tally {
        let Self { entries, lines } = &mut self;
        lines.tally.ended = entries.open_line().is_none();
        entries.finish(|number, entry| lines.entry(number, entry, rule));
        lines.finish(rule);
        self.lines.tally
    }
}

/// The type and the RDATA of a record, given in presentation form. Names in it are absolute. `None` if it is not valid.
pub(super) fn record_data(rtype: &str, data: &str) -> Option<(u16, Vec<u8>)> {
    let mut text = ZoneText::new(Some(&Name::ROOT));
    match text.parse(format!(". 0 IN {rtype} {data}").as_bytes()) {
        Ok(Line::Record(record)) => Some((record.rtype, record.data.to_vec())),
        _ => None,
    }
}

impl ZoneLines {
    fn entry(
        &mut self,
        number: u32,
        entry: Result<&[u8], Fault>,
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) {
        self.tally.lines += 1;
        let parsed = entry.map_err(|fault| BadEntry::from(fault).into());
        let added = parsed.and_then(|entry| self.add(number, entry, rule));
        if let Err(problem) = added {
            self.tally
                .reject(number, entry.unwrap_or_default(), problem);
        }
    }

    fn add(
        &mut self,
        number: u32,
        entry: &[u8],
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) -> Result<(), Bad> {
        let Line::Record(record) = self.text.parse(entry)? else {
            self.tally.skipped += 1;
            return Ok(());
        };
        if record.rtype == rtype::SOA && self.tally.zone.is_none() {
            self.tally.zone = ZoneFacts::new(record.owner, record.ttl_secs, record.data);
            let apex = || ZoneReader::new(record.owner.clone());
            self.reader.get_or_insert_with(apex);
        }
        let reader = self.reader.as_mut().ok_or(BadEntry::NoZone)?;
        let record = ZoneRecord {
            line: number,
            ..record
        };
        let tally = &mut self.tally;
        let added = reader.add(record, &mut |found| emit(found, tally, rule));
        match added {
            Err(RecordProblem::Signature) => self.tally.skipped += 1,
            added => added?,
        }
        Ok(())
    }

    fn finish(&mut self, rule: &mut impl FnMut(ParsedRule<'_>)) {
        let tally = &mut self.tally;
        let ended = self.reader.as_mut().map_or(Ok(()), |reader| {
            reader.finish(&mut |found| emit(found, tally, rule))
        });
        if let Err(problem) = ended {
            self.tally.reject(self.tally.lines, b"", problem.into());
        }
    }
}

impl From<Fault> for BadEntry {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Long => Self::LongEntry,
            Fault::Unbalanced => Self::Unbalanced,
        }
    }
}

fn emit(found: ZoneRule<'_>, tally: &mut Tally, rule: &mut impl FnMut(ParsedRule<'_>)) {
    tally.rules += 1;
    rule(found.into());
}
