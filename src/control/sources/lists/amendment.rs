//! Applies the changes of an incremental transfer to the rules in force of a feed. The result is a delta that amends the
//! rules in the base, or, if the base has none, all rules of the feed.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use super::load::{LoadedRules, Refusal};
use super::transferred::{Job, Rules, finish, reading_of_changes};
use crate::control::guard::suppressed::admits_rule;
use crate::control::list_file::parse::{Bad, ParsedRule, ParsedTrigger, Tally, ZoneFacts};
use crate::control::list_file::suppressed::SuppressedRules;
use crate::control::sources::feeds::delivery::ZoneChange;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::image::path::Path;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::policy::prefix::Prefix;
use crate::policy::record::LocalRecord;
use crate::policy::rpz::{ZoneReader, ZoneTrigger};
use crate::policy::rule::Scope;
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

/// The triggers that the changes are about.
#[derive(Default)]
struct Touched {
    names: BTreeMap<Vec<u8>, (Name, OfName)>,
    networks: HashMap<Prefix, Rule>,
    /// Deleted records that are not in force.
    missing: u32,
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
    let broken = || Refusal::BrokenChanges(apex.clone());
    let source = images.find(list).ok_or_else(broken)?.1;
    let networks = networks(images, list);
    let mut touched = Touched::default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(digest.as_bytes());
    for change in changes {
        hasher
            .update(&[u8::from(change.adds)])
            .update(&change.owner);
        hasher
            .update(&change.rtype.to_be_bytes())
            .update(&change.data);
        touched.apply(change, &apex, list, images, &networks);
    }
    // Records that were skipped are not in force, so they can't be deleted.
    let may_miss = tally.bad_total() > 0 || tally.skipped > 0 || tally.guarded.total() > 0;
    if touched.missing > 0 && !may_miss {
        return Err(broken());
    }
    let is_in_base = images.is_in_base(list);
    let mut rules = Rules::new(ImageSource {
        amends: is_in_base,
        amendable: true,
        ..ImageSource::named(list)
    });
    let too_large = |source| Refusal::TooLarge {
        path: job.config.source.path.clone(),
        source,
    };
    // The changes before these ones, or all rules.
    if let Some(delta) = images.delta.as_deref().filter(|_| images.is_in_delta(list)) {
        let number = delta
            .provenance()
            .sources
            .iter()
            .position(|source| source.name == list);
        let clauses = delta.clauses();
        let mut cursor = delta.cursor();
        while cursor.advance() {
            if touched.names.contains_key(cursor.path()) {
                continue;
            }
            for rule in cursor.rules() {
                if Some(usize::from(clauses.get(rule.clause).source)) == number {
                    let effect = clauses.effect(rule.clause);
                    let added = rules
                        .builder
                        .insert_path(cursor.path(), 0, rule.scope, effect);
                    added.map_err(too_large)?;
                }
            }
        }
    }
    let mut count = source.rules as i64;
    let mut suppressed = SuppressedRules::default();
    let mut reader = ZoneReader::new(apex.clone());
    let mut written = Written {
        rules: &mut rules,
        tally: &mut tally,
        suppressed: &mut suppressed,
        job,
        added: 0,
    };
    for (path, (name, of_name)) in &touched.names {
        count -= before(images, name, list);
        if is_in_base {
            written.rules.builder.amend(path, 0).map_err(too_large)?;
        }
        for (rule, scope) in of_name.iter().zip([Scope::Exact, Scope::Below]) {
            let owner = owner(name, scope, &apex);
            written.write(
                &mut reader,
                rule,
                &ZoneTrigger::Name(scope),
                name,
                owner.as_ref(),
            );
        }
    }
    for (prefix, effect) in &networks {
        if !touched.networks.contains_key(prefix) {
            written.emit(&ZoneTrigger::Network(*prefix), &Name::ROOT, effect);
            written.added -= 1;
        }
    }
    for (prefix, rule) in &touched.networks {
        count -= i64::from(networks.contains_key(prefix));
        let trigger = ZoneTrigger::Network(*prefix);
        written.write(&mut reader, rule, &trigger, &Name::ROOT, Some(&apex));
    }
    count += written.added;
    let rules_in_force = usize::try_from(count).map_err(|_| broken())?;
    let mut data = Vec::new();
    soa.write(&mut data);
    tally.zone = ZoneFacts::new(&apex, soa.minimum, &data);
    tally.rules = u32::try_from(rules_in_force).unwrap_or(u32::MAX);
    let image = rules.finish(job)?;
    let reading = reading_of_changes(tally, hasher.finalize(), start);
    finish(job, reading, rules_in_force, image)
}

/// The number of rules that a list has on a name. A subtree rule stands for two.
fn before(images: &Images, name: &Name, list: &str) -> i64 {
    let rules = images.rules_on(name, list);
    let counts = rules
        .iter()
        .map(|rule| 1 + i64::from(rule.scope == Scope::Subtree));
    counts.sum()
}

/// The rules on networks in force of a list.
fn networks(images: &Images, list: &str) -> HashMap<Prefix, Effect> {
    let Some((image, _)) = images.find(list) else {
        return HashMap::new();
    };
    let clauses = image.clauses();
    let sources = &image.provenance().sources;
    let is_own = |clause: u32| sources[usize::from(clauses.get(clause).source)].name == list;
    let prefixes = image.triggers().prefixes().iter();
    let own = prefixes.filter(|(_, clause)| is_own(*clause));
    own.map(|(prefix, clause)| (*prefix, clauses.effect(*clause).clone()))
        .collect()
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
    fn apply(
        &mut self,
        change: &ZoneChange,
        apex: &Name,
        list: &str,
        images: &Images,
        networks: &HashMap<Prefix, Effect>,
    ) {
        let Ok((owner, _)) = Name::parse(&change.owner, 0) else {
            return;
        };
        let mut name = Name::ROOT;
        // Records that are no part of the policy are neither deleted nor added.
        let Ok(Some(trigger)) = ZoneTrigger::parse(&owner, apex, &mut name) else {
            return;
        };
        let rule = match trigger {
            ZoneTrigger::Name(scope) => {
                let path = Path::from(&name).as_bytes().to_vec();
                let in_force = || (name.clone(), of_name(images, &name, list));
                let (_, rules) = self.names.entry(path).or_insert_with(in_force);
                &mut rules[usize::from(scope != Scope::Exact)]
            }
            ZoneTrigger::Network(prefix) => {
                let in_force = || {
                    networks
                        .get(&prefix)
                        .cloned()
                        .map_or(Rule::None, Rule::Kept)
                };
                self.networks.entry(prefix).or_insert_with(in_force)
            }
        };
        if !rule.apply(change) {
            self.missing += 1;
        }
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
    /// Deletes or adds a record. False if the record to delete is not there.
    fn apply(&mut self, change: &ZoneChange) -> bool {
        let record = || LocalRecord {
            rtype: change.rtype,
            ttl_secs: Some(change.ttl_secs),
            data: change.data.clone(),
        };
        let is_cname = change.rtype == rtype::CNAME;
        if !change.adds {
            return match self {
                // An owner has at most one CNAME record.
                Self::Kept(effect) if is_cname => {
                    let was_cname = !matches!(effect.action, EffectAction::Records(_));
                    if was_cname {
                        *self = Self::None;
                    }
                    was_cname
                }
                Self::Kept(effect) => {
                    let EffectAction::Records(records) = &effect.action else {
                        return false;
                    };
                    let mut records = records.clone();
                    let found = remove(&mut records, change);
                    *self = Self::of(records);
                    found
                }
                Self::Records(records) => {
                    let found = remove(records, change);
                    let records = std::mem::take(records);
                    *self = Self::of(records);
                    found
                }
                Self::None => false,
            };
        }
        let mut records = match std::mem::take(self) {
            Self::None => Vec::new(),
            Self::Records(records) => records,
            Self::Kept(effect) => match &effect.action {
                EffectAction::Records(records) => records.clone(),
                // A second record beside a CNAME record: the first one counts, as in a whole zone.
                _ => {
                    *self = Self::Kept(effect);
                    return true;
                }
            },
        };
        let is_known = records.iter().any(|known| is_same(known, change));
        if !is_known {
            records.push(record());
        }
        *self = Self::of(records);
        true
    }

    fn of(records: Vec<LocalRecord>) -> Self {
        match records.is_empty() {
            true => Self::None,
            false => Self::Records(records),
        }
    }
}

fn is_same(record: &LocalRecord, change: &ZoneChange) -> bool {
    record.rtype == change.rtype && record.data == change.data
}

fn remove(records: &mut Vec<LocalRecord>, change: &ZoneChange) -> bool {
    let before = records.len();
    records.retain(|record| !is_same(record, change));
    records.len() < before
}

/// Writes the new rules.
struct Written<'w> {
    rules: &'w mut Rules,
    tally: &'w mut Tally,
    suppressed: &'w mut SuppressedRules,
    job: &'w Job,
    /// The number of rules that were written.
    added: i64,
}

impl Written<'_> {
    /// Writes the rule of a trigger. `owner` is that of its records; for a network any name will do.
    fn write(
        &mut self,
        reader: &mut ZoneReader,
        rule: &Rule,
        trigger: &ZoneTrigger,
        name: &Name,
        owner: Option<&Name>,
    ) {
        match rule {
            Rule::None => {}
            Rule::Kept(effect) => self.emit(trigger, name, effect),
            Rule::Records(records) => {
                let Some(owner) = owner else { return };
                match reader.effect_of(owner, records) {
                    Ok(effect) => self.emit(trigger, name, &effect),
                    Err(problem) if problem.is_usual() => {}
                    Err(problem) => {
                        let content = owner.to_string();
                        self.tally
                            .reject(0, content.as_bytes(), Bad::Record(problem));
                    }
                }
            }
        }
    }

    fn emit(&mut self, trigger: &ZoneTrigger, name: &Name, effect: &Effect) {
        let rule = ParsedRule {
            trigger: match trigger {
                ZoneTrigger::Name(scope) => ParsedTrigger::Name(name, *scope),
                ZoneTrigger::Network(prefix) => ParsedTrigger::Network(*prefix),
            },
            effect: Some(effect),
            line: 0,
        };
        let protected_names = self.job.guard_policy.protected_names();
        let guarded = (&self.job.config).into();
        if admits_rule(self.suppressed, protected_names, guarded, rule) {
            self.added += 1;
            self.rules.add(rule);
        }
    }
}
