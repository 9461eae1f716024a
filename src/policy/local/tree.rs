//! The tree of local names, and how a name is found in it.
//!
//! All names are in one tree, a hash table by name in which each ancestor of a name has a node. So the walk from the
//! root to a name ends at the closest encloser (RFC 4592, section 3.3.1), however many labels the name has.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::special_use::SpecialUseZone;
use crate::policy::record::LocalRecord;
use crate::wire::name::Name;
use crate::wire::rtype;

/// TTL of the answers of special-use zones, in seconds (RFC 6303, section 3).
pub const SPECIAL_USE_TTL: u32 = 10_800;

/// The names that are answered locally, and the forwarded zones.
#[derive(Debug)]
pub struct LocalNames {
    pub(super) nodes: HashMap<Box<[u8]>, Node, RandomState>,
}

/// A name that has records or a zone, or is above such a name.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) zone: Option<Zone>,
    pub(super) records: Option<Arc<Records>>,
    /// The records of the wildcard below the name.
    pub(super) wildcard: Option<Arc<Records>>,
}

/// The records of one name.
#[derive(Debug)]
pub(super) struct Records {
    /// At least one, sorted by type; each RRset has one TTL.
    pub(super) all: Box<[LocalRecord]>,
    /// The one record, if that is a CNAME record.
    pub(super) alias: Option<Box<LocalAlias>>,
    /// The line of the configuration's section.
    pub(super) line: u32,
}

/// A CNAME record.
#[derive(Debug)]
pub struct LocalAlias {
    /// Its target.
    pub target: Name,
    /// Its TTL in seconds.
    pub ttl_secs: u32,
}

impl Records {
    pub(super) fn new(all: Box<[LocalRecord]>, line: u32) -> Self {
        let alias = match &*all {
            [record] => record.cname_target().map(|target| {
                let ttl_secs = record.ttl_secs.unwrap_or(0);
                Box::new(LocalAlias { target, ttl_secs })
            }),
            _ => None,
        };
        Self { all, alias, line }
    }
}

/// The zone of which a name is the apex.
#[derive(Debug)]
pub(super) enum Zone {
    SpecialUse(SpecialUseZone),
    File(Box<FileZone>),
    Forwarded(Box<ForwardedZone>),
}

impl Zone {
    /// Whether the DS record of the apex belongs to the parent zone, whose answer proves to validators that this zone is
    /// unsigned (RFC 4035, section 3.1.4.1; RFC 6303, section 3). Special-use names other than those of empty zones have
    /// no parent to ask.
    fn has_parent(&self) -> bool {
        !matches!(self, Self::SpecialUse(zone) if *zone != SpecialUseZone::Empty)
    }
}

/// A zone from a file.
#[derive(Debug)]
pub(super) struct FileZone {
    pub(super) soa: Soa,
    /// The line of the configuration's section.
    pub(super) line: u32,
}

/// The SOA record of a negative answer.
#[derive(Debug)]
pub struct Soa {
    /// Its data.
    pub data: Box<[u8]>,
    /// The TTL of negative answers: the lower of its own TTL and MINIMUM (RFC 2308, section 5).
    pub negative_ttl: u32,
}

/// A zone that is forwarded to its own servers.
#[derive(Debug)]
pub struct ForwardedZone {
    /// Its servers, as they are shown.
    pub servers: Arc<str>,
    /// The line of the configuration's section.
    pub line: u32,
}

/// How a name is answered locally.
#[derive(Clone, Copy, Debug)]
pub struct LocalAnswer<'l> {
    /// The data of the name.
    pub data: LocalData<'l>,
    /// The number of labels of the ancestor that owns the SOA record of a negative answer: the zone's name, or the name
    /// itself if it is in no local zone.
    pub labels: usize,
    /// The SOA record; `None` if it is made up.
    pub soa: Option<&'l Soa>,
    /// The CNAME record among the data.
    cname: Option<&'l LocalAlias>,
    /// The line of the configuration's section; `None` for special-use zones.
    pub line: Option<u32>,
}

/// The data of a name that is answered locally.
#[derive(Clone, Copy, Debug)]
pub enum LocalData<'l> {
    /// That of a special-use zone.
    SpecialUse(SpecialUseZone),
    /// These records, sorted by type; none if the name only has names below it.
    Records(&'l [LocalRecord]),
    /// The name does not exist.
    Nonexistent,
}

impl<'l> LocalAnswer<'l> {
    /// The CNAME record that a query of this type leads to. A query of type CNAME or ANY gets the record itself (RFC 1034,
    /// section 3.6.2).
    pub fn alias(&self, rtype: u16) -> Option<&'l LocalAlias> {
        let is_followed = !matches!(rtype, rtype::CNAME | rtype::ANY);
        self.cname.filter(|_| is_followed)
    }
}

/// The end of the walk from the root to a name.
struct Walk<'l> {
    /// The node of the name or its closest encloser, and its number of labels.
    node: &'l Node,
    labels: usize,
    /// The innermost zone that answers the query, and the number of labels of its apex.
    zone: Option<(&'l Zone, usize)>,
    /// The name is the apex of a zone, but its parent zone answers the query.
    is_of_parent: bool,
}

impl LocalNames {
    /// How a query of this type for `name` is answered locally; `None` if it is not. Never allocates.
    pub fn lookup(&self, name: &Name, rtype: u16) -> Option<LocalAnswer<'_>> {
        let Walk {
            node,
            labels,
            zone,
            is_of_parent,
        } = self.walk(name, rtype)?;
        let is_exact = labels == name.label_count();
        let records = match is_exact {
            true => node.records.as_deref().filter(|_| !is_of_parent),
            false => node.wildcard.as_deref(),
        };
        let zone = zone.filter(|(zone, _)| !matches!(zone, Zone::Forwarded(_)));
        let (soa, zone_line) = match zone {
            Some((Zone::File(zone), _)) => (Some(&zone.soa), Some(zone.line)),
            _ => (None, None),
        };
        let answer = |data, line| LocalAnswer {
            data,
            labels: zone.map_or(name.label_count(), |(_, labels)| labels),
            soa,
            cname: None,
            line,
        };
        if let Some(records) = records {
            // The names around a single name come from upstream, and validators need these records for them.
            let is_of_validators = matches!(rtype, rtype::DS | rtype::DNSKEY);
            return (zone.is_some() || !is_of_validators).then(|| LocalAnswer {
                cname: records.alias.as_deref(),
                ..answer(LocalData::Records(&records.all), Some(records.line))
            });
        }
        let (zone, apex) = zone?;
        let data = match zone {
            // An NXDOMAIN would deny the names below, too (RFC 8020).
            _ if is_exact && apex < labels => LocalData::Records(&[]),
            Zone::SpecialUse(zone) => LocalData::SpecialUse(*zone),
            _ => LocalData::Nonexistent,
        };
        Some(answer(data, zone_line))
    }

    /// The forwarded zone whose servers are asked if a query of this type for `name` is answered neither locally nor from
    /// the cache; `None` if the default servers are.
    pub fn forwarded(&self, name: &Name, rtype: u16) -> Option<&ForwardedZone> {
        match self.walk(name, rtype)?.zone {
            Some((Zone::Forwarded(zone), _)) => Some(zone),
            _ => None,
        }
    }

    fn walk(&self, name: &Name, rtype: u16) -> Option<Walk<'_>> {
        // Most queried names are in no top-level domain of the tree, so the walk ends with its first lookup.
        let all = name.label_count();
        let (mut zone, mut last, mut is_of_parent) = (None, None, false);
        for labels in 1..=all {
            let Some(node) = self.nodes.get(name.ancestor(labels)) else {
                break;
            };
            last = Some((node, labels));
            if let Some(here) = &node.zone {
                is_of_parent = labels == all && rtype == rtype::DS && here.has_parent();
                if !is_of_parent {
                    zone = Some((here, labels));
                }
            }
        }
        let (node, labels) = last?;
        Some(Walk {
            node,
            labels,
            zone,
            is_of_parent,
        })
    }
}
