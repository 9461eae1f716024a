//! Tries what a start needs, without starting: all problems at once, and nothing is left behind.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::control::{access, control_places};
use super::{DaemonError, bind};
use crate::config::shown::Show;
use crate::config::{Config, Origin, regular};
use crate::control::compose;
use crate::control::journal::key::Keys;
use crate::control::socket;
use crate::sys::process::user_id;

/// A server that runs already: what it holds is no problem of the configuration.
#[derive(Clone, Debug)]
pub struct Running {
    /// The addresses that it listens on.
    pub listen: Vec<SocketAddr>,
}

/// What a start with that configuration, by this user, would not get, a sentence each.
pub fn problems(config: &Config, running: Option<&Running>) -> Vec<String> {
    let held = running.map_or(&[][..], |running| &running.listen);
    let overlaps = |at: &SocketAddr, held: &SocketAddr| {
        let (at_ip, held_ip) = (at.ip(), held.ip());
        let same = at_ip == held_ip || at_ip.is_unspecified() || held_ip.is_unspecified();
        same && at.port() == held.port()
    };
    let listen = config.server.listen.iter();
    let free = listen.filter(|at| !held.iter().any(|held| overlaps(at, held)));
    let lenient = config.origin == Origin::BuiltIn;
    let mut problems = bind::problems(free.copied(), lenient);
    let control = config.server.control.as_deref();
    let checked = access(config, user_id()).and_then(|access| match running {
        // It has its socket.
        Some(_) => Ok(()),
        None => socket::check(&control_places(control), control.is_some(), access),
    });
    problems.extend(checked.err().map(|error| error.to_string()));
    if let Some(dir) = &config.state.dir {
        problems.extend(state(dir, running.is_some()));
    }
    if let Some(path) = &config.journal {
        // The state directory's own problem is enough.
        let is_below = config.state.dir.as_deref() == path.parent() && config.state.dir.is_some();
        if !is_below || path.exists() {
            problems.extend(journal(path, running.is_some()));
        }
    }
    if let Some(key) = &config.journal_key {
        problems.extend(Keys::read(key).err().map(|error| error.to_string()));
    }
    problems
}

/// What a start with that configuration, by this user, would warn of, a sentence each.
pub fn warnings(config: &Config) -> Vec<String> {
    let control = config.server.control.as_deref();
    let access = access(config, user_id()).ok();
    let closed = access.and_then(|access| {
        socket::closed_to_group(&control_places(control), control.is_some(), access)
    });
    compose::warnings(config)
        .into_iter()
        .chain(closed)
        .collect()
}

/// An error that ends the start, and all else that would end or hinder the next one: whoever starts a server
/// without the privileges that it needs learns of everything at once.
pub(super) fn with_others(error: DaemonError, config: &Config) -> DaemonError {
    let mut problems = problems(config, None);
    let first = error.to_string();
    problems.retain(|problem| *problem != first);
    if problems.is_empty() {
        return error;
    }
    problems.insert(0, first);
    DaemonError::Unready(problems)
}

/// What is wrong with the state directory.
fn state(dir: &Path, is_running: bool) -> Option<String> {
    let what = "the state directory";
    match fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => {
            let dir = dir.shown();
            Some(format!(
                "{dir}: {what} is no directory; set another `dir` in [state]"
            ))
        }
        Ok(_) => lacking(what, dir, dir).or_else(|| taken(what, &dir.join("lock"), is_running)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            lacking(what, dir, dir.parent().unwrap_or(dir))
        }
        Err(error) => Some(told(what, dir, &error)),
    }
}

/// What is wrong with the journal.
fn journal(path: &Path, is_running: bool) -> Option<String> {
    let what = "the journal";
    match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => Some(told(what, path, &regular::Unread::NotRegular.into())),
        Ok(_) => match OpenOptions::new().read(true).append(true).open(path) {
            Ok(_) => taken(what, path, is_running),
            Err(error) => Some(told(what, path, &error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            lacking(what, path, path.parent().unwrap_or(path))
        }
        Err(error) => Some(told(what, path, &error)),
    }
}

/// Why nothing can be made in `folder`, which `path` needs. A file without a name is tried.
fn lacking(what: &str, path: &Path, folder: &Path) -> Option<String> {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let error = tempfile::tempfile_in(folder).err()?;
    Some(told(what, path, &error))
}

/// Whether another process has locked a file. That of a running server may.
fn taken(what: &str, lock: &Path, is_running: bool) -> Option<String> {
    let file = File::open(lock).ok()?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) if !is_running => {
            let lock = lock.shown();
            Some(format!(
                "{lock}: {what} is in use by another process; stop that one, or give each server its own"
            ))
        }
        _ => None,
    }
}

fn told(what: &str, path: &Path, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "let the server's user write there, or run as that user",
        io::ErrorKind::NotFound => "make its directory",
        _ => "check the disk, or name another place",
    };
    format!("{}: {what} can't be used: {error}; {remedy}", path.shown())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn config(text: &str, folder: &Path) -> Config {
        let listen = "[server]\nlisten = [\"127.0.0.1:0\"]\ncontrol = \"s\"\n";
        let path = folder.join("tapis.toml");
        Config::parse(&format!("{listen}{text}"), &path).expect("valid")
    }

    #[test]
    fn what_can_be_had_is_no_problem_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "[state]\ndir = \"state\"\n[journal]\npath = \"journal\"\n";
        let config = config(text, folder.path());
        assert_eq!(problems(&config, None), Vec::<String>::new());
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
    }

    #[test]
    fn all_that_can_not_be_had_is_reported_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        symlink("/dev/null", folder.path().join("device")).expect("linked");
        let other = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        let port = other.local_addr().expect("bound").port();
        let text = "[state]\ndir = \"file/state\"\n[journal]\npath = \"device\"\nkey = \"gone\"\n";
        let mut config = config(text, folder.path());
        config.server.listen = vec![([127, 0, 0, 1], port).into(), ([192, 0, 2, 1], 5335).into()];
        config.server.control = Some(file.join("s"));
        let problems = problems(&config, None);
        for (problem, part) in problems.iter().zip([
            "is in use",
            "192.0.2.1:5335 is not an address",
            "file/s: ",
            "the state directory",
            "device: the journal",
            "gone",
        ]) {
            assert!(problem.contains(part), "{part}: {problems:?}");
        }
        assert_eq!(problems.len(), 6, "{problems:?}");
    }

    #[test]
    fn what_a_running_server_holds_is_no_problem() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("state")).expect("made");
        let lock = File::create(folder.path().join("state/lock")).expect("made");
        lock.try_lock().expect("free");
        let mut config = config("[state]\ndir = \"state\"\n", folder.path());
        let other = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        config.server.listen = vec![other.local_addr().expect("bound")];
        let alone = problems(&config, None);
        assert_eq!(alone.len(), 2, "{alone:?}");
        assert!(alone[1].contains("in use by another process"), "{alone:?}");
        let running = Running {
            listen: config.server.listen.clone(),
        };
        assert_eq!(problems(&config, Some(&running)), Vec::<String>::new());
        // A group is looked up all the same.
        config.server.control_group = Some("no-such-group".to_owned());
        let found = problems(&config, Some(&running));
        assert!(
            found.len() == 1 && found[0].contains("groupadd"),
            "{found:?}"
        );
        config.server.control_group = None;
        // All addresses of this machine, and of its own another one.
        let port = running.listen[0].port();
        config.server.listen = vec![([0, 0, 0, 0], port).into()];
        assert_eq!(problems(&config, Some(&running)), Vec::<String>::new());
        config.server.listen = vec![([192, 0, 2, 1], port).into()];
        assert_eq!(problems(&config, Some(&running)).len(), 1);
    }
}
