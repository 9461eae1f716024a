//! Clauses: the pairs of a source and an effect that rules refer to.

use std::collections::BTreeMap;
use std::sync::Arc;

use fixedbitset::FixedBitSet;
use foldhash::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::bits::word;
use super::error::{ImageError, TooLarge};
use super::provenance::Provenance;
use super::values::ImageRule;
use crate::policy::effect::{Effect, EffectAction, Tier};

/// The bytes of a clause in an image.
const SIZE: usize = 8;
/// The number of clauses that a rule can refer to.
const LIMIT: usize = 1 << 29;
/// The bit of the groups of marks.
const VOID_GROUP: u32 = 1 << 31;
/// The bits of the tier in the number of a group.
const GROUP_SHIFT: u32 = 3;
const _: () = assert!(Tier::COUNT <= 1 << GROUP_SHIFT);

/// A source with one of its effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Clause {
    /// Index of the source in the image's provenance.
    pub source: u16,
    /// Index of the effect in the image; 0 is the default effect.
    pub effect: u32,
}

/// The clauses of an image and their effects. The first effect is the default.
#[derive(Clone, Debug)]
pub struct Clauses {
    all: Vec<Clause>,
    effects: Vec<Arc<Effect>>,
}

/// Collects the clauses of an image that is to be written.
#[derive(Clone, Debug)]
pub struct ClausesBuilder {
    table: Clauses,
    /// The group of each clause: the number of its source and tier. Only rules of one group can make each other
    /// redundant. The mark that voids the rules on a name is in a separate group.
    groups: Vec<u32>,
    /// The sources whose rules are kept even if others on names above cover them.
    amendable: FixedBitSet,
    /// The sources of which the image has only changes.
    amended: FixedBitSet,
    numbers: HashMap<Clause, u32>,
    effect_numbers: HashMap<Arc<Effect>, u32>,
    /// Whether some rules answer with records.
    has_records: bool,
}

/// The effects as they are written and read.
#[derive(Serialize, Deserialize)]
struct Stored<E>(Vec<E>);

impl Default for ClausesBuilder {
    fn default() -> Self {
        let effect = Arc::new(Effect::default());
        Self {
            table: Clauses {
                all: Vec::new(),
                effects: vec![Arc::clone(&effect)],
            },
            groups: Vec::new(),
            amendable: FixedBitSet::new(),
            amended: FixedBitSet::new(),
            numbers: HashMap::default(),
            effect_numbers: std::iter::once((effect, 0)).collect(),
            has_records: false,
        }
    }
}

impl ClausesBuilder {
    /// One clause with the default effect for each of `sources` sources. The number of a clause is that of its source.
    pub fn of_sources(sources: usize) -> Self {
        let mut builder = Self::default();
        for source in 0..sources {
            let clause = builder.number(source as u16, 0);
            debug_assert_eq!(clause, Ok(source as u32));
        }
        builder
    }

    /// Keeps the rules of a source even if others on names above cover them, because an amendment may remove the others.
    pub fn set_amendable(&mut self, source: u16) {
        self.amendable.grow_and_insert(source.into());
    }

    /// Like [`set_amendable`](Self::set_amendable), for a source of which the image has only changes: the base may have
    /// wildcards on any name.
    pub fn set_amended(&mut self, source: u16) {
        self.set_amendable(source);
        self.amended.grow_and_insert(source.into());
    }

    /// The number of the clause with this source and effect.
    ///
    /// # Errors
    /// If there are too many clauses, or no answer can carry the effect.
    pub fn add(&mut self, source: u16, effect: &Effect) -> Result<u32, TooLarge> {
        // Most rules have the default effect, which needs no hash.
        if effect.is_default() {
            return self.number(source, 0);
        }
        let number = match self.effect_numbers.get(effect) {
            Some(&number) => number,
            None => {
                effect.check().map_err(TooLarge::Effect)?;
                let number = self.table.effects.len() as u32;
                self.has_records |= matches!(effect.action, EffectAction::Records(_));
                let effect = Arc::new(effect.clone());
                self.table.effects.push(Arc::clone(&effect));
                self.effect_numbers.insert(effect, number);
                number
            }
        };
        self.number(source, number)
    }

    fn number(&mut self, source: u16, effect: u32) -> Result<u32, TooLarge> {
        let clause = Clause { source, effect };
        if let Some(&number) = self.numbers.get(&clause) {
            return Ok(number);
        }
        if self.table.all.len() >= LIMIT {
            return Err(TooLarge::Clauses);
        }
        let number = self.table.all.len() as u32;
        let effect = &self.table.effects[effect as usize];
        let void = if effect.is_void() { VOID_GROUP } else { 0 };
        let group = u32::from(source) << GROUP_SHIFT | effect.tier as u32 | void;
        self.groups.push(group);
        self.table.all.push(clause);
        self.numbers.insert(clause, number);
        Ok(number)
    }

    /// The table of the clauses that were added.
    pub fn table(&self) -> &Clauses {
        &self.table
    }

    /// Whether all effects are the default.
    fn is_plain(&self) -> bool {
        self.table.effects.len() == 1
    }

    /// The rule with the same clause and the scope `Subtree`.
    fn subtree(rule: u32) -> u32 {
        rule & !ImageRule::SCOPE | ImageRule::SUBTREE
    }

    /// The form in which [`is_redundant`](Self::is_redundant) expects a rule that covers all names below its own.
    pub(super) fn cover(&self, rule: u32) -> u32 {
        match self.is_plain() {
            true => Self::subtree(rule),
            false => rule,
        }
    }

    /// Whether rules of some sources are kept even if others cover them.
    pub(super) fn has_amendable(&self) -> bool {
        !self.amendable.is_empty()
    }

    /// Whether the rules of the source of this rule are kept even if others on names above cover them.
    fn is_amendable(&self, rule: u32) -> bool {
        let clause = self
            .table
            .all
            .get((rule >> ImageRule::CLAUSE_SHIFT) as usize);
        clause.is_some_and(|clause| self.amendable.contains(clause.source.into()))
    }

    /// Whether a policy zone has rules below a name, but none on it, and may have a wildcard on the name above, which then
    /// matches neither this name nor those below it (RFC 4592). `rules` are the rules on the name, `below` the sources that
    /// have rules below it (two bits for each), and `above` the rules on the name above that cover all names below that.
    pub(super) fn hides_wildcard(&self, rules: &[u32], below: &FixedBitSet, above: &[u32]) -> bool {
        let is_of = |rule: &u32, source: usize| {
            let clause = rule >> ImageRule::CLAUSE_SHIFT;
            let clause = self.table.all.get(clause as usize);
            clause.is_some_and(|clause| usize::from(clause.source) == source)
        };
        let hides = |source: usize| {
            let may_be_above = || above.iter().any(|rule| is_of(rule, source));
            self.amendable.contains(source)
                && !rules.iter().any(|rule| is_of(rule, source))
                && (self.amended.contains(source) || may_be_above())
        };
        self.has_amendable() && below.ones().any(|place| hides(place / 2))
    }

    /// Replaces rules of a source that answer with records and have the same trigger by one that answers with all of
    /// them: the records of one owner may be in several places of a zone, and in several lines of a list. `rules` are those
    /// on a name. `None` if there are no such rules.
    ///
    /// # Errors
    /// If there are too many clauses.
    pub(super) fn join_records(
        &mut self,
        rules: &[u32],
    ) -> Result<Option<SmallVec<[u32; 4]>>, TooLarge> {
        if rules.len() < 2 || !self.has_records {
            return Ok(None);
        }
        let mut kept: SmallVec<[u32; 4]> = SmallVec::new();
        for scope in [ImageRule::EXACT, ImageRule::BELOW, ImageRule::SUBTREE] {
            let of_scope = rules.iter();
            let of_scope = of_scope.filter(|rule| **rule & ImageRule::SCOPE == scope);
            let clauses = of_scope.map(|rule| rule >> ImageRule::CLAUSE_SHIFT);
            let joined = self.joined(clauses)?.into_iter();
            kept.extend(joined.map(|clause| clause << ImageRule::CLAUSE_SHIFT | scope));
        }
        let has_joined = kept.len() < rules.len();
        kept.sort_unstable();
        Ok(has_joined.then_some(kept))
    }

    /// The clauses of rules with the same trigger, in which those of one source are joined that answer with records.
    ///
    /// # Errors
    /// If there are too many clauses.
    pub(super) fn joined(
        &mut self,
        clauses: impl Iterator<Item = u32>,
    ) -> Result<SmallVec<[u32; 4]>, TooLarge> {
        let mut kept = SmallVec::new();
        let mut groups: BTreeMap<(u16, Effect), Vec<u32>> = BTreeMap::new();
        for clause in clauses {
            match self.table.effect(clause).common() {
                Some(common) => {
                    let group = (self.table.get(clause).source, common);
                    groups.entry(group).or_default().push(clause);
                }
                None => kept.push(clause),
            }
        }
        // Only the result of a group is added to the table, as a group may have thousands of rules.
        for ((source, _), group) in groups {
            let [_, _, ..] = group[..] else {
                kept.extend(group);
                continue;
            };
            let effects: Vec<_> = group
                .iter()
                .map(|clause| self.table.effect(*clause))
                .collect();
            for effect in Effect::join(&effects) {
                kept.push(self.add(source, &effect)?);
            }
        }
        Ok(kept)
    }

    /// Replaces an exact rule and a rule for the names below by a subtree rule, if they have the same clause and are on the
    /// same name: policy zones have most names twice, as `x` and as `*.x`. Does so for sources that are amendable only,
    /// because such rules of other sources are rare. `rules` are the rules on a name, sorted and without redundant ones.
    pub(super) fn join_pairs(&self, rules: &mut Vec<u32>) {
        let mut at = 0;
        while let Some(&[exact, below]) = rules.get(at..at + 2) {
            let is_pair = exact & ImageRule::SCOPE == ImageRule::EXACT
                && below == exact | ImageRule::BELOW
                && !self.table.is_void(exact >> ImageRule::CLAUSE_SHIFT)
                && self.is_amendable(exact);
            // The pair precedes another subtree rule of the group, and rules that contradict it. Joined, it might not.
            if is_pair && self.is_alone(rules, exact) {
                rules[at] = Self::subtree(exact);
                rules.remove(at + 1);
            }
            at += 1;
        }
    }

    /// Whether a rule is redundant: without it, the same effect of its source applies to the same names. `rules` are
    /// the rules on its name. `above` has, for each ancestor of the name and the nearest first, the rules that cover
    /// all names below it, in the form of [`cover`](Self::cover). They do not matter if the source is amendable.
    pub(super) fn is_redundant<'c>(
        &self,
        rule: u32,
        rules: &[u32],
        above: impl Iterator<Item = &'c [u32]>,
    ) -> bool {
        let is_kept = self.has_amendable() && self.is_amendable(rule);
        let mut above = above.take_while(|_| !is_kept);
        if self.is_plain() {
            // Each source has only one clause, so any covering rule of the source makes the rule redundant, not only
            // the nearest one. This path is fast even if tens of thousands of orders have rules on one name.
            let subtree = Self::subtree(rule);
            return rule != subtree && rules.contains(&subtree)
                || above.any(|covers| covers.contains(&subtree));
        }
        let (clause, scope) = (rule >> ImageRule::CLAUSE_SHIFT, rule & ImageRule::SCOPE);
        let best = |rules: &[u32], scope| self.best(rules, scope, clause);
        // Of several rules with one trigger, the first one without a condition applies, or one before it. If the source is
        // amendable, a second one stays, as a sign that changes of the first one need the whole list.
        if self.is_preceded(rules, scope, clause) {
            return !is_kept || self.last(rules, scope, clause) != Some(clause);
        }
        // A rule between this one and a wider one may have another condition. Few rules have conditions, so all are kept.
        if self.is_conditional(clause) {
            return false;
        }
        if scope != ImageRule::SUBTREE
            && let Some(covering) = best(rules, ImageRule::SUBTREE)
        {
            return covering == clause;
        }
        let covering = above.find_map(|covers| {
            best(covers, ImageRule::BELOW).or_else(|| best(covers, ImageRule::SUBTREE))
        });
        covering == Some(clause)
    }

    /// Whether all rules of the group of `rule` have the same clause.
    fn is_alone(&self, rules: &[u32], rule: u32) -> bool {
        let clause = |rule: &u32| rule >> ImageRule::CLAUSE_SHIFT;
        let group = |rule: &u32| self.groups.get(clause(rule) as usize);
        let mut others = rules.iter().filter(|other| group(other) == group(&rule));
        others.all(|other| clause(other) == clause(&rule))
    }

    /// Whether a rule with this scope in the group of `clause` precedes that of `clause` in all queries.
    fn is_preceded(&self, rules: &[u32], scope: u32, clause: u32) -> bool {
        let mut others = self.of_group(rules, scope, clause);
        others.any(|other| {
            !self.is_conditional(other) && self.table.effect(other) < self.table.effect(clause)
        })
    }

    /// Whether rules of a clause have a condition. False if the clause is unknown.
    fn is_conditional(&self, clause: u32) -> bool {
        (clause as usize) < self.table.len() && self.table.effect(clause).condition.is_some()
    }

    /// Of the rules with this scope in the group of `clause`, the clause of the one that takes precedence.
    fn best(&self, rules: &[u32], scope: u32, clause: u32) -> Option<u32> {
        let clauses = self.of_group(rules, scope, clause);
        clauses.min_by_key(|other| self.table.effect(*other))
    }

    /// Of the rules with this scope in the group of `clause`, the clause of the one that all others precede.
    fn last(&self, rules: &[u32], scope: u32, clause: u32) -> Option<u32> {
        let clauses = self.of_group(rules, scope, clause);
        clauses.max_by_key(|other| self.table.effect(*other))
    }

    /// The clauses of the rules with this scope in the group of `clause`. None if the clause is unknown.
    fn of_group(&self, rules: &[u32], scope: u32, clause: u32) -> impl Iterator<Item = u32> {
        let group = self.groups.get(clause as usize);
        let of_scope = rules
            .iter()
            .filter(move |rule| *rule & ImageRule::SCOPE == scope);
        let clauses = of_scope.map(|rule| rule >> ImageRule::CLAUSE_SHIFT);
        clauses.filter(move |other| group.is_some() && self.groups.get(*other as usize) == group)
    }
}

impl Clauses {
    /// The number of clauses.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are no clauses.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The clauses in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Clause, &Effect)> {
        let effect = |clause: &Clause| &*self.effects[clause.effect as usize];
        self.all.iter().map(move |clause| (*clause, effect(clause)))
    }

    /// The clause with this number.
    ///
    /// # Panics
    /// If there is none. Opening an image checks that its rules have one.
    #[inline]
    pub fn get(&self, clause: u32) -> Clause {
        self.all[clause as usize]
    }

    /// The group of a clause: the number of its source and tier.
    ///
    /// # Panics
    /// If there is no such clause.
    pub(super) fn group(&self, clause: u32) -> u32 {
        u32::from(self.get(clause).source) << GROUP_SHIFT | self.effect(clause).tier as u32
    }

    /// A sort key for clauses: those of one group sort by precedence, and groups in an arbitrary order.
    ///
    /// # Panics
    /// If there is no such clause.
    pub(super) fn precedence(&self, clause: u32) -> (u32, &Effect) {
        (self.group(clause), self.effect(clause))
    }

    /// The effect of a clause.
    ///
    /// # Panics
    /// If there is no such clause.
    pub fn effect(&self, clause: u32) -> &Effect {
        &self.effects[self.get(clause).effect as usize]
    }

    /// Whether a clause is the mark that voids the rules of its source on a name.
    ///
    /// # Panics
    /// If there is no such clause.
    pub fn is_void(&self, clause: u32) -> bool {
        self.effect(clause).is_void()
    }

    /// Whether marks belong only to sources that the image amends.
    pub(super) fn are_marks_valid(&self, provenance: &Provenance) -> bool {
        let mut marks = self.iter().filter(|(_, effect)| effect.is_void());
        let source = |clause: Clause| provenance.sources.get(usize::from(clause.source));
        marks.all(|(clause, _)| source(clause).is_some_and(|source| source.amends))
    }

    /// The bytes of the two sections: eight for each clause; the effects as JSON.
    pub(super) fn sections(&self) -> (Vec<u8>, Vec<u8>) {
        let mut clauses = Vec::with_capacity(self.all.len() * SIZE);
        for clause in &self.all {
            clauses.extend(u32::from(clause.source).to_le_bytes());
            clauses.extend(clause.effect.to_le_bytes());
        }
        let effects = Stored(self.effects.iter().map(|effect| &**effect).collect());
        let effects = serde_json::to_vec(&effects).expect("effects have a JSON form");
        (clauses, effects)
    }

    /// Reads the two sections of an image with this number of sources.
    ///
    /// # Errors
    /// If they are not what [`sections`](Self::sections) writes.
    pub(super) fn from_sections(
        clauses: &[u8],
        effects: &[u8],
        sources: usize,
    ) -> Result<Self, ImageError> {
        let invalid = ImageError::Invalid("effects");
        let Stored::<Effect>(effects) = serde_json::from_slice(effects).map_err(|_| invalid)?;
        let is_good = effects.first().is_some_and(Effect::is_default)
            && effects.iter().all(|effect| effect.check().is_ok());
        if !is_good || !clauses.len().is_multiple_of(SIZE) || clauses.len() / SIZE > LIMIT {
            return Err(invalid);
        }
        let mut all = Vec::with_capacity(clauses.len() / SIZE);
        let mut known = HashSet::default();
        for bytes in clauses.chunks(SIZE) {
            let bits = word(bytes, 0);
            let (source, effect) = ((bits & 0xFFFF_FFFF) as usize, (bits >> 32) as u32);
            if source >= sources || effect as usize >= effects.len() {
                return Err(ImageError::Invalid("clauses"));
            }
            let source = source as u16;
            let clause = Clause { source, effect };
            // Each clause is stored once.
            if !known.insert(clause) {
                return Err(ImageError::Invalid("clauses"));
            }
            all.push(clause);
        }
        // Each effect is stored once.
        match effects.iter().collect::<HashSet<_>>().len() == effects.len() {
            true => Ok(Self {
                all,
                effects: effects.into_iter().map(Arc::new).collect(),
            }),
            false => Err(invalid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::condition::{Condition, TypeSet};
    use crate::policy::record::LocalRecord;
    use crate::policy::rule::{Action, Scope};
    use crate::wire::name::Name;

    fn effect(action: Action, tier: Tier) -> Effect {
        Effect {
            action: EffectAction::Block(action),
            tier,
            ..Effect::default()
        }
    }

    /// Two sources with the default effect, and one with two others.
    fn clauses() -> ClausesBuilder {
        let mut clauses = ClausesBuilder::of_sources(2);
        let refused = effect(Action::Refused, Tier::Usual);
        assert_eq!(clauses.add(1, &refused), Ok(2));
        assert_eq!(clauses.add(1, &effect(Action::Drop, Tier::First)), Ok(3));
        assert_eq!(clauses.add(1, &refused), Ok(2), "it is known");
        assert_eq!(clauses.add(0, &refused), Ok(4));
        clauses
    }

    fn sections(clauses: &ClausesBuilder) -> (Vec<[u32; 2]>, serde_json::Value) {
        let (table, effects) = clauses.table().sections();
        let (numbers, _) = table.as_chunks::<4>();
        let (pairs, _) = numbers.as_chunks::<2>();
        let pairs = pairs.iter().map(|pair| pair.map(u32::from_le_bytes));
        (
            pairs.collect(),
            serde_json::from_slice(&effects).expect("JSON"),
        )
    }

    fn read(pairs: &[[u32; 2]], effects: &serde_json::Value) -> Result<Clauses, ImageError> {
        let table: Vec<u8> = pairs
            .iter()
            .flatten()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let effects = serde_json::to_vec(effects).expect("JSON");
        Clauses::from_sections(&table, &effects, 2)
    }

    #[test]
    fn clauses_and_effects_are_read_as_they_were_written() {
        let mut written = clauses();
        let record = LocalRecord {
            rtype: 1,
            ttl_secs: Some(1),
            data: [192, 0, 2, 1].into(),
        };
        let target = Arc::new(Name::from_text("a\\.b.\\000.example").expect("a name"));
        let actions = [
            EffectAction::Records(vec![record]),
            EffectAction::Cname {
                target,
                prepend: true,
            },
            EffectAction::TcpOnly,
        ];
        for (number, action) in (5..).zip(actions) {
            let effect = Effect {
                action,
                as_written: true,
                ..Effect::default()
            };
            assert_eq!(written.add(0, &effect), Ok(number));
        }
        let (pairs, effects) = sections(&written);
        let read = read(&pairs, &effects).expect("valid");
        assert_eq!(read.len(), 8);
        assert!(read.iter().eq(written.table().iter()));
    }

    #[test]
    fn sections_with_other_contents_are_refused() {
        let (pairs, effects) = sections(&clauses());
        let with = |at: usize, pair| {
            let mut pairs = pairs.clone();
            pairs[at] = pair;
            read(&pairs, &effects).map(|_| ())
        };
        let clauses = Err(ImageError::Invalid("clauses"));
        assert_eq!(with(0, [2, 0]), clauses, "there are two sources");
        assert_eq!(with(0, [0, 3]), clauses, "there are three effects");
        assert_eq!(with(0, pairs[1]), clauses, "each clause is there once");
        let effects = |change: &dyn Fn(&mut Vec<serde_json::Value>)| {
            let mut effects = effects.clone();
            change(effects.as_array_mut().expect("an array"));
            read(&pairs, &effects).map(|_| ())
        };
        let invalid = Err(ImageError::Invalid("effects"));
        assert_eq!(
            effects(&|all| all.swap(0, 1)),
            invalid,
            "the default is first"
        );
        assert_eq!(effects(&|all| all.clear()), invalid);
        assert_eq!(
            effects(&|all| all[2] = all[1].clone()),
            invalid,
            "each is there once"
        );
        assert_eq!(
            effects(&|all| all[1]["extra_text"] = "x".repeat(1001).into()),
            invalid
        );
        assert_eq!(effects(&|all| all[1]["other"] = 1.into()), invalid);
        let soa = r#"{"records":[{"rtype":6,"data":""}]}"#;
        let to_root = r#"{"cname":{"target":".","prepend":true}}"#;
        let no_name = r#"{"cname":{"target":"..","prepend":false}}"#;
        for action in [soa, to_root, no_name] {
            let action: serde_json::Value = serde_json::from_str(action).expect("JSON");
            let with = |all: &mut Vec<serde_json::Value>| all[1]["action"] = action.clone();
            assert_eq!(effects(&with), invalid, "{action}");
        }
        let (mut table, all) = self::clauses().table().sections();
        table.pop();
        assert!(Clauses::from_sections(&table, &all, 2).is_err());
    }

    #[test]
    fn only_the_nearest_rule_of_the_same_source_and_tier_makes_a_rule_redundant() {
        let clauses = clauses();
        let rule = |clause: u32, scope| ImageRule { clause, scope }.to_bits();
        use Scope::{Below, Exact, Subtree};
        // The rule, the rules on its name, and those on the ancestors of its name, the nearest one first.
        let redundant = |rule: u32, on: &[u32], above: &[&[u32]]| {
            let on = [on, &[rule]].concat();
            clauses.is_redundant(rule, &on, above.iter().copied())
        };
        assert!(!redundant(rule(1, Exact), &[], &[]));
        assert!(redundant(rule(1, Exact), &[rule(1, Subtree)], &[]));
        assert!(redundant(rule(1, Exact), &[], &[&[], &[rule(1, Below)]]));
        assert!(
            !redundant(rule(1, Exact), &[rule(1, Below)], &[]),
            "it covers names below only"
        );
        assert!(
            !redundant(rule(1, Exact), &[rule(0, Subtree)], &[]),
            "another source"
        );
        assert!(
            !redundant(rule(3, Exact), &[rule(1, Subtree)], &[]),
            "another tier"
        );
        assert!(
            !redundant(rule(2, Exact), &[rule(1, Subtree)], &[]),
            "another effect"
        );
        // The nearest one counts.
        let (far, near) = ([rule(1, Subtree)], [rule(2, Subtree)]);
        assert!(!redundant(rule(1, Exact), &[], &[&near, &far]));
        assert!(redundant(rule(2, Exact), &[], &[&near, &far]));
        assert!(!redundant(rule(1, Exact), &near, &[&far]));
        // On one name, a rule for the names below precedes one for the subtree.
        let both = [rule(1, Subtree), rule(2, Below)];
        assert!(redundant(rule(2, Exact), &[], &[&both]));
        assert!(!redundant(rule(1, Exact), &[], &[&both]));
        // Of two rules with the same trigger, one stays: that with the default effect.
        assert!(redundant(rule(2, Exact), &[rule(1, Exact)], &[]));
        assert!(!redundant(rule(1, Exact), &[rule(2, Exact)], &[]));
    }

    #[test]
    fn a_rule_with_a_condition_makes_no_rule_redundant_and_is_so_only_behind_one_without() {
        let mut clauses = clauses();
        let conditional = |action| Effect {
            condition: Condition::new(Some(TypeSet::Only([1].into())), [])
                .ok()
                .map(Box::new),
            ..effect(action, Tier::Usual)
        };
        // Effects are compared by their actions first.
        let mut add = |action| clauses.add(1, &conditional(action)).expect("room");
        let (before, after) = (add(Action::Nxdomain), add(Action::Drop));
        let nodata = clauses.add(1, &effect(Action::Nodata, Tier::Usual));
        let plain = nodata.expect("room");
        let rule = |clause: u32, scope| ImageRule { clause, scope }.to_bits();
        use Scope::{Exact, Subtree};
        let redundant = |rule: u32, on: &[u32], above: &[&[u32]]| {
            let on = [on, &[rule]].concat();
            clauses.is_redundant(rule, &on, above.iter().copied())
        };
        assert!(!redundant(rule(plain, Exact), &[rule(before, Exact)], &[]));
        assert!(redundant(rule(after, Exact), &[rule(plain, Exact)], &[]));
        let same = [rule(before, Subtree)];
        assert!(!redundant(rule(before, Exact), &same, &[&same]));
        // Without the exact rule, the one with a condition would precede the wider one.
        let wider: &[u32] = &[rule(plain, Subtree)];
        assert!(redundant(rule(plain, Exact), &[], &[wider]));
        assert!(!redundant(rule(plain, Exact), &[], &[&same, wider]));
        assert!(!redundant(rule(plain, Exact), &same, &[wider]));
    }

    #[test]
    fn rules_of_an_amendable_source_are_redundant_only_beside_others_on_their_name() {
        let mut clauses = clauses();
        clauses.set_amendable(1);
        let rule = |clause: u32, scope| ImageRule { clause, scope }.to_bits();
        use Scope::{Below, Exact, Subtree};
        let redundant = |rule: u32, on: &[u32], above: &[u32]| {
            let on = [on, &[rule]].concat();
            clauses.is_redundant(rule, &on, std::iter::once(above))
        };
        assert!(!redundant(rule(1, Exact), &[], &[rule(1, Subtree)]));
        assert!(redundant(rule(1, Exact), &[rule(1, Subtree)], &[]));
        assert!(
            redundant(rule(0, Exact), &[], &[rule(0, Below)]),
            "another source"
        );
        let joined = |rules: &[u32]| {
            let mut rules = rules.to_vec();
            clauses.join_pairs(&mut rules);
            rules
        };
        let pair = [rule(1, Exact), rule(1, Below)];
        assert_eq!(joined(&pair), [rule(1, Subtree)]);
        let others = [
            rule(0, Exact),
            rule(0, Below),
            rule(1, Exact),
            rule(2, Below),
        ];
        assert_eq!(joined(&others), others, "another source, another effect");
        let with_subtree = [pair[0], pair[1], rule(2, Subtree)];
        assert_eq!(
            joined(&with_subtree),
            with_subtree,
            "the other would precede it"
        );
        let two = [pair[0], pair[1], rule(3, Exact), rule(3, Below)];
        assert_eq!(joined(&two), [rule(1, Subtree), rule(3, Subtree)]);
    }

    #[test]
    fn records_of_two_policy_zones_on_one_name_are_not_joined() {
        let mut clauses = ClausesBuilder::of_sources(2);
        clauses.set_amendable(0);
        clauses.set_amendable(1);
        let mut rule = |source, last: u8| {
            let record = LocalRecord {
                rtype: crate::wire::rtype::A,
                ttl_secs: None,
                data: [192, 0, 2, last][..].into(),
            };
            let effect = Effect {
                action: EffectAction::Records(vec![record]),
                ..Effect::default()
            };
            let clause = clauses.add(source, &effect).expect("room");
            let scope = Scope::Exact;
            ImageRule { clause, scope }.to_bits()
        };
        let (one, other, more) = (rule(0, 1), rule(1, 2), rule(0, 3));
        assert_eq!(clauses.join_records(&[one, other]), Ok(None));
        let joined = clauses.join_records(&[one, other, more]).expect("room");
        let joined = joined.expect("those of one zone");
        assert!(joined.len() == 2 && joined.contains(&other));
    }

    #[test]
    fn a_mark_is_not_redundant_and_makes_no_rule_redundant() {
        let mut clauses = clauses();
        let mark = clauses.add(1, &Effect::void()).expect("room");
        clauses.set_amendable(1);
        let rule = |clause: u32, scope| ImageRule { clause, scope }.to_bits();
        let all = [
            rule(1, Scope::Exact),
            rule(mark, Scope::Exact),
            rule(1, Scope::Below),
        ];
        let above = [rule(1, Scope::Subtree)];
        let redundant = |rule: &u32| clauses.is_redundant(*rule, &all, std::iter::once(&above[..]));
        assert!(!all.iter().any(redundant));
        let mut provenance = Provenance::numbered(2);
        assert!(!clauses.table().are_marks_valid(&provenance));
        provenance.sources[1].amends = true;
        assert!(clauses.table().are_marks_valid(&provenance));
    }
}
