//! Compiles the parts of a set of patterns, without those patterns that are not accepted.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use regex_syntax::hir::Hir;

use super::automata::{Automata, Automaton};
use super::automaton::TooLarge;
use super::error::{PatternError, Problem};
use super::grams::{Grams, MAX_ENTRIES, Target, entry_count};
use super::limits::{MAX_PATTERNS, MAX_UNFILTERED};
use super::literals::{Literals, Role, Uses};
use super::pattern;

/// How many patterns may share an automaton. The time to build an automaton grows with the square of this number.
const GROUP: usize = 8;

/// The maximum size of all automata, in bytes.
const MAX_MEMORY: usize = 64 << 20;

/// The maximum number of automata that are run if a literal is found.
pub(super) const MAX_AUTOMATA: usize = 1 << 14;

/// The maximum number of patterns whose automaton is too large. Each costs much time; after them, no further automaton is
/// made.
const MAX_FAILURES: usize = 64;

/// The parts of a set.
pub(super) struct Parts {
    pub(super) grams: Grams,
    pub(super) groups: Automata,
    pub(super) unfiltered: Automata,
}

/// A parsed pattern with its index.
type Indexed = (u32, Hir);

/// Patterns that were parsed, with their indices and the sets of literals that each may use.
pub(super) struct ParsedPatterns(Vec<(usize, Vec<Literals>, Hir)>);

impl ParsedPatterns {
    /// Parses patterns. Returns the patterns that are not accepted.
    pub(super) fn new(patterns: &[impl AsRef<str>]) -> (Self, Vec<PatternError>) {
        let (mut parsed, mut refused) = (Vec::new(), Vec::new());
        for (index, pattern) in patterns.iter().enumerate() {
            let hir = match index < MAX_PATTERNS {
                true => pattern::parse(pattern.as_ref()),
                false => Err(Problem::TooMany),
            };
            match hir {
                Ok(hir) => parsed.push((index, Literals::of(&hir), hir)),
                Err(problem) => refused.push(PatternError { index, problem }),
            }
        }
        (Self(parsed), refused)
    }
}

/// Compiles patterns without those that are `excluded`. Returns the patterns that are not accepted.
pub(super) fn build(
    patterns: &ParsedPatterns,
    excluded: &HashSet<usize>,
) -> (Parts, Vec<PatternError>) {
    let mut refused = Vec::new();
    let sorted = Sorted::new(patterns, excluded, &mut refused);
    let mut compiler = Compiler::default();
    compiler.add(&sorted.unfiltered, &mut refused);
    let unfiltered = Automata::new(&std::mem::take(&mut compiler.automata));
    compiler.members.clear();
    let mut literals = sorted.whole;
    // Only patterns with the same literals share an automaton: a name that contains a literal of one contains that
    // of the others, too.
    for alike in sorted.filtered.chunk_by(|one, other| one.0 == other.0) {
        let texts = &alike[0].0;
        let patterns: Vec<_> = alike.iter().map(|(_, pattern)| pattern.clone()).collect();
        for group in compiler.add(&patterns, &mut refused) {
            let target = Target::Group(group as u32);
            literals.extend(texts.iter().map(|text| (text.clone(), target)));
        }
    }
    literals.sort_unstable();
    literals.dedup();
    let parts = loop {
        let borrowed: Vec<_> = literals
            .iter()
            .map(|(text, target)| (&**text, *target))
            .collect();
        match Grams::new(&borrowed) {
            Ok(grams) => {
                break Parts {
                    grams,
                    groups: Automata::new(&compiler.automata),
                    unfiltered,
                };
            }
            Err(rejected) => {
                let rejected: HashMap<_, _> = rejected
                    .into_iter()
                    .map(|which| (literals[which].1, literals[which].0.clone()))
                    .collect();
                compiler.remove(&rejected, &mut literals, &mut refused);
            }
        }
    };
    (parts, refused)
}

/// A literal, and what it leads to.
type LiteralTarget = (Box<[u8]>, Target);

/// The patterns by how they are found.
#[derive(Default)]
struct Sorted {
    /// The literals of patterns that are nothing but literals.
    whole: Vec<LiteralTarget>,
    /// Patterns with literals, sorted by these.
    filtered: Vec<(Vec<Box<[u8]>>, Indexed)>,
    /// Patterns without literals.
    unfiltered: Vec<Indexed>,
}

impl Sorted {
    fn new(
        ParsedPatterns(parsed): &ParsedPatterns,
        excluded: &HashSet<usize>,
        refused: &mut Vec<PatternError>,
    ) -> Self {
        let parsed = || {
            parsed
                .iter()
                .filter(|(index, ..)| !excluded.contains(index))
        };
        let uses = Uses::new(parsed().flat_map(|(_, candidates, _)| candidates));
        let (mut sorted, mut entries) = (Self::default(), 0);
        for &(index, ref candidates, ref hir) in parsed() {
            let own = uses.choose(candidates);
            let texts = own.iter().flat_map(|own| &own.texts);
            let needed: usize = texts.map(|text| entry_count(text)).sum();
            if entries + needed > MAX_ENTRIES {
                let problem = Problem::SetTooLarge;
                refused.push(PatternError { index, problem });
                continue;
            }
            entries += needed;
            if let Err(problem) = sorted.add(index as u32, own, hir) {
                refused.push(PatternError { index, problem });
            }
        }
        sorted.filtered.sort_by(|one, other| one.0.cmp(&other.0));
        sorted
    }

    fn add(&mut self, index: u32, literals: Option<&Literals>, hir: &Hir) -> Result<(), Problem> {
        match literals {
            Some(Literals {
                texts,
                role: Role::Whole,
            }) => {
                let target = Target::Pattern(index);
                let literals = texts.iter().map(|text| (text.clone(), target));
                self.whole.extend(literals);
            }
            Some(Literals { texts, .. }) => {
                self.filtered.push((texts.clone(), (index, hir.clone())));
            }
            None if self.unfiltered.len() == MAX_UNFILTERED => return Err(Problem::Unfiltered),
            None => self.unfiltered.push((index, hir.clone())),
        }
        Ok(())
    }
}

/// Compiles patterns to automata.
#[derive(Default)]
struct Compiler {
    automata: Vec<Automaton>,
    /// For each automaton, the indices of its patterns.
    members: Vec<Vec<u32>>,
    /// The memory that all automata take, in bytes.
    memory: usize,
    /// The number of patterns whose automaton is too large.
    failures: usize,
}

impl Compiler {
    /// Compiles patterns, several in one automaton if it does not get too large. Returns the indices of the automata.
    fn add(&mut self, patterns: &[Indexed], refused: &mut Vec<PatternError>) -> Range<usize> {
        let from = self.automata.len();
        let mut todo: Vec<_> = patterns.chunks(GROUP).rev().collect();
        while let Some(group) = todo.pop() {
            let mut refuse = |problem: Problem| {
                refused.extend(group.iter().map(|(index, _)| PatternError {
                    index: *index as usize,
                    problem: problem.clone(),
                }));
            };
            if self.automata.len() == MAX_AUTOMATA || self.failures > MAX_FAILURES {
                refuse(Problem::SetTooLarge);
                continue;
            }
            match Automaton::new(group) {
                Ok(automaton) if self.memory + automaton.memory() > MAX_MEMORY => {
                    refuse(Problem::SetTooLarge);
                    self.failures += 1;
                }
                Ok(automaton) => {
                    self.memory += automaton.memory();
                    self.automata.push(automaton);
                    self.members
                        .push(group.iter().map(|(index, _)| *index).collect());
                }
                Err(TooLarge) if group.len() == 1 => {
                    refuse(Problem::TooLarge);
                    self.failures += 1;
                }
                Err(TooLarge) => {
                    let (first, second) = group.split_at(group.len() / 2);
                    todo.extend([second, first]);
                }
            }
        }
        from..self.automata.len()
    }

    /// Removes the targets of literals for which there is no room.
    fn remove(
        &mut self,
        rejected: &HashMap<Target, Box<[u8]>>,
        literals: &mut Vec<LiteralTarget>,
        refused: &mut Vec<PatternError>,
    ) {
        literals.retain(|(_, target)| !rejected.contains_key(target));
        let mut indices = Vec::new();
        for (target, text) in rejected {
            let members = match target {
                Target::Pattern(index) => vec![*index],
                Target::Group(group) => self.members[*group as usize].clone(),
            };
            indices.extend(members.into_iter().map(|index| (index, text)));
        }
        indices.sort_unstable();
        refused.extend(indices.into_iter().map(|(index, text)| {
            let text = String::from_utf8_lossy(text);
            PatternError {
                index: index as usize,
                problem: Problem::TooManyAlike(text.replace(['\0', '\x01'], "")),
            }
        }));
        let is_kept = |group: usize| !rejected.contains_key(&Target::Group(group as u32));
        let mut numbers = Vec::with_capacity(self.automata.len());
        let mut kept = 0;
        for group in 0..self.automata.len() {
            numbers.push(kept);
            kept += u32::from(is_kept(group));
        }
        let retain = |group: &mut usize| {
            *group += 1;
            is_kept(*group - 1)
        };
        let mut group = 0;
        self.automata.retain(|_| retain(&mut group));
        let mut group = 0;
        self.members.retain(|_| retain(&mut group));
        for (_, target) in literals {
            if let Target::Group(group) = target {
                *group = numbers[*group as usize];
            }
        }
    }
}
