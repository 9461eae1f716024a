//! Takes a transfer: small zones and changes in memory, a large zone in a file that is compiled as it arrives.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use super::delivery::{Content, Delivery, Undelivered, ZoneChange};
use super::sink::{Begin, Change, Sink};
use super::spool::{Spool, frame};
use crate::control::sources::lists::comparison::{Comparable, ComparedZone, ComparisonError};
use crate::wire::name::Name;
use crate::wire::transfer::{Kind, Record, Request, Serial, Soa};

/// The largest zone in bytes that is kept in memory.
const SMALL: usize = 1 << 20;
/// The largest number of changes that are applied one by one, and of their bytes. With more, the whole zone is
/// transferred.
const MAX_CHANGES: usize = 262_144;
const MAX_CHANGE_BYTES: usize = 16 << 20;

/// Why a transfer can't be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The file of a large transfer can't be written.
    #[error("the transfer can't be written: {0}; {remedy}", remedy = remedy(.0))]
    Spool(#[from] io::Error),
    /// There are too many changes.
    #[error("the changes are too many to be applied one by one")]
    TooManyChanges,
    /// The zone can't be compared with the rules in force.
    #[error("the zone can't be compared with the rules in force: {0}")]
    Comparison(#[from] ComparisonError),
    /// The server ends.
    #[error("the server ends")]
    Ended,
}

/// What the operator can do if a file can't be written to a directory, which is named before.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "create this directory, and let the server's user write to it",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free space in this directory",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "let the server's user write to this directory"
        }
        _ => "check the disk of this directory",
    }
}

/// Takes the transfers of one feed from one primary.
pub(crate) struct Receiving {
    feed: String,
    primary: SocketAddr,
    /// Where large transfers are written.
    folder: PathBuf,
    deliveries: mpsc::Sender<Delivery>,
    /// The rules in force that a whole zone is to be compared with.
    comparable: Option<Comparable>,
    taken: Taken,
    /// Whether a large transfer was written to its file, up to the end.
    has_written: bool,
    outcome: Option<oneshot::Receiver<Result<(), Undelivered>>>,
}

enum Taken {
    Nothing,
    Small {
        request: Box<Request>,
        serial: Serial,
        bytes: Vec<u8>,
    },
    Large(Spool),
    Compared {
        serial: Serial,
        zone: Box<ComparedZone>,
    },
    Changes {
        from: Serial,
        soa: Box<Soa>,
        changes: Vec<ZoneChange>,
        bytes: usize,
    },
}

impl Receiving {
    pub(crate) fn new(
        feed: &str,
        primary: SocketAddr,
        folder: PathBuf,
        deliveries: mpsc::Sender<Delivery>,
        comparable: Option<Comparable>,
    ) -> Self {
        Self {
            feed: feed.to_owned(),
            primary,
            folder,
            deliveries,
            comparable,
            taken: Taken::Nothing,
            has_written: false,
            outcome: None,
        }
    }

    /// Whether a large transfer was written to its file, up to the end.
    pub(crate) fn has_written(&self) -> bool {
        self.has_written
    }

    /// What became of the delivery. `None` if nothing was delivered.
    pub(crate) async fn outcome(&mut self) -> Option<Result<(), Undelivered>> {
        let outcome = self.outcome.take()?.await;
        Some(outcome.unwrap_or_else(|_| Err(Undelivered::Held(ReceiveError::Ended.to_string()))))
    }

    async fn deliver(&mut self, serial: Serial, content: Content) -> Result<(), ReceiveError> {
        let (sender, outcome) = oneshot::channel();
        self.outcome = Some(outcome);
        let delivery = Delivery {
            feed: self.feed.clone(),
            primary: self.primary,
            serial,
            content,
            outcome: sender,
        };
        let sent = self.deliveries.send(delivery).await;
        sent.map_err(|_| ReceiveError::Ended)
    }
}

impl Sink for Receiving {
    type Error = ReceiveError;

    async fn begin(&mut self, begin: &Begin<'_>) -> Result<(), ReceiveError> {
        self.outcome = None;
        let compared = || ComparedZone::new(self.comparable.as_ref()?, begin.request, begin.soa);
        let compared = (begin.kind == Kind::Whole).then(compared).flatten();
        if let Some(zone) = compared {
            self.taken = Taken::Compared {
                serial: begin.soa.serial,
                zone: Box::new(zone),
            };
            return Ok(());
        }
        self.taken = match begin.kind {
            Kind::Whole => Taken::Small {
                request: Box::new(begin.request.clone()),
                serial: begin.soa.serial,
                bytes: Vec::new(),
            },
            Kind::Changes => Taken::Changes {
                from: begin.request.ours.unwrap_or(begin.soa.serial),
                soa: Box::new(begin.soa.clone()),
                changes: Vec::new(),
                bytes: 0,
            },
            Kind::UpToDate => Taken::Nothing,
        };
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) {
        // Those of a message take at most half a millisecond. Handing the other tasks over to another thread for each
        // message took more than a third of all the time.
        if let Taken::Compared { zone, .. } = &mut self.taken {
            zone.record(record);
        }
    }

    async fn message(&mut self, message: &[u8]) -> Result<(), ReceiveError> {
        if let Taken::Small { bytes, .. } = &mut self.taken {
            frame(message, bytes);
            if bytes.len() <= SMALL {
                return Ok(());
            }
        }
        match std::mem::replace(&mut self.taken, Taken::Nothing) {
            Taken::Small {
                request,
                serial,
                bytes,
            } => {
                let mut spool = Spool::create(&self.folder, &self.feed, &request)?;
                spool.push_framed(&bytes)?;
                let transfer = spool.transfer();
                self.taken = Taken::Large(spool);
                self.deliver(serial, Content::Large(transfer)).await
            }
            Taken::Large(mut spool) => {
                spool.push(message);
                if spool.is_full() {
                    // Writing to the file takes a moment at most, unless the disk is slow.
                    tokio::task::block_in_place(|| spool.flush())?;
                }
                self.taken = Taken::Large(spool);
                Ok(())
            }
            Taken::Compared { serial, mut zone } => {
                zone.message(message)?;
                self.taken = Taken::Compared { serial, zone };
                Ok(())
            }
            taken @ (Taken::Nothing | Taken::Changes { .. }) => {
                self.taken = taken;
                Ok(())
            }
        }
    }

    fn change(&mut self, change: Change, record: &Record<'_>) -> Result<(), ReceiveError> {
        let Taken::Changes { changes, bytes, .. } = &mut self.taken else {
            return Ok(());
        };
        let (mut owner, mut data) = (Name::ROOT, Vec::new());
        // The owner was read before, and is in the zone.
        if record.read_owner(&mut owner).is_err() {
            return Ok(());
        }
        // Malformed data is counted later. No type with an own form can have empty data.
        if record.copy_data(&mut data).is_none() {
            data.clear();
        }
        *bytes += size_of::<ZoneChange>() + owner.wire().len() + data.len();
        if changes.len() == MAX_CHANGES || *bytes > MAX_CHANGE_BYTES {
            return Err(ReceiveError::TooManyChanges);
        }
        changes.push(ZoneChange {
            adds: change == Change::Add,
            owner: owner.wire().into(),
            rtype: record.rtype,
            ttl_secs: record.ttl,
            data: data.into(),
        });
        Ok(())
    }

    async fn end(&mut self) -> Result<(), ReceiveError> {
        match std::mem::replace(&mut self.taken, Taken::Nothing) {
            Taken::Small {
                request,
                serial,
                bytes,
            } => self.deliver(serial, Content::Small(request, bytes)).await,
            Taken::Large(spool) => {
                tokio::task::block_in_place(|| spool.finish())?;
                self.has_written = true;
                Ok(())
            }
            Taken::Compared { serial, zone } => {
                let differences = tokio::task::block_in_place(|| zone.finish())?;
                let content = Content::Differences(Box::new(differences));
                self.deliver(serial, content).await
            }
            Taken::Changes {
                from, soa, changes, ..
            } => {
                let serial = soa.serial;
                let content = Content::Changes { from, soa, changes };
                self.deliver(serial, content).await
            }
            Taken::Nothing => Ok(()),
        }
    }
}
