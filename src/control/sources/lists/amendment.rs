//! Applies the changes of an incremental transfer to the rules in force of a feed. The result is a delta that amends the
//! rules in the base, or, if the base has none, all rules of the feed.

use std::collections::BTreeMap;
use std::ops::Range;

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
use crate::policy::image::walk::BATCH;
use crate::policy::images::Images;
use crate::policy::prefix::Prefix;
use crate::policy::record::LocalRecord;
use crate::policy::rpz::{ZoneReader, ZoneTrigger};
use crate::policy::rule::Scope;
use crate::policy::rule_cursor::ListRule;
use crate::wire::answer::is_same_data;
use crate::wire::name::Name;
use crate::wire::rtype;
use crate::wire::transfer::Soa;

/// The rule of one trigger, while records are deleted and added.
#[derive(Clone, Debug, Default)]
enum Rule<'i> {
    #[default]
    None,
    /// It is not changed.
    Kept(&'i Effect),
    /// It has these records; a CNAME record is alone.
    Records(Vec<LocalRecord>),
}

/// The changes of records that can be part of rules, by the triggers that they are about.
#[derive(Default)]
struct Changed<'c> {
    names: Vec<OfName<'c>>,
    /// The bytes of the names' paths: all in one piece of memory, as many small ones take long.
    paths: Vec<u8>,
    networks: BTreeMap<Prefix, Vec<&'c ZoneChange>>,
}

/// A change of a record of a name.
struct OfName<'c> {
    /// Where its path is.
    path: Range<usize>,
    scope: Scope,
    change: &'c ZoneChange,
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
    // Rules that a guard left out are not in force, so their records can't be deleted.
    let guarded = tally.guarded.total();
    let hidden = std::mem::take(&mut tally.hidden);
    let mut written = Written {
        amendment: Amendment::default(),
        rules: source.rules,
        missing: 0,
        has_hidden: false,
        tally,
        job,
        reader: ZoneReader::new(apex.clone()),
    };
    let mut changed = Changed::default();
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
        let problem = count(change, &owner, &mut written.reader, &mut written.tally);
        // The reader has found the owner, too, if its network has several.
        let is_hidden = hidden.may_be_of(&owner) || written.reader.hidden().may_be_of(&owner);
        written.has_hidden |= is_hidden && !rtype::is_signature(change.rtype);
        if problem.is_none() {
            changed.add(change, &owner, &apex);
        }
    }
    written.amend_names(&mut changed, images);
    written.amend_networks(&changed, images);
    if written.has_hidden || written.missing > guarded {
        return Err(broken());
    }
    let Written {
        amendment,
        rules,
        mut tally,
        ..
    } = written;
    tally.hidden = hidden;
    let mut data = Vec::new();
    soa.write(&mut data);
    tally.zone = ZoneFacts::new(&apex, soa.minimum, &data);
    tally.rules = u32::try_from(rules).unwrap_or(u32::MAX);
    let reading = Reading {
        tally,
        digest: hasher.finalize(),
        signature: None,
        at: Timestamp::now(),
        took: start.elapsed(),
    };
    finish_amendment(job, reading, rules, &amendment, images)
}

impl<'c> Changed<'c> {
    /// Adds a change of a record that can be part of a rule.
    fn add(&mut self, change: &'c ZoneChange, owner: &Name, apex: &Name) {
        let mut name = Name::ROOT;
        match ZoneTrigger::parse(owner, apex, &mut name) {
            Ok(Some(ZoneTrigger::Name(scope))) => {
                let start = self.paths.len();
                self.paths.extend(Path::from(&name).as_bytes());
                let path = start..self.paths.len();
                self.names.push(OfName {
                    path,
                    scope,
                    change,
                });
            }
            Ok(Some(ZoneTrigger::Network(prefix))) => {
                self.networks.entry(prefix).or_default().push(change);
            }
            // Records of the apex describe the zone.
            Ok(None) | Err(_) => {}
        }
    }
}

impl Rule<'_> {
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
                // Which of these records counts depends on their places in the whole zone.
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
    /// The number of rules of the list.
    rules: u64,
    /// Deleted records that are not in force, though they could be.
    missing: u32,
    /// The rules in force do not suffice: the zone has other records of a changed owner, which are ignored.
    has_hidden: bool,
    tally: Tally,
    job: &'w Job,
    reader: ZoneReader,
}

impl Written<'_> {
    /// Applies the changes of records of names.
    fn amend_names(&mut self, changed: &mut Changed<'_>, images: &Images) {
        let list = &*self.job.config.source.name;
        let paths = &changed.paths;
        let path = |of_name: &OfName<'_>| &paths[of_name.path.clone()];
        // Changes of one name stay in their order.
        changed
            .names
            .sort_by(|one, other| path(one).cmp(path(other)));
        let names = changed
            .names
            .chunk_by(|one, other| path(one) == path(other));
        let names: Vec<&[OfName<'_>]> = names.collect();
        for of_names in names.chunks(BATCH) {
            let names = of_names.iter().map(|of_name| Path::of(path(&of_name[0])));
            let names: Vec<Name> = names.map(|path| path.to_name()).collect();
            let in_force = images.rules_on_each(&names.iter().collect::<Vec<_>>(), list);
            for ((of_name, name), in_force) in of_names.iter().zip(&names).zip(in_force) {
                let rules = self.amend_name(of_name, name, &in_force);
                let path = path(&of_name[0]).to_vec();
                self.amendment.names.insert(path, rules);
            }
        }
    }

    /// The rules of a name after changes.
    fn amend_name(
        &mut self,
        of_name: &[OfName<'_>],
        name: &Name,
        in_force: &[ListRule<'_>],
    ) -> Vec<(Scope, Effect)> {
        let mut rules = Vec::new();
        for (scope, other) in [(Scope::Exact, Scope::Below), (Scope::Below, Scope::Exact)] {
            // A rule with the scope subtree is both.
            let in_force = in_force.iter().filter(|rule| rule.scope != other);
            let changes = of_name.iter().filter(|of_name| of_name.scope == scope);
            let effect = self.changed(
                in_force.map(|rule| rule.effect),
                ParsedTrigger::Name(name, scope),
                changes.map(|of_name| of_name.change),
            );
            rules.extend(effect.map(|effect| (scope, effect)));
        }
        rules
    }

    /// Applies the changes of records of networks.
    fn amend_networks(&mut self, changed: &Changed<'_>, images: &Images) {
        if changed.networks.is_empty() {
            return;
        }
        let in_force = images.networks(&self.job.config.source.name);
        let is_kept = |(prefix, _): &&(Prefix, &Effect)| !changed.networks.contains_key(prefix);
        let kept = in_force.iter().filter(is_kept);
        let mut rules: Vec<_> = kept
            .map(|(prefix, effect)| (*prefix, (*effect).clone()))
            .collect();
        for (prefix, changes) in &changed.networks {
            let start = in_force.partition_point(|(other, _)| other < prefix);
            let own = in_force[start..]
                .iter()
                .take_while(|(other, _)| other == prefix);
            let (trigger, changes) = (ParsedTrigger::Network(*prefix), changes.iter().copied());
            let effect = self.changed(own.map(|(_, effect)| *effect), trigger, changes);
            rules.extend(effect.map(|effect| (*prefix, effect)));
        }
        self.amendment.networks = Some(rules);
    }

    /// The effect of a rule after changes of its records. `None` if there is no rule left, or if a guard leaves it out.
    /// `in_force` has the effects of the trigger; if there are several, they contradict each other.
    fn changed<'e, 'c>(
        &mut self,
        mut in_force: impl Iterator<Item = &'e Effect>,
        trigger: ParsedTrigger<'_>,
        changes: impl Iterator<Item = &'c ZoneChange>,
    ) -> Option<Effect> {
        let first = in_force.next();
        self.has_hidden |= in_force.next().is_some();
        let in_force = first;
        let mut rule = in_force.map_or(Rule::None, Rule::Kept);
        let mut before = in_force.map_or(Before::None, |effect| Before::InForce {
            allows: effect.action == EffectAction::Allow,
        });
        let mut owner = None;
        for change in changes {
            owner = Some(&change.owner);
            match rule.apply(change) {
                Applied::Done => {}
                Applied::Missing => {
                    self.missing += 1;
                    if before == Before::None {
                        before = Before::LeftOut;
                    }
                }
                Applied::Hidden => self.has_hidden = true,
            }
        }
        let protected_names = self.job.guard_policy.protected_names();
        let guarded = (&self.job.config).into();
        let recorded = &mut self.tally.guarded;
        withdraw(before, trigger, recorded, (protected_names, guarded));
        let effect = match rule {
            Rule::None => None,
            Rule::Kept(effect) => Some(effect.clone()),
            Rule::Records(records) => owner.and_then(|owner| self.of_records(owner, &records)),
        };
        let effect = effect.filter(|effect| {
            let rule = ParsedRule {
                trigger,
                effect: Some(effect),
                line: self.tally.lines,
            };
            admits_rule(&mut self.tally.guarded, protected_names, guarded, rule)
        });
        let (new, old) = (u64::from(effect.is_some()), u64::from(in_force.is_some()));
        self.rules = (self.rules + new).saturating_sub(old);
        effect
    }

    /// The effect of the records of `owner`, which is in wire form.
    fn of_records(&mut self, owner: &[u8], records: &[LocalRecord]) -> Option<Effect> {
        let (owner, _) = Name::parse(owner, 0).ok()?;
        let Self {
            reader,
            tally,
            has_hidden,
            ..
        } = self;
        reader.effect_of(&owner, records, &mut |problem| {
            *has_hidden |= problem.is_of_others();
            tally.reject(
                tally.lines,
                owner.to_string().as_bytes(),
                Bad::Record(problem),
            );
        })
    }
}
