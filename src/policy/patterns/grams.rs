//! Finds the literals that a text contains: a filter and a table of windows of four bytes.

use super::text::{END, START, TEXT};

/// The maximum total cost of the entries of a slot, which bounds the work for a window.
const MAX_COST: u8 = 128;

/// The cost of an entry that leads to a run of an automaton. Other entries cost 1.
const RUN_COST: u8 = 8;

/// The maximum number of entries.
pub(super) const MAX_ENTRIES: usize = 1 << 20;

/// Bits of the filter per slot, as a power of two.
const FILTER_BITS: u32 = 3;

/// The logarithm of the smallest number of slots.
const MIN_SLOT_BITS: u32 = 10;

/// The size of a window.
pub(super) const WINDOW: usize = 4;

/// The literals of all patterns, each found by one window of it.
#[derive(Debug)]
pub(super) struct Grams {
    /// A Bloom filter of the windows that have an entry. The number of words is a power of two.
    filter: Box<[u64]>,
    /// For each slot, where its entries begin; and the number of entries.
    slots: Box<[u32]>,
    entries: Box<[Entry]>,
    /// The literals.
    texts: Box<[u8]>,
    /// The logarithm of the number of slots.
    slot_bits: u32,
    /// The number of bits by which a hash is shifted right to select a word of the filter.
    filter_shift: u32,
}

/// The consequence of finding a literal in a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    /// The pattern with this index matches.
    Pattern(u32),
    /// Patterns of this group may match.
    Group(u32),
}

impl Target {
    fn cost(self) -> u8 {
        match self {
            Self::Pattern(_) => 1,
            Self::Group(_) => RUN_COST,
        }
    }
}

/// A literal and its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    window: u32,
    /// Where the literal is in `texts`.
    text: u32,
    target: Target,
    len: u8,
    /// How many bytes of the literal precede the window.
    before: u8,
}

impl Grams {
    /// A table of literals, each with its target. Together they must not need more than [`MAX_ENTRIES`] entries.
    ///
    /// # Errors
    /// The indices of the literals for which there is no room.
    pub(super) fn new(literals: &[(&[u8], Target)]) -> Result<Self, Vec<usize>> {
        let count: usize = literals.iter().map(|(text, _)| entry_count(text)).sum();
        let slot_bits = (2 * count).next_power_of_two().ilog2().max(MIN_SLOT_BITS);
        let mut costs = vec![0_u8; 1 << slot_bits];
        let mut entries = Vec::with_capacity(count);
        let (mut texts, mut rejected) = (Vec::new(), Vec::new());
        // Short literals come first, as they have the smallest choice of windows.
        let mut order: Vec<_> = (0..literals.len()).collect();
        order.sort_by_key(|which| literals[*which].0.len());
        for which in order {
            let (literal, target) = literals[which];
            let text = texts.len() as u32;
            texts.extend_from_slice(literal);
            let best = best_window(literal, &costs, slot_bits);
            let mut add = |window: [u8; WINDOW], before: usize| {
                let window = u32::from_le_bytes(window);
                let cost = &mut costs[slot(window, slot_bits)];
                let sum = *cost + target.cost();
                if sum > MAX_COST {
                    return false;
                }
                *cost = sum;
                entries.push(Entry {
                    window,
                    text,
                    target,
                    len: literal.len() as u8,
                    before: before as u8,
                });
                true
            };
            let is_added = match *literal {
                [a, b, END] => add([a, b, END, END], 0),
                [a, b, c] => followers().all(|last| add([a, b, c, last], 0)),
                _ => best.is_some_and(|(before, window)| add(window, before)),
            };
            if !is_added {
                rejected.push(which);
            }
        }
        if !rejected.is_empty() {
            return Err(rejected);
        }
        entries.sort_unstable_by_key(|entry| (slot(entry.window, slot_bits), *entry));
        let mut grams = Self {
            filter: vec![0; 1 << (slot_bits + FILTER_BITS - 6)].into(),
            slots: slots(&entries, slot_bits),
            entries: entries.into(),
            texts: texts.into(),
            slot_bits,
            filter_shift: 32 + 6 - FILTER_BITS - slot_bits,
        };
        for entry in &grams.entries {
            let (word, bits) = grams.bits(entry.window);
            grams.filter[word] |= bits;
        }
        Ok(grams)
    }

    /// The first window at or after `from` that may have an entry.
    #[inline]
    pub(super) fn next(&self, edged: &[u8], from: usize) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut windows = edged.get(from..)?.windows(WINDOW);
        let may_have = windows.position(|window| {
            let window = u32::from_le_bytes([window[0], window[1], window[2], window[3]]);
            let (word, bits) = self.bits(window);
            self.filter[word] & bits == bits
        });
        may_have.map(|offset| from + offset)
    }

    /// Calls `each` with the target of every literal whose window is at `at`. Returns the number of entries that were
    /// compared.
    pub(super) fn literals_at(
        &self,
        edged: &[u8],
        at: usize,
        mut each: impl FnMut(Target),
    ) -> usize {
        let Some(window) = edged.get(at..).and_then(|rest| rest.first_chunk()) else {
            return 0;
        };
        let window = u32::from_le_bytes(*window);
        let slot = slot(window, self.slot_bits);
        let entries = &self.entries[self.slots[slot] as usize..self.slots[slot + 1] as usize];
        // The second edge at the end is not part of the text.
        let text = &edged[..edged.len() - 1];
        for entry in entries.iter().filter(|entry| entry.window == window) {
            let start = entry.text as usize;
            let literal = &self.texts[start..start + usize::from(entry.len)];
            let Some(begin) = at.checked_sub(usize::from(entry.before)) else {
                continue;
            };
            if text.get(begin..begin + literal.len()) == Some(literal) {
                each(entry.target);
            }
        }
        entries.len()
    }

    /// The windows that lead to runs of automata, and the automaton of each, possibly several times.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.entries.iter().filter_map(|entry| match entry.target {
            Target::Pattern(_) => None,
            Target::Group(group) => Some((entry.window, group)),
        })
    }

    /// For each literal that is a whole pattern, the windows at which it is compared, with the pattern.
    pub(super) fn compared(&self) -> impl Iterator<Item = (u32, u32)> {
        self.entries.iter().filter_map(|entry| match entry.target {
            Target::Pattern(pattern) => Some((entry.window, pattern)),
            Target::Group(_) => None,
        })
    }

    /// The memory that the table takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.filter)
            + size_of_val(&*self.slots)
            + size_of_val(&*self.entries)
            + self.texts.len()
    }

    /// The word of the filter for a window, and two bits in it.
    #[inline(always)]
    fn bits(&self, window: u32) -> (usize, u64) {
        let hash = hash(window);
        let word = (hash >> self.filter_shift) as usize & (self.filter.len() - 1);
        (word, 1 << (hash >> 7 & 63) | 1 << (hash >> 13 & 63))
    }
}

#[inline(always)]
fn hash(window: u32) -> u32 {
    window.wrapping_mul(0x9E37_79B1)
}

fn slot(window: u32, slot_bits: u32) -> usize {
    (hash(window) >> (32 - slot_bits)) as usize
}

/// The window of a literal that is rarest in names and in the table, and its offset.
fn best_window(literal: &[u8], costs: &[u8], slot_bits: u32) -> Option<(usize, [u8; WINDOW])> {
    windows(literal).enumerate().min_by_key(|(_, window)| {
        let cost = costs[slot(u32::from_le_bytes(*window), slot_bits)];
        match cost > MAX_COST - RUN_COST {
            true => u64::MAX,
            false => commonness(*window) * (1 + u64::from(cost)),
        }
    })
}

fn slots(entries: &[Entry], slot_bits: u32) -> Box<[u32]> {
    let mut slots = vec![0; (1 << slot_bits) + 1];
    for entry in entries {
        slots[slot(entry.window, slot_bits) + 1] += 1;
    }
    let mut sum = 0;
    for start in &mut slots {
        sum += *start;
        *start = sum;
    }
    slots.into()
}

/// The bytes that may follow a literal of three bytes that does not end with an edge.
fn followers() -> impl Iterator<Item = u8> {
    TEXT.filter(|byte| !byte.is_ascii_uppercase()).chain([END])
}

/// The number of entries that a literal needs.
pub(super) fn entry_count(literal: &[u8]) -> usize {
    match literal {
        [_, _, last] if *last != END => followers().count(),
        _ => 1,
    }
}

/// The windows of a literal.
pub(super) fn windows(literal: &[u8]) -> impl Iterator<Item = [u8; WINDOW]> {
    let windows = literal.windows(WINDOW);
    windows.map(|window| [window[0], window[1], window[2], window[3]])
}

/// How common a window is in names: an estimate, in units of 1e-12.
pub(super) fn commonness(window: [u8; WINDOW]) -> u64 {
    if COMMON.contains(&&window) {
        return 30_000_000_000;
    }
    window.into_iter().map(frequency).product()
}

/// Very common windows: most names contain at least one of them.
const COMMON: [&[u8; WINDOW]; 8] = [
    b".com", b"com\0", b".net", b"net\0", b".org", b"org\0", b"\x01www", b"www.",
];

/// The number of times that a byte occurs among a thousand bytes of names, at least 1. Measured on the names of public
/// lists.
fn frequency(byte: u8) -> u64 {
    match byte {
        b'.' => 78,
        b'o' => 74,
        b'e' => 65,
        b'a' | b'c' => 52,
        b'i' | b't' | START | END => 46,
        b'n' | b's' | b'm' | b'r' => 43,
        b'l' | b'w' => 31,
        b'd' | b'p' => 25,
        b'u' | b'b' | b'g' | b'-' => 18,
        b'f' | b'h' | b'k' | b'v' | b'y' => 13,
        b'x' | b'z' => 8,
        b'0'..=b'9' => 6,
        b'j' | b'q' => 4,
        _ => 1,
    }
}
