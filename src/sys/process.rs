//! Limits, identity, clocks and memory of this process.
#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "mallopt and malloc_trim have no safe binding")
)]

use std::time::Duration;
use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Allocations of at least this size get a separate mapping.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 1 << 20;

/// The user that the process runs as.
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this process has threads beside the calling one. Without /proc, it is assumed to have none.
pub(super) fn has_other_threads() -> bool {
    fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1)
}

/// The total time for which the system was suspended since boot. CLOCK_BOOTTIME includes it; CLOCK_MONOTONIC, which
/// `Instant` uses, does not.
pub fn suspended() -> Duration {
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    // Boottime is read first, so that the time between the calls never makes the difference too large.
    let all = read(ClockId::Boottime);
    all.saturating_sub(read(ClockId::Monotonic))
}

/// The processor time of all threads of the process.
pub fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// The limit of open files; the largest number if there is none.
pub fn open_files_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit of open files to `most`, or to the hard limit if that is lower. Returns the limit that
/// holds then; it is never lowered, and stays as it was if the system refuses.
pub fn raise_open_files(most: usize) -> usize {
    // `None` is no limit.
    let count = |limit: Option<u64>| {
        limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        })
    };
    let limit = getrlimit(Resource::Nofile);
    let before = count(limit.current);
    let wanted = count(limit.maximum).min(most);
    let raised = Rlimit {
        current: u64::try_from(wanted).ok(),
        maximum: limit.maximum,
    };
    if wanted > before && setrlimit(Resource::Nofile, raised).is_ok() {
        return wanted;
    }
    before
}

/// Binds the calling thread to one of the processor cores that it may use: each index to a different one, as
/// long as there are enough.
///
/// # Errors
/// When the system refuses.
pub fn pin_to_core(index: usize) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&core| allowed.is_set(core))
        .collect();
    let Some(&core) = cores.get(index % cores.len().max(1)) else {
        return Ok(());
    };
    let mut one = CpuSet::new();
    one.set(core);
    Ok(sched_setaffinity(None, &one)?)
}

/// Returns large allocations to the system as soon as they are freed. Does nothing without glibc.
///
/// By default glibc gives a block a separate mapping only from a certain size on. It raises this size, up to
/// 32 MiB, with each large block that is freed, and keeps the freed memory: with a list of 1.5 million names
/// the server grew from 63 MB to 212 MB over twelve reloads.
pub fn return_large_allocations() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets a threshold inside the allocator, and holds the allocator's lock meanwhile.
    // If it fails, the default stays.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
    }
}

/// Returns freed memory, which the allocator keeps for later use, to the system. Does nothing without glibc.
///
/// The allocator has several areas of memory, each with a lock. This function holds the lock of one area after the
/// other, while it searches the free memory of that area: threads that allocate may wait for milliseconds.
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim touches only free memory of the allocator, and holds the allocator's locks meanwhile.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_open_files_is_never_lowered() {
        let before = raise_open_files(0);
        assert!(before > 0, "the limit before");
        assert_eq!(raise_open_files(before), before);
        assert!(raise_open_files(usize::MAX) >= before);
    }
}
