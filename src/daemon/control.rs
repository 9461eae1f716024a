//! Where the control socket is, and what happens without one.

use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::config::Config;
use crate::control::socket::{self, Access, SocketError, SocketFile};
use crate::sys::group::group_id;
use crate::sys::process::user_id;

/// Where the control socket may be, best first, if the configuration sets `control` to that.
pub fn control_places(control: Option<&Path>) -> Vec<PathBuf> {
    match control {
        Some(path) => vec![path.to_owned()],
        None => socket::candidates(user_id()),
    }
}

/// Who may use the control socket of a server that runs as `user`.
pub(super) fn access(config: &Config, user: u32) -> Result<Access, SocketError> {
    let group = config.server.control_group.as_deref();
    let group = group.map(group_of).transpose()?;
    Ok(Access { user, group })
}

/// The number of a group, given by its name or by that number.
fn group_of(name: &str) -> Result<u32, SocketError> {
    match (group_id(name), name.parse()) {
        (Ok(Some(group)), _) | (Ok(None), Ok(group)) => Ok(group),
        (Ok(None), Err(_)) => Err(SocketError::NoGroup(name.to_owned())),
        (Err(source), _) => Err(SocketError::UnknownGroup {
            name: name.to_owned(),
            source,
        }),
    }
}

/// The control socket. Where the configuration names none, a place that can't be used is no reason not
/// to answer queries: `None`.
pub(super) fn control_socket(
    config: &Config,
    user: u32,
) -> Result<Option<(UnixListener, SocketFile, Access)>, SocketError> {
    let access = access(config, user)?;
    let control = config.server.control.as_deref();
    let configured = control.is_some();
    match socket::bind(&control_places(control), configured, access) {
        Err(error @ SocketError::Unusable { .. }) if !configured => {
            tracing::error!(%error, "no control socket: `status`, `reload`, `rollback` and `order` can't reach this server");
            Ok(None)
        }
        bound => bound.map(|(listener, file)| Some((listener, file, access))),
    }
}
