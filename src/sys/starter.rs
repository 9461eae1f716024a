//! A process that starts a program when this one asks for it.
//!
//! Restrictions that a process puts on itself hold for all programs that it starts. This process is forked before, and has
//! none of them. Which program it starts is fixed when it is forked.
#![expect(
    unsafe_code,
    reason = "fork, and the mask of signals, have no safe binding"
)]

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use super::orphan::{self, Orphan};
use super::process::has_other_threads;

/// How long it may take to start a program, whose file may be on a file system of the network.
const PATIENCE: Duration = Duration::from_secs(10);
/// The length of an answer: the number of an error of the system, or 0, and the number of the process.
const ANSWER: usize = 8;
/// The name of the process in lists of processes.
const NAME: &std::ffi::CStr = c"tapis-starter";

/// The process. It ends when this value is dropped, and when the process that has forked it ends.
#[derive(Debug)]
pub struct Starter {
    channel: UnixStream,
}

impl Starter {
    /// Forks it. `command` makes the command each time that the program is started.
    ///
    /// # Errors
    /// If the system refuses, or this process has several threads: their locks would stay locked for ever in the new process.
    pub fn fork(command: impl Fn() -> Command) -> io::Result<Self> {
        if has_other_threads() {
            return Err(io::Error::other("there are other threads"));
        }
        let (channel, other) = UnixStream::pair()?;
        // SAFETY: this process has one thread, so the new process may do all that this one may. It ends below.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                // Otherwise it would wait for its own end.
                drop(channel);
                let run = || {
                    prepare(other.as_raw_fd());
                    serve(&other, &command);
                };
                // A panic has been printed. It must not return to the caller, where the server would start once more.
                let _ = catch_unwind(AssertUnwindSafe(run));
                // SAFETY: ends the process at once, without the destructors of values that belong to the other one.
                unsafe { libc::_exit(0) }
            }
            _ => {}
        }
        channel.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { channel })
    }

    /// Starts the program. It is no child of either process.
    ///
    /// # Errors
    /// If the program can't be started, or has ended by then, or the starter has ended.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(&self) -> io::Result<Orphan> {
        let answer = self.ask().inspect_err(|_| {
            // A late answer must not be taken for that to the next request.
            let _ = self.channel.shutdown(std::net::Shutdown::Both);
        });
        let lost = |error| {
            let text = format!(
                "the process {NAME:?}, which starts others, does not answer: {error}; restart the server instead"
            );
            io::Error::other(text)
        };
        Orphan::of(answer.map_err(lost)??)
    }

    fn ask(&self) -> io::Result<io::Result<i32>> {
        let mut channel = &self.channel;
        channel.write_all(&[1])?;
        let mut answer = [0; ANSWER];
        channel.read_exact(&mut answer)?;
        let [e0, e1, e2, e3, n0, n1, n2, n3] = answer;
        let number = i32::from_ne_bytes([n0, n1, n2, n3]);
        Ok(match i32::from_ne_bytes([e0, e1, e2, e3]) {
            0 => Ok(number),
            error => Err(io::Error::from_raw_os_error(error)),
        })
    }
}

/// Separates the new process from the one that has forked it.
fn prepare(channel: RawFd) {
    // If this fails, it has the name of the other one.
    let _ = rustix::thread::set_name(NAME);
    // Signals to all processes of a terminal or of a service must not end it: the program that it has just started may be
    // needed still. It ends with the other process. `orphan::spawn` lets the signals of that program through.
    // SAFETY: a plain C struct, which the first call fills; both calls have valid pointers.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
    // Of the descriptors, it needs the channel, and standard error for the program that it starts. On older kernels than
    // Linux 5.9, or if a filter of system calls forbids it, others stay open.
    for (first, last) in [(3, channel - 1), (channel + 1, i32::MAX)] {
        if first <= last {
            // SAFETY: the values that own these descriptors are neither used nor dropped in this process.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// Answers requests until the other process has ended.
fn serve(mut channel: &UnixStream, command: impl Fn() -> Command) {
    while channel.read_exact(&mut [0]).is_ok() {
        let (error, number) = match orphan::spawn(command()) {
            Ok(number) => (0, number),
            Err(error) => (error.raw_os_error().unwrap_or(libc::EIO), 0),
        };
        let answer = [error.to_ne_bytes(), number.to_ne_bytes()].concat();
        if channel.write_all(&answer).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread::spawn;

    use super::*;

    /// A starter that is a thread.
    fn starter(program: &str, argument: &str) -> Starter {
        let (channel, other) = UnixStream::pair().expect("a pair");
        channel.set_read_timeout(Some(PATIENCE)).expect("set");
        let (program, argument) = (program.to_owned(), argument.to_owned());
        spawn(move || {
            serve(&other, || {
                let mut command = Command::new(&program);
                command.args(["-c", &argument]);
                command
            });
        });
        Starter { channel }
    }

    #[tokio::test]
    async fn it_starts_a_program_each_time_that_it_is_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("started");
        let starter = starter("sh", &format!("echo $$ >> {}", file.display()));
        let mut numbers = String::new();
        for _ in 0..2 {
            let orphan = starter.start().expect("it starts");
            numbers += &format!("{}\n", orphan.number);
            orphan.ended().await.expect("it has ended");
        }
        assert_eq!(fs::read_to_string(file).expect("written"), numbers);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error_each_time() {
        let starter = starter("/nonexistent/program", "");
        for _ in 0..2 {
            let error = starter.start().expect_err("not there");
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }

    #[tokio::test]
    async fn without_the_starter_the_error_names_the_remedy() {
        let (channel, _) = UnixStream::pair().expect("a pair");
        let error = Starter { channel }.start().expect_err("nobody answers");
        assert!(error.to_string().contains("restart the server"), "{error}");
    }

    #[test]
    fn a_process_with_several_threads_is_not_forked() {
        let error = spawn(|| Starter::fork(|| Command::new("true")))
            .join()
            .expect("no panic")
            .expect_err("there is the thread of the test");
        assert!(error.to_string().contains("threads"), "{error}");
    }
}
