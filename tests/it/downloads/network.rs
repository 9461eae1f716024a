//! How servers are reached: names by the upstream servers, and the proxy.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use hickory_proto::rr::RecordType;

use super::scene::{FIRST, PERMIT, Scene, config, list, upstream};
use crate::support::client::until;
use crate::support::server::{Server, text};
use crate::support::tls::Security;
use crate::support::upstream::{Upstream, address_of, alias, name};
use crate::support::web::{Web, page};

#[test]
fn names_are_resolved_by_the_upstream_servers_whatever_the_policy_says() {
    let own = "lists.example\nfirst.example\nkept.example\n";
    let scene = Scene::begin(Security::web(), page(own), "", "");
    scene.has(FIRST);
    let asked = scene.upstream.asked();
    let of = |rtype| {
        asked.iter().any(|asked| {
            name(asked) == "lists.example" && asked.message.queries[0].query_type() == rtype
        })
    };
    assert!(of(RecordType::A) && of(RecordType::AAAA));
    // The list blocks its own server now, and is still refreshed.
    assert_eq!(scene.refresh().0, Some(0));
}

#[test]
fn names_of_this_machine_are_not_asked_for_and_are_as_private_as_its_addresses() {
    let upstream = upstream();
    let web = Web::start(Security::Plain, |_, _| {});
    web.serve(page(FIRST));
    let url = |host: &str| format!("http://{host}:{}/", web.port);
    let lists = [
        list("ads", &url("localhost"), ""),
        list("below", &url("lists.localhost"), ""),
    ];
    let hosts = "[\"localhost\", \"lists.localhost\"]";
    let downloads = format!("allow-http = {hosts}\nallow-private = [\"localhost\"]\n");
    let text_of = |downloads: &str| config(&upstream, downloads, &lists.concat());
    let server = Server::start(&text_of(&downloads), &[]);
    let list = |place: usize| server.status()["lists"][place].clone();
    until("the list", || list(0)["rules"] == 2);
    until("the fault", || list(1)["download"]["is_current"] == false);
    let faults = list(1)["download"]["faults"].to_string();
    assert_eq!(faults, "[[\"private\",1]]");
    let downloads = format!("allow-http = {hosts}\nallow-private = {hosts}\n");
    server.replace("tapis.toml", &text_of(&downloads));
    // It reports that the list is not downloaded yet, unless that was faster.
    server.verb(&["reload"]);
    until("the other list", || list(1)["rules"] == 2);
    let asked = upstream.asked();
    assert!(asked.iter().all(|asked| !name(asked).contains("localhost")));
}

#[test]
fn aliases_are_followed() {
    let upstream = Upstream::start(|asked| {
        let mut answer = address_of(asked, [127, 0, 0, 1]);
        if name(asked) == "lists.example" {
            answer.answers = vec![alias("lists.example.", "cdn.example.", 60)];
        }
        Some(answer)
    });
    let web = Web::start(Security::web(), |_, _| {});
    web.serve(page(FIRST));
    let list = list("ads", &web.url("/"), "");
    let server = Server::start(&config(&upstream, PERMIT, &list), &[]);
    let scene = Scene {
        server,
        web,
        upstream,
    };
    scene.has(FIRST);
}

/// A proxy that passes bytes on to a port of this machine. Returns its port, and the heads of its requests.
fn proxy(to: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heads);
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") {
                    client.read_exact(&mut byte).expect("a head");
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).expect("text");
                let refused = head.contains("refused.example");
                log.lock().expect("not poisoned").push(head);
                if refused {
                    let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n");
                    return;
                }
                let mut server = TcpStream::connect(("127.0.0.1", to)).expect("connected");
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("sent");
                let (mut from, mut into) = (
                    client.try_clone().expect("a handle"),
                    server.try_clone().expect("a handle"),
                );
                std::thread::spawn(move || std::io::copy(&mut from, &mut into));
                let _ = std::io::copy(&mut server, &mut client);
            });
        }
    });
    (port, heads)
}

#[test]
fn a_proxy_is_used_for_all_downloads_and_its_password_is_never_shown() {
    let (web, upstream) = (Web::start(Security::web(), |_, _| {}), upstream());
    web.serve(page(FIRST));
    let (port, heads) = proxy(web.port);
    let downloads = format!("proxy = \"http://me:opensesame@127.0.0.1:{port}\"\n");
    let lists = [
        list("ads", "https://lists.example/ads", ""),
        list("no", "https://refused.example/no", ""),
    ];
    let server = Server::start(&config(&upstream, &downloads, &lists.concat()), &[]);
    let scene = Scene {
        server,
        web,
        upstream,
    };
    scene.has(FIRST);
    let head = heads
        .lock()
        .expect("not poisoned")
        .iter()
        .find(|it| it.contains("lists."))
        .cloned();
    let head = head.expect("a request");
    assert!(
        head.starts_with("CONNECT lists.example:443 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains("proxy-authorization: Basic bWU6b3BlbnNlc2FtZQ=="),
        "{head}"
    );
    until("the fault", || {
        scene.server.status()["lists"][1]["download"]["is_current"] == false
    });
    let shown = text(&scene.server.verb(&["status"]));
    assert!(
        shown.contains("no: https://refused.example/no: proxy: "),
        "{shown}"
    );
    assert!(shown.contains("it answers with status 403"), "{shown}");
    for shown in [shown, scene.server.status().to_string(), scene.server.log()] {
        assert!(
            !shown.contains("opensesame") && !shown.contains("bWU6"),
            "{shown}"
        );
    }
}
