//! Redirects are followed to permitted hosts only.

use super::scene::{FIRST, SECOND, Scene};
use crate::support::web::{page, redirect, send};

#[test]
fn redirects_on_the_same_host_and_to_listed_hosts_are_followed() {
    let scene = Scene::start("redirects = [\"mirror.example\"]", "");
    let port = scene.web.port;
    scene.web.play(move |got, stream| {
        let answer = match &*got.path {
            "/ads.txt" => redirect("/other?version=2"),
            "/other?version=2" => redirect(&format!("https://mirror.example:{port}/new")),
            _ => page(SECOND),
        };
        send(stream, &answer);
    });
    assert_eq!(scene.refresh().0, Some(0));
    scene.has(SECOND);
    let last = scene.web.got().pop().expect("a request");
    assert_eq!(
        (&*last.path, last.header("host")),
        ("/new", Some(&*format!("mirror.example:{port}")))
    );
}

#[test]
fn a_redirect_elsewhere_keeps_the_last_good_state() {
    let scene = Scene::start("redirects = [\"localhost.example\", \"127.0.0.1\"]", "");
    let port = scene.web.port;
    for (fault, detail, target) in [
        (
            "redirect",
            "another host",
            format!("https://mirror.example:{port}/"),
        ),
        (
            "redirect",
            "not encrypted",
            format!("http://lists.example:{port}/"),
        ),
        (
            "redirect",
            "has the scheme \"ftp\"",
            "ftp://lists.example/".to_owned(),
        ),
        ("redirect", "back to itself", "/ads.txt".to_owned()),
        ("private", "127.0.0.1", format!("https://127.0.0.1:{port}/")),
        (
            "private",
            "127.0.0.1",
            format!("https://[::ffff:127.0.0.1]:{port}/"),
        ),
    ] {
        scene.web.serve(redirect(&target));
        scene.fails(fault, detail);
    }
    scene.web.play(|got, stream| {
        let next = match &*got.path {
            "/ads.txt" => "/a",
            "/a" => "/b",
            _ => "/a",
        };
        send(stream, &redirect(next));
    });
    scene.fails("redirect", "back to itself");
    scene
        .web
        .play(|got, stream| send(stream, &redirect(&format!("{}x", got.path))));
    let before = scene.web.got().len();
    scene.fails("redirect", "more than 5 redirects");
    assert_eq!(scene.web.got().len() - before, 6);
    scene.has(FIRST);
}
