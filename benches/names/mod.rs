//! The names of the benchmarks: generated with the shape of real lists, or read from a file.
//! Generated labels are strings of syllables and resemble no real names.

use std::collections::HashSet;
use std::fs;

/// The environment variable that can name a file with one name per line. The names of that file are used in place of
/// generated ones. If more names are needed than the file has, the labels of its names are recombined.
const FILE: &str = "TAPIS_NAMES";

const ONSETS: &[u8] = b"bcdfghjklmnprstvwz";
const VOWELS: &[u8] = b"aaeeiioouy";
const CODAS: &[&str] = &["", "", "", "n", "r", "s", "l", "x", "ng", "st"];

/// `count` different names in random order: those of the file that `TAPIS_NAMES` names, else
/// generated ones, the same ones for each `seed`.
pub(crate) fn some(seed: u64, count: usize) -> Vec<String> {
    let Some(mut names) = lines_of(FILE) else {
        return made(seed, count);
    };
    let mut random = Random(seed);
    if names.len() < count {
        return recombined(&names, &mut random, count);
    }
    shuffle(&mut names, &mut random);
    names.truncate(count);
    names
}

/// The lines of the file that an environment variable names; `None` if it is not set.
pub(crate) fn lines_of(variable: &str) -> Option<Vec<String>> {
    let path = std::env::var_os(variable)?;
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{variable}={path:?}: {error}"));
    Some(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// Puts names into a random order.
pub(crate) fn shuffle(names: &mut [String], random: &mut Random) {
    for at in (1..names.len()).rev() {
        names.swap(at, random.below(at + 1));
    }
}

/// Names that combine the top label of one name with the registered label of another, and have the
/// first label of either.
fn recombined(names: &[String], random: &mut Random, count: usize) -> Vec<String> {
    let mut seen = HashSet::with_capacity(count);
    while seen.len() < count {
        let [one, other] = [(); 2].map(|()| &names[random.below(names.len())]);
        let mut labels: Vec<&str> = one.split('.').collect();
        let others: Vec<&str> = other.split('.').collect();
        let (Some(at), Some(from)) = (labels.len().checked_sub(2), others.len().checked_sub(2))
        else {
            continue;
        };
        labels[at] = others[from];
        if at > 0 && from > 0 && random.one_in(2) {
            labels[0] = others[0];
        }
        let name = labels.join(".");
        if name.len() < 250 {
            seen.insert(name);
        }
    }
    seen.into_iter().collect()
}

/// `count` different names with about the statistics of large blocklists: 2.8 labels, 20.5
/// characters, a third of all under `com`, one in nine with `www`, siblings under one parent.
pub(crate) fn made(seed: u64, count: usize) -> Vec<String> {
    let mut random = Random(seed);
    let mut seen = HashSet::with_capacity(count);
    let mut names = Vec::with_capacity(count);
    let mut parent = String::new();
    while names.len() < count {
        if parent.is_empty() || !random.one_in(4) {
            parent = format!("{}.{}", random.label(3), random.top());
        }
        let name = match random.below(100) {
            0..40 => parent.clone(),
            40..51 => format!("www.{parent}"),
            51..85 => format!("{}.{parent}", random.label(2)),
            85..97 => format!("{}.{}.{parent}", random.label(2), random.label(2)),
            _ => format!("{}.www.{}.{parent}", random.label(1), random.label(2)),
        };
        if seen.insert(name.clone()) {
            names.push(name);
        }
    }
    names
}

/// SplitMix64: small, seeded, good enough to shuffle with.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(mixed ^ (mixed >> 31)) * bound as u128) >> 64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn top(&mut self) -> String {
        if self.one_in(3) {
            return "com".to_owned();
        }
        // The product of two choices is skewed: few zones hold most names.
        let rank = self.below(20) * self.below(20);
        let letters = [rank / 18, rank % 18].map(|at| char::from(ONSETS[at % ONSETS.len()]));
        letters.iter().collect()
    }

    /// A label of about `syllables` syllables, sometimes with digits or a hyphen.
    fn label(&mut self, syllables: usize) -> String {
        let mut label = String::new();
        for _ in 0..syllables + self.below(2) {
            label.push(self.letter(ONSETS));
            label.push(self.letter(VOWELS));
            label.push_str(CODAS[self.below(CODAS.len())]);
        }
        match self.below(10) {
            0 => label.push_str(&self.below(1000).to_string()),
            1 => label.insert(label.len() / 2, '-'),
            _ => {}
        }
        label
    }

    fn letter(&mut self, letters: &[u8]) -> char {
        char::from(letters[self.below(letters.len())])
    }
}
