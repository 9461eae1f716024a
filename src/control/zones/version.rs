//! Makes the versions of a published zone, by comparing the policy in force with the last version.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::digest::Digest;
use super::history::Limits;
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
    pub(super) contents: PublishedZone,
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
    /// The changes that lead to that version.
    pub(super) history: &'m [Arc<ZoneChange>],
    /// The serial of the version that is served.
    pub(super) served: Option<Serial>,
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

    /// The version to serve while the records of the first one are read: the last version of the earlier process, without its
    /// records; or the first one itself, if there was none.
    pub(super) fn early(self, contents: &PublishedZone) -> ZoneVersion {
        match self.stored {
            Some(stored) => self.last(stored),
            None => {
                let serial = serial::next(self.served, self.now);
                self.version(serial, Some(contents.clone()), Size::UNREAD, Vec::new())
            }
        }
    }

    /// The last version of the earlier process, without its records.
    pub(super) fn last(self, stored: &StoredVersion) -> ZoneVersion {
        let history = self.limits().bounded(self.history.to_vec());
        self.version(stored.serial, None, Size::UNREAD, history)
    }

    fn first(self, contents: PublishedZone) -> Result<Made, NoVersion> {
        let whole = self.read(&contents)?;
        let same = self.stored.filter(|stored| stored.digest == whole.digest);
        let (serial, history) = match same {
            Some(stored) => (stored.serial, self.limits().bounded(self.history.to_vec())),
            None => {
                let known = self.stored.map(|stored| stored.serial).or(self.served);
                (serial::next(known, self.now), Vec::new())
            }
        };
        let version = self.version(serial, Some(contents.clone()), whole.size, history);
        Ok(Made {
            version: Arc::new(version),
            contents,
            digest: whole.digest,
            inexpressible: whole.inexpressible,
        })
    }

    fn follow(self, last: &Made, contents: PublishedZone) -> Result<Made, NoVersion> {
        let was = &last.version;
        let mut changes = contents.changes_from(&last.contents);
        let most = self.publish.history_bytes;
        let mut digest = last.digest;
        let mut size = Size {
            records: was.records,
            bytes: was.bytes,
        };
        let (mut deleted, mut added) = (StoredRecords::default(), StoredRecords::default());
        let (mut is_same, mut fits) = (true, self.publish.history_changes > 0);
        while let Some((change, record)) = changes.next() {
            self.check()?;
            is_same = false;
            let stored = match change {
                RecordChange::Deleted => {
                    digest.remove(record);
                    size.remove(record);
                    &mut deleted
                }
                RecordChange::Added => {
                    digest.add(record);
                    size.add(record);
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
            // Without this change, the older ones lead nowhere.
            history = change.map_or_else(Vec::new, |change| {
                history.push(change);
                self.limits().bounded(history)
            });
        }
        let inexpressible = match size.records <= SMALL {
            true => self.read(&contents)?.inexpressible,
            false => last.inexpressible,
        };
        let version = self.version(serial, Some(contents.clone()), size, history);
        Ok(Made {
            version: Arc::new(version),
            contents,
            digest,
            inexpressible,
        })
    }

    fn limits(self) -> Limits {
        Limits::of(self.publish)
    }

    fn version(
        self,
        serial: Serial,
        contents: Option<PublishedZone>,
        size: Size,
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
            records: size.records,
            bytes: size.bytes,
            history,
        }
    }

    /// Reads all records. The digest also has those that the caller of [`PublishedZone`] adds, so that other settings are
    /// another version.
    fn read(self, contents: &PublishedZone) -> Result<Whole, NoVersion> {
        let mut whole = Whole::default();
        let apex = self.version(Serial(0), None, Size::default(), Vec::new());
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
            whole.size.add(record);
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
    size: Size,
    inexpressible: Inexpressible,
}

/// The size of a zone.
#[derive(Clone, Copy, Default)]
struct Size {
    records: u64,
    /// In the form in which changes are stored.
    bytes: u64,
}

impl Size {
    /// That of a zone whose records have not been read.
    const UNREAD: Self = Self {
        records: 0,
        bytes: u64::MAX,
    };

    fn add(&mut self, record: PublishedRecord<'_>) {
        self.records += 1;
        self.bytes += StoredRecords::size_of(record);
    }

    fn remove(&mut self, record: PublishedRecord<'_>) {
        self.records -= 1;
        self.bytes -= StoredRecords::size_of(record);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::policy::builder::Builder;
    use crate::policy::images::Images;
    use crate::policy::published::Selection;
    use crate::policy::rule::{Action, Kind, Scope};
    use crate::policy::snapshot::Snapshot;
    use crate::policy::tests::sources::source;

    static GOES_ON: AtomicBool = AtomicBool::new(false);

    fn publish(more: &str) -> Publish {
        let text =
            format!("[[publish]]\nzone = \"rpz.test\"\nallow-transfer = [\"192.0.2.1\"]\n{more}\n");
        let config = Config::parse(&text, Path::new("tapis.toml")).expect("valid");
        config.publish[0].clone()
    }

    /// A policy that blocks these names.
    pub(in super::super) fn snapshot(names: &[&str]) -> Snapshot {
        let mut builder = Builder::new();
        let names = names
            .iter()
            .map(|text| Name::from_text(text).expect("a name"));
        let names: Vec<_> = names.collect();
        let rules = names.iter().map(|name| (name, Scope::Exact));
        builder.list("list", rules).expect("room");
        let image = Arc::new(builder.finish().expect("room"));
        let list = source("list", Kind::Block, Action::Nodata);
        let images = Images {
            delta: Some(image),
            ..Images::default()
        };
        Snapshot::default().with_rules(vec![Arc::new(list)], images)
    }

    /// A zone in which these names are blocked.
    fn zone(names: &[&str]) -> PublishedZone {
        let apex = Name::from_text("rpz.test").expect("a name");
        PublishedZone::new(&snapshot(names), &Selection::All, &apex)
    }

    fn maker(publish: &Publish) -> Maker<'_> {
        Maker {
            publish,
            stored: None,
            history: &[],
            served: None,
            now: 1000,
            stop: &GOES_ON,
        }
    }

    fn serials(version: &ZoneVersion) -> Vec<u32> {
        let history = version.history.iter();
        history.map(|change| change.from.0).collect()
    }

    /// The versions with the names a, then a and b, then b and c, and the record of the last one.
    fn versions(publish: &Publish) -> (Vec<Made>, StoredVersion) {
        let mut made: Vec<Made> = Vec::new();
        for names in [
            &["a.test"][..],
            &["a.test", "b.test"],
            &["b.test", "c.test"],
        ] {
            let next = maker(publish).make(made.last(), zone(names));
            made.push(next.expect("made"));
        }
        let last = &made[2];
        let stored = StoredVersion {
            zone: "rpz.test".to_owned(),
            serial: last.version.soa.serial,
            digest: last.digest,
        };
        (made, stored)
    }

    #[test]
    fn each_change_of_the_records_gets_the_next_serial_and_its_place_in_the_history() {
        let publish = publish("");
        let (made, _) = versions(&publish);
        let serials_of = |made: &Made| (made.version.soa.serial.0, serials(&made.version));
        let found: Vec<_> = made.iter().map(serials_of).collect();
        let expected = [(1000, vec![]), (1001, vec![1000]), (1002, vec![1000, 1001])];
        assert_eq!(found, expected);
        let same = maker(&publish).make(made.last(), zone(&["c.test", "b.test"]));
        assert_eq!(serials_of(&same.expect("made")), expected[2]);
    }

    #[test]
    fn sizes_and_digests_that_are_derived_from_changes_are_those_of_all_records() {
        let publish = publish("");
        let (made, _) = versions(&publish);
        let read = maker(&publish).make(None, zone(&["b.test", "c.test"]));
        let read = read.expect("made");
        assert_eq!(made[2].digest, read.digest);
        assert_eq!(made[2].version.records, read.version.records);
        assert_eq!(made[2].version.bytes, read.version.bytes);
        assert_ne!(made[1].digest, read.digest);
    }

    #[test]
    fn after_a_start_the_same_records_have_the_stored_serial_and_the_history() {
        let publish = publish("");
        let (made, stored) = versions(&publish);
        let after_start = Maker {
            stored: Some(&stored),
            history: &made[2].version.history,
            now: 5000,
            ..maker(&publish)
        };
        let early = after_start.early(&zone(&["other.test"]));
        assert_eq!(early.soa.serial, stored.serial);
        assert_eq!(serials(&early), [1000, 1001]);
        assert!(early.contents.is_none(), "they may be other ones");
        let same = after_start.make(None, zone(&["b.test", "c.test"]));
        let same = same.expect("made").version;
        assert_eq!(
            (same.soa.serial, serials(&same)),
            (stored.serial, vec![1000, 1001])
        );
        let other = after_start.make(None, zone(&["b.test"]));
        let other = other.expect("made").version;
        assert_eq!((other.soa.serial.0, serials(&other)), (5000, vec![]));
    }

    #[test]
    fn the_same_records_below_another_soa_record_are_another_version() {
        let (_, stored) = versions(&publish(""));
        let other = publish("refresh-secs = 61");
        let other = Maker {
            stored: Some(&stored),
            now: 5000,
            ..maker(&other)
        };
        let made = other.make(None, zone(&["b.test", "c.test"]));
        assert_eq!(made.expect("made").version.soa.serial.0, 5000);
    }

    #[test]
    fn the_first_version_is_served_before_it_is_read_under_the_serial_that_it_keeps() {
        let publish = publish("");
        let maker = maker(&publish);
        let contents = zone(&["a.test"]);
        let early = maker.early(&contents);
        assert!(early.contents.is_some());
        let made = maker.make(None, contents).expect("made");
        assert_eq!(early.soa.serial, made.version.soa.serial);
        // Another attempt may have other contents.
        let again = Maker {
            served: Some(early.soa.serial),
            ..maker
        };
        let made = again.make(None, zone(&["b.test"])).expect("made");
        assert!(made.version.soa.serial.is_newer_than(early.soa.serial));
    }

    #[test]
    fn changes_larger_than_the_zone_are_not_sent() {
        let publish = publish("");
        let (made, _) = versions(&publish);
        let sent =
            |version: &ZoneVersion, from| version.changes_since(Serial(from)).map(<[_]>::len);
        let last = &made[2].version;
        // Of the serial 1000, four records changed, and the zone has two.
        assert_eq!(sent(last, 1000), None);
        assert_eq!(sent(last, 1001), Some(1));
        assert_eq!(sent(&made[1].version, 1000), Some(1));
        assert_eq!(sent(last, 999), None);
    }

    #[test]
    fn a_change_that_is_larger_than_all_of_the_history_may_be_ends_it() {
        let publish = publish("history-mib = 1");
        let (made, _) = versions(&publish);
        let many: Vec<_> = (0..60_000).map(|n| format!("n{n}.test")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let large = maker(&publish)
            .make(made.last(), zone(&many))
            .expect("made");
        assert!(large.version.bytes > 1 << 20);
        assert!(serials(&large.version).is_empty());
        let next = maker(&publish).make(Some(&large), zone(&many[1..]));
        assert_eq!(serials(&next.expect("made").version), [1003]);
        let none = Publish {
            history_changes: 0,
            ..publish
        };
        let without = maker(&none).make(made.last(), zone(&["c.test"]));
        assert!(serials(&without.expect("made").version).is_empty());
    }
}
