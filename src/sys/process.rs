//! Limits, identity, clocks and memory of this process.
#![expect(
    unsafe_code,
    reason = "signal, mallopt, malloc_trim and madvise have no safe binding"
)]

use std::ops::Range;
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

/// Makes a write beyond the limit of a file's size (RLIMIT_FSIZE) fail with an error. By default, it also sends a signal that
/// ends the process.
pub fn ignore_file_size_signal() {
    // SAFETY: ignoring a signal runs no code of this process.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
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

/// Unmaps the program's code, which the system maps again, part by part, where it runs. To be called after the start, which
/// runs much code that nothing else does. Does nothing without /proc.
///
/// The pages stay in the system's cache of files, from which it can drop them at any time. But while they are mapped, they
/// count as memory of this process.
pub fn unmap_code() {
    let Some(code) = fs::read_to_string("/proc/self/maps")
        .ok()
        .and_then(|maps| mapping(&maps, unmap_code as fn() as usize))
    else {
        return;
    };
    let start = std::ptr::with_exposed_provenance_mut::<libc::c_void>(code.start);
    // SAFETY: the range is a private mapping of a file that is not written to, so each of its pages has the bytes of the
    // file, and is mapped again when it is accessed. Only a debugger or a probe changes such pages.
    unsafe {
        libc::madvise(start, code.len(), libc::MADV_DONTNEED);
    }
}

/// The range of the mapping that has `address`, if it is code of a file, and can't be written to.
fn mapping(maps: &str, address: usize) -> Option<Range<usize>> {
    maps.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let hexadecimal = |text| usize::from_str_radix(text, 16).ok();
        let range = hexadecimal(start)?..hexadecimal(end)?;
        let is_code = words.next() == Some("r-xp");
        let is_of_file = words.nth(2).is_some_and(|inode| inode != "0");
        (range.contains(&address) && is_code && is_of_file).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmapped_code_runs_and_takes_memory_only_where_it_runs() {
        let mapped = || {
            let maps = fs::read_to_string("/proc/self/smaps").expect("readable");
            let range = mapping(&maps, unmap_code as fn() as usize).expect("this code");
            let this = maps
                .split_once(&format!("{:x}-{:x} ", range.start, range.end))
                .expect("its mapping")
                .1;
            let resident = this.lines().find_map(|line| line.strip_prefix("Rss:"));
            let kilobytes = resident.and_then(|text| text.trim().strip_suffix(" kB"));
            kilobytes.and_then(|text| text.parse::<usize>().ok())
        };
        let before = mapped();
        unmap_code();
        // Other tests may run.
        assert!(mapped() < before, "{before:?}");
        assert!(raise_open_files(0) > 0);
    }

    #[test]
    fn only_code_of_a_file_that_cannot_be_written_is_unmapped() {
        let of = |permissions, inode| {
            let maps = format!(
                "1000-2000 r--p 00000000 fe:00 7 /bin/tapis\n\
                 2000-3000 {permissions} 00001000 fe:00 {inode} /bin/tapis\n"
            );
            mapping(&maps, 0x2800)
        };
        assert_eq!(of("r-xp", "7"), Some(0x2000..0x3000));
        assert_eq!(of("rwxp", "7"), None);
        assert_eq!(of("r--p", "7"), None);
        assert_eq!(of("r-xp", "0"), None);
    }

    #[test]
    fn the_number_of_open_files_is_never_lowered() {
        let before = raise_open_files(0);
        assert!(before > 0, "the limit before");
        assert_eq!(raise_open_files(before), before);
        assert!(raise_open_files(usize::MAX) >= before);
    }
}
