//! Compares a zone with the rules in force while it is transferred. If few names differ, the result is an amendment, and no
//! image of all rules has to be compiled.

use std::collections::HashMap;

use std::sync::Arc;

use fixedbitset::FixedBitSet;

use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::protected::Guarded;
use crate::control::guard::reading::Reading;
use crate::control::guard::transferred::ZoneRules;
use crate::control::list_file::parse::{ParsedRule, ParsedTrigger};
use crate::policy::amendment::Amendment;
use crate::policy::effect::Effect;
use crate::policy::image::path::Path;
use crate::policy::image::walk::BATCH;
use crate::policy::image::{Image, ImageError};
use crate::policy::images::Images;
use crate::policy::prefix::Prefix;
use crate::policy::rule::Scope;
use crate::wire::name::Name;
use crate::wire::transfer::{Record, Request, Soa};

/// The largest number of names that may differ. With more, all rules are compiled.
const MAX_NAMES: usize = 1 << 17;
/// The largest number of rules on networks of a zone that is compared.
const MAX_NETWORKS: usize = 1 << 17;

/// The number of bytes of all distinct effects and of the effects on networks: a hostile primary could otherwise fill the
/// memory.
const MAX_DATA: usize = 16 << 20;

/// No rule.
const NONE: u32 = u32::MAX;

/// The rules of a name: the exact one, and the one for the names below, as numbers of effects, or [`NONE`].
type Pair = [u32; 2];

/// The rules in force of a feed, for a comparison.
#[derive(Clone, Debug)]
pub(crate) struct Comparable {
    /// The images that have the rules. The base must have some.
    pub(crate) images: Images,
    /// The name of the list.
    pub(crate) list: String,
    /// Identifies the version.
    pub(crate) digest: String,
    /// The policy that the new rules are checked against.
    pub(crate) guard_policy: Arc<GuardPolicy>,
    /// Which guards suppress rules of the list.
    pub(crate) guarded: Guarded,
}

/// The result of a comparison.
#[derive(Debug)]
pub(crate) struct Differences {
    /// What changes in the version with the digest `from`.
    pub(crate) amendment: Amendment,
    pub(crate) from: String,
    /// The facts about the new version.
    pub(crate) reading: Reading,
    /// The policy that its rules were checked against.
    pub(crate) guard_policy: Arc<GuardPolicy>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComparisonError {
    #[error(
        "too many names differ to be amended one by one, or an owner has a CNAME record and others"
    )]
    TooDifferent,
    #[error(transparent)]
    Damaged(#[from] ImageError),
}

/// A transferred zone that is compared as it arrives.
pub(crate) struct ComparedZone {
    zone: ZoneRules,
    comparison: Comparison,
    guard_policy: Arc<GuardPolicy>,
    from: String,
}

impl ComparedZone {
    /// A comparison with the version that has this SOA record, in the answer to `request`. `None` if the rules in force
    /// can't be amended.
    pub(crate) fn new(comparable: &Comparable, request: &Request, soa: &Soa) -> Option<Self> {
        let Comparable {
            images,
            list,
            digest,
            guard_policy,
            guarded,
        } = comparable;
        let comparison = Comparison::new(images, list)?;
        let mut zone = ZoneRules::new(request.zone.clone(), *guarded);
        zone.begin(soa);
        Some(Self {
            zone,
            comparison,
            guard_policy: Arc::clone(guard_policy),
            from: digest.clone(),
        })
    }

    /// Compares the next record.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        let comparison = &mut self.comparison;
        let protected_names = self.guard_policy.protected_names();
        let mut rule = |rule: ParsedRule<'_>| comparison.add(rule);
        self.zone.record(record, protected_names, &mut rule);
    }

    /// Takes the message of the records that were compared.
    ///
    /// # Errors
    /// If there are too many differences.
    pub(crate) fn message(&mut self, message: &[u8]) -> Result<(), ComparisonError> {
        self.zone.message(message);
        match self.comparison.is_too_different() {
            true => Err(ComparisonError::TooDifferent),
            false => Ok(()),
        }
    }

    /// The differences, after the last message.
    pub(crate) fn finish(self) -> Result<Differences, ComparisonError> {
        let mut comparison = self.comparison;
        let protected_names = self.guard_policy.protected_names();
        let mut rule = |rule: ParsedRule<'_>| comparison.add(rule);
        let reading = self.zone.finish(protected_names, &mut rule);
        let amendment = comparison.finish()?;
        Ok(Differences {
            amendment: amendment.ok_or(ComparisonError::TooDifferent)?,
            from: self.from,
            reading,
            guard_policy: self.guard_policy,
        })
    }
}

/// The comparison of a list's new rules with those in force.
struct Comparison {
    list: String,
    images: Images,
    base: Arc<Image>,
    effects: Effects,
    /// By clause of the base: the number of the effect, if the clause belongs to the list.
    of_clauses: Vec<u32>,
    /// A value of the base, and the rules that the list has in it. Most names have the same value.
    last_value: (u32, Pair),
    /// Names that were read and not compared yet. Further rules on the last one may follow.
    batch: Vec<(Name, Pair)>,
    /// Names of the base that were compared, by [place](crate::policy::image::cursor::Cursor::place).
    compared: FixedBitSet,
    /// The number of rules of the base on these names.
    base_rules: u64,
    /// The new rules on names on which they may differ from those in force.
    differing: HashMap<Box<[u8]>, Pair>,
    networks: HashMap<Prefix, Effect>,
    is_too_different: bool,
}

/// The effects of all rules, by number.
#[derive(Default)]
struct Effects {
    all: Vec<Effect>,
    numbers: HashMap<Effect, u32>,
    /// That of the last rule: most rules of a zone have the same one.
    last: u32,
    /// The number of bytes that they take.
    data: usize,
    /// Two rules with the same trigger contradict each other. Only an image can have both.
    contradict: bool,
}

impl Effects {
    fn number(&mut self, effect: &Effect) -> u32 {
        if self.all.get(self.last as usize) == Some(effect) {
            return self.last;
        }
        let next = self.all.len() as u32;
        let number = *self.numbers.entry(effect.clone()).or_insert(next);
        if number == next {
            self.all.push(effect.clone());
            // It is kept twice.
            self.data += 2 * effect.size();
        }
        self.last = number;
        number
    }

    /// Adds the rules `new` to those of a name. Two rules with the same trigger that both answer with records are one.
    fn merge(&mut self, rules: &mut Pair, new: Pair) {
        for (rule, new) in rules.iter_mut().zip(new) {
            if *rule == NONE {
                *rule = new;
            } else if new != NONE && new != *rule {
                let [own, more] = [*rule, new].map(|number| &self.all[number as usize]);
                match own.joined(more) {
                    Some(joined) => *rule = self.number(&joined),
                    None => self.contradict = true,
                }
            }
        }
    }
}

impl Comparison {
    /// A comparison with the rules in force that `images` have of `list`. `None` if they are not in the base, or can't be
    /// amended.
    fn new(images: &Images, list: &str) -> Option<Self> {
        let base = images.base.as_ref().filter(|_| images.is_in_base(list))?;
        let mut sources = base.provenance().sources.iter();
        let source = sources.position(|source| source.name == list && source.amendable)?;
        let source = source as u16;
        let mut effects = Effects::default();
        let clauses = base.clauses().iter();
        let of_clauses = clauses.map(|(clause, effect)| match clause.source == source {
            true => effects.number(effect),
            false => NONE,
        });
        let mut comparison = Self {
            list: list.to_owned(),
            images: images.clone(),
            base: Arc::clone(base),
            of_clauses: of_clauses.collect(),
            effects,
            last_value: (NONE, [NONE; 2]),
            batch: Vec::with_capacity(BATCH),
            compared: FixedBitSet::with_capacity(base.size()),
            base_rules: 0,
            differing: HashMap::new(),
            networks: HashMap::new(),
            is_too_different: false,
        };
        comparison.add_amended();
        Some(comparison)
    }

    /// Takes a rule of the new version.
    fn add(&mut self, rule: ParsedRule<'_>) {
        if self.is_too_different() {
            return;
        }
        let default = Effect::default();
        let effect = rule.effect.unwrap_or(&default);
        let (name, scope) = match rule.trigger {
            ParsedTrigger::Name(name, scope) => (name, scope),
            // No policy zone has patterns.
            ParsedTrigger::Pattern(_) => {
                self.is_too_different = true;
                return;
            }
            ParsedTrigger::Network(prefix) => {
                let known = self.networks.entry(prefix);
                let contradict = &mut self.effects.contradict;
                let known = known.and_modify(|known| match known.joined(effect) {
                    Some(joined) => *known = joined,
                    None => *contradict |= known != effect,
                });
                known.or_insert_with(|| effect.clone());
                self.effects.data += effect.size();
                self.is_too_different |=
                    self.networks.len() > MAX_NETWORKS || self.effects.data > MAX_DATA;
                return;
            }
        };
        let number = self.effects.number(effect);
        self.is_too_different |= self.effects.data > MAX_DATA;
        let is_new = self.batch.last().is_none_or(|(last, _)| last != name);
        if is_new {
            if self.batch.len() == BATCH {
                self.compare_batch();
            }
            self.batch.push((name.clone(), [NONE; 2]));
        }
        if let Some((_, rules)) = self.batch.last_mut() {
            self.effects.merge(rules, pair(scope, number));
        }
    }

    /// The differences. `None` if there are too many.
    ///
    /// # Errors
    /// If the base is damaged.
    fn finish(mut self) -> Result<Option<Amendment>, ImageError> {
        self.compare_batch();
        let rules = (self.base.provenance().source(&self.list)).map_or(0, |source| source.rules);
        if self.base_rules != rules {
            self.add_missing()?;
        }
        if self.is_too_different() {
            return Ok(None);
        }
        let mut amendment = Amendment::default();
        for (path, new) in &self.differing {
            let name = Path::of(path).to_name();
            let mut old = [NONE; 2];
            for rule in self.images.rules_on(&name, &self.list) {
                let number = self.effects.number(rule.effect);
                self.effects.merge(&mut old, pair(rule.scope, number));
            }
            if old != *new {
                let rules = new.iter().zip([Scope::Exact, Scope::Below]);
                let rules = rules.filter_map(|(number, scope)| {
                    let effect = self.effects.all.get(*number as usize)?;
                    Some((scope, effect.clone()))
                });
                amendment.names.insert(path.to_vec(), rules.collect());
            }
        }
        if self.effects.contradict {
            return Ok(None);
        }
        let in_force = self.images.networks(&self.list);
        let is_same =
            |(prefix, effect): &(Prefix, &Effect)| self.networks.get(prefix) == Some(*effect);
        if in_force.len() != self.networks.len() || !in_force.iter().all(is_same) {
            amendment.networks = Some(self.networks.into_iter().collect());
        }
        Ok(Some(amendment))
    }

    /// Whether all rules have to be compiled.
    fn is_too_different(&self) -> bool {
        self.is_too_different || self.effects.contradict
    }

    /// Names that were amended before are looked up in the end.
    fn add_amended(&mut self) {
        let delta = self.images.delta.clone();
        let Some(delta) = delta.filter(|_| self.images.is_amended(&self.list)) else {
            return;
        };
        let sources = &delta.provenance().sources;
        let mut cursor = delta.cursor();
        while cursor.advance() {
            let mut rules = cursor.rules();
            if rules.any(|rule| sources[usize::from(delta.source_of(rule))].name == self.list) {
                let name = Path::of(cursor.path()).to_name();
                let mut in_base = [NONE; 2];
                let mut value = None;
                self.base
                    .locate(&[&name], |_, _, found| value = Some(found));
                if let Some(value) = value {
                    in_base = self.rules_of(value);
                }
                self.base_rules += count(in_base);
                self.differing.insert(cursor.path().into(), [NONE; 2]);
            }
        }
    }

    fn compare_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let mut names = [&Name::ROOT; BATCH];
        for (place, (name, _)) in names.iter_mut().zip(&batch) {
            *place = name;
        }
        let mut found = [(None, NONE); BATCH];
        self.base
            .locate(&names[..batch.len()], |which, place, value| {
                found[which] = (place, value);
            });
        for ((name, new), (place, value)) in batch.iter().zip(found) {
            let in_base = match value {
                NONE => [NONE; 2],
                value => self.rules_of(value),
            };
            self.compare(name, *new, place, in_base);
        }
        self.batch = batch;
        self.batch.clear();
    }

    /// Compares the new rules on a name with those of the base. `place` is that of its node.
    fn compare(&mut self, name: &Name, new: Pair, place: Option<usize>, in_base: Pair) {
        let path = Path::from(name);
        if !self.differing.is_empty()
            && let Some(known) = self.differing.get_mut(path.as_bytes())
        {
            self.effects.merge(known, new);
            return;
        }
        // Names without a place are few.
        let was_compared = place.is_some_and(|place| self.compared.put(place));
        if !was_compared {
            self.base_rules += count(in_base);
        }
        if place.is_some() && new == in_base {
            return;
        }
        // If all of the name's rules in the base have been read, these are further ones.
        let mut rules = if was_compared { in_base } else { [NONE; 2] };
        self.effects.merge(&mut rules, new);
        self.differing.insert(path.as_bytes().into(), rules);
        self.is_too_different |= self.differing.len() > MAX_NAMES;
    }

    /// Adds the names of the base on which the new version has no rules.
    fn add_missing(&mut self) -> Result<(), ImageError> {
        let base = Arc::clone(&self.base);
        let mut cursor = base.cursor();
        while !self.is_too_different && cursor.advance() {
            let was_compared = !cursor.path().is_empty() && self.compared.contains(cursor.place());
            if !was_compared
                && self.rules_of(cursor.number()) != [NONE; 2]
                && !self.differing.contains_key(cursor.path())
            {
                self.differing.insert(cursor.path().into(), [NONE; 2]);
                self.is_too_different |= self.differing.len() > MAX_NAMES;
            }
        }
        cursor.damage().map_or(Ok(()), Err)
    }

    /// The rules of the list in a value of the base.
    fn rules_of(&mut self, value: u32) -> Pair {
        if self.last_value.0 != value {
            let mut rules = [NONE; 2];
            for rule in self.base.value(value).rules() {
                let number = self.of_clauses[rule.clause as usize];
                self.effects.merge(&mut rules, pair(rule.scope, number));
            }
            self.last_value = (value, rules);
        }
        self.last_value.1
    }
}

/// The rule with this effect on a name.
fn pair(scope: Scope, number: u32) -> Pair {
    match scope {
        Scope::Exact => [number, NONE],
        Scope::Below => [NONE, number],
        Scope::Subtree => [number; 2],
    }
}

fn count(rules: Pair) -> u64 {
    rules.iter().filter(|rule| **rule != NONE).count() as u64
}

#[cfg(test)]
mod tests;
