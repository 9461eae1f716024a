//! Changes of the configuration of lists by URL: what a reload names, what stays, and what another URL means.

use super::scene::{FIRST, PERMIT, SECOND, Scene, config, list};
use crate::support::client::{is_blocked, until};
use crate::support::server::text;
use crate::support::web::page;

#[test]
fn a_reload_and_the_journal_name_changes_of_downloads_without_secrets() {
    let scene = Scene::start("", "");
    let url = scene.web.url("/ads.txt");
    let secret = url.replace("https://", "https://me:sesame@");
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let with_token = format!("{url}?token=sesame");
    for (url, keys, downloads, expected) in [
        (
            &*url,
            "refresh-secs = 7200",
            "",
            &["list.ads.refresh-secs"][..],
        ),
        (
            &url,
            "",
            "stall-secs = 20\ntimeout-secs = 500\n",
            &[
                "download.stall-secs",
                "download.timeout-secs",
                "list.ads.refresh-secs",
            ],
        ),
        (&secret, "", "", &["download.stall-secs", "list.ads.url"]),
        (&with_token, "", "", &["list.ads.url"]),
        (
            &url,
            &format!("sha256 = \"{digest}\""),
            "",
            &["list.ads.sha256", "list.ads.url"],
        ),
        (
            &url,
            "minisign = \"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"",
            "proxy = \"http://me:sesame@127.0.0.1:1/\"\n",
            &["list.ads.minisign", "list.ads.sha256", "download.proxy"],
        ),
    ] {
        let lists = list("ads", url, keys);
        let downloads = format!("{PERMIT}{downloads}");
        let text_of = config(&scene.upstream, &downloads, &lists);
        scene.server.replace("tapis.toml", &text_of);
        let shown = text(&scene.server.verb(&["reload"]));
        for key in expected {
            assert!(shown.contains(key), "{key} is not in: {shown}");
        }
        assert!(!shown.contains("sesame"), "{shown}");
        if !keys.contains("sha256") && !keys.contains("minisign") {
            // The journal has the settings of lists that are in force.
            scene.has(FIRST);
        }
    }
    let journal = text(&scene.server.verb(&["journal", "show"]));
    for part in [
        "list.ads.refresh-secs",
        "download.stall-secs",
        "download.proxy",
        "ads.txt?...",
    ] {
        assert!(journal.contains(part), "{part} is not in: {journal}");
    }
    assert!(!journal.contains("sesame"), "{journal}");
}

#[test]
fn other_settings_of_downloads_do_not_hide_that_they_fail() {
    let scene = Scene::start("", "");
    scene.web.serve(page(""));
    scene.fails("empty", "no bytes");
    let asked = scene.web.got().len();
    let lists = list("ads", &scene.web.url("/ads.txt"), "");
    let downloads = format!("{PERMIT}stall-secs = 20\n");
    scene
        .server
        .replace("tapis.toml", &config(&scene.upstream, &downloads, &lists));
    assert!(scene.server.verb(&["reload"]).status.success());
    until("another attempt", || scene.web.got().len() > asked);
    until("its result", || {
        scene.list()["download"]["faults"][0][1] == 2
    });
    assert_eq!(scene.list()["download"]["is_current"], false);
    scene.has(FIRST);
}

#[test]
fn a_start_with_another_url_does_not_serve_the_rules_of_the_old_one() {
    let scene = Scene::start("", "");
    let Scene {
        mut server,
        web,
        upstream,
    } = scene;
    server.signal("TERM");
    server.wait();
    web.serve(page(""));
    let other = list("ads", &web.url("/new.txt"), "");
    server.replace("tapis.toml", &config(&upstream, PERMIT, &other));
    let server = server.again();
    assert!(!is_blocked(server.address, "first.example"));
    web.serve(page(SECOND));
    let refreshed = server.verb(&["list", "refresh"]);
    assert!(refreshed.status.success(), "{}", text(&refreshed));
    until("the new list", || {
        is_blocked(server.address, "second.example")
    });
}
