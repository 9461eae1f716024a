//! Permissions of the control socket, and messages to users without them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tempfile::TempDir;

use crate::support::client::{ask, rcode, until};
use crate::support::server::{self, Server, list, preamble, tapis, text};
use crate::support::upstream::Upstream;

/// Users and groups that do not exist on the machine.
const USER: u32 = 424_242;
const GROUP: u32 = 424_243;

/// `tapis status` with this socket, as another user. It needs root.
fn status_as(user: u32, group: u32, socket: &Path) -> Output {
    tapis()
        .args(["status", "--control"])
        .arg(socket)
        .uid(user)
        .gid(group)
        .output()
        .expect("it ran")
}

fn is_root() -> bool {
    let own = fs::metadata("/proc/self").expect("this process");
    own.uid() == 0
}

/// Whether another user can run the program under test from its build directory.
fn others_can_run_it() -> bool {
    is_root()
        && tapis()
            .arg("--version")
            .uid(USER)
            .gid(USER)
            .output()
            .is_ok()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
}

#[test]
fn a_user_without_access_to_the_socket_gets_a_permission_error() {
    if !others_can_run_it() {
        return;
    }
    let upstream = Upstream::plain();
    let server = Server::start(&preamble(upstream.address), &[]);
    let socket = server.path("control.sock");
    for mode in [0o700, 0o755] {
        // First with the directory closed to the user, then with the socket itself.
        set_mode(server.folder.path(), mode);
        let output = status_as(USER, USER, &socket);
        assert_eq!(output.status.code(), Some(4));
        let report = text(&output);
        assert!(
            report.contains("control.sock may not be opened by this user")
                && report.contains("control-group")
                && !report.contains("serve` running"),
            "{report}"
        );
    }
    // No other configuration is used in place of that of the server.
    if !Path::new("/etc/tapis/tapis.toml").exists() {
        let mut why = tapis();
        why.args(["why", "blocked.example", "--control"]);
        let output = why.arg(&socket).uid(USER).gid(USER).output();
        let output = output.expect("it ran");
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty(), "{}", text(&output));
        assert!(text(&output).contains("--config"), "{}", text(&output));
    }
    let absent = text(&status_as(USER, USER, Path::new("/proc/nobody.sock")));
    assert!(absent.contains("is `tapis serve` running"), "{absent}");
}

/// A configuration whose control socket is open to the group.
fn for_group(upstream: &Upstream) -> String {
    preamble(upstream.address).replace(
        "control = \"control.sock\"",
        &format!("control = \"run/control.sock\"\ncontrol-group = \"{GROUP}\""),
    )
}

#[test]
fn members_of_the_control_group_may_use_the_socket_and_others_may_not() {
    if !others_can_run_it() {
        return;
    }
    let upstream = Upstream::plain();
    let config = for_group(&upstream);
    let server = Server::start(&(config + &list("ads", "")), &[("ads", "a.example\n")]);
    set_mode(server.folder.path(), 0o755);
    let socket = server.path("run/control.sock");
    let member = status_as(USER, GROUP, &socket);
    assert!(member.status.success(), "{}", text(&member));
    assert!(text(&member).contains("list ads"), "{}", text(&member));
    let other_user = text(&status_as(USER, USER, &socket));
    assert!(other_user.contains("may not be opened"), "{other_user}");
    assert!(server.verb(&["status"]).status.success());
}

#[test]
fn a_missing_control_group_is_reported_and_the_server_starts() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address).replace(
        "workers = 2\n",
        "workers = 2\ncontrol-group = \"no-such-group\"\n",
    );
    let server = Server::start(&config, &[]);
    for (printed, code) in [
        (server.verb(&["check"]), Some(1)),
        (server.verb(&["status"]), Some(1)),
    ] {
        assert_eq!(printed.status.code(), code);
        let printed = text(&printed);
        assert!(
            printed.contains("no-such-group") && printed.contains("groupadd"),
            "{printed}"
        );
    }
    let answer = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&answer), ResponseCode::NoError);
}

/// A directory of another user, with this configuration.
fn folder_of_other_user(config: &str) -> TempDir {
    let folder = server::folder(config, &[]);
    set_mode(folder.path(), 0o755);
    chown(folder.path(), Some(USER), Some(USER)).expect("changed");
    folder
}

/// A verb that another user runs in a directory.
fn as_user(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = tapis();
    command
        .args(arguments)
        .args(["--config", "tapis.toml"])
        .current_dir(folder)
        .uid(USER)
        .gid(USER);
    command
}

#[test]
fn a_server_that_is_not_a_member_of_the_control_group_starts_and_says_so() {
    if !others_can_run_it() {
        return;
    }
    let upstream = Upstream::plain();
    // In a directory that the server creates, and in an existing one.
    for socket in ["run/control.sock", "control.sock"] {
        let config = for_group(&upstream).replace("run/control.sock", socket);
        let folder = folder_of_other_user(&config);
        let run = |folder: &Path, verb: &str| {
            let output = as_user(folder, &[verb]).output().expect("it ran");
            assert_eq!(output.status.code(), Some(1), "{}", text(&output));
            let printed = text(&output);
            assert!(
                printed.contains("[server] control-group: ")
                    && printed.contains(&format!("make user {USER} a member of group {GROUP}")),
                "{verb}: {printed}"
            );
            printed
        };
        run(folder.path(), "check");
        let command = as_user(folder.path(), &["serve"]);
        let server = Server::run(command, folder);
        let answer = ask(server.address, "a.example", RecordType::A);
        assert_eq!(rcode(&answer), ResponseCode::NoError);
        assert!(run(server.folder.path(), "status").contains("ALARM "));
        run(server.folder.path(), "check");
        let log = server.logged("control-group");
        assert!(log.contains("ERROR"), "{log}");
        let meta = fs::metadata(server.path(socket)).expect("there");
        assert_eq!(meta.mode() & 0o777, 0o600);
    }
}

#[test]
fn root_is_shown_the_owner_of_the_sockets_directory_and_the_user_to_check_as() {
    if !others_can_run_it() {
        return;
    }
    let config = preamble(Upstream::plain().address);
    let folder = folder_of_other_user(&config);
    let output = server::verb(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    let printed = text(&output);
    assert!(
        printed.contains(&format!("its folder belongs to user {USER}"))
            && printed.contains("run this as that user")
            && printed.contains("--files-only")
            && !printed.contains("that the server's user may write to"),
        "{printed}"
    );
    let by_them = as_user(folder.path(), &["check"]).output().expect("it ran");
    assert!(by_them.status.success(), "{}", text(&by_them));
    assert!(!text(&by_them).contains("note: "), "{}", text(&by_them));
}

#[test]
fn checks_by_root_for_another_user_are_reported_as_made_with_roots_rights() {
    if !others_can_run_it() {
        return;
    }
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("secret", "");
    // In a place where root trusts the server, and in one where it does not.
    let trusted = tempfile::tempdir_in("/run").ok();
    for place in trusted
        .into_iter()
        .chain([tempfile::tempdir().expect("a folder")])
    {
        for (file, content) in [("tapis.toml", &*config), ("secret", "a.example\n")] {
            fs::write(place.path().join(file), content).expect("written");
        }
        chown(place.path(), Some(USER), Some(USER)).expect("changed");
        set_mode(place.path(), 0o755);
        set_mode(&place.path().join("secret"), 0o600);
        let server = Server::run(as_user(place.path(), &["serve"]), place);
        let output = server.verb(&["check"]);
        assert!(output.status.success(), "{}", text(&output));
        let printed = text(&output);
        assert!(
            printed.contains(&format!(
                "note: the server's user is {USER}, and this is root: "
            )) && printed.contains("was not checked"),
            "{printed}"
        );
        let by_them = as_user(server.folder.path(), &["check"]).output();
        let by_them = text(&by_them.expect("it ran"));
        assert!(
            by_them.contains("secret: Permission denied") && !by_them.contains("this is"),
            "{by_them}"
        );
    }
}

#[test]
fn files_that_only_root_can_read_are_named_when_root_checks_before_a_start() {
    if !is_root() {
        return;
    }
    let config = preamble(Upstream::plain().address)
        + "[journal]\nkey = \"key\"\n"
        + &list("ads", "")
        + &list("more", "");
    let secret = format!("a {}\n", "0123456789abcdef".repeat(4));
    let files = [
        ("ads", "ads.example\n"),
        ("more", "more.example\n"),
        ("key", &secret),
    ];
    let folder = server::folder(&config, &files);
    for (file, _) in files.into_iter().chain([("tapis.toml", "")]) {
        set_mode(&folder.path().join(file), 0o644);
    }
    let check = |more: &[&str]| text(&server::verb(folder.path(), &[&["check"], more].concat()));
    assert!(!check(&[]).contains("only root can read"));
    set_mode(&folder.path().join("more"), 0o600);
    let printed = check(&[]);
    assert!(
        printed.contains("/more: a server that runs as another user could not"),
        "{printed}"
    );
    set_mode(&folder.path().join("key"), 0o600);
    let printed = check(&[]);
    assert!(
        printed.contains("/key (and 1 more): a server that"),
        "{printed}"
    );
    assert!(!check(&["--files-only"]).contains("only root"));
}

/// A server of another user, killed with the test.
struct OtherServer(Child);

impl Drop for OtherServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn root_reaches_a_users_server_whose_socket_is_in_the_temporary_directory() {
    if !others_can_run_it() {
        return;
    }
    // In place of /tmp, which other tests share.
    let Ok(shared) = tempfile::tempdir_in("/run") else {
        return;
    };
    set_mode(shared.path(), 0o1777);
    let config = shared.path().join("tapis.toml");
    let text_of = "[server]\nlisten = [\"127.0.0.1:0\"]\n[upstream]\nservers = [\"192.0.2.1\"]\n";
    fs::write(&config, text_of).expect("written");
    let log = fs::File::create(shared.path().join("log")).expect("made");
    let socket = shared.path().join(format!("tapis-{USER}/control.sock"));
    // If /run/tapis exists, it is tried first and rejected, because it does not belong to this user.
    let _server = OtherServer(
        tapis()
            .args(["serve", "--config"])
            .arg(&config)
            .env("TMPDIR", shared.path())
            .env_remove("XDG_RUNTIME_DIR")
            .uid(USER)
            .gid(USER)
            .stderr(log)
            .spawn()
            .expect("started"),
    );
    let read = || fs::read_to_string(shared.path().join("log")).expect("readable");
    until("it serves", || read().contains("serving address="));
    assert!(socket.exists(), "{}", read());
    let by_root = tapis()
        .args(["status", "--control"])
        .arg(&socket)
        .output()
        .expect("it ran");
    assert!(by_root.status.success(), "{}", text(&by_root));
    // The same socket in a directory that is named for another user.
    let other = shared.path().join("tapis-424244");
    fs::create_dir(&other).expect("made");
    chown(&other, Some(USER), Some(USER)).expect("changed");
    fs::rename(&socket, other.join("control.sock")).expect("moved");
    let deceived = tapis()
        .args(["status", "--control"])
        .arg(other.join("control.sock"))
        .output()
        .expect("it ran");
    assert_eq!(deceived.status.code(), Some(4));
    let report = text(&deceived);
    assert!(
        report.contains(&format!("runs as user {USER}")) && !report.contains("generation"),
        "{report}"
    );
}

#[test]
fn a_member_of_the_control_group_is_shown_the_missing_permission_on_the_journal() {
    if !others_can_run_it() {
        return;
    }
    let upstream = Upstream::plain();
    let config = for_group(&upstream) + "[state]\ndir = \"state\"\n[journal]\nkey = \"key\"\n";
    let secret = format!("a {}\n", "0123456789abcdef".repeat(4));
    let server = Server::start(&config, &[("key", &secret)]);
    for path in ["", "state"] {
        set_mode(&server.path(path), 0o755);
    }
    set_mode(&server.path("key"), 0o600);
    until("the head", || {
        server.path("state/journal.jsonl.head").exists()
    });
    let read = |verb: &str, config: bool| {
        let mut command = tapis();
        command.args(["journal", verb]);
        match config {
            true => command.arg("--config").arg(server.path("tapis.toml")),
            false => command
                .arg("--file")
                .arg(server.path("state/journal.jsonl")),
        };
        let output = command.uid(USER).gid(GROUP).output().expect("it ran");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        text(&output)
    };
    let remedy = "run this command as root or as the user that runs the server";
    let lacks = |report: &str, file: &str, right: &str| {
        let is_said = report.contains(file) && report.contains(right) && report.contains(remedy);
        assert!(
            is_said && !report.contains("the disk must have room"),
            "{report}"
        );
    };
    let report = read("verify", true);
    let remedy = "other users run this command as root";
    assert!(
        report.contains("/key: ") && report.contains(remedy),
        "{report}"
    );
    let closed = "/journal.jsonl: can't be opened";
    let report = read("verify", false);
    lacks(&report, "/state/journal.jsonl", "may not read this file");
    lacks(&read("show", true), closed, "may not read this file");
    set_mode(&server.path("state/journal.jsonl"), 0o644);
    // If this user cannot read the journal's head, no missing entries are reported.
    let report = read("verify", false);
    lacks(
        &report,
        "/journal.jsonl.head: can't be read",
        "may not read this file",
    );
    assert!(!report.contains("may be missing"), "{report}");
    set_mode(&server.path("state"), 0o700);
    lacks(
        &read("export", true),
        closed,
        "may not search the directory",
    );
    set_mode(&server.path("tapis.toml"), 0o600);
    lacks(
        &read("show", true),
        "tapis.toml: cannot be read",
        "may not read this file",
    );
}
