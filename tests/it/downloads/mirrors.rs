//! Lists with several mirrors, and many lists of one slow server.

use std::sync::{Arc, Mutex, mpsc};

use super::acceptance::{ERROR, long};
use super::scene::{FIRST, PERMIT, SECOND, Scene, config, list, upstream};
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, text};
use crate::support::tls::Security;
use crate::support::web::{Web, page, send};

/// A list with two mirrors, which have these answers. The first mirror is that of the scene.
fn two_mirrors(first: Vec<u8>, second: Vec<u8>) -> (Scene, Web) {
    let (one, two, upstream) = (
        Web::start(Security::web(), |_, _| {}),
        Web::start(Security::web(), |_, _| {}),
        upstream(),
    );
    one.serve(first);
    two.serve(second);
    let lists = format!(
        "[[list]]\nname = \"ads\"\nurl = [\"{}\", \"{}\"]\n",
        one.url("/ads"),
        mirror(&two)
    );
    let server = Server::start(&config(&upstream, PERMIT, &lists), &[]);
    let scene = Scene {
        server,
        web: one,
        upstream,
    };
    (scene, two)
}

/// The URL of the second mirror.
fn mirror(web: &Web) -> String {
    web.url("/m").replace("lists.", "mirror.")
}

/// The alarms of the server.
fn alarms(scene: &Scene) -> Vec<String> {
    let status = scene.server.status();
    let alarms = status["alarms"].as_array().expect("alarms").iter();
    alarms.map(ToString::to_string).collect()
}

#[test]
fn each_refresh_asks_the_mirrors_in_their_order() {
    let (scene, second) = two_mirrors(Vec::new(), page(FIRST));
    scene.has(FIRST);
    until("the result", || {
        scene.list()["download"]["is_current"] == true
    });
    let download = scene.list()["download"].clone();
    assert_eq!(download["source"], *mirror(&second));
    assert_eq!(download["mirrors"][0]["fault"], "protocol");
    scene.server.assert_well();
    scene.web.serve(page(SECOND));
    let asked = second.got().len();
    let (code, printed) = scene.refresh();
    assert_eq!(code, Some(0), "{printed}");
    scene.has(SECOND);
    let download = scene.list()["download"].clone();
    assert_eq!(download["source"], *scene.web.url("/ads"));
    assert_eq!(second.got().len(), asked, "the first mirror works again");
}

#[test]
fn a_rejected_version_can_be_accepted_while_another_mirror_has_the_last_good_one() {
    let (scene, second) = two_mirrors(page(&long()), page(&long()));
    scene.has(FIRST);
    scene.web.serve(page(SECOND));
    for count in 1..=2 {
        let (code, printed) = scene.refresh();
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains("--accept ads:shrunk"), "{printed}");
        assert_eq!(second.got().len(), count);
        let download = scene.list()["download"].clone();
        assert_eq!(download["mirrors"][0]["fault"], "rejected");
        assert!(download["mirrors"][1]["fault"].is_null(), "{download}");
        assert_eq!(download["source"], *mirror(&second));
        assert_eq!(alarms(&scene).len(), 1, "{:?}", alarms(&scene));
    }
    scene.has(FIRST);
    let accepted = scene.server.verb(&["reload", "--accept", "ads:shrunk"]);
    assert!(accepted.status.success(), "{}", text(&accepted));
    scene.has(SECOND);
    until("the acceptance", || {
        scene.list()["download"]["is_current"] == true
    });
    scene.server.assert_well();
}

#[test]
fn a_rejected_version_is_an_alarm_also_if_another_mirror_has_a_good_one() {
    let (scene, second) = two_mirrors(page(FIRST), page(SECOND));
    scene.has(FIRST);
    scene.web.serve(page(ERROR));
    let (code, printed) = scene.refresh();
    assert_eq!(code, Some(0), "{printed}");
    scene.has(SECOND);
    let download = scene.list()["download"].clone();
    assert_eq!(download["mirrors"][0]["fault"], "rejected");
    assert_eq!(download["source"], *mirror(&second));
    let alarms = alarms(&scene);
    let url = scene.web.url("/ads");
    assert!(
        alarms.len() == 1 && alarms[0].contains(&format!("ads: {url}: rejected: ")),
        "{alarms:?}"
    );
    scene.web.serve(page(SECOND));
    assert_eq!(scene.refresh().0, Some(0));
    scene.server.assert_well();
}

#[test]
fn lists_that_wait_for_slow_transfers_are_shown_as_waiting() {
    const LISTS: usize = 17;
    let (web, upstream) = (Web::start(Security::web(), |_, _| {}), upstream());
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    web.play(move |got, stream| {
        // Until the sender is dropped.
        let _ = released.lock().expect("not poisoned").recv();
        send(stream, &page(&format!("{}.example\n", &got.path[1..])));
    });
    let lists: String = (0..LISTS)
        .map(|n| list(&format!("l{n}"), &web.url(&format!("/l{n}")), ""))
        .collect();
    let server = Server::start(&config(&upstream, PERMIT, &lists), &[]);
    let queued = || {
        let status = server.status();
        let lists = status["lists"].as_array().expect("lists").clone();
        let queued = lists
            .iter()
            .filter(|list| list["download"]["is_queued"] == true);
        queued.count()
    };
    until("a list that waits", || {
        queued() == 1 && web.got().len() == LISTS - 1
    });
    let shown = text(&server.verb(&["status"]));
    assert!(
        shown.contains("waiting until another download ends"),
        "{shown}"
    );
    drop(release);
    until("all", || {
        (0..LISTS).all(|n| is_blocked(server.address, &format!("l{n}.example")))
    });
    assert_eq!(queued(), 0);
}
