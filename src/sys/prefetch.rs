//! Owns the hint to the processor that memory will be read soon.
//! Refuses to read it.
#![expect(unsafe_code, reason = "the instruction has no safe binding in std")]

/// Asks for the cache line that holds `octets[at]`. Does nothing beyond the end, and on processors
/// for which no instruction is known.
#[inline(always)]
pub fn prefetch(octets: &[u8], at: usize) {
    let Some(octet) = octets.get(at) else { return };
    let address: *const u8 = octet;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of every x86-64, and the address is that of a live octet; the
    // instruction neither writes nor faults.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the address is that of a live octet; the instruction neither writes nor faults.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
