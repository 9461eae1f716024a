//! How the running process leaves the queries to the new one, and how it comes back if that one fails.

use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::daemon::link::{Link, LinkError, Message, SILENCE};
use crate::daemon::live::Live;
use crate::serve::transport::leaving::Left;

/// How long queries in progress may take: longer than any query waits for upstream with the default settings.
const DRAINING: Duration = Duration::from_secs(10);
/// How often to check whether all queries are answered.
const PERIOD: Duration = Duration::from_millis(5);
/// How long the new process may take to check that it reads all queries.
const CHECKING: Duration = Duration::from_secs(30);

/// Reads no more queries, answers those in progress, and leaves the connections to the new process. Returns how many
/// those are. Afterwards this process writes no query log.
///
/// # Errors
/// [`LinkError`]: the new process has ended, or hangs. [`come_back`] is needed then.
pub(super) fn leave(live: &Live, link: &Link) -> Result<usize, LinkError> {
    let parts = &live.0;
    link.set_patience(SILENCE)?;
    parts.listeners.pause();
    tracing::info!("another process answers queries: this one answers its last ones");
    let (sender, connections) = channel();
    parts.streams.leaving.begin(sender);
    let deadline = Instant::now() + DRAINING;
    let mut alive = Instant::now();
    let mut sent = 0;
    loop {
        // In this order: a connection is passed on before it counts as closed.
        let open = parts.streams.connections.in_use();
        let waiting = parts.resolver.waiting();
        sent += pass_on(&connections, link, deadline)?;
        if is_alive(link)? {
            alive = Instant::now();
        } else if alive.elapsed() > SILENCE {
            return Err(LinkError::Hung);
        }
        if open == 0 && waiting == 0 {
            break;
        }
        if Instant::now() > deadline {
            tracing::warn!(
                connections = open,
                queries = waiting,
                "not all queries were answered in time: the connections of their clients are closed at the end"
            );
            break;
        }
    }
    parts.recorder.close();
    link.send(&Message::Drained, None)?;
    tracing::info!(
        connections = sent,
        "answered the last query, and waits for the other process to confirm that it reads all queries"
    );
    Ok(sent)
}

/// Sends the connections that are left within a period.
fn pass_on(
    connections: &Receiver<Left>,
    link: &Link,
    deadline: Instant,
) -> Result<usize, LinkError> {
    let mut sent = 0;
    while Instant::now() <= deadline {
        match connections.recv_timeout(PERIOD) {
            Ok(Left { stream, received }) => {
                let message = Message::Connection { received };
                if link.send(&message, Some(stream.as_fd())).is_err() {
                    return Err(match link.has_ended() {
                        true => LinkError::ended(),
                        false => LinkError::Hung,
                    });
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
        sent += 1;
    }
    Ok(sent)
}

/// Reads the messages of the new process so far. Returns whether it has sent one, that is, whether it is not hung.
fn is_alive(link: &Link) -> Result<bool, LinkError> {
    let mut is_alive = false;
    while link.is_ready(Duration::ZERO) {
        match next(link, SILENCE)? {
            Message::Alive => is_alive = true,
            _ => return Err(LinkError::Strange),
        }
    }
    Ok(is_alive)
}

/// Waits until the new process has confirmed that it reads all queries.
///
/// # Errors
/// [`LinkError`]: it does not, or it hangs. [`come_back`] is needed then.
pub(super) fn wait_until_well(link: &Link) -> Result<(), LinkError> {
    let deadline = Instant::now() + CHECKING;
    // Nobody reads queries while it hangs.
    while link.is_ready(SILENCE) {
        match next(link, SILENCE)? {
            Message::Well => return Ok(()),
            Message::Alive if Instant::now() < deadline => {}
            Message::Alive => return Err(too_slow(CHECKING)),
            _ => return Err(LinkError::Strange),
        }
    }
    Err(LinkError::Hung)
}

/// The next message of the new process.
pub(super) fn next(link: &Link, patience: Duration) -> Result<Message, LinkError> {
    link.set_patience(patience)?;
    match link.receive() {
        Ok(Some((Message::Abort { reason }, _))) => {
            Err(io::Error::other(format!("the new process gave up: {reason}")).into())
        }
        Ok(Some((message, None))) => Ok(message),
        Ok(Some(_)) => Err(LinkError::Strange),
        Ok(None) => Err(LinkError::ended()),
        Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(too_slow(patience))
        }
        Err(error) => Err(error),
    }
}

fn too_slow(patience: Duration) -> LinkError {
    let seconds = patience.as_secs();
    io::Error::other(format!("the new process did not go on within {seconds} s")).into()
}

/// Reads queries again after [`leave`].
pub(super) fn come_back(live: &Live) {
    let parts = &live.0;
    parts.streams.leaving.end();
    parts.recorder.configure(&parts.recording());
    if let Err(error) = parts.listeners.resume() {
        // `Essential` ends the server, so that the service manager starts it again.
        tracing::error!(%error, "queries can't be read again");
    }
}
