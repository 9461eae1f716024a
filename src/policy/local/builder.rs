//! Builds the tree of names that are answered locally.

use std::collections::HashMap;
use std::sync::Arc;

use super::special_use::{self, SpecialUseZone};
use super::tree::{FileZone, ForwardedZone, LocalNames, Node, Records, SPECIAL_USE_TTL, Soa, Zone};
use crate::policy::record::{LocalRecord, rrsets};
use crate::wire::name::Name;
use crate::wire::rtype;

/// The label of a wildcard, with its length.
const WILDCARD: &[u8] = b"\x01*";
/// The smallest SOA record has two names of one byte and five numbers, of which MINIMUM is the last.
const MINIMUM_BYTES: usize = 4;

/// Collects names, zones and forwarded zones.
#[derive(Debug, Default)]
pub struct LocalBuilder {
    drafts: HashMap<Box<[u8]>, Draft>,
}

#[derive(Debug, Default)]
struct Draft {
    zone: Option<DraftZone>,
    records: Vec<LocalRecord>,
    line: u32,
}

#[derive(Debug)]
enum DraftZone {
    SpecialUse(SpecialUseZone),
    File(u32),
    Forwarded(ForwardedZone),
}

impl LocalBuilder {
    /// With the special-use zones except those in `forwarded`; with the canary domain only if `canary` is set.
    pub fn new(forwarded: &[Name], canary: bool) -> Self {
        let mut builder = Self::default();
        for (name, zone) in special_use::zones(canary) {
            if !forwarded.contains(&name) {
                builder.draft(&name).zone = Some(DraftZone::SpecialUse(zone));
            }
        }
        builder
    }

    /// Adds a record of the section on a line. Records of one name must not contradict each other.
    pub fn add_record(&mut self, owner: &Name, record: LocalRecord, line: u32) {
        let draft = self.draft(owner);
        draft.records.push(record);
        draft.line = line;
    }

    /// Adds a zone of the section on a line. Its records are added by [`add_record`](Self::add_record); one of them is its
    /// SOA record. Takes the place of a special-use zone of that name.
    pub fn add_zone(&mut self, apex: &Name, line: u32) {
        self.draft(apex).zone = Some(DraftZone::File(line));
    }

    /// Adds a forwarded zone. Takes the place of a special-use zone of that name.
    pub fn add_forwarded(&mut self, apex: &Name, zone: ForwardedZone) {
        self.draft(apex).zone = Some(DraftZone::Forwarded(zone));
    }

    /// The tree.
    pub fn finish(self) -> LocalNames {
        let mut names = LocalNames {
            nodes: HashMap::default(),
        };
        for (wire, draft) in self.drafts {
            let (name, _) = Name::parse(&wire, 0).expect("the key is a name");
            for labels in 1..name.label_count() {
                names.nodes.entry(name.ancestor(labels).into()).or_default();
            }
            let line = draft.line;
            let records = (!draft.records.is_empty()).then(|| {
                let all = rrsets(&draft.records, 0);
                Arc::new(Records::new(all, line))
            });
            if let (Some(records), Some(parent)) = (&records, wire.strip_prefix(WILDCARD)) {
                let parent = names.nodes.entry(parent.into()).or_default();
                parent.wildcard = Some(Arc::clone(records));
            }
            let zone = draft.zone.map(|zone| zone.finish(records.as_deref()));
            let node: &mut Node = names.nodes.entry(wire).or_default();
            (node.zone, node.records) = (zone, records);
        }
        names
    }

    fn draft(&mut self, name: &Name) -> &mut Draft {
        self.drafts.entry(name.wire().into()).or_default()
    }
}

impl DraftZone {
    /// The zone, given the records of its apex.
    fn finish(self, records: Option<&Records>) -> Zone {
        match self {
            Self::SpecialUse(zone) => Zone::SpecialUse(zone),
            Self::Forwarded(zone) => Zone::Forwarded(Box::new(zone)),
            Self::File(line) => {
                let records = records.map_or(&[][..], |records| &records.all);
                let soa = records.iter().find(|record| record.rtype == rtype::SOA);
                Zone::File(Box::new(FileZone {
                    soa: Soa::of(soa),
                    line,
                }))
            }
        }
    }
}

impl Soa {
    fn of(record: Option<&LocalRecord>) -> Self {
        let data = record.map_or(&[][..], |record| &record.data);
        let minimum = data.last_chunk::<MINIMUM_BYTES>();
        let minimum = minimum.map_or(SPECIAL_USE_TTL, |minimum| u32::from_be_bytes(*minimum));
        let ttl = record.and_then(|record| record.ttl_secs);
        Self {
            data: data.into(),
            negative_ttl: ttl.map_or(minimum, |ttl| ttl.min(minimum)),
        }
    }
}

impl LocalNames {
    /// The special-use zones except those in `forwarded`; the canary domain only if `canary` is set.
    pub fn special_use(forwarded: &[Name], canary: bool) -> Self {
        LocalBuilder::new(forwarded, canary).finish()
    }
}
