//! A start as root with `[process] user`: the server runs as that user. Most tests need root, and say so if they are skipped.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use tempfile::TempDir;

use crate::support::client::is_blocked;
use crate::support::server::{Server, refused, text, verb};
use crate::support::upstream::Upstream;
use tapis::sys::account::{Account, account};
use tapis::sys::process::user_id;

/// A user that each system has.
const USER: &str = "nobody";

/// The account of [`USER`]; `None` if this is not root, which is printed.
fn target() -> Option<Account> {
    if user_id() != 0 {
        eprintln!("skipped: only root can become another user");
        return None;
    }
    Some(account(USER).expect("looked up").expect("a user"))
}

/// A configuration with that user, and with its directories below `run` and `state`.
fn config(upstream: &Upstream, listen: &[SocketAddr]) -> String {
    let listen: Vec<_> = listen.iter().map(ToString::to_string).collect();
    format!(
        "[process]\nuser = \"{USER}\"\n\
         [server]\nlisten = {listen:?}\nworkers = 2\ncontrol = \"run/control.sock\"\n\
         [upstream]\nservers = [\"{}\"]\n[state]\ndir = \"state\"\n\
         [query-log]\nfile = \"logs/queries\"\n\
         [guard]\ngrow-percent = 0\n[[list]]\nname = \"ads\"\npath = \"ads\"\n",
        upstream.address
    )
}

/// A directory that everyone may enter. Root's is not below /tmp, where root trusts no socket of another user.
fn open_folder(config: &str) -> TempDir {
    let folder = match user_id() {
        0 => tempfile::tempdir_in("/run"),
        _ => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder");
    for (name, content) in [("tapis.toml", config), ("ads", "blocked.example\n")] {
        fs::write(folder.path().join(name), content).expect("written");
    }
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("set");
    folder
}

fn any() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// An address with a free port that only the privileged may bind, unless the system permits everyone to bind it.
fn privileged() -> SocketAddr {
    let ip = IpAddr::from([127, 53, 0, 1]);
    let mut ports = (1..1024).rev().map(|port| SocketAddr::new(ip, port));
    let is_free = |at: &SocketAddr| TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok();
    ports.find(is_free).expect("a free port")
}

/// The value of a line of the status of each thread of a process.
fn of_threads(id: u32, key: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).expect("a process");
    let values = threads.flatten().map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).expect("a thread");
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let value = line.and_then(|line| line.strip_prefix(':'));
        value
            .expect("a line")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    });
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

#[test]
fn no_thread_keeps_a_privilege_of_root_but_the_one_for_ports_which_a_reload_can_use() {
    let Some(Account { user, group }) = target() else {
        return;
    };
    let upstream = Upstream::plain();
    let first = config(&upstream, &[any()]);
    let server = Server::start_in(open_folder(&first));
    assert!(is_blocked(server.address, "blocked.example"));
    let four = |number: u32| vec![format!("{number} {number} {number} {number}")];
    let id = server.id();
    assert_eq!(of_threads(id, "Uid"), four(user));
    assert_eq!(of_threads(id, "Gid"), four(group));
    assert_eq!(of_threads(id, "Groups"), [group.to_string()]);
    // CAP_NET_BIND_SERVICE is number 10.
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(of_threads(id, set), ["0000000000000400"], "{set}");
    }
    assert_eq!(of_threads(id, "NoNewPrivs"), ["1"]);
    assert_eq!(server.status()["user"], user);
    // The directories were missing.
    for (name, mode) in [("state", 0o750), ("run", 0o755), ("logs", 0o750)] {
        let meta = fs::metadata(server.path(name)).expect(name);
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o777),
            (user, group, mode)
        );
    }
    for name in ["state/journal.jsonl", "run/control.sock", "logs/queries"] {
        assert_eq!(fs::metadata(server.path(name)).expect(name).uid(), user);
    }
    server.logged("root's privileges are dropped user=\"nobody\"");
    let privileged = privileged();
    server.replace("tapis.toml", &config(&upstream, &[privileged]));
    let reload = server.verb(&["reload"]);
    assert!(reload.status.success(), "{}", text(&reload));
    assert!(is_blocked(privileged, "blocked.example"));
    // The compiler of large lists is a process of that user, too.
    let mut names = String::new();
    for number in 0..100_000 {
        names.push_str(&format!("{number}.example\n"));
    }
    server.replace("ads", &names);
    let reload = server.verb(&["reload"]);
    assert!(reload.status.success(), "{}", text(&reload));
    assert!(is_blocked(privileged, "99999.example"));
}

#[test]
fn files_that_the_user_cannot_use_are_named_with_the_remedy() {
    let Some(Account { user, .. }) = target() else {
        return;
    };
    let upstream = Upstream::plain();
    let config = config(&upstream, &[any()]);
    let folder = open_folder(&config);
    let path = folder.path();
    for name in ["state", "run"] {
        fs::create_dir(path.join(name)).expect("made");
    }
    let report = refused(path, &config, &[]);
    for (key, name) in [("[state] dir", "state"), ("[server] control", "run")] {
        let remedy = format!("run `chown -R nobody: {}`", path.join(name).display());
        let line = report.lines().find(|line| line.contains(key));
        let line = line.unwrap_or_else(|| panic!("{key}: {report}"));
        assert!(
            line.contains("Permission denied") && line.ends_with(&remedy),
            "{line}"
        );
    }
    for name in ["state", "run"] {
        chown(path.join(name), Some(user), None).expect("given");
    }
    fs::write(path.join("state/lock"), "").expect("written");
    let report = refused(path, &config, &[]);
    assert!(
        report.contains("lock in ") && report.contains("belongs to another user than nobody"),
        "{report}"
    );
    fs::remove_file(path.join("state/lock")).expect("removed");
    fs::set_permissions(path.join("tapis.toml"), Permissions::from_mode(0o600)).expect("set");
    let report = refused(path, &config, &[]);
    assert!(
        report.contains("can't read the configuration, so it could not be reloaded"),
        "{report}"
    );
}

#[test]
fn check_says_that_it_ran_as_another_user_than_the_server_will() {
    if target().is_none() {
        return;
    }
    let upstream = Upstream::plain();
    let folder = open_folder(&config(&upstream, &[any()]));
    let report = text(&verb(folder.path(), &["check"]));
    assert!(
        report.contains("the user of [process] is nobody, and this is root"),
        "{report}"
    );
}

#[test]
fn a_user_or_group_that_does_not_exist_is_an_error() {
    let upstream = Upstream::plain();
    let config = config(&upstream, &[any()]);
    let folder = open_folder("");
    let other = config.replace(USER, "no-such-user");
    let report = refused(folder.path(), &other, &[]);
    assert!(
        report.contains("[process] user is \"no-such-user\", and there is no such user: create it"),
        "{report}"
    );
    let group = config.replace("[server]", "group = \"no-such-group\"\n[server]");
    let report = refused(folder.path(), &group, &[]);
    assert!(
        report.contains(
            "[process] group is \"no-such-group\", and there is no such group: create it"
        ),
        "{report}"
    );
}

#[test]
fn an_ordinary_user_cannot_become_another_one_and_serves_with_a_warning() {
    if user_id() == 0 {
        eprintln!("skipped: this is root");
        return;
    }
    let upstream = Upstream::plain();
    let folder = open_folder(&config(&upstream, &[any()]).replace(USER, "root"));
    for name in ["run", "state", "logs"] {
        fs::create_dir(folder.path().join(name)).expect("made");
    }
    let server = Server::start_in(folder);
    let log = server.logged("[process] user has no effect");
    assert!(log.contains("user=\"root\""), "{log}");
    assert_eq!(server.status()["user"], user_id());
}
