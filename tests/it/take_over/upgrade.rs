//! `tapis upgrade`: the running server starts its successor from the file on the disk.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Client, assert_journal_is_whole, clients, pid, sections};
use crate::confinement::is_in_force;
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, preamble, text, verb};
use crate::support::upstream::Upstream;

/// A process that is no child of the test. It ends with this.
struct Orphan(u64);

impl Drop for Orphan {
    fn drop(&mut self) {
        // It may have ended already.
        _ = Command::new("kill")
            .args(["-s", "KILL", &self.0.to_string()])
            .output();
    }
}

/// A server whose program is a file in its directory.
fn server(upstream: &Upstream) -> (Server, PathBuf) {
    let config = preamble(upstream.address) + &sections();
    let folder = folder(&config, &[("l", "blocked.example\n")]);
    let program = folder.path().join("tapis");
    std::fs::copy(env!("CARGO_BIN_EXE_tapis"), &program).expect("copied");
    let path = program.to_str().expect("text").to_owned();
    let arguments = ["serve", "--config", "tapis.toml"];
    (Server::start_by(&path, &arguments, folder), program)
}

/// Replaces the program as a package manager does.
fn replace(program: &Path, content: &[u8]) {
    let new = program.with_extension("new");
    std::fs::write(&new, content).expect("written");
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("changed");
    std::fs::rename(new, program).expect("renamed");
}

#[test]
fn the_server_is_replaced_by_the_program_on_the_disk_again_and_again_and_no_query_is_lost() {
    let upstream = Upstream::plain();
    let (mut old, program) = server(&upstream);
    let folder = old.folder.path().to_owned();
    let clients = clients(old.address);
    let mut before = u64::from(old.id());
    let mut running = Vec::new();
    for _ in 0..2 {
        clients.iter().for_each(Client::go_on);
        let content = std::fs::read(env!("CARGO_BIN_EXE_tapis")).expect("a program");
        replace(&program, &content);
        let output = verb(&folder, &["upgrade", "--json"]);
        assert!(output.status.success(), "{}\n{}", text(&output), old.log());
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let report = &report["upgraded"];
        let process = report["process"].as_u64().expect("a number");
        running.push(Orphan(process));
        assert_eq!(report["from-process"], before);
        assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(pid(&folder), process);
        let file = std::fs::read_link(format!("/proc/{process}/exe")).expect("a process");
        assert_eq!(file, program);
        clients.iter().for_each(Client::go_on);
        before = process;
    }
    assert_eq!(old.wait(), Some(0), "{}", old.log());
    clients.into_iter().for_each(Client::end);
    assert_journal_is_whole(&folder);
    let output = verb(&folder, &["upgrade"]);
    running.push(Orphan(pid(&folder)));
    let report = text(&output);
    assert!(report.contains("has taken over from process"), "{report}");
}

#[test]
fn a_program_that_does_not_start_and_a_bad_configuration_leave_the_server_as_it_was() {
    let upstream = Upstream::plain();
    let (server, program) = server(&upstream);
    let folder = server.folder.path();
    replace(&program, b"#!/bin/sh\nexit 7\n");
    let output = verb(folder, &["upgrade"]);
    let report = text(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    // It may end before anything can be known about it.
    let has_ended = |report: &str| {
        report.contains("ended before it took over") || report.contains("ended at once")
    };
    assert!(report.contains("goes on") && has_ended(&report), "{report}");
    // The C library lets a shell run files of an unknown format.
    replace(&program, b"noise");
    let report = text(&verb(folder, &["upgrade"]));
    assert!(report.contains("goes on") && has_ended(&report), "{report}");
    std::fs::remove_file(&program).expect("removed");
    let report = text(&verb(folder, &["upgrade"]));
    assert!(report.contains("can't be started"), "{report}");
    let config = std::fs::read_to_string(folder.join("tapis.toml")).expect("text");
    std::fs::write(
        folder.join("tapis.toml"),
        config.clone() + "[cache]\nsize-mob = 1\n",
    )
    .expect("written");
    let output = verb(folder, &["upgrade"]);
    let report = text(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains("size-mib"), "{report}");
    std::fs::write(folder.join("tapis.toml"), config).expect("written");
    assert!(is_blocked(server.address, "blocked.example"));
    assert_eq!(pid(folder), u64::from(server.id()));
    server.assert_well();
}

#[test]
fn without_a_server_there_is_nothing_to_upgrade() {
    let upstream = Upstream::plain();
    let folder = folder(&preamble(upstream.address), &[]);
    let output = verb(folder.path(), &["upgrade"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
}

#[test]
fn an_upgrade_without_an_answer_is_not_taken_for_a_server_that_can_t_be_asked() {
    let upstream = Upstream::plain();
    let folder = folder(&preamble(upstream.address), &[]);
    let listener = UnixListener::bind(folder.path().join("control.sock")).expect("bound");
    // The first is asked for the status.
    let server = std::thread::spawn(move || {
        (0..2).for_each(|_| drop(listener.accept().expect("a connection")));
    });
    let output = verb(folder.path(), &["upgrade"]);
    server.join().expect("no panic");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("not known"), "{}", text(&output));
}

#[test]
fn an_upgrade_during_which_the_old_process_dies_reports_the_process_that_serves() {
    let upstream = Upstream::plain();
    let (mut old, _) = server(&upstream);
    let folder = old.folder.path().to_owned();
    let before = u64::from(old.id());
    let upgrade = std::thread::spawn({
        let folder = folder.clone();
        move || verb(&folder, &["upgrade", "--json"])
    });
    old.logged("parked: another process");
    old.signal("KILL");
    old.wait();
    let output = upgrade.join().expect("no panic");
    let process = pid(&folder);
    let _new = Orphan(process);
    assert!(output.status.success(), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["replaced"]["process"], process);
    assert_eq!(report["replaced"]["from-process"], before);
    assert!(is_blocked(old.address, "blocked.example"));
}

#[test]
fn a_request_for_a_change_during_a_take_over_is_carried_out_by_the_new_process() {
    let upstream = Upstream::plain();
    let (old, _) = server(&upstream);
    let folder = old.folder.path().to_owned();
    let upgrade = std::thread::spawn({
        let folder = folder.clone();
        move || verb(&folder, &["upgrade", "--json"])
    });
    old.logged("parked: another process");
    let pause = verb(
        &folder,
        &["pause", "l", "--for", "1h", "--reason", "a test"],
    );
    let output = upgrade.join().expect("no panic");
    let _new = Orphan(pid(&folder));
    assert!(output.status.success(), "{}", text(&output));
    assert!(pause.status.success(), "{}", text(&pause));
    until("the pause", || !is_blocked(old.address, "blocked.example"));
}

/// The first child of a process, which starts programs for it.
fn starter(process: u64) -> PathBuf {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.expect("readable");
    let starter = children.split_whitespace().next().expect("a child");
    let starter = Path::new("/proc").join(starter);
    let name = std::fs::read_to_string(starter.join("comm")).expect("a process");
    assert_eq!(name, "tapis-starter\n");
    starter
}

#[test]
fn the_new_process_writes_below_the_directories_of_its_own_configuration() {
    let upstream = Upstream::plain();
    let (mut old, _) = server(&upstream);
    let folder = old.folder.path().to_owned();
    let config = std::fs::read_to_string(folder.join("tapis.toml")).expect("text");
    if !is_in_force(&old) {
        return;
    }
    let (mut running, mut starters) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let other = tempfile::tempdir().expect("a folder");
        let file = other.path().join("queries");
        let changed = format!("{config}[query-log]\nfile = \"{}\"\n", file.display());
        std::fs::write(folder.join("tapis.toml"), changed).expect("written");
        let refused = text(&verb(&folder, &["reload"]));
        assert!(refused.contains("run `tapis upgrade`"), "{refused}");
        let starter = starter(pid(&folder));
        // Standard input, output and error, and the connection to the server.
        let open = std::fs::read_dir(starter.join("fd")).expect("readable");
        assert_eq!(open.count(), 4);
        // A terminal or a service manager may send a signal to all processes.
        let number = starter.file_name().expect("a number").to_owned();
        let mut kill = Command::new("kill");
        let killed = kill.args(["-s", "TERM"]).arg(number).status();
        assert!(killed.expect("it ran").success());
        let upgrade = verb(&folder, &["upgrade"]);
        running.push(Orphan(pid(&folder)));
        assert!(upgrade.status.success(), "{}", text(&upgrade));
        until("a line", || {
            assert!(is_blocked(old.address, "blocked.example"));
            std::fs::read_to_string(&file).is_ok_and(|log| !log.is_empty())
        });
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid(&folder)));
        let status = status.expect("a process");
        assert!(status.contains("SigBlk:\t0000000000000000\n"), "{status}");
        starters.push(starter);
    }
    assert_eq!(old.wait(), Some(0), "{}", old.log());
    // If no process waits for its end, it has no command line any more.
    let has_ended = |starter: &PathBuf| {
        std::fs::read(starter.join("cmdline")).map_or(true, |line| line.is_empty())
    };
    until("the end of their starters", || {
        starters.iter().all(has_ended)
    });
    let last = starter(pid(&folder));
    drop(running);
    until("the end of the last one", || has_ended(&last));
}
