//! Where the control socket is, and what happens without one.

use std::path::PathBuf;

use tokio::net::UnixListener;

use crate::config::Config;
use crate::control::socket::{self, SocketError, SocketFile};
use crate::sys::process::user_id;

/// Where the control socket may be, best first.
pub fn control_places(config: &Config) -> Vec<PathBuf> {
    match &config.server.control {
        Some(path) => vec![path.clone()],
        None => socket::candidates(user_id()),
    }
}

/// The control socket. Where the configuration names none, a place that can't be used is no reason not
/// to answer queries: `None`.
pub(super) fn control_socket(
    config: &Config,
    user: u32,
) -> Result<Option<(UnixListener, SocketFile)>, SocketError> {
    let configured = config.server.control.is_some();
    match socket::bind(&control_places(config), configured, user) {
        Err(error @ SocketError::Unusable { .. }) if !configured => {
            tracing::error!(%error, "no control socket: `status`, `reload`, `rollback` and `order` can't reach this server");
            Ok(None)
        }
        bound => bound.map(Some),
    }
}
