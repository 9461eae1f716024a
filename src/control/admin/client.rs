//! The client of the control socket, for verbs such as `tapis status` and `tapis reload`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::HeaderMap;
use hyper::body::{Bytes, Incoming};
use hyper::header::RETRY_AFTER;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::trust;
use crate::config::shown::Show;

/// How long a server may take to answer a request that it carries out at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take otherwise: reading the largest lists takes a while.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_secs(300);

/// The pause before a request is repeated that a server has not answered because it ends.
const REPEAT_PAUSE: Duration = Duration::from_millis(50);

/// Why a request to a server failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No server listens there.
    #[error("no running server at {}: {source}; is `tapis serve` running, with the same configuration and user?", places(.tried))]
    Absent {
        /// The sockets that were tried.
        tried: Vec<PathBuf>,
        /// The system's error for the last one.
        source: io::Error,
    },
    /// A server listens there, or may do so, but this user may not open the socket.
    #[error("the control socket {path} may not be opened by this user: {source}; run this as root or as the server's user, or as a member of the group that [server] control-group names", path = .path.shown())]
    Denied {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The server there runs as a user that can't be trusted.
    #[error("the server at {path} runs as user {server}, and another user may have created its socket, so it is not trusted; run this as that user, or put the socket into a folder that only that user and root may write to, such as /run/tapis", path = .path.shown())]
    Untrusted {
        /// The socket.
        path: PathBuf,
        /// The user of the server.
        server: u32,
    },
    /// The connection failed.
    #[error("the connection to the server at {path} failed: {source}", path = .path.shown())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// The error.
        source: hyper::Error,
    },
    /// The server did not answer in time.
    #[error("the server at {path} did not answer within {} s{}; check its log", .after.as_secs(), may_follow(*.is_change), path = .path.shown())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// The time limit.
        after: Duration,
        /// Whether the request was to change something.
        is_change: bool,
    },
    /// The server rejected the request.
    #[error("the server at {path} says: {text}", path = .path.shown())]
    Said {
        /// The socket.
        path: PathBuf,
        /// Its error message.
        text: String,
    },
    /// The server is shutting down, and another one may follow.
    #[error("the server at {path} says: {text}", path = .path.shown())]
    Ending {
        /// The socket.
        path: PathBuf,
        /// Its error message.
        text: String,
    },
    /// The answer can't be written to where it should go.
    #[error(transparent)]
    Written(io::Error),
    /// The answer can't be parsed.
    #[error("the server at {path} is of another version: {source}; use the same `tapis` for both", path = .path.shown())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// The error.
        source: serde_json::Error,
    },
}

fn may_follow(is_change: bool) -> &'static str {
    match is_change {
        true => ", and may still do what was asked",
        false => "",
    }
}

fn places(tried: &[PathBuf]) -> String {
    let texts: Vec<_> = tried.iter().map(|path| path.shown().to_string()).collect();
    texts.join(" or ")
}

/// Sends a request to the first of `sockets` that has a server which `user` may trust, and waits for its answer no longer
/// than `after`. If `body` is `None`, the request is a GET, otherwise a POST.
///
/// # Errors
/// [`ClientError`].
pub async fn call<B: Serialize, T: DeserializeOwned>(
    sockets: &[PathBuf],
    user: u32,
    path: &str,
    body: Option<&B>,
    after: Duration,
) -> Result<T, ClientError> {
    let (stream, mut socket) = connect(sockets, user).await?;
    let deadline = Instant::now() + after;
    let mut answer = timeout_at(deadline, send(stream, socket, path, body)).await;
    // The server has not done what was asked, and another process may have taken over from it.
    while let Ok(Err(ClientError::Ending { .. })) = &answer {
        tokio::time::sleep(REPEAT_PAUSE).await;
        let Ok((stream, next)) = connect(sockets, user).await else {
            break;
        };
        socket = next;
        answer = timeout_at(deadline, send(stream, socket, path, body)).await;
    }
    let silent = |_| ClientError::Silent {
        path: socket.clone(),
        after,
        is_change: body.is_some(),
    };
    let bytes = answer.map_err(silent)??;
    serde_json::from_slice(&bytes).map_err(foreign(socket))
}

/// Like [`call`], for an answer of any length, whose parts are passed to `take`. Returns the trailers.
///
/// # Errors
/// [`ClientError`], also if `take` fails, and if the server has not sent everything.
pub async fn download<B: Serialize>(
    sockets: &[PathBuf],
    user: u32,
    path: &str,
    body: &B,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<HeaderMap, ClientError> {
    let (stream, socket) = connect(sockets, user).await?;
    let silent = |_| ClientError::Silent {
        path: socket.clone(),
        after: PATIENCE,
        is_change: false,
    };
    let answer = tokio::time::timeout(PATIENCE, request(stream, socket, path, Some(body)));
    let mut answer = answer.await.map_err(silent)??;
    let mut trailers = HeaderMap::new();
    loop {
        let frame = tokio::time::timeout(PATIENCE, answer.body.frame());
        let Some(frame) = frame.await.map_err(silent)? else {
            return Ok(trailers);
        };
        let frame = frame.map_err(broken(socket))?;
        match frame.into_data() {
            Ok(part) => take(&part).map_err(ClientError::Written)?,
            Err(other) => trailers.extend(other.into_trailers().unwrap_or_default()),
        }
    }
}

/// Connects to the first of `sockets` that has a server which `user` may trust.
async fn connect(sockets: &[PathBuf], user: u32) -> Result<(UnixStream, &PathBuf), ClientError> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    // If a socket exists, its error is of more use than "not found" for the last one.
    let mut refused = None;
    for socket in sockets {
        match UnixStream::connect(socket).await {
            Ok(stream) => match trust::untrusted(&stream, socket, user) {
                None => return Ok((stream, socket)),
                Some(server) => {
                    refused.get_or_insert(ClientError::Untrusted {
                        path: socket.clone(),
                        server,
                    });
                }
            },
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                refused.get_or_insert(ClientError::Denied {
                    path: socket.clone(),
                    source,
                });
            }
            Err(error) => last = error,
        }
    }
    Err(refused.unwrap_or_else(|| ClientError::Absent {
        tried: sockets.to_vec(),
        source: last,
    }))
}

fn broken(socket: &Path) -> impl Fn(hyper::Error) -> ClientError {
    |source| ClientError::Broken {
        path: socket.to_owned(),
        source,
    }
}

fn foreign(socket: &Path) -> impl Fn(serde_json::Error) -> ClientError {
    |source| ClientError::Foreign {
        path: socket.to_owned(),
        source,
    }
}

/// An answer whose body is still to be read.
struct Answer {
    body: Incoming,
    /// Drives the connection until this is dropped.
    _driver: AbortOnDropHandle<Result<(), hyper::Error>>,
}

/// Sends a request, and reads the whole answer.
async fn send<B: Serialize>(
    stream: UnixStream,
    socket: &Path,
    path: &str,
    body: Option<&B>,
) -> Result<Bytes, ClientError> {
    let answer = request(stream, socket, path, body).await?;
    let bytes = answer.body.collect().await.map_err(broken(socket))?;
    Ok(bytes.to_bytes())
}

/// Sends a request.
async fn request<B: Serialize>(
    stream: UnixStream,
    socket: &Path,
    path: &str,
    body: Option<&B>,
) -> Result<Answer, ClientError> {
    let (broken, foreign) = (broken(socket), foreign(socket));
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(&broken)?;
    let driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let bytes = body.map(serde_json::to_vec).transpose().map_err(foreign)?;
    let request = hyper::Request::builder()
        .method(if bytes.is_some() { "POST" } else { "GET" })
        .uri(path)
        .header("host", "tapis")
        .header("content-type", "application/json")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(bytes.unwrap_or_default())))
        .expect("method, path and headers are valid");
    let response = sender.send_request(request).await.map_err(&broken)?;
    let good = response.status().is_success();
    let is_ending = response.headers().contains_key(RETRY_AFTER);
    let body = response.into_body();
    if !good {
        let bytes = body.collect().await.map_err(broken)?.to_bytes();
        let path = socket.to_owned();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        return Err(match is_ending {
            true => ClientError::Ending { path, text },
            false => ClientError::Said { path, text },
        });
    }
    Ok(Answer {
        body,
        _driver: driver,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::user_id;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_an_error_that_says_whether_a_change_may_follow() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let _mute = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        for (body, expected) in [
            (Some(&()), "within 10 s, and may still do what was asked; "),
            (None, "within 10 s; "),
        ] {
            let sockets = std::slice::from_ref(&socket);
            let answer = call::<(), ()>(sockets, user_id(), "/log", body, PATIENCE).await;
            let error = answer.expect_err("silent").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
