//! What downloads do at the same time, and their end while they are on the way.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::scene::{PERMIT, config, list, upstream};
use crate::support::client::{is_blocked, until};
use crate::support::server::Server;
use crate::support::tls::Security;
use crate::support::web::{Web, page, send};

/// As in docs/lists.md.
const TRANSFERS: usize = 16;

#[test]
fn sixteen_lists_are_transferred_at_the_same_time_and_the_others_wait_and_follow() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let held = Arc::clone(&gate);
    let web = Web::start(Security::web(), move |got, stream| {
        let (is_open, opened) = &*held;
        let is_open = is_open.lock().expect("not poisoned");
        drop(opened.wait_while(is_open, |is_open| !*is_open));
        send(stream, &page(&format!("{}.example\n", &got.path[1..])));
    });
    let upstream = upstream();
    let all = TRANSFERS + 3;
    let lists: String = (0..all)
        .map(|n| list(&format!("l{n}"), &web.url(&format!("/l{n}")), ""))
        .collect();
    let server = Server::start(&config(&upstream, PERMIT, &lists), &[]);
    let count = |key: &str| {
        let status = server.status();
        let lists = status["lists"].as_array().expect("lists").clone();
        let is_so = |list: &&serde_json::Value| list["download"][key] == true;
        lists.iter().filter(is_so).count()
    };
    until("the transfers", || web.got().len() == TRANSFERS);
    until("those that wait", || count("is_queued") == 3);
    assert_eq!((web.got().len(), count("is_active")), (TRANSFERS, all));
    let (is_open, opened) = &*gate;
    *is_open.lock().expect("not poisoned") = true;
    opened.notify_all();
    until("all lists", || {
        (0..all).all(|n| is_blocked(server.address, &format!("l{n}.example")))
    });
    assert_eq!(web.got().len(), all);
}

#[test]
fn a_list_that_is_removed_while_it_is_transferred_ends_the_transfer_and_leaves_no_file() {
    let is_closed = Arc::new(AtomicBool::new(false));
    let closed = Arc::clone(&is_closed);
    let web = Web::start(Security::web(), move |_, stream| {
        send(
            stream,
            b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nendless.example\n",
        );
        // Until the client closes the connection.
        while stream.read(&mut [0]).is_ok_and(|read| read > 0) {}
        closed.store(true, Ordering::Relaxed);
    });
    let upstream = upstream();
    let lists = list("ads", &web.url("/ads"), "");
    let downloads = format!("{PERMIT}stall-secs = 600\n");
    let server = Server::start(&config(&upstream, &downloads, &lists), &[]);
    let files = || {
        let entries = fs::read_dir(server.path("state/downloads")).expect("a directory");
        entries.count()
    };
    until("a file that is being written", || files() == 1);
    server.replace("tapis.toml", &config(&upstream, &downloads, ""));
    assert!(server.verb(&["reload"]).status.success());
    until("the end of the transfer", || {
        is_closed.load(Ordering::Relaxed)
    });
    until("the end of the file", || files() == 0);
    assert_eq!(server.status()["lists"].as_array().map(Vec::len), Some(0));
    server.assert_well();
}
