//! Creates the control socket.

use std::io;
use std::path::{Path, PathBuf};

use super::inherited::Inherited;
use crate::config::Config;
use crate::control::admin::socket::{self, Access, BoundSocket, SocketError, SocketFile};
use crate::sys::group::{group_id, user_name};
use crate::sys::process::user_id;

/// The possible paths of the control socket, the best one first. `control` is the configuration's value.
pub fn control_sockets(control: Option<&Path>) -> Vec<PathBuf> {
    match control {
        Some(path) => vec![path.to_owned()],
        None => socket::candidates(user_id()),
    }
}

/// The users that may use the control socket of a server that runs as `user`. If the configured group does not exist or
/// can't be looked up, its members are left out, and a problem is returned as well.
pub(super) fn access(config: &Config, user: u32) -> (Access, Option<String>) {
    let group = config.server.control_group.as_deref();
    let (group, problem) = match group.map(group_of).transpose() {
        Ok(group) => (group, None),
        Err(error) => (None, Some(error.to_string())),
    };
    (Access { user, group }, problem)
}

/// The number of a group, which is given by name or number.
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

/// The problem if `user` is not permitted to give the control socket to the configured group.
pub(super) fn denied(config: &Config, user: u32, error: &io::Error) -> String {
    let group = config.server.control_group.as_deref().unwrap_or_default();
    let member = match user_name(user) {
        Some(name) => format!("run `usermod -aG {group} {name}`"),
        None => format!("make user {user} a member of group {group}"),
    };
    format!(
        "[server] control-group: members of group {group} can't use the control socket, as the server's user is not a \
         member and can't give it to them: {error}; {member}, and restart the server"
    )
}

/// Creates the control socket, or takes an inherited one; also returns a problem with its group. If the configuration names no path and none
/// of the default ones can be used, the server runs without it: `None`.
pub(super) fn control_socket(
    config: &Config,
    user: u32,
    inherited: &mut Inherited,
) -> Result<(Option<BoundSocket>, Option<String>), SocketError> {
    let (access, mut problem) = access(config, user);
    let control = config.server.control.as_deref();
    let configured = control.is_some();
    let paths = control_sockets(control);
    let passed = inherited.take_control(&paths);
    // If it can't be used, the other server goes on with it.
    let is_of_server = passed.as_ref().is_some_and(|it| it.owned.is_some());
    let bound = match passed {
        Some(passed) => socket::adopt(
            &passed.path,
            passed.listener,
            configured,
            access,
            passed.owned,
        ),
        None => socket::bind(&paths, configured, access),
    };
    let bound = match bound {
        Err(error @ (SocketError::Unusable { .. } | SocketError::Foreign { .. }))
            if !configured && !is_of_server =>
        {
            tracing::error!(%error, "no control socket: `status`, `reload`, `rollback` and `order` can't reach this server");
            return Ok((None, None));
        }
        bound => bound?,
    };
    let refused = bound.denied.as_ref();
    problem = problem.or(refused.map(|error| denied(config, user, error)));
    if let Some(problem) = &problem {
        tracing::error!("{problem}");
    }
    Ok((Some(bound), problem))
}

/// Takes the file of a control socket whose server has left it; returns a problem with its group.
pub(super) fn own(file: &SocketFile, config: &Config, user: u32) -> Option<String> {
    let error = file.own().err()?;
    // Without a group, connections of others are not accepted, whatever the permissions are.
    config.server.control_group.as_ref()?;
    let problem = denied(config, user, &error);
    tracing::error!("{problem}");
    Some(problem)
}
