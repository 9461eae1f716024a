//! The control socket in the file system: its path and its permissions.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use super::inode::Inode;
use crate::config::shown::Show;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// The user and the group that may use the control socket, besides root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The server's own user.
    pub user: u32,
    /// A group whose members may use it as well.
    pub group: Option<u32>,
}

impl Access {
    /// Access for this user only.
    pub fn of(user: u32) -> Self {
        Self { user, group: None }
    }
}

/// Why the control socket can't be created.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another server listens on it.
    #[error(
        "{path}: another tapis is running with this control socket; stop it, or set `control` in [server], or --control, to another path", path = .0.shown())]
    Taken(PathBuf),
    /// The path can't be used.
    #[error(
        "{path}: the control socket can't be made: {source}; set `control` in [server], or --control, to a path that the server's user may write to", path = .path.shown())]
    Unusable {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Its folder belongs to another user, who most likely runs the server.
    #[error(
        "{path}: the control socket can't be made: its folder belongs to user {owner}, and this process runs as user {user}: {remedy}", remedy = as_owner(*.user), path = .path.shown())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// The owner of the folder.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
    /// The group does not exist.
    #[error(
        "[server] control-group is {0:?}, and there is no such group: create it with groupadd, or name another one"
    )]
    NoGroup(String),
    /// The group can't be looked up.
    #[error(
        "[server] control-group is {name:?}, which can't be looked up: {source}; write the number of the group"
    )]
    UnknownGroup {
        /// The group.
        name: String,
        /// The system's error.
        source: io::Error,
    },
}

/// The paths of the control socket if the configuration has none, in the order in which they are tried.
pub fn candidates(user: u32) -> Vec<PathBuf> {
    let file = "control.sock";
    let mut paths = vec![PathBuf::from("/run/tapis").join(file)];
    if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        paths.push(PathBuf::from(runtime).join("tapis").join(file));
    }
    // All users share the temporary folder, so the name of our folder in it contains the owner's number. The server
    // checks in `own_directory` that no other user can replace files in our folder. Clients of other users check the
    // same in `trust`.
    paths.push(
        std::env::temp_dir()
            .join(format!("tapis-{user}"))
            .join(file),
    );
    paths
}

/// The control socket's file. Dropping this removes the file, unless another file has its path by then.
#[derive(Debug)]
pub struct SocketFile {
    inode: Inode,
    /// Whether it belongs to another process, which keeps it when this one ends: a service manager, or a server from which
    /// this one takes over.
    is_kept: AtomicBool,
    /// Whether the other process is a server, which may leave it.
    is_of_server: bool,
    /// The socket's folder, if it was created for the socket. It is removed with the socket, because the next server
    /// may have to give it to another group.
    made: Option<PathBuf>,
    /// Whether its folder may be a symbolic link.
    follow: bool,
    /// Who may use it.
    access: Access,
}

/// The part that a server has in its control socket, besides the socket itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Owned {
    /// The folder that it made for the socket.
    pub folder: Option<PathBuf>,
}

impl SocketFile {
    /// What another process gets if it takes over; `None` if the socket belongs to a service manager.
    pub fn owned(&self) -> Option<Owned> {
        let is_kept = self.is_kept.load(Ordering::Relaxed);
        (!is_kept).then(|| Owned {
            folder: self.made.clone(),
        })
    }

    /// Leaves the file to another process.
    pub fn leave(self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// The server that had the file has left it. This one removes it at its end, and gives it to the group of its own
    /// configuration, which may be another one.
    ///
    /// # Errors
    /// The socket could not be given to the group, so that only the user may use it.
    pub fn own(&self) -> io::Result<()> {
        self.is_kept.store(!self.is_of_server, Ordering::Relaxed);
        match self.is_of_server {
            true => self.permit(),
            false => Ok(()),
        }
    }

    /// Sets the permissions of the file, and those of its folder if that is closed to the group.
    fn permit(&self) -> io::Result<()> {
        let Access { user, group } = self.access;
        let private = || self.inode.set_mode(0o600);
        let Some(group) = group else {
            return private();
        };
        let given = self
            .open_folder(group, user)
            .and_then(|()| self.inode.give(group, 0o660));
        if given.is_err() {
            private()?;
        }
        given
    }

    fn open_folder(&self, group: u32, user: u32) -> io::Result<()> {
        let folder = Inode::of_folder(&folder_of(self.path()), self.follow)?;
        let meta = folder.metadata()?;
        let is_to_open = !admits(&meta, group) && is_to_open(&meta, self.follow, user);
        match self.made.is_some() || is_to_open {
            true => folder.give(group, 0o750),
            false => Ok(()),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.inode.path()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_kept.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.inode.remove() {
            tracing::warn!(path = %self.path().shown(), %error, "control socket not removed");
        }
        if let Some(folder) = &self.made {
            // Fails if other files are in it.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A listening control socket.
#[derive(Debug)]
pub struct BoundSocket {
    /// The socket.
    pub listener: UnixListener,
    /// Its file.
    pub file: SocketFile,
    /// The access that was granted. It has no group if the socket could not be given to the group.
    pub access: Access,
    /// Why the socket could not be given to the group.
    pub denied: Option<io::Error>,
}

/// Creates the socket at the first of `paths` that can be used, and removes the socket of a server that has ended. The
/// folder may be a symbolic link only if `follow` is set: this means that the operator named the path.
///
/// A socket that can't be given to the group is created for the user only.
///
/// # Errors
/// [`SocketError`] of the last path, or of the first on which another server listens.
pub fn bind(paths: &[PathBuf], follow: bool, access: Access) -> Result<BoundSocket, SocketError> {
    let mut last = None;
    for path in paths {
        match bind_one(path, follow, access) {
            Err(taken @ SocketError::Taken(_)) => return Err(taken),
            Err(error) => last = Some(error),
            bound => return bound,
        }
    }
    Err(last.unwrap_or_else(|| SocketError::Unusable {
        path: PathBuf::new(),
        source: io::ErrorKind::InvalidInput.into(),
    }))
}

/// Uses a socket that another process made at a path, with the permissions that it has until [`SocketFile::own`]. `owned`
/// is the process's part in it that this one takes over; `None` if it belongs to a service manager.
///
/// # Errors
/// [`SocketError`]: there is no such socket, or other users could replace it, or the system can't wait for connections.
pub fn adopt(
    path: &Path,
    listener: StdListener,
    follow: bool,
    access: Access,
    owned: Option<Owned>,
) -> Result<BoundSocket, SocketError> {
    let unusable = |source| unusable(path, access.user, source);
    // The owner of the folder of a service manager's socket is that one's concern. The permissions of that socket stay.
    if owned.is_some() {
        is_safe(&folder_of(path), follow, access.user).map_err(unusable)?;
    }
    let inode = Inode::at(path).map_err(unusable)?;
    if !inode.is_socket().map_err(unusable)? {
        return Err(unusable(io::ErrorKind::AlreadyExists.into()));
    }
    let file = SocketFile {
        inode,
        is_kept: AtomicBool::new(true),
        is_of_server: owned.is_some(),
        // It is removed at the end, so it must be the folder of the socket.
        made: owned
            .and_then(|owned| owned.folder)
            .filter(|folder| path.parent() == Some(folder)),
        follow,
        access,
    };
    Ok(BoundSocket {
        listener: UnixListener::from_std(listener).map_err(unusable)?,
        file,
        access,
        denied: None,
    })
}

fn bind_one(path: &Path, follow: bool, access: Access) -> Result<BoundSocket, SocketError> {
    let user = access.user;
    let unusable = |source| unusable(path, user, source);
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    let is_made = parent.map(|parent| own_directory(parent, follow, user));
    let is_made = is_made.transpose().map_err(unusable)?;
    let made = parent.filter(|_| is_made == Some(true));
    if is_taken(path).map_err(unusable)? {
        return Err(SocketError::Taken(path.to_owned()));
    }
    let raw = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(unusable)?;
    let address = SockAddr::unix(path).map_err(unusable)?;
    raw.bind(&address).map_err(unusable)?;
    let file = SocketFile {
        inode: Inode::at(path).map_err(unusable)?,
        is_kept: AtomicBool::new(false),
        is_of_server: true,
        made: made.map(Path::to_owned),
        follow,
        access,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(unusable)?;
    let denied = file.permit().err();
    let group = access.group.filter(|_| denied.is_none());
    let access = Access { user, group };
    // No connection is possible before this, so the permissions apply to all connections.
    raw.listen(BACKLOG).map_err(unusable)?;
    raw.set_nonblocking(true).map_err(unusable)?;
    let listener = UnixListener::from_std(raw.into()).map_err(unusable)?;
    if let Some(closed) = closed(path, follow, access) {
        tracing::warn!("{closed}");
    }
    Ok(BoundSocket {
        listener,
        file,
        access,
        denied,
    })
}

/// The remedy if the socket's folder belongs to another user, who most likely runs the server. Root gets no advice to
/// use another path: for the server of that user, a socket elsewhere would not help.
fn as_owner(user: u32) -> &'static str {
    match user {
        0 => "run this as that user",
        _ => "run this as that user, or set `control` in [server], or --control, to another path",
    }
}

/// The error for a path that can't be used.
fn unusable(path: &Path, user: u32, source: io::Error) -> SocketError {
    let (path, folder) = (path.to_owned(), fs::metadata(folder_of(path)));
    let owner = folder.map_or(user, |folder| folder.uid());
    if source.kind() == io::ErrorKind::PermissionDenied && owner != user && owner != 0 {
        return SocketError::Foreign { path, owner, user };
    }
    SocketError::Unusable { path, source }
}

/// Why the socket can't be given to the group, at the first of `paths` that can be used. To find out, this gives an
/// unnamed temporary file to the group.
pub fn denied(paths: &[PathBuf], follow: bool, access: Access) -> Option<io::Error> {
    let group = access.group?;
    let mut files = paths.iter().map(|path| try_one(path, follow, access.user));
    let file = files.find_map(Result::ok)?;
    fchown(file, None, Some(group)).err()
}

/// Whether the socket can be created at one of `paths`. Leaves no file behind.
///
/// # Errors
/// [`SocketError`] of the last path, or of the first on which another server listens.
pub fn check(paths: &[PathBuf], follow: bool, access: Access) -> Result<(), SocketError> {
    let mut last = Ok(());
    for path in paths {
        if StdStream::connect(path).is_ok() {
            return Err(SocketError::Taken(path.clone()));
        }
        last = match try_one(path, follow, access.user) {
            Ok(_) => Ok(()),
            Err(source) => Err(unusable(path, access.user, source)),
        };
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Creates an unnamed temporary file in the socket's folder, or, if that does not exist, in its parent.
fn try_one(path: &Path, follow: bool, user: u32) -> io::Result<File> {
    let folder = folder_of(path);
    let existing = match fs::symlink_metadata(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => folder_of(&folder),
        found => {
            found?;
            is_safe(&folder, follow, user)?;
            folder
        }
    };
    if fs::symlink_metadata(path).is_ok_and(|meta| !meta.file_type().is_socket()) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    tempfile::tempfile_in(existing)
}

/// The folder that a path is in.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        folder => folder.unwrap_or(path).to_owned(),
    }
}

/// Whether a server listens at a path. Removes the socket of a server that has ended, and no other file.
fn is_taken(path: &Path) -> io::Result<bool> {
    let found = match Inode::at(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    // This is checked before connecting, because connecting would follow a symbolic link.
    if !found.is_socket()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match StdStream::connect(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            found.remove().map(|()| false)
        }
        Err(error) => Err(error),
    }
}

/// Creates the directory, with access for its owner only. If it exists, checks that no other user can replace a socket
/// in it: it must belong to this user or to root, and others must not be able to write to it. A sticky directory is
/// accepted, too: others can replace only their own files in it, as in the temporary folder.
///
/// A symbolic link is rejected unless `follow` is set: in the temporary folder, a link may belong to any user, and that
/// user could change it later.
///
/// Returns whether the directory was created.
fn own_directory(directory: &Path, follow: bool, user: u32) -> io::Result<bool> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            is_safe(directory, follow, user).map(|_| false)
        }
        made => made.map(|()| true),
    }
}

/// Whether an existing directory is to be opened to the group, so that its members can reach the socket. A directory
/// that the operator named is left as it is, because it may have other contents.
fn is_to_open(directory: &fs::Metadata, follow: bool, user: u32) -> bool {
    !follow && directory.uid() == user
}

/// The problem if members of the group in `access` can't reach the socket, because a folder is closed to them. The
/// socket is the one at the first of `paths` that can be used.
pub fn closed_to_group(paths: &[PathBuf], follow: bool, access: Access) -> Option<String> {
    let is_usable = |path: &&PathBuf| try_one(path, follow, access.user).is_ok();
    closed(paths.iter().find(is_usable)?, follow, access)
}

/// As [`closed_to_group`], for one path. A folder that does not exist is not checked: it will be created with access
/// for the group.
fn closed(path: &Path, follow: bool, access: Access) -> Option<String> {
    let Access { user, group } = access;
    let group = group?;
    let folder = std::path::absolute(path).ok()?.parent()?.to_owned();
    let is_closed = |folder: &&Path| {
        let meta = fs::metadata(folder);
        meta.is_ok_and(|meta| !admits(&meta, group))
    };
    let real = match fs::canonicalize(&folder) {
        Ok(real) if fs::metadata(&real).is_ok_and(|meta| is_to_open(&meta, follow, user)) => {
            real.parent()?.to_owned()
        }
        Ok(real) => real,
        Err(_) => fs::canonicalize(folder.parent()?).ok()?,
    };
    let closed = real.ancestors().find(is_closed)?.shown().to_string();
    Some(format!(
        "{closed}: members of the group of control-group (number {group}) can't reach the control socket, as this folder \
         is closed to them: `chgrp {group}` it and `chmod g+x` it, or set `control` to a path in a folder that they may enter"
    ))
}

/// Checks that only `user` and root can replace a socket in a directory.
fn is_safe(directory: &Path, follow: bool, user: u32) -> io::Result<fs::Metadata> {
    let meta = match follow {
        true => fs::metadata(directory)?,
        false => fs::symlink_metadata(directory)?,
    };
    if !meta.is_dir() {
        let problem = "its folder is a symbolic link, or no folder";
        return Err(io::Error::new(io::ErrorKind::NotADirectory, problem));
    }
    let (sticky, others_write) = (meta.mode() & 0o1000 != 0, meta.mode() & 0o022 != 0);
    if (meta.uid() == user || meta.uid() == 0) && (sticky || !others_write) {
        return Ok(meta);
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "its folder belongs to another user, or others may write to it",
    ))
}

/// Whether members of a group may reach files in a directory.
fn admits(directory: &fs::Metadata, group: u32) -> bool {
    let mode = directory.mode();
    mode & 0o001 != 0 || (directory.gid() == group && mode & 0o010 != 0)
}

/// Accepts the next connection of a user who has access; also returns the user. If a group has access, users are not
/// checked here: the system lets only the server's user, root and members of the group open the socket.
pub(crate) async fn accept(
    listener: &UnixListener,
    access: Access,
) -> io::Result<(UnixStream, u32)> {
    loop {
        let (stream, _) = listener.accept().await?;
        let peer = stream.peer_cred().map(|cred| cred.uid());
        if let Ok(peer) = peer
            && (peer == access.user || peer == 0 || access.group.is_some())
        {
            return Ok((stream, peer));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sys::process::user_id;

    #[tokio::test]
    async fn the_socket_is_private_and_only_one_server_can_listen_on_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("new").join("control.sock");
        let paths = [PathBuf::from("/proc/nowhere/control.sock"), path.clone()];
        let BoundSocket { listener, file, .. } =
            bind(&paths, false, Access::of(user_id())).expect("bound");
        assert_eq!(file.path(), path);
        let mode = |p: &Path| fs::metadata(p).expect("there").mode() & 0o777;
        assert_eq!((mode(&path), mode(&dir.path().join("new"))), (0o600, 0o700));
        let again = bind(&paths, false, Access::of(user_id())).expect_err("taken");
        assert!(matches!(again, SocketError::Taken(_)), "{again}");
        drop(listener);
        // A process that another test starts has all files until it runs its program.
        let deadline = Instant::now() + Duration::from_secs(30);
        let next = loop {
            match bind(&paths, false, Access::of(user_id())) {
                Err(SocketError::Taken(_)) if Instant::now() < deadline => thread::yield_now(),
                next => break next.expect("a dead server's is removed"),
            }
        };
        drop(file);
        assert!(path.exists(), "it is another server's by now");
        drop(next);
        assert!(!path.exists(), "its own is removed");
    }

    #[tokio::test]
    async fn a_group_that_may_use_the_socket_can_reach_it_and_others_can_not() {
        if user_id() != 0 {
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let access = Access {
            user: 0,
            group: Some(4242),
        };
        let owned = |path: &Path| {
            let meta = fs::metadata(path).expect("there");
            (meta.gid(), meta.mode() & 0o777)
        };
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("changed");
        let folder = dir.path().join("new");
        let path = folder.join("control.sock");
        let paths = std::slice::from_ref(&path);
        // This earlier server has no group: it creates the folder for its user only, and removes it at its end.
        drop(bind(paths, true, Access::of(0)).expect("bound"));
        for follow in [true, false] {
            assert_eq!(closed_to_group(paths, follow, access), None);
            let bound = bind(paths, follow, access).expect("bound");
            assert_eq!(
                (owned(&path), owned(&folder)),
                ((4242, 0o660), (4242, 0o750))
            );
            assert_eq!(closed_to_group(paths, follow, access), None);
            drop(bound);
        }
        fs::create_dir(&folder).expect("made");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("changed");
        assert_eq!(closed_to_group(paths, false, access), None, "it is opened");
        let bound = bind(paths, false, access).expect("bound");
        assert_eq!(
            owned(&folder),
            (4242, 0o750),
            "the operator did not name the path, so the folder is opened"
        );
        drop(bound);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("changed");
        let bound = bind(paths, true, access).expect("bound");
        assert_eq!(
            owned(&folder),
            (4242, 0o700),
            "the operator named the path, so the folder is left as it is"
        );
        let closed = closed_to_group(paths, true, access).expect("reported");
        assert!(closed.starts_with(&*folder.to_string_lossy()), "{closed}");
        assert!(closed.contains("chgrp 4242"), "{closed}");
        drop(bound);
        // If the group can't enter a directory above the socket's folder, this is reported as well.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o710)).expect("changed");
        assert_eq!(closed_to_group(paths, true, access), None);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("changed");
        for follow in [true, false] {
            let closed = closed_to_group(paths, follow, access).expect("reported");
            let above = format!("{}: ", dir.path().to_string_lossy());
            assert!(closed.starts_with(&above), "{closed}");
        }
    }

    #[tokio::test]
    async fn another_file_that_took_the_path_is_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("control.sock");
        let paths = std::slice::from_ref(&path);
        let bound = bind(paths, true, Access::of(user_id())).expect("bound");
        fs::remove_file(&path).expect("removed");
        drop(bound.file);
        let bound = bind(paths, true, Access::of(user_id())).expect("bound");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "data").expect("written");
        drop(bound.file);
        assert_eq!(fs::read(&path).expect("still there"), b"data");
    }

    #[tokio::test]
    async fn a_symbolic_link_is_not_followed_unless_the_operator_named_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).expect("made");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        let place = link.join("control.sock");
        let paths = std::slice::from_ref(&place);
        let error = bind(paths, false, Access::of(user_id())).expect_err("not followed");
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert_eq!(fs::read_dir(&real).expect("listed").count(), 0);
        bind(paths, true, Access::of(user_id())).expect("configured");
        // A link in place of the socket itself is never followed.
        let other = real.join("other.sock");
        let _other = UnixListener::bind(&other).expect("bound");
        let place = real.join("control.sock");
        std::os::unix::fs::symlink(&other, &place).expect("linked");
        let error =
            bind(std::slice::from_ref(&place), true, Access::of(user_id())).expect_err("a link");
        assert!(matches!(error, SocketError::Unusable { .. }), "{error}");
    }

    #[test]
    fn the_remedy_for_root_names_no_other_socket_if_the_folder_belongs_to_another_user() {
        for (user, offered) in [(0, false), (1000, true)] {
            let (path, owner) = ("/run/tapis/control.sock".into(), 990);
            let reported = SocketError::Foreign { path, owner, user }.to_string();
            assert!(reported.contains("run this as that user"), "{reported}");
            assert_eq!(reported.contains("--control"), offered, "{reported}");
        }
        let taken = SocketError::Taken("/run/tapis/control.sock".into()).to_string();
        assert!(taken.contains("--control"), "{taken}");
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let dir = tempfile::tempdir().expect("a folder");
        let mode = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode));
        mode(0o777).expect("changed");
        own_directory(dir.path(), true, user_id()).expect_err("anybody could replace the socket");
        mode(0o1777).expect("changed");
        own_directory(dir.path(), true, user_id()).expect("as the temporary folder");
        mode(0o700).expect("changed");
        own_directory(dir.path(), true, user_id()).expect("ours");
        if user_id() == 0 {
            std::os::unix::fs::chown(dir.path(), Some(4242), None).expect("changed");
            own_directory(dir.path(), true, 0).expect_err("another user's");
        }
    }

    #[tokio::test]
    async fn a_socket_of_another_server_gets_the_group_of_this_one() {
        if user_id() != 0 {
            // Others can't give a file to any group.
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("new").join("control.sock");
        let access = |group| Access { user: 0, group };
        let bound = bind(std::slice::from_ref(&path), false, access(Some(4242)));
        let BoundSocket { listener, file, .. } = bound.expect("bound");
        let owned = file.owned();
        file.leave();
        let listener = listener.into_std().expect("a listener");
        let seen = |path: &Path| {
            let meta = fs::metadata(path).expect("there");
            (meta.gid(), meta.mode() & 0o777)
        };
        for group in [Some(4343), None] {
            let listener = listener.try_clone().expect("cloned");
            let adopted = adopt(&path, listener, false, access(group), owned.clone());
            let file = adopted.expect("adopted").file;
            file.own().expect("given");
            let wanted = group.map_or(0o600, |_| 0o660);
            assert_eq!(seen(&path), (4343, wanted));
            assert_eq!(seen(&dir.path().join("new")), (4343, 0o750));
            file.leave();
        }
    }

    #[tokio::test]
    async fn a_file_in_place_of_the_socket_of_another_server_keeps_its_owner_and_mode() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, secret) = (
            dir.path().join("new").join("control.sock"),
            dir.path().join("secret"),
        );
        fs::write(&secret, "").expect("written");
        let mode = |mode| fs::set_permissions(&secret, fs::Permissions::from_mode(mode));
        mode(0o640).expect("changed");
        let group = fs::metadata(&secret).expect("there").gid();
        let access = Access {
            user: user_id(),
            group: Some(if user_id() == 0 { 4242 } else { group }),
        };
        let bound = bind(std::slice::from_ref(&path), false, Access::of(user_id()));
        let BoundSocket { listener, file, .. } = bound.expect("bound");
        let owned = file.owned();
        file.leave();
        let listener = listener.into_std().expect("a listener");
        let adopted = || {
            let listener = listener.try_clone().expect("cloned");
            adopt(&path, listener, false, access, owned.clone())
        };
        let link = || {
            fs::remove_file(&path).expect("removed");
            std::os::unix::fs::symlink(&secret, &path).expect("linked");
        };
        let file = adopted().expect("adopted").file;
        // Afterwards and before.
        link();
        file.own().expect("the socket is still open");
        file.leave();
        let error = adopted().expect_err("a link");
        assert!(matches!(error, SocketError::Unusable { .. }), "{error}");
        let meta = fs::metadata(&secret).expect("there");
        assert_eq!((meta.gid(), meta.mode() & 0o777), (group, 0o640));
    }

    #[tokio::test]
    async fn a_socket_of_another_server_is_not_adopted_in_a_folder_that_others_may_write_to() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("control.sock");
        let access = Access::of(user_id());
        let bound = bind(std::slice::from_ref(&path), true, access).expect("bound");
        let owned = bound.file.owned();
        let listener = bound.listener.into_std().expect("a listener");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(dir.path(), open).expect("changed");
        let error = adopt(&path, listener, true, access, owned).expect_err("anybody could");
        assert!(error.to_string().contains("others may write"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_not_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("precious");
        fs::write(&path, "data").expect("written");
        bind(std::slice::from_ref(&path), true, Access::of(user_id())).expect_err("refused");
        assert_eq!(fs::read(&path).expect("still there"), b"data");
    }
}
