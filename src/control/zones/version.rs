//! Makes the versions of a published zone, by comparing the policy in force with the last version.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::digest::Digest;
use super::serial::{self, StoredVersion};
use crate::config::publish::Publish;
use crate::policy::image::ImageError;
use crate::policy::published::{Inexpressible, PublishedRecord, PublishedZone, RecordChange};
use crate::policy::served_zones::{StoredRecords, ZoneChange, ZoneVersion};
use crate::wire::name::Name;
use crate::wire::transfer::{Serial, Soa};

/// Zones with at most this many records are read whole for each version, to count what can't be expressed.
const SMALL: u64 = 100_000;

/// The contact in the SOA record: policy zones have none, and nobody asks for it.
const RNAME: &str = "nobody.invalid";

/// A version, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) version: Arc<ZoneVersion>,
    pub(super) digest: Digest,
    pub(super) inexpressible: Inexpressible,
}

/// Why there is no new version.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoVersion {
    /// The zone is no longer published.
    #[error("stopped")]
    Stopped,
    /// The rules can't be read.
    #[error("the policy in force can't be read: {0}; restart the server to compile it again")]
    Damaged(#[from] ImageError),
}

/// Makes versions of one zone. The work takes seconds for millions of records, and ends early if `stop` is set.
#[derive(Clone, Copy)]
pub(super) struct Maker<'m> {
    pub(super) publish: &'m Publish,
    /// The last version of an earlier process.
    pub(super) stored: Option<&'m StoredVersion>,
    /// Seconds since 1970.
    pub(super) now: u64,
    pub(super) stop: &'m AtomicBool,
}

impl Maker<'_> {
    /// The version with this policy, which has the serial of the last one if its records are the same.
    pub(super) fn make(
        self,
        last: Option<&Made>,
        contents: PublishedZone,
    ) -> Result<Made, NoVersion> {
        match last {
            Some(last) => self.follow(last, contents),
            None => self.first(contents),
        }
    }

    fn first(self, contents: PublishedZone) -> Result<Made, NoVersion> {
        let whole = self.read(&contents)?;
        let same = self.stored.filter(|stored| stored.digest == whole.digest);
        let serial = match (same, self.stored) {
            (Some(stored), _) => stored.serial,
            (None, stored) => serial::next(stored.map(|stored| stored.serial), self.now),
        };
        Ok(Made {
            version: Arc::new(self.version(serial, contents, whole.records, Vec::new())),
            digest: whole.digest,
            inexpressible: whole.inexpressible,
        })
    }

    fn follow(self, last: &Made, contents: PublishedZone) -> Result<Made, NoVersion> {
        let was = &last.version;
        let mut changes = contents.changes_from(&was.contents);
        let most = self.publish.history_bytes;
        let (mut digest, mut records) = (last.digest, was.records);
        let (mut deleted, mut added) = (StoredRecords::default(), StoredRecords::default());
        let (mut is_same, mut fits) = (true, self.publish.history_changes > 0);
        while let Some((change, record)) = changes.next() {
            self.check()?;
            is_same = false;
            let stored = match change {
                RecordChange::Deleted => {
                    digest.remove(record);
                    records -= 1;
                    &mut deleted
                }
                RecordChange::Added => {
                    digest.add(record);
                    records += 1;
                    &mut added
                }
            };
            if fits {
                stored.push(record);
                fits = (deleted.len() + added.len()) as u64 <= most;
            }
        }
        if let Some(damage) = changes.damage() {
            return Err(damage.into());
        }
        let from = was.soa.serial;
        let serial = match is_same {
            true => from,
            false => serial::next(Some(from), self.now),
        };
        let mut history = was.history.clone();
        if !is_same {
            let change = fits.then(|| {
                Arc::new(ZoneChange {
                    from,
                    to: serial,
                    deleted,
                    added,
                })
            });
            history = self.bounded(history, change);
        }
        let inexpressible = match records <= SMALL {
            true => self.read(&contents)?.inexpressible,
            false => last.inexpressible,
        };
        Ok(Made {
            version: Arc::new(self.version(serial, contents, records, history)),
            digest,
            inexpressible,
        })
    }

    /// The history with another change, within its limits. Without that change, the older ones lead nowhere.
    fn bounded(
        self,
        mut history: Vec<Arc<ZoneChange>>,
        change: Option<Arc<ZoneChange>>,
    ) -> Vec<Arc<ZoneChange>> {
        let Some(change) = change else {
            return Vec::new();
        };
        history.push(change);
        let (mut bytes, mut kept) = (0, 0);
        for change in history.iter().rev().take(self.publish.history_changes) {
            bytes += change.bytes();
            if bytes > self.publish.history_bytes {
                break;
            }
            kept += 1;
        }
        history.split_off(history.len() - kept)
    }

    fn version(
        self,
        serial: Serial,
        contents: PublishedZone,
        records: u64,
        history: Vec<Arc<ZoneChange>>,
    ) -> ZoneVersion {
        let timers = &self.publish.timers;
        ZoneVersion {
            soa: Soa {
                mname: self.publish.name_server.clone(),
                rname: Name::from_text(RNAME).expect("a name"),
                serial,
                refresh: timers.refresh,
                retry: timers.retry,
                expire: timers.expire,
                minimum: timers.ttl,
            },
            name_server: self.publish.name_server.clone(),
            ttl_secs: timers.ttl,
            contents,
            records,
            history,
        }
    }

    /// Reads all records. The digest also has those that the caller of [`PublishedZone`] adds, so that other settings are
    /// another version.
    fn read(self, contents: &PublishedZone) -> Result<Whole, NoVersion> {
        let mut whole = Whole::default();
        let apex = self.version(Serial(0), contents.clone(), 0, Vec::new());
        whole.digest.add(PublishedRecord {
            owner: &Name::ROOT,
            rtype: crate::wire::rtype::SOA,
            ttl_secs: apex.ttl_secs,
            data: &apex.soa_data(Serial(0)),
        });
        let mut records = contents.records();
        while let Some(record) = records.next() {
            self.check()?;
            whole.digest.add(record);
            whole.records += 1;
        }
        if let Some(damage) = records.damage() {
            return Err(damage.into());
        }
        whole.inexpressible = *records.inexpressible();
        Ok(whole)
    }

    fn check(self) -> Result<(), NoVersion> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(NoVersion::Stopped),
            false => Ok(()),
        }
    }
}

/// What reading all records of a zone returns.
#[derive(Default)]
struct Whole {
    digest: Digest,
    records: u64,
    inexpressible: Inexpressible,
}
