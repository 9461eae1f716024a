//! The log as text, for journald, and as JSON.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::client::{is_blocked, until};
use crate::support::server::{self, Server, folder, list, preamble, tapis, text};
use crate::support::upstream::Upstream;

/// The log of a server until it serves, or ends.
fn log_of(config: &str, arguments: &[&str], journald: bool) -> String {
    let folder = folder(config, &[("ads", "a.example\nb..example\n")]);
    let path = folder.path().join("log");
    let log = File::create(&path).expect("made");
    let meta = log.metadata().expect("there");
    let stream = match journald {
        true => format!("{}:{}", meta.dev(), meta.ino()),
        // As in a child process of a service whose standard error was redirected to a file.
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
fn errors_at_a_start_have_a_priority_too() {
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
fn the_level_on_the_command_line_overrides_the_variable() {
    let upstream = Upstream::plain();
    let log = log_of(&config(&upstream), &["--log-level", "warn"], false);
    assert!(log.contains("WARN") && !log.contains("INFO"), "{log}");
    let log = log_of(&config(&upstream), &["--log-level", "error"], false);
    assert_eq!(log, "");
}

#[test]
fn format_and_level_of_the_configuration_apply_unless_an_argument_says_otherwise() {
    let upstream = Upstream::plain();
    let config = config(&upstream) + "[log]\nformat = \"json\"\nlevel = \"warn\"\n";
    let log = log_of(&config, &[], false);
    assert!(log.lines().count() > 0, "a bad line is a warning");
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(entry["level"], "warn", "{line}");
    }
    let arguments = [
        "--log-format",
        "text",
        "--log-level",
        "off,tapis::control=info",
    ];
    let log = log_of(&config, &arguments, false);
    assert!(log.contains("INFO list read"), "{log}");
    assert!(!log.contains("serving"), "that is another part: {log}");
}

#[test]
fn mistakes_of_a_configuration_are_logged_in_its_format() {
    let log = log_of("[log]\nformat = \"json\"\n[servr]\n", &[], false);
    let last = log.lines().last().expect("a line");
    let entry: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {log}"));
    let message = entry["message"].as_str().expect("a message");
    assert!(message.contains("servr"), "{log}");
}

/// Shows or changes the level of a server's log.
fn level(server: &Server, arguments: &[&str]) -> String {
    let output = server.verb(&[&["log", "level"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    text(&output)
}

#[test]
fn the_level_changes_at_run_time_and_outlasts_a_reload_until_it_is_reset() {
    let upstream = Upstream::plain();
    let server = Server::start(&config(&upstream), &[("ads", "a.example\n")]);
    let flush = || assert!(server.verb(&["cache", "flush", "--all"]).status.success());
    assert_eq!(level(&server, &[]), "info, by [log] level\n");
    assert_eq!(server.status()["log"]["source"], "configuration");
    let changed = level(&server, &["warn"]);
    assert!(changed.starts_with("warn, set by "), "{changed}");
    assert!(
        changed.ends_with("until the server restarts; then info\n"),
        "{changed}"
    );
    let log = server.logged("log level changed");
    let user = format!(
        "level=\"warn\" before=\"info\" user={}",
        tapis::sys::process::user_id()
    );
    assert!(log.contains(&user), "{log}");
    // This is not logged.
    flush();
    let shown = text(&server.verb(&["status"]));
    assert!(shown.contains("log level: warn, set by"), "{shown}");
    let edited = config(&upstream) + "[log]\nlevel = \"error\"\n";
    server.replace("tapis.toml", &edited);
    let report = text(&server.verb(&["reload"]));
    assert!(report.contains("log.level"), "{report}");
    assert!(level(&server, &[]).ends_with("until the server restarts; then error\n"));
    assert_eq!(level(&server, &["--reset"]), "error, by [log] level\n");
    level(&server, &["error,tapis=info", "--for", "1h"]);
    assert!(server.status()["log"]["until"].is_string());
    flush();
    let log = server.logged("cache flushed");
    assert_eq!(log.matches("cache flushed").count(), 1, "{log}");
    // A change to a level that shows less is logged before it.
    level(&server, &["off"]);
    server.logged("level=\"off\" before=\"error,tapis=info\"");
    // A change to a level that shows more is logged after it.
    level(&server, &["info"]);
    server.logged("level=\"info\" before=\"off\"");
    for (arguments, code) in [
        (&["loud"][..], 2),
        (&["--for", "10m"], 2),
        (&["debug", "--for", "8d"], 2),
        (&["debug", "--reset"], 2),
    ] {
        let output = server.verb(&[&["log", "level"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    }
}

#[test]
fn another_format_of_the_log_needs_a_restart_and_the_reload_says_so() {
    let upstream = Upstream::plain();
    let server = Server::start(&config(&upstream), &[("ads", "a.example\n")]);
    server.replace(
        "tapis.toml",
        &(config(&upstream) + "[log]\nformat = \"json\"\n"),
    );
    let report = text(&server.verb(&["reload"]));
    assert!(report.contains("[log] format"), "{report}");
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

/// A server whose standard error is that file or pipe, and its directory.
struct Logging {
    child: Child,
    folder: TempDir,
}

impl Logging {
    fn start(upstream: &Upstream, to: impl Into<Stdio>) -> Self {
        let folder = folder(&config(upstream), &[("ads", "a.example\n")]);
        let mut command = tapis();
        command
            .args(["serve", "--config", "tapis.toml"])
            .current_dir(folder.path())
            .stderr(to);
        let mut child = command.spawn().expect("started");
        until("it serves", || {
            assert_eq!(child.try_wait().expect("known"), None, "it ended");
            server::verb(folder.path(), &["status", "--json"])
                .status
                .code()
                != Some(4)
        });
        Self { child, folder }
    }

    fn status(&self) -> Value {
        let output = server::verb(self.folder.path(), &["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)))
    }

    fn alarms(&self) -> String {
        self.status()["alarms"].to_string()
    }

    /// Asserts that the server still works: a change comes into force.
    fn applies_changes(&self, name: &str) {
        let edited = self.folder.path().join("new");
        fs::write(&edited, format!("{name}\n")).expect("written");
        fs::rename(edited, self.folder.path().join("ads")).expect("renamed");
        let address = self.status()["listen"][0]
            .as_str()
            .expect("an address")
            .parse();
        let address = address.expect("an address");
        until("the change", || is_blocked(address, name));
    }

    fn end(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(sent.expect("kill ran").success());
        let mut ended = None;
        until("its end", || {
            ended = self.child.try_wait().expect("known");
            ended.is_some()
        });
        ended.expect("it ended")
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_that_cannot_be_written_stops_no_server_and_is_an_alarm() {
    let upstream = Upstream::plain();
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux");
    let server = Logging::start(&upstream, full);
    server.applies_changes("b.example");
    until("an alarm", || {
        server.alarms().contains("No space left on device")
    });
    assert!(server.end().success());

    let (reader, writer) = io::pipe().expect("a pipe");
    let server = Logging::start(&upstream, writer);
    assert_eq!(server.alarms(), "[]");
    drop(reader);
    server.applies_changes("b.example");
    server.applies_changes("c.example");
    until("an alarm", || server.alarms().contains("Broken pipe"));
    assert!(server.end().success());
}

#[test]
fn a_log_that_is_not_read_blocks_nothing_and_loses_nothing_that_fits() {
    let upstream = Upstream::plain();
    let (mut reader, mut writer) = UnixStream::pair().expect("a pair");
    writer.set_nonblocking(true).expect("set");
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    writer.set_nonblocking(false).expect("set");
    let writer = OwnedFd::from(writer);
    let server = Logging::start(&upstream, writer);
    server.applies_changes("b.example");
    until("an alarm", || server.alarms().contains("does not read it"));
    let log = thread::spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).expect("text");
        log
    });
    until("no alarm", || server.alarms() == "[]");
    assert!(server.end().success());
    let log = log.join().expect("read");
    assert_eq!(
        log.matches("INFO list read list=\"ads\"").count(),
        2,
        "{log}"
    );
}
