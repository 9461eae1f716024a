//! Versions that arrive, but are rejected: the last good one stays in force and on the disk.

use std::fs;
use std::time::Duration;

use jiff::Timestamp;

use super::scene::{FIRST, PERMIT, SECOND, Scene, config, copies, remove_images, upstream};
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, text};
use crate::support::tls::Security;
use crate::support::web::{Web, page, response, send};

/// An error message in place of a list.
pub(super) const ERROR: &str = "Too many requests, try again later.\n";

/// A list that has shrunk too much when it becomes [`SECOND`].
pub(super) fn long() -> String {
    let names: String = (0..1000).map(|n| format!("n{n}.example\n")).collect();
    names + FIRST
}

/// The list has many names, and its newest version, which has few, is rejected.
pub(super) fn rejected() -> Scene {
    let scene = Scene::begin(Security::web(), page(&long()), "", "");
    scene.has(FIRST);
    scene.web.serve(page(SECOND));
    let (code, printed) = scene.refresh();
    assert_eq!(code, Some(1), "{printed}");
    for part in ["rejected: ", "shrunk", "--accept ads:shrunk"] {
        assert!(printed.contains(part), "{part} is not in: {printed}");
    }
    scene
}

/// The ends of the names of the files of copies.
fn files(server: &Server) -> Vec<String> {
    let entries = fs::read_dir(server.path("state/downloads")).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let end = |path: std::path::PathBuf| path.extension().map(|it| it.to_string_lossy().into());
    let mut ends: Vec<_> = paths.filter_map(end).collect();
    ends.sort();
    ends
}

#[test]
fn a_rejected_version_is_asked_for_again_soon_and_is_one_alarm() {
    let scene = rejected();
    scene.has(FIRST);
    let list = scene.list();
    assert_eq!(list["download"]["is_current"], false);
    assert_eq!(list["download"]["faults"].to_string(), "[[\"rejected\",1]]");
    let next: Timestamp = list["download"]["next"]
        .as_str()
        .and_then(|next| next.parse().ok())
        .expect("a time");
    let wait = next.duration_since(Timestamp::now());
    assert!(
        wait < Duration::from_secs(120).try_into().expect("short"),
        "{wait}"
    );
    let status = scene.server.status();
    let alarms = status["alarms"].as_array().expect("alarms");
    let count = alarms
        .iter()
        .filter(|it| it.to_string().contains("ads"))
        .count();
    assert_eq!(count, 1, "{alarms:?}");
    assert_eq!(files(&scene.server), ["good", "json", "list"]);
}

#[test]
fn after_a_rejected_version_a_start_without_images_and_network_uses_the_last_good_one() {
    let server = rejected().restart_alone(remove_images);
    for name in FIRST.lines().chain(["n7.example"]) {
        assert!(is_blocked(server.address, name), "{name}");
    }
    assert!(!is_blocked(server.address, "second.example"));
    assert_eq!(files(&server), ["json", "list"]);
}

#[test]
fn a_rejected_version_that_is_accepted_becomes_the_last_good_one() {
    let scene = rejected();
    let accepted = scene.server.verb(&["reload", "--accept", "ads:shrunk"]);
    assert!(accepted.status.success(), "{}", text(&accepted));
    scene.has(SECOND);
    until("the acceptance", || {
        scene.list()["download"]["is_current"] == true && files(&scene.server).len() == 2
    });
    scene.server.assert_well();
    let server = scene.restart_alone(remove_images);
    assert!(is_blocked(server.address, "second.example"));
    assert!(!is_blocked(server.address, "n7.example"));
}

#[test]
fn a_rejected_version_is_still_held_after_a_restart_and_can_be_accepted() {
    let Scene {
        mut server,
        web: _web,
        upstream: _upstream,
    } = rejected();
    server.signal("TERM");
    server.wait();
    let server = server.again();
    until("the verdict", || {
        server.status()["lists"][0]["download"]["mirrors"][0]["fault"] == "rejected"
    });
    assert!(is_blocked(server.address, "n7.example"));
    let accepted = server.verb(&["reload", "--accept", "ads:shrunk"]);
    assert!(accepted.status.success(), "{}", text(&accepted));
    until("the list", || is_blocked(server.address, "second.example"));
}

#[test]
fn a_version_that_the_publisher_takes_back_leaves_no_alarm() {
    let scene = rejected();
    scene.web.serve(page(&long()));
    let (code, printed) = scene.refresh();
    assert_eq!(code, Some(0), "{printed}");
    scene.server.assert_well();
    scene.has(FIRST);
    assert_eq!(files(&scene.server), ["json", "list"]);
}

#[test]
fn a_304_about_a_rejected_version_does_not_confirm_it() {
    let scene = Scene::begin(Security::web(), page(&long()), "", "");
    scene.has(FIRST);
    scene.web.play(|got, stream| {
        let answer = match got.header("if-none-match") {
            Some("\"two\"") => response("304 Not Modified", &[], b""),
            _ => response("200 OK", &["etag: \"two\""], SECOND.as_bytes()),
        };
        send(stream, &answer);
    });
    for count in 1..=2 {
        let (code, printed) = scene.refresh();
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains("shrunk"), "{printed}");
        let faults = scene.list()["download"]["faults"].to_string();
        assert_eq!(faults, format!("[[\"rejected\",{count}]]"));
    }
    let asked = scene.web.got().pop().expect("a request");
    assert_eq!(asked.header("if-none-match"), Some("\"two\""));
    scene.has(FIRST);
}

#[test]
fn a_required_list_starts_with_the_mirror_that_has_a_list() {
    let (one, two, upstream) = (
        Web::start(Security::web(), |_, _| {}),
        Web::start(Security::web(), |_, _| {}),
        upstream(),
    );
    one.serve(page(ERROR));
    two.serve(page(FIRST));
    let list = format!(
        "[[list]]\nname = \"ads\"\nrequired = true\nurl = [\"{}\", \"{}\"]\n",
        one.url("/ads"),
        two.url("/m").replace("lists.", "mirror.")
    );
    let server = Server::start(&config(&upstream, PERMIT, &list), &[]);
    assert!(is_blocked(server.address, "first.example"));
}

#[test]
fn a_version_that_arrives_during_a_rollback_is_not_said_to_be_in_force() {
    let scene = Scene::start("", "");
    let generation = scene.server.status()["generation"].to_string();
    scene.web.serve(page(&format!("third.example\n{SECOND}")));
    assert_eq!(scene.refresh().0, Some(0));
    let back = scene.server.verb(&["rollback", &generation]);
    scene.has(FIRST);
    scene.web.serve(page(SECOND));
    let (code, printed) = scene.refresh();
    assert_eq!(code, Some(1), "{printed}\n{}", text(&back));
    assert!(
        printed.contains("held as it was in generation"),
        "{printed}"
    );
    scene.has(FIRST);
    scene.server.verb(&["rollback", "--release"]);
    scene.has(SECOND);
    until("the acceptance", || files(&scene.server).len() == 2);
}

#[test]
fn a_copy_that_was_removed_is_downloaded_again() {
    let scene = Scene::begin(
        Security::web(),
        response("200 OK", &["etag: \"one\""], FIRST.as_bytes()),
        "",
        "",
    );
    scene.has(FIRST);
    until("the acceptance", || files(&scene.server).len() == 2);
    for path in copies(&scene.server, "list") {
        fs::remove_file(path).expect("removed");
    }
    let (code, printed) = scene.refresh();
    assert_eq!(code, Some(0), "{printed}");
    let asked = scene.web.got().pop().expect("a request");
    assert_eq!(asked.header("if-none-match"), None);
    assert_eq!(files(&scene.server), ["json", "list"]);
}
