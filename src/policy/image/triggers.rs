//! The rules of an image whose triggers are not names: networks of addresses, and patterns.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::bits::word;
use super::clauses::{Clauses, ClausesBuilder};
use super::error::{ImageError, TooLarge};
use crate::policy::effect::EffectError;
use crate::policy::patterns::{PatternSet, SearchCost};
use crate::policy::prefix::{AddressOf, Prefix};

/// The size of a rule on a network: its clause (4 bytes), 0 for addresses of clients or 1 for addresses in answers (1),
/// the length of the prefix (1), two zeros, the first address (16, the most significant byte first).
const SIZE: usize = 24;
/// The number of rules on networks that an image can have.
const MAX_PREFIXES: usize = 1 << 24;

/// Rules on networks and patterns, each with the number of its clause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Triggers {
    prefixes: Vec<(Prefix, u32)>,
    patterns: Vec<(String, u32)>,
}

/// The patterns of one source and tier, which names are matched against together.
#[derive(Debug)]
pub struct PatternGroup {
    /// The compiled patterns.
    pub set: PatternSet,
    /// The text and the clause of each pattern. Earlier patterns take precedence over later ones.
    pub rules: Vec<(String, u32)>,
}

/// The patterns as they are written: text and clause.
#[derive(Serialize, Deserialize)]
struct Stored(Vec<(String, u32)>);

impl Triggers {
    /// Adds a rule on a network.
    ///
    /// # Errors
    /// If there are too many.
    pub fn add_prefix(&mut self, prefix: Prefix, clause: u32) -> Result<(), TooLarge> {
        if self.prefixes.len() >= MAX_PREFIXES {
            return Err(TooLarge::Prefixes);
        }
        self.prefixes.push((prefix, clause));
        Ok(())
    }

    /// The clause of each rule.
    pub fn clauses(&self) -> impl Iterator<Item = u32> {
        let prefixes = self.prefixes.iter().map(|(_, clause)| *clause);
        prefixes.chain(self.patterns.iter().map(|(_, clause)| *clause))
    }

    /// The clause of each rule with a pattern.
    pub fn pattern_clauses(&self) -> impl Iterator<Item = u32> {
        self.patterns.iter().map(|(_, clause)| *clause)
    }

    /// Adds a rule with a pattern as its trigger.
    pub fn add_pattern(&mut self, pattern: &str, clause: u32) {
        self.patterns.push((pattern.to_owned(), clause));
    }

    /// Adds the rules of `other`. `clause` maps the number of a clause to a new one, or to `None` to leave its rules
    /// out.
    ///
    /// # Errors
    /// If there are too many.
    pub fn carry(
        &mut self,
        other: &Self,
        mut clause: impl FnMut(u32) -> Result<Option<u32>, TooLarge>,
    ) -> Result<(), TooLarge> {
        for &(prefix, old) in &other.prefixes {
            if let Some(clause) = clause(old)? {
                self.add_prefix(prefix, clause)?;
            }
        }
        for (pattern, old) in &other.patterns {
            if let Some(clause) = clause(*old)? {
                self.add_pattern(pattern, clause);
            }
        }
        Ok(())
    }

    /// Joins the rules of a policy zone that answer with records and are on the same network.
    ///
    /// # Errors
    /// If there are too many clauses.
    pub(super) fn join_records(&mut self, clauses: &mut ClausesBuilder) -> Result<(), TooLarge> {
        self.prefixes.sort_unstable();
        let rules = std::mem::take(&mut self.prefixes);
        for same in rules.chunk_by(|one, other| one.0 == other.0) {
            let joined = clauses.joined(same.iter().map(|(_, clause)| *clause))?;
            let prefix = same[0].0;
            self.prefixes
                .extend(joined.into_iter().map(|clause| (prefix, clause)));
        }
        Ok(())
    }

    /// Sorts the rules, removes duplicates, and checks the patterns. `source` returns the name of a source for an error.
    ///
    /// # Errors
    /// If a pattern is not accepted, or all of them are too much work for a lookup.
    pub(super) fn finish<'n>(
        self,
        clauses: &Clauses,
        source: impl Fn(u16) -> &'n str,
    ) -> Result<Self, TooLarge> {
        let sorted = self.sorted(clauses);
        if sorted.clauses().any(|clause| clauses.is_void(clause)) {
            return Err(TooLarge::Effect(EffectError::Void));
        }
        sorted.pattern_groups(clauses, source)?;
        Ok(sorted)
    }

    fn sorted(mut self, clauses: &Clauses) -> Self {
        self.prefixes.sort_unstable();
        self.prefixes.dedup();
        let compare = |one: &_, other: &_| compare_patterns(one, other, clauses);
        self.patterns.sort_by(compare);
        self.patterns.dedup();
        self
    }

    /// Compiles the sorted patterns, those of each source and tier together. `source` returns the name of a source for an
    /// error.
    ///
    /// # Errors
    /// The first pattern that is not accepted; or the patterns are too much work for a lookup, or take too much memory.
    fn pattern_groups<'n>(
        &self,
        clauses: &Clauses,
        source: impl Fn(u16) -> &'n str,
    ) -> Result<Vec<PatternGroup>, TooLarge> {
        let same =
            |one: &(_, u32), other: &(_, u32)| clauses.group(one.1) == clauses.group(other.1);
        let (mut groups, mut cost) = (Vec::new(), SearchCost::default());
        for rules in self.patterns.chunk_by(same) {
            let set = PatternSet::new(rules.iter().map(|(pattern, _)| pattern));
            let list = source(clauses.get(rules[0].1).source);
            let set = set.map_err(|error| TooLarge::Pattern {
                list: list.into(),
                pattern: shown(&rules[error.index].0),
                problem: error.problem,
            })?;
            set.add_cost(&mut cost);
            cost.check().map_err(|why| TooLarge::PatternWork {
                list: list.into(),
                why,
            })?;
            let rules = rules.to_vec();
            groups.push(PatternGroup { set, rules });
        }
        Ok(groups)
    }

    /// The rules on networks. Those of an image are sorted: each network follows those that contain it.
    pub fn prefixes(&self) -> &[(Prefix, u32)] {
        &self.prefixes
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.prefixes.len() + self.patterns.len()
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the two sections: rules on networks; patterns as JSON.
    pub(super) fn sections(&self) -> (Vec<u8>, Vec<u8>) {
        let mut prefixes = Vec::with_capacity(self.prefixes.len() * SIZE);
        for (prefix, clause) in &self.prefixes {
            prefixes.extend(clause.to_le_bytes());
            prefixes.extend([prefix.of as u8, prefix.len, 0, 0]);
            prefixes.extend(prefix.first.to_be_bytes());
        }
        let patterns = Stored(self.patterns.clone());
        let patterns = serde_json::to_vec(&patterns).expect("texts and numbers have a JSON form");
        (prefixes, patterns)
    }

    /// Reads the two sections of an image that has these clauses.
    ///
    /// # Errors
    /// If they do not have the form in which [`sections`](Self::sections) writes sorted and checked rules.
    pub(super) fn from_sections(
        prefixes: &[u8],
        patterns: &[u8],
        clauses: &Clauses,
    ) -> Result<(Self, Vec<PatternGroup>), ImageError> {
        let (rules, rest) = prefixes.as_chunks::<SIZE>();
        let known = |clause: u32| (clause as usize) < clauses.len() && !clauses.is_void(clause);
        let rule = |bytes: &[u8; SIZE]| {
            let head = word(bytes, 0);
            let of = match head >> 32 & 0xFF {
                0 => AddressOf::Client,
                1 => AddressOf::Answer,
                _ => return None,
            };
            let (clause, len) = (head as u32, (head >> 40) as u8);
            let first = u128::from_be_bytes(*bytes.last_chunk()?);
            let prefix = Prefix::from_bits(of, first, len)?;
            (head >> 48 == 0 && known(clause)).then_some((prefix, clause))
        };
        let prefixes: Option<Vec<_>> = rules.iter().map(rule).collect();
        let prefixes = prefixes.filter(|rules| {
            rest.is_empty() && rules.len() <= MAX_PREFIXES && rules.is_sorted_by(|a, b| a < b)
        });
        let prefixes = prefixes.ok_or(ImageError::Invalid("prefixes"))?;
        let invalid = ImageError::Invalid("patterns");
        let Stored(patterns) = serde_json::from_slice(patterns).map_err(|_| invalid)?;
        if !patterns.iter().all(|(_, clause)| known(*clause)) {
            return Err(invalid);
        }
        if !patterns.is_sorted_by(|a, b| compare_patterns(a, b, clauses).is_lt()) {
            return Err(invalid);
        }
        let read = Self { prefixes, patterns };
        let groups = read.pattern_groups(clauses, |_| "").map_err(|_| invalid)?;
        Ok((read, groups))
    }
}

/// The order of rules with patterns: those of one source and tier together, in the order of their precedence.
fn compare_patterns(one: &(String, u32), other: &(String, u32), clauses: &Clauses) -> Ordering {
    let precedence = |rule: &(String, u32)| clauses.precedence(rule.1);
    let order = precedence(one).cmp(&precedence(other));
    order.then_with(|| one.cmp(other))
}

/// The beginning of a pattern for an error, on one line.
fn shown(pattern: &str) -> Box<str> {
    let shown = pattern.chars().take(100);
    let shown = shown.map(|c| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    });
    shown.collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::super::clauses::ClausesBuilder;
    use super::*;
    use crate::policy::effect::{Effect, EffectAction, Tier};
    use crate::policy::patterns::NameText;
    use crate::wire::name::Name;

    /// Two sources; the clause 2 is of source 1, with another tier, and the clause 3 with another effect.
    fn clauses() -> Clauses {
        let mut clauses = ClausesBuilder::of_sources(2);
        let first = Effect {
            tier: Tier::First,
            ..Effect::default()
        };
        let allow = Effect {
            action: EffectAction::Allow,
            ..Effect::default()
        };
        assert_eq!(clauses.add(1, &first), Ok(2));
        assert_eq!(clauses.add(1, &allow), Ok(3));
        clauses.table().clone()
    }

    fn named(source: u16) -> &'static str {
        ["one", "two"][usize::from(source)]
    }

    fn triggers() -> Triggers {
        let mut triggers = Triggers::default();
        for (of, network, clause) in [
            (AddressOf::Answer, "192.0.2.0/24", 1),
            (AddressOf::Answer, "192.0.0.0/16", 0),
            (AddressOf::Client, "2001:db8::/32", 2),
            (AddressOf::Answer, "192.0.2.0/24", 1),
            (AddressOf::Answer, "192.0.2.0/24", 0),
        ] {
            let prefix = Prefix::new(of, network.parse().expect("a network"));
            let added = triggers.add_prefix(prefix.expect("valid"), clause);
            added.expect("room");
        }
        for (pattern, clause) in [
            ("ads[0-9]", 3),
            ("ads[0-9]+x", 1),
            ("track[a-f]", 2),
            ("ads[0-9]", 1),
            ("banner", 0),
            ("banner", 0),
        ] {
            triggers.add_pattern(pattern, clause);
        }
        triggers.finish(&clauses(), named).expect("good patterns")
    }

    #[test]
    fn rules_are_read_as_they_were_written() {
        let written = triggers();
        assert_eq!(written.len(), 9, "two were added twice");
        let networks = written.prefixes().iter();
        let networks: Vec<_> = networks
            .map(|(prefix, _)| prefix.network().to_string())
            .collect();
        let sorted = [
            "2001:db8::/32",
            "192.0.0.0/16",
            "192.0.2.0/24",
            "192.0.2.0/24",
        ];
        assert_eq!(networks, sorted);
        let (prefixes, patterns) = written.sections();
        let read = Triggers::from_sections(&prefixes, &patterns, &clauses());
        let (read, groups) = read.expect("valid");
        assert_eq!(read, written);
        let rules: Vec<_> = groups.iter().map(|group| &*group.rules).collect();
        let rule = |pattern: &str, clause| (pattern.to_owned(), clause);
        let usual = [
            rule("ads[0-9]", 1),
            rule("ads[0-9]+x", 1),
            rule("ads[0-9]", 3),
        ];
        assert_eq!(
            rules,
            [&[rule("banner", 0)][..], &usual, &[rule("track[a-f]", 2)]]
        );
        let found = |text: &str| {
            let name = NameText::new(&Name::from_text(text).expect("a name"));
            groups
                .iter()
                .map(|group| group.set.find(&name))
                .collect::<Vec<_>>()
        };
        assert_eq!(found("ads7x.test"), [None, Some(0), None]);
        assert_eq!(found("banner.tracka.test"), [Some(0), None, Some(0)]);
    }

    #[test]
    fn a_pattern_that_is_not_accepted_is_named() {
        let mut triggers = Triggers::default();
        triggers.add_pattern("good", 0);
        triggers.add_pattern("(", 1);
        let error = triggers
            .finish(&clauses(), named)
            .expect_err("refused")
            .to_string();
        let named = named(1);
        let start = format!("the pattern `(` of {named}: ");
        assert!(error.starts_with(&start), "{error}");
    }

    #[test]
    fn patterns_of_all_sources_are_limited_by_the_work_of_a_lookup() {
        let error = |patterns: &dyn Fn(u32) -> Vec<String>| {
            let mut clauses = ClausesBuilder::of_sources(200);
            let names: Vec<_> = (0..200).map(|source| format!("list{source}")).collect();
            let mut triggers = Triggers::default();
            for source in 0..200_u32 {
                for pattern in patterns(source) {
                    triggers.add_pattern(&pattern, source);
                }
            }
            let named = |source: u16| &*names[usize::from(source)];
            assert_eq!(clauses.add(0, &Effect::default()), Ok(0));
            let finished = triggers.finish(clauses.table(), named);
            match finished {
                Ok(_) => "none".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        // Without a literal, and of few states; eight of them share an automaton.
        let short = |of: u32| {
            move |source: u32| -> Vec<String> {
                let patterns = (0..8 * u32::from(source < of))
                    .map(|which| format!("[0-9]{{{}}}q[0-9]", which + 2));
                patterns.collect()
            }
        };
        assert_eq!(error(&short(64)), "none");
        let message = error(&short(65));
        let start = "the patterns of list64 are too much work for each query: its patterns and those before it without a fixed text";
        assert!(message.starts_with(start), "{message}");
        let each = error(&|source| vec![format!("x{source}yz[0-9]")]);
        assert!(
            each.contains("list128") && each.contains("join some"),
            "{each}"
        );
    }

    #[test]
    fn sections_with_other_contents_are_refused() {
        let (bytes, patterns) = triggers().sections();
        let read = |prefixes: &[u8], patterns: &[u8], clauses: &Clauses| {
            Triggers::from_sections(prefixes, patterns, clauses)
                .map(|_| ())
                .expect_err("refused")
        };
        let prefixes = |bytes: &[u8]| {
            let error = read(bytes, &patterns, &clauses());
            assert_eq!(error, ImageError::Invalid("prefixes"));
        };
        prefixes(&bytes[1..]);
        for (at, byte) in [
            (0, 4),  // There are four clauses.
            (4, 2),  // Neither client nor answer.
            (23, 1), // Host bits.
            (5, 129),
            (6, 1), // Padding.
            (7, 1),
        ] {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            prefixes(&bytes);
        }
        let swapped = [&bytes[SIZE..2 * SIZE], &bytes[..SIZE], &bytes[2 * SIZE..]].concat();
        prefixes(&swapped);
        prefixes(&[&bytes[..SIZE], &bytes].concat());
        for patterns in [
            r#"[["a",4]]"#,
            r#"[["banner",0],["banner",0]]"#,
            r#"[["banner",1],["banner",0]]"#,
            r#"[["(",0]]"#,
            r#"[["banner"]]"#,
            "",
        ] {
            let error = read(&bytes, patterns.as_bytes(), &clauses());
            assert_eq!(error, ImageError::Invalid("patterns"), "{patterns}");
        }
    }
}
