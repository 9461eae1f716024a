//! The request of another process to take over from this server: it turns a connection to the control socket into a
//! link between the two processes.

use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{StatusCode, Version};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The protocol that is spoken on the link, with its version. Programs with different ones can't take over from each
/// other.
pub const PROTOCOL: &str = "tapis-take-over/1";
/// The path of the request.
pub const PATH: &str = "/take-over";

/// A process that wants to take over.
#[derive(Debug)]
pub struct Successor {
    /// The link to it.
    pub link: StdStream,
    /// Until this is dropped, no other process can take over.
    pub turn: OwnedSemaphorePermit,
}

/// Passes a successor to the part of the server that deals with it.
#[derive(Clone, Debug)]
pub struct Successors {
    sender: mpsc::Sender<Successor>,
    turn: Arc<Semaphore>,
}

/// A sender of successors, and its receiver.
pub fn successors() -> (Successors, mpsc::Receiver<Successor>) {
    let (sender, receiver) = mpsc::channel(1);
    let turn = Arc::new(Semaphore::new(1));
    (Successors { sender, turn }, receiver)
}

impl Successors {
    /// Answers the request. Only the server's own user and root may take over.
    pub(super) fn answer(&self, mut request: Request, caller: u32, user: u32) -> Response {
        if caller != user && caller != 0 {
            let text = "only the server's user and root may take over from it";
            return (StatusCode::FORBIDDEN, text).into_response();
        }
        let asked = request.headers().get(UPGRADE);
        let asked = asked.map_or("none", |it| it.to_str().unwrap_or("an unknown protocol"));
        if asked != PROTOCOL || request.version() != Version::HTTP_11 {
            let text = format!(
                "this server (version {}) speaks {PROTOCOL}, and the new process {asked}, so it can't take over; restart the server instead",
                env!("CARGO_PKG_VERSION")
            );
            return (StatusCode::CONFLICT, text).into_response();
        }
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else {
            let text = "another process is taking over at this moment";
            return (StatusCode::CONFLICT, text).into_response();
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let sender = self.sender.clone();
        tokio::spawn(async move {
            // If this fails, the process has ended, and its turn ends, too.
            if let Ok(upgraded) = upgrade.await
                && let Some(link) = link(upgraded)
            {
                let _ = sender.send(Successor { link, turn }).await;
            }
        });
        let head = [(CONNECTION, "upgrade"), (UPGRADE, PROTOCOL)];
        (StatusCode::SWITCHING_PROTOCOLS, head).into_response()
    }
}

/// The connection below HTTP. The other process sends nothing before it has read the answer, so no byte is lost.
fn link(upgraded: Upgraded) -> Option<StdStream> {
    let parts = upgraded.downcast::<TokioIo<UnixStream>>().ok()?;
    let link = parts.io.into_inner().into_std().ok()?;
    link.set_nonblocking(false).ok()?;
    Some(link)
}
