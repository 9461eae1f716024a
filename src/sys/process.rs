//! Owns what the process asks of the system about itself, and how its memory goes back there.
//! Refuses to interpret it.
#![expect(unsafe_code, reason = "neither call has a safe binding in std")]

/// Allocations from this size on are mappings of their own.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 1 << 20;

/// The user that the process runs as.
pub fn user_id() -> u32 {
    // SAFETY: geteuid takes nothing, touches no memory and always succeeds.
    unsafe { libc::geteuid() }
}

/// Makes large allocations go back to the system as soon as they are freed.
///
/// By default the C library raises its limit with each large block that is freed, up to 32 MiB, and
/// keeps what it freed: with a list of 1.5 million names the server grew from 63 MB to 212 MB over
/// twelve reloads. Elsewhere than with glibc this does nothing.
pub fn return_large_allocations() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets a limit inside the allocator, which locks for it. That it may fail
    // is no harm: the default stays.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
    }
}
