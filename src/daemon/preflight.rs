//! Checks the requirements of a start without starting: reports all problems at once, and creates no files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::bind;
use super::control::{access, control_sockets, denied};
use super::error::DaemonError;
use super::inherited::Held;
use super::limits::{self, Listening, OPEN_FILES, workers};
use super::metrics;
use super::privileges;
use crate::config::feed::Tsig;
use crate::config::shown::Show;
use crate::config::{Config, Origin, regular};
use crate::control::admin::socket;
use crate::control::journal::key::Keys;
use crate::control::publish::compose;
use crate::control::sources::feeds::key;
use crate::recorder;
use crate::sys::process::user_id;

/// A running server. Sockets and locks that it has are not problems.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its process.
    pub process: u32,
    /// The addresses that it listens on, those for metrics included.
    pub listen: Vec<SocketAddr>,
}

/// A sentence for each problem that prevents this user from starting a server with this configuration.
pub fn problems(config: &Config, running: Option<&Running>) -> Vec<String> {
    let held = Held {
        listen: running.map_or_else(Vec::new, |running| running.listen.clone()),
        has_control: running.is_some(),
        process: running.map(|running| running.process),
    };
    problems_beside(config, running, &held)
}

/// As [`problems`], if sockets exist that the server need not create.
fn problems_beside(config: &Config, running: Option<&Running>, held: &Held) -> Vec<String> {
    let overlaps = |at: &SocketAddr, held: &SocketAddr| {
        let (at_ip, held_ip) = (at.ip(), held.ip());
        let same = at_ip == held_ip || at_ip.is_unspecified() || held_ip.is_unspecified();
        same && at.port() == held.port()
    };
    let listen = config.server.listen.iter();
    let is_held = |at: &SocketAddr| held.listen.iter().any(|held| overlaps(at, held));
    let free = listen.filter(|at| !is_held(at));
    let lenient = config.origin == Origin::BuiltIn;
    let mut problems = bind::problems(free.copied(), lenient);
    problems.extend(metrics::problems(&config.server.metrics, is_held));
    problems.extend(privileges::target(config).err());
    let control = config.server.control.as_deref();
    let (sockets, follow) = (control_sockets(control), control.is_some());
    let (access, unknown_group) = access(config, user_id());
    if !held.has_control {
        // If a running server or a service manager has the socket, this check would fail.
        let checked = socket::check(&sockets, follow, access);
        problems.extend(checked.err().map(|error| error.to_string()));
    }
    problems.extend(unknown_group);
    let refused = socket::denied(&sockets, follow, access);
    problems.extend(refused.map(|error| denied(config, access.user, &error)));
    if let Some(dir) = &config.state.dir {
        problems.extend(state_problem(dir, running));
    }
    if let Some(path) = &config.journal.path {
        // If the journal does not exist, a problem with its directory, the state directory, is reported above.
        let is_below = config.state.dir.as_deref() == path.parent() && config.state.dir.is_some();
        if !is_below || path.exists() {
            problems.extend(journal_problem(path, running.is_some()));
        }
    }
    if let Some(key) = &config.journal.key {
        problems.extend(Keys::read(key).err().map(|error| error.to_string()));
    }
    problems
}

/// A sentence for each file of a feed, a published zone or the recorder that this user can't use. A server starts all the
/// same, with an alarm for each.
pub fn file_problems(config: &Config) -> Vec<String> {
    let feeds = config.feeds.iter().filter_map(|feed| {
        let problem = secret_problem(feed.tsig.as_ref())?;
        Some(format!("feed {}: {problem}", feed.name))
    });
    let published = config.publish.iter().flat_map(|publish| {
        let export = publish.export.as_deref().and_then(export_problem);
        let problems = secret_problem(publish.tsig.as_ref())
            .into_iter()
            .chain(export);
        problems.map(|problem| format!("publish {}: {problem}", publish.zone))
    });
    let recording = &config.server.recording;
    let log = recording.query_log.file.as_deref().and_then(log_problem);
    let clients = recorder::client_problem(&recording.query_log);
    let receiver = recording.dnstap.socket().and_then(receiver_problem);
    feeds
        .chain(published)
        .chain(log)
        .chain(clients)
        .chain(receiver)
        .collect()
}

/// The problem with writing the query log, if there is one.
fn log_problem(path: &Path) -> Option<String> {
    let what = "the query log";
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            let path = path.shown();
            Some(format!(
                "{path}: {what} can't be written, because this is a directory; name a file in [query-log]"
            ))
        }
        // To open a pipe may have effects.
        Ok(meta) if !meta.is_file() => None,
        Ok(_) => {
            let opened = OpenOptions::new().append(true).open(path);
            opened.err().map(|error| unusable(what, path, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            creation_problem(what, path, path.parent().unwrap_or(path))
        }
        Err(error) => Some(unusable(what, path, &error)),
    }
}

/// The problem with the socket of a receiver of dnstap, if there is one. The receiver may make it later.
fn receiver_problem(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    (!meta.file_type().is_socket()).then(|| {
        let path = path.shown();
        format!(
            "{path}: dnstap can't be sent there, because this is no socket; name that of the receiver in [dnstap] socket"
        )
    })
}

/// The warnings of a start with this configuration by this user, a sentence each.
pub fn warnings(config: &Config, running: Option<&Running>) -> Vec<String> {
    let control = config.server.control.as_deref();
    let (access, _) = access(config, user_id());
    let closed = socket::closed_to_group(&control_sockets(control), control.is_some(), access);
    compose::warnings(config)
        .into_iter()
        .chain(closed)
        .chain(lacks_files(config, running))
        .collect()
}

/// A warning if the limit of open files allows fewer TCP connections than configured. The limit is that of the running
/// server, or of this process if none runs.
fn lacks_files(config: &Config, running: Option<&Running>) -> Option<String> {
    let process = running.map_or("self".to_owned(), |running| running.process.to_string());
    let table = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let files = most_files(&table)?.min(OPEN_FILES);
    let listening = Listening {
        addresses: config.server.listen.len(),
        workers: workers(config),
    };
    let wanted = config.server.tcp_connections;
    let now = limits::budget(files, listening, wanted).connections;
    (now < wanted).then(|| {
        format!(
            "[server] tcp-connections: {now} of {wanted} are possible, as {files} files may be open: raise LimitNOFILE in the \
             systemd unit, or the hard limit of `ulimit -n`"
        )
    })
}

/// The hard limit of open files in the system's table of a process's limits (proc_pid_limits(5)).
fn most_files(table: &str) -> Option<usize> {
    let mut lines = table.lines();
    let files = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    match files.split_whitespace().nth(1)? {
        "unlimited" => Some(usize::MAX),
        hard => hard.parse().ok(),
    }
}

/// Adds all other problems of the configuration to an error that ends the start, so that they can be corrected at once.
/// `held` are sockets that were passed to the server.
pub(super) fn with_others(error: DaemonError, config: &Config, held: &Held) -> DaemonError {
    let running = held.process.map(|process| Running {
        process,
        listen: held.listen.clone(),
    });
    let mut problems = problems_beside(config, running.as_ref(), held);
    let first = error.to_string();
    problems.retain(|problem| first.lines().all(|known| known != problem));
    if problems.is_empty() {
        return error;
    }
    problems.insert(0, first);
    DaemonError::Unready(problems)
}

/// The problem with the state directory, if there is one.
fn state_problem(dir: &Path, running: Option<&Running>) -> Option<String> {
    let what = "the state directory";
    match fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => {
            let dir = dir.shown();
            Some(format!(
                "{dir}: {what} is not a directory; set another `dir` in [state]"
            ))
        }
        Ok(_) => creation_problem(what, dir, dir).or_else(|| {
            let lock = dir.join("lock");
            // The file contains the number of the process that locked it.
            let holder = fs::read_to_string(&lock).unwrap_or_default();
            let is_holder = |running: &Running| holder.trim() == running.process.to_string();
            lock_problem(what, &lock, running.is_some_and(is_holder))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            creation_problem(what, dir, dir.parent().unwrap_or(dir))
        }
        Err(error) => Some(unusable(what, dir, &error)),
    }
}

/// The problem with the journal, if there is one.
fn journal_problem(path: &Path, is_running: bool) -> Option<String> {
    let what = "the journal";
    match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => {
            Some(unusable(what, path, &regular::Unread::NotRegular.into()))
        }
        Ok(_) => match OpenOptions::new().read(true).append(true).open(path) {
            Ok(_) => lock_problem(what, path, is_running),
            Err(error) => Some(unusable(what, path, &error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            creation_problem(what, path, path.parent().unwrap_or(path))
        }
        Err(error) => Some(unusable(what, path, &error)),
    }
}

/// The problem with the secret of a key, if there is one.
fn secret_problem(tsig: Option<&Tsig>) -> Option<String> {
    key::of(tsig?).err().map(|error| error.to_string())
}

/// The problem with replacing the file of a published zone, if there is one.
fn export_problem(path: &Path) -> Option<String> {
    if path.is_dir() {
        let path = path.shown();
        return Some(format!(
            "{path}: the exported file can't be written, because this is a directory; name a file in `export`"
        ));
    }
    let folder = path.parent().unwrap_or(path);
    creation_problem("the exported file", path, folder)
}

/// The problem with creating `path` in `folder`. To test this, a file without a name is created there.
fn creation_problem(what: &str, path: &Path, folder: &Path) -> Option<String> {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let error = tempfile::tempfile_in(folder).err()?;
    Some(unusable(what, path, &error))
}

/// The problem if a process other than the running server has locked a file.
fn lock_problem(what: &str, lock: &Path, is_running: bool) -> Option<String> {
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

fn unusable(what: &str, path: &Path, error: &io::Error) -> String {
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
    fn a_valid_configuration_has_no_problems_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "[state]\ndir = \"state\"\n[journal]\npath = \"journal\"\n";
        let config = config(text, folder.path());
        assert_eq!(problems(&config, None), Vec::<String>::new());
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
    }

    #[test]
    fn all_problems_are_reported_at_once() {
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
    fn sockets_and_locks_of_the_running_server_are_no_problems() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("state")).expect("made");
        let lock = File::create(folder.path().join("state/lock")).expect("made");
        lock.try_lock().expect("free");
        fs::write(folder.path().join("state/lock"), "42\n").expect("written");
        let mut config = config("[state]\ndir = \"state\"\n", folder.path());
        let other = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        config.server.listen = vec![other.local_addr().expect("bound")];
        let alone = problems(&config, None);
        assert_eq!(alone.len(), 2, "{alone:?}");
        assert!(alone[1].contains("in use by another process"), "{alone:?}");
        let running = Running {
            process: 42,
            listen: config.server.listen.clone(),
        };
        assert_eq!(problems(&config, Some(&running)), Vec::<String>::new());
        let other = Running {
            process: 43,
            ..running.clone()
        };
        let found = problems(&config, Some(&other));
        assert!(
            found.len() == 1 && found[0].contains("in use by another process"),
            "{found:?}"
        );
        // The control group is checked although the server is running.
        config.server.control_group = Some("no-such-group".to_owned());
        let found = problems(&config, Some(&running));
        assert!(
            found.len() == 1 && found[0].contains("groupadd"),
            "{found:?}"
        );
        config.server.control_group = None;
        // First the wildcard address, then one that this machine does not have.
        let port = running.listen[0].port();
        config.server.listen = vec![([0, 0, 0, 0], port).into()];
        assert_eq!(problems(&config, Some(&running)), Vec::<String>::new());
        config.server.listen = vec![([192, 0, 2, 1], port).into()];
        assert_eq!(problems(&config, Some(&running)).len(), 1);
    }
}
