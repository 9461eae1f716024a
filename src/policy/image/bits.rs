//! Owns reading and writing numbers at any place of bytes, the lowest bit first.
//! Refuses to panic: beyond the end there are zeros.

/// Eight bytes from `at` on as a number, the first one lowest; zeros beyond the end.
#[inline(always)]
pub fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => tail(bytes, at),
    }
}

/// The last bytes, fewer than eight: as two numbers that overlap, as labels end here too often for
/// a copy.
#[inline(always)]
fn tail(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or(&[]);
    match (rest.first_chunk(), rest.last_chunk(), rest) {
        (Some(first), Some(last), _) => {
            let behind = (rest.len() - 4) * 8;
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << behind
        }
        (_, _, &[one]) => u64::from(one),
        (_, _, &[one, two]) => u64::from(u16::from_le_bytes([one, two])),
        (_, _, &[one, two, three]) => u64::from(u32::from_le_bytes([one, two, three, 0])),
        _ => 0,
    }
}

/// The bits from bit `at` on; at least the lowest 57 are real.
#[inline(always)]
pub fn peek(bytes: &[u8], at: u64) -> u64 {
    word(bytes, (at / 8) as usize) >> (at % 8)
}

/// The lowest `count` bits set; `count` is below 64.
#[inline(always)]
pub fn mask(count: u32) -> u64 {
    (1 << count) - 1
}

/// Bytes that grow by bits.
#[derive(Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    open: u64,
    filled: u32,
}

impl BitWriter {
    /// Appends the lowest `count` bits of `bits`, at most 32; the others must be zero.
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

    /// Appends `count` bits that start at the first bit of `bytes`.
    pub fn append(&mut self, bytes: &[u8], count: u32) {
        let mut at = 0;
        while at < count {
            let step = (count - at).min(32);
            self.push(peek(bytes, u64::from(at)) & mask(step), step);
            at += step;
        }
    }

    /// How many bits were written.
    pub fn count(&self) -> u32 {
        self.bytes.len() as u32 * 8 + self.filled
    }

    /// All bytes, the last one filled up with zeros; the writer is empty afterwards.
    pub fn take(&mut self, into: &mut Vec<u8>) {
        into.append(&mut self.bytes);
        into.extend(&self.open.to_le_bytes()[..self.filled.div_ceil(8) as usize]);
        self.open = 0;
        self.filled = 0;
    }
}
