//! Reads a zone from its spool while the server writes it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::arrival::Arrivals;
use crate::control::guard::protected::{Guarded, ProtectedNames};
use crate::control::guard::reading::Reading;
use crate::control::guard::transferred::ZoneReading;
use crate::control::list_file::file::FileError;
use crate::control::list_file::parse::ParsedRule;
use crate::control::sources::feeds::arrival::ArrivalState;
use crate::control::sources::feeds::spool::TransferPlan;
use crate::control::sources::lists::load::Refusal;

/// Bytes that are read at a time: at least one message with its length.
const PIECE: usize = 256 << 10;

/// Reads the zone of `list`, and passes its rules on as `read_list` does.
pub(super) fn read_transfer(
    list: &str,
    plan: &TransferPlan,
    arrivals: &Arrivals,
    (protected_names, guarded): (&ProtectedNames, Guarded),
    mut rule: impl FnMut(ParsedRule<'_>),
    mut progress: impl FnMut(u64),
) -> Result<Reading, Refusal> {
    let unreadable = |source| {
        let path = plan.spool.clone();
        Refusal::File(FileError::Unreadable { path, source })
    };
    let file = File::open(&plan.spool).map_err(unreadable)?;
    let mut reading = ZoneReading::new(&plan.request(), guarded);
    let (mut at, mut piece) = (0, Vec::new());
    loop {
        let (bytes, state) = arrivals.wait(list, at);
        progress(at);
        if state == ArrivalState::Failed {
            return Err(Refusal::TransferFailed(Box::new(plan.zone.clone())));
        }
        while at < bytes {
            let room = usize::try_from(bytes - at).map_or(PIECE, |rest| rest.min(PIECE));
            piece.resize(room, 0);
            file.read_exact_at(&mut piece, at).map_err(unreadable)?;
            let mut rest = &piece[..];
            while let Some((message, after)) = framed(rest) {
                let read = reading.message(message, protected_names, &mut rule);
                read.map_err(|error| unreadable(io::Error::other(error)))?;
                rest = after;
            }
            let used = (room - rest.len()) as u64;
            at += used;
            if used == 0 {
                break;
            }
            progress(at);
        }
        if state == ArrivalState::Complete {
            break;
        }
    }
    match reading.has_ended() {
        true => Ok(reading.finish(protected_names, &mut rule)),
        false => Err(Refusal::TransferFailed(Box::new(plan.zone.clone()))),
    }
}

/// The first message of some bytes, and the bytes after it. `None` if it is incomplete.
fn framed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*len).into())
}
