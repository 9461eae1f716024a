//! Transfers of published zones over a stream: of the whole zone (RFC 5936), or of the changes since the secondary's
//! version (RFC 1995).
//!
//! A task writes the messages, and the stream sends them. The channel between them has room for few, so that a transfer
//! goes at the pace of the secondary, and needs the same memory whatever the size of the zone.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::query::{Asked, seconds};
use crate::policy::published::Records;
use crate::policy::served_zones::{
    LastTransfer, ServedZone, ServedZones, StoredRecords, ZoneChange, ZoneVersion,
};
use crate::serve::client::Client;
use crate::stats::Count;
use crate::wire::name::Name;
use crate::wire::transfer::Serial;
use crate::wire::transfer::request::TransferQuery;
use crate::wire::transfer::sign::Signer;
use crate::wire::transfer::write::{MessageWriter, labels, refuse};
use crate::wire::{Rcode, rtype};

/// Transfers at a time, of all zones and of one. Further ones wait.
const ALL: usize = 32;
const OF_ONE_ZONE: usize = 16;
/// How long a transfer may wait for others. Then it is answered with SERVFAIL, and the secondary asks again later.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that are ready to be sent.
const READY: usize = 2;

/// The limits of transfers.
#[derive(Debug)]
pub struct Transfers {
    all: Arc<Semaphore>,
    zones: Mutex<HashMap<Name, Arc<Semaphore>>>,
}

impl Default for Transfers {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(ALL)),
            zones: Mutex::default(),
        }
    }
}

/// A transfer under way.
pub(crate) struct RunningTransfer {
    messages: mpsc::Receiver<Outgoing>,
    zone: Arc<ServedZone>,
    secondary: IpAddr,
    serial: Serial,
    is_whole: bool,
}

/// What the task of a transfer passes to the stream.
pub(crate) enum Outgoing {
    /// A message to send.
    Message(Vec<u8>),
    /// The transfer can't go on, so the connection must be closed.
    Cut,
    /// All messages have been passed on.
    End,
}

impl Transfers {
    /// Starts the transfer that answers a message. `None` if the message is another one, or is not permitted, or if the records
    /// of the zone are not known yet.
    pub(crate) fn start(
        self: &Arc<Self>,
        zones: &ServedZones,
        client: &Client,
        packet: &[u8],
    ) -> Option<RunningTransfer> {
        let zones = zones.load();
        if zones.is_empty() {
            return None;
        }
        let mut name = Name::default();
        let asked = Asked::read(&zones, packet, &mut name)?;
        let query = &asked.query;
        let is_transfer = matches!(query.rtype, rtype::AXFR | rtype::IXFR);
        if !is_transfer || name != asked.zone.name {
            return None;
        }
        let signer = asked.permit(client, packet).ok()?;
        let version = asked.zone.version.load_full()?;
        let (sender, messages) = mpsc::channel(READY);
        let mut busy = Vec::new();
        refuse(query, Rcode::ServFail, &mut busy);
        let transfer = Transfer::new(query, signer, version)?;
        let running = RunningTransfer {
            messages,
            zone: Arc::clone(asked.zone),
            secondary: client.address,
            serial: transfer.version.soa.serial,
            is_whole: transfer.is_whole,
        };
        tokio::spawn(Arc::clone(self).run(name, transfer, busy, sender));
        Some(running)
    }

    async fn run(
        self: Arc<Self>,
        zone: Name,
        mut transfer: Transfer,
        busy: Vec<u8>,
        sender: mpsc::Sender<Outgoing>,
    ) {
        let Ok(_permits) = timeout(PATIENCE, self.permits(zone)).await else {
            let message = transfer.sign(busy);
            let sent = message.map_or(Outgoing::Cut, Outgoing::Message);
            let _ = sender.send(sent).await;
            let _ = sender.send(Outgoing::Cut).await;
            return;
        };
        loop {
            let (next, is_last) = match transfer.next() {
                Ok(Some(message)) => (Outgoing::Message(message), false),
                Ok(None) => (Outgoing::End, true),
                Err(Broken) => (Outgoing::Cut, true),
            };
            // The connection may have ended.
            if sender.send(next).await.is_err() || is_last {
                return;
            }
        }
    }

    /// Waits until another transfer may run.
    async fn permits(&self, zone: Name) -> [Option<OwnedSemaphorePermit>; 2] {
        let of_zone = {
            let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
            // Those of zones without transfers are not needed any more.
            zones.retain(|_, permits| permits.available_permits() < OF_ONE_ZONE);
            let permits = zones
                .entry(zone)
                .or_insert_with(|| Arc::new(Semaphore::new(OF_ONE_ZONE)));
            Arc::clone(permits)
        };
        // The semaphores are never closed.
        let of_zone = of_zone.acquire_owned().await.ok();
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok();
        [of_zone, of_all]
    }
}

impl RunningTransfer {
    /// How its beginning is counted.
    pub(crate) fn count(&self) -> Count {
        match self.is_whole {
            true => Count::TransfersWhole,
            false => Count::TransfersIncremental,
        }
    }

    /// The next message. Cancel safe.
    pub(crate) async fn next(&mut self) -> Outgoing {
        self.messages.recv().await.unwrap_or(Outgoing::Cut)
    }

    /// Records that all messages were sent.
    pub(crate) fn complete(&self) {
        let last = LastTransfer {
            at: SystemTime::now(),
            serial: self.serial,
            is_whole: self.is_whole,
        };
        self.zone.transfers.complete(self.secondary, last);
    }
}

/// The records can't be read, or don't fit into a message.
struct Broken;

/// The messages of one transfer.
struct Transfer {
    version: Arc<ZoneVersion>,
    is_whole: bool,
    signer: Option<Signer>,
    writer: MessageWriter,
    /// What is still to be written.
    parts: VecDeque<Part>,
}

/// A part of a transfer.
enum Part {
    /// The SOA record with this serial.
    Soa(Serial),
    /// The NS record.
    NameServer,
    /// All other records of the zone.
    Contents(Box<Records>),
    /// The records of a change that were deleted or added, from an offset.
    Deleted(Arc<ZoneChange>, usize),
    Added(Arc<ZoneChange>, usize),
}

impl Transfer {
    fn new(
        query: &TransferQuery<'_>,
        signer: Option<Signer>,
        version: Arc<ZoneVersion>,
    ) -> Option<Self> {
        let (parts, is_whole) = parts(query.ours, &version)?;
        Some(Self {
            writer: MessageWriter::new(query),
            version,
            is_whole,
            signer,
            parts,
        })
    }

    /// The next message; `None` after the last one.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        loop {
            let is_full = match self.parts.pop_front() {
                None if self.writer.is_empty() => return Ok(None),
                None => true,
                Some(mut part) => match part.write(&self.version, &mut self.writer)? {
                    Written::Record { is_full, is_last } => {
                        if !is_last {
                            self.parts.push_front(part);
                        }
                        is_full
                    }
                    Written::Nothing => false,
                },
            };
            if is_full {
                let message = self.writer.take();
                return self.sign(message).map(Some).ok_or(Broken);
            }
        }
    }

    fn sign(&mut self, message: Vec<u8>) -> Option<Vec<u8>> {
        match &mut self.signer {
            Some(signer) => signer.sign(message, seconds()),
            None => Some(message),
        }
    }
}

/// The parts of the answer to a secondary that has the version `ours`, and whether they are the whole zone. `None` if they
/// are, and its records are not known.
fn parts(ours: Option<Serial>, version: &ZoneVersion) -> Option<(VecDeque<Part>, bool)> {
    let newest = version.soa.serial;
    let ends = Part::Soa(newest);
    if ours.is_some_and(|ours| !newest.is_newer_than(ours)) {
        return Some((VecDeque::from([ends]), false));
    }
    let changes = ours.and_then(|ours| version.changes_since(ours));
    let Some(changes) = changes else {
        let records = version.contents.as_ref()?.records();
        let contents = Part::Contents(Box::new(records));
        let parts = [Part::Soa(newest), Part::NameServer, contents, ends];
        return Some((parts.into(), true));
    };
    let steps = changes.iter().flat_map(|change| {
        [
            Part::Soa(change.from),
            Part::Deleted(Arc::clone(change), 0),
            Part::Soa(change.to),
            Part::Added(Arc::clone(change), 0),
        ]
    });
    let parts = [Part::Soa(newest)].into_iter().chain(steps).chain([ends]);
    Some((parts.collect(), false))
}

/// What was written of a part.
enum Written {
    /// A record.
    Record {
        /// The message is full.
        is_full: bool,
        /// The part certainly has no more records.
        is_last: bool,
    },
    /// Nothing: the part has no more records.
    Nothing,
}

impl Part {
    /// Writes the next record.
    fn write(
        &mut self,
        version: &ZoneVersion,
        writer: &mut MessageWriter,
    ) -> Result<Written, Broken> {
        let ttl = version.ttl_secs;
        let (pushed, is_last) = match self {
            Self::Soa(serial) => {
                let data = version.soa_data(*serial);
                (writer.push(b"", rtype::SOA, ttl, &data), true)
            }
            Self::NameServer => {
                let host = version.name_server.wire();
                (writer.push(b"", rtype::NS, ttl, host), true)
            }
            Self::Contents(records) => {
                let Some(record) = records.next() else {
                    return match records.damage() {
                        Some(_) => Err(Broken),
                        None => Ok(Written::Nothing),
                    };
                };
                let owner = labels(record.owner);
                let pushed = writer.push(owner, record.rtype, record.ttl_secs, record.data);
                (pushed, false)
            }
            Self::Deleted(change, at) => return write_stored(&change.deleted, at, writer),
            Self::Added(change, at) => return write_stored(&change.added, at, writer),
        };
        let is_full = pushed.map_err(|_| Broken)?;
        Ok(Written::Record { is_full, is_last })
    }
}

/// Writes the record at an offset, which is advanced.
fn write_stored(
    records: &StoredRecords,
    at: &mut usize,
    writer: &mut MessageWriter,
) -> Result<Written, Broken> {
    let Some((record, next)) = records.at(*at) else {
        return Ok(Written::Nothing);
    };
    *at = next;
    let pushed = writer.push(record.owner, record.rtype, record.ttl_secs, record.data);
    let is_full = pushed.map_err(|_| Broken)?;
    Ok(Written::Record {
        is_full,
        is_last: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::transfer::Soa;

    #[test]
    fn without_its_records_a_version_is_sent_to_those_that_need_none_of_them() {
        let host = Name::from_text("host.test").expect("a name");
        let change = ZoneChange {
            from: Serial(6),
            to: Serial(7),
            deleted: StoredRecords::default(),
            added: StoredRecords::default(),
        };
        let version = ZoneVersion {
            soa: Soa {
                mname: host.clone(),
                rname: host.clone(),
                serial: Serial(7),
                refresh: 1,
                retry: 1,
                expire: 1,
                minimum: 1,
            },
            name_server: host,
            ttl_secs: 1,
            contents: None,
            records: 0,
            bytes: u64::MAX,
            history: vec![Arc::new(change)],
        };
        let parts = |ours: Option<u32>| {
            let parts = parts(ours.map(Serial), &version);
            parts.map(|(parts, is_whole)| (parts.len(), is_whole))
        };
        assert_eq!(parts(Some(7)), Some((1, false)));
        assert_eq!(parts(Some(8)), Some((1, false)), "a newer version");
        assert_eq!(parts(Some(6)), Some((6, false)));
        assert_eq!(parts(Some(5)), None);
        assert_eq!(parts(None), None);
    }
}
