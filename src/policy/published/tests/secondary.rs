//! What servers make of the records of a policy zone.

use super::specs::zone_source;
use super::*;

/// A record without its TTL: owner, type, data.
pub(super) type Record = (Name, u16, Vec<u8>);

pub(super) fn published(zone: &PublishedZone) -> Vec<(Record, u32)> {
    let mut records = zone.records();
    let mut all = Vec::new();
    while let Some(record) = records.next() {
        let found = (record.owner.clone(), record.rtype, record.data.to_vec());
        all.push((found, record.ttl_secs));
    }
    assert_eq!(records.damage(), None);
    all
}

/// A policy that consists of a policy zone with these records.
pub(super) fn secondary(records: &[(Record, u32)]) -> Snapshot {
    let apex = name(APEX);
    let mut builder = Builder::new();
    let source = builder.source(ImageSource {
        amendable: true,
        ..ImageSource::named("zone")
    });
    let source = source.expect("room");
    let mut reader = ZoneReader::new(apex.clone());
    let mut emit = |rule: crate::policy::rpz::ZoneRule<'_>| match rule.trigger {
        ZoneTrigger::Name(scope) => {
            let added = builder.insert_effect(rule.name, source, *scope, rule.effect);
            added.expect("room");
        }
        ZoneTrigger::Network(prefix) => {
            builder
                .insert_prefix(*prefix, source, rule.effect)
                .expect("room");
        }
    };
    let mut known = BTreeSet::new();
    let mut last = None;
    for ((owner, rtype, data), ttl_secs) in records {
        if last != Some(owner) {
            assert!(known.insert(owner), "{owner} comes once");
            last = Some(owner);
        }
        let wire = [&owner.wire()[..owner.wire().len() - 1], apex.wire()].concat();
        let (owner, _) = Name::parse(&wire, 0).expect("a name");
        let record = ZoneRecord {
            owner: &owner,
            rtype: *rtype,
            class: class::IN,
            ttl_secs: *ttl_secs,
            data,
            line: 0,
        };
        reader.add(record, &mut emit).expect("a rule");
    }
    reader.finish(&mut emit).expect("a rule");
    let source = zone_source("zone");
    let image = Arc::new(builder.finish().expect("room"));
    Snapshot::default().with_rules(vec![Arc::new(source)], image.into())
}

/// Types and data of the records that stand for the decision; empty if the name is not blocked.
pub(super) fn decided(snapshot: &Snapshot, asked: &Name) -> Vec<(u16, Vec<u8>)> {
    let Decision::Blocked { by, nxdomain, .. } = snapshot.decide(asked) else {
        return Vec::new();
    };
    let (records, _) = answer_records(by.blocking, nxdomain);
    let records = records.into_iter();
    let mut records: Vec<_> = records
        .map(|record| (record.rtype, record.data.into_vec()))
        .collect();
    records.sort();
    records
}

/// Whether a server's wildcards match below a closer ancestor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    ClosestEncloser,
    AnyAncestor,
}

/// What a server finds for a name in a policy zone with these records, without PASSTHRU.
pub(super) fn read(
    records: &[(Record, u32)],
    asked: &Name,
    reading: Reading,
) -> Vec<(u16, Vec<u8>)> {
    let on = |owner: &Name| -> Vec<_> {
        let all = records.iter().map(|(record, _)| record);
        let all = all.filter(|(of, ..)| of == owner);
        let mut found: Vec<_> = all.map(|(_, rtype, data)| (*rtype, data.clone())).collect();
        found.sort();
        found
    };
    let exists = |name: &Name| {
        let labels = name.label_count();
        let mut owners = records.iter().map(|((owner, ..), _)| owner);
        owners.any(|owner| owner.label_count() >= labels && owner.ancestor(labels) == name.wire())
    };
    let find = || {
        let own = on(asked);
        if !own.is_empty() || exists(asked) && reading == Reading::ClosestEncloser {
            return own;
        }
        for labels in (0..asked.label_count()).rev() {
            let (above, _) = Name::parse(asked.ancestor(labels), 0).expect("a name");
            let mut wildcard = Name::ROOT;
            crate::policy::rpz::wildcard_owner(&above, &mut wildcard);
            let found = on(&wildcard);
            if !found.is_empty() || exists(&above) && reading == Reading::ClosestEncloser {
                return found;
            }
        }
        Vec::new()
    };
    let found = find();
    let passthru = name("rpz-passthru");
    match &*found {
        [(rtype::CNAME, data)] if *data == passthru.wire() || *data == asked.wire() => Vec::new(),
        _ => found,
    }
}

pub(super) fn zone_of(snapshot: &Snapshot) -> PublishedZone {
    PublishedZone::new(snapshot, &Selection::All, &name(APEX))
}

pub(super) fn apply(zone: &[(Record, u32)], mut changes: Changes) -> BTreeSet<(Record, u32)> {
    let mut all: BTreeSet<_> = zone.iter().cloned().collect();
    while let Some((change, record)) = changes.next() {
        let PublishedRecord {
            owner,
            rtype,
            ttl_secs,
            data,
        } = record;
        let record = ((owner.clone(), rtype, data.to_vec()), ttl_secs);
        match change {
            RecordChange::Deleted => assert!(all.remove(&record), "{owner} was there"),
            RecordChange::Added => assert!(all.insert(record), "{owner} was not there"),
        }
    }
    assert_eq!(changes.damage(), None);
    all
}
