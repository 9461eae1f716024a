//! Owns what is done to sixteen octets at once, by the instructions that every x86-64 has.
//! Refuses to depend on them: elsewhere, and by the feature `portable`, two numbers of eight octets
//! do the same.
#![cfg_attr(
    all(target_arch = "x86_64", not(feature = "portable")),
    expect(
        unsafe_code,
        reason = "the instructions are unsafe to call unless they are known to exist"
    )
)]

/// Sixteen octets.
#[derive(Clone, Copy)]
pub struct Sixteen {
    #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
    octets: std::arch::x86_64::__m128i,
    #[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
    octets: portable::Sixteen,
}

/// Ones, then zeros: sixteen from `16 - n` on are a mask for the first `n` octets.
const FIRST: [u8; 32] = {
    let mut ones = [0; 32];
    let mut at = 0;
    while at < 16 {
        ones[at] = 0xFF;
        at += 1;
    }
    ones
};

/// A mask for the first `count` of sixteen octets.
#[inline(always)]
fn first(count: usize) -> [u8; 16] {
    let mask = FIRST[16 - count.min(16)..].first_chunk();
    *mask.expect("there are sixteen more")
}

#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
impl Sixteen {
    /// Those octets.
    #[inline(always)]
    pub fn from_octets(octets: [u8; 16]) -> Self {
        // SAFETY: SSE2 is part of every x86-64, and the address is that of sixteen octets.
        let octets = unsafe { std::arch::x86_64::_mm_loadu_si128(octets.as_ptr().cast()) };
        Self { octets }
    }

    /// A bit for each octet that is `octet`, when the bits of `but` are set in both.
    #[inline(always)]
    pub fn equal(self, octet: u8, but: u8) -> u32 {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8};
        // SAFETY: SSE2 is part of every x86-64, and nothing here touches memory.
        unsafe {
            let octets = _mm_or_si128(self.octets, _mm_set1_epi8(but as i8));
            let equal = _mm_cmpeq_epi8(octets, _mm_set1_epi8((octet | but) as i8));
            _mm_movemask_epi8(equal) as u32
        }
    }

    /// The sum of the first `count` octets; of all, if there are fewer.
    #[inline(always)]
    pub fn sum_of_first(self, count: usize) -> u64 {
        use std::arch::x86_64::{
            _mm_add_epi64, _mm_and_si128, _mm_cvtsi128_si64, _mm_sad_epu8, _mm_setzero_si128,
            _mm_unpackhi_epi64,
        };
        let first = Self::from_octets(first(count)).octets;
        // SAFETY: SSE2 is part of every x86-64, and nothing here touches memory.
        unsafe {
            let sums = _mm_sad_epu8(_mm_and_si128(self.octets, first), _mm_setzero_si128());
            _mm_cvtsi128_si64(_mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums))) as u64
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
impl Sixteen {
    /// Those octets.
    #[inline(always)]
    pub fn from_octets(octets: [u8; 16]) -> Self {
        let octets = portable::Sixteen::from_octets(octets);
        Self { octets }
    }

    /// A bit for each octet that is `octet`, when the bits of `but` are set in both.
    #[inline(always)]
    pub fn equal(self, octet: u8, but: u8) -> u32 {
        self.octets.equal(octet, but)
    }

    /// The sum of the first `count` octets; of all, if there are fewer.
    #[inline(always)]
    pub fn sum_of_first(self, count: usize) -> u64 {
        self.octets.sum_of_first(count)
    }
}

/// The same without such instructions.
#[cfg(any(test, feature = "portable", not(target_arch = "x86_64")))]
mod portable {
    use super::first;

    #[derive(Clone, Copy)]
    pub(super) struct Sixteen(u64, u64);

    const ONES: u64 = 0x0101_0101_0101_0101;

    impl Sixteen {
        #[inline(always)]
        pub(super) fn from_octets(octets: [u8; 16]) -> Self {
            let all = u128::from_le_bytes(octets);
            Self(all as u64, (all >> 64) as u64)
        }

        #[inline(always)]
        pub(super) fn equal(self, octet: u8, but: u8) -> u32 {
            let equal = |octets: u64| eight(octets | (ONES * u64::from(but)), octet | but);
            (equal(self.0) | equal(self.1) << 8) as u32
        }

        #[inline(always)]
        pub(super) fn sum_of_first(self, count: usize) -> u64 {
            let first = Self::from_octets(first(count));
            sum(self.0 & first.0) + sum(self.1 & first.1)
        }
    }

    fn eight(octets: u64, octet: u8) -> u64 {
        const REST: u64 = 0x7F7F_7F7F_7F7F_7F7F;
        let differing = octets ^ (ONES * u64::from(octet));
        let equal = !(((differing & REST) + REST) | differing | REST);
        (equal >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    }

    fn sum(octets: u64) -> u64 {
        const EVEN: u64 = 0x00FF_00FF_00FF_00FF;
        let pairs = (octets & EVEN) + (octets >> 8 & EVEN);
        pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_octets_are_as_if_each_were_looked_at_alone() {
        let mut octets = [0; 16];
        for round in 0..1000_usize {
            for (at, octet) in octets.iter_mut().enumerate() {
                *octet = (round * 31 + at * 97 + (round * at) / 7) as u8;
            }
            let but = (round % 3) as u8;
            let wanted = octets[round % 16];
            let equal: u32 = (0..16)
                .map(|at| u32::from(octets[at] | but == wanted | but) << at)
                .sum();
            let count = round % 18;
            let sum: u64 = octets.iter().take(count).map(|&o| u64::from(o)).sum();
            let (own, other) = (
                Sixteen::from_octets(octets),
                portable::Sixteen::from_octets(octets),
            );
            assert_eq!(own.equal(wanted, but), equal);
            assert_eq!(other.equal(wanted, but), equal);
            assert_eq!(own.sum_of_first(count), sum);
            assert_eq!(other.sum_of_first(count), sum, "{count} of {octets:?}");
        }
    }
}
