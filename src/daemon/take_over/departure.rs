//! How the running process leaves the queries to the new one, and how it comes back if that one fails.

use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::daemon::link::{Link, LinkError, Message};
use crate::daemon::live::Live;
use crate::serve::transport::leaving::Left;

/// How long queries in progress may take: longer than any query waits for upstream with the default settings.
const DRAINING: Duration = Duration::from_secs(10);
/// How often to check whether all queries are answered.
const PERIOD: Duration = Duration::from_millis(5);

/// Reads no more queries, answers those in progress, and leaves the connections to the new process. Returns how many
/// those are. Afterwards this process writes no query log.
///
/// # Errors
/// [`LinkError`]: the new process has ended, or does not read. [`come_back`] is needed then.
pub(super) fn leave(live: &Live, link: &Link) -> Result<usize, LinkError> {
    let parts = &live.0;
    parts.listeners.pause();
    tracing::info!("another process answers queries: this one answers its last ones");
    let (sender, connections) = channel();
    parts.streams.leaving.begin(sender);
    let deadline = Instant::now() + DRAINING;
    let mut sent = 0;
    loop {
        // In this order: a connection is passed on before it counts as closed.
        let open = parts.streams.connections.in_use();
        let waiting = parts.resolver.waiting();
        sent += pass_on(&connections, link)?;
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
        if link.has_ended() {
            return Err(LinkError::ended());
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
fn pass_on(connections: &Receiver<Left>, link: &Link) -> Result<usize, LinkError> {
    let mut sent = 0;
    loop {
        match connections.recv_timeout(PERIOD) {
            Ok(Left { stream, received }) => {
                link.send(&Message::Connection { received }, Some(stream.as_fd()))?;
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(sent),
        }
        sent += 1;
    }
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
