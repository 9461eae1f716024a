//! Settings that a reload changes while the server runs, and those that need a restart.

use std::fs;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::support::client::{Port, Stream, addresses, ask, query, rcode, until};
use crate::support::server::{Server, list, preamble, text};
use crate::support::upstream::{Upstream, address_of};

fn start(upstream: &Upstream, more: &str) -> Server {
    let config = preamble(upstream.address) + more + &list("ads", "");
    Server::start(&config, &[("ads", "blocked.example\n")])
}

/// Replaces a part of the configuration, and reloads.
fn change(server: &Server, from: &str, to: &str) -> Output {
    let path = server.path("tapis.toml");
    let config = fs::read_to_string(&path).expect("readable");
    assert!(config.contains(from), "{config}");
    fs::write(path, config.replace(from, to)).expect("written");
    server.verb(&["reload"])
}

/// The same; all of the change must be in force.
fn change_live(server: &Server, from: &str, to: &str) {
    let output = change(server, from, to);
    let report = text(&output);
    assert!(
        output.status.success() && !report.contains("restart"),
        "{report}"
    );
    assert_eq!(server.status()["restart"], Value::Array(Vec::new()));
}

/// Adds a listen address by a reload.
fn listen_at_a_second_address(server: &Server) -> SocketAddr {
    change_live(
        server,
        "\"127.0.0.1:0\"",
        "\"127.0.0.1:0\", \"127.0.0.2:0\"",
    );
    until("the second address", || listening(server).len() == 2);
    listening(server)[1]
}

#[test]
fn keys_that_need_a_restart_are_named_until_the_restart() {
    let upstream = Upstream::plain();
    let mut server = start(&upstream, "");
    let keys = [
        "[server] workers",
        "[state] keep",
        "[state] history-days",
        "[state] history-mib",
        "[state] compile-secs",
        "[journal] path",
    ];
    let more = "[state]\nkeep = 4\nhistory-days = 1\nhistory-mib = 5\ncompile-secs = 60\n[journal]\npath = \"j\"\n[[list]]";
    assert!(change(&server, "[[list]]", more).status.success());
    let output = change(&server, "workers = 2", "workers = 3");
    assert!(output.status.success(), "{}", text(&output));
    for report in [text(&output), text(&server.verb(&["status"]))] {
        for key in keys {
            let line = format!("changed, but in force only after a restart: {key}\n");
            assert!(report.contains(&line), "{key}: {report}");
        }
        assert_eq!(
            report.matches("after a restart").count(),
            keys.len(),
            "{report}"
        );
    }
    let status = server.status();
    assert_eq!(status["restart"], serde_json::json!(keys));
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let server = server.again();
    assert_eq!(server.status()["restart"], Value::Array(Vec::new()));
}

#[test]
fn a_new_feed_is_accepted_and_is_missing_until_its_first_transfer() {
    let upstream = Upstream::plain();
    let server = start(&upstream, "");
    let before = server.status()["lists"].as_array().map_or(0, Vec::len);
    let feed = "[[feed]]\nname = \"ministry\"\nzone = \"rpz.example\"\nprimaries = [\"127.0.0.1:1\"]\n[[list]]";
    let output = change(&server, "[[list]]", feed);
    assert!(output.status.success(), "{}", text(&output));
    let status = server.status();
    let lists = status["lists"].as_array().expect("lists");
    assert_eq!(lists.len(), before + 1);
    let list = &lists[0];
    assert_eq!(list["name"], "ministry", "the first one in the file");
    assert_eq!(list["path"], "zone:rpz.example");
    assert_eq!(list["state"], "missing");
    let alarm = list["alarm"].as_str().expect("an alarm");
    assert!(alarm.contains("no transfer yet"), "{alarm}");
    assert!(text(&server.verb(&["status"])).contains("no transfer yet"));
}

#[test]
fn upstream_servers_and_their_settings_change_while_serving() {
    let first = Upstream::plain();
    let second = Upstream::start(|asked| Some(address_of(asked, [192, 0, 2, 2])));
    let server = start(&first, "");
    let mut number = 0;
    let mut next = || {
        number += 1;
        addresses(server.address, &format!("n{number}.example"))
    };
    // Enough queries to use each of the workers' ports. A port that is open to the previous server could be used for
    // new queries for up to a second.
    const MANY: usize = 40;
    for _ in 0..MANY {
        assert_eq!(next(), ["192.0.2.1"]);
    }
    let (from, to) = (first.address.to_string(), second.address.to_string());
    change_live(&server, &from, &to);
    let asked = first.asked().len();
    for _ in 0..MANY {
        assert_eq!(next(), ["192.0.2.2"]);
    }
    assert_eq!(first.asked().len(), asked);
    assert_eq!(server.status()["upstream"][0]["address"], to);

    let has_edns = || second.asked().last().expect("asked").message.edns.is_some();
    assert!(has_edns());
    let plain = format!("{{ address = \"{to}\", edns = false }}");
    change_live(&server, &format!("\"{to}\""), &plain);
    for _ in 0..MANY {
        next();
        assert!(!has_edns());
    }

    let ports = "[upstream]\nports = \"40000-41023\"";
    change_live(&server, "[upstream]", ports);
    for _ in 0..MANY {
        next();
        let peer = second.asked().last().expect("asked").peer;
        assert!((40_000..=41_023).contains(&peer.port()), "{peer}");
    }

    let servers = format!("servers = [{plain}]");
    fs::write(server.path("resolv.conf"), "nameserver 192.0.2.53\n").expect("written");
    change_live(&server, &servers, "resolv-conf = \"resolv.conf\"");
    let named = |server: &Server| server.status()["upstream"][0]["address"].clone();
    assert_eq!(named(&server), "192.0.2.53:53");
    server.replace("resolv.conf", "nameserver 192.0.2.54\n");
    until("the file's next", || named(&server) == "192.0.2.54:53");
    server.replace("resolv.conf", "# none\n");
    until("the alarm", || server.status()["degraded"] == true);
    change_live(&server, "resolv-conf = \"resolv.conf\"", &servers);
    assert_eq!(
        server.status()["degraded"],
        false,
        "the file no longer applies"
    );
    assert_eq!(named(&server), to);
}

#[test]
fn unusable_upstream_servers_are_rejected_and_the_previous_ones_stay() {
    let upstream = Upstream::plain();
    let server = start(&upstream, "");
    let address = format!("\"{}\"", upstream.address);
    let output = change(&server, &address, "\"fe80::1%nosuch0\"");
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    let why =
        "\nconfiguration rejected: upstream [fe80::1%nosuch0]:53 is behind the interface nosuch0";
    assert!(format!("\n{report}").contains(why), "{report}");
    assert!(!report.contains("rejected: configuration"), "{report}");
    assert_eq!(server.status()["degraded"], true);
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    change_live(&server, "\"fe80::1%nosuch0\"", &address);
    server.assert_well();
}

#[test]
fn limits_of_waiting_queries_change_while_serving() {
    let (silent, _held) = Upstream::silent_address();
    let upstream = Upstream::plain();
    let server = start(&upstream, "timeout-ms = 30000\nwaiting-per-client = 1\n");
    let waiting = |count: u64| {
        until("the queries wait", || server.status()["waiting"] == count);
    };
    change_live(&server, &upstream.address.to_string(), &silent.to_string());
    let port = Port::open(server.address);
    port.send(&query("a.example", RecordType::A));
    waiting(1);
    port.send(&query("b.example", RecordType::A));
    assert_eq!(
        rcode(&port.receive()),
        ResponseCode::ServFail,
        "one query may wait"
    );
    change_live(&server, "waiting-per-client = 1", "waiting-per-client = 2");
    port.send(&query("b.example", RecordType::A));
    waiting(2);
    // Each query is retried, within the timeout that was in force when it started.
    until("they are slow", || server.count("upstream_slow") == 2);
    change_live(&server, "timeout-ms = 30000", "timeout-ms = 100");
    change_live(&server, "waiting-per-client = 2", "waiting-per-client = 3");
    // The others wait for half a minute; this query does not.
    port.send(&query("c.example", RecordType::A));
    assert_eq!(rcode(&port.receive()), ResponseCode::ServFail);
    waiting(2);
}

#[test]
fn limits_of_the_cache_change_while_serving() {
    let upstream = Upstream::plain();
    let server = start(&upstream, "[cache]\nsize-mib = 8\nmax-ttl-secs = 200\n");
    let ttl = |name: &str| ask(server.address, name, RecordType::A).answers[0].ttl;
    assert_eq!(ttl("a.example"), 200);
    let cache = "size-mib = 4\nmax-ttl-secs = 100\nstale-secs = 60\nadditional = true";
    change_live(&server, "size-mib = 8\nmax-ttl-secs = 200", cache);
    assert_eq!(ttl("b.example"), 100);
    assert!(ttl("a.example") > 100, "present entries stay");
    assert_eq!(server.count("upstream_queries"), 2);
}

#[test]
fn limits_of_tcp_change_while_serving() {
    let upstream = Upstream::plain();
    let more = "tcp-connections-per-client = 1\ntcp-idle-secs = 3600\ndiscard-ms = 2000\n";
    let config = preamble(upstream.address).replace("[upstream]", &format!("{more}[upstream]"));
    let config = config + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    let open = || {
        let mut stream = Stream::open(server.address);
        let is_sent = stream.try_send(&query("blocked.example", RecordType::A));
        let answer = is_sent.ok().and_then(|()| stream.receive());
        (stream, answer.is_some())
    };
    let (_first, answered) = open();
    assert!(answered);
    assert!(!open().1, "one connection is the limit");
    let per_client = "tcp-connections-per-client = 1";
    change_live(
        &server,
        per_client,
        "tcp-connections-per-client = 2\ntcp-connections = 2",
    );
    let (_second, answered) = open();
    assert!(answered);
    assert!(!open().1, "all are in use");
    assert_eq!(server.count("tcp_connections_refused"), 1);
    change_live(&server, "tcp-connections = 2", "tcp-connections = 9");
    change_live(&server, "tcp-idle-secs = 3600", "tcp-idle-secs = 1");
    change_live(&server, "discard-ms = 2000", "discard-ms = 100");
    let idle = || server.count("tcp_connections_idle");
    let before = idle();
    change_live(
        &server,
        "tcp-connections-per-client = 2",
        "tcp-connections-per-client = 3",
    );
    let (_third, answered) = open();
    assert!(answered);
    until("it is closed", || idle() > before);
}

fn listening(server: &Server) -> Vec<SocketAddr> {
    let status = server.status();
    let all = status["listen"].as_array().expect("addresses").iter();
    let text = |address: &Value| address.as_str().expect("an address").parse();
    all.map(|address| text(address).expect("an address"))
        .collect()
}

fn answers(address: SocketAddr) -> bool {
    let mut stream = Stream::open(address);
    stream.send(&query("blocked.example", RecordType::A));
    stream.receive().is_some() && addresses(address, "blocked.example") == ["0.0.0.0"]
}

#[test]
fn listen_addresses_come_and_go_while_serving_and_no_query_to_the_others_is_lost() {
    let (upstream, gate) = Upstream::gated();
    let server = start(&upstream, "");
    let first = server.address;
    let port = Port::open(first);
    port.send(&query("slow.example", RecordType::A));
    until("it waits for upstream", || server.status()["waiting"] == 1);
    let done = AtomicBool::new(false);
    let done = &done;
    std::thread::scope(|scope| {
        let asking = scope.spawn(move || {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(addresses(first, "blocked.example"), ["0.0.0.0"]);
                asked += 1;
            }
            asked
        });
        let second = listen_at_a_second_address(&server);
        assert!(answers(first) && answers(second));
        change_live(
            &server,
            "\"127.0.0.2:0\"",
            "\"127.0.0.3:0\", \"127.0.0.4:0\"",
        );
        until("the other addresses", || {
            let now = listening(&server);
            now.len() == 3 && !now.contains(&second)
        });
        assert!(listening(&server).into_iter().all(answers));
        until("its end", || TcpStream::connect(second).is_err());
        until("its end by UDP", || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            socket.connect(second).expect("connected");
            socket.send(b"x").is_err() || socket.send(b"x").is_err()
        });
        done.store(true, Ordering::Relaxed);
        assert!(asking.join().expect("none was lost") > 0);
    });
    gate.store(true, Ordering::Relaxed);
    let answer = port.receive();
    assert_eq!(answer.answers.len(), 1, "its address stayed");
    change_live(&server, "\"127.0.0.1:0\", ", "");
    until("the end of the first", || {
        TcpStream::connect(first).is_err()
    });
    assert!(listening(&server).into_iter().all(answers));
    server.assert_well();
}

#[test]
fn a_delayed_answer_never_leaves_from_the_address_that_replaced_the_asked_one() {
    let (upstream, gate) = Upstream::gated();
    let server = start(&upstream, "");
    let second = listen_at_a_second_address(&server);
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let names = ["slow.example", "slower.example"];
    for name in names {
        let asked = query(name, RecordType::A).to_vec().expect("a query");
        client.send_to(&asked, second).expect("sent");
    }
    until("they wait for upstream", || server.status()["waiting"] == 2);
    change_live(&server, "\"127.0.0.2:0\"", "\"127.0.0.3:0\"");
    until("the third address", || {
        let now = listening(&server);
        now.len() == 2 && !now.contains(&second) && answers(now[1])
    });
    gate.store(true, Ordering::Relaxed);
    until("their answers cannot be sent", || {
        server.count("send_errors") == 2
    });
    client.set_nonblocking(true).expect("changed");
    let came = client.recv_from(&mut [0; 512]).map(|(_, from)| from);
    assert!(came.is_err(), "from {came:?}");
    // The answers are still cached.
    for name in names {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
    }
}

#[test]
fn an_address_that_cannot_be_bound_is_rejected_and_the_previous_ones_stay() {
    let upstream = Upstream::plain();
    let server = start(&upstream, "");
    let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let taken = other.local_addr().expect("bound");
    let both = format!("\"127.0.0.1:0\", \"127.0.0.2:0\", \"{taken}\"");
    let output = change(&server, "\"127.0.0.1:0\"", &both);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    assert!(
        report.contains(&format!("{taken} is in use by another program")),
        "{report}"
    );
    assert_eq!(listening(&server), [server.address]);
    assert!(answers(server.address));
    change_live(&server, &both, "\"127.0.0.1:0\"");
    server.assert_well();
}

#[test]
fn an_address_that_no_start_could_bind_is_rejected_beside_one_that_waits_for_a_restart() {
    let upstream = Upstream::plain();
    let server = start(&upstream, "");
    let port = server.address.port();
    // 192.0.2.1 is for documentation (RFC 5737), so no start could bind it. It is listed before and after an address
    // that overlaps the current one.
    for listen in [
        format!("\"192.0.2.1:{port}\", \"0.0.0.0:{port}\""),
        format!("\"0.0.0.0:{port}\", \"192.0.2.1:{port}\""),
    ] {
        let output = change(&server, "\"127.0.0.1:0\"", &listen);
        assert_eq!(output.status.code(), Some(1));
        let report = text(&output);
        assert!(report.contains(&format!("192.0.2.1:{port}")), "{report}");
        change_live(&server, &listen, "\"127.0.0.1:0\"");
    }
    assert!(answers(server.address));
}

#[test]
fn an_address_that_is_still_listened_on_is_rejected_as_an_upstream() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address).replace("127.0.0.1:0", "0.0.0.0:0") + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    let port = server.address.port();
    // The new address waits for a restart, so the current one stays in use.
    let config = config.replace("0.0.0.0:0", &format!("127.0.0.2:{port}"));
    let config = config.replace(&upstream.address.to_string(), &format!("127.0.0.1:{port}"));
    server.replace("tapis.toml", &config);
    let output = server.verb(&["reload"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
}

#[test]
fn an_address_that_overlaps_with_one_in_use_waits_for_a_restart_and_is_named() {
    let upstream = Upstream::plain();
    let server = start(&upstream, "");
    let port = server.address.port();
    let wide = format!("\"0.0.0.0:{port}\"");
    let output = change(&server, "\"127.0.0.1:0\"", &wide);
    let report = text(&output);
    assert!(output.status.success(), "{report}");
    let line = "changed, but in force only after a restart: [server] listen\n";
    assert!(report.contains(line), "{report}");
    assert!(text(&server.verb(&["status"])).contains(line));
    assert_eq!(listening(&server), [server.address]);
    assert!(answers(server.address));
    change_live(&server, &wide, "\"127.0.0.1:0\"");
}

#[test]
fn a_reload_reports_changes_likely_mistakes_and_lines_without_rules() {
    let upstream = Upstream::plain();
    let server = start(&upstream, "");
    let output = change(
        &server,
        "[upstream]",
        "[cache]\nmax-ttl-secs = 77\n[upstream]\ntimeout-ms = 900",
    );
    let report = text(&output);
    assert!(output.status.success(), "{report}");
    assert!(
        report.contains("changed: cache.max-ttl-secs, upstream.timeout-ms\n"),
        "{report}"
    );
    let logged = "changed=\"cache.max-ttl-secs, upstream.timeout-ms\"";
    server.logged(logged);
    server.replace(
        "ads",
        "blocked.example\nb.example\nc.example\nbad name\nworse name\n",
    );
    let report = text(&server.verb(&["reload"]));
    assert!(
        report.contains("ads: 2 bad lines; `tapis check` shows the lines\n"),
        "{report}"
    );
    assert!(!report.contains("changed: "), "{report}");
    let report = text(&server.verb(&["reload"]));
    assert!(
        report.contains("ads: 2 bad lines"),
        "as long as it has them: {report}"
    );
    let report = text(&change(&server, "workers = 2", "workers = 2\nallow = []"));
    assert!(report.contains("changed: server.allow\n"), "{report}");
    assert!(report.contains("note: every client is refused"), "{report}");
    until("a line in the log", || {
        server.log().contains("every client is refused")
    });
}
