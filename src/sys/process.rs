//! Owns what the process asks of the system about itself.
//! Refuses to interpret it.
#![expect(unsafe_code, reason = "geteuid(2) has no safe binding in std")]

/// The user that the process runs as.
pub fn user_id() -> u32 {
    // SAFETY: geteuid takes nothing, touches no memory and always succeeds.
    unsafe { libc::geteuid() }
}
