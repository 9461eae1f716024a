//! The choice of the configuration and of the server that a verb uses.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, tapis, text};
use crate::support::upstream::Upstream;

fn outputs(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A server with the list `ads`, which contains `one.example`.
fn server() -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("ads", "");
    (
        Server::start(&config, &[("ads", "# ads\none.example\n")]),
        upstream,
    )
}

#[test]
fn the_variable_names_the_configuration_and_each_verb_says_so() {
    let config = format!("{}[orders]\npath = \"orders\"\n", list("ads", ""));
    let folder = folder(&config, &[("ads", "one.example\n")]);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let path = folder.path().join("tapis.toml");
    let path = path.to_str().expect("text");
    for verb in [
        &["why", "one.example"][..],
        &["check", "--files-only"],
        &["order", "list"],
    ] {
        let run = |by_variable: bool| {
            let mut command = tapis();
            command.args(verb);
            match by_variable {
                true => command.env("TAPIS_CONFIG", path),
                false => command.args(["--config", path]),
            };
            outputs(&command.output().expect("it ran"))
        };
        let (by_variable, given) = (run(true), run(false));
        assert_eq!(by_variable.0, given.0, "{verb:?}: the same configuration");
        let line = format!("tapis: using the configuration {path}, which TAPIS_CONFIG names\n");
        assert!(by_variable.1.contains(&line), "{verb:?}: {}", by_variable.1);
        assert!(!given.1.contains("using"), "{verb:?}: {}", given.1);
    }
}

#[test]
fn a_verb_without_a_configuration_uses_that_of_the_running_server() {
    let (server, _upstream) = server();
    let socket = server.path("control.sock");
    let run = |arguments: &[&str]| {
        let mut command = tapis();
        command.args(arguments).arg("--control").arg(&socket);
        outputs(&command.output().expect("it ran"))
    };
    let path = server.path("tapis.toml");
    let process = server.id();
    for verb in [&["why", "one.example"][..], &["order", "report"]] {
        let (_, stderr) = run(verb);
        let line = format!(
            "tapis: using the configuration {}, which the running server has (process {process})\n",
            path.display()
        );
        assert_eq!(stderr, line, "{verb:?}");
    }
    let (stdout, _) = run(&["why", "one.example"]);
    assert!(
        stdout.starts_with("one.example: blocked by list ads\n"),
        "{stdout}"
    );
}

#[test]
fn the_path_of_the_servers_configuration_is_absolute() {
    let upstream = Upstream::plain();
    let server = Server::start_in(folder(&preamble(upstream.address), &[]));
    let path = server.path("tapis.toml");
    assert_eq!(server.status()["config"], path.to_str().expect("text"));
}

#[test]
fn why_explains_the_policy_in_force_and_with_offline_that_of_the_files() {
    let (server, _upstream) = server();
    let why = |name: &str, more: &[&str]| {
        let output = server.verb(&[&["why", name, "--json"], more].concat());
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        report
    };
    let asked = why("one.example", &[]);
    assert_eq!(asked["generation"], 1);
    assert_eq!(
        (&asked["decision"], &asked["by"], &asked["rules"][0]["line"]),
        (&"blocked".into(), &"ads".into(), &2.into())
    );
    let record = asked["answer"]["records"][0].as_str().expect("a record");
    assert!(record.ends_with("0.0.0.0"), "{record}");
    // A guard rejects the empty list: the server keeps the rules in force.
    server.replace("ads", "");
    until("it is held", || server.status()["degraded"] == true);
    assert!(is_blocked(server.address, "one.example"));
    let held = why("one.example", &[]);
    assert_eq!(held["decision"], "blocked");
    let rule = &held["rules"][0];
    assert_eq!(
        (&rule["rule"], &rule["line"]),
        (&"one.example".into(), &Value::Null)
    );
    assert!(held["notes"].to_string().contains("empty"), "{held}");
    let offline = why("one.example", &["--offline"]);
    assert_eq!(
        (&offline["decision"], &offline["generation"]),
        (&"upstream".into(), &Value::Null)
    );
}

#[test]
fn why_does_not_ask_a_server_that_has_another_configuration() {
    let (server, _upstream) = server();
    let socket = server.path("control.sock");
    let config = format!(
        "[server]\ncontrol = {:?}\n{}",
        socket.to_str().expect("text"),
        list("other", "")
    );
    let other = folder(&config, &[("other", "two.example\n")]);
    let output = tapis()
        .args(["why", "two.example", "--config"])
        .arg(other.path().join("tapis.toml"))
        .output()
        .expect("it ran");
    let (stdout, stderr) = outputs(&output);
    assert!(
        stdout.starts_with("two.example: blocked by list other\n"),
        "{stdout}"
    );
    let path = server.path("tapis.toml");
    let reason = format!(
        "the running server has another configuration, {}",
        path.display()
    );
    assert!(stderr.contains(&reason), "{stderr}");
}

#[test]
fn verbs_reach_the_server_although_its_configuration_has_a_mistake() {
    let (server, _upstream) = server();
    let good = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    for mistake in ["[cache]\nsize-mib = \n", "[blok]\n", "[[list]]\nname = 5\n"] {
        server.replace("tapis.toml", &(good.clone() + mistake));
        let status = server.verb(&["status"]);
        assert!(
            text(&status).contains("list ads: 1 rule"),
            "{mistake}: {}",
            text(&status)
        );
        let reload = server.verb(&["reload"]);
        assert_eq!(reload.status.code(), Some(1));
        let report = text(&reload);
        assert!(
            report.contains("rejected: ") && report.contains("tapis.toml:"),
            "{mistake}: {report}"
        );
        let rollback = text(&server.verb(&["rollback", "1"]));
        assert!(rollback.contains("generation 1"), "{mistake}: {rollback}");
    }
}

#[test]
fn a_mistake_in_the_control_key_makes_no_verb_ask_another_server() {
    let (server, _upstream) = server();
    let good = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    for bad in ["control = control.sock", "contrl = \"control.sock\""] {
        server.replace(
            "tapis.toml",
            &good.replace("control = \"control.sock\"", bad),
        );
        let output = server.verb(&["status"]);
        assert_eq!(output.status.code(), Some(1));
        let report = text(&output);
        assert!(report.contains("tapis.toml:4: "), "{bad}: {report}");
    }
}
