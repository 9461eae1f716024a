//! Copies with other bytes than were downloaded: they are not served, and are downloaded again.
//!
//! The damage makes other names of the first ones: `worst.example` of `first.example`, `wopt.example` of `kept.example`, and
//! `wo.example` of `n0.example`.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::json;

use super::acceptance::{long, rejected};
use super::scene::{FIRST, SECOND, Scene, copies, remove_images};
use crate::support::client::{is_blocked, until};
use crate::support::server::Server;
use crate::support::tls::Security;
use crate::support::web::{page, response, send};

/// The size of files that are large.
const LARGE: usize = 1 << 20;

/// Changes the first name in a file. Its inode, size and time stay, as on a disk that fails.
fn damage(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).expect("a file");
    let time = file.metadata().expect("a file").modified().expect("a time");
    file.write_all_at(b"wo", 0).expect("written");
    file.set_modified(time).expect("set");
}

fn damage_copies(server: &Server) {
    let copies = copies(server, "list");
    assert_eq!(copies.len(), 1);
    copies.iter().for_each(|path| damage(path));
}

/// The list with this text is in force, and its mirror answers with 304 if it can.
fn scene(list: &str) -> Scene {
    let first = response("200 OK", &["etag: \"one\""], list.as_bytes());
    let scene = Scene::begin(Security::web(), first.clone(), "", "");
    scene.has(FIRST);
    until("the acceptance", || {
        scene.list()["download"]["is_current"] == true
    });
    scene.web.play(move |got, stream| {
        let answer = match got.header("if-none-match") {
            Some("\"one\"") => &response("304 Not Modified", &[], b""),
            _ => &first,
        };
        send(stream, answer);
    });
    scene
}

/// Waits until the copy is whole again, after this number of requests.
fn is_whole_again(server: &Server, expected: &str) {
    until("the new copy", || {
        let copies = copies(server, "list");
        let texts = copies.iter().map(std::fs::read_to_string);
        texts.flatten().any(|text| text == expected)
    });
    until("its report", || {
        let status = server.status();
        let download = &status["lists"][0]["download"];
        download["faults"] == json!([["damaged", 1]])
            && download["is_current"] == true
            && download["is_damaged"] == false
            && download["is_active"] == false
    });
    assert!(server.log().contains("a copy of the list is damaged"));
}

#[test]
fn a_copy_that_was_damaged_while_the_server_was_stopped_is_downloaded_again_whole() {
    let Scene {
        mut server,
        web,
        upstream: _upstream,
    } = scene(FIRST);
    server.signal("TERM");
    server.wait();
    damage_copies(&server);
    let server = server.again();
    is_whole_again(&server, FIRST);
    let asked = web.got().pop().expect("a request");
    assert_eq!(asked.header("if-none-match"), None);
    for name in FIRST.lines() {
        assert!(is_blocked(server.address, name), "{name}");
    }
    assert!(!is_blocked(server.address, "worst.example"));
    server.assert_well();
}

#[test]
fn a_copy_that_is_damaged_while_the_server_runs_does_not_come_into_force() {
    // The compiler process reads a large list.
    let large = format!("{FIRST}{}", "# A comment.\n".repeat(LARGE / 12));
    for list in [FIRST, &large] {
        let scene = scene(list);
        damage_copies(&scene.server);
        is_whole_again(&scene.server, list);
        let asked = scene.web.got().pop().expect("a request");
        assert_eq!(asked.header("if-none-match"), None);
        scene.has(FIRST);
        assert!(!is_blocked(scene.server.address, "worst.example"));
        scene.server.assert_well();
    }
}

#[test]
fn a_start_without_images_and_network_does_not_serve_a_damaged_copy() {
    let server = scene(FIRST).restart_alone(|server| {
        remove_images(server);
        damage_copies(server);
    });
    assert!(!is_blocked(server.address, "worst.example"));
    assert!(!is_blocked(server.address, "kept.example"));
    assert!(server.log().contains("a copy of the list is damaged"));
    assert_eq!(server.status()["lists"][0]["state"], "missing");
}

#[test]
fn the_last_good_version_is_served_if_only_the_newest_one_is_damaged_and_not_if_it_is_damaged_itself()
 {
    for (end, is_served) in [("list", true), ("good", false)] {
        let server = rejected().restart_alone(|server| {
            remove_images(server);
            copies(server, end).iter().for_each(|path| damage(path));
        });
        assert_eq!(is_blocked(server.address, "n7.example"), is_served, "{end}");
        assert!(!is_blocked(server.address, "second.example"), "{end}");
        for damaged in ["wopt.example", "wo.example"] {
            assert!(!is_blocked(server.address, damaged), "{end}: {damaged}");
        }
    }
}

#[test]
fn a_rejected_version_in_place_of_a_damaged_copy_ends_the_alarm_about_the_damage() {
    let scene = scene(&long());
    scene.web.serve(page(SECOND));
    damage_copies(&scene.server);
    until("the rejection", || {
        let faults = &scene.list()["download"]["faults"];
        *faults == json!([["rejected", 1], ["damaged", 1]])
    });
    assert_eq!(scene.list()["download"]["is_damaged"], false);
    let alarms = scene.server.status()["alarms"].to_string();
    assert!(!alarms.contains("ads: damaged: "), "{alarms}");
    assert!(alarms.contains("shrunk"), "{alarms}");
}
