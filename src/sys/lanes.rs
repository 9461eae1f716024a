//! Operations on sixteen bytes at once. They use SSE2 on x86-64. On other processors, and with the feature `portable`,
//! they use two 64-bit integers.
#![cfg_attr(
    all(target_arch = "x86_64", not(feature = "portable")),
    expect(
        unsafe_code,
        reason = "the instructions are unsafe to call unless they are known to exist"
    )
)]

/// Sixteen bytes.
#[derive(Clone, Copy)]
pub struct Sixteen {
    #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
    bytes: std::arch::x86_64::__m128i,
    #[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
    bytes: portable::Sixteen,
}

/// Ones, then zeros: the sixteen bytes from `16 - n` on are a mask of the first `n` bytes.
const FIRST: [u8; 32] = {
    let mut ones = [0; 32];
    let mut at = 0;
    while at < 16 {
        ones[at] = 0xFF;
        at += 1;
    }
    ones
};

/// A mask of the first `count` of sixteen bytes.
#[inline(always)]
fn first(count: usize) -> [u8; 16] {
    let mask = FIRST[16 - count.min(16)..].first_chunk();
    *mask.expect("there are sixteen more")
}

#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
impl Sixteen {
    /// Loads the bytes.
    #[inline(always)]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        // SAFETY: SSE2 is part of every x86-64, and the address is that of sixteen bytes.
        let bytes = unsafe { std::arch::x86_64::_mm_loadu_si128(bytes.as_ptr().cast()) };
        Self { bytes }
    }

    /// One bit for each byte: whether it equals `byte`. Bits that are set in `but` are not compared.
    #[inline(always)]
    pub fn equal(self, byte: u8, but: u8) -> u32 {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8};
        // SAFETY: SSE2 is part of every x86-64, and nothing here touches memory.
        unsafe {
            let bytes = _mm_or_si128(self.bytes, _mm_set1_epi8(but as i8));
            let equal = _mm_cmpeq_epi8(bytes, _mm_set1_epi8((byte | but) as i8));
            _mm_movemask_epi8(equal) as u32
        }
    }

    /// The sum of the first `count` bytes, at most sixteen.
    #[inline(always)]
    pub fn sum_of_first(self, count: usize) -> u64 {
        use std::arch::x86_64::{
            _mm_add_epi64, _mm_and_si128, _mm_cvtsi128_si64, _mm_sad_epu8, _mm_setzero_si128,
            _mm_unpackhi_epi64,
        };
        let first = Self::from_bytes(first(count)).bytes;
        // SAFETY: SSE2 is part of every x86-64, and nothing here touches memory.
        unsafe {
            let sums = _mm_sad_epu8(_mm_and_si128(self.bytes, first), _mm_setzero_si128());
            _mm_cvtsi128_si64(_mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums))) as u64
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
impl Sixteen {
    /// Loads the bytes.
    #[inline(always)]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let bytes = portable::Sixteen::from_bytes(bytes);
        Self { bytes }
    }

    /// One bit for each byte: whether it equals `byte`. Bits that are set in `but` are not compared.
    #[inline(always)]
    pub fn equal(self, byte: u8, but: u8) -> u32 {
        self.bytes.equal(byte, but)
    }

    /// The sum of the first `count` bytes, at most sixteen.
    #[inline(always)]
    pub fn sum_of_first(self, count: usize) -> u64 {
        self.bytes.sum_of_first(count)
    }
}

/// Integer arithmetic in place of vector instructions.
#[cfg(any(test, feature = "portable", not(target_arch = "x86_64")))]
mod portable {
    use super::first;

    #[derive(Clone, Copy)]
    pub(super) struct Sixteen(u64, u64);

    const ONES: u64 = 0x0101_0101_0101_0101;

    impl Sixteen {
        #[inline(always)]
        pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
            let all = u128::from_le_bytes(bytes);
            Self(all as u64, (all >> 64) as u64)
        }

        #[inline(always)]
        pub(super) fn equal(self, byte: u8, but: u8) -> u32 {
            let equal = |bytes: u64| eight(bytes | (ONES * u64::from(but)), byte | but);
            (equal(self.0) | equal(self.1) << 8) as u32
        }

        #[inline(always)]
        pub(super) fn sum_of_first(self, count: usize) -> u64 {
            let first = Self::from_bytes(first(count));
            sum(self.0 & first.0) + sum(self.1 & first.1)
        }
    }

    fn eight(bytes: u64, byte: u8) -> u64 {
        const REST: u64 = 0x7F7F_7F7F_7F7F_7F7F;
        let differing = bytes ^ (ONES * u64::from(byte));
        let equal = !(((differing & REST) + REST) | differing | REST);
        (equal >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    }

    fn sum(bytes: u64) -> u64 {
        const EVEN: u64 = 0x00FF_00FF_00FF_00FF;
        let pairs = (bytes & EVEN) + (bytes >> 8 & EVEN);
        pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_equal_those_of_one_byte_at_a_time() {
        let mut bytes = [0; 16];
        for round in 0..1000_usize {
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = (round * 31 + at * 97 + (round * at) / 7) as u8;
            }
            let but = (round % 3) as u8;
            let wanted = bytes[round % 16];
            let equal: u32 = (0..16)
                .map(|at| u32::from(bytes[at] | but == wanted | but) << at)
                .sum();
            let count = round % 18;
            let sum: u64 = bytes.iter().take(count).map(|&o| u64::from(o)).sum();
            let (own, other) = (
                Sixteen::from_bytes(bytes),
                portable::Sixteen::from_bytes(bytes),
            );
            assert_eq!(own.equal(wanted, but), equal);
            assert_eq!(other.equal(wanted, but), equal);
            assert_eq!(own.sum_of_first(count), sum);
            assert_eq!(other.sum_of_first(count), sum, "{count} of {bytes:?}");
        }
    }
}
