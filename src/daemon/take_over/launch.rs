//! Starts a new process of the program that is on the disk now, to take over.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::config::shown::Show;
use crate::control::admin::successor::Successor;
use crate::sys::orphan::{self, Orphan};
use crate::sys::starter::Starter;

/// How long the new process may take to read its configuration and to connect.
const ARRIVING: Duration = Duration::from_secs(60);
/// The argument of a process that takes over.
const TAKE_OVER: &str = "--take-over";

/// Starts new processes.
#[derive(Debug)]
pub struct Launcher {
    /// The path of the program when this process started, or why it is not known; by now, another file may have it.
    program: Result<PathBuf, String>,
    arguments: Vec<OsString>,
    /// Starts them in place of this process.
    starter: Option<Starter>,
}

/// A process that was started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launched {
    /// Its number.
    pub(super) process: u32,
    /// When it was started.
    pub(super) at: Instant,
}

impl Launcher {
    /// Starts the program of this process, as this one was started. This must be called before the program can have been
    /// replaced.
    pub fn of_this_process() -> Self {
        let program = std::env::current_exe();
        Self {
            program: program.map_err(|error| error.to_string()),
            arguments: with_take_over(std::env::args_os().skip(1)),
            starter: None,
        }
    }

    /// From now on, another process starts them, so that they have none of the restrictions that this process gets later. Must
    /// be called before the process has threads.
    ///
    /// # Errors
    /// If the system refuses to fork.
    pub fn keep_unrestricted(&mut self) -> io::Result<()> {
        let is_first = std::process::id() == 1;
        let Some(program) = self.program.as_deref().ok().filter(|_| !is_first) else {
            // It can't start a process that takes over; see `leaves_the_service`.
            return Ok(());
        };
        let arguments = &self.arguments;
        self.starter = Some(Starter::fork(|| command(program, arguments))?);
        Ok(())
    }

    fn start(&self) -> io::Result<Orphan> {
        match (&self.starter, &self.program) {
            (Some(starter), _) => starter.start(),
            (None, Ok(program)) => orphan::start(command(program, &self.arguments)),
            (None, Err(error)) => Err(io::Error::other(error.clone())),
        }
    }

    /// Starts a process, and waits until it wants to take over.
    ///
    /// # Errors
    /// Why it does not want to, with the remedy.
    pub(super) async fn launch(
        self: &Arc<Self>,
        successors: &mut mpsc::Receiver<Successor>,
    ) -> Result<(Successor, Launched), String> {
        let unknown = |error| {
            format!("the path of the server's program is not known: {error}; restart it instead")
        };
        let program = self.program.as_deref().map_err(unknown)?;
        let started = Instant::now();
        let not_started = |error| format!("{} can't be started: {error}", program.shown());
        let this = Arc::clone(self);
        // The program may be on a file system that does not answer.
        let start = tokio::task::spawn_blocking(move || this.start());
        let orphan = start.await.unwrap_or_else(|error| Err(error.into()));
        let orphan = orphan.map_err(not_started)?;
        tracing::info!(program = %program.shown(), process = orphan.number, "started a process that takes over");
        tokio::select! {
            Some(successor) = successors.recv() => {
                let process = orphan.number;
                Ok((successor, Launched { process, at: started }))
            }
            _ = orphan.ended() => Err(format!(
                "{} ended before it took over; the log of the server has the reason",
                program.shown()
            )),
            () = tokio::time::sleep(ARRIVING) => {
                // It has no part in the service yet.
                orphan.kill();
                Err(format!("{} did not ask for the sockets within {} s", program.shown(), ARRIVING.as_secs()))
            }
        }
    }
}

/// A program that starts in the cgroup and with the rights of the process that starts it.
fn command(program: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        // They say that they are meant for this process only.
        .env_remove("WATCHDOG_PID")
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES");
    command
}

/// The arguments of a process that takes over from one with these.
fn with_take_over(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    if !arguments
        .iter()
        .any(|argument| argument == OsStr::new(TAKE_OVER))
    {
        arguments.push(TAKE_OVER.into());
    }
    arguments
}

/// Checks that the service manager will count a process as part of the service, if there is a service manager. `is_launched`
/// is whether this process has started it.
///
/// # Errors
/// The remedy if it would not: the service would count as ended.
pub(super) fn membership(process: u32, is_launched: bool) -> Result<(), String> {
    let is_notified = std::env::var_os("NOTIFY_SOCKET").is_some();
    let executed = std::env::var_os("SYSTEMD_EXEC_PID");
    leaves_the_service(std::process::id(), executed.as_deref(), is_notified)?;
    if !is_notified {
        return Ok(());
    }
    let group = |process: &str| std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok();
    let (ours, other) = (group("self"), group(&process.to_string()));
    let is_same = match other {
        Some(other) => ours.is_some_and(|ours| ours == other),
        // `ProtectProc=invisible` hides processes that this one may not trace, and Landlock forbids to trace one that it does
        // not restrict. A process begins in the group of the one that has started it.
        None => is_launched,
    };
    match is_same {
        true => Ok(()),
        false => Err(
            "it is a service of the service manager, and the new process is not part of that service; use `tapis upgrade`, which starts one that is"
                .to_owned(),
        ),
    }
}

/// Checks that the end of a process does not end its service, whichever process serves by then. `executed` is the process
/// that systemd has started; its children have that number in their environment as well.
fn leaves_the_service(
    process: u32,
    executed: Option<&OsStr>,
    is_notified: bool,
) -> Result<(), String> {
    if process == 1 {
        return Err(
            "it is the first process of its container, which would end with it; replace the container"
                .to_owned(),
        );
    }
    let is_executed = executed.is_some_and(|executed| executed == OsStr::new(&process.to_string()));
    match is_executed && !is_notified {
        true => Err(
            "systemd started it without NOTIFY_SOCKET, so it can't learn which process serves: use Type=notify in the unit, or restart it"
                .to_owned(),
        ),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_process_gets_the_arguments_of_this_one_and_takes_over_once() {
        let arguments = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let first = with_take_over(arguments("serve --config a.toml").into_iter());
        assert_eq!(first, arguments("serve --config a.toml --take-over"));
        assert_eq!(with_take_over(first.clone().into_iter()), first);
    }

    #[test]
    fn a_process_whose_end_would_end_its_service_does_not_hand_over() {
        let first = leaves_the_service(1, None, true).expect_err("of a container");
        assert!(first.contains("replace the container"), "{first}");
        let ours = Some(OsStr::new("4711"));
        let untold = leaves_the_service(4711, ours, false).expect_err("of a unit");
        assert!(untold.contains("Type=notify"), "{untold}");
        leaves_the_service(4711, ours, true).expect("systemd follows");
        leaves_the_service(4712, ours, false).expect("started by a service, but not by systemd");
        leaves_the_service(4711, None, false).expect("there is no systemd");
    }
}
