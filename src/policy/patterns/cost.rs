//! Limits the work of one lookup that is caused by all patterns of an image together.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use super::automata::Automata;
use super::grams::Grams;
use super::limits::{
    ALIKE_LISTS_AT_LEAST, LIST_COMPARED, LIST_FILTERED_RUNS, LISTS_AT_LEAST, MAX_COMPARED,
    MAX_FILTERED_RUNS, MAX_MEMORY, MAX_SETS, MAX_UNFILTERED_AUTOMATA, MAX_UNFILTERED_MEMORY,
};
use super::text::MAX_WINDOWS;

/// The maximum work that some sets of patterns can cause in one search, whatever the name is.
#[derive(Clone, Debug, Default)]
pub struct SearchCost {
    sets: usize,
    /// The size of all of them, in bytes.
    memory: usize,
    /// The number of automata that are run for every name, and their size in bytes.
    unfiltered: usize,
    unfiltered_memory: usize,
    /// For each window of a literal, the number of automata that it leads to.
    runs: HashMap<u32, usize>,
    /// For each window, the number of patterns that are nothing but a literal with this window.
    compared: HashMap<u32, usize>,
}

/// Why some sets of patterns are too much work for a lookup, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMuchWork {
    /// Too many sets.
    #[error("more than {MAX_SETS} lists and tiers have patterns; join some of these lists")]
    Sets,
    /// The automata of patterns without a literal are too many or too large. They are run for every name.
    #[error(
        "its patterns and those before it without a fixed text of three characters, which are matched against every \
         name, need more than {MAX_UNFILTERED_AUTOMATA} automata or {} KiB; add a text that the names must contain",
        MAX_UNFILTERED_MEMORY >> 10
    )]
    Unfiltered,
    /// Too many automata may be run for a name that contains the literals of many patterns.
    #[error(
        "its patterns and those before it may need more than {MAX_FILTERED_RUNS} automata for one name, as too many of \
         them look for the same texts; combine or remove some of them"
    )]
    Filtered,
    /// Too many literals may have to be compared with one name.
    #[error(
        "its patterns and those before it may need more than {MAX_COMPARED} comparisons for one name, as too many of \
         them are texts with the same parts; combine or remove some of them"
    )]
    Compared,
    /// The sets take too much memory.
    #[error(
        "its patterns and those before it need more than {} MiB of memory; leave out a list",
        MAX_MEMORY >> 20
    )]
    Memory,
}

impl SearchCost {
    /// Adds the work of a set with these literals and automata, which takes `memory` bytes.
    pub(super) fn add(&mut self, grams: &Grams, unfiltered: &Automata, memory: usize) {
        self.sets += 1;
        self.memory += memory;
        self.unfiltered += unfiltered.len();
        self.unfiltered_memory += unfiltered.memory();
        // An automaton is run once, though several of its literals may have one window.
        let runs: HashSet<_> = grams.runs().collect();
        for (window, _) in runs {
            *self.runs.entry(window).or_default() += 1;
        }
        for (window, _) in grams.compared() {
            *self.compared.entry(window).or_default() += 1;
        }
    }

    /// Checks the work of all patterns of an image.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub fn check(&self) -> Result<(), TooMuchWork> {
        self.check_share(1, 1)
    }

    /// Checks the work of the patterns of one list. A list may use a part of what an image may, so that a mistake in one list
    /// leaves room for the others.
    ///
    /// # Errors
    /// The limit of an image of which the list exceeds its share.
    pub fn check_list(&self) -> Result<(), TooMuchWork> {
        self.check_share(LISTS_AT_LEAST, ALIKE_LISTS_AT_LEAST)
    }

    /// Checks the work against these parts of the limits; the second is for patterns with equal windows.
    fn check_share(&self, of: usize, of_alike: usize) -> Result<(), TooMuchWork> {
        let exceeds = |work: usize, limit: usize| work > limit / of;
        let is_alike = |work: usize, limit: usize| work > limit / of_alike;
        match self {
            _ if exceeds(self.sets, MAX_SETS) => Err(TooMuchWork::Sets),
            _ if exceeds(self.unfiltered, MAX_UNFILTERED_AUTOMATA)
                || exceeds(self.unfiltered_memory, MAX_UNFILTERED_MEMORY) =>
            {
                Err(TooMuchWork::Unfiltered)
            }
            _ if is_alike(self.filtered(), MAX_FILTERED_RUNS) => Err(TooMuchWork::Filtered),
            _ if is_alike(worst(&self.compared), MAX_COMPARED) => Err(TooMuchWork::Compared),
            _ if exceeds(self.memory, MAX_MEMORY) => Err(TooMuchWork::Memory),
            _ => Ok(()),
        }
    }

    /// The automata of a set that are to be left out so that it fits beside this work of its list, by their numbers. They
    /// have the fullest windows, and `lowest` is higher for them than for the others there.
    pub(super) fn automata_beyond_list(
        &self,
        grams: &Grams,
        lowest: impl Fn(u32) -> u32,
        round: usize,
    ) -> HashSet<u32> {
        let own = grams
            .runs()
            .map(|(window, group)| (window, (lowest(group), group)));
        let beyond = beyond(&self.runs, own, (LIST_FILTERED_RUNS, round));
        beyond.into_iter().map(|(_, group)| group).collect()
    }

    /// The patterns of a set that are to be left out so that it fits beside this work of its list: of those that are nothing
    /// but a literal, the last ones at the fullest windows.
    pub(super) fn literals_beyond_list(&self, grams: &Grams, round: usize) -> HashSet<u32> {
        beyond(&self.compared, grams.compared(), (LIST_COMPARED, round))
    }

    /// The number of sets.
    #[cfg(test)]
    pub(super) fn sets(&self) -> usize {
        self.sets
    }

    /// The number of automata that may be run for a name because of its literals.
    pub(super) fn filtered(&self) -> usize {
        worst(&self.runs)
    }
}

/// The sum of the [`MAX_WINDOWS`] highest counts. A name without escapes has no more windows.
fn worst(by_window: &HashMap<u32, usize>) -> usize {
    worst_of(by_window.values().copied().collect())
}

/// What has no room if each window has the same, so that the [`MAX_WINDOWS`] fullest ones together are within the limit. What
/// is lower than the others stays. With each round, a sixteenth less of the room is used.
fn beyond<T: Copy + Ord + Hash>(
    before: &HashMap<u32, usize>,
    own: impl Iterator<Item = (u32, T)>,
    (limit, round): (usize, usize),
) -> HashSet<T> {
    let taken = worst(before);
    let room = limit.saturating_sub(taken) / 16 * 16_usize.saturating_sub(round);
    let limit = taken + room;
    let mut by_window: HashMap<u32, BTreeSet<T>> = HashMap::new();
    for (window, target) in own {
        by_window.entry(window).or_default().insert(target);
    }
    let others = before
        .iter()
        .filter(|(window, _)| !by_window.contains_key(window));
    let others = others.map(|(_, count)| (*count, *count));
    let before = |window: &u32| before.get(window).copied().unwrap_or_default();
    let own = by_window.iter().map(|(window, targets)| {
        let before = before(window);
        (before, before + targets.len())
    });
    let counts: Vec<_> = own.chain(others).collect();
    let fits = |each: &usize| {
        let within = counts
            .iter()
            .map(|(before, all)| *before.max(all.min(each)));
        worst_of(within.collect()) <= limit
    };
    let most = counts.iter().map(|(_, all)| *all).max().unwrap_or_default();
    let each = (0..most).rev().find(fits).unwrap_or_default();
    let beyond = by_window.iter().flat_map(|(window, targets)| {
        let room = each.saturating_sub(before(window));
        targets.iter().skip(room).copied()
    });
    beyond.collect()
}

fn worst_of(mut counts: Vec<usize>) -> usize {
    if counts.len() > MAX_WINDOWS {
        counts.select_nth_unstable_by(MAX_WINDOWS, |one, other| other.cmp(one));
    }
    counts.iter().take(MAX_WINDOWS).sum()
}

#[cfg(test)]
mod tests {
    use super::super::grams::Target;
    use super::*;

    #[test]
    fn literals_with_the_same_windows_are_limited_in_all_sets_together() {
        let texts: Vec<_> = (0..300).map(|number| format!("q{number:03}")).collect();
        let literals = texts.iter().zip(0..);
        let literals: Vec<_> = literals
            .map(|(text, number)| (text.as_bytes(), Target::Pattern(number)))
            .collect();
        let grams = Grams::new(&literals).expect("room");
        let none = Automata::new(&[]);
        let mut cost = SearchCost::default();
        for _ in 0..MAX_COMPARED / MAX_WINDOWS {
            cost.add(&grams, &none, 0);
        }
        assert_eq!(cost.check(), Ok(()));
        cost.add(&grams, &none, 0);
        assert_eq!(cost.check(), Err(TooMuchWork::Compared));
    }
}
