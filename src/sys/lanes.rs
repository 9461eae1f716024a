//! Owns what is done to sixteen octets at once, by the instructions that every x86-64 has.
//! Refuses to depend on them: elsewhere two numbers of eight octets do the same.
#![expect(
    unsafe_code,
    reason = "the instructions are unsafe to call unless they are known to exist"
)]

/// A bit for each of sixteen octets that is `octet`.
#[inline(always)]
pub fn equal(low: u64, high: u64, octet: u8) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of every x86-64, and nothing here touches memory.
    unsafe {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
        let octets = _mm_set_epi64x(high as i64, low as i64);
        let equal = _mm_cmpeq_epi8(octets, _mm_set1_epi8(octet as i8));
        _mm_movemask_epi8(equal) as u32
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    portable::equal(low, high, octet)
}

/// Masks for the first `count` of sixteen octets; from a table, as a branch on a count is a guess.
#[inline(always)]
pub fn first(count: usize) -> (u64, u64) {
    const MASKS: [(u64, u64); 17] = {
        let mut masks = [(u64::MAX, u64::MAX); 17];
        let mut count = 0;
        while count < 8 {
            masks[count] = ((1 << (8 * count)) - 1, 0);
            masks[8 + count] = (u64::MAX, (1 << (8 * count)) - 1);
            count += 1;
        }
        masks
    };
    MASKS[count.min(16)]
}

/// The sum of the first `count` of sixteen octets.
#[inline(always)]
pub fn sum_of_first(low: u64, high: u64, count: usize) -> u64 {
    let (few, more) = first(count);
    let (low, high) = (low & few, high & more);
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of every x86-64, and nothing here touches memory.
    unsafe {
        use std::arch::x86_64::{
            _mm_add_epi64, _mm_cvtsi128_si64, _mm_sad_epu8, _mm_set_epi64x, _mm_setzero_si128,
            _mm_unpackhi_epi64,
        };
        let sums = _mm_sad_epu8(_mm_set_epi64x(high as i64, low as i64), _mm_setzero_si128());
        _mm_cvtsi128_si64(_mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums))) as u64
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        portable::sum(low) + portable::sum(high)
    }
}

/// The same without such instructions.
#[cfg(any(test, miri, not(target_arch = "x86_64")))]
mod portable {
    pub(super) fn equal(low: u64, high: u64, octet: u8) -> u32 {
        (eight(low, octet) | eight(high, octet) << 8) as u32
    }

    fn eight(octets: u64, octet: u8) -> u64 {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const REST: u64 = 0x7F7F_7F7F_7F7F_7F7F;
        let differing = octets ^ (ONES * u64::from(octet));
        let equal = !(((differing & REST) + REST) | differing | REST);
        (equal >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    }

    pub(super) fn sum(octets: u64) -> u64 {
        const EVEN: u64 = 0x00FF_00FF_00FF_00FF;
        let pairs = (octets & EVEN) + (octets >> 8 & EVEN);
        pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48
    }
}
