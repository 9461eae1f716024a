//! Reads and writes numbers at any bit of a byte sequence, least significant bit first. Reads past the end
//! yield zeros.

/// Eight bytes from `at` on as a little-endian number; zeros past the end.
#[inline(always)]
pub fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => tail(bytes, at),
    }
}

/// Reads the last bytes, fewer than eight. Four or more are read as two overlapping numbers. This happens so often at
/// the end of a label that copying the bytes to a buffer would cost too much.
#[inline(always)]
fn tail(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or(&[]);
    match (rest.first_chunk(), rest.last_chunk(), rest) {
        (Some(first), Some(last), _) => {
            let after = (rest.len() - 4) * 8;
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << after
        }
        (_, _, &[one]) => u64::from(one),
        (_, _, &[one, two]) => u64::from(u16::from_le_bytes([one, two])),
        (_, _, &[one, two, three]) => u64::from(u32::from_le_bytes([one, two, three, 0])),
        _ => 0,
    }
}

/// The bits from bit `at` on; at least the lowest 57 are valid.
#[inline(always)]
pub fn peek(bytes: &[u8], at: u64) -> u64 {
    word(bytes, (at / 8) as usize) >> (at % 8)
}

/// A mask of the lowest `count` bits; `count` is below 64.
#[inline(always)]
pub fn mask(count: u32) -> u64 {
    (1 << count) - 1
}

/// A byte sequence that grows by bits.
#[derive(Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    open: u64,
    filled: u32,
}

impl BitWriter {
    /// Appends the lowest `count` bits of `bits`, at most 32. The others must be zero.
    #[inline(always)]
    pub fn push(&mut self, bits: u64, count: u32) {
        self.open |= bits << self.filled;
        self.filled += count;
        if self.filled >= 32 {
            self.bytes.extend((self.open as u32).to_le_bytes());
            self.open >>= 32;
            self.filled -= 32;
        }
    }

    /// Appends the first `count` bits of `bytes`.
    pub fn append(&mut self, bytes: &[u8], count: u32) {
        let mut at = 0;
        while at < count {
            let step = (count - at).min(32);
            self.push(peek(bytes, u64::from(at)) & mask(step), step);
            at += step;
        }
    }

    /// The number of bits written.
    pub fn count(&self) -> u32 {
        self.bytes.len() as u32 * 8 + self.filled
    }

    /// Moves all bytes to the end of `into`, the last one padded with zeros, and leaves the writer empty.
    pub fn take(&mut self, into: &mut Vec<u8>) {
        into.append(&mut self.bytes);
        into.extend(&self.open.to_le_bytes()[..self.filled.div_ceil(8) as usize]);
        self.open = 0;
        self.filled = 0;
    }
}
