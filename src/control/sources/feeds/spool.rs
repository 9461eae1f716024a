//! The file that a large transfer is written to while it arrives, and from which it is compiled.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tempfile::TempPath;
use tokio::sync::watch;

use super::arrival::{Arrival, ArrivalState};
use crate::control::persist::store::TRANSFER;
use crate::wire::name::Name;
use crate::wire::transfer::{Request, Serial};

/// Bytes that are collected before they are written.
const PIECE: usize = 256 << 10;

/// Writes a transfer.
#[derive(Debug)]
pub struct Spool {
    file: File,
    pending: Vec<u8>,
    reports: watch::Sender<Arrival>,
    transfer: SpooledTransfer,
}

/// A transfer in a file, for its readers. The file is removed with the last one of them.
#[derive(Clone, Debug)]
pub struct SpooledTransfer {
    path: Arc<TempPath>,
    request: Arc<Request>,
    /// How much of it has arrived.
    pub arrival: watch::Receiver<Arrival>,
}

/// A zone that is being transferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferPlan {
    /// The file of its messages, each after two bytes with its length.
    pub spool: PathBuf,
    /// The zone.
    pub zone: Name,
    /// The ID of the query.
    pub id: u16,
    /// The serial of the query if it was IXFR.
    pub ours: Option<Serial>,
}

impl TransferPlan {
    /// The query that the transfer answers. The server has counted the records.
    pub(crate) fn request(&self) -> Request {
        Request {
            id: self.id,
            zone: self.zone.clone(),
            ours: self.ours,
            max_records: u64::MAX,
        }
    }
}

impl Spool {
    /// A new file in `folder`, for the answer to `request`, which has the rules of `list`.
    ///
    /// # Errors
    /// If the file can't be created.
    pub fn create(folder: &Path, list: &str, request: &Request) -> io::Result<Self> {
        let (file, path) = create(folder)?;
        let (reports, arrival) = watch::channel(Arrival {
            list: list.to_owned(),
            bytes: 0,
            state: ArrivalState::Arriving,
        });
        Ok(Self {
            file,
            pending: Vec::with_capacity(PIECE),
            reports,
            transfer: SpooledTransfer {
                path: Arc::new(path),
                request: Arc::new(request.clone()),
                arrival,
            },
        })
    }

    /// The transfer for a reader.
    pub fn transfer(&self) -> SpooledTransfer {
        self.transfer.clone()
    }

    /// Appends a message of at most 65,535 bytes. It is kept in memory until [`flush`](Self::flush).
    pub fn push(&mut self, message: &[u8]) {
        frame(message, &mut self.pending);
    }

    /// Whether enough is kept in memory to be written.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= PIECE
    }

    /// Appends messages that each follow two bytes with their length.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn push_framed(&mut self, messages: &[u8]) -> io::Result<()> {
        self.pending.extend(messages);
        self.flush()
    }

    /// Ends the transfer. It may be used from now on.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.end(ArrivalState::Complete);
        Ok(())
    }

    /// Writes what is kept in memory.
    ///
    /// # Errors
    /// If the file can't be written, for example as the disk is full.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        let written = self.pending.len() as u64;
        self.pending.clear();
        self.reports.send_modify(|arrival| arrival.bytes += written);
        Ok(())
    }

    fn end(&self, state: ArrivalState) {
        self.reports.send_modify(|arrival| arrival.state = state);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.reports.borrow().state == ArrivalState::Arriving {
            self.end(ArrivalState::Failed);
        }
    }
}

impl SpooledTransfer {
    /// Whether more of it may come.
    pub(crate) fn is_arriving(&self) -> bool {
        self.arrival.borrow().state == ArrivalState::Arriving
    }

    /// The zone, if its transfer has failed.
    pub(crate) fn failed_zone(&self) -> Option<Box<Name>> {
        let has_failed = self.arrival.borrow().state == ArrivalState::Failed;
        has_failed.then(|| Box::new(self.request.zone.clone()))
    }

    /// What the compiler must know.
    pub(crate) fn plan(&self) -> TransferPlan {
        TransferPlan {
            spool: self.path.to_path_buf(),
            zone: self.request.zone.clone(),
            id: self.request.id,
            ours: self.request.ours,
        }
    }
}

/// Appends a message after two bytes with its length, as it came over TCP.
pub(super) fn frame(message: &[u8], into: &mut Vec<u8>) {
    into.extend((message.len() as u16).to_be_bytes());
    into.extend(message);
}

/// A new file. An error is that of the system, without the name of the file, which differs each time: equal errors are
/// logged once.
fn create(folder: &Path) -> io::Result<(File, TempPath)> {
    let mut code = None;
    let created = tempfile::Builder::new()
        .prefix(TRANSFER)
        .make_in(folder, |path| {
            let file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path);
            code = file.as_ref().err().and_then(io::Error::raw_os_error);
            file
        });
    match (created, code) {
        (Ok(created), _) => Ok(created.into_parts()),
        (Err(_), Some(code)) => Err(io::Error::from_raw_os_error(code)),
        (Err(error), None) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_file_that_can_not_be_created_is_that_of_the_system_without_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let request = Request {
            id: 1,
            zone: Name::ROOT,
            ours: None,
            max_records: 1,
        };
        let created = Spool::create(&folder.path().join("missing"), "feed", &request);
        let error = created.expect_err("there is no folder");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert!(!error.to_string().contains("missing"), "{error}");
    }
}
