//! Owns what the process asks of the system about itself, and how its memory goes back there.
//! Refuses to interpret it.
#![expect(unsafe_code, reason = "none of these calls has a safe binding in std")]

use std::io;
use std::time::Duration;

/// Allocations from this size on are mappings of their own.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 1 << 20;

/// The user that the process runs as.
pub fn user_id() -> u32 {
    // SAFETY: geteuid takes nothing, touches no memory and always succeeds.
    unsafe { libc::geteuid() }
}

/// For how long the system was suspended since it was started: what CLOCK_BOOTTIME counts and
/// CLOCK_MONOTONIC, which `Instant` uses, does not.
#[cfg(target_os = "linux")]
pub fn suspended() -> Duration {
    let read = |clock| {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the pointer is that of `time`, which outlives the call. With these clocks it fails
        // on no Linux since 2.6.39; then the time stays zero.
        unsafe { libc::clock_gettime(clock, &raw mut time) };
        Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec as u32)
    };
    // In this order the difference is never too large by the time between the calls.
    let all = read(libc::CLOCK_BOOTTIME);
    all.saturating_sub(read(libc::CLOCK_MONOTONIC))
}

/// Always zero, where there is no such clock.
#[cfg(not(target_os = "linux"))]
pub fn suspended() -> Duration {
    Duration::ZERO
}

/// Lets the process have as many files open as it may allow itself, but for no more than `most`.
/// Returns how many that are now.
///
/// # Errors
/// When the system does not tell its limit. That it does not let it be raised is no error.
pub fn raise_open_files(most: usize) -> io::Result<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is that of `limit`, which outlives the call and is borrowed for it alone.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let before = limit.rlim_cur;
    let most = libc::rlim_t::try_from(most).unwrap_or(libc::RLIM_INFINITY);
    limit.rlim_cur = limit.rlim_max.min(most);
    if limit.rlim_cur > before {
        // SAFETY: the pointer is that of `limit`, which outlives the call and is only read.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        if result == 0 {
            return Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX));
        }
    }
    Ok(usize::try_from(before).unwrap_or(usize::MAX))
}

/// Keeps the calling thread on one of the processor cores that it may use: each index has another
/// one, as long as there are enough.
///
/// # Errors
/// What the system says.
#[cfg(target_os = "linux")]
pub fn pin_to_core(index: usize) -> io::Result<()> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer and the size are those of `set`, which outlives the call.
    if unsafe { libc::sched_getaffinity(0, size, &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the numbers are below CPU_SETSIZE.
    let allowed = |core: &usize| unsafe { libc::CPU_ISSET(*core, &set) };
    let cores: Vec<usize> = (0..libc::CPU_SETSIZE as usize).filter(allowed).collect();
    let Some(&core) = cores.get(index % cores.len().max(1)) else {
        return Ok(());
    };
    // SAFETY: as above.
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(core, &mut one) };
    // SAFETY: the pointer and the size are those of `one`, which is only read.
    match unsafe { libc::sched_setaffinity(0, size, &raw const one) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Nothing, where the system can't be asked for it.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn pin_to_core(_index: usize) -> io::Result<()> {
    Ok(())
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

/// Gives memory back to the system that was freed and is kept in case it is needed again.
///
/// Takes the locks of the allocator one after the other, each for as long as it looks through its free
/// memory: threads that allocate may wait for milliseconds. Elsewhere than with glibc this does nothing.
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim touches free memory of the allocator alone, and locks for it.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_open_files_is_never_lowered() {
        let before = raise_open_files(0).expect("a limit");
        assert!(before > 0, "so much was allowed already");
        assert_eq!(raise_open_files(before).expect("a limit"), before);
        assert!(raise_open_files(usize::MAX).expect("a limit") >= before);
    }
}
