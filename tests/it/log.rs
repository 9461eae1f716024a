//! The log: for people, for journald, for programs.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use serde_json::Value;

use crate::support::client::until;
use crate::support::server::{folder, list, preamble, tapis};
use crate::support::upstream::Upstream;

/// What a server logs until it serves, or ends.
fn log_of(config: &str, arguments: &[&str], journald: bool) -> String {
    let folder = folder(config, &[("ads", "a.example\nb..example\n")]);
    let path = folder.path().join("log");
    let log = File::create(&path).expect("made");
    let meta = log.metadata().expect("there");
    let stream = match journald {
        true => format!("{}:{}", meta.dev(), meta.ino()),
        // As a child of a service has it that writes to a file.
        false => format!("{}:{}", meta.dev(), meta.ino() + 1),
    };
    let mut command: Command = tapis();
    command
        .args(["serve", "--config", "tapis.toml"])
        .args(arguments)
        .current_dir(folder.path())
        .env("JOURNAL_STREAM", stream)
        .stderr(log);
    let mut child = command.spawn().expect("started");
    let socket = folder.path().join("control.sock");
    until("it serves or ends", || {
        let status = tapis()
            .args(["status", "--control"])
            .arg(&socket)
            .output()
            .expect("it ran");
        status.status.success() || child.try_wait().expect("known").is_some()
    });
    let _ = child.kill();
    child.wait().expect("it ended");
    fs::read_to_string(path).expect("readable")
}

fn config(upstream: &Upstream) -> String {
    preamble(upstream.address) + &list("ads", "")
}

#[test]
fn under_journald_lines_have_a_priority_and_no_time_and_elsewhere_a_time() {
    let upstream = Upstream::plain();
    let log = log_of(&config(&upstream), &[], true);
    let start = |line: &str| {
        let mut words = line.split_whitespace();
        words
            .next()
            .map(|word| word.chars().take(3).collect::<String>())
            .unwrap_or_default()
    };
    assert!(
        log.lines()
            .all(|line| ["<6>", "<4>"].contains(&&*start(line))),
        "{log}"
    );
    assert!(
        log.contains("<6>") && log.contains("<4>"),
        "a bad line is a warning: {log}"
    );
    let year = |line: &str| line.starts_with("20");
    assert!(!log.lines().any(|line| year(&line[3..])), "{log}");
    let log = log_of(&config(&upstream), &[], false);
    assert!(log.lines().all(year), "{log}");
}

#[test]
fn what_keeps_a_server_from_starting_has_a_priority_too() {
    let log = log_of(
        "[server]\nlisten = [\"192.0.2.1:5335\"]\ncontrl = \"x\"\n[blok]\n",
        &[],
        true,
    );
    let errors: Vec<_> = log.lines().filter(|line| line.starts_with("<3>")).collect();
    assert_eq!(errors.len(), 2, "{log}");
    assert!(
        errors[0].contains("contrl") && errors[1].contains("blok"),
        "{log}"
    );
}

#[test]
fn a_json_log_has_an_object_in_each_line() {
    let upstream = Upstream::plain();
    for journald in [false, true] {
        let log = log_of(&config(&upstream), &["--log-format", "json"], journald);
        let mut messages = Vec::new();
        for line in log.lines() {
            let line = match journald {
                true => &line[3..],
                false => line,
            };
            let entry: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(["info", "warn"].contains(&entry["level"].as_str().expect("a level")));
            assert_eq!(entry["time"].is_string(), !journald, "{line}");
            messages.push((
                entry["message"].as_str().expect("a message").to_owned(),
                entry,
            ));
        }
        let find = |wanted: &str| {
            let mut found = messages.iter().filter(|(message, _)| message == wanted);
            &found.next().unwrap_or_else(|| panic!("{wanted}: {log}")).1
        };
        assert_eq!(find("list read")["rules"], 1);
        assert_eq!(find("bad line")["text"], "b..example");
    }
}

#[test]
fn the_level_of_the_command_line_counts_before_the_variable() {
    let upstream = Upstream::plain();
    let log = log_of(&config(&upstream), &["--log-level", "warn"], false);
    assert!(log.contains("WARN") && !log.contains("INFO"), "{log}");
    let log = log_of(&config(&upstream), &["--log-level", "error"], false);
    assert_eq!(log, "");
}

#[test]
fn the_help_of_serve_has_environment_signals_and_exit_codes() {
    let help = |arguments: &[&str]| {
        let output = tapis().args(arguments).output().expect("it ran");
        String::from_utf8(output.stdout).expect("text")
    };
    let serve = help(&["serve", "--help"]);
    for word in [
        "--log-level",
        "--log-format",
        "RUST_LOG",
        "TAPIS_CONFIG",
        "JOURNAL_STREAM",
        "SIGHUP",
        "SIGTERM",
        "Exit codes",
    ] {
        assert!(serve.contains(word), "{word}: {serve}");
    }
    let all = help(&["--help"]);
    for word in [
        "TAPIS_CONFIG",
        "RUST_LOG",
        "Exit codes",
        "/etc/tapis/tapis.toml",
    ] {
        assert!(all.contains(word), "{word}: {all}");
    }
}
