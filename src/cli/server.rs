//! Sends requests to the control socket of the running server.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::config::control;
use crate::control::admin::client::{self, ClientError, LONG_PATIENCE, PATIENCE};
use crate::sys::process::user_id;

/// The control socket to use.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ControlArgs {
    /// The server's control socket. The default is that of the configuration.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
}

impl ControlArgs {
    /// The possible paths of the server's control socket, the most likely one first.
    pub(super) fn sockets(&self, config: Option<&PathBuf>) -> Result<Vec<PathBuf>, Failure> {
        match &self.control {
            Some(socket) => Ok(vec![socket.clone()]),
            None => {
                let control = config.map(|path| control::socket(path)).transpose();
                let control = control.map_err(Failure::Config)?.flatten();
                Ok(crate::daemon::control_sockets(control.as_deref()))
            }
        }
    }
}

/// Gets a resource of the server, such as `/status`. The outer error means that this process could not ask a server.
pub(super) fn get<T: DeserializeOwned>(
    sockets: &[PathBuf],
    resource: &str,
) -> io::Result<Result<T, ClientError>> {
    request::<(), T>(sockets, resource, None, PATIENCE)
}

/// Like [`get`], with a limit of the time that the server may take.
pub(super) fn get_within<T: DeserializeOwned>(
    sockets: &[PathBuf],
    resource: &str,
    limit: Duration,
) -> io::Result<Result<T, ClientError>> {
    request::<(), T>(sockets, resource, None, limit)
}

/// Posts a request for which the server may have to read lists. The outer error is as for [`get`].
pub(super) fn post<B: Serialize, T: DeserializeOwned>(
    sockets: &[PathBuf],
    resource: &str,
    body: &B,
) -> io::Result<Result<T, ClientError>> {
    request(sockets, resource, Some(body), LONG_PATIENCE)
}

/// Posts a request that the server carries out at once. The outer error is as for [`get`].
pub(super) fn post_short<B: Serialize, T: DeserializeOwned>(
    sockets: &[PathBuf],
    resource: &str,
    body: &B,
) -> io::Result<Result<T, ClientError>> {
    request(sockets, resource, Some(body), PATIENCE)
}

fn request<B: Serialize, T: DeserializeOwned>(
    sockets: &[PathBuf],
    resource: &str,
    body: Option<&B>,
    limit: Duration,
) -> io::Result<Result<T, ClientError>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let call = client::call(sockets, user_id(), resource, body, limit);
    Ok(runtime.block_on(call))
}

/// Posts a request to the server, and passes the parts of its answer to `take`. Returns the trailers. The outer error is as
/// for [`get`].
pub(super) fn download<B: Serialize>(
    sockets: &[PathBuf],
    resource: &str,
    body: &B,
    take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Result<HeaderMap, ClientError>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(client::download(sockets, user_id(), resource, body, take)))
}
