//! Starts a program in a process that is no child of this one.
#![expect(
    unsafe_code,
    reason = "fork between fork and exec, and the registration of a descriptor, have no safe binding"
)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The length of a process number in the pipe.
const NUMBER: usize = size_of::<libc::pid_t>();

/// A process that was started.
#[derive(Debug)]
pub struct Orphan {
    /// Its number.
    pub number: u32,
    /// Is readable once it has ended.
    process: AsyncFd<OwnedFd>,
}

impl Orphan {
    /// The process with a number, which must have been started by [`spawn`] just now.
    ///
    /// # Errors
    /// If it has ended.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub(super) fn of(number: libc::pid_t) -> io::Result<Self> {
        let process = Pid::from_raw(number).ok_or(io::ErrorKind::InvalidData)?;
        let process = match pidfd_open(process, PidfdFlags::NONBLOCK) {
            Err(Errno::SRCH) => return Err(io::Error::other("it ended at once")),
            process => process?,
        };
        // SAFETY: an OwnedFd returns the same descriptor for as long as it lives, and the runtime's registration ends before
        // the OwnedFd is dropped.
        let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
        Ok(Self {
            number: number.unsigned_abs(),
            process: process?,
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If the system does not report it.
    pub async fn ended(&self) -> io::Result<()> {
        self.process.readable().await.map(|_| ())
    }

    /// Kills it, if it has not ended.
    pub fn kill(&self) {
        // An error means that it has ended.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }
}

/// Starts a program whose parent is init, or the next process that adopts orphans. systemd waits for the end of a main
/// process only if that is its own child, and otherwise kills it as soon as the service is stopped.
///
/// # Errors
/// If the program can't be started, or has ended by then.
///
/// # Panics
/// Outside of a Tokio runtime.
pub fn start(command: Command) -> io::Result<Orphan> {
    Orphan::of(spawn(command)?)
}

/// Starts a program in the same way, and returns the number of its process.
///
/// # Errors
/// If the program can't be started.
pub(super) fn spawn(mut command: Command) -> io::Result<libc::pid_t> {
    use std::os::unix::process::CommandExt;

    let (reader, writer) = io::pipe()?;
    let pipe = writer.as_raw_fd();
    // SAFETY: fork, write, _exit, sigemptyset and sigprocmask may be called between fork and exec, and nothing else is
    // called. The pipe is open until `spawn` has returned.
    unsafe {
        command.pre_exec(move || match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            // The process that starts it may have blocked signals.
            0 => unblock_signals(),
            number => {
                let bytes = number.to_ne_bytes();
                let written = libc::write(pipe, bytes.as_ptr().cast(), NUMBER);
                libc::_exit(i32::from(written != NUMBER as isize));
            }
        });
    }
    // Has returned when the program runs.
    let between = command.spawn()?.wait()?;
    drop(writer);
    let mut bytes = [0; NUMBER];
    File::from(OwnedFd::from(reader)).read_exact(&mut bytes)?;
    match between.success() {
        true => Ok(libc::pid_t::from_ne_bytes(bytes)),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Lets all signals through. May be called between fork and exec.
fn unblock_signals() -> io::Result<()> {
    // SAFETY: a plain C struct, which the first call fills; both calls have valid pointers.
    let result = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::process::Stdio;

    use super::*;

    #[tokio::test]
    async fn the_program_is_no_child_of_this_process_and_its_end_is_noticed() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let mut command = Command::new("sh");
        command
            .args(["-c", "cut -d' ' -f4 /proc/$$/stat; echo $$"])
            .stdout(Stdio::from(writer));
        let orphan = start(command).expect("it starts");
        let lines: Vec<_> = io::BufReader::new(reader)
            .lines()
            .map(|line| line.expect("a line"))
            .collect();
        assert_ne!(lines[0], std::process::id().to_string());
        assert_eq!(lines[1], orphan.number.to_string());
        orphan.ended().await.expect("it has ended");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let error = start(Command::new("/nonexistent/program")).expect_err("not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
