//! Transfers of published zones over a stream: of the whole zone (RFC 5936), or of the changes since the secondary's
//! version (RFC 1995).
//!
//! A task writes the messages, and the stream sends them. The channel between them has room for few, so that a transfer
//! goes at the pace of the secondary, and needs the same memory whatever the size of the zone.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use super::query::{Asked, seconds, sign};
use super::signatures::SignatureLimits;
use crate::policy::published::{RecordStep, Records};
use crate::policy::served_zones::{
    LastTransfer, ServedZone, ServedZones, StoredRecords, ZoneChange, ZoneVersion,
};
use crate::serve::admission::{Admission, Bounds, network};
use crate::serve::client::Client;
use crate::stats::Count;
use crate::wire::name::Name;
use crate::wire::transfer::Serial;
use crate::wire::transfer::sign::Signer;
use crate::wire::transfer::write::{MessageWriter, RecordTooLarge, labels, refuse};
use crate::wire::{Rcode, rtype};

/// Transfers at a time, of all zones, of one zone and of one secondary. Further ones wait. A few secondaries that read slowly, or
/// only pretend to read, must leave room for others.
const ALL: usize = 32;
const OF_ONE_ZONE: usize = 16;
const OF_ONE_SECONDARY: usize = 4;
/// How long a transfer may wait for others. Then it is answered with SERVFAIL, and the secondary asks again later.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest time of a transfer. Each one keeps the images of its version in memory, so a secondary that reads slowly, or
/// only pretends to read, must not hold them for ever.
const LONGEST: Duration = Duration::from_secs(3600);
/// TCP connections of secondaries of which only the key is known, in all and of one address.
const STRANGERS: Bounds = Bounds {
    all: 64,
    per_client: 8,
};
/// Counters for the addresses of these: many more than there are connections, so that few addresses share one.
const STRANGER_COUNTERS: usize = 1 << 12;
/// Messages that are ready to be sent.
const READY: usize = 2;

/// The limits of transfers.
#[derive(Debug)]
pub struct Transfers {
    all: Arc<Semaphore>,
    zones: Mutex<HashMap<Name, Arc<Semaphore>>>,
    /// By the network that counts as one client.
    secondaries: Mutex<HashMap<u128, Arc<Semaphore>>>,
    strangers: Arc<Admission>,
}

impl Default for Transfers {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(ALL)),
            zones: Mutex::default(),
            secondaries: Mutex::default(),
            strangers: Arc::new(Admission::with_counters(STRANGERS, STRANGER_COUNTERS)),
        }
    }
}

/// What a query for a transfer has led to.
pub(crate) enum Started {
    /// A transfer.
    Running(RunningTransfer),
    /// An answer without records, and how it is counted.
    Answered(Vec<u8>, Count),
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
    /// Starts the transfer that answers a message. `None` if the message is anything but a query for a transfer.
    pub(crate) fn start(
        self: &Arc<Self>,
        zones: &ServedZones,
        limits: &SignatureLimits,
        client: &Client,
        packet: &[u8],
    ) -> Option<Started> {
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
        let signer = match asked.permit(client, packet, limits, Instant::now()) {
            Ok(signer) => signer,
            Err(denial) => {
                let mut out = Vec::new();
                let count = asked.deny(denial, client, packet, &mut out)?;
                return Some(Started::Answered(out, count));
            }
        };
        let mut busy = Vec::new();
        refuse(query, Rcode::ServFail, &mut busy);
        let version = asked.zone.version.load_full();
        let parts = version.and_then(|version| Some((parts(query.ours, &version)?, version)));
        let Some(((parts, is_whole), version)) = parts else {
            let message = sign(signer, busy)?;
            return Some(Started::Answered(message, Count::ZoneNotLoaded));
        };
        let transfer = Transfer {
            writer: MessageWriter::new(query),
            version,
            signer,
            parts,
        };
        let (sender, messages) = mpsc::channel(READY);
        let running = RunningTransfer {
            messages,
            zone: Arc::clone(asked.zone),
            secondary: client.address,
            serial: transfer.version.soa.serial,
            is_whole,
        };
        let of = (Arc::clone(asked.zone), client.address);
        tokio::spawn(Arc::clone(self).run(of, transfer, busy, sender));
        Some(Started::Running(running))
    }

    async fn run(
        self: Arc<Self>,
        (zone, secondary): (Arc<ServedZone>, IpAddr),
        mut transfer: Transfer,
        busy: Vec<u8>,
        sender: mpsc::Sender<Outgoing>,
    ) {
        let permits = self.permits(&zone.name, secondary);
        let Ok(_permits) = timeout(PATIENCE, permits).await else {
            zone.transfers.be_busy(secondary, SystemTime::now());
            let message = transfer.sign(busy);
            let sent = message.map_or(Outgoing::Cut, Outgoing::Message);
            let _ = sender.send(sent).await;
            let _ = sender.send(Outgoing::Cut).await;
            return;
        };
        // Without an end, the receiver cuts the connection.
        let _ = timeout(LONGEST, transfer.send(&sender)).await;
    }

    /// Permits for TCP connections of secondaries of which only the key is known.
    pub(crate) fn strangers(&self) -> &Arc<Admission> {
        &self.strangers
    }

    /// Waits until another transfer may run.
    async fn permits(&self, zone: &Name, secondary: IpAddr) -> [Option<OwnedSemaphorePermit>; 3] {
        let of_secondary = of(&self.secondaries, network(secondary), OF_ONE_SECONDARY);
        let of_zone = of(&self.zones, zone.clone(), OF_ONE_ZONE);
        // Those that wait for others of their secondary hold no permits of the zone. The semaphores are never closed.
        let of_secondary = of_secondary.acquire_owned().await.ok();
        let of_zone = of_zone.acquire_owned().await.ok();
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok();
        [of_secondary, of_zone, of_all]
    }
}

/// The permits of one zone or secondary.
fn of<K: Eq + Hash>(
    all: &Mutex<HashMap<K, Arc<Semaphore>>>,
    key: K,
    permits: usize,
) -> Arc<Semaphore> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    // Those without transfers, running or waiting, are not needed any more.
    all.retain(|_, one| one.available_permits() < permits || Arc::strong_count(one) > 1);
    let one = all.entry(key);
    Arc::clone(one.or_insert_with(|| Arc::new(Semaphore::new(permits))))
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
    /// Sends all messages, as long as the connection is open.
    async fn send(&mut self, sender: &mpsc::Sender<Outgoing>) {
        while !sender.is_closed() {
            let (outgoing, is_last) = match self.next() {
                Ok(Next::Message(message)) => (Outgoing::Message(message), false),
                Ok(Next::Pause) => {
                    yield_now().await;
                    continue;
                }
                Ok(Next::End) => (Outgoing::End, true),
                Err(Broken) => (Outgoing::Cut, true),
            };
            if sender.send(outgoing).await.is_err() || is_last {
                return;
            }
        }
    }

    /// The next message, if it is found soon.
    fn next(&mut self) -> Result<Next, Broken> {
        loop {
            let message = match self.parts.pop_front() {
                None if self.writer.is_empty() => return Ok(Next::End),
                None => Some(self.writer.take()),
                Some(mut part) => match part.write(&self.version, &mut self.writer)? {
                    Written::Record { message, goes_on } => {
                        if goes_on {
                            self.parts.push_front(part);
                        }
                        message
                    }
                    Written::Pause => {
                        self.parts.push_front(part);
                        return Ok(Next::Pause);
                    }
                    Written::Nothing => None,
                },
            };
            if let Some(message) = message {
                return self.sign(message).map(Next::Message).ok_or(Broken);
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

/// What comes next in a transfer.
enum Next {
    /// A message.
    Message(Vec<u8>),
    /// More work, before which other tasks may run.
    Pause,
    /// Nothing: the last message was taken.
    End,
}

/// What writing a part has led to.
enum Written {
    /// A record.
    Record {
        /// The message before it, if that is full.
        message: Option<Vec<u8>>,
        /// The part may have more records.
        goes_on: bool,
    },
    /// Nothing yet: the next record was not found soon.
    Pause,
    /// Nothing: the part has no more records.
    Nothing,
}

impl Written {
    fn record(
        pushed: Result<Option<Vec<u8>>, RecordTooLarge>,
        goes_on: bool,
    ) -> Result<Self, Broken> {
        let message = pushed.map_err(|_| Broken)?;
        Ok(Self::Record { message, goes_on })
    }
}

impl Part {
    /// Writes the next record, if it is found soon.
    fn write(
        &mut self,
        version: &ZoneVersion,
        writer: &mut MessageWriter,
    ) -> Result<Written, Broken> {
        let ttl = version.ttl_secs;
        let (pushed, goes_on) = match self {
            Self::Soa(serial) => {
                let data = version.soa_data(*serial);
                (writer.push(b"", rtype::SOA, ttl, &data), false)
            }
            Self::NameServer => {
                let host = version.name_server.wire();
                (writer.push(b"", rtype::NS, ttl, host), false)
            }
            Self::Contents(records) => match records.step() {
                RecordStep::Record(record) => {
                    let owner = labels(record.owner);
                    let pushed = writer.push(owner, record.rtype, record.ttl_secs, record.data);
                    (pushed, true)
                }
                RecordStep::Pause => return Ok(Written::Pause),
                RecordStep::End => {
                    return match records.damage() {
                        Some(_) => Err(Broken),
                        None => Ok(Written::Nothing),
                    };
                }
            },
            Self::Deleted(change, at) => return write_stored(&change.deleted, at, writer),
            Self::Added(change, at) => return write_stored(&change.added, at, writer),
        };
        Written::record(pushed, goes_on)
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
    Written::record(pushed, true)
}

#[cfg(test)]
pub(super) mod tests;
