//! The sources of upstream servers, and the ports from which they are asked.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::NS;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::support::client::{addresses, ask, rcode, until};
use crate::support::server::{Server, folder, list, preamble, refused, text};
use crate::support::upstream::{Asked, Upstream, address_of, answer};

const TRUE: [u8; 4] = [192, 0, 2, 1];

/// A configuration whose servers are those of the `resolv.conf` beside it.
fn by_file() -> String {
    let closed_port = "127.0.0.1:9".parse().expect("an address");
    let config = preamble(closed_port);
    let file = "resolv-conf = \"resolv.conf\"";
    config.replace("servers = [\"127.0.0.1:9\"]", file) + &list("ads", "")
}

fn start(resolv_conf: &str) -> Server {
    let files = [("ads", "blocked.example\n"), ("resolv.conf", resolv_conf)];
    Server::start(&by_file(), &files)
}

fn upstreams(server: &Server) -> Vec<String> {
    let status = server.status();
    let all = status["upstream"].as_array().expect("servers").iter();
    all.map(|server| server["address"].as_str().expect("an address").to_owned())
        .collect()
}

#[test]
fn the_servers_follow_resolv_conf() {
    let server = start("nameserver 192.0.2.1\n");
    assert_eq!(upstreams(&server), ["192.0.2.1:53"]);
    server.replace(
        "resolv.conf",
        "nameserver 192.0.2.2\nnameserver 192.0.2.1\n",
    );
    until("the new servers", || {
        upstreams(&server) == ["192.0.2.2:53", "192.0.2.1:53"]
    });
    until("the log line", || {
        server.log().contains("upstream servers changed")
    });
    // Written in place, as some programs do.
    std::fs::write(server.path("resolv.conf"), "nameserver 192.0.2.3\n").expect("written");
    until("the third server", || {
        upstreams(&server) == ["192.0.2.3:53"]
    });
    server.assert_well();
}

#[test]
fn a_resolv_conf_without_servers_keeps_the_previous_ones_and_is_an_alarm() {
    let server = start("nameserver 192.0.2.1\n");
    server.replace("resolv.conf", "# between two networks\n");
    until("the alarm", || server.status()["degraded"] == true);
    assert_eq!(upstreams(&server), ["192.0.2.1:53"]);
    assert!(text(&server.verb(&["status"])).contains("names no upstream server"));
    std::fs::remove_file(server.path("resolv.conf")).expect("removed");
    server.replace("resolv.conf", "nameserver 192.0.2.2\n");
    until("the new server", || upstreams(&server) == ["192.0.2.2:53"]);
    server.assert_well();
}

#[test]
fn servers_that_are_configured_later_are_used() {
    let server = start("# none yet\n");
    assert!(upstreams(&server).is_empty());
    let status = server.status();
    let alarms = status["alarms"].to_string();
    assert_eq!(status["degraded"], true, "no name can be resolved");
    assert!(alarms.contains("names no upstream server"), "{alarms}");
    server.replace("resolv.conf", "nameserver 192.0.2.1\n");
    until("a server", || upstreams(&server) == ["192.0.2.1:53"]);
    server.assert_well();
}

/// A server with these upstream servers and short timeouts.
fn impatient(upstreams: &[SocketAddr]) -> Server {
    let servers: Vec<_> = upstreams.iter().map(|one| format!("\"{one}\"")).collect();
    let first = format!("[{}]", servers[0]);
    let config = preamble(upstreams[0]).replace(&first, &format!("[{}]", servers.join(", ")));
    let config = config + "timeout-ms = 200\n" + &list("ads", "");
    Server::start(&config, &[("ads", "blocked.example\n")])
}

/// Queries new names until `status` raises the alarm; returns its text.
fn alarm(server: &Server) -> String {
    let mut number = 0;
    until("the alarm", || {
        number += 1;
        ask(server.address, &format!("n{number}.example"), RecordType::A);
        server.status()["degraded"] == true
    });
    let output = server.verb(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    let alarm = report.lines().find(|line| line.starts_with("ALARM "));
    alarm.expect("an alarm").to_owned()
}

#[test]
fn an_outage_of_all_upstream_servers_is_an_alarm_and_a_log_line_at_each_end() {
    let is_up = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&is_up);
    let silent = Upstream::start(move |asked| {
        let answers = answers.load(Ordering::Relaxed);
        answers.then(|| address_of(asked, TRUE))
    });
    let (refusing, _held) = Upstream::refusing();
    let server = impatient(&[silent.address, refusing]);
    assert_eq!(server.status()["degraded"], false, "nothing is known yet");
    let report = alarm(&server);
    for address in [silent.address, refusing] {
        assert!(report.contains(&address.to_string()), "{report}");
    }
    for number in 0..5 {
        let name = format!("later{number}.example");
        ask(server.address, &name, RecordType::A);
    }
    let begun = |log: &str| {
        log.matches("no upstream server gives usable answers")
            .count()
    };
    let log = server.logged("no upstream server gives usable answers");
    assert_eq!(begun(&log), 1, "{log}");
    is_up.store(true, Ordering::Relaxed);
    // The alarm ends even if no client sends a query.
    until("the end", || server.status()["degraded"] == false);
    until("its log line", || server.log().contains("answers again"));
    let log = server.log();
    let end = log.lines().find(|line| line.contains("answers again"));
    let end = end.expect("the line");
    assert!(end.contains(&silent.address.to_string()), "{end}");
    assert!(!end.contains(&refusing.to_string()), "{end}");
    assert_eq!(begun(&log), 1, "{log}");
}

#[test]
fn errors_of_all_upstream_servers_to_every_query_are_an_outage() {
    for (code, shown) in [
        (
            ResponseCode::Refused,
            "REFUSED: this machine may not ask it",
        ),
        (ResponseCode::ServFail, "SERVFAIL"),
        (ResponseCode::FormErr, "FORMERR: no EDNS there?"),
        (ResponseCode::NotAuth, "with other errors"),
    ] {
        let is_up = Arc::new(AtomicBool::new(false));
        let answers = Arc::clone(&is_up);
        let failing = Upstream::start(move |asked| {
            Some(match answers.load(Ordering::Relaxed) {
                true => address_of(asked, TRUE),
                false => answer(asked, code),
            })
        });
        let server = impatient(&[failing.address]);
        let text = alarm(&server);
        assert!(text.contains(&failing.address.to_string()), "{text}");
        assert!(text.contains(shown), "{text}");
        server.logged("no upstream server gives usable answers");
        is_up.store(true, Ordering::Relaxed);
        until("the end", || server.status()["degraded"] == false);
        until("its log line", || {
            let log = server.log();
            let end = log.lines().find(|line| line.contains("answers again"));
            end.is_some_and(|line| line.contains(&failing.address.to_string()))
        });
    }
}

#[test]
fn answers_that_all_come_too_late_are_an_outage() {
    let is_slow = Arc::new(AtomicBool::new(true));
    let slow = Arc::clone(&is_slow);
    let upstream = Upstream::start(move |asked| {
        if slow.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(300));
        }
        Some(address_of(asked, TRUE))
    });
    let server = impatient(&[upstream.address]);
    // On a slow machine an answer may come so late that its port is closed: then the alarm speaks of no answer for a while.
    let mut number = 0;
    until("an alarm about late answers", || {
        number += 1;
        ask(server.address, &format!("n{number}.example"), RecordType::A);
        let report = text(&server.verb(&["status"]));
        let mut alarms = report.lines().filter(|line| line.starts_with("ALARM "));
        alarms.any(|alarm| alarm.contains("later than timeout-ms"))
    });
    is_slow.store(false, Ordering::Relaxed);
    until("the end", || server.status()["degraded"] == false);
}

#[test]
fn one_silent_server_and_one_that_refers_to_others_are_an_outage() {
    let referring = Upstream::start(|asked| {
        let mut message = answer(asked, ResponseCode::NoError);
        let server = Name::from_ascii("ns.elsewhere.test.").expect("a name");
        let record = Record::from_rdata(Name::root(), 300, RData::NS(NS(server)));
        message.authorities.push(record);
        Some(message)
    });
    let (silent, _held) = Upstream::silent_address();
    let server = impatient(&[silent, referring.address]);
    let text = alarm(&server);
    let output = server.verb(&["status"]);
    let status = self::text(&output);
    let line = format!("upstream {silent}: no answer to its last ");
    assert!(status.contains(&line), "{status}");
    for part in [silent, referring.address] {
        assert!(text.contains(&part.to_string()), "{text}");
    }
    assert!(
        text.contains("no answer") && text.contains("does not recurse"),
        "{text}"
    );
}

#[test]
fn a_failing_zone_is_no_outage_while_the_root_is_answered() {
    let upstream = Upstream::start(|asked| {
        let is_root = asked.message.queries[0].name().is_root();
        Some(match is_root {
            true => address_of(asked, TRUE),
            false => answer(asked, ResponseCode::ServFail),
        })
    });
    let server = impatient(&[upstream.address]);
    let is_root = |asked: &Asked| asked.message.queries[0].name().is_root();
    let mut number = 0;
    until("three queries for the root", || {
        number += 1;
        ask(server.address, &format!("n{number}.example"), RecordType::A);
        server.assert_well();
        upstream
            .asked()
            .iter()
            .filter(|asked| is_root(asked))
            .count()
            >= 3
    });
    assert!(
        !server.log().contains("no upstream server"),
        "{}",
        server.log()
    );
}

#[test]
fn an_outage_ends_when_other_servers_replace_the_silent_ones() {
    let (dead, _held) = Upstream::silent_address();
    let server = impatient(&[dead]);
    alarm(&server);
    let path = server.path("tapis.toml");
    let config = std::fs::read_to_string(&path).expect("readable");
    let alive = Upstream::plain();
    let config = config.replace(&dead.to_string(), &alive.address.to_string());
    std::fs::write(path, config).expect("written");
    let output = server.verb(&["reload"]);
    assert!(output.status.success(), "{}", text(&output));
    until("the end", || server.status()["degraded"] == false);
    assert_eq!(addresses(server.address, "new.example"), ["192.0.2.1"]);
}

#[test]
fn the_order_of_the_servers_follows_the_strategy_and_a_reload_changes_it() {
    let slow = Upstream::start(|asked| {
        thread::sleep(Duration::from_millis(60));
        Some(address_of(asked, TRUE))
    });
    let fast = Upstream::plain();
    let servers = format!("[\"{}\", \"{}\"]", slow.address, fast.address);
    let config = preamble(slow.address).replace(&format!("[\"{}\"]", slow.address), &servers);
    let config = config + "strategy = \"strict\"\n" + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    let ask_for = |range: std::ops::Range<usize>| {
        for number in range {
            let name = format!("n{number}.example");
            assert_eq!(addresses(server.address, &name), ["192.0.2.1"]);
        }
        (slow.asked().len(), fast.asked().len())
    };
    assert_eq!(ask_for(0..10), (10, 0));
    let path = server.path("tapis.toml");
    let reload = |strategy: &str| {
        let changed = config.replace("strict", strategy);
        std::fs::write(&path, changed).expect("written");
        let report = text(&server.verb(&["reload"]));
        assert!(report.contains("upstream.strategy"), "{report}");
    };
    reload("parallel");
    until("both were asked", || ask_for(10..20) == (20, 10));
    reload("fastest");
    let (of_slow, of_fast) = ask_for(20..40);
    assert!(of_slow <= 23 && of_fast >= 27, "{of_slow} {of_fast}");
    server.assert_well();
}

#[test]
fn link_local_servers_are_used_with_their_interface() {
    let server = start("nameserver fe80::1%lo\nnameserver fe80::2%nosuch0\nnameserver 192.0.2.1\n");
    assert_eq!(upstreams(&server), ["[fe80::1%1]:53", "192.0.2.1:53"]);
    server.logged("behind the interface nosuch0");
    drop(server);
    let closed_port = "127.0.0.1:9".parse().expect("an address");
    let config = |servers: &str| {
        preamble(closed_port).replace("[\"127.0.0.1:9\"]", servers) + &list("ads", "")
    };
    let files = [("ads", "blocked.example\n")];
    let server = Server::start(&config("[\"[fe80::1%lo]:5300\", \"fe80::2%1\"]"), &files);
    assert_eq!(upstreams(&server), ["[fe80::1%1]:5300", "[fe80::2%1]:53"]);
    let folder = folder("", &files);
    let report = refused(folder.path(), &config("[\"fe80::1%nosuch0\"]"), &[]);
    assert!(report.contains("behind the interface nosuch0"), "{report}");
    let report = refused(folder.path(), &config("[\"fe80::1\"]"), &[]);
    assert!(report.contains("add the interface"), "{report}");
}

#[test]
fn an_answer_longer_than_announced_is_fetched_by_tcp() {
    let upstream = Upstream::start(|asked| {
        if asked.tcp {
            return Some(address_of(asked, TRUE));
        }
        // The rest of such an answer may come from a forged fragment.
        let mut long = address_of(asked, [203, 0, 113, 66]);
        let record = long.answers[0].clone();
        long.answers.resize(80, record);
        Some(long)
    });
    let config = preamble(upstream.address) + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    for name in ["a.example", "b.example"] {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
    }
    let by_tcp = upstream.asked().iter().filter(|asked| asked.tcp).count();
    assert_eq!(by_tcp, 2);
}

#[test]
fn queries_leave_from_many_ports_at_a_time_and_from_a_wide_range() {
    const COUNT: usize = 600;
    let upstream = Upstream::plain();
    let config = preamble(upstream.address).replace("workers = 2", "workers = 1");
    let config = config + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    for n in 0..COUNT {
        ask(server.address, &format!("n{n}.example"), RecordType::A);
    }
    let ports: Vec<_> = upstream.asked().iter().map(|a| a.peer.port()).collect();
    let distinct: BTreeSet<_> = ports.iter().copied().collect();
    assert!(distinct.len() > COUNT / 32, "{distinct:?}");
    // With four ports the same one is drawn again for every fourth query.
    let same = ports.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(same < COUNT / 2, "{same}");
    // A port stayed open if it was used before the middle of the run and again after it.
    let last = |port| ports.iter().rposition(|&p| p == port).expect("there");
    let first = |port| ports.iter().position(|&p| p == port).expect("there");
    let is_open = |port| (first(port)..=last(port)).contains(&(COUNT / 2));
    let open = distinct.iter().filter(|&&port| is_open(port)).count();
    assert!(open >= 3, "{open}: {ports:?}");
    let (low, high) = (distinct.first(), distinct.last());
    let width = high.expect("some") - low.expect("some");
    assert!(width > 28_232, "no wider than the kernel's range: {width}");
    assert!(*low.expect("some") >= 1024);
    assert!(!distinct.contains(&server.address.port()));
}

#[test]
fn queries_leave_from_the_ports_that_are_configured() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + "ports = \"40000-41023\"\n" + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    for n in 0..50 {
        ask(server.address, &format!("n{n}.example"), RecordType::A);
    }
    let asked = upstream.asked();
    let mut ports = asked.iter().map(|asked| asked.peer.port());
    assert!(ports.all(|port| (40_000..=41_023).contains(&port)));
}

/// A configuration with `count` listen addresses.
fn listening_on(count: usize, upstreams: &[SocketAddr]) -> String {
    let quoted = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
    let listen = quoted(&mut (1..=count).map(|last| format!("\"127.0.7.{last}:0\"")));
    let servers = quoted(&mut upstreams.iter().map(|address| format!("\"{address}\"")));
    format!(
        "[server]\nlisten = [{listen}]\nworkers = 2\ncontrol = \"control.sock\"\n\
         [upstream]\ntimeout-ms = 1000\nservers = [{servers}]\n"
    ) + &list("ads", "")
}

#[test]
fn a_silent_upstream_is_abandoned_with_any_number_of_listen_addresses() {
    let plain = Upstream::plain();
    for count in [64, 100] {
        let (silent, _socket) = Upstream::silent_address();
        let config = listening_on(count, &[silent, plain.address]);
        let server = Server::start(&config, &[("ads", "blocked.example\n")]);
        for n in 0..4 {
            let name = format!("n{n}.example");
            assert_eq!(addresses(server.address, &name), ["192.0.2.1"], "{count}");
        }
        assert!(server.count("upstream_slow") > 0);
    }
}

#[test]
fn a_query_that_no_upstream_answers_fails_with_any_number_of_listen_addresses() {
    let (silent, _socket) = Upstream::silent_address();
    let config = listening_on(70, &[silent]);
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    let failed = ask(server.address, "www.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    until("no query waits", || server.status()["waiting"] == 0);
}
