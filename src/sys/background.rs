//! Lowers the priority of a process that works for another one.
#![expect(unsafe_code, reason = "rustix has no ioprio_set(2)")]

/// Lowers the process's own priority for processor and disk, and makes it the first to be ended when memory runs
/// out. Whatever the system does not allow is left as it is.
pub fn lower_own_priority() {
    /// `ioprio_set`: this process, or rather its only thread.
    const WHO_PROCESS: libc::c_int = 1;
    /// The class that gets the disk when no other process uses it, in the upper bits.
    const IDLE: libc::c_int = 3 << 13;
    let _ = rustix::process::nice(10);
    // SAFETY: the call takes three numbers, of which 0 means the calling thread, and touches no
    // memory. It may fail without harm.
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, IDLE);
    }
    // Without /proc, the system chooses the process to end by memory size alone.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}
