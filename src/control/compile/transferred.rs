//! Reads a zone from its spool while the server writes it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::arrival::Arrivals;
use super::plan::PlanList;
use crate::control::guard::protected::ProtectedNames;
use crate::control::guard::reading::Reading;
use crate::control::guard::transferred::ZoneReading;
use crate::control::list_file::file::FileError;
use crate::control::list_file::parse::ParsedRule;
use crate::control::sources::feeds::arrival::ArrivalState;
use crate::control::sources::feeds::spool::TransferPlan;
use crate::control::sources::lists::load::Refusal;

/// Bytes that are read at a time: at least one message with its length.
const PIECE: usize = 256 << 10;

/// A zone that is read from its spool.
pub(super) struct SpoolReading<'p> {
    list: &'p str,
    plan: &'p TransferPlan,
    arrivals: &'p Arrivals,
    file: File,
    zone: ZoneReading<'p>,
    /// The number of bytes that were read.
    at: u64,
    piece: Vec<u8>,
}

impl<'p> SpoolReading<'p> {
    /// Opens the spool of `list`, which has the zone of `plan`.
    pub(super) fn open(
        list: &'p PlanList,
        plan: &'p TransferPlan,
        arrivals: &'p Arrivals,
        protected_names: &'p ProtectedNames,
    ) -> Result<Self, Refusal> {
        let file = File::open(&plan.spool).map_err(|source| unreadable(plan, source))?;
        Ok(Self {
            list: &list.name,
            plan,
            arrivals,
            file,
            zone: ZoneReading::new(&plan.request(), protected_names, list.into()),
            at: 0,
            piece: Vec::new(),
        })
    }

    /// The number of bytes that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.at
    }

    /// Reads the next piece, and calls `rule` with each rule that is complete then. If none has arrived, waits for a second
    /// at most. Returns whether there may be more.
    pub(super) fn read(&mut self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Result<bool, Refusal> {
        let (bytes, state) = self.arrivals.wait(self.list, self.at);
        if state == ArrivalState::Failed {
            return Err(self.failed());
        }
        let left = bytes.saturating_sub(self.at);
        let room = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        self.piece.resize(room, 0);
        let read = self.file.read_exact_at(&mut self.piece, self.at);
        read.map_err(|source| unreadable(self.plan, source))?;
        let mut rest = &self.piece[..];
        while let Some((message, after)) = framed(rest) {
            let read = self.zone.message(message, rule);
            read.map_err(|error| unreadable(self.plan, io::Error::other(error)))?;
            rest = after;
        }
        let used = (room - rest.len()) as u64;
        self.at += used;
        Ok(state == ArrivalState::Arriving || (used > 0 && self.at < bytes))
    }

    /// Ends the reading after the last piece. Calls `rule` with the last rule, if it was not complete before.
    pub(super) fn finish(self, rule: &mut impl FnMut(ParsedRule<'_>)) -> Result<Reading, Refusal> {
        match self.zone.has_ended() {
            true => Ok(self.zone.finish(rule)),
            false => Err(self.failed()),
        }
    }

    fn failed(&self) -> Refusal {
        Refusal::TransferFailed(Box::new(self.plan.zone.clone()))
    }
}

fn unreadable(plan: &TransferPlan, source: io::Error) -> Refusal {
    let path = plan.spool.clone();
    Refusal::File(FileError::Unreadable { path, source })
}

/// The first message of some bytes, and the bytes after it. `None` if it is incomplete.
fn framed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*len).into())
}
