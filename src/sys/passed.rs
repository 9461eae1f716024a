//! The file descriptors that a service manager passed to this process (sd_listen_fds(3)).
#![expect(
    unsafe_code,
    reason = "only this process can know that it owns the descriptors, and who uses the environment"
)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the descriptors have been taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A descriptor that was passed.
#[derive(Debug)]
pub struct Passed {
    /// The descriptor. Programs that this process starts don't get it.
    pub file: OwnedFd,
    /// Its number.
    pub number: i32,
    /// The name that the service manager gave it, which need not be unique.
    pub name: String,
}

/// Takes the descriptors that were passed, and removes the variables that announce them, so that no program that this process
/// starts takes them for its own. A second call returns none. This must be called before the process opens files that stay
/// open.
///
/// # Errors
/// If the variables of the environment that announce descriptors are invalid, or name one that is not open.
pub fn take_passed() -> io::Result<Vec<Passed>> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    // SAFETY: the server calls this first. At that time its only other thread is the log's, which does not use the
    // environment.
    let numbers = unsafe { sd_notify::listen_fds_with_names_and_unset_env() }?;
    let passed = numbers.map(|(number, name)| Passed {
        // SAFETY: LISTEN_PID is this process, so whoever started it left these descriptors to it alone. Each is taken
        // once, because of `TAKEN`. All of them are open: setting their flags has just succeeded. No other code of
        // the process has opened them, because they were open already.
        file: unsafe { OwnedFd::from_raw_fd(number) },
        number,
        name,
    });
    Ok(passed.collect())
}
