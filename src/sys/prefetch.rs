//! Owns the hint to the processor that memory will be read soon.
//! Refuses to read it.
#![expect(unsafe_code, reason = "the instruction has no safe binding in std")]

/// Asks for the cache line that holds `octets[at]`, or would if there were so many: a comparison
/// would cost more than a hint that is of no use. Does nothing on processors for which no
/// instruction is known.
#[inline(always)]
pub fn prefetch(octets: &[u8], at: usize) {
    hint(octets.as_ptr().wrapping_add(at));
}

/// Asks for the first cache line of a value, as [`prefetch`] does.
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
