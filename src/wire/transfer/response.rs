//! Reads the header, the question and the records of a response, however many there are.

use super::error::TransferError;
use crate::wire::edns::{self, RecordFields};
use crate::wire::{HEADER, flag, read_u16, skip_name};

/// The bits of a header's flags that are the opcode (RFC 1035, section 4.1.1).
const OPCODE: u16 = 0x7800;
/// Type and class after the name of a question.
const QUESTION_FIELDS: usize = 4;

/// A response: its header and where its parts are.
#[derive(Clone, Copy, Debug)]
pub struct Response<'m> {
    message: &'m [u8],
    /// ID.
    pub id: u16,
    flags: u16,
    /// The records of the answer section.
    pub answers: u16,
    /// The records of the authority and additional sections.
    others: u32,
    questions: u16,
    /// The offset after the question section.
    question_end: usize,
}

impl<'m> Response<'m> {
    /// Reads the header and skips the question. A response has at most one question; the second message of a transfer
    /// and later ones may have none (RFC 5936, section 2.2.1).
    ///
    /// # Errors
    /// [`TransferError::Malformed`] or [`TransferError::Foreign`].
    pub fn parse(message: &'m [u8]) -> Result<Self, TransferError> {
        let short = TransferError::Malformed("it is shorter than a header");
        let word = |at: usize| read_u16(message, at).ok_or(short);
        let (flags, questions) = (word(2)?, word(4)?);
        let others = u32::from(word(8)?) + u32::from(word(10)?);
        if flags & flag::QR == 0 || flags & OPCODE != 0 {
            return Err(TransferError::Foreign("it is not a response to a query"));
        }
        if flags & flag::TC != 0 {
            return Err(TransferError::Malformed("it is truncated"));
        }
        let question_end = match questions {
            0 => HEADER,
            1 => skip_name(message, HEADER)
                .map(|end| end + QUESTION_FIELDS)
                .filter(|end| *end <= message.len())
                .ok_or(TransferError::Malformed("its question is cut short"))?,
            _ => return Err(TransferError::Foreign("it has several questions")),
        };
        Ok(Self {
            message,
            id: word(0)?,
            flags,
            answers: word(6)?,
            others,
            questions,
            question_end,
        })
    }

    /// The response code of the header.
    pub fn rcode(&self) -> u16 {
        self.flags & 0x000F
    }

    /// The question section: a name, which is not compressed, type and class; `None` if it is empty.
    pub fn question(&self) -> Option<&'m [u8]> {
        let question = self.message.get(HEADER..self.question_end)?;
        (self.questions == 1).then_some(question)
    }

    /// Whether the question is about this name, in any letter case, and this type, in class IN.
    pub fn asks(&self, name: &[u8], rtype: u16) -> bool {
        let fields = [rtype.to_be_bytes(), [0, 1]].concat();
        self.question().is_some_and(|question| {
            let at = question.len() - QUESTION_FIELDS;
            question[..at].eq_ignore_ascii_case(name) && question[at..] == fields
        })
    }

    /// The records of the answer section.
    pub fn records(&self) -> Records<'m> {
        Records {
            message: self.message,
            at: self.question_end,
            left: self.answers,
            others: self.others,
        }
    }
}

/// The records of an answer section, in order.
#[derive(Clone, Copy, Debug)]
pub struct Records<'m> {
    pub(super) message: &'m [u8],
    /// The offset of the next record.
    pub(super) at: usize,
    /// The number of records that are left.
    pub(super) left: u16,
    /// The number of records in later sections.
    others: u32,
}

impl Records<'_> {
    /// The fields of the next record, whose owner ends at `after`.
    pub(super) fn fields(&self, after: usize) -> Result<RecordFields, TransferError> {
        let fields = edns::fields(self.message, after);
        fields.ok_or(TransferError::Malformed("a record overruns it"))
    }

    /// Goes on after a record that ends at `end`.
    pub(super) fn advance(&mut self, end: usize) {
        self.at = end;
        self.left = self.left.saturating_sub(1);
    }

    /// Checks that the records of later sections end exactly where the message ends. Only OPT and TSIG are expected
    /// there, and both are ignored.
    pub(super) fn check_end(&self) -> Result<(), TransferError> {
        let mut at = self.at;
        for _ in 0..self.others {
            let after = skip_name(self.message, at);
            let after = after.ok_or(TransferError::Malformed("its counts exceed its records"))?;
            at = self.fields(after)?.end;
        }
        match at == self.message.len() {
            true => Ok(()),
            false => Err(TransferError::Malformed("bytes follow its last record")),
        }
    }
}
