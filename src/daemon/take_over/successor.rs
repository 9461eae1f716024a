//! The new process: gets the sockets, waits until the running process has parked, answers queries, and takes over all else.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::predecessor::has_ended;
use super::warming::Warm;
use crate::config::shown::Show;
use crate::control::admin::successor::{PATH, PROTOCOL};
use crate::control::admin::trust;
use crate::daemon::inherited::Inherited;
use crate::daemon::link::{Link, LinkError, Message, PULSE};
use crate::daemon::live::Live;
use crate::daemon::watchdog::Watchdog;
use crate::serve::transport::leaving::Left;
use crate::sys::process::user_id;
use crate::wire::answer::Intake;

/// How long the running process may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to park: longer than it waits for the end of its own work.
const PARKING: Duration = Duration::from_secs(60);
/// How long it may take to end after the end of the link. It keeps the lock of the state directory until then.
const ENDING: Duration = Duration::from_secs(10);
/// How long it may take to answer its last queries.
const DRAINING: Duration = Duration::from_secs(60);
/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 64 << 10;
/// How often this process checks that it reads all queries, before the other one ends, with a pause of [`PULSE`].
const CHECKS: usize = 4;

/// A take-over from a running process.
#[derive(Debug)]
pub(crate) struct TakeOver {
    link: Link,
    /// The running process.
    process: OwnedFd,
    /// Whether this process ends before the take-over is complete.
    is_given_up: AtomicBool,
}

/// What a process that takes over has got from the running one, or will get.
pub(crate) enum Begun {
    /// A take-over from a running process that has not parked yet, and its sockets.
    From(TakeOver, Inherited),
    /// No server runs, or it has just ended. These are the sockets that it had passed on by then.
    Alone(Inherited),
}

impl TakeOver {
    /// Connects to the server at the first of `sockets` that has one, and gets its sockets.
    ///
    /// # Errors
    /// [`LinkError`]: the running server refuses, or this process may not trust it, or its messages can't be read.
    pub(crate) fn begin(sockets: &[PathBuf]) -> Result<Begun, LinkError> {
        let found = sockets
            .iter()
            .find_map(|path| Some((path, UnixStream::connect(path).ok()?)));
        let Some((path, stream)) = found else {
            tracing::info!("no server is running, so there is none to take over from");
            return Ok(Begun::Alone(Inherited::default()));
        };
        let mut inherited = Inherited::default();
        match receive_sockets(path, stream, &mut inherited)? {
            Some((link, process)) => {
                let is_given_up = AtomicBool::new(false);
                let this = Self {
                    link,
                    process,
                    is_given_up,
                };
                Ok(Begun::From(this, inherited))
            }
            None => {
                tracing::warn!(
                    "the running server has ended: this process starts with what it had passed on"
                );
                inherited.process = None;
                Ok(Begun::Alone(inherited))
            }
        }
    }

    /// Waits until the running process has closed the state directory and the journal, or has died. Returns answers of its
    /// cache, to be kept within the limits of `intake`.
    ///
    /// # Errors
    /// [`LinkError`]: the running process goes on, or does not park in time.
    pub(crate) fn wait_until_parked(&self, intake: Intake) -> Result<Option<Warm>, LinkError> {
        self.link.set_patience(PARKING)?;
        let prepared = Message::Prepared {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        // If the other process has ended, the link is at its end.
        let _ = self.link.send(&prepared, None);
        let mut warm = None;
        loop {
            match self.link.receive()? {
                Some((Message::Cache, Some(file))) => warm = Some(Warm::read(file, intake)),
                Some((Message::Parked { generation }, None)) => {
                    tracing::info!(generation, "the other process is parked");
                    return Ok(warm);
                }
                Some((Message::Abort { reason }, _)) => return Err(LinkError::Refused(reason)),
                Some(_) => return Err(LinkError::Strange),
                None => {
                    if !has_ended(&self.process, ENDING) {
                        tracing::warn!("the other process has closed the link, but does not end");
                    }
                    tracing::warn!("the other process has ended: this one goes on alone");
                    return Ok(warm);
                }
            }
        }
    }

    /// Gives up before the take-over is complete: the running process goes on at once. This process must end.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
        self.link.close();
    }

    /// Reports that this process answers queries, and waits until the other one has left everything to it, or has died.
    /// `has_control` is whether this process uses the control socket of the other one.
    ///
    /// # Errors
    /// [`LinkError`]: the other process goes on, so this one must end.
    pub(crate) fn complete(&self, has_control: bool, live: &Live) -> Result<(), LinkError> {
        // If the other process has ended, the link is at its end.
        let _ = self.link.send(&Message::Serving { has_control }, None);
        self.link.set_patience(DRAINING)?;
        let (mut connections, mut is_drained) = (0, false);
        let (mut heard, mut shown) = (Instant::now(), Instant::now());
        loop {
            if !is_drained && shown.elapsed() >= PULSE {
                self.show_life();
                shown = Instant::now();
            }
            if !self.link.is_ready(PULSE) {
                if heard.elapsed() >= DRAINING {
                    self.kill_hung()?;
                    heard = Instant::now();
                }
                continue;
            }
            let received = match self.link.receive() {
                Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.kill_hung()?;
                    continue;
                }
                received => received?,
            };
            heard = Instant::now();
            match received {
                Some((Message::Connection { received }, Some(file))) => {
                    let stream = file.into();
                    // An error means that the client has gone.
                    if live.0.streams.adopt(Left { stream, received }).is_ok() {
                        connections += 1;
                    }
                }
                Some((Message::Drained, _)) => {
                    is_drained = true;
                    tracing::info!("the other process has answered its last query");
                    live.0.recorder.release();
                    self.check(live)?;
                    // If the other process has ended, the link is at its end.
                    let _ = self.link.send(&Message::Well, None);
                }
                Some((Message::Abort { reason }, _)) => return Err(LinkError::Refused(reason)),
                Some((Message::End, _)) if is_drained => {
                    tracing::info!(connections, "took over");
                    return Ok(());
                }
                Some(_) => return Err(LinkError::Strange),
                None if self.is_given_up.load(Ordering::Relaxed) => return Err(LinkError::ended()),
                None => {
                    make_end(&self.process, ENDING)?;
                    live.0.recorder.release();
                    tracing::warn!(
                        connections,
                        "the other process has ended: this one goes on alone"
                    );
                    return Ok(());
                }
            }
        }
    }

    fn kill_hung(&self) -> Result<(), LinkError> {
        tracing::error!("the other process hangs: it is killed");
        kill(&self.process)
    }

    /// Shows the other process, which reads no queries any more, that this one is not hung.
    fn show_life(&self) {
        // If the other process has ended, the link is at its end.
        let _ = self.link.send(&Message::Alive, None);
    }

    /// Checks for a while that each UDP worker reads what arrives.
    fn check(&self, live: &Live) -> Result<(), LinkError> {
        let (mut watchdog, mut was_well) = (Watchdog::new(Instant::now()), true);
        for _ in 0..CHECKS {
            self.show_life();
            // The control loop does not run yet.
            let checked = watchdog.check(live.0.workers(), 0, Instant::now());
            let is_well = checked.is_ok();
            // On a busy machine, a worker may have to wait for a processor for so long once.
            if !was_well {
                checked.map_err(LinkError::Unwell)?;
            }
            was_well = is_well;
            std::thread::sleep(PULSE);
        }
        Ok(())
    }
}

/// Makes sure that the other process has ended, after it has closed the link. Otherwise both would use the control socket.
fn make_end(process: &OwnedFd, patience: Duration) -> Result<(), LinkError> {
    if has_ended(process, patience) {
        return Ok(());
    }
    tracing::error!("the other process has closed the link, but does not end: it is killed");
    kill(process)?;
    match has_ended(process, ENDING) {
        true => Ok(()),
        false => Err(LinkError::Silent),
    }
}

fn kill(process: &OwnedFd) -> Result<(), LinkError> {
    match pidfd_send_signal(process, Signal::KILL) {
        // It has just ended.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(_) => Err(LinkError::Silent),
    }
}

/// Gets the sockets of the server at `path`; `None` if it has ended.
fn receive_sockets(
    path: &Path,
    mut stream: UnixStream,
    inherited: &mut Inherited,
) -> Result<Option<(Link, OwnedFd)>, LinkError> {
    // The sockets of another user's process could be anything, and so could the path that it names.
    if let Some(user) = trust::untrusted(&stream, path, user_id()) {
        return Err(LinkError::Untrusted {
            path: path.to_owned(),
            user,
        });
    }
    Link::ask_for_senders(&stream)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: tapis\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}\r\ncontent-length: 0\r\n\r\n"
    );
    // If the server has ended, it sends no answer.
    let _ = stream.write_all(request.as_bytes());
    if !is_accepted(&mut stream)? {
        return Ok(None);
    }
    let link = Link::new(stream);
    while let Some(received) = link.receive_all()? {
        match received.message {
            Message::Socket(described) => {
                let file = received.file.ok_or(LinkError::Strange)?;
                let added = inherited.add(file, Some(described));
                added.map_err(LinkError::Refused)?;
            }
            Message::Offer { process, version } if received.file.is_none() => {
                // This process may wait for the end of the other one, and may kill it, so its number must be right.
                let sender = received
                    .sender
                    .map_or(0, |sender| sender.as_raw_pid().unsigned_abs());
                if sender != process {
                    return Err(LinkError::Impostor {
                        path: path.to_owned(),
                        named: process,
                        sender,
                    });
                }
                if let Some(process) = open_process(&link, received.sender)? {
                    tracing::info!(process = sender, version, socket = %path.shown(), "taking over");
                    inherited.process = Some(sender);
                    return Ok(Some((link, process)));
                }
                // It has closed the link: the next message is the reason, or the end.
            }
            Message::Abort { reason } => return Err(LinkError::Refused(reason)),
            _ => return Err(LinkError::Strange),
        }
    }
    Ok(None)
}

/// Opens the process that sent a message; `None` if it has ended.
fn open_process(link: &Link, sender: Option<Pid>) -> Result<Option<OwnedFd>, LinkError> {
    let sender = sender.ok_or(LinkError::Strange)?;
    let process = match pidfd_open(sender, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        process => process.map_err(io::Error::from)?,
    };
    // If it had ended before, its number could have been another process's already.
    Ok((!link.has_ended()).then_some(process))
}

/// Reads the head of the answer to the request, and nothing behind it. False if the server has ended.
fn is_accepted(stream: &mut UnixStream) -> Result<bool, LinkError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if head.len() > HEAD_MAX {
            return Err(LinkError::Strange);
        }
        match stream.read(&mut byte) {
            Ok(0) => return Ok(false),
            Ok(_) => head.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(LinkError::Silent);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let head = String::from_utf8_lossy(&head);
    match head.split_whitespace().nth(1) {
        Some("101") => Ok(true),
        Some("404") => Err(LinkError::Refused(
            "its version is too old for that; restart it instead".to_owned(),
        )),
        _ => {
            let mut text = String::new();
            // The server closes the connection after its text.
            let _ = stream.take(HEAD_MAX as u64).read_to_string(&mut text);
            Err(LinkError::Refused(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_has_closed_the_link_and_does_not_end_is_killed() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("started");
        let number = Pid::from_child(&child);
        let process = pidfd_open(number, PidfdFlags::empty()).expect("it runs");
        make_end(&process, Duration::from_millis(10)).expect("killed");
        assert_eq!(child.wait().expect("ended").code(), None, "by a signal");
        make_end(&process, Duration::ZERO).expect("it has ended");
    }
}
