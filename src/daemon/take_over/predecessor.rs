//! The running process: offers its sockets, parks, and leaves its connections to the new process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{mpsc, oneshot};

use crate::control::admin::requests::{Parking, Request};
use crate::control::admin::successor::Successor;
use crate::daemon::inherited::Described;
use crate::daemon::link::{Link, LinkError, Message};
use crate::daemon::live::Live;
use crate::serve::transport::stream::Left;

/// How long the new process may take to adopt the sockets.
const PREPARING: Duration = Duration::from_secs(30);
/// How long to wait until nothing is being written.
const QUIET: Duration = Duration::from_secs(30);
/// How long the new process may take to restore the policy: the compiler may have to read large lists.
const STARTING: Duration = Duration::from_secs(300);
/// How long a new process may take to end after `Abort`, before it is killed.
const ENDING: Duration = Duration::from_secs(5);

/// What is needed to hand over.
pub(crate) struct Predecessor {
    pub(crate) live: Live,
    pub(crate) requests: mpsc::Sender<Request>,
    /// The control socket.
    pub(crate) control: Option<(Described, OwnedFd)>,
}

/// The end of a successful take-over: the connections that are open are left to the new process.
pub(crate) struct Handover {
    /// Whether the new process has the control socket.
    pub(crate) has_control: bool,
    end: Sender<Option<Left>>,
    sending: tokio::task::JoinHandle<()>,
}

impl Predecessor {
    /// Waits for new processes, until one has taken over.
    pub(crate) async fn wait(self, mut successors: mpsc::Receiver<Successor>) -> Handover {
        let this = Arc::new(self);
        loop {
            let Some(Successor { link, turn }) = successors.recv().await else {
                // Without a control socket, there are no new processes.
                std::future::pending::<()>().await;
                continue;
            };
            let predecessor = Arc::clone(&this);
            let run = move || {
                let link = Link::new(link);
                let outcome = predecessor.hand_over(&link);
                drop(turn);
                outcome.map(|has_control| (has_control, link))
            };
            match tokio::task::spawn_blocking(run).await {
                Ok(Ok((has_control, link))) => {
                    tracing::info!("handed over: this process ends");
                    return this.leave_connections(has_control, link);
                }
                Ok(Err(error)) => tracing::warn!(%error, "a take-over failed"),
                Err(_) => tracing::error!(
                    "a take-over failed inside tapis, which is a bug; please report it"
                ),
            }
        }
    }

    /// Returns whether the new process has the control socket, once it serves. On an error, this process goes on.
    fn hand_over(&self, link: &Link) -> Result<bool, LinkError> {
        // Without it, a new process that does not end could not be killed.
        let process = pidfd_open(link.peer()?, PidfdFlags::empty()).map_err(io::Error::from)?;
        let (parked, is_parked) = oneshot::channel();
        let (commit, committed) = oneshot::channel();
        let outcome = self.lead(link, Parking { parked, committed }, is_parked);
        match outcome {
            Ok(has_control) => {
                // The control loop may have ended, because of a signal.
                let _ = commit.send(());
                Ok(has_control)
            }
            Err(error) => {
                end(link, &process, &error);
                // The control plane goes on as soon as the new process can't use the state directory any more.
                drop(commit);
                Err(error)
            }
        }
    }

    fn lead(
        &self,
        link: &Link,
        parking: Parking,
        is_parked: oneshot::Receiver<u64>,
    ) -> Result<bool, LinkError> {
        for (described, file) in self.sockets()? {
            link.send(&Message::Socket(described), Some(file.as_fd()))?;
        }
        let offer = Message::Offer {
            process: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        link.send(&offer, None)?;
        let Message::Prepared = next(link, PREPARING)? else {
            return Err(LinkError::Strange);
        };
        let ended = || LinkError::Refused("it is stopping".to_owned());
        let asked = self.requests.blocking_send(Request::Park(parking));
        asked.map_err(|_| ended())?;
        let waiting = tokio::time::timeout(QUIET, is_parked);
        let generation = match tokio::runtime::Handle::current().block_on(waiting) {
            Ok(parked) => parked.map_err(|_| ended())?,
            Err(_) => {
                return Err(LinkError::Refused(
                    "it is busy with lists or a rollback; try again when `tapis status` shows that this has ended"
                        .to_owned(),
                ));
            }
        };
        link.send(&Message::Parked { generation }, None)?;
        match next(link, STARTING)? {
            Message::Serving { has_control } => Ok(has_control),
            _ => Err(LinkError::Strange),
        }
    }

    fn sockets(&self) -> io::Result<Vec<(Described, OwnedFd)>> {
        let mut sockets = Vec::new();
        for endpoint in self.live.0.listeners.endpoints() {
            let configured = endpoint.configured;
            let tcp = endpoint.tcp.as_fd().try_clone_to_owned()?;
            sockets.push((Described::Tcp(configured), tcp));
            for udp in &endpoint.udp {
                let udp = udp.as_fd().try_clone_to_owned()?;
                sockets.push((Described::Udp(configured), udp));
            }
        }
        for (configured, listener) in self.live.0.monitoring.sockets()? {
            sockets.push((Described::Metrics(configured), listener.into()));
        }
        if let Some((described, file)) = &self.control {
            sockets.push((described.clone(), file.try_clone()?));
        }
        Ok(sockets)
    }

    /// From now on, connections are sent to the new process instead of being closed at the end.
    fn leave_connections(&self, has_control: bool, link: Link) -> Handover {
        let (end, connections) = channel();
        let (left, leave) = (end.clone(), move || send_connections(&link, &connections));
        // Only one process takes over.
        let _ = self.live.0.streams.successor.set(left);
        Handover {
            has_control,
            end,
            sending: tokio::task::spawn_blocking(leave),
        }
    }
}

impl Handover {
    /// Waits until all connections were sent. The service must have stopped.
    pub(crate) async fn finish(self) {
        // The thread ends early if the new process has died.
        let _ = self.end.send(None);
        let _ = self.sending.await;
    }
}

/// Sends connections until there is a `None`.
fn send_connections(link: &Link, connections: &Receiver<Option<Left>>) {
    let mut sent = 0_usize;
    while let Ok(Some(Left { stream, received })) = connections.recv() {
        if let Err(error) = link.send(&Message::Connection { received }, Some(stream.as_fd())) {
            return tracing::warn!(%error, "the new process does not take connections: they are closed");
        }
        sent += 1;
    }
    tracing::info!(connections = sent, "connections left to the new process");
    let _ = link.send(&Message::End, None);
}

/// The next message of the new process.
fn next(link: &Link, patience: Duration) -> Result<Message, LinkError> {
    link.set_patience(Some(patience))?;
    match link.receive() {
        Ok(Some((message, None))) => Ok(message),
        Ok(Some(_)) => Err(LinkError::Strange),
        Ok(None) => Err(io::Error::other("the new process has ended").into()),
        Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::other(format!(
                "the new process did not go on within {} s",
                patience.as_secs()
            ))
            .into())
        }
        Err(error) => Err(error),
    }
}

/// Makes sure that the new process has ended.
fn end(link: &Link, process: &OwnedFd, error: &LinkError) {
    let reason = match error {
        LinkError::Refused(reason) => reason.clone(),
        error => error.to_string(),
    };
    // If this fails, the process has ended.
    let _ = link.send(&Message::Abort { reason }, None);
    let has_ended = |patience| {
        let _ = link.set_patience(Some(patience));
        loop {
            match link.receive() {
                Ok(None) => return true,
                // A message that it sent before.
                Ok(Some(_)) | Err(LinkError::Strange) => {}
                Err(_) => return false,
            }
        }
    };
    if has_ended(ENDING) {
        return;
    }
    tracing::error!("the new process does not end: it is killed");
    if let Err(error) = pidfd_send_signal(process, Signal::KILL) {
        tracing::error!(%error, "the new process can't be killed; stop it, so that this one can go on");
    }
    while !has_ended(ENDING) {}
}
