//! Upstream servers that are given by name, with a running server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hickory_proto::rr::RecordType;

use crate::metrics::page;
use crate::support::client::{addresses, ask, until};
use crate::support::dot::TlsUpstream;
use crate::support::port::free_port;
use crate::support::server::{Server, folder, list, preamble, refused, text};
use crate::support::tls::authority;
use crate::support::upstream::{Asked, Upstream, address_of, name};

/// A bootstrap server that gives the name `resolver.example` the address `127.0.0.N` for a second, and does not answer
/// while N is 0.
fn bootstrap(last: u8) -> (Upstream, Arc<AtomicU8>) {
    let last = Arc::new(AtomicU8::new(last));
    let now = Arc::clone(&last);
    let upstream = Upstream::start(move |asked| {
        let last = now.load(Ordering::Relaxed);
        let mut message = address_of(asked, [127, 0, 0, last]);
        message.answers.iter_mut().for_each(|record| record.ttl = 1);
        (last != 0).then_some(message)
    });
    (upstream, last)
}

fn config(resolver: SocketAddr, bootstrap: SocketAddr) -> String {
    let servers = format!("[\"resolver.example:{}\"]", resolver.port());
    let config = preamble(resolver).replace(&format!("[\"{resolver}\"]"), &servers);
    config + &format!("bootstrap = [\"{bootstrap}\"]\ntimeout-ms = 300\n") + &list("ads", "")
}

fn start(resolver: SocketAddr, bootstrap: SocketAddr) -> Server {
    let files = [("ads", "blocked.example\n")];
    Server::start(&config(resolver, bootstrap), &files)
}

/// The addresses of the upstream servers, without their ports.
fn upstreams(server: &Server) -> Vec<String> {
    let status = server.status();
    let all = status["upstream"].as_array().expect("servers").iter();
    let address = |server: &serde_json::Value| {
        let address = server["address"].as_str().expect("an address");
        address.parse::<SocketAddr>().expect("one").ip().to_string()
    };
    all.map(address).collect()
}

#[test]
fn a_server_that_is_given_by_name_is_used_from_the_first_query_on() {
    let (resolver, (bootstrap, _)) = (Upstream::plain(), bootstrap(1));
    let server = start(resolver.address, bootstrap.address);
    assert_eq!(addresses(server.address, "www.example"), ["192.0.2.1"]);
    // The list blocks nothing of it, and the server's own name is never asked of the server itself.
    let is_of_resolver = |asked: &Asked| name(asked) == "resolver.example";
    assert!(bootstrap.asked().iter().all(is_of_resolver));
    assert!(!resolver.asked().iter().any(is_of_resolver));
    assert_eq!(upstreams(&server), ["127.0.0.1"]);
    server.assert_well();
}

#[test]
fn a_new_address_of_a_server_is_used_after_the_ttl_of_the_old_one() {
    let (resolver, (bootstrap, last)) = (Upstream::plain(), bootstrap(9));
    let server = start(resolver.address, bootstrap.address);
    assert_eq!(upstreams(&server), ["127.0.0.9"]);
    last.store(1, Ordering::Relaxed);
    until("the new address", || upstreams(&server) == ["127.0.0.1"]);
    assert_eq!(addresses(server.address, "www.example"), ["192.0.2.1"]);
    server.logged("upstream servers changed");
}

#[test]
fn without_an_address_there_is_an_alarm_until_the_bootstrap_servers_give_one() {
    let (resolver, (bootstrap, last)) = (Upstream::plain(), bootstrap(0));
    let server = start(resolver.address, bootstrap.address);
    let output = server.verb(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    let alarm = "ALARM upstream resolver.example is not used, because its address is not known";
    assert!(report.contains(alarm), "{report}");
    last.store(1, Ordering::Relaxed);
    until("an address", || upstreams(&server) == ["127.0.0.1"]);
    until("no alarm", || server.status()["degraded"] == false);
    assert_eq!(addresses(server.address, "www.example"), ["192.0.2.1"]);
}

#[test]
fn the_last_addresses_stay_in_use_while_the_bootstrap_servers_are_silent_and_after_a_reload() {
    let (resolver, (bootstrap, last)) = (Upstream::plain(), bootstrap(1));
    let server = start(resolver.address, bootstrap.address);
    last.store(0, Ordering::Relaxed);
    let before = bootstrap.asked().len();
    until("some failures", || bootstrap.asked().len() > before + 6);
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    // Another server is added by name; the first one keeps its address.
    let path = server.path("tapis.toml");
    let config = std::fs::read_to_string(&path).expect("readable");
    let config = config.replace("[\"resolver.", "[\"other.example\", \"resolver.");
    std::fs::write(path, config).expect("written");
    let output = server.verb(&["reload"]);
    let report = text(&output);
    assert!(output.status.success(), "{report}");
    assert!(report.contains("upstream.servers"), "{report}");
    assert_eq!(upstreams(&server), ["127.0.0.1"]);
    assert_eq!(addresses(server.address, "b.example"), ["192.0.2.1"]);
    until("the alarm", || {
        let alarms = server.status()["alarms"].to_string();
        alarms.contains("other.example is not used")
    });
}

#[test]
fn the_certificate_of_an_encrypted_server_must_have_the_name_that_is_configured() {
    let of_tls = TlsUpstream::plain();
    let ca = authority();
    let port = of_tls.address.port();
    for (name, is_right) in [
        ("primary.test", true),
        ("other.test", false),
        ("other.test#primary.test", true),
    ] {
        let (bootstrap, _) = bootstrap(1);
        let (host, in_certificate) = name.split_once('#').unwrap_or((name, name));
        let place = format!("tls://{host}:{port}#{in_certificate}");
        let place = if host == in_certificate {
            place.replace(&format!("#{host}"), "")
        } else {
            place
        };
        let server = format!(
            "{{ address = \"{place}\", ca-file = \"{}\" }}",
            ca.display()
        );
        let resolver = of_tls.address;
        let config = config(resolver, bootstrap.address);
        let plain = format!("\"resolver.example:{port}\"");
        let config = config
            .replace(&plain, &server)
            .replace("timeout-ms = 300", "timeout-ms = 20000");
        let server = Server::start(&config, &[("ads", "blocked.example\n")]);
        assert_eq!(upstreams(&server), ["127.0.0.1"]);
        match is_right {
            true => assert_eq!(addresses(server.address, "www.example"), ["192.0.2.1"]),
            false => {
                let problem = "its certificate is not for other.test";
                until("the problem", || {
                    ask(server.address, "www.example", RecordType::A);
                    text(&server.verb(&["status"])).contains(problem)
                });
            }
        }
        assert!(!of_tls.got_datagram(), "nothing is sent in clear");
    }
}

#[test]
fn a_bootstrap_server_that_is_this_server_itself_is_refused() {
    let files = [("ads", "blocked.example\n")];
    let folder = folder("", &files);
    // Nothing is bound: the address is refused before.
    let own = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = config(own, own).replace("127.0.0.1:0", &own.to_string());
    let report = refused(folder.path(), &config, &[]);
    assert!(report.contains("is this server itself"), "{report}");
    assert!(report.contains("in [upstream] bootstrap"), "{report}");
}

#[test]
fn a_name_that_leads_to_this_server_itself_is_left_out() {
    let (bootstrap, _) = bootstrap(1);
    let port = free_port();
    let own = SocketAddr::from(([127, 0, 0, 1], port));
    let config = config(own, bootstrap.address).replace("127.0.0.1:0", &own.to_string());
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    assert!(upstreams(&server).is_empty());
    let alarms = server.status()["alarms"].to_string();
    assert!(alarms.contains("is this server itself"), "{alarms}");
    ask(server.address, "www.example", RecordType::A);
}

#[test]
fn servers_with_the_same_address_have_different_samples_among_the_metrics() {
    let (resolver, (bootstrap, _)) = (Upstream::plain(), bootstrap(1));
    let config = config(resolver.address, bootstrap.address)
        .replace("[\"resolver.", "[\"tls://other.example:PORT\", \"resolver.")
        .replace("PORT", &resolver.address.port().to_string());
    let config = config + "[metrics]\nlisten = [\"127.0.0.1:0\"]\n";
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    assert_eq!(upstreams(&server), ["127.0.0.1", "127.0.0.1"]);
    let page = page(&server);
    let second = format!(
        "tapis_upstream_timeouts_total{{server=\"{}#2\",zone=\"\"}} ",
        resolver.address
    );
    assert!(page.contains(&second), "{page}");
    let mut samples = BTreeSet::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (sample, _) = line.rsplit_once(' ').expect("a value");
        assert!(samples.insert(sample), "{sample} is there twice");
    }
}
