//! Finds the running server and asks it, for the verbs that need one.

use std::io;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::config::control;
use crate::control::admin::client::{ClientError, call};
use crate::sys::process::user_id;

/// Which server to talk to.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ControlArgs {
    /// The server's control socket. The default is that of the configuration.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
}

impl ControlArgs {
    /// The paths where the server's socket may be, the most likely one first.
    pub(super) fn places(&self, config: Option<&PathBuf>) -> Result<Vec<PathBuf>, Failure> {
        match &self.control {
            Some(socket) => Ok(vec![socket.clone()]),
            None => {
                let control = config.map(|path| control::socket(path)).transpose();
                let control = control.map_err(Failure::Config)?.flatten();
                Ok(crate::daemon::control_places(control.as_deref()))
            }
        }
    }
}

/// Gets a resource of the server, such as `/status`. The outer error is one of this process, before a server was asked.
pub(super) fn get<T: DeserializeOwned>(
    places: &[PathBuf],
    resource: &str,
) -> io::Result<Result<T, ClientError>> {
    request::<(), T>(places, resource, None)
}

/// Posts a request to the server. The outer error is as for [`get`].
pub(super) fn post<B: Serialize, T: DeserializeOwned>(
    places: &[PathBuf],
    resource: &str,
    body: &B,
) -> io::Result<Result<T, ClientError>> {
    request(places, resource, Some(body))
}

fn request<B: Serialize, T: DeserializeOwned>(
    places: &[PathBuf],
    resource: &str,
    body: Option<&B>,
) -> io::Result<Result<T, ClientError>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(call(places, user_id(), resource, body)))
}
