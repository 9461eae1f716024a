//! The life of a list by URL: from its first download to its end, over restarts.

use std::fs;
use std::path::Path;

use super::scene::{FIRST, PERMIT, SECOND, Scene, config, list, remove_images, upstream};
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, text, verb};
use crate::support::tls::Security;
use crate::support::web::{Web, page, response, send};

/// All text in the files of a directory.
fn all_text(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).expect("a directory") {
        let path = entry.expect("an entry").path();
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => all.push_str(&all_text(&path)),
            Ok(meta) if meta.is_file() && !path.ends_with("tapis.toml") => {
                all.push_str(&String::from_utf8_lossy(&fs::read(&path).expect("read")));
            }
            _ => {}
        }
    }
    all
}

#[test]
fn a_list_is_shown_with_its_url_and_the_journal_names_it() {
    let scene = Scene::start("", "");
    let url = scene.web.url("/ads.txt");
    let list = scene.list();
    assert_eq!(list["download"]["source"], *url);
    assert!(list["download"]["next"].is_string() && list["download"]["fetched"].is_string());
    let shown = text(&scene.server.verb(&["status"]));
    let line = shown
        .lines()
        .find(|line| line.contains(&url))
        .expect("a line");
    for part in ["up to date", "downloaded", "ago", "next in"] {
        assert!(line.contains(part), "{line}");
    }
    let journal = text(&scene.server.verb(&["journal", "show"]));
    assert!(journal.contains(&url), "{journal}");
    scene.server.assert_well();
    let none = scene.server.verb(&["list", "refresh", "other"]);
    assert!(
        text(&none).contains("other: the server has no such list with a url"),
        "{none:?}"
    );
}

#[test]
fn an_unchanged_list_is_confirmed_by_its_etag_or_date_also_after_a_restart() {
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    for (header, sent, value) in [
        ("if-none-match", "etag: \"one\"".to_owned(), "\"one\""),
        ("if-modified-since", format!("last-modified: {date}"), date),
    ] {
        let scene = Scene::begin(Security::web(), page(""), "", "");
        scene.web.play(move |got, stream| {
            let answer = match got.header(header) {
                Some(known) if known == value => response("304 Not Modified", &[], b""),
                _ => response("200 OK", &[&sent], FIRST.as_bytes()),
            };
            send(stream, &answer);
        });
        scene.refresh();
        scene.has(FIRST);
        let Scene {
            server,
            web,
            upstream: _upstream,
        } = scene;
        let mut server = server;
        server.signal("TERM");
        server.wait();
        let before = web.got().len();
        let server = server.again();
        assert!(is_blocked(server.address, "first.example"));
        until("the report", || {
            server.status()["lists"][0]["download"]["next"].is_string()
        });
        assert_eq!(web.got().len(), before, "it was fresh");
        let output = server.verb(&["list", "refresh", "ads"]);
        assert_eq!(
            text(&output),
            "ads: 2 rules in force, and the newest version\n"
        );
        assert_eq!(
            web.got().last().and_then(|got| got.header(header)),
            Some(value)
        );
    }
}

#[test]
fn a_start_without_network_uses_the_last_good_copy() {
    let server = Scene::start("refresh-secs = 60", "").restart_alone(remove_images);
    for name in FIRST.lines() {
        assert!(is_blocked(server.address, name), "{name}");
    }
}

#[test]
fn a_password_is_sent_to_its_server_only_and_never_shown() {
    let (web, other, upstream) = (
        Web::start(Security::web(), |_, _| {}),
        Web::start(Security::web(), |_, _| {}),
        upstream(),
    );
    other.serve(page(FIRST));
    let target = other.url("/").replace("lists.", "mirror.");
    web.play(move |got, stream| {
        let answer = match got.path.split('?').next() {
            Some("/ads") => response("302 Found", &["location: /ads2"], b""),
            _ => response("302 Found", &[&format!("location: {target}")], b""),
        };
        send(stream, &answer);
    });
    let url = web
        .url("/ads")
        .replace("https://", "https://me:open%20sesame@")
        + "?token=sesame";
    let text_of = |format: &str| {
        let keys = format!("redirects = [\"mirror.example\"]\n{format}");
        config(&upstream, PERMIT, &list("ads", &url, &keys))
    };
    let server = Server::start_with(&text_of(""), &[], &["--log-level", "trace"]);
    let (server, got) = (server, || (web.got(), other.got()));
    until("the list", || is_blocked(server.address, "first.example"));
    let (first, second) = got();
    for got in &first {
        assert_eq!(
            got.header("authorization"),
            Some("Basic bWU6b3BlbiBzZXNhbWU=")
        );
    }
    assert_eq!(first.len(), 2);
    assert_eq!(second[0].header("authorization"), None);
    other.play(|_, stream| send(stream, &response("500 Oops", &[], b"")));
    let mut outputs = Vec::new();
    for arguments in [
        &["list", "refresh"][..],
        &["status"],
        &["status", "--json"],
        &["journal", "show"],
        &["check"],
        &["why", "first.example"],
        &["reload"],
    ] {
        outputs.push(text(&server.verb(arguments)));
    }
    server.replace("tapis.toml", &text_of("format = \"wrong\""));
    outputs.push(text(&server.verb(&["check"])));
    outputs.push(text(&server.verb(&["reload"])));
    server.replace(
        "tapis.toml",
        &text_of("").replace("https://me", "htps://me"),
    );
    outputs.push(text(&server.verb(&["check"])));
    outputs.push(text(&server.verb(&["reload"])));
    for wrong in [
        "[[list]]\nname = \"x\"\npath = \"https://me:sesame@x.example/\"\n",
        "[[list]]\nname = \"x\"\nurl = \"https://a.example/\"\nredirects = [\"https://me:sesame@x.example\"]\n",
        "[[forward]]\nzone = \"https://me:sesame@x.example/?sesame\"\nservers = [\"https://me:sesame@x.example\"]\n",
    ] {
        let all = format!("{}{wrong}", text_of(""));
        server.replace("tapis.toml", &all);
        outputs.push(text(&server.verb(&["check"])));
        outputs.push(text(&server.verb(&["reload"])));
    }
    for key in ["allow-http", "allow-private"] {
        let permit = format!("{key} = [\"me:sesame@lists.example\", \"https://sesame@x\"]\n");
        server.replace("tapis.toml", &config(&upstream, &permit, ""));
        outputs.push(text(&server.verb(&["check"])));
        outputs.push(text(&server.verb(&["reload"])));
    }
    outputs.push(text(&server.verb(&["status"])));
    outputs.push(text(&server.verb(&["journal", "show"])));
    outputs.push(server.log());
    outputs.push(all_text(&server.path("state")));
    for output in outputs {
        for secret in ["sesame", "bWU6"] {
            assert!(!output.contains(secret), "{output}");
        }
    }
}

#[test]
fn ten_lists_of_which_one_changes_are_neither_asked_nor_read_again() {
    let (web, upstream) = (Web::start(Security::web(), |_, _| {}), upstream());
    web.play(|got, stream| send(stream, &page(&format!("{}.example\n", &got.path[1..]))));
    let lists: String = (0..10)
        .map(|n| list(&format!("l{n}"), &web.url(&format!("/l{n}")), ""))
        .collect();
    let server = Server::start(&config(&upstream, PERMIT, &lists), &[]);
    until("all", || {
        (0..10).all(|n| is_blocked(server.address, &format!("l{n}.example")))
    });
    let times = || {
        let status = server.status();
        let lists = status["lists"].as_array().expect("lists").clone();
        lists
            .iter()
            .map(|list| list["loaded_at"].to_string())
            .collect::<Vec<_>>()
    };
    let (before, asked) = (times(), web.got().len());
    assert_eq!(asked, 10);
    web.serve(page("new.example\n"));
    let output = server.verb(&["list", "refresh", "l3"]);
    assert_eq!(text(&output), "l3: 1 rule in force now\n");
    until("the list", || is_blocked(server.address, "new.example"));
    let after = times();
    for n in 0..10 {
        assert_eq!(before[n] == after[n], n != 3, "list {n}");
    }
    assert_eq!(web.got().len(), asked + 1);
}

#[test]
fn two_lists_of_one_url_are_two_lists() {
    let (web, upstream) = (Web::start(Security::web(), |_, _| {}), upstream());
    web.serve(page(FIRST));
    let lists = [
        list("one", &web.url("/"), ""),
        list("two", &web.url("/"), "scope = \"subtree\""),
    ];
    let server = Server::start(&config(&upstream, PERMIT, &lists.concat()), &[]);
    until("both", || {
        let status = server.status();
        let lists = status["lists"].as_array().expect("lists").clone();
        lists.iter().all(|list| list["rules"] == 2)
    });
    until("the second", || {
        is_blocked(server.address, "x.first.example")
    });
    server.assert_well();
}

#[test]
fn a_reload_may_add_and_remove_lists_and_change_their_urls() {
    let scene = Scene::start("", "");
    let files = || {
        let entries = fs::read_dir(scene.server.path("state/downloads")).expect("a directory");
        entries
            .map(|entry| entry.expect("an entry").file_name())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let before = files();
    assert_eq!(before.len(), 2, "{before:?}");
    scene.web.play(|got, stream| {
        let version = if got.path == "/new.txt" {
            SECOND
        } else {
            FIRST
        };
        send(stream, &page(version));
    });
    let other = list("ads", &scene.web.url("/new.txt"), "");
    scene
        .server
        .replace("tapis.toml", &config(&scene.upstream, PERMIT, &other));
    let output = scene.server.verb(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    scene.has(SECOND);
    until("the old copy is removed", || {
        files().len() == 2 && files().is_disjoint(&before)
    });
    scene
        .server
        .replace("tapis.toml", &config(&scene.upstream, PERMIT, ""));
    assert!(scene.server.verb(&["reload"]).status.success());
    until("no copy is left", || files().is_empty());
    scene.has("");
}

#[test]
fn a_required_list_is_downloaded_before_the_server_serves() {
    let (web, upstream) = (Web::start(Security::web(), |_, _| {}), upstream());
    web.serve(page(FIRST));
    let text = config(
        &upstream,
        PERMIT,
        &list("ads", &web.url("/"), "required = true"),
    );
    let server = Server::start(&text, &[]);
    assert!(
        is_blocked(server.address, "first.example"),
        "{}",
        server.log()
    );
}

#[test]
fn a_required_list_that_can_not_be_downloaded_keeps_the_server_from_starting() {
    let upstream = upstream();
    let url = "https://missing.example/ads?token=sesame";
    let text_of = config(&upstream, "", &list("ads", url, "required = true"));
    let folder = folder(&text_of, &[]);
    let (code, shown) = text_and_code(&verb(folder.path(), &["serve"]));
    assert_eq!(code, Some(1), "{shown}");
    for part in [
        "list `ads` is required, but it can't be downloaded: https://missing.example/ads?...: unreachable: ",
        "missing.example has no address",
    ] {
        assert!(shown.contains(part), "{part} is not in: {shown}");
    }
    assert!(!shown.contains("sesame"), "{shown}");
}

#[test]
fn a_configuration_is_checked_without_network() {
    let upstream = upstream();
    let url = "https://lists.example/ads";
    let text_of = |text: &str| {
        let folder = folder(text, &[]);
        text_and_code(&verb(folder.path(), &["check", "--files-only"]))
    };
    let (code, shown) = text_of(&config(&upstream, "", &list("ads", url, "")));
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("note: ads: a running server downloads it"),
        "{shown}"
    );
    assert_eq!(upstream.asked().len(), 0);
    let without =
        config(&upstream, "", &list("ads", url, "")).replace("[state]\ndir = \"state\"\n", "");
    let (code, shown) = text_of(&without);
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains("url needs a directory for downloaded lists: set `dir` in [state]"),
        "{shown}"
    );
}

fn text_and_code(output: &std::process::Output) -> (Option<i32>, String) {
    (output.status.code(), text(output))
}
