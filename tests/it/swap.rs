//! Changes of lists while the server runs: in force within a moment, never in part, and without
//! lost queries.

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use crate::support::client::{addresses, is_blocked, query, until};
use crate::support::server::{Server, list, preamble, text};
use crate::support::upstream::Upstream;

/// The time without a write after which an open file is read.
const OPEN_QUIET: Duration = Duration::from_secs(2);

fn server(files: &[(&str, &str)]) -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let lists: String = files.iter().map(|(name, _)| list(name, "")).collect();
    (
        Server::start(&(preamble(upstream.address) + &lists), files),
        upstream,
    )
}

#[test]
fn an_edit_and_its_undo_are_followed() {
    let (server, _upstream) = server(&[("ads", "a.test.example\n")]);
    assert!(is_blocked(server.address, "a.test.example"));
    fs::write(server.path("ads"), "a.test.example\nb.test.example\n").expect("written");
    until("the block", || is_blocked(server.address, "b.test.example"));
    fs::write(server.path("ads"), "a.test.example\n").expect("written");
    until("the lift", || !is_blocked(server.address, "b.test.example"));
    assert_eq!(addresses(server.address, "b.test.example"), ["192.0.2.1"]);
}

#[test]
fn a_rename_a_moved_link_and_a_recreated_file_are_noticed() {
    let (server, _upstream) = server(&[("ads", "a.example\n")]);
    server.replace("ads", "a.example\nb.example\n");
    until("the renamed file", || {
        is_blocked(server.address, "b.example")
    });

    fs::remove_file(server.path("ads")).expect("removed");
    until("the alarm", || server.status()["degraded"] == true);
    assert!(
        is_blocked(server.address, "b.example"),
        "the last good state stays"
    );
    fs::write(server.path("ads"), "b.example\nc.example\n").expect("written");
    until("the returned file", || {
        is_blocked(server.address, "c.example")
    });
    until("the end of the alarm", || {
        server.status()["degraded"] == false
    });

    fs::write(server.path("one"), "b.example\nc.example\nd.example\n").expect("written");
    fs::write(server.path("two"), "c.example\nd.example\ne.example\n").expect("written");
    symlink(server.path("one"), server.path("link-1")).expect("linked");
    fs::rename(server.path("link-1"), server.path("ads")).expect("renamed");
    until("the first link", || is_blocked(server.address, "d.example"));
    symlink(server.path("two"), server.path("link-2")).expect("linked");
    fs::rename(server.path("link-2"), server.path("ads")).expect("renamed");
    until("the second link", || {
        is_blocked(server.address, "e.example")
    });
    fs::write(
        server.path("two"),
        "c.example\nd.example\ne.example\nf.example\n",
    )
    .expect("written");
    until("an edit of the link's target", || {
        is_blocked(server.address, "f.example")
    });
}

#[test]
fn a_file_that_is_still_being_written_is_not_read_until_it_is_closed() {
    let (server, _upstream) =
        server(&[("ads", "a.example\nb.example\n"), ("marks", "m.example\n")]);
    let opened = Instant::now();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(server.path("ads"))
        .expect("opened");
    file.write_all(b"a.example\nnew.example\nb.exam")
        .expect("written");
    // Another list's change is in force by now, so a partial file would be as well.
    server.replace("marks", "m.example\nn.example\n");
    until("the other list", || is_blocked(server.address, "n.example"));
    let is_taken = is_blocked(server.address, "new.example");
    // If the machine paused for OPEN_QUIET, the server may have read the file, although its writer still has it open.
    assert!(!is_taken || opened.elapsed() >= OPEN_QUIET);
    assert!(is_taken || is_blocked(server.address, "b.example"));
    file.write_all(b"ple\n").expect("written");
    drop(file);
    // A partial file may have been loaded on a machine that paused.
    until("the whole file", || {
        is_blocked(server.address, "new.example") && is_blocked(server.address, "b.example")
    });
}

#[test]
fn reload_does_not_read_a_file_that_is_still_being_written() {
    let (server, _upstream) = server(&[("ads", "a.example\nb.example\n")]);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(server.path("ads"))
        .expect("opened");
    file.write_all(b"a.example\nnew.example\n")
        .expect("written");
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| server.verb(&["reload"]));
        // Each request is queued behind the reload, so the reload has arrived by then.
        for _ in 0..5 {
            server.status();
        }
        assert!(is_blocked(server.address, "b.example"));
        assert!(!is_blocked(server.address, "new.example"));
        file.write_all(b"b.example\n").expect("written");
        drop(file);
        let output = reload.join().expect("it ran");
        assert!(output.status.success(), "{}", text(&output));
    });
    assert!(is_blocked(server.address, "new.example"));
    assert!(
        is_blocked(server.address, "b.example"),
        "no partial list was loaded"
    );
}

#[test]
fn a_configuration_with_an_unreadable_list_is_rejected_whole() {
    let (server, _upstream) = server(&[("ads", "a.example\n")]);
    let good = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let renamed = "name = \"other\"\npath = \"mistyped\"";
    let turned = "name = \"ads\"\npath = \"mistyped\"\nkind = \"allow\"";
    for new in [renamed, turned] {
        let bad = good.replace("name = \"ads\"\npath = \"ads\"", new);
        fs::write(server.path("tapis.toml"), bad).expect("written");
        let output = server.verb(&["reload"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("/mistyped: "), "{}", text(&output));
        assert!(is_blocked(server.address, "a.example"), "{new}");
        assert_eq!(server.status()["degraded"], true);
    }
    fs::write(server.path("tapis.toml"), good).expect("written");
    assert!(server.verb(&["reload"]).status.success());
    server.assert_well();
}

#[test]
fn a_rejected_list_that_is_removed_delays_no_reload() {
    let (server, _upstream) = server(&[("ads", "a.example\n"), ("gone", "g.example\n")]);
    fs::remove_file(server.path("gone")).expect("removed");
    until("the alarm", || server.status()["degraded"] == true);
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let config = config.replace(&list("gone", ""), "");
    fs::write(server.path("tapis.toml"), config).expect("written");
    let output = server.verb(&["reload"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!is_blocked(server.address, "g.example"));
}

#[test]
fn a_new_list_can_be_accepted_unchanged() {
    let (server, _upstream) = server(&[("ads", "a.example\n")]);
    fs::write(server.path("new"), "n.example\n/\n/\n").expect("written");
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    fs::write(server.path("tapis.toml"), config + &list("new", "")).expect("written");
    let output = server.verb(&["reload"]);
    assert!(
        text(&output).contains("tapis reload --accept new:bad"),
        "{}",
        text(&output)
    );
    let output = server.verb(&["reload", "--accept", "new:bad"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(is_blocked(server.address, "n.example"));
}

#[test]
fn an_accepted_file_is_not_read_while_it_is_still_being_written() {
    let four = "a.example\nb.example\nc.example\nd.example\n";
    let (server, _upstream) = server(&[("ads", four)]);
    let mut file = fs::File::create(server.path("ads")).expect("opened");
    file.write_all(b"a.example\n").expect("written");
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| server.verb(&["reload", "--accept", "ads:shrunk"]));
        for _ in 0..5 {
            server.status();
        }
        assert!(is_blocked(server.address, "d.example"));
        file.write_all(b"e.example\n").expect("written");
        drop(file);
        let output = reload.join().expect("it ran");
        assert!(output.status.success(), "{}", text(&output));
    });
    assert!(is_blocked(server.address, "e.example"));
    assert!(!is_blocked(server.address, "d.example"));
}

#[test]
fn a_small_list_does_not_wait_for_a_new_large_one() {
    let (server, _upstream) = server(&[("ads", "a.example\n")]);
    let large: String = (0..300_000)
        .map(|n| format!("n{n}.large.example\n"))
        .collect();
    fs::write(server.path("large"), large).expect("written");
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    fs::write(server.path("tapis.toml"), config + &list("large", "")).expect("written");
    server.signal("HUP");
    server.replace("ads", "a.example\nb.example\n");
    until("the small list", || is_blocked(server.address, "b.example"));
    until("the large list", || {
        is_blocked(server.address, "n299999.large.example")
    });
    assert!(
        is_blocked(server.address, "b.example"),
        "the new configuration keeps it"
    );
}

#[test]
fn a_replaced_directory_is_followed() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + "[[list]]\nname = \"ads\"\npath = \"sub/ads\"\n";
    let server = Server::start(&config, &[]);
    for round in 0..3 {
        let old = server.path(&format!("old-{round}"));
        let _ = fs::rename(server.path("sub"), old);
        fs::create_dir(server.path("sub")).expect("made");
        let name = format!("round-{round}.example");
        fs::write(server.path("sub/ads"), format!("{name}\n")).expect("written");
        until("the new folder's list", || {
            is_blocked(server.address, &name)
        });
    }
    fs::write(server.path("sub/ads"), "round-2.example\nedit.example\n").expect("written");
    until("an edit in it", || {
        is_blocked(server.address, "edit.example")
    });
}

#[test]
fn relative_paths_are_followed_through_a_moved_link_too() {
    let upstream = Upstream::plain();
    let folder = tempfile::tempdir().expect("a folder");
    let config = preamble(upstream.address) + &list("ads", "");
    fs::write(folder.path().join("tapis.toml"), config).expect("written");
    fs::write(folder.path().join("one"), "one.example\n").expect("written");
    fs::write(folder.path().join("two"), "two.example\n").expect("written");
    let link = |to: &str, name: &str| symlink(to, folder.path().join(name)).expect("linked");
    link("one", "ads");
    let server = Server::start_in(folder);
    assert!(is_blocked(server.address, "one.example"));
    symlink("two", server.path("new-link")).expect("linked");
    fs::rename(server.path("new-link"), server.path("ads")).expect("renamed");
    until("the moved link", || {
        is_blocked(server.address, "two.example")
    });
}

#[test]
fn sighup_reloads_the_configuration_too() {
    let (server, _upstream) = server(&[("ads", "a.example\n")]);
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    fs::write(server.path("more"), "b.example\n").expect("written");
    fs::write(server.path("tapis.toml"), config + &list("more", "")).expect("written");
    assert!(
        !is_blocked(server.address, "b.example"),
        "not before the reload"
    );
    server.signal("HUP");
    until("the new list", || is_blocked(server.address, "b.example"));
}

#[test]
fn a_bad_configuration_changes_nothing_and_is_reported() {
    let (server, _upstream) = server(&[("ads", "a.example\n")]);
    let good = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    fs::write(
        server.path("tapis.toml"),
        "[server]\nlisten = 5\nworkerz = 2\n",
    )
    .expect("written");
    let output = server.verb(&["reload", "--control", &control(&server)]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    assert!(
        report.contains("tapis.toml:2: ") && report.contains("tapis.toml:3: "),
        "{report}"
    );
    assert!(is_blocked(server.address, "a.example"));
    until("the refusal in the log", || {
        server.log().contains("configuration rejected")
    });

    fs::write(
        server.path("tapis.toml"),
        good.replace("workers = 2", "workers = 3"),
    )
    .expect("written");
    let output = server.verb(&["reload"]);
    assert!(output.status.success());
    assert!(
        text(&output).contains("only after a restart: [server] workers"),
        "{}",
        text(&output)
    );
}

fn control(server: &Server) -> String {
    server.path("control.sock").display().to_string()
}

#[test]
fn a_new_configuration_comes_into_force_in_one_step() {
    let (server, _upstream) = server(&[("ads", "a.example\n")]);
    // Large, so that some time passes between the removal of the old list and the addition of the
    // new one.
    let filler: String = (0..100_000)
        .map(|n| format!("n{n}.large.example\n"))
        .collect();
    let other = filler + "a.example\nb.example\n";
    fs::write(server.path("other"), other).expect("written");
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let config = config.replace(
        "name = \"ads\"\npath = \"ads\"",
        "name = \"new\"\npath = \"other\"",
    );
    fs::write(server.path("tapis.toml"), config).expect("written");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The name is in the old and the new list: it is blocked at each moment.
        let watcher = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert!(is_blocked(server.address, "a.example"));
            }
        });
        assert!(server.verb(&["reload"]).status.success());
        stop.store(true, Ordering::Relaxed);
        watcher.join().expect("always blocked");
    });
    assert!(is_blocked(server.address, "b.example"));
}

#[test]
fn a_reload_is_in_force_when_it_returns() {
    let (server, _upstream) = server(&[("ads", "a.example\n")]);
    for round in 0..5 {
        let name = format!("round-{round}.example");
        server.replace("ads", &format!("a.example\n{name}\n"));
        let output = server.verb(&["reload"]);
        assert!(output.status.success(), "{}", text(&output));
        assert!(is_blocked(server.address, &name), "{}", text(&output));
    }
}

/// The answer's ID, and whether it is the sinkhole's.
fn id_and_blocked(bytes: &[u8]) -> (u16, bool) {
    let answer = Message::from_vec(bytes).expect("an answer");
    let blocked = answer
        .answers
        .iter()
        .any(|record| record.data.to_string() == "0.0.0.0");
    (answer.metadata.id, blocked)
}

#[test]
fn swaps_lose_no_query_and_mix_no_states() {
    // In state A only `a` is blocked, in state B only `b`: both or neither is a mixture of states,
    // and after B no answer may be of state A until the next swap.
    const SWAPS: usize = 30;
    let (server, _upstream) = server(&[("small", "keep.example\na.example\n"), ("large", "")]);
    let large: String = (0..20_000)
        .map(|n| format!("n{n}.large.example\n"))
        .collect();
    server.replace("large", &large);
    until("the large list", || {
        is_blocked(server.address, "n19999.large.example")
    });

    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server.address).expect("connected");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    let names = ["a.example", "b.example", "keep.example", "n7.large.example"];
    let queries: Vec<_> = names
        .iter()
        .map(|name| query(name, RecordType::A))
        .collect();
    let ask = || -> Vec<bool> {
        let mut seen = vec![None; queries.len()];
        for query in &queries {
            socket
                .send(&query.to_vec().expect("a message"))
                .expect("sent");
        }
        let mut buffer = [0; 4096];
        for _ in &queries {
            let len = socket.recv(&mut buffer).expect("no query is lost");
            let (id, blocked) = id_and_blocked(&buffer[..len]);
            let index = queries
                .iter()
                .position(|q| q.metadata.id == id)
                .expect("asked for");
            seen[index] = Some(blocked);
        }
        seen.into_iter()
            .map(|blocked| blocked.expect("answered"))
            .collect()
    };
    for swap in 0..SWAPS {
        let to_b = swap % 2 == 0;
        let name = if to_b { "b" } else { "a" };
        server.replace("small", &format!("keep.example\n{name}.example\n"));
        let mut turned = false;
        until("the swap", || {
            // The swap may come between the four datagrams of a round, but a round must not see an
            // older state than the round before.
            let seen = ask();
            assert!(seen[2] && seen[3], "unchanged names stay blocked");
            let (old, new) = if to_b {
                (seen[0], seen[1])
            } else {
                (seen[1], seen[0])
            };
            assert!(!(turned && (old || !new)), "back to the old state");
            turned |= new && !old;
            turned
        });
        for _ in 0..5 {
            let seen = ask();
            assert_eq!((seen[0], seen[1]), (!to_b, to_b), "a mixture");
        }
    }
}
