//! Whether a client may trust the server at a control socket.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::net::sockopt::socket_peercred;

/// The user of the server at the other end of a stream to `path`; `None` if `user` may trust the server. That is so if
/// the server runs as the same user or as root, or if only the server's user and root could have created the socket.
pub(crate) fn untrusted(stream: impl AsFd, path: &Path, user: u32) -> Option<u32> {
    // No user has the number `u32::MAX`. It stands for a user that can't be determined, and is not trusted.
    let server = socket_peercred(stream).map_or(u32::MAX, |server| server.uid.as_raw());
    (!trusts(user, server, path)).then_some(server)
}

fn trusts(user: u32, server: u32, path: &Path) -> bool {
    server == user || server == 0 || is_alone_in(path, server).unwrap_or(false)
}

/// Whether only `owner` and root could have created a socket at a path: its folder belongs to `owner`, all folders
/// above belong to `owner` or root, and others may write to none of these folders.
///
/// All users may write to the temporary folder, so any user may own a folder in it. Such a folder is trusted only if it
/// is named after `owner`, as in [`candidates`](super::socket::candidates): other users can create a folder of that name, but it would not belong
/// to `owner`.
fn is_alone_in(path: &Path, owner: u32) -> io::Result<bool> {
    let Some(folder) = path.parent() else {
        return Ok(false);
    };
    let is_link = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.is_symlink());
    let is_named = folder.file_name() == Some(OsStr::new(&format!("tapis-{owner}")))
        && !is_link(folder)?
        && !is_link(path)?;
    let socket = path.canonicalize()?;
    for (depth, above) in socket.ancestors().skip(1).enumerate() {
        let meta = fs::symlink_metadata(above)?;
        let others_write = meta.mode() & 0o022 != 0;
        // In a sticky folder, others can't replace files of the owner.
        let is_shared = depth == 1 && is_named && meta.uid() == 0 && meta.mode() & 0o1000 != 0;
        let is_good = match depth {
            0 => meta.uid() == owner && !others_write,
            _ => (meta.uid() == owner || meta.uid() == 0) && (!others_write || is_shared),
        };
        if !is_good {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::path::PathBuf;

    use tokio::net::{UnixListener, UnixStream};

    use super::*;
    use crate::sys::process::user_id;

    #[tokio::test]
    async fn a_client_trusts_only_servers_of_its_own_user_and_of_root() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("control.sock");
        let _listener = UnixListener::bind(&path).expect("bound");
        let stream = UnixStream::connect(&path).await.expect("connected");
        assert_eq!(untrusted(&stream, &path, user_id()), None);
        assert!(trusts(4242, 0, &path) && trusts(4242, 4242, &path));
        assert!(!trusts(4242, 4243, &path) && !trusts(4242, user_id() + 1, &path));
    }

    /// Creates `folder` for user 4242 in `above`, with a file in place of the socket. Returns the path of that file.
    fn theirs(above: &Path, folder: &str) -> PathBuf {
        let folder = above.join(folder);
        fs::create_dir(&folder).expect("made");
        let path = folder.join("control.sock");
        fs::write(&path, "").expect("written");
        chown(&folder, Some(4242), None).expect("changed");
        path
    }

    /// Whether root and user 4244 trust a server of user 4242 at this path, and whether they trust one of user 4243.
    fn trust(path: &Path) -> [bool; 2] {
        let by_all = |server| {
            let by_root = trusts(0, server, path);
            assert_eq!(trusts(4244, server, path), by_root);
            by_root
        };
        [by_all(4242), by_all(4243)]
    }

    #[test]
    fn another_users_server_is_trusted_only_in_a_folder_that_only_that_user_can_change() {
        let Ok(closed) = tempfile::tempdir_in("/run") else {
            return;
        };
        if user_id() != 0 {
            return;
        }
        let path = theirs(closed.path(), "tapis");
        assert_eq!(trust(&path), [true, false]);
        let mode = |mode| fs::set_permissions(closed.path(), fs::Permissions::from_mode(mode));
        mode(0o1777).expect("changed");
        assert_eq!(trust(&path), [false; 2], "as the temporary folder");
        mode(0o755).expect("changed");
        // The folder above belongs to user 4242, too, as /run/user/4242 does.
        chown(closed.path(), Some(4242), None).expect("changed");
        assert_eq!(trust(&path), [true, false]);
        chown(closed.path(), Some(4243), None).expect("changed");
        assert_eq!(
            trust(&path),
            [false; 2],
            "the folder above belongs to user 4243"
        );
    }

    #[test]
    fn in_the_temporary_folder_only_a_folder_named_after_its_owner_is_trusted() {
        let Ok(shared) = tempfile::tempdir_in("/run") else {
            return;
        };
        if user_id() != 0 {
            return;
        }
        let mode = |mode| fs::set_permissions(shared.path(), fs::Permissions::from_mode(mode));
        mode(0o1777).expect("changed");
        let path = theirs(shared.path(), "tapis-4242");
        assert_eq!(trust(&path), [true, false]);
        let other = theirs(shared.path(), "tapis-4243");
        assert_eq!(trust(&other), [false; 2], "4242 has taken the name of 4243");
        let link = shared.path().join("tapis-4244");
        std::os::unix::fs::symlink(shared.path().join("tapis-4242"), &link).expect("linked");
        let linked = link.join("control.sock");
        assert_eq!(trust(&linked), [false; 2], "the name is a link");
        mode(0o777).expect("changed");
        assert_eq!(trust(&path), [false; 2], "everybody can rename the folder");
    }
}
