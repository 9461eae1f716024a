//! The text code of edges: a prefix code for pairs of bytes.
//!
//! A label is written two bytes at a time. Each pair of usual bytes (a to z, 0 to 9, hyphen, underscore) has
//! a code, and so has a usual byte at the end of a label of odd length. Other pairs are written verbatim
//! after an escape code. Four codes have at most 56 bits, so a lookup encodes and compares eight bytes of a
//! name at a time, without a branch.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::bits::{mask, peek, word};

/// The length of the longest code in bits. Four codes and up to seven preceding bits fit into eight bytes.
pub const MAX_BITS: u32 = 14;
/// The number of symbols: six bits for each byte of a pair.
const PAIRS: usize = 1 << 12;
/// Escape: two bytes follow verbatim.
const TWO: usize = 1;
/// Escape: one byte follows verbatim, and the label ends.
const ONE: usize = 2;
/// The label ends, and another one follows.
const BETWEEN: usize = 3;
/// The number of bits that the decoder looks up at once.
const LOOK: u32 = MAX_BITS;

/// A number of six bits for a usual byte, 13 to 63; 0 for the zero after the end of a label. Other bytes
/// share the number of a usual one.
const fn six(byte: u8) -> u8 {
    byte & 0x1F | (byte >> 1) & 0x20
}

/// Whether the byte is usual in names.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')
}

/// The usual byte of each number.
const PLAIN: [u8; 64] = {
    let mut plain = [0; 64];
    let mut byte = 0;
    while byte < 128 {
        if is_plain(byte) {
            plain[six(byte) as usize] = byte;
        }
        byte += 1;
    }
    plain
};

/// The symbol of a pair. `None` unless both bytes are usual, or the second one is the zero after the end.
fn pair(one: u8, other: u8) -> Option<usize> {
    let plain = is_plain(one) && (is_plain(other) || other == 0);
    plain.then(|| usize::from(six(one)) | usize::from(six(other)) << 6)
}

/// The symbol of a pair or of a single byte; `Err` with the escape that it needs.
#[inline(always)]
fn symbol(one: u8, other: Option<u8>) -> Result<usize, usize> {
    match other {
        None => pair(one, 0).ok_or(ONE),
        Some(other) => pair(one, other).filter(|_| other != 0).ok_or(TWO),
    }
}

/// The bytes of a label in pairs. The last one may be single.
fn pairs(label: &[u8]) -> impl Iterator<Item = (u8, Option<u8>)> {
    label.chunks(2).map(|pair| (pair[0], pair.get(1).copied()))
}

/// Whether the symbol is `ONE`, `TWO`, or a pair or single byte that labels can have.
fn is_counted(symbol: usize) -> bool {
    let (one, other) = (PLAIN[symbol % 64], PLAIN[symbol / 64]);
    let plain = one != 0 && (other != 0 || symbol < 64);
    plain || symbol == TWO || symbol == ONE
}

/// The frequency of each symbol.
#[derive(Clone)]
pub struct PairHistogram(Vec<u32>);

impl Default for PairHistogram {
    fn default() -> Self {
        Self(vec![0; PAIRS])
    }
}

impl PairHistogram {
    /// Counts the text of a path, in which each label follows its length byte.
    pub fn count(&mut self, path: &[u8]) {
        for (one, other) in super::path::labels(path).flat_map(pairs) {
            self.count_pair(symbol(one, other).unwrap_or_else(|escape| escape));
        }
    }

    /// Counts a symbol of [`TextCode::label`].
    #[inline(always)]
    pub fn count_pair(&mut self, symbol: usize) {
        self.0[symbol] = self.0[symbol].saturating_add(1);
    }

    /// Adds the frequencies of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count = count.saturating_add(*more);
        }
    }

    /// Four bytes for each frequency.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0
            .iter()
            .flat_map(|count| count.to_le_bytes())
            .collect()
    }

    /// The histogram in these bytes. Missing frequencies, and those of symbols that do not occur, are 0.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut histogram = Self::default();
        let counts = bytes.chunks_exact(4).map(|chunk| word(chunk, 0) as u32);
        for (symbol, (to, count)) in histogram.0.iter_mut().zip(counts).enumerate() {
            *to = if is_counted(symbol) { count } else { 0 };
        }
        histogram
    }

    /// The code lengths in bits, by Huffman's algorithm. The length is 0 for pairs that never occur. Frequencies are
    /// evened out until no code is longer than [`MAX_BITS`].
    pub fn lengths(&self) -> Vec<u8> {
        let mut weights: Vec<(usize, u64)> = Vec::new();
        for (symbol, &count) in self.0.iter().enumerate() {
            if count > 0 || [TWO, ONE, BETWEEN].contains(&symbol) {
                // `TWO`, `ONE` and `BETWEEN` have a code even if they were never counted. They are rare, so a low
                // weight suffices.
                weights.push((symbol, u64::from(count) * 64 + 1));
            }
        }
        let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
        if let Some(between) = weights.iter_mut().find(|(symbol, _)| *symbol == BETWEEN) {
            between.1 = total / 256 + 1;
        }
        loop {
            let depths = depths(&weights);
            if depths.iter().all(|&depth| depth <= MAX_BITS) {
                let mut lengths = vec![0; PAIRS];
                for (&(symbol, _), depth) in weights.iter().zip(depths) {
                    lengths[symbol] = depth as u8;
                }
                return lengths;
            }
            for (_, weight) in &mut weights {
                *weight = *weight / 4 + 1;
            }
        }
    }
}

/// The depth of each weight in the Huffman tree.
fn depths(weights: &[(usize, u64)]) -> Vec<u32> {
    let count = weights.len();
    let mut parents = vec![0; 2 * count];
    let leaves = weights.iter().enumerate();
    let mut heap: BinaryHeap<_> = leaves
        .map(|(leaf, &(_, weight))| Reverse((weight, leaf)))
        .collect();
    let mut next = count;
    while let (Some(Reverse(one)), Some(Reverse(other))) = (heap.pop(), heap.pop()) {
        parents[one.1] = next;
        parents[other.1] = next;
        heap.push(Reverse((one.0 + other.0, next)));
        next += 1;
        if heap.len() == 1 {
            break;
        }
    }
    let mut depths = vec![0; next];
    for node in (0..next - 1).rev() {
        depths[node] = depths[parents[node]] + 1;
    }
    depths.truncate(count);
    depths
}

/// The code of a symbol. Its length is in the lowest six bits, because a shift instruction uses only these bits. The
/// bits of the code are above. [`ESCAPED`] is set if there is no code.
type Code = u32;

const ESCAPED: Code = 1 << 31;

/// The bits of a code.
const fn bits(code: Code) -> u64 {
    (code >> 6) as u64
}

/// The length of a code.
const fn count(code: Code) -> u32 {
    code % 64
}

/// The canonical text code of an image; the first bit of a code is the lowest one.
pub struct TextCode {
    lengths: Vec<u8>,
    codes: Box<[Code; PAIRS]>,
}

impl TextCode {
    /// The code with these lengths. `None` if they are not those of a complete prefix code.
    pub fn new(lengths: &[u8]) -> Option<Self> {
        let mut codes = Box::new([ESCAPED; PAIRS]);
        // The zeros after the end of a label have no code.
        codes[0] = 0;
        let escapes = [TWO, ONE, BETWEEN]
            .iter()
            .all(|&symbol| lengths.get(symbol).is_some_and(|l| *l > 0));
        if lengths.len() != PAIRS || lengths[0] != 0 || !escapes {
            return None;
        }
        let mut next = 0_u32;
        for length in 1..=MAX_BITS {
            for (symbol, _) in lengths
                .iter()
                .enumerate()
                .filter(|(_, l)| u32::from(**l) == length)
            {
                if next >> length != 0 {
                    return None;
                }
                let bits = ((next << (16 - length)) as u16).reverse_bits();
                codes[symbol] = u32::from(bits) << 6 | length;
                next += 1;
            }
            next <<= 1;
        }
        let complete = next == 2 << MAX_BITS && lengths.iter().all(|&l| u32::from(l) <= MAX_BITS);
        complete.then(|| Self {
            lengths: lengths.to_vec(),
            codes,
        })
    }

    /// The code lengths.
    pub fn lengths(&self) -> &[u8] {
        &self.lengths
    }

    /// Encodes up to eight bytes of a label, padded with zeros after its end: the bits and their number, at
    /// most 56. `None` if a pair needs an escape. All bytes must be usual.
    #[inline(always)]
    pub fn eight(&self, bytes: u64) -> Option<(u64, u32)> {
        const FIVE: u64 = 0x1F1F_1F1F_1F1F_1F1F;
        const SIXTH: u64 = 0x2020_2020_2020_2020;
        let six = bytes & FIVE | bytes >> 1 & SIXTH;
        let twelve = six & 0x003F_003F_003F_003F | six >> 2 & 0x0FC0_0FC0_0FC0_0FC0;
        let code = |lane: u32| self.codes[(twelve >> (16 * lane)) as usize % PAIRS];
        let [a, b, c, d] = [code(0), code(1), code(2), code(3)];
        if (a | b | c | d) & ESCAPED != 0 {
            return None;
        }
        let all = bits(d) << count(c) | bits(c);
        let all = all << count(b) | bits(b);
        let all = all << count(a) | bits(a);
        Some((all, count(a + b + c + d)))
    }

    /// Calls `each` for every pair of a label with its symbol, its bits and their number (at most 30). For
    /// any bytes that [`eight`](Self::eight) encodes, the bits are the same.
    pub fn label(&self, label: &[u8], mut each: impl FnMut(usize, u64, u32)) {
        for (one, other) in pairs(label) {
            let symbol = symbol(one, other);
            let code = symbol.map_or(ESCAPED, |pair| self.codes[pair]);
            let symbol = symbol.unwrap_or_else(|escape| escape);
            if code & ESCAPED == 0 {
                each(symbol, bits(code), count(code));
                continue;
            }
            let (escape, raw, more) = match other {
                Some(other) => (TWO, u64::from(one) | u64::from(other) << 8, 16),
                None => (ONE, u64::from(one), 8),
            };
            let escape = self.codes[escape];
            let bits = bits(escape) | raw << count(escape);
            each(symbol, bits, count(escape) + more);
        }
    }

    /// Encodes the boundary between a label of `size` bytes and the next one of an edge: the bits and their
    /// number. There are none after a label of odd length: the code of its last byte ends the label.
    #[inline(always)]
    pub fn between(&self, size: usize) -> (u64, u32) {
        let code = if size % 2 == 1 {
            0
        } else {
            self.codes[BETWEEN]
        };
        (bits(code), count(code))
    }
}

/// Decodes text. The table takes 32 kB, so a decoder is made where one is needed.
pub struct Decoder {
    /// Indexed by the next bits: the symbol, and its code length from bit 12 on.
    table: Vec<u16>,
}

impl Decoder {
    /// A decoder of this code.
    pub fn new(code: &TextCode) -> Self {
        let mut table = vec![0; 1 << LOOK];
        for (symbol, &code) in code.codes.iter().enumerate().skip(1) {
            let length = count(code);
            if code & ESCAPED != 0 {
                continue;
            }
            let mut look = bits(code) as usize;
            while look < 1 << LOOK {
                table[look] = symbol as u16 | (length as u16) << 12;
                look += 1 << length;
            }
        }
        Self { table }
    }

    /// Decodes the labels in the `size` bits from bit `start` on. Calls `each` with every byte, and with
    /// `None` after each label. Returns whether the bits end at the end of a symbol.
    pub fn decode(
        &self,
        bytes: &[u8],
        start: u64,
        size: u32,
        mut each: impl FnMut(Option<u8>),
    ) -> bool {
        let end = start + u64::from(size);
        let mut at = start;
        let mut open = false;
        while at < end {
            let bits = peek(bytes, at);
            let entry = self.table[(bits & mask(LOOK)) as usize];
            let (symbol, length) = (usize::from(entry) % PAIRS, u32::from(entry >> 12));
            let raw = bits >> length;
            at += u64::from(length);
            match symbol {
                BETWEEN => {
                    each(None);
                    open = false;
                }
                TWO => {
                    each(Some(raw as u8));
                    each(Some((raw >> 8) as u8));
                    at += 16;
                    open = true;
                }
                ONE => {
                    each(Some(raw as u8));
                    each(None);
                    at += 8;
                    open = false;
                }
                _ => {
                    each(Some(PLAIN[symbol % 64]));
                    open = symbol / 64 != 0;
                    each(open.then(|| PLAIN[symbol / 64]));
                }
            }
        }
        if open {
            each(None);
        }
        at == end
    }
}
