//! The new process: gets the sockets, waits until the running process has parked, and takes over its connections.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::config::shown::Show;
use crate::control::admin::successor::{PATH, PROTOCOL};
use crate::daemon::essential::Guard;
use crate::daemon::inherited::Inherited;
use crate::daemon::link::{Link, LinkError, Message};
use crate::daemon::live::Live;
use crate::daemon::observer::QueryObserver;
use crate::serve::transport::stream::{Left, Streams};

/// How long the running process may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to park: longer than it waits for the end of its own work.
const PARKING: Duration = Duration::from_secs(60);
/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// A take-over from a running process that has not parked yet.
#[derive(Debug)]
pub(crate) struct TakeOver {
    link: Link,
}

impl TakeOver {
    /// Connects to the server at the first of `sockets` that has one, and gets its sockets; `None` if none runs.
    ///
    /// # Errors
    /// [`LinkError`]: the running server refuses, or the link fails before all sockets have arrived.
    pub(crate) fn begin(sockets: &[PathBuf]) -> Result<Option<(Self, Inherited)>, LinkError> {
        let found = sockets
            .iter()
            .find_map(|path| Some((path, UnixStream::connect(path).ok()?)));
        let Some((path, mut stream)) = found else {
            tracing::info!("no server is running, so there is none to take over from");
            return Ok(None);
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nhost: tapis\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        check_answer(&mut stream)?;
        let link = Link::new(stream);
        let mut inherited = Inherited::default();
        loop {
            match link.receive()? {
                Some((Message::Socket(described), Some(file))) => inherited
                    .add(file, Some(described))
                    .map_err(LinkError::Refused)?,
                Some((Message::Offer { process, version }, None)) => {
                    tracing::info!(process, version, socket = %path.shown(), "taking over");
                    inherited.process = Some(process);
                    return Ok(Some((Self { link }, inherited)));
                }
                Some((Message::Abort { reason }, _)) => return Err(LinkError::Refused(reason)),
                Some(_) => return Err(LinkError::Strange),
                None => return Err(LinkError::Refused("it has ended".to_owned())),
            }
        }
    }

    /// Waits until the running process has closed the state directory and the journal, or has died.
    ///
    /// # Errors
    /// [`LinkError`]: the running process goes on, or does not park in time.
    pub(crate) fn wait_until_parked(&self) -> Result<(), LinkError> {
        self.link.set_patience(Some(PARKING))?;
        if self.link.send(&Message::Prepared, None).is_err() {
            tracing::warn!("the other process has ended: this one goes on alone");
            return Ok(());
        }
        match self.link.receive()? {
            Some((Message::Parked { generation }, None)) => {
                tracing::info!(generation, "the other process is parked");
                Ok(())
            }
            Some((Message::Abort { reason }, _)) => Err(LinkError::Refused(reason)),
            Some(_) => Err(LinkError::Strange),
            None => {
                tracing::warn!("the other process has ended: this one goes on alone");
                Ok(())
            }
        }
    }

    /// Reports that this process answers queries, and serves the connections that the other one leaves. If the other
    /// process wants to go on after all, `guard` is dropped, which ends this one.
    pub(crate) fn commit(self, has_control: bool, live: Live, guard: Guard) {
        let runtime = Handle::current();
        // It waits for the other process, which may take as long as its queries.
        let work = move || {
            let _inside = runtime.enter();
            match self.follow(has_control, &live.0.streams) {
                Ok(connections) => tracing::info!(connections, "took over"),
                Err(error @ LinkError::Refused(_)) => {
                    tracing::error!(%error, "this process ends");
                    return drop(guard);
                }
                Err(error) => {
                    tracing::warn!(%error, "the other process has ended: this one goes on alone");
                }
            }
            guard.release();
        };
        let thread = std::thread::Builder::new().name("tapis-take-over".to_owned());
        if let Err(error) = thread.spawn(work) {
            tracing::error!(%error, "no thread for the take-over: this process ends");
        }
    }

    /// Returns how many connections were taken over.
    fn follow(
        &self,
        has_control: bool,
        streams: &Arc<Streams<QueryObserver>>,
    ) -> Result<usize, LinkError> {
        self.link.set_patience(None)?;
        self.link.send(&Message::Serving { has_control }, None)?;
        let mut connections = 0;
        loop {
            match self.link.receive()? {
                Some((Message::Connection { received }, Some(file))) => {
                    let stream = file.into();
                    // An error means that the client has gone.
                    if streams.adopt(Left { stream, received }).is_ok() {
                        connections += 1;
                    }
                }
                Some((Message::Abort { reason }, _)) => return Err(LinkError::Refused(reason)),
                Some((Message::End, _)) => return Ok(connections),
                Some(_) => return Err(LinkError::Strange),
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
        }
    }
}

/// Reads the head of the answer to the request, and nothing behind it.
fn check_answer(stream: &mut UnixStream) -> Result<(), LinkError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if head.len() > HEAD_MAX {
            return Err(LinkError::Strange);
        }
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    match head.split_whitespace().nth(1) {
        Some("101") => Ok(()),
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
