//! Sets of patterns (regular expressions) that names are matched against.

mod automata;
mod automaton;
mod build;
mod cost;
mod error;
mod grams;
mod limits;
mod literals;
mod pattern;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashSet;

use self::automata::Automata;
use self::build::{MAX_AUTOMATA, ParsedPatterns, Parts, build};
pub use self::cost::{SearchCost, TooMuchWork};
pub use self::error::{PatternError, Problem};
use self::grams::{Grams, Target};
pub use self::limits::{
    LIST_COMPARED, LIST_FILTERED_RUNS, LIST_UNFILTERED_AUTOMATA, LIST_UNFILTERED_MEMORY,
    MAX_LENGTH, MAX_PATTERNS, MAX_UNFILTERED,
};
use self::limits::{MAX_ROUNDS, SAMPLE};
pub use self::text::NameText;
use crate::wire::name::Name;

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
    groups: Automata,
    unfiltered: Automata,
    len: usize,
}

impl PatternSet {
    /// Compiles patterns.
    ///
    /// # Errors
    /// The first pattern that is not accepted, and why.
    pub fn new(patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, PatternError> {
        let (set, refused) = Self::lenient(patterns);
        refused.into_iter().next().map_or(Ok(set), Err)
    }

    /// Compiles patterns without those that are not accepted. Returns these with the reasons, in the order in which the
    /// checks find them. Every pattern keeps its index. The patterns that are left are accepted by [`new`](Self::new).
    ///
    /// Patterns that match all names take the places of others before they are found. The others get these places in a few
    /// rounds; those that have none then are refused, so that the time is bounded.
    pub fn lenient(
        patterns: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> (Self, Vec<PatternError>) {
        let patterns: Vec<_> = patterns.into_iter().collect();
        let (parsed, mut refused) = ParsedPatterns::new(&patterns);
        let mut excluded = HashSet::new();
        let mut matching_all = Vec::new();
        let mut round = 0;
        loop {
            round += 1;
            let (parts, without_place) = build(&parsed, &excluded);
            let Parts {
                grams,
                groups,
                unfiltered,
            } = parts;
            let set = Self {
                grams,
                groups,
                unfiltered,
                len: patterns.len(),
            };
            let found = set.matching_sample();
            let is_last = found.is_empty();
            if is_last || round >= MAX_ROUNDS {
                excluded.extend(without_place.iter().map(|error| error.index));
                refused.extend(without_place);
            }
            if is_last {
                refused.extend(matching_all);
                return (set, refused);
            }
            matching_all.extend(found.iter().map(|index| PatternError {
                index: *index,
                problem: Problem::MatchesEverything,
            }));
            excluded.extend(found);
        }
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
        self.grams.memory() + self.groups.memory() + self.unfiltered.memory()
    }

    /// Adds the work that the set can cause in a search.
    pub fn add_cost(&self, cost: &mut SearchCost) {
        cost.add(&self.grams, &self.unfiltered, self.memory());
    }

    /// The patterns that are matched against every name, in their order.
    pub fn unfiltered(&self) -> Vec<usize> {
        let automata = 0..self.unfiltered.len();
        let patterns = automata.flat_map(|which| self.unfiltered.patterns(which));
        let mut patterns: Vec<_> = patterns.map(|pattern| pattern as usize).collect();
        patterns.sort_unstable();
        patterns
    }

    /// The patterns that are to be left out because too many look for the same texts, if the patterns of the same list in
    /// other sets cost `before`. The first ones that look for a text stay. The others may then look for other texts, and be too
    /// many again; so with each `round`, counted from 0, a sixteenth less of the limit is used.
    pub fn alike_beyond_list(&self, before: &SearchCost, round: usize) -> HashSet<usize> {
        let lowest = |group: u32| self.groups.lowest(group as usize);
        let automata = before.automata_beyond_list(&self.grams, lowest, round);
        let in_automata = automata
            .iter()
            .flat_map(|group| self.groups.patterns(*group as usize));
        let literals = before.literals_beyond_list(&self.grams, round);
        let patterns = in_automata.chain(literals);
        patterns.map(|pattern| pattern as usize).collect()
    }

    /// Calls `each` with the index of every pattern that matches, in any order and possibly several times. `each`
    /// returns a limit: patterns with this index or a higher one need not be reported any more. Returns the work that
    /// was done.
    #[inline]
    fn search(&self, name: &NameText, mut each: impl FnMut(u32) -> u32) -> Work {
        let mut work = Work::default();
        for which in 0..self.unfiltered.len() {
            work.steps += self.unfiltered.run(which, name.as_bytes(), &mut each);
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
                            work.steps += self.groups.run(group as usize, text, &mut each);
                        }
                    }
                });
            next = self.grams.next(name.edged(), at + 1);
        }
    }

    /// The patterns that match all names of the sample.
    fn matching_sample(&self) -> Vec<usize> {
        let mut names = SAMPLE.iter().map(|name| {
            let name = Name::from_text(name).expect("the sample consists of names");
            NameText::new(&name)
        });
        let mut matching = names.next().map(|name| self.find_all(&name));
        for name in names {
            let found = self.find_all(&name);
            if let Some(matching) = &mut matching {
                matching.retain(|pattern| found.binary_search(pattern).is_ok());
            }
        }
        matching.unwrap_or_default()
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
