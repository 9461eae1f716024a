//! Applies the changes of an incremental transfer to the rules in force of a feed. The result is a delta that amends the
//! rules in the base, or, if the base has none, all rules of the feed.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use tokio::time::Instant;

use super::amended_counts::{Before, count, withdraw};
use super::load::{LoadedRules, Refusal};
use super::zone_load::{Job, finish_amendment};
use crate::control::guard::reading::Reading;
use crate::control::guard::suppressed::admits_rule;
use crate::control::list_file::parse::{Bad, ParsedRule, ParsedTrigger, Tally, ZoneFacts};
use crate::control::sources::feeds::delivery::ZoneChange;
use crate::policy::amendment::Amendment;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::image::path::Path;
use crate::policy::images::Images;
use crate::policy::prefix::Prefix;
use crate::policy::record::LocalRecord;
use crate::policy::rpz::{ZoneReader, ZoneTrigger};
use crate::policy::rule::Scope;
use crate::wire::answer::is_same_data;
use crate::wire::name::Name;
use crate::wire::rtype;
use crate::wire::transfer::Soa;

/// The rules of one name: the exact one, and the one for the names below.
type OfName = [Rule; 2];

/// The rule of one trigger, while records are deleted and added.
#[derive(Clone, Debug, Default)]
enum Rule {
    #[default]
    None,
    /// It is not changed.
    Kept(Effect),
    /// It has these records; a CNAME record is alone.
    Records(Vec<LocalRecord>),
}

/// A name that the changes are about.
struct TouchedName {
    name: Name,
    rules: OfName,
    /// What each of the rules was before.
    before: [Before; 2],
}

/// The triggers that the changes are about.
#[derive(Default)]
struct Touched {
    /// Boxed, as a tree moves its values when it grows.
    names: BTreeMap<Vec<u8>, Box<TouchedName>>,
    networks: HashMap<Prefix, Rule>,
    /// Deleted records that are not in force, though they could be.
    missing: u32,
    /// The rules in force do not suffice: the zone has other records of a changed owner, which are ignored.
    has_hidden: bool,
}

/// The result of a change for the rule of its trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    Done,
    /// The record to delete is not there.
    Missing,
    /// The record is ignored beside a CNAME record.
    Hidden,
}

/// The rules after the changes. `tally` and `digest` are those of the rules in force.
///
/// # Errors
/// [`Refusal`] if the changes are not about the rules in force, or a guard rejects the result.
pub(super) fn amended(
    job: &Job,
    (soa, changes): (&Soa, &[ZoneChange]),
    (mut tally, digest): (Tally, &str),
    images: &Images,
) -> Result<LoadedRules, Refusal> {
    let start = Instant::now();
    let list = &*job.config.source.name;
    let apex = job.config.apex().cloned().unwrap_or_default();
    let broken = || Refusal::BrokenChanges(Box::new(apex.clone()));
    let (_, source) = images.find(list).ok_or_else(broken)?;
    let mut rules_after = source.rules;
    let networks = images.networks(list);
    let mut touched = Touched::default();
    let mut reader = ZoneReader::new(apex.clone());
    let hidden = std::mem::take(&mut tally.hidden);
    let mut hasher = blake3::Hasher::new();
    hasher.update(digest.as_bytes());
    let mut hashed = Vec::new();
    for change in changes {
        // The function is fast for many bytes at a time.
        hashed.clear();
        hashed.push(u8::from(change.adds));
        hashed.extend(&change.owner);
        hashed.extend(change.rtype.to_be_bytes());
        hashed.extend(&change.data);
        hasher.update(&hashed);
        // The transfer has read it as a name.
        let Ok((owner, _)) = Name::parse(&change.owner, 0) else {
            continue;
        };
        let problem = count(change, &owner, &mut reader, &mut tally);
        touched.has_hidden |= hidden.may_be_of(&owner) && !rtype::is_signature(change.rtype);
        if problem.is_none() {
            touched.apply(change, (&owner, &apex), list, images, &networks);
        }
    }
    // Rules that a guard left out are not in force, so their records can't be deleted.
    if touched.has_hidden || touched.missing > tally.guarded.total() {
        return Err(broken());
    }
    tally.hidden = hidden;
    let protected_names = job.guard_policy.protected_names();
    let mut written = Written {
        amendment: Amendment::default(),
        tally,
        job,
        reader,
        has_hidden: false,
    };
    for (path, touched) in &touched.names {
        let TouchedName {
            name,
            rules: of_name,
            before,
        } = &**touched;
        let mut rules = Vec::new();
        for ((rule, before), scope) in
            (of_name.iter().zip(before)).zip([Scope::Exact, Scope::Below])
        {
            let owner = owner(name, scope, &apex);
            let trigger = ParsedTrigger::Name(name, scope);
            let guarded = (&job.config).into();
            let recorded = &mut written.tally.guarded;
            withdraw(*before, trigger, recorded, (protected_names, guarded));
            let effect = written.effect(rule, trigger, owner.as_ref());
            rules.extend(effect.map(|effect| (scope, effect)));
        }
        let were = before
            .iter()
            .filter(|before| matches!(before, Before::InForce { .. }));
        rules_after = (rules_after + rules.len() as u64).saturating_sub(were.count() as u64);
        written.amendment.names.insert(path.clone(), rules);
    }
    if !touched.networks.is_empty() {
        let were = networks.len() as u64;
        let mut all: Vec<_> = networks.into_iter().collect();
        all.retain(|(prefix, _)| !touched.networks.contains_key(prefix));
        for (prefix, rule) in &touched.networks {
            let effect = written.effect(rule, ParsedTrigger::Network(*prefix), Some(&apex));
            all.extend(effect.map(|effect| (*prefix, effect)));
        }
        rules_after = (rules_after + all.len() as u64).saturating_sub(were);
        written.amendment.networks = Some(all);
    }
    let Written {
        amendment,
        mut tally,
        has_hidden,
        ..
    } = written;
    if has_hidden {
        return Err(broken());
    }
    let mut data = Vec::new();
    soa.write(&mut data);
    tally.zone = ZoneFacts::new(&apex, soa.minimum, &data);
    tally.rules = u32::try_from(rules_after).unwrap_or(u32::MAX);
    let reading = Reading {
        tally,
        digest: hasher.finalize(),
        signature: None,
        at: Timestamp::now(),
        took: start.elapsed(),
    };
    finish_amendment(job, reading, rules_after, &amendment, images)
}

/// The owner of a rule's records; `None` if it would be too long.
fn owner(name: &Name, scope: Scope, apex: &Name) -> Option<Name> {
    let mut wire = Vec::new();
    if scope == Scope::Below {
        wire.extend(b"\x01*");
    }
    wire.extend(&name.wire()[..name.ancestor_start(0)]);
    wire.extend(apex.wire());
    Name::parse(&wire, 0).ok().map(|(owner, _)| owner)
}

impl Touched {
    /// Deletes or adds a record that can be part of a rule.
    fn apply(
        &mut self,
        change: &ZoneChange,
        (owner, apex): (&Name, &Name),
        list: &str,
        images: &Images,
        networks: &HashMap<Prefix, Effect>,
    ) {
        let mut name = Name::ROOT;
        // Records of the apex describe the zone.
        let Ok(Some(trigger)) = ZoneTrigger::parse(owner, apex, &mut name) else {
            return;
        };
        let applied = match trigger {
            ZoneTrigger::Name(scope) => {
                let path = Path::from(&name).as_bytes().to_vec();
                let in_force =
                    || Box::new(TouchedName::new(name.clone(), of_name(images, &name, list)));
                let touched = self.names.entry(path).or_insert_with(in_force);
                touched.apply(change, usize::from(scope != Scope::Exact))
            }
            ZoneTrigger::Network(prefix) => {
                let in_force = || {
                    networks
                        .get(&prefix)
                        .cloned()
                        .map_or(Rule::None, Rule::Kept)
                };
                self.networks
                    .entry(prefix)
                    .or_insert_with(in_force)
                    .apply(change)
            }
        };
        self.missing += u32::from(applied == Applied::Missing);
        self.has_hidden |= applied == Applied::Hidden;
    }
}

impl TouchedName {
    fn new(name: Name, rules: OfName) -> Self {
        let before = rules.each_ref().map(|rule| match rule {
            Rule::Kept(effect) => Before::InForce {
                allows: effect.action == EffectAction::Allow,
            },
            Rule::None | Rule::Records(_) => Before::None,
        });
        Self {
            name,
            rules,
            before,
        }
    }

    fn apply(&mut self, change: &ZoneChange, which: usize) -> Applied {
        let applied = self.rules[which].apply(change);
        if applied == Applied::Missing && self.before[which] == Before::None {
            self.before[which] = Before::LeftOut;
        }
        applied
    }
}

/// The rules in force of a list on a name.
fn of_name(images: &Images, name: &Name, list: &str) -> OfName {
    let mut of_name = OfName::default();
    for rule in images.rules_on(name, list) {
        if rule.scope != Scope::Below {
            of_name[0] = Rule::Kept(rule.effect.clone());
        }
        if rule.scope != Scope::Exact {
            of_name[1] = Rule::Kept(rule.effect.clone());
        }
    }
    of_name
}

impl Rule {
    /// Deletes or adds a record.
    fn apply(&mut self, change: &ZoneChange) -> Applied {
        let record = || LocalRecord {
            rtype: change.rtype,
            ttl_secs: Some(change.ttl_secs),
            data: change.data.clone(),
        };
        let is_cname = change.rtype == rtype::CNAME;
        if !change.adds {
            let mut records = match self {
                Self::Kept(effect) => match &effect.action {
                    EffectAction::Records(records) => records.clone(),
                    // An owner has at most one CNAME record.
                    _ if is_cname => {
                        *self = Self::None;
                        return Applied::Done;
                    }
                    _ => return Applied::Missing,
                },
                Self::Records(records) => std::mem::take(records),
                Self::None => return Applied::Missing,
            };
            let found = remove(&mut records, change);
            *self = Self::of(records);
            return match found {
                true => Applied::Done,
                false => Applied::Missing,
            };
        }
        let mut records = match std::mem::take(self) {
            Self::None => Vec::new(),
            Self::Records(records) => records,
            Self::Kept(effect) => match &effect.action {
                EffectAction::Records(records) => records.clone(),
                // Of records beside a CNAME record, the first one in the whole zone counts.
                _ => return Applied::Hidden,
            },
        };
        let is_known = records.iter().any(|known| is_same(known, change));
        if !is_known {
            records.push(record());
        }
        *self = Self::of(records);
        Applied::Done
    }

    fn of(records: Vec<LocalRecord>) -> Self {
        match records.is_empty() {
            true => Self::None,
            false => Self::Records(records),
        }
    }
}

fn is_same(record: &LocalRecord, change: &ZoneChange) -> bool {
    record.rtype == change.rtype && is_same_data(change.rtype, &record.data, &change.data)
}

fn remove(records: &mut Vec<LocalRecord>, change: &ZoneChange) -> bool {
    let before = records.len();
    records.retain(|record| !is_same(record, change));
    records.len() < before
}

/// The new rules, and the facts about the records that are none.
struct Written<'w> {
    amendment: Amendment,
    tally: Tally,
    job: &'w Job,
    reader: ZoneReader,
    /// Records that are added are ignored because of others.
    has_hidden: bool,
}

impl Written<'_> {
    /// The effect of the rule of a trigger; `None` if there is no rule, or if a guard leaves it out. `owner` is that of its
    /// records; for a network, the zone will do.
    fn effect(
        &mut self,
        rule: &Rule,
        trigger: ParsedTrigger<'_>,
        owner: Option<&Name>,
    ) -> Option<Effect> {
        let effect = match rule {
            Rule::None => return None,
            Rule::Kept(effect) => effect.clone(),
            Rule::Records(records) => self.of_records(owner?, trigger, records)?,
        };
        let rule = ParsedRule {
            trigger,
            effect: Some(&effect),
            line: self.tally.lines,
        };
        let protected_names = self.job.guard_policy.protected_names();
        let guarded = (&self.job.config).into();
        let admits = admits_rule(&mut self.tally.guarded, protected_names, guarded, rule);
        admits.then_some(effect)
    }

    fn of_records(
        &mut self,
        owner: &Name,
        trigger: ParsedTrigger<'_>,
        records: &[LocalRecord],
    ) -> Option<Effect> {
        // Any owner in the zone has the same effect, but only a name can be its own target.
        let child;
        let owner = match trigger {
            ParsedTrigger::Name(..) => owner,
            ParsedTrigger::Network(_) => {
                let wire = [b"\x01*", owner.wire()].concat();
                child = Name::parse(&wire, 0).ok()?.0;
                &child
            }
        };
        let Self {
            reader,
            tally,
            has_hidden,
            ..
        } = self;
        reader.effect_of(owner, records, &mut |problem| {
            *has_hidden |= problem.is_of_others();
            tally.reject(
                tally.lines,
                owner.to_string().as_bytes(),
                Bad::Record(problem),
            );
        })
    }
}
