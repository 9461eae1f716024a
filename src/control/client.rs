//! Owns the other end of the control socket: what `tapis status` and `tapis reload` say to a server.
//! Refuses to print.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::socket;

/// Why a server could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No server listens there.
    #[error("no running server at {}: {source}; is `tapis serve` running, with the same configuration and user?", places(.tried))]
    Absent {
        /// Where it was looked for.
        tried: Vec<PathBuf>,
        /// What the system says of the last place.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the server at {path} broke off: {source}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: hyper::Error,
    },
    /// The server said no.
    #[error("the server at {path} says: {text}")]
    Said {
        /// The socket.
        path: PathBuf,
        /// What it said.
        text: String,
    },
    /// The answer is not of this version.
    #[error("the server at {path} speaks another version: {source}; use the same `tapis` for both")]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// What could not be read.
        source: serde_json::Error,
    },
}

fn places(tried: &[PathBuf]) -> String {
    let texts: Vec<_> = tried
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    texts.join(" or ")
}

/// Asks the server at the first of `sockets` where one of `user`'s own or of root's listens. Without `body` it is a GET, with
/// one a POST.
///
/// # Errors
/// [`ClientError`] when there is no answer.
pub async fn call<B: Serialize, T: DeserializeOwned>(
    sockets: &[PathBuf],
    user: u32,
    path: &str,
    body: Option<&B>,
) -> Result<T, ClientError> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for socket in sockets {
        match UnixStream::connect(socket).await {
            Ok(_) if !socket::trusted(socket, user) => {
                last = io::ErrorKind::PermissionDenied.into();
            }
            Ok(stream) => return talk(stream, socket, path, body).await,
            Err(error) => last = error,
        }
    }
    Err(ClientError::Absent {
        tried: sockets.to_vec(),
        source: last,
    })
}

async fn talk<B: Serialize, T: DeserializeOwned>(
    stream: UnixStream,
    socket: &Path,
    path: &str,
    body: Option<&B>,
) -> Result<T, ClientError> {
    let broken = |source| ClientError::Broken {
        path: socket.to_owned(),
        source,
    };
    let foreign = |source| ClientError::Foreign {
        path: socket.to_owned(),
        source,
    };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let octets = body.map(serde_json::to_vec).transpose().map_err(foreign)?;
    let request = hyper::Request::builder()
        .method(if octets.is_some() { "POST" } else { "GET" })
        .uri(path)
        .header("host", "tapis")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(octets.unwrap_or_default())))
        .expect("method, path and headers are valid");
    let response = sender.send_request(request).await.map_err(broken)?;
    let good = response.status().is_success();
    let octets = response
        .into_body()
        .collect()
        .await
        .map_err(broken)?
        .to_bytes();
    driver.abort();
    if !good {
        return Err(ClientError::Said {
            path: socket.to_owned(),
            text: String::from_utf8_lossy(&octets).into_owned(),
        });
    }
    serde_json::from_slice(&octets).map_err(foreign)
}
