//! Where the control socket is, and what happens without one.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::control::admin::socket;
use crate::control::admin::socket::Access;
use crate::control::admin::socket::Bound;
use crate::control::admin::socket::SocketError;
use crate::sys::group::{group_id, user_name};
use crate::sys::process::user_id;

/// Where the control socket may be, best first, if the configuration sets `control` to that.
pub fn control_places(control: Option<&Path>) -> Vec<PathBuf> {
    match control {
        Some(path) => vec![path.to_owned()],
        None => socket::candidates(user_id()),
    }
}

/// Who may use the control socket of a server that runs as `user`, and why members of the group may not if there is
/// no telling which group that is.
pub(super) fn access(config: &Config, user: u32) -> (Access, Option<String>) {
    let group = config.server.control_group.as_deref();
    let (group, problem) = match group.map(group_of).transpose() {
        Ok(group) => (group, None),
        Err(error) => (None, Some(error.to_string())),
    };
    (Access { user, group }, problem)
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

/// Why members of the group can't use the control socket, if the system does not let `user` give it to them.
pub(super) fn denied(config: &Config, user: u32, error: &io::Error) -> String {
    let group = config.server.control_group.as_deref().unwrap_or_default();
    let member = match user_name(user) {
        Some(name) => format!("`usermod -aG {group} {name}` makes it one"),
        None => format!("make user {user} a member of group {group}"),
    };
    format!(
        "[server] control-group: members of group {group} can't use the control socket, as the server's user is no member \
         and can't give it to them: {error}; {member}, from the server's next start on"
    )
}

/// The control socket, and what it lacks. Where the configuration names none, a place that can't be used is no
/// reason not to answer queries: `None`. Nor is a group that can't be given access.
pub(super) fn control_socket(
    config: &Config,
    user: u32,
) -> Result<(Option<Bound>, Option<String>), SocketError> {
    let (access, mut problem) = access(config, user);
    let control = config.server.control.as_deref();
    let configured = control.is_some();
    let bound = match socket::bind(&control_places(control), configured, access) {
        Err(error @ (SocketError::Unusable { .. } | SocketError::Foreign { .. }))
            if !configured =>
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
