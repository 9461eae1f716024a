mod parts;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::policy::amendment::Amendment;
use crate::policy::builder::Builder;
use crate::policy::decide::Decision;
use crate::policy::effect::{Effect, EffectAction, Tier};
use crate::policy::image::Image;
use crate::policy::image::path::Path;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::policy::record::LocalRecord;
use crate::policy::rpz::settings::{ZonePolicy, ZoneSettings};
use crate::policy::rpz::{ZoneReader, ZoneRecord, ZoneTrigger, answer_records};
use crate::policy::rule::{Action, Against, Blocking, Ede, Kind, Scope, Source};
use crate::policy::snapshot::Snapshot;
use crate::wire::name::Name;
use crate::wire::{class, rtype};

const APEX: &str = "rpz.example";

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// All names of up to `depth` of these labels, the root first.
fn names(labels: &[&str], depth: usize) -> Vec<Name> {
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..depth {
        let pairs = last
            .iter()
            .flat_map(|name| labels.iter().map(move |label| (label, name)));
        last = pairs
            .map(|(label, name)| format!("{label}.{name}"))
            .collect();
        all.extend(last.iter().cloned());
    }
    all[0] = ".".to_owned();
    all.iter().map(|text| name(text)).collect()
}

/// A rule: the number of its name among those of `owners`, its scope, its effect.
type Rule = (usize, u8, u8);

fn owners() -> Vec<Name> {
    names(&["a", "b"], 3)
}

/// All queried names but the root. The label `z` is in no rule.
fn asked() -> Vec<Name> {
    names(&["a", "b", "z"], 4).split_off(1)
}

fn scope(number: u8, is_zone: bool) -> Scope {
    match number {
        0 => Scope::Exact,
        1 => Scope::Below,
        _ if is_zone => Scope::Below,
        _ => Scope::Subtree,
    }
}

fn effect(number: u8, is_zone: bool) -> Effect {
    let to = |target: &str, prepend| EffectAction::Cname {
        target: Box::new(name(target)),
        prepend,
    };
    let action = match number {
        0 | 1 if !is_zone => return Effect::default(),
        0 | 2 => EffectAction::Block(Action::Nxdomain),
        1 | 3 => EffectAction::Allow,
        4 => to("b.a", false),
        5 => to("garden.test", true),
        6 => EffectAction::Records(vec![LocalRecord {
            rtype: rtype::TXT,
            ttl_secs: Some(7),
            data: b"\x01x"[..].into(),
        }]),
        7 => EffectAction::TcpOnly,
        8 => EffectAction::Block(Action::Drop),
        _ => EffectAction::Block(Action::Nodata),
    };
    Effect {
        as_written: is_zone && action == EffectAction::Block(Action::Nxdomain),
        tier: if number == 2 && !is_zone {
            Tier::First
        } else {
            Tier::Usual
        },
        action,
        ..Effect::default()
    }
}

/// A source in two versions of a policy.
#[derive(Clone)]
struct Spec {
    kind: u8,
    actions: [Action; 2],
    against: u8,
    base: Option<Vec<Rule>>,
    /// Rules in the delta or in the image of orders.
    overlays: [Option<Vec<Rule>>; 2],
    in_force: [bool; 2],
}

const SOURCES: usize = 6;

/// On one line, so that the sources of a failure can be compared.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owners = owners();
        let rules = |rules: &Option<Vec<Rule>>| {
            let rules = rules.as_ref()?.iter();
            let shown =
                rules.map(|(owner, scope, effect)| format!("{scope}:{}:{effect}", owners[*owner]));
            Some(shown.collect::<Vec<_>>().join(" "))
        };
        let overlays = self.overlays.each_ref().map(rules);
        write!(
            f,
            "{} {:?} against {:b} base {:?} overlays {overlays:?} in force {:?}",
            self.kind,
            self.actions,
            self.against,
            rules(&self.base),
            self.in_force,
        )
    }
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let rules = || prop::collection::vec((0..owners().len(), 0..3_u8, 0..10_u8), 0..5);
    let overlays = (
        prop::option::of(rules()),
        prop::option::of(rules()),
        any::<bool>(),
    );
    let overlays = overlays.prop_map(|(one, other, is_same)| match is_same {
        true => [one.clone(), one],
        false => [one, other],
    });
    let action = prop::sample::select(vec![
        Action::Nxdomain,
        Action::Nodata,
        Action::Sinkhole,
        Action::Refused,
    ]);
    let actions = (action.clone(), action, 0..3_u8);
    let actions = actions.prop_map(|(one, other, differ)| match differ {
        0 => [one, other],
        _ => [one; 2],
    });
    let in_force = prop::sample::select(vec![[true; 2], [true; 2], [true, false], [false, true]]);
    let spec = (
        0..9_u8,
        actions,
        0..1_u8 << SOURCES,
        prop::option::of(rules()),
        overlays,
        in_force,
    );
    let spec = spec.prop_map(|(kind, actions, against, base, overlays, in_force)| Spec {
        kind,
        actions,
        against,
        base,
        overlays,
        in_force,
    });
    prop::collection::vec(spec, SOURCES)
}

impl Spec {
    fn is_zone(&self) -> bool {
        (5..=7).contains(&self.kind)
    }

    fn is_list(&self) -> bool {
        self.kind >= 3
    }

    fn source(&self, number: usize, version: usize) -> Source {
        let against = (0..SOURCES).filter(|other| self.against >> other & 1 != 0);
        let zone = self.is_zone().then(|| {
            Box::new(
                ZoneSettings {
                    policy: match self.kind {
                        7 => ZonePolicy::Disabled,
                        _ => ZonePolicy::Given,
                    },
                    max_ttl_secs: u32::MAX,
                    break_dnssec: true,
                }
                .into(),
            )
        });
        Source {
            name: list_name(number),
            path: "list".into(),
            kind: match self.kind {
                0 | 1 => Kind::Exception,
                2 => Kind::Order,
                3 => Kind::Allow,
                _ => Kind::Block,
            },
            blocking: Blocking {
                action: self.actions[version],
                sinkhole_v4: vec![[192, 0, 2, 1].into()],
                ttl_secs: 60,
                ede: Ede::Blocked,
                ..Blocking::none()
            },
            against: match self.kind {
                1 => Against::Named(against.map(list_name).collect()),
                _ => Against::All,
            },
            zone,
        }
    }

    fn rules(&self, rules: &[Rule]) -> Vec<(Name, Scope, Effect)> {
        let owners = owners();
        let is_plain = !self.is_list();
        let rules = rules.iter().map(|(owner, of, number)| {
            let number = if is_plain { 0 } else { *number };
            (
                owners[*owner].clone(),
                scope(*of, self.is_zone()),
                effect(number, self.is_zone()),
            )
        });
        rules.collect()
    }
}

fn list_name(number: usize) -> String {
    format!("list{number}")
}

/// Adds the rules of a source to an image. Rules that lead to themselves are refused, and left out.
fn add(builder: &mut Builder, source: ImageSource, rules: &[(Name, Scope, Effect)]) {
    let source = builder.source(source).expect("room");
    for (owner, scope, effect) in rules {
        let _ = builder.insert_effect(owner, source, *scope, effect);
    }
}

fn base(specs: &[Spec]) -> Option<Arc<Image>> {
    let mut builder = Builder::new();
    for (number, spec) in specs.iter().enumerate() {
        if let Some(rules) = spec.base.as_ref().filter(|_| spec.is_list()) {
            let source = ImageSource {
                amendable: spec.is_zone(),
                ..ImageSource::named(&list_name(number))
            };
            add(&mut builder, source, &spec.rules(rules));
        }
    }
    Some(Arc::new(builder.finish().expect("room")))
}

fn snapshot(specs: &[Spec], base: Option<Arc<Image>>, version: usize) -> Snapshot {
    let (mut delta, mut orders) = (Builder::new(), Builder::new());
    let only_base = Images {
        base: base.clone(),
        ..Images::default()
    };
    for (number, spec) in specs.iter().enumerate() {
        let Some(rules) = &spec.overlays[version] else {
            continue;
        };
        let rules = spec.rules(rules);
        let source = ImageSource {
            amendable: spec.is_zone(),
            ..ImageSource::named(&list_name(number))
        };
        if !spec.is_list() {
            add(&mut orders, source, &rules);
        } else if spec.is_zone() && spec.base.is_some() {
            let mut amendment = Amendment::default();
            for (owner, scope, effect) in rules {
                let path = Path::from(&owner).as_bytes().to_vec();
                let on_name = amendment.names.entry(path).or_default();
                // Every other name loses its rules.
                if effect.action != EffectAction::Allow
                    && effect.check_trigger(|| owner.clone(), scope).is_ok()
                {
                    on_name.push((scope, effect));
                }
            }
            let image = amendment.image(&only_base, source.clone()).expect("room");
            let amended = ImageSource {
                amends: true,
                ..source
            };
            let number = delta.source(amended).expect("room");
            delta.add_image(&image, |_| Some(number)).expect("room");
        } else {
            add(&mut delta, source, &rules);
        }
    }
    let image = |builder: Builder| Some(Arc::new(builder.finish().expect("room")));
    let images = Images {
        base,
        delta: image(delta),
        orders: image(orders),
        ..Images::default()
    };
    let sources = specs.iter().enumerate();
    let sources = sources.filter(|(_, spec)| spec.in_force[version]);
    let sources = sources.map(|(number, spec)| Arc::new(spec.source(number, version)));
    Snapshot::default().with_rules(sources.collect(), images)
}

/// A record without its TTL: owner, type, data.
type Record = (Name, u16, Vec<u8>);

fn published(zone: &PublishedZone) -> Vec<(Record, u32)> {
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
fn secondary(records: &[(Record, u32)]) -> Snapshot {
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
    let spec = Spec {
        kind: 5,
        actions: [Action::Nodata; 2],
        against: 0,
        base: None,
        overlays: [None, None],
        in_force: [true; 2],
    };
    let source = Source {
        name: "zone".to_owned(),
        ..spec.source(0, 0)
    };
    let image = Arc::new(builder.finish().expect("room"));
    Snapshot::default().with_rules(vec![Arc::new(source)], image.into())
}

/// Types and data of the records that stand for the decision; empty if the name is not blocked.
fn decided(snapshot: &Snapshot, asked: &Name) -> Vec<(u16, Vec<u8>)> {
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
enum Reading {
    ClosestEncloser,
    AnyAncestor,
}

/// What a server finds for a name in a policy zone with these records, without PASSTHRU.
fn read(records: &[(Record, u32)], asked: &Name, reading: Reading) -> Vec<(u16, Vec<u8>)> {
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

fn zone_of(snapshot: &Snapshot) -> PublishedZone {
    PublishedZone::new(snapshot, &Selection::All, &name(APEX))
}

fn apply(zone: &[(Record, u32)], mut changes: Changes) -> BTreeSet<(Record, u32)> {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_secondary_of_a_zone_decides_as_the_policy_that_it_publishes(specs in specs()) {
        let primary = snapshot(&specs, base(&specs), 0);
        let records = published(&zone_of(&primary));
        let secondary = secondary(&records);
        for asked in asked() {
            let expected = decided(&primary, &asked);
            prop_assert_eq!(&decided(&secondary, &asked), &expected, "{}: {:?}", &asked, &records);
        }
    }

    #[test]
    fn servers_with_either_reading_of_wildcards_decide_as_the_policy(specs in specs()) {
        let primary = snapshot(&specs, base(&specs), 0);
        let records = published(&zone_of(&primary));
        for asked in asked() {
            let expected = decided(&primary, &asked);
            for reading in [Reading::ClosestEncloser, Reading::AnyAncestor] {
                let found = read(&records, &asked, reading);
                prop_assert_eq!(&found, &expected, "{}, {:?}: {:?}", &asked, reading, &records);
            }
        }
    }

    #[test]
    fn changes_lead_from_one_version_to_the_other(specs in specs(), other in specs(), has_other_base: bool) {
        let old_base = base(&specs);
        let old = zone_of(&snapshot(&specs, old_base.clone(), 0));
        let mut specs = specs;
        if has_other_base {
            for (spec, other) in specs.iter_mut().zip(other) {
                spec.base = other.base;
            }
        }
        let new_base = if has_other_base { base(&specs) } else { old_base };
        let new = zone_of(&snapshot(&specs, new_base, 1));
        let (before, after) = (published(&old), published(&new));
        let expected: BTreeSet<_> = after.iter().cloned().collect();
        prop_assert_eq!(apply(&before, new.changes_from(&old)), expected);
        let expected: BTreeSet<_> = before.iter().cloned().collect();
        prop_assert_eq!(apply(&after, old.changes_from(&new)), expected);
    }
}

#[test]
fn a_cursor_can_be_sent_to_a_task() {
    fn is_owned<T: Send + 'static>() {}
    is_owned::<Records>();
    is_owned::<Changes>();
}
