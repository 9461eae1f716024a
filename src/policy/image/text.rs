//! Owns the code that edge text is written in: a prefix code for pairs of bytes.
//! Refuses to know what the text is for.
//!
//! A label is written two bytes at a time, each pair of plain ones (a to z, 0 to 9, hyphen,
//! underscore) by a code of its own; a last single byte pairs with nothing. Pairs without a code
//! are written as they are behind an escape. Four pairs never take more than 56 bits, so eight
//! bytes of a question are turned into bits, and compared, at a time, without a branch.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::bits::{mask, peek, word};

/// Longest code in bits. Four of them can be read from any bit of eight bytes.
pub const MAX_BITS: u32 = 14;
/// Numbers of a pair: six bits for each byte.
const PAIRS: usize = 1 << 12;
/// Two bytes follow as they are.
const TWO: usize = 1;
/// One byte follows as it is; the label ends with it.
const ONE: usize = 2;
/// A label ends, and another one follows.
const BETWEEN: usize = 3;
/// Bits that the decoder looks up at once.
const LOOK: u32 = MAX_BITS;

/// Six bits for a plain byte, 13 to 63; 0 for the zero that stands behind a label's end. Other
/// bytes get the number of a plain one.
const fn six(byte: u8) -> u8 {
    byte & 0x1F | (byte >> 1) & 0x20
}

/// Whether the byte is one of those that names are usually made of.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')
}

/// The byte of each number.
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

/// A pair's number, if both are plain, or the second one is the zero behind the end.
fn pair(one: u8, other: u8) -> Option<usize> {
    let plain = is_plain(one) && (is_plain(other) || other == 0);
    plain.then(|| usize::from(six(one)) | usize::from(six(other)) << 6)
}

/// The same for a pair that may be a single byte; else the escape that it needs.
#[inline(always)]
fn symbol(one: u8, other: Option<u8>) -> Result<usize, usize> {
    match other {
        None => pair(one, 0).ok_or(ONE),
        Some(other) => pair(one, other).filter(|_| other != 0).ok_or(TWO),
    }
}

/// The bytes of a label in pairs; the last one may be single.
fn pairs(label: &[u8]) -> impl Iterator<Item = (u8, Option<u8>)> {
    label.chunks(2).map(|pair| (pair[0], pair.get(1).copied()))
}

/// Whether that is the number of an escape of bytes, or of a pair that a label may have.
fn is_counted(symbol: usize) -> bool {
    let (one, other) = (PLAIN[symbol % 64], PLAIN[symbol / 64]);
    let plain = one != 0 && (other != 0 || symbol < 64);
    plain || symbol == TWO || symbol == ONE
}

/// How often each pair occurs.
#[derive(Clone)]
pub struct PairHistogram(Vec<u32>);

impl Default for PairHistogram {
    fn default() -> Self {
        Self(vec![0; PAIRS])
    }
}

impl PairHistogram {
    /// Counts the text of a path: labels behind their length bytes.
    pub fn count(&mut self, path: &[u8]) {
        for (one, other) in super::path::labels(path).flat_map(pairs) {
            self.count_pair(symbol(one, other).unwrap_or_else(|escape| escape));
        }
    }

    /// Counts the text of a pair, as [`TextCode::label`] tells it.
    #[inline(always)]
    pub fn count_pair(&mut self, symbol: usize) {
        self.0[symbol] = self.0[symbol].saturating_add(1);
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count = count.saturating_add(*more);
        }
    }

    /// Four bytes for each count.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0
            .iter()
            .flat_map(|count| count.to_le_bytes())
            .collect()
    }

    /// The census of those bytes; what is missing, or never counted, counts nothing.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut histogram = Self::default();
        let counts = bytes.chunks_exact(4).map(|chunk| word(chunk, 0) as u32);
        for (symbol, (to, count)) in histogram.0.iter_mut().zip(counts).enumerate() {
            *to = if is_counted(symbol) { count } else { 0 };
        }
        histogram
    }

    /// The lengths of the best codes, in bits, by Huffman's algorithm. Pairs that never occur get
    /// none; counts are evened out until no code is longer than [`MAX_BITS`].
    pub fn lengths(&self) -> Vec<u8> {
        let mut weights: Vec<(usize, u64)> = Vec::new();
        for (symbol, &count) in self.0.iter().enumerate() {
            if count > 0 || [TWO, ONE, BETWEEN].contains(&symbol) {
                // An escape weighs next to nothing, and labels seldom share an edge.
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

/// How deep each weight lies in Huffman's tree.
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

/// What a pair is written as: how many bits in the lowest six bits, where a shift by it takes it
/// from, and the bits above. Pairs without a code have [`ESCAPED`] set.
type Code = u32;

const ESCAPED: Code = 1 << 31;

/// The bits of a code.
const fn bits(code: Code) -> u64 {
    (code >> 6) as u64
}

/// How many they are.
const fn count(code: Code) -> u32 {
    code % 64
}

/// The code of an image: canonical, the first bit lowest.
pub struct TextCode {
    lengths: Vec<u8>,
    codes: Box<[Code; PAIRS]>,
}

impl TextCode {
    /// The code with these lengths; nothing if no prefix code has them.
    pub fn new(lengths: &[u8]) -> Option<Self> {
        let mut codes = Box::new([ESCAPED; PAIRS]);
        // Nothing is written for the zeros behind an end.
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

    /// The lengths that it was made of.
    pub fn lengths(&self) -> &[u8] {
        &self.lengths
    }

    /// The bits of up to eight bytes of a label, filled up with zeros behind its end, and how many
    /// they are: at most 56. Nothing if some pair needs an escape. All bytes must be plain.
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

    /// Calls `each` with the bits of a label, a pair at a time: what a census counts it as, the
    /// bits, and how many they are (at most 30).
    /// Whatever the bytes are, that is what [`eight`](Self::eight) says, if it says something.
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

    /// The bits between a label and the next one of the same edge, and how many they are. Behind
    /// a single byte there are none. The label before has `size` bytes.
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

/// Turns bits into text again. Takes 32 kB, so it is made where it is needed.
pub struct Decoder {
    /// By the next bits: the symbol, and from bit 12 on the length of its code.
    table: Vec<u16>,
}

impl Decoder {
    /// A decoder of that code.
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

    /// Reads the labels in `size` bits from bit `start` on: calls `byte` with each byte, and
    /// `end` behind each label. Returns whether they are whole.
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
