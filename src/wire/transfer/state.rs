//! The state of one transfer: takes the messages of a primary, and returns what each record means.
//!
//! ```text
//!            AXFR: SOA                                SOA again
//!   Start ----------------------------------> Whole ------------> Ended
//!     |                      no SOA, or a       ^                  ^ ^
//!     | IXFR: SOA            SOA of the new     |                  | |
//!     v                      serial             |                  | |
//!   First --------------------------------------+                  | |
//!     |  |    no second record, and the serial is ours             | |
//!     |  +------------------> UpToDate ----------------------------+ |
//!     | SOA of our serial                                            |
//!     v             SOA                                              |
//!   Deleting -------------------> Adding ----------------------------+
//!     ^                             |       SOA of the new serial
//!     +-----------------------------+
//!        SOA of the serial reached
//! ```
//!
//! A primary may answer IXFR with the whole zone, with one change for each version, or with several versions in one
//! change (RFC 1995, sections 4 and 5). Any other record is an error in any state, and so is a record after the end.

use serde::{Deserialize, Serialize};

use super::error::TransferError;
use super::owners::OwnerCheck;
use super::record::Record;
use super::response::{Records, Response};
use super::serial::Serial;
use super::soa::Soa;
use crate::wire::name::Name;
use crate::wire::{Rcode, class, rtype};

/// A transfer.
#[derive(Debug)]
pub struct Transfer {
    id: u16,
    ours: Option<Serial>,
    max_records: u64,
    owners: OwnerCheck,
    state: State,
    /// The first SOA record.
    soa: Option<Box<Soa>>,
    messages: u64,
    records: u64,
    contents: u64,
}

/// The query that a transfer answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// ID of the query.
    pub id: u16,
    /// The zone.
    pub zone: Name,
    /// The serial of the query if it was IXFR; `None` for AXFR.
    pub ours: Option<Serial>,
    /// The maximum number of records, SOA records included.
    pub max_records: u64,
}

/// What a primary sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The whole zone, also as an answer to IXFR.
    Whole,
    /// The changes since our serial.
    Changes,
    /// Nothing: our serial is the newest.
    UpToDate,
}

/// The meaning of a record.
#[derive(Clone, Debug)]
pub enum Event<'m> {
    /// The kind of transfer is known. Comes once, before all other events.
    Begin {
        /// The SOA record of the new version. The transfer ends with the same one.
        soa: Box<Soa>,
        /// What follows.
        kind: Kind,
    },
    /// A record of the whole zone. The SOA record is in [`Begin`](Self::Begin) only.
    Record(Record<'m>),
    /// A record that is not in the new version any more.
    Delete(Record<'m>),
    /// A record that is new. It may have been deleted before, with another TTL for example.
    Add(Record<'m>),
    /// The transfer is complete, and so is its last message.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No record was read.
    Start,
    /// One SOA record of an answer to IXFR was read; the second record decides about the kind.
    First,
    Whole,
    /// Records of this version and of no later one are expected.
    Deleting(Serial),
    /// Records of this version and of no earlier one are expected.
    Adding(Serial),
    /// The only record of an answer to IXFR has our serial.
    UpToDate,
    Ended,
}

impl Transfer {
    /// A transfer of which no message was read.
    pub fn new(request: &Request) -> Self {
        Self {
            id: request.id,
            ours: request.ours,
            max_records: request.max_records,
            owners: OwnerCheck::new(&request.zone),
            state: State::Start,
            soa: None,
            messages: 0,
            records: 0,
            contents: 0,
        }
    }

    /// Reads the next message. The events must be taken up to the last one or to an error before the message after it
    /// is read; after an error the transfer is useless.
    ///
    /// # Errors
    /// [`TransferError`] if the message is not part of the transfer as a whole.
    pub fn read<'t, 'm>(&'t mut self, message: &'m [u8]) -> Result<Events<'t, 'm>, TransferError> {
        let response = Response::parse(message)?;
        let foreign = |why| Err(TransferError::Foreign(why));
        if response.id != self.id {
            return foreign("it has another ID");
        }
        if response.rcode() != Rcode::NoError as u16 {
            return Err(TransferError::Rcode(response.rcode()));
        }
        if self.state == State::Ended {
            return Err(TransferError::AfterEnd);
        }
        let qtype = match self.ours {
            Some(_) => rtype::IXFR,
            None => rtype::AXFR,
        };
        let is_first = self.messages == 0;
        if (is_first || response.question().is_some())
            && !response.asks(self.owners.zone().wire(), qtype)
        {
            return foreign("it has another question");
        }
        match response.answers {
            0 if is_first => return Err(TransferError::NoSoa),
            0 => return Err(TransferError::Malformed("it has no records")),
            _ => {}
        }
        self.messages += 1;
        self.owners.start_message();
        Ok(Events {
            transfer: self,
            records: response.records(),
            is_over: false,
        })
    }

    /// Whether [`Event::End`] was returned.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The number of records so far, SOA records included.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The number of records so far other than those of the apex and of signatures. A whole zone without any has no
    /// contents, whatever its primary means by that.
    pub fn contents(&self) -> u64 {
        self.contents
    }

    /// The meaning of the next record; `None` if it only separates others. Advances `records`, except when the record is
    /// to be read again in the state that it leads to.
    #[inline]
    fn take<'m>(&mut self, records: &mut Records<'m>) -> Result<Option<Event<'m>>, TransferError> {
        let owner = self.owners.check(records.message, records.at)?;
        let fields = records.fields(owner.after)?;
        if fields.class != class::IN {
            return Err(TransferError::OutsideZone);
        }
        let record = Record {
            message: records.message,
            owner: records.at,
            owner_len: owner.len,
            rtype: fields.rtype,
            ttl: fields.ttl,
            data: fields.data,
            end: fields.end,
        };
        if self.state == State::First {
            return self.decide(&record).map(Some);
        }
        self.records += 1;
        if self.records > self.max_records {
            return Err(TransferError::TooManyRecords(self.max_records));
        }
        records.advance(fields.end);
        let is_apex = owner.len == self.owners.zone().wire().len();
        if record.rtype == rtype::SOA {
            let soa = record.soa().filter(|_| is_apex);
            let bad = TransferError::Malformed("a SOA record is malformed, or not the zone's");
            return self.take_soa(soa.ok_or(bad)?, records);
        }
        self.contents += u64::from(!is_apex && !rtype::is_signature(record.rtype));
        match self.state {
            State::Whole => Ok(Some(Event::Record(record))),
            State::Deleting(_) => Ok(Some(Event::Delete(record))),
            State::Adding(_) => Ok(Some(Event::Add(record))),
            State::Start | State::First => Err(TransferError::NoSoa),
            State::UpToDate | State::Ended => Err(TransferError::AfterEnd),
        }
    }

    /// The kind of an answer to IXFR, by its second record, which is read again afterwards.
    #[cold]
    fn decide<'m>(&mut self, second: &Record<'m>) -> Result<Event<'m>, TransferError> {
        let (Some(first), Some(from)) = (&self.soa, self.ours) else {
            return Err(TransferError::NoSoa);
        };
        let to = first.serial;
        let kind = match second.soa().map(|soa| soa.serial) {
            Some(serial) if serial == from && to.is_newer_than(from) => Kind::Changes,
            Some(found) if found != to => {
                return Err(TransferError::BrokenChain { from, to, found });
            }
            _ => Kind::Whole,
        };
        self.state = match kind {
            // The next change starts from our serial.
            Kind::Changes => State::Adding(from),
            _ => State::Whole,
        };
        let soa = first.clone();
        Ok(Event::Begin { soa, kind })
    }

    /// The meaning of a SOA record.
    #[cold]
    fn take_soa<'m>(
        &mut self,
        soa: Soa,
        records: &Records<'m>,
    ) -> Result<Option<Event<'m>>, TransferError> {
        let Some(first) = &self.soa else {
            return self.begin(Box::new(soa), records);
        };
        let (to, found) = (first.serial, soa.serial);
        match self.state {
            State::Deleting(from) => {
                let is_beyond = found != to && !to.is_newer_than(found);
                if is_beyond || !found.is_newer_than(from) {
                    return Err(TransferError::BrokenChain { from, to, found });
                }
                self.state = State::Adding(found);
                Ok(None)
            }
            State::Adding(from) if from != to => {
                if found != from {
                    return Err(TransferError::BrokenChain { from, to, found });
                }
                self.state = State::Deleting(from);
                Ok(None)
            }
            State::UpToDate | State::Ended => Err(TransferError::AfterEnd),
            _ if soa != **first => Err(TransferError::OtherSoa),
            _ if records.left > 0 => Err(TransferError::AfterEnd),
            _ => {
                records.check_end()?;
                self.state = State::Ended;
                Ok(Some(Event::End))
            }
        }
    }

    /// The first record of the answer.
    fn begin<'m>(
        &mut self,
        soa: Box<Soa>,
        records: &Records<'m>,
    ) -> Result<Option<Event<'m>>, TransferError> {
        let (ours, theirs) = (self.ours, soa.serial);
        self.soa = Some(soa.clone());
        let kind = match ours {
            None => Kind::Whole,
            Some(ours) if ours == theirs && records.left == 0 => Kind::UpToDate,
            Some(ours) if ours != theirs && !theirs.is_newer_than(ours) => {
                return Err(TransferError::SerialGoneBack { theirs, ours });
            }
            Some(_) => {
                self.state = State::First;
                return Ok(None);
            }
        };
        self.state = match kind {
            Kind::UpToDate => State::UpToDate,
            _ => State::Whole,
        };
        Ok(Some(Event::Begin { soa, kind }))
    }
}

/// The events of one message, in order. An error is the last one.
#[derive(Debug)]
pub struct Events<'t, 'm> {
    transfer: &'t mut Transfer,
    records: Records<'m>,
    is_over: bool,
}

impl<'m> Iterator for Events<'_, 'm> {
    type Item = Result<Event<'m>, TransferError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        while self.records.left > 0 {
            match self.transfer.take(&mut self.records) {
                Ok(None) => {}
                Ok(Some(event)) => return Some(Ok(event)),
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
        self.is_over = true;
        if self.transfer.state == State::Ended {
            return None;
        }
        if let Err(error) = self.records.check_end() {
            return Some(Err(error));
        }
        let is_up_to_date = self.transfer.state == State::UpToDate;
        is_up_to_date.then(|| {
            self.transfer.state = State::Ended;
            Ok(Event::End)
        })
    }
}
