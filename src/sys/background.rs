//! Owns the stepping back of a process that works for another one.
//! Refuses to fail: where the system can't or won't, the process goes on as it was.
#![expect(unsafe_code, reason = "none of these calls has a safe binding in std")]

/// Lowers the process's own priority for processor and disk as far as that goes, and offers it first
/// when memory runs out.
///
/// Elsewhere than on Linux only the processor's priority is lowered.
pub fn lower_own_priority() {
    // SAFETY: nice takes a number, touches no memory, and may fail without harm.
    unsafe {
        libc::nice(10);
    }
    #[cfg(target_os = "linux")]
    linux();
}

#[cfg(target_os = "linux")]
fn linux() {
    /// `ioprio_set`: this process, or rather its only thread.
    const WHO_PROCESS: libc::c_int = 1;
    /// The class that gets the disk when nobody else wants it, in the upper bits.
    const IDLE: libc::c_int = 3 << 13;
    // SAFETY: the call takes three numbers, of which 0 means the calling thread, and touches no
    // memory. It may fail without harm.
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, IDLE);
    }
    // Without /proc the system chooses by size alone.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}
