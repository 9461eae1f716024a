//! What `check` finds beside a running server, and what it says that it did not look at.

use std::process::Command;

use crate::support::client::until;
use crate::support::server::{Server, folder, list, preamble, text, verb};
use crate::support::upstream::Upstream;

fn names(count: usize) -> String {
    (0..count).map(|n| format!("n{n}.example\n")).collect()
}

#[test]
fn a_list_that_the_running_server_would_hold_is_found_with_the_guard() {
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
fn without_a_server_to_ask_what_is_kept_of_the_last_one_is_not_compared_and_that_is_said() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + "[state]\ndir = \"state\"\n" + &list("ads", "");
    let mut server = Server::start(&config, &[("ads", &names(200))]);
    until("it is kept", || server.path("state/current").exists());
    let note = "note: lists were not compared with their states in force";
    assert!(!text(&server.verb(&["check"])).contains(note));
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let said = text(&server.verb(&["check"]));
    assert!(said.contains(note), "{said}");
    std::fs::remove_dir_all(server.path("state")).expect("removed");
    assert!(!text(&server.verb(&["check"])).contains(note));
}

#[test]
fn a_state_directory_of_another_server_is_in_use_beside_the_running_one_too() {
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
    let said = text(&output);
    assert!(
        said.contains("the state directory is in use by another process"),
        "{said}"
    );
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
    let said = checked(500);
    assert!(
        said.contains("note: [server] tcp-connections: 182 of 1024")
            && said.contains("LimitNOFILE"),
        "{said}"
    );
    let said = checked(4096);
    assert!(!said.contains("tcp-connections"), "{said}");
    // What the running server may open counts, not what this shell may.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 500; exec \"$0\" serve --config tapis.toml",
        env!("CARGO_BIN_EXE_tapis"),
    ]);
    command.current_dir(folder.path());
    let server = Server::run(command, folder);
    let said = text(&verb(server.folder.path(), &["check"]));
    assert!(said.contains("182 of 1024"), "{said}");
}
