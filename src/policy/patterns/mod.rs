//! Sets of patterns (regular expressions) that names are matched against.

mod automaton;
mod cost;
mod error;
mod grams;
mod limits;
mod literals;
mod pattern;
#[cfg(test)]
mod tests;
mod text;

use std::ops::Range;

use regex_syntax::hir::Hir;

use self::automaton::Automaton;
pub use self::cost::{SearchCost, TooMuchWork};
pub use self::error::{PatternError, Problem};
use self::grams::{Grams, MAX_ENTRIES, Target, entry_count};
use self::limits::SAMPLE;
pub use self::limits::{MAX_LENGTH, MAX_PATTERNS, MAX_UNFILTERED};
use self::literals::{Literals, Role, Uses};
pub use self::text::NameText;
use crate::wire::name::Name;

/// How many patterns may share an automaton. The time to build an automaton grows with the square of this number.
const GROUP: usize = 8;

/// The maximum size of all automata, in bytes.
const MAX_MEMORY: usize = 64 << 20;

/// The maximum number of automata that are run if a literal is found.
const MAX_AUTOMATA: usize = 1 << 14;

/// A set of patterns. Patterns are regular expressions in the syntax of the `regex` crate. They are searched for anywhere
/// in the text of a name, without regard to letter case; `^` and `$` match at the ends of the name.
///
/// A search first looks for *literals*: texts of which every name that matches the pattern contains one. A filter over
/// windows of four bytes rejects most names. A pattern that is nothing but its literals matches if one of them is there.
/// The others are compiled into automata, as tables. The automaton of each literal that is found is run, as are those of
/// the few patterns without literals.
///
/// A search never allocates, and its time has a bound whatever the name is: for each window, at most 128 literals are
/// compared and 16 automata run. Each automaton is run at most once, with one step per byte. A text has at most 1,003 bytes;
/// without escapes 253.
#[derive(Debug)]
pub struct PatternSet {
    grams: Grams,
    groups: Vec<Automaton>,
    unfiltered: Vec<Automaton>,
    len: usize,
}

/// A parsed pattern with its index.
type Indexed = (u32, Hir);

impl PatternSet {
    /// Compiles patterns.
    ///
    /// # Errors
    /// The first pattern that is not accepted, and why.
    pub fn new(patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, PatternError> {
        let mut parsed = Vec::new();
        for (index, pattern) in patterns.into_iter().enumerate() {
            let refused = |problem| PatternError { index, problem };
            if index == MAX_PATTERNS {
                return Err(refused(Problem::TooMany));
            }
            let hir = pattern::parse(pattern.as_ref()).map_err(refused)?;
            parsed.push((Literals::of(&hir), hir));
        }
        let len = parsed.len();
        let uses = Uses::new(parsed.iter().flat_map(|(candidates, _)| candidates));
        let mut literals = Vec::new();
        let mut filtered = Vec::new();
        let mut unfiltered = Vec::new();
        let mut entries = 0;
        for (index, (candidates, hir)) in parsed.into_iter().enumerate() {
            let refused = |problem| PatternError { index, problem };
            let own = uses.choose(candidates);
            let texts = own.iter().flat_map(|own| &own.texts);
            entries += texts.map(|text| entry_count(text)).sum::<usize>();
            if entries > MAX_ENTRIES {
                return Err(refused(Problem::SetTooLarge));
            }
            let index = index as u32;
            match own {
                Some(Literals {
                    texts,
                    role: Role::Whole,
                }) => {
                    let target = Target::Pattern(index);
                    literals.extend(texts.into_iter().map(|text| (text, target)));
                }
                Some(Literals { texts, .. }) => filtered.push((texts, (index, hir))),
                None if unfiltered.len() == MAX_UNFILTERED => {
                    return Err(refused(Problem::Unfiltered));
                }
                None => unfiltered.push((index, hir)),
            }
        }
        let mut compiler = Compiler::default();
        compiler.add(&unfiltered)?;
        let unfiltered = std::mem::take(&mut compiler.automata);
        // Only patterns with the same literals share an automaton: a name that contains a literal of one contains that
        // of the others, too.
        filtered.sort_by(|one, other| one.0.cmp(&other.0));
        for alike in filtered.chunk_by(|one, other| one.0 == other.0) {
            let texts = &alike[0].0;
            let patterns: Vec<_> = alike.iter().map(|(_, pattern)| pattern.clone()).collect();
            for group in compiler.add(&patterns)? {
                let target = Target::Group(group as u32);
                literals.extend(texts.iter().map(|text| (text.clone(), target)));
            }
        }
        literals.sort_unstable();
        literals.dedup();
        let borrowed = literals.iter().map(|(text, target)| (&**text, *target));
        let grams = Grams::new(&borrowed.collect::<Vec<_>>());
        let groups = compiler.automata;
        let set = Self {
            grams: grams.map_err(|which| too_alike(&literals[which], &groups))?,
            groups,
            unfiltered,
            len,
        };
        set.check_sample()?;
        Ok(set)
    }

    /// The index of the first pattern that matches. Never allocates.
    #[inline]
    pub fn find(&self, name: &NameText) -> Option<usize> {
        let mut first = u32::MAX;
        self.search(name, |pattern| {
            first = first.min(pattern);
            first
        });
        (first != u32::MAX).then_some(first as usize)
    }

    /// The indices of all patterns that match, ascending.
    pub fn find_all(&self, name: &NameText) -> Vec<usize> {
        let mut all = Vec::new();
        self.search(name, |pattern| {
            all.push(pattern as usize);
            u32::MAX
        });
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The number of patterns.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory that the set takes, in bytes.
    pub fn memory(&self) -> usize {
        let automata = self.groups.iter().chain(&self.unfiltered);
        self.grams.memory() + automata.map(Automaton::memory).sum::<usize>()
    }

    /// Adds the work that the set can cause in a search.
    pub fn add_cost(&self, cost: &mut SearchCost) {
        cost.add(&self.grams, &self.unfiltered);
    }

    /// Calls `each` with the index of every pattern that matches, in any order and possibly several times. `each`
    /// returns a limit: patterns with this index or a higher one need not be reported any more. Returns the work that
    /// was done.
    #[inline]
    fn search(&self, name: &NameText, mut each: impl FnMut(u32) -> u32) -> Work {
        let mut work = Work::default();
        for automaton in &self.unfiltered {
            work.steps += automaton.run(name.as_bytes(), &mut each);
        }
        if let Some(at) = self.grams.next(name.edged(), 0) {
            self.search_from(at, name, each, &mut work);
        }
        work
    }

    /// Searches from the first window that passes the filter, `at`. Out of line, as most names have none.
    #[inline(never)]
    fn search_from(
        &self,
        at: usize,
        name: &NameText,
        mut each: impl FnMut(u32) -> u32,
        work: &mut Work,
    ) {
        let text = name.as_bytes();
        // The automata that were run. None is run twice, so a name with a repeated literal does not cost more.
        let mut done = [0_u64; MAX_AUTOMATA.div_ceil(64)];
        let mut next = Some(at);
        while let Some(at) = next {
            work.compared += self
                .grams
                .literals_at(name.edged(), at, |target| match target {
                    Target::Pattern(pattern) => {
                        each(pattern);
                    }
                    Target::Group(group) => {
                        let (word, bit) = (&mut done[group as usize / 64], 1 << (group % 64));
                        if *word & bit == 0 {
                            *word |= bit;
                            work.steps += self.groups[group as usize].run(text, &mut each);
                        }
                    }
                });
            next = self.grams.next(name.edged(), at + 1);
        }
    }

    /// Returns an error for a pattern that matches all names of the sample.
    fn check_sample(&self) -> Result<(), PatternError> {
        let mut matches: Option<Vec<usize>> = None;
        for name in SAMPLE {
            let name = Name::from_text(name).expect("the sample consists of names");
            let found = self.find_all(&NameText::new(&name));
            matches = Some(match matches {
                Some(mut before) => {
                    before.retain(|pattern| found.binary_search(pattern).is_ok());
                    before
                }
                None => found,
            });
        }
        match matches.unwrap_or_default().first() {
            Some(&index) => Err(PatternError {
                index,
                problem: Problem::MatchesEverything,
            }),
            None => Ok(()),
        }
    }
}

/// The work that a search has done.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    /// Literals that were compared.
    compared: usize,
    /// Steps of automata.
    steps: usize,
}

/// Compiles patterns to automata.
#[derive(Default)]
struct Compiler {
    automata: Vec<Automaton>,
    /// The memory that all automata take, in bytes.
    memory: usize,
}

impl Compiler {
    /// Compiles patterns, several in one automaton if it does not get too large. Returns the indices of the automata.
    fn add(&mut self, patterns: &[Indexed]) -> Result<Range<usize>, PatternError> {
        let from = self.automata.len();
        let mut todo: Vec<_> = patterns.chunks(GROUP).rev().collect();
        while let Some(group) = todo.pop() {
            let refused = |problem| PatternError {
                index: group[0].0 as usize,
                problem,
            };
            match Automaton::new(group) {
                Ok(automaton) => {
                    self.memory += automaton.memory();
                    self.automata.push(automaton);
                }
                Err(automaton::TooLarge) if group.len() == 1 => {
                    return Err(refused(Problem::TooLarge));
                }
                Err(automaton::TooLarge) => {
                    let (first, second) = group.split_at(group.len() / 2);
                    todo.extend([second, first]);
                }
            }
            if self.memory > MAX_MEMORY || self.automata.len() > MAX_AUTOMATA {
                return Err(refused(Problem::SetTooLarge));
            }
        }
        Ok(from..self.automata.len())
    }
}

/// The error for a literal for which there is no room.
fn too_alike((text, target): &(Box<[u8]>, Target), groups: &[Automaton]) -> PatternError {
    let index = match target {
        Target::Pattern(index) => *index,
        Target::Group(group) => groups[*group as usize].lowest(),
    };
    let text = String::from_utf8_lossy(text);
    PatternError {
        index: index as usize,
        problem: Problem::TooManyAlike(text.replace(['\0', '\x01'], "")),
    }
}
