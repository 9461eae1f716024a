//! The published zones as secondaries get them. The control plane makes their versions, and the data plane serves them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};

use super::clients::Clients;
use super::published::{PublishedRecord, PublishedZone};
use crate::wire::name::Name;
use crate::wire::transfer::tsig::Key;
use crate::wire::transfer::{Serial, Soa, write};

/// Secondaries whose last transfer is remembered, for each zone.
const SECONDARIES_MAX: usize = 256;

/// All published zones. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ServedZones(Arc<ArcSwap<Vec<Arc<ServedZone>>>>);

/// A published zone.
#[derive(Debug)]
pub struct ServedZone {
    /// Its name.
    pub name: Name,
    /// Who may transfer it.
    pub access: ZoneAccess,
    /// The newest version; `None` before the first.
    pub version: ArcSwapOption<ZoneVersion>,
    /// The transfers of it.
    pub transfers: Arc<TransferLog>,
}

/// Who may transfer a zone. All conditions that are set must hold; without any, nobody may.
#[derive(Debug, Default)]
pub struct ZoneAccess {
    /// The secondary has one of these addresses.
    pub networks: Option<Clients>,
    /// Queries are signed.
    pub is_signed: bool,
    /// The key that they are signed with; `None` until it is known.
    pub key: ArcSwapOption<Key>,
}

impl ZoneAccess {
    /// Whether a secondary with this address may transfer the zone, provided that it signs its queries if it must.
    pub fn permits_address(&self, address: IpAddr) -> bool {
        self.knows(address) || self.permits_strangers()
    }

    /// Whether the address is one of those that may transfer the zone.
    pub fn knows(&self, address: IpAddr) -> bool {
        let networks = self.networks.as_ref();
        networks.is_some_and(|networks| networks.contains(address))
    }

    /// Whether a secondary with any address may transfer the zone, because only its key matters.
    pub fn permits_strangers(&self) -> bool {
        self.networks.is_none() && self.is_signed
    }
}

/// A version of a published zone.
#[derive(Clone, Debug)]
pub struct ZoneVersion {
    /// Its SOA record.
    pub soa: Soa,
    /// The host in its NS record.
    pub name_server: Name,
    /// The TTL of its SOA and NS records, in seconds.
    pub ttl_secs: u32,
    /// Its other records; `None` for the last version of an earlier process, of which only the changes are known.
    pub contents: Option<PublishedZone>,
    /// The number of these; 0 until they have been read.
    pub records: u64,
    /// Their size in the form of [`StoredRecords`]; the largest number until they have been read.
    pub bytes: u64,
    /// The changes between the last versions. The first one begins at the oldest version, and the last one leads to this.
    pub history: Vec<Arc<ZoneChange>>,
}

impl ZoneVersion {
    /// The changes from an older version to this one; `None` if they are not known, or are larger than the whole zone (RFC
    /// 1995, section 4).
    pub fn changes_since(&self, serial: Serial) -> Option<&[Arc<ZoneChange>]> {
        let start = self
            .history
            .iter()
            .position(|change| change.from == serial)?;
        let changes = &self.history[start..];
        let bytes: u64 = changes.iter().map(|change| change.bytes()).sum();
        (bytes <= self.bytes).then_some(changes)
    }

    /// RDATA of the SOA record of a version with this serial and otherwise the same SOA record.
    pub fn soa_data(&self, serial: Serial) -> Vec<u8> {
        let mut data = Vec::with_capacity(512);
        let soa = Soa {
            serial,
            ..self.soa.clone()
        };
        soa.write(&mut data);
        data
    }
}

/// The changes that lead from one version of a zone to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneChange {
    /// The serial of the older version.
    pub from: Serial,
    /// The serial of the newer version.
    pub to: Serial,
    /// Records that only the older version has.
    pub deleted: StoredRecords,
    /// Records that only the newer version has.
    pub added: StoredRecords,
}

impl ZoneChange {
    /// Its size in memory, in bytes.
    pub fn bytes(&self) -> u64 {
        (self.deleted.0.len() + self.added.0.len()) as u64
    }
}

/// Records in a compact form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRecords(Vec<u8>);

/// Records from [`StoredRecords::as_bytes`].
impl From<Vec<u8>> for StoredRecords {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// A record of [`StoredRecords`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRecord<'s> {
    /// The labels of its owner before those of the zone, without a root label.
    pub owner: &'s [u8],
    /// TYPE.
    pub rtype: u16,
    /// TTL in seconds.
    pub ttl_secs: u32,
    /// RDATA without compressed names.
    pub data: &'s [u8],
}

impl StoredRecords {
    /// Adds a record.
    pub fn push(&mut self, record: PublishedRecord<'_>) {
        let owner = write::labels(record.owner);
        // An owner has at most 254 bytes without the root label, and RDATA at most 65,535.
        self.0.push(owner.len() as u8);
        self.0.extend_from_slice(owner);
        self.0.extend_from_slice(&record.rtype.to_be_bytes());
        self.0.extend_from_slice(&record.ttl_secs.to_be_bytes());
        self.0
            .extend_from_slice(&(record.data.len() as u16).to_be_bytes());
        self.0.extend_from_slice(record.data);
    }

    /// The size of a record in bytes.
    pub fn size_of(record: PublishedRecord<'_>) -> u64 {
        let fields = 1 + 2 + 4 + 2;
        (write::labels(record.owner).len() + fields + record.data.len()) as u64
    }

    /// All records as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The size in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The record at an offset, and the offset of the next one. The first one is at 0; `None` at the end.
    pub fn at(&self, offset: usize) -> Option<(StoredRecord<'_>, usize)> {
        let (owner, rest) = self
            .0
            .get(offset..)?
            .split_first()
            .and_then(|(len, rest)| {
                let len = usize::from(*len);
                (rest.len() >= len).then(|| rest.split_at(len))
            })?;
        let (fields, rest) = rest.split_first_chunk::<8>()?;
        let [t1, t0, l3, l2, l1, l0, d1, d0] = *fields;
        let size = usize::from(u16::from_be_bytes([d1, d0]));
        let record = StoredRecord {
            owner,
            rtype: u16::from_be_bytes([t1, t0]),
            ttl_secs: u32::from_be_bytes([l3, l2, l1, l0]),
            data: rest.get(..size)?,
        };
        Some((record, offset + 1 + owner.len() + fields.len() + size))
    }
}

/// Who transferred a zone, and how often.
#[derive(Debug, Default)]
pub struct TransferLog {
    whole: AtomicU64,
    incremental: AtomicU64,
    refused: AtomicU64,
    busy: AtomicU64,
    last_busy: Mutex<Option<(IpAddr, SystemTime)>>,
    last: Mutex<BTreeMap<IpAddr, LastTransfer>>,
}

/// The last transfer of a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastTransfer {
    /// When it ended.
    pub at: SystemTime,
    /// The serial that the secondary has since.
    pub serial: Serial,
    /// Whether it was the whole zone.
    pub is_whole: bool,
}

/// The numbers of transfers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferCounts {
    /// Transfers of the whole zone that were completed.
    pub whole: u64,
    /// Transfers of changes that were completed, also of none.
    pub incremental: u64,
    /// Queries that were not permitted.
    pub refused: u64,
    /// Transfers that did not begin, because too many others ran for too long.
    pub busy: u64,
}

impl TransferLog {
    /// Counts a query that was not permitted.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a transfer that did not begin, because too many others ran for too long.
    pub fn be_busy(&self, secondary: IpAddr, at: SystemTime) {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let mut last = self
            .last_busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some((secondary, at));
    }

    /// The secondary of the last such transfer, and when it was refused.
    pub fn last_busy(&self) -> Option<(IpAddr, SystemTime)> {
        *self
            .last_busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a transfer that was completed.
    pub fn complete(&self, secondary: IpAddr, transfer: LastTransfer) {
        let count = match transfer.is_whole {
            true => &self.whole,
            false => &self.incremental,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(secondary, transfer);
        if last.len() > SECONDARIES_MAX {
            let oldest = last.iter().min_by_key(|(_, last)| last.at);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                last.remove(&oldest);
            }
        }
    }

    /// The numbers so far.
    pub fn counts(&self) -> TransferCounts {
        TransferCounts {
            whole: self.whole.load(Ordering::Relaxed),
            incremental: self.incremental.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            busy: self.busy.load(Ordering::Relaxed),
        }
    }

    /// The last transfer of each secondary. Those of the least recent ones are forgotten if there are very many.
    pub fn last(&self) -> Vec<(IpAddr, LastTransfer)> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter()
            .map(|(address, last)| (*address, *last))
            .collect()
    }
}

impl ServedZones {
    /// Replaces the zones.
    pub fn replace(&self, zones: Vec<Arc<ServedZone>>) {
        self.0.store(Arc::new(zones));
    }

    /// The zones at this moment. Hold the guard only while a message is answered.
    pub fn load(&self) -> Guard<Arc<Vec<Arc<ServedZone>>>> {
        self.0.load()
    }
}

/// The innermost one of the zones that a name is in.
pub fn innermost<'z>(zones: &'z [Arc<ServedZone>], name: &Name) -> Option<&'z Arc<ServedZone>> {
    let contains = |zone: &&Arc<ServedZone>| {
        let labels = zone.name.label_count();
        name.label_count() >= labels && name.ancestor(labels) == zone.name.wire()
    };
    let zones = zones.iter().filter(contains);
    zones.max_by_key(|zone| zone.name.label_count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Arc<ServedZone> {
        Arc::new(ServedZone {
            name: Name::from_text(name).expect("a name"),
            access: ZoneAccess::default(),
            version: ArcSwapOption::empty(),
            transfers: Arc::default(),
        })
    }

    #[test]
    fn a_name_is_in_the_innermost_zone() {
        let zones = ["rpz.test", "a.rpz.test"].map(zone);
        for (name, expected) in [
            ("rpz.test", Some("rpz.test")),
            ("b.rpz.test", Some("rpz.test")),
            ("x.a.RPZ.test", Some("a.rpz.test")),
            ("test", None),
            ("xrpz.test", None),
        ] {
            let name = Name::from_text(name).expect("a name");
            let found = innermost(&zones, &name).map(|zone| zone.name.to_string());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn stored_records_are_read_in_the_order_in_which_they_were_added() {
        let mut stored = StoredRecords::default();
        let owners = ["a.example", "", "*.b"].map(|name| Name::from_text(name).unwrap_or_default());
        for (ttl_secs, owner) in (1..).zip(&owners) {
            stored.push(PublishedRecord {
                owner,
                rtype: 5,
                ttl_secs,
                data: &[7; 300][..100 * ttl_secs as usize],
            });
        }
        let (mut at, mut found) = (0, Vec::new());
        while let Some((record, next)) = stored.at(at) {
            found.push((record.owner, record.ttl_secs, record.data.len()));
            at = next;
        }
        let expected = [
            (&b"\x01a\x07example"[..], 1, 100),
            (b"", 2, 200),
            (b"\x01*\x01b", 3, 300),
        ];
        assert_eq!(found, expected);
        assert_eq!(at, stored.len());
        assert_eq!(StoredRecords::from(stored.as_bytes().to_vec()), stored);
    }

    #[test]
    fn the_size_of_a_record_is_that_in_which_it_is_stored() {
        let owner = Name::from_text("*.a.example").expect("a name");
        let record = PublishedRecord {
            owner: &owner,
            rtype: 1,
            ttl_secs: 60,
            data: &[192, 0, 2, 1],
        };
        let mut stored = StoredRecords::default();
        stored.push(record);
        assert_eq!(StoredRecords::size_of(record), stored.len() as u64);
    }

    #[test]
    fn without_any_condition_nobody_may_transfer_a_zone() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let network: ipnet::IpNet = "192.0.2.0/24".parse().expect("a network");
        let access = |networks: bool, is_signed| ZoneAccess {
            networks: networks.then(|| [network].iter().collect()),
            is_signed,
            ..ZoneAccess::default()
        };
        assert!(!access(false, false).permits_address(address));
        assert!(access(false, true).permits_address(address));
        assert!(access(true, false).permits_address(address));
        assert!(!access(true, true).permits_address([198, 51, 100, 1].into()));
    }

    #[test]
    fn the_secondaries_that_are_remembered_are_limited() {
        let log = TransferLog::default();
        for number in 0..1000_u32 {
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number.into());
            let transfer = LastTransfer {
                at,
                serial: Serial(number),
                is_whole: number % 2 == 0,
            };
            log.complete(IpAddr::V4(number.into()), transfer);
        }
        let last = log.last();
        assert_eq!(last.len(), SECONDARIES_MAX);
        assert!(last.iter().all(|(_, last)| last.serial.0 >= 744));
        let counts = log.counts();
        assert_eq!((counts.whole, counts.incremental), (500, 500));
    }
}
