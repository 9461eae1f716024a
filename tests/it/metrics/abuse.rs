//! Clients that scrape badly or very often, and scrapes while the control plane is busy.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{METRICS, address, busy, get, page, value};
use crate::hanging::Lease;
use crate::hostile::connect;
use crate::support::client::{Stream, is_blocked, until};
use crate::support::server::{Server, list, preamble};
use crate::support::upstream::Upstream;

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: t\r\n\r\n";

/// How much of a page is read by a client that reads no more, in bytes.
const BEGINNING: usize = 4096;

/// A server whose page is larger than the buffers of a connection.
fn with_many_lists() -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let long = "l".repeat(40);
    let names: Vec<_> = (0..1400).map(|number| format!("{long}-{number}")).collect();
    let lists = names
        .iter()
        .map(|name| format!("[[list]]\nname = \"{name}\"\npath = \"ads\"\n"));
    let config = preamble(upstream.address) + METRICS + &lists.collect::<String>();
    let server = Server::start(&config, &[("ads", "ads.example\n")]);
    (server, upstream)
}

#[test]
fn scrapers_that_never_read_are_cut_off_and_all_others_served() {
    let (server, _upstream) = with_many_lists();
    let address = address(&server);
    let whole = page(&server).len();
    assert!(whole > 1 << 20, "{whole} bytes");
    let mut idle: Vec<_> = (0..17)
        .map(|_| {
            let mut stream = Stream::open_small(address).0;
            stream.write_all(REQUEST).expect("sent");
            stream
        })
        .collect();
    // After an acknowledgement, the kernel offers the server more room for what it sends. The last connection waits until
    // another one ends.
    for stream in &mut idle[..16] {
        stream.read_exact(&mut [0; BEGINNING]).expect("read");
    }
    until("a scrape is answered", || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n")
            .expect("sent");
        matches!(stream.read(&mut [0]), Ok(1))
    });
    assert!(is_blocked(server.address, "ads.example."));
    // At least one was cut off, as otherwise there was no room for the other connection.
    let received = idle.into_iter().map(|mut stream| {
        let mut all = Vec::new();
        // A connection that was aborted may end with an error.
        let _ = stream.read_to_end(&mut all);
        all.len()
    });
    let cut = "tapis_metrics_connections_total{result=\"cut\"}";
    assert!(value(&page(&server), cut) >= Some(1.0));
    let log = server.logged("a scrape of the metrics was cut");
    assert!(log.contains("client=127.0.0.1"), "{log}");
    let shortest = received.min().expect("some");
    assert!(shortest + BEGINNING < whole, "{shortest} of {whole} bytes");
}

#[test]
fn connections_that_send_nothing_give_their_places_to_scrapes_and_probes() {
    let (server, _upstream) = busy();
    let address = address(&server);
    // If each of them kept its place for 5 s, the probe would wait for more than half a minute.
    let _silent: Vec<_> = (0..120)
        .map(|_| TcpStream::connect(address).expect("connected"))
        .collect();
    assert_eq!(get(address, "/healthz", "").status, 200);
}

#[test]
fn connections_are_counted_by_their_end_and_refused_clients_logged_once_a_minute() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + METRICS + "allow = [\"127.0.0.1\"]\n";
    let server = Server::start(&config, &[]);
    let address = address(&server);
    let count = |result| {
        let sample = format!("tapis_metrics_connections_total{{result=\"{result}\"}}");
        value(&page(&server), &sample).expect("a sample")
    };
    for _ in 0..3 {
        let mut stream = connect([127, 0, 0, 2], address, None);
        assert!(!matches!(stream.read(&mut [0]), Ok(1..)), "it is refused");
    }
    until("they are counted", || count("not_permitted") >= 3.0);
    let line = "a client that [metrics] allow does not permit was refused";
    let log = server.logged(line);
    assert_eq!(log.matches(line).count(), 1, "{log}");
    assert!(log.contains("client=127.0.0.2"), "{log}");
    assert_eq!((count("not_permitted"), count("failed")), (3.0, 0.0));
    assert!(count("served") >= 1.0);
    drop(TcpStream::connect(address).expect("connected"));
    until("it is counted as without a request", || {
        count("failed") >= 1.0
    });
    assert_eq!(count("cut"), 0.0);
}

#[test]
fn seventeen_scrapes_at_once_all_get_the_whole_page() {
    let (server, _upstream) = busy();
    let address = address(&server);
    let lengths = thread::scope(|scope| {
        let scrapes = (0..17).map(|_| scope.spawn(|| get(address, "/metrics", "")));
        let scrapes: Vec<_> = scrapes.collect();
        let answers = scrapes
            .into_iter()
            .map(|scrape| scrape.join().expect("answered"));
        answers
            .map(|answer| {
                assert_eq!(answer.status, 200);
                let length = answer
                    .head
                    .split("content-length: ")
                    .nth(1)
                    .expect("a length");
                let length = length.lines().next().expect("a number");
                assert_eq!(length.parse(), Ok(answer.body.len()));
                answer.body.len()
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(lengths.len(), 17);
}

#[test]
fn each_of_more_addresses_than_connections_is_served() {
    let upstream = Upstream::plain();
    let listen: Vec<_> = (1..=20)
        .map(|number| format!("\"127.0.0.{number}:0\""))
        .collect();
    let section = format!("[metrics]\nlisten = [{}]\n", listen.join(", "));
    let server = Server::start(&(preamble(upstream.address) + &section), &[]);
    let status = server.status();
    let addresses = status["metrics"].as_array().expect("addresses");
    assert_eq!(addresses.len(), 20);
    for address in addresses.iter().rev() {
        let address = address.as_str().expect("an address").parse();
        let answer = get(address.expect("an address"), "/healthz", "");
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn scrapes_are_answered_while_a_large_list_is_compiled() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + METRICS + &list("ads", "");
    let names = |count: u32| (0..count).map(|number| format!("n{number}.example\n"));
    // A guard would reject a list that grows more.
    let server = Server::start(&config, &[("ads", &names(40_000).collect::<String>())]);
    server.replace("ads", &names(200_000).collect::<String>());
    let is_done = AtomicBool::new(false);
    let scraped = thread::scope(|scope| {
        let reload = scope.spawn(|| {
            let reload = server.verb(&["reload"]);
            is_done.store(true, Ordering::Relaxed);
            reload
        });
        let address = address(&server);
        let mut scraped = 0;
        while !is_done.load(Ordering::Relaxed) || scraped == 0 {
            let answer = get(address, "/metrics", "");
            assert_eq!(answer.status, 200);
            assert!(value(&answer.body, "tapis_generation") >= Some(1.0));
            scraped += 1;
        }
        assert!(reload.join().expect("it ran").status.success());
        scraped
    });
    assert!(scraped > 0);
    let rules = "tapis_source_rules{kind=\"list\",source=\"ads\"}";
    until("the new rules are shown", || {
        value(&page(&server), rules) == Some(200_000.0)
    });
    let runs = "tapis_policy_runs_total{work=\"compile\"}";
    assert!(value(&page(&server), runs) >= Some(1.0));
}

#[test]
fn scrapes_are_answered_while_the_file_system_of_a_list_hangs() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + METRICS + &list("ads", "") + &list("slow", "");
    let server = Server::start(
        &config,
        &[("ads", "ads.example\n"), ("slow", "a.example\n")],
    );
    server.replace("slow.new", "b.example\n");
    let lease = Lease::on(&server.path("slow.new"));
    std::fs::rename(server.path("slow.new"), server.path("slow")).expect("renamed");
    let generation = value(&page(&server), "tapis_generation");
    thread::scope(|scope| {
        let reload = scope.spawn(|| server.verb(&["reload"]));
        until("the file is awaited", || lease.is_awaited());
        for _ in 0..20 {
            let page = page(&server);
            assert_eq!(value(&page, "tapis_generation"), generation);
            assert!(value(&page, "tapis_control_figures_age_seconds").is_some());
        }
        assert!(!reload.is_finished(), "it hangs");
        lease.release();
        assert!(reload.join().expect("it ran").status.success());
    });
    until("the new rules are in force", || {
        is_blocked(server.address, "b.example.")
    });
}

#[test]
#[ignore = "ten thousand scrapes take a while; CI runs it"]
fn ten_thousand_scrapes_leave_nothing_behind() {
    let (server, _upstream) = busy();
    let address = address(&server);
    let scrape = |times: usize| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..times / 4 {
                        assert_eq!(get(address, "/metrics", "").status, 200);
                    }
                });
            }
        });
    };
    scrape(400);
    let memory = |page: &str| value(page, "process_resident_memory_bytes").expect("a size");
    let before = page(&server);
    scrape(10_000);
    assert!(is_blocked(server.address, "ads.example."));
    until("all connections are closed", || {
        value(&page(&server), "process_open_fds") <= value(&before, "process_open_fds")
    });
    let grown = memory(&page(&server)) - memory(&before);
    assert!(grown < 8e6, "{grown} bytes more");
}
