//! `tapis check` beside a running server: its checks, and its notes about the skipped ones.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::client::until;
use crate::support::server::{Server, folder, list, preamble, text, verb};
use crate::support::signer::SECRET;
use crate::support::upstream::Upstream;

fn names(count: usize) -> String {
    (0..count).map(|n| format!("n{n}.example\n")).collect()
}

#[test]
fn check_names_the_guard_that_would_hold_a_list() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("ads", "");
    let server = Server::start(&config, &[("ads", &names(200))]);
    let good = server.verb(&["check"]);
    assert!(good.status.success(), "{}", text(&good));
    for (count, guard, says) in [
        (80, "shrunk", "80 rules, 60 % fewer than the 200 in force"),
        (4000, "grown", "4000 rules, 20 times the 200 rules in force"),
    ] {
        server.replace("ads", &names(count));
        until("the guard", || {
            server.status()["lists"][0]["guards"][0] == guard
        });
        let output = server.verb(&["check"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(says), "{}", text(&output));
        let files = server.verb(&["check", "--files-only"]);
        assert!(files.status.success(), "{}", text(&files));
    }
    let taken = server.verb(&["reload", "--accept", "ads:grown"]);
    assert!(taken.status.success(), "{}", text(&taken));
    let output = server.verb(&["check"]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn without_a_server_kept_rules_are_not_compared_and_check_says_so() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + "[state]\ndir = \"state\"\n" + &list("ads", "");
    let mut server = Server::start(&config, &[("ads", &names(200))]);
    until("it is kept", || server.path("state/current").exists());
    let note = "note: lists were not compared with their states in force";
    assert!(!text(&server.verb(&["check"])).contains(note));
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let printed = text(&server.verb(&["check"]));
    assert!(printed.contains(note), "{printed}");
    fs::remove_dir_all(server.path("state")).expect("removed");
    assert!(!text(&server.verb(&["check"])).contains(note));
}

#[test]
fn a_state_directory_of_another_server_is_reported_as_in_use() {
    let upstream = Upstream::plain();
    let state = |dir: &str| preamble(upstream.address) + &format!("[state]\ndir = {dir:?}\n");
    let other = Server::start(&state("state"), &[]);
    let server = Server::start(&state("state"), &[]);
    let good = server.verb(&["check"]);
    assert!(good.status.success(), "{}", text(&good));
    let theirs = other.path("state");
    server.replace("tapis.toml", &state(theirs.to_str().expect("text")));
    let output = server.verb(&["check"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let printed = text(&output);
    assert!(
        printed.contains("the state directory is in use by another process"),
        "{printed}"
    );
}

#[test]
fn check_warns_of_feeds_that_are_weakly_configured_and_reads_no_file_for_them() {
    let feed = "[[feed]]\nzone = \"rpz.example\"\nprimaries = [\"127.0.0.1\"]\nnotify-from = [\"0.0.0.0/0\"]\n\
                tsig = { name = \"k\", algorithm = \"hmac-sha1\", secret-file = \"none\" }\n";
    let config = preamble(Upstream::plain().address) + feed;
    let folder = folder(&config, &[("zone:rpz.example", "no list at all\n")]);
    let output = verb(folder.path(), &["check", "--files-only"]);
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    for note in [
        "note: feed rpz.example: its TSIG key is used with hmac-sha1",
        "note: feed rpz.example: notify-from has every address (0.0.0.0/0)",
        "note: feed rpz.example: each restart transfers the whole zone",
        "note: rpz.example: a running server transfers its zone; its rules were not checked",
        "good: 1 list",
    ] {
        assert!(printed.contains(note), "{note}: {printed}");
    }
}

#[test]
fn check_reads_the_secrets_of_zones_and_tests_where_they_are_exported() {
    let key = |file: &str| format!("tsig = {{ name = \"k\", secret-file = \"{file}\" }}\n");
    let config = preamble(Upstream::plain().address)
        + "[state]\ndir = \"state\"\n[[feed]]\nname = \"f\"\nzone = \"f.test\"\nprimaries = [\"127.0.0.1\"]\n"
        + &key("feed.key")
        + "[[publish]]\nzone = \"a.test\"\nexport = \"zones/a\"\n"
        + &key("a.key")
        + "[[publish]]\nzone = \"b.test\"\nexport = \"folder\"\n"
        + &key("b.key");
    let folder = folder(&config, &[("b.key", "not base64!")]);
    let at = |name: &str| folder.path().join(name);
    fs::write(at("feed.key"), SECRET).expect("written");
    let permit = |name: &str, mode| {
        fs::set_permissions(at(name), Permissions::from_mode(mode)).expect("changed");
    };
    permit("feed.key", 0o644);
    permit("b.key", 0o600);
    fs::create_dir(at("folder")).expect("made");
    let output = verb(folder.path(), &["check"]);
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    for (start, problem, remedy) in [
        ("feed f: ", "feed.key: users other than", "chmod 600"),
        (
            "publish a.test: ",
            "a.key: the TSIG secret can't be read",
            "; ",
        ),
        (
            "publish a.test: ",
            "zones/a: the exported file can't be used",
            "make its directory",
        ),
        (
            "publish b.test: ",
            "b.key: the secret is not base64",
            "in base64, as after",
        ),
        (
            "publish b.test: ",
            "folder: the exported file can't be written",
            "name a file",
        ),
    ] {
        let is_it =
            |line: &str| line.starts_with(start) && line.contains(problem) && line.contains(remedy);
        assert!(printed.lines().any(is_it), "{problem}: {printed}");
    }
    let files = verb(folder.path(), &["check", "--files-only"]);
    assert!(files.status.success(), "{}", text(&files));

    for name in ["feed.key", "a.key", "b.key"] {
        fs::write(at(name), SECRET).expect("written");
        permit(name, 0o600);
    }
    fs::remove_dir(at("folder")).expect("removed");
    fs::create_dir(at("zones")).expect("made");
    let output = verb(folder.path(), &["check"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(fs::read_dir(at("zones")).expect("listed").next().is_none());
}

#[test]
fn fewer_tcp_connections_than_configured_are_a_note_with_the_remedy() {
    let config = preamble(Upstream::plain().address);
    let folder = folder(&config, &[]);
    let checked = |files: u32| {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit -n {files}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_tapis"))
            .args(["check", "--config", "tapis.toml"])
            .current_dir(folder.path());
        let output = command.output().expect("it ran");
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let printed = checked(500);
    assert!(
        printed.contains("note: [server] tcp-connections: 166 of 1024")
            && printed.contains("LimitNOFILE"),
        "{printed}"
    );
    let printed = checked(4096);
    assert!(!printed.contains("tcp-connections"), "{printed}");
    // The limit of the running server applies, not that of this shell.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 500; exec \"$0\" serve --config tapis.toml",
        env!("CARGO_BIN_EXE_tapis"),
    ]);
    command.current_dir(folder.path());
    let server = Server::run(command, folder);
    let printed = text(&verb(server.folder.path(), &["check"]));
    assert!(printed.contains("166 of 1024"), "{printed}");
}
