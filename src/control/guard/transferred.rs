//! Reads a zone as it is transferred, and passes on the rules that the protected names permit.

use jiff::Timestamp;
use tokio::time::Instant;

use crate::control::guard::protected::{Guarded, ProtectedNames};
use crate::control::guard::reading::Reading;
use crate::control::guard::suppressed::admits_rule;
use crate::control::list_file::parse::{Bad, ParsedRule, Tally, ZoneFacts};
use crate::control::list_file::suppressed::SuppressedRules;
use crate::policy::rpz::{RecordProblem, ZoneReader, ZoneRecord, ZoneRule};
use crate::wire::class;
use crate::wire::name::Name;
use crate::wire::presentation::TypeText;
use crate::wire::transfer::{Event, Record, Request, Soa, Transfer, TransferError};

/// Reads the messages of a whole zone.
pub(crate) struct ZoneReading {
    transfer: Transfer,
    rules: ZoneRules,
}

/// Makes rules of the records of a whole zone.
pub(crate) struct ZoneRules {
    start: Instant,
    hasher: blake3::Hasher,
    reader: ZoneReader,
    guarded: Guarded,
    tally: Tally,
    suppressed: SuppressedRules,
    /// Buffers for the owner and the data of a record.
    owner: Name,
    data: Vec<u8>,
}

impl ZoneReading {
    /// A reading of the answer to `request`, of which no message was read.
    pub(crate) fn new(request: &Request, guarded: Guarded) -> Self {
        Self {
            transfer: Transfer::new(request),
            rules: ZoneRules::new(request.zone.clone(), guarded),
        }
    }

    /// Reads the next message. Calls `rule` with each rule that is complete then, and that the protected names permit.
    ///
    /// # Errors
    /// If the message is not part of the transfer. Its signature is not checked.
    pub(crate) fn message(
        &mut self,
        message: &[u8],
        protected_names: &ProtectedNames,
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) -> Result<(), TransferError> {
        self.rules.message(message);
        for event in self.transfer.read(message)? {
            match event? {
                Event::Begin { soa, .. } => self.rules.begin(&soa),
                Event::Record(record) => self.rules.record(&record, protected_names, rule),
                Event::Delete(_) | Event::Add(_) | Event::End => {}
            }
        }
        Ok(())
    }

    /// Whether the last message was read.
    pub(crate) fn has_ended(&self) -> bool {
        self.transfer.has_ended()
    }

    /// Ends the zone. Calls `rule` with its last rule, if it was not complete before.
    pub(crate) fn finish(
        self,
        protected_names: &ProtectedNames,
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) -> Reading {
        self.rules.finish(protected_names, rule)
    }
}

impl ZoneRules {
    /// The rules of the zone at `apex`, of which no record was read.
    pub(crate) fn new(apex: Name, guarded: Guarded) -> Self {
        Self {
            start: Instant::now(),
            hasher: blake3::Hasher::new(),
            reader: ZoneReader::new(apex),
            guarded,
            tally: Tally {
                ended: true,
                ..Tally::default()
            },
            suppressed: SuppressedRules::default(),
            owner: Name::ROOT,
            data: Vec::new(),
        }
    }

    /// Adds a message to the digest.
    pub(crate) fn message(&mut self, message: &[u8]) {
        // The ID differs between two transfers of one version.
        self.hasher.update(message.get(2..).unwrap_or_default());
    }

    /// Takes the SOA record of the version, before all other records.
    pub(crate) fn begin(&mut self, soa: &Soa) {
        self.data.clear();
        soa.write(&mut self.data);
        self.tally.zone = ZoneFacts::new(self.reader.apex(), soa.minimum, &self.data);
    }

    /// Takes the next record. Calls `rule` with each rule that is complete then, and that the protected names permit.
    pub(crate) fn record(
        &mut self,
        record: &Record<'_>,
        protected_names: &ProtectedNames,
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) {
        self.tally.lines = self.tally.lines.saturating_add(1);
        let line = self.tally.lines;
        let added = self.add(record, line, protected_names, rule);
        match added {
            Ok(()) => {}
            Err(problem) if problem.is_usual() => self.tally.skipped += 1,
            Err(problem) => self.reject(problem, record.rtype, line),
        }
    }

    fn add(
        &mut self,
        record: &Record<'_>,
        line: u32,
        protected_names: &ProtectedNames,
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) -> Result<(), RecordProblem> {
        let malformed = RecordProblem::Data(crate::policy::rpz::UnusableData::Malformed);
        record.read_owner(&mut self.owner).map_err(|_| malformed)?;
        self.data.clear();
        record.copy_data(&mut self.data).ok_or(malformed)?;
        let Self {
            reader,
            guarded,
            tally,
            suppressed,
            owner,
            data,
            ..
        } = self;
        let record = ZoneRecord {
            owner,
            rtype: record.rtype,
            class: class::IN,
            ttl_secs: record.ttl,
            data,
            line,
        };
        reader.add(record, &mut |found| {
            admit(found, tally, suppressed, (protected_names, *guarded), rule);
        })
    }

    #[cold]
    fn reject(&mut self, problem: RecordProblem, rtype: u16, line: u32) {
        let content = described(&self.owner, rtype);
        self.tally
            .reject(line, content.as_bytes(), Bad::Record(problem));
    }

    /// Ends the zone. Calls `rule` with its last rule, if it was not complete before.
    pub(crate) fn finish(
        mut self,
        protected_names: &ProtectedNames,
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) -> Reading {
        let Self {
            reader,
            guarded,
            tally,
            suppressed,
            ..
        } = &mut self;
        let ended = reader.finish(&mut |found| {
            admit(found, tally, suppressed, (protected_names, *guarded), rule);
        });
        if let Err(problem) = ended {
            tally.reject(tally.lines, b"", Bad::Record(problem));
        }
        tally.guarded = std::mem::take(suppressed);
        let Self {
            reader, mut tally, ..
        } = self;
        tally.hidden = reader.into_hidden();
        Reading {
            tally,
            digest: self.hasher.finalize(),
            signature: None,
            at: Timestamp::now(),
            took: self.start.elapsed(),
        }
    }
}

/// A bad record as the outputs show it.
pub(crate) fn described(owner: &Name, rtype: u16) -> String {
    format!("{owner}. {}", TypeText(rtype))
}

/// Passes a rule on if the protected names permit it.
fn admit(
    found: ZoneRule<'_>,
    tally: &mut Tally,
    suppressed: &mut SuppressedRules,
    (protected_names, guarded): (&ProtectedNames, Guarded),
    rule: &mut impl FnMut(ParsedRule<'_>),
) {
    let found = found.into();
    if admits_rule(suppressed, protected_names, guarded, found) {
        tally.rules += 1;
        rule(found);
    }
}
