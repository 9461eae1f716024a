//! Lets a server that root has started run as the user of the configuration.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::error::DaemonError;
use crate::config::shown::Show;
use crate::config::{Config, Origin};
use crate::sys::account::{Account, account, groups};
use crate::sys::group::group_id;
use crate::sys::privileges::become_user;
use crate::sys::process::user_id;

/// The directory of the control socket if the configuration names none.
const RUN_TIME: &str = "/run/tapis";

/// A directory that the server writes to, and the key of the configuration that names it.
struct Directory {
    path: PathBuf,
    key: &'static str,
    mode: u32,
}

/// What the start as a user came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// The configuration names no user, or the one that this process has already.
    Unchanged,
    /// The process has become this user.
    Dropped(String),
    /// The process could not become this user, because it is not root.
    Kept(String),
}

impl Privileges {
    /// Logs it.
    pub fn log(&self) {
        match self {
            Self::Unchanged => {}
            Self::Dropped(user) => tracing::info!(user, "root's privileges are dropped"),
            Self::Kept(user) => tracing::warn!(
                user,
                "[process] user has no effect: only root can become another user, and the server was started by an ordinary one"
            ),
        }
    }
}

/// If this is root and the configuration names a user, makes missing directories for that user, and becomes that user. Must be
/// called before the process has threads.
///
/// # Errors
/// [`DaemonError::Unready`]: there is no such user, the system refuses, or that user can't use the files of the server.
pub fn drop_privileges(config: &Config) -> Result<Privileges, DaemonError> {
    let Some(name) = config.server.process.user.as_deref() else {
        return Ok(Privileges::Unchanged);
    };
    let unready = |problem| DaemonError::Unready(vec![problem]);
    let target = target(config).map_err(unready)?;
    let Some(target) = target else {
        return Ok(Privileges::Unchanged);
    };
    let now = user_id();
    if target.user == now {
        return Ok(Privileges::Unchanged);
    }
    if now != 0 {
        return Ok(Privileges::Kept(name.to_owned()));
    }
    let directories = directories(config);
    for directory in &directories {
        directory.make(target, name).map_err(unready)?;
    }
    let refused = |error: io::Error| {
        unready(format!(
            "[process] user: the system does not let this process become {name}: {error}; start the server as {name}, and \
             remove the key"
        ))
    };
    let groups = groups(name, target.group).map_err(refused)?;
    become_user(target.user, target.group, &groups).map_err(refused)?;
    let problems: Vec<_> = directories
        .iter()
        .filter_map(|directory| directory.problem(target, name))
        .chain(unreadable(config, name))
        .collect();
    match problems.is_empty() {
        true => Ok(Privileges::Dropped(name.to_owned())),
        false => Err(DaemonError::Unready(problems)),
    }
}

/// The user and the group that the configuration names; `None` if it names no user.
///
/// # Errors
/// The problem in a sentence: there is no such user or group.
pub(super) fn target(config: &Config) -> Result<Option<Account>, String> {
    let process = &config.server.process;
    let Some(name) = process.user.as_deref() else {
        return Ok(None);
    };
    let found = account(name).map_err(|error| {
        format!("[process] user is {name:?}, which can't be looked up: {error}")
    })?;
    let mut found = found.ok_or_else(|| {
        format!(
            "[process] user is {name:?}, and there is no such user: create it with useradd --system, or name another one"
        )
    })?;
    if let Some(group) = process.group.as_deref() {
        let known = group_id(group).map_err(|error| {
            format!("[process] group is {group:?}, which can't be looked up: {error}")
        })?;
        found.group = known.ok_or_else(|| {
            format!(
                "[process] group is {group:?}, and there is no such group: create it with groupadd, or name another one"
            )
        })?;
    }
    Ok(Some(found))
}

/// The directories that the server writes to. Exports and downloaded lists are left out: problems with them are alarms.
fn directories(config: &Config) -> Vec<Directory> {
    let socket = match &config.server.control {
        Some(path) => folder_of(path),
        None => PathBuf::from(RUN_TIME),
    };
    let journal = config.journal.path.as_deref().map(folder_of);
    let query_log = config.server.recording.query_log.file.as_deref();
    let all = [
        (config.state.dir.clone(), "[state] dir", 0o750),
        (journal, "[journal] path", 0o750),
        (query_log.map(folder_of), "[query-log] file", 0o750),
        (Some(socket), "[server] control", 0o755),
    ];
    let mut directories: Vec<Directory> = Vec::new();
    for (path, key, mode) in all {
        if let Some(path) = path
            && directories.iter().all(|known| known.path != path)
        {
            directories.push(Directory { path, key, mode });
        }
    }
    directories
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

impl Directory {
    /// Makes it for the user if it is missing. An existing directory is not changed.
    fn make(&self, target: Account, name: &str) -> Result<(), String> {
        let made = match DirBuilder::new().mode(self.mode).create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made,
        };
        let given = made.and_then(|()| give(&self.path, target));
        given.map_err(|error| {
            let (key, path) = (self.key, self.path.shown());
            format!(
                "{key}: the directory {path} can't be made for user {name}: {error}; make it, and give it to that user"
            )
        })
    }

    /// The problem if this process, which runs as the user, can't write to it or to a file in it.
    fn problem(&self, target: Account, name: &str) -> Option<String> {
        let (key, path) = (self.key, self.path.shown());
        if let Err(error) = tempfile::tempfile_in(&self.path) {
            return Some(format!(
                "{key}: user {name}, whom [process] names, can't write to {path}: {error}; run `chown -R {name}: {path}`"
            ));
        }
        if self.key != "[state] dir" {
            return None;
        }
        // Files of an earlier server that ran as another user.
        let mut files = fs::read_dir(&self.path).ok()?.flatten();
        let foreign = files.find(|file| {
            // `mkfs` makes it, for root, if the directory is a file system of its own.
            let is_of_mkfs = file.file_name() == "lost+found";
            let meta = file.metadata();
            !is_of_mkfs && meta.is_ok_and(|meta| meta.uid() != target.user)
        })?;
        let file = foreign.file_name();
        Some(format!(
            "{key}: {} in {path} belongs to another user than {name}, whom [process] names: run `chown -R {name}: {path}`",
            Path::new(&file).shown()
        ))
    }
}

/// Gives a directory that root has just made to the user. A user who may write to its parent could have replaced it meanwhile by
/// a symbolic link or by another directory, which is not given.
fn give(path: &Path, target: Account) -> io::Result<()> {
    // With a slash at its end, a link would be followed.
    let path: PathBuf = path.components().collect();
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let directory = File::options().read(true).custom_flags(flags).open(path)?;
    if directory.metadata()?.uid() != 0 {
        let replaced = "another user has replaced it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, replaced));
    }
    fchown(directory, Some(target.user), Some(target.group))
}

/// The problem if this process can't read the configuration any more, which a reload reads again.
fn unreadable(config: &Config, name: &str) -> Option<String> {
    let Origin::File(path) = &config.origin else {
        return None;
    };
    let error = File::open(path).err()?;
    Some(format!(
        "{}: user {name}, whom [process] names, can't read the configuration, so it could not be reloaded: {error}; let that \
         user read it and enter its directory",
        path.shown()
    ))
}
