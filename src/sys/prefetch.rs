//! Prefetch hints for memory that will be read soon.
#![expect(unsafe_code, reason = "the instruction has no safe binding in std")]

/// Prefetches the cache line of `bytes[at]`. `at` may be out of bounds: a comparison would cost more than a
/// useless hint. Does nothing except on x86-64 and AArch64.
#[inline(always)]
pub fn prefetch(bytes: &[u8], at: usize) {
    hint(bytes.as_ptr().wrapping_add(at));
}

/// Prefetches the first cache line of a value.
#[inline(always)]
pub fn prefetch_value<T>(value: &T) {
    hint(std::ptr::from_ref(value).cast());
}

#[inline(always)]
fn hint(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of every x86-64; the instruction is a hint that neither writes nor
    // faults, whatever the address is.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction is a hint that neither writes nor faults, whatever the address is.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
