//! Failures at the start are reported in one sentence with the remedy.

use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::server::{Server, folder, list, preamble, refused, tapis, text, verb};
use crate::support::upstream::Upstream;

#[test]
fn a_port_in_use_is_reported_even_if_another_tapis_uses_it() {
    let upstream = Upstream::plain();
    let server = Server::start(&preamble(upstream.address), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let listen = server.address.to_string();
    let report = refused(
        folder.path(),
        &preamble(upstream.address),
        &["--listen", &listen],
    );
    assert!(
        report.contains(&format!("{listen} is in use")) && report.contains("--listen"),
        "{report}"
    );

    let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let listen = other.local_addr().expect("bound").to_string();
    let report = refused(
        folder.path(),
        &preamble(upstream.address),
        &["--listen", &listen],
    );
    assert!(report.contains("is in use"), "{report}");
}

#[test]
fn an_address_that_this_machine_does_not_have_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = preamble(Upstream::plain().address);
    let report = refused(folder.path(), &config, &["--listen", "192.0.2.1:5335"]);
    assert!(
        report.contains("not an address of this machine"),
        "{report}"
    );
}

#[test]
fn an_upstream_that_is_this_server_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = preamble(Upstream::plain().address);
    let itself = ["--listen", "127.0.0.1:5399", "--upstream", "127.0.0.1:5399"];
    let report = refused(folder.path(), &config, &itself);
    assert!(report.contains("is this server itself"), "{report}");
}

#[test]
fn an_ipv4_mapped_address_to_listen_on_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = preamble(Upstream::plain().address);
    let run = |listen: &str| {
        let run = tapis()
            .current_dir(folder.path())
            .args(["serve", "--listen", listen])
            .output();
        let output = run.expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    fs::write(folder.path().join("tapis.toml"), config).expect("written");
    let report = run("[::ffff:127.0.0.1]:5399");
    assert!(report.contains("write \"127.0.0.1:5399\""), "{report}");
    let report = run("::ffff:127.0.0.1");
    assert!(report.contains("write \"127.0.0.1\""), "{report}");
}

#[test]
fn a_control_socket_in_use_by_another_server_is_reported() {
    let upstream = Upstream::plain();
    let server = Server::start(&preamble(upstream.address), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = server.path("control.sock").display().to_string();
    let report = refused(
        folder.path(),
        &preamble(upstream.address),
        &["--control", &socket],
    );
    assert!(report.contains("another tapis is running"), "{report}");
}

/// Starts a server whose configuration has no control socket, and whose temporary directory is
/// `tmp` in its directory. As root it runs as user nobody, who cannot create `/run/tapis`.
fn without_control(prepare: impl Fn(&Path)) -> Server {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address).replace("control = \"control.sock\"\n", "");
    let folder = folder(&config, &[]);
    fs::create_dir(folder.path().join("tmp")).expect("made");
    let is_root = fs::metadata(folder.path()).expect("there").uid() == 0;
    let user = match is_root {
        true => 65534,
        false => fs::metadata(folder.path()).expect("there").uid(),
    };
    prepare(&folder.path().join(format!("tmp/tapis-{user}")));
    let program = tapis().get_program().to_string_lossy().into_owned();
    let mut arguments = vec!["-u", "XDG_RUNTIME_DIR", "TMPDIR=tmp"];
    if is_root {
        for path in ["", "tmp", "tapis.toml"] {
            let path = folder.path().join(path);
            chown(path, Some(user), None).expect("changed");
        }
        arguments.extend(["setpriv", "--reuid=65534", "--clear-groups"]);
    }
    arguments.extend([&*program, "serve", "--config", "tapis.toml"]);
    Server::start_by("env", &arguments, folder)
}

#[test]
fn another_users_directory_in_place_of_the_fallback_socket_does_not_stop_the_server() {
    for (kind, prepare) in [
        (
            "a link",
            (&|path: &Path| {
                let elsewhere = path.with_file_name("elsewhere");
                fs::create_dir(&elsewhere).expect("made");
                let meta = fs::metadata(path.parent().expect("tmp")).expect("there");
                chown(
                    &elsewhere,
                    Some(if meta.uid() == 0 { 65534 } else { meta.uid() }),
                    None,
                )
                .expect("changed");
                symlink(&elsewhere, path).expect("linked");
            }) as &dyn Fn(&Path),
        ),
        ("a folder that others may write to", &|path: &Path| {
            fs::create_dir(path).expect("made");
            fs::set_permissions(path, Permissions::from_mode(0o777)).expect("changed");
        }),
        ("a file", &|path: &Path| {
            fs::write(path, "theirs").expect("written");
        }),
    ] {
        let mut server = without_control(prepare);
        server.logged("no control socket");
        server.logged("control=none");
        let elsewhere = server.path("tmp/elsewhere");
        let made = fs::read_dir(elsewhere).map_or(0, Iterator::count);
        assert_eq!(
            made, 0,
            "{kind}: nothing is created at the target of a link"
        );
        server.signal("TERM");
        assert_eq!(server.wait(), Some(0), "{kind}");
    }
}

#[test]
fn the_socket_of_another_server_stays_when_this_one_ends() {
    let upstream = Upstream::plain();
    let mut server = Server::start(&preamble(upstream.address), &[]);
    let socket = server.path("control.sock");
    fs::remove_file(&socket).expect("removed");
    let _other = UnixListener::bind(&socket).expect("bound");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(socket.exists(), "it is not this server's");
}

/// A configuration whose port, state directory and control socket are unavailable, and the socket
/// that occupies the port.
fn unready(folder: &Path) -> (String, UdpSocket) {
    let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let listen = other.local_addr().expect("bound");
    fs::write(folder.join("file"), "").expect("written");
    let config = format!(
        "[server]\nlisten = [\"{listen}\", \"192.0.2.1:5335\"]\ncontrol = \"file/s\"\n\
         [upstream]\nservers = [\"192.0.2.2\"]\n[state]\ndir = \"file/state\"\n"
    );
    (config, other)
}

const UNREADY: [&str; 4] = [
    " is in use",
    "192.0.2.1:5335 is not an address of this machine",
    "file/s: the control socket",
    "file/state: the state directory",
];

#[test]
fn a_start_reports_all_unavailable_resources_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, _other) = unready(folder.path());
    let report = refused(folder.path(), &config, &[]);
    for part in UNREADY {
        assert_eq!(report.matches(part).count(), 1, "{part}: {report}");
    }
}

#[test]
fn check_reports_the_resources_that_a_start_could_not_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, _other) = unready(folder.path());
    let path = folder.path().join("tapis.toml");
    fs::write(&path, config).expect("written");
    let check = |more: &[&str]| {
        let mut command = tapis();
        command.arg("check").args(more).arg("--config").arg(&path);
        command.output().expect("it ran")
    };
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(1));
    for part in UNREADY {
        assert_eq!(text(&output).matches(part).count(), 1, "{}", text(&output));
    }
    let files = check(&["--files-only"]);
    assert!(files.status.success(), "{}", text(&files));
}

#[test]
fn check_reports_the_files_of_the_recorder_that_cannot_be_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tapis.toml");
    fs::write(folder.path().join("file"), "").expect("written");
    let upstream = Upstream::plain();
    for (section, expected) in [
        (
            "[query-log]\nfile = \"gone/log\"\n",
            "gone/log: the query log",
        ),
        ("[query-log]\nfile = \".\"\n", "because this is a directory"),
        (
            "[query-log]\nfile = \"log\"\nclient = \"hashed\"\nclient-key = \"gone\"\n",
            "gone of [query-log] client-key",
        ),
        ("[dnstap]\nsocket = \"file\"\n", "because this is no socket"),
    ] {
        fs::write(&path, preamble(upstream.address) + section).expect("written");
        let mut check = tapis();
        check.args(["check", "--config"]).arg(&path);
        let output = check.output().expect("it ran");
        assert_eq!(output.status.code(), Some(1), "{section}");
        assert!(text(&output).contains(expected), "{}", text(&output));
    }
    assert!(!folder.path().join("log").exists(), "nothing is made");
}

#[test]
fn check_beside_the_running_server_accepts_the_sockets_of_that_server() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + "[state]\ndir = \"state\"\n";
    let server = Server::start(&config, &[]);
    // The port that the kernel chose, as a configuration would name it.
    let listen = server.address.to_string();
    server.replace("tapis.toml", &config.replace("127.0.0.1:0", &listen));
    let output = server.verb(&["check"]);
    assert!(output.status.success(), "{}", text(&output));
    let note = format!("a server runs (process {})", server.id());
    assert!(text(&output).contains(&note), "{}", text(&output));
}

#[test]
fn a_required_list_that_is_missing_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = preamble(Upstream::plain().address) + &list("must", "required = true");
    let report = refused(folder.path(), &config, &[]);
    assert!(
        report.contains("list `must` is required") && report.contains("/must"),
        "{report}"
    );
}

#[test]
fn a_required_list_that_guards_hold_ends_the_start_with_an_offline_remedy() {
    let many = "<b>\n".repeat(300_000);
    for (content, remedy) in [
        ("", "if it is to be empty, put a comment line into it"),
        (
            "a.example\n/\n/\n",
            "correct or remove the bad lines, or raise `bad-percent` in [guard]",
        ),
        // This list is read by the compiler.
        (
            &*"a.example\n/\n/\n".repeat(200_000),
            "correct or remove the bad lines",
        ),
        (&*many, "check the address that it is downloaded from"),
        (
            "||ads.example^\n",
            "an adblock filter list: set format = \"adblock\"",
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = preamble(Upstream::plain().address) + &list("must", "required = true");
        fs::write(folder.path().join("must"), content).expect("written");
        let report = refused(folder.path(), &config, &[]);
        assert!(report.contains("list `must` is required, but "), "{report}");
        assert!(report.contains(remedy), "{report}");
        let last = report.lines().last().expect("a line");
        assert!(
            !last.contains("--accept"),
            "no server can accept it: {report}"
        );
        // `check` before the start reports the same.
        let checked = text(&verb(folder.path(), &["check"]));
        assert!(
            checked.contains(remedy) && !checked.contains("--accept"),
            "{checked}"
        );
    }
}

#[test]
fn mistakes_in_the_configuration_are_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = refused(folder.path(), "[server]\nlisten = []\n[upstrem]\n", &[]);
    assert!(
        report.contains("tapis.toml:2: ") && report.contains("tapis.toml:3: "),
        "{report}"
    );
}
