//! Metrics by HTTP: the page, its documentation, health and readiness, reloads, clients that misbehave.

mod abuse;
mod complete;
mod prometheus;
mod shipped;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;

use hickory_proto::rr::RecordType;

use crate::hanging::Lease;
use crate::support::client::{PATIENCE, ask, is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, refused, tapis, text, verb};
use crate::support::upstream::Upstream;

const METRICS: &str = "[metrics]\nlisten = [\"127.0.0.1:0\"]\n";

/// An answer: its status, its head in lower case, its body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    send(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: tapis\r\n{headers}\r\n"),
    )
}

fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status").parse();
    Answer {
        status: status.expect("a number"),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// The address on which a server serves metrics.
pub(crate) fn address(server: &Server) -> SocketAddr {
    let status = server.status();
    let address = status["metrics"][0].as_str().expect("an address");
    address.parse().expect("an address")
}

/// The page.
pub(crate) fn page(server: &Server) -> String {
    let answer = get(address(server), "/metrics", "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// The value of a sample, whose name and labels are as on the page.
fn value(page: &str, sample: &str) -> Option<f64> {
    let mut lines = page.lines();
    let value = lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
    value.parse().ok()
}

/// The families on the page with their types.
pub(crate) fn families(page: &str) -> BTreeMap<String, String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let pair = |line: &str| {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        (name.to_owned(), kind.to_owned())
    };
    types.map(pair).collect()
}

/// A server with a list and an order, which has answered queries of several kinds.
pub(crate) fn busy() -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + METRICS + &list("ads", "");
    let server = Server::start(&config, &[("ads", "ads.example\n")]);
    assert!(is_blocked(server.address, "ads.example."));
    for _ in 0..3 {
        ask(server.address, "www.example.", RecordType::A);
    }
    (server, upstream)
}

#[test]
fn the_page_counts_what_clients_got() {
    let (server, _upstream) = busy();
    let page = page(&server);
    let count = |labels: &str| value(&page, &format!("tapis_queries_total{{{labels}}}"));
    let labels = |outcome: &str| format!("transport=\"udp\",type=\"A\",outcome=\"{outcome}\"");
    assert_eq!(count(&labels("blocked")), Some(1.0), "{page}");
    assert_eq!(count(&labels("resolved")), Some(1.0), "{page}");
    assert_eq!(count(&labels("cache_hits")), Some(2.0), "{page}");
    assert_eq!(value(&page, "tapis_cache_entries"), Some(1.0), "{page}");
    let rules = "tapis_source_rules{kind=\"list\",source=\"ads\"}";
    assert_eq!(value(&page, rules), Some(1.0), "{page}");
    assert!(
        value(&page, "process_resident_memory_bytes") > Some(1e6),
        "{page}"
    );
    assert!(value(&page, "process_open_fds") > Some(5.0), "{page}");
    let status = server.status();
    assert_eq!(status["counters"]["blocked"], 1);
    assert_eq!(status["query_types"]["A"], 4);
}

#[test]
fn both_formats_are_served_and_each_is_marked() {
    let (server, _upstream) = busy();
    let address = address(&server);
    let plain = get(address, "/metrics", "");
    assert!(
        plain
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        plain.head
    );
    assert!(!plain.body.contains("# EOF"));
    let open = get(
        address,
        "/metrics",
        "accept: application/openmetrics-text;version=1.0.0\r\n",
    );
    assert!(
        open.head
            .contains("content-type: application/openmetrics-text; version=1.0.0")
    );
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    let head = send(address, "HEAD /metrics HTTP/1.1\r\nhost: tapis\r\n\r\n");
    assert_eq!((head.status, &*head.body), (200, ""));
}

#[test]
fn health_readiness_and_all_other_paths() {
    let (server, _upstream) = busy();
    let address = address(&server);
    assert_eq!(get(address, "/healthz", "").status, 200);
    until("it is ready", || get(address, "/readyz", "").status == 200);
    assert_eq!(get(address, "/status", "").status, 404);
    let post = send(
        address,
        "POST /metrics HTTP/1.1\r\nhost: tapis\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(post.status, 405);
}

#[test]
fn a_server_without_the_rules_of_a_list_is_not_ready_until_it_has_them() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + METRICS + &list("law", "");
    let server = Server::start(&config, &[]);
    let address = address(&server);
    until("the reason is known", || {
        get(address, "/readyz", "").body.contains("list law")
    });
    assert_eq!(get(address, "/readyz", "").status, 503);
    assert_eq!(get(address, "/healthz", "").status, 200);
    server.replace("law", "law.example\n");
    assert!(server.verb(&["reload"]).status.success());
    until("it is ready", || get(address, "/readyz", "").status == 200);
}

#[test]
fn a_reload_opens_and_closes_the_addresses() {
    let upstream = Upstream::plain();
    let off = preamble(upstream.address);
    let server = Server::start(&off, &[]);
    assert_eq!(server.status()["metrics"].as_array().map(Vec::len), Some(0));
    server.replace("tapis.toml", &(off.clone() + METRICS));
    let report = text(&server.verb(&["reload"]));
    assert!(report.contains("metrics.listen"), "{report}");
    until("metrics are served", || {
        server.status()["metrics"][0].is_string()
    });
    let address = address(&server);
    until("the policy's figures are there", || {
        page(&server).contains("tapis_generation ")
    });
    server.replace(
        "tapis.toml",
        &(off.clone() + METRICS + "allow = [\"192.0.2.1\"]\n"),
    );
    let report = text(&server.verb(&["reload"]));
    assert!(report.contains("metrics.allow"), "{report}");
    until("others are refused", || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n")
            .is_err()
            || !matches!(stream.read(&mut [0]), Ok(1))
    });
    server.replace("tapis.toml", &off);
    assert!(server.verb(&["reload"]).status.success());
    until("the port is closed", || {
        TcpStream::connect(address).is_err()
    });
}

#[test]
fn an_address_in_use_is_reported_at_the_start_by_check_and_by_a_reload() {
    let upstream = Upstream::plain();
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let taken = other.local_addr().expect("bound");
    let config = preamble(upstream.address) + &format!("[metrics]\nlisten = [\"{taken}\"]\n");
    let server = Server::start(&preamble(upstream.address), &[]);
    let problem = format!("[metrics] listen: {taken} can't be listened on");
    let folder = folder(&config, &[]);
    assert!(text(&verb(folder.path(), &["check"])).contains(&problem));
    assert!(refused(folder.path(), &config, &[]).contains(&problem));
    server.replace("tapis.toml", &config);
    let report = server.verb(&["reload"]);
    assert!(!report.status.success());
    assert!(text(&report).contains(&problem), "{}", text(&report));
    assert_eq!(server.status()["metrics"].as_array().map(Vec::len), Some(0));
}

#[test]
fn clients_that_never_ask_do_not_keep_others_from_scraping() {
    let (server, _upstream) = busy();
    let address = address(&server);
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(address).expect("connected"));
    }
    until("a scrape is answered", || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n")
            .expect("sent");
        matches!(stream.read(&mut [0]), Ok(1))
    });
    assert!(is_blocked(server.address, "ads.example."));
    drop(idle);
}

/// The labels of each family on the page.
pub(crate) fn labels(page: &str) -> BTreeSet<(String, String)> {
    let families = families(page);
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let pairs = samples.filter_map(|line| {
        let (name, rest) = line.split_once('{')?;
        let ends = ["_bucket", "_sum", "_count"];
        let family = ends
            .iter()
            .find_map(|end| families.get_key_value(name.strip_suffix(end)?));
        let family = family.map_or(name, |(family, _)| family);
        let (labels, _) = rest.rsplit_once('}')?;
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        let labels = labels
            .map(|(key, _)| key.to_owned())
            .filter(|key| key != "le");
        Some(
            labels
                .map(|key| (family.to_owned(), key))
                .collect::<Vec<_>>(),
        )
    });
    pairs.flatten().collect()
}

#[test]
fn scrapes_are_answered_while_the_file_of_a_list_hangs_at_the_start() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + METRICS + &list("slow", "");
    let folder = folder(&config, &[("slow", "slow.example\n")]);
    let lease = Lease::on(&folder.path().join("slow"));
    let mut command = tapis();
    command
        .args(["serve", "--config", "tapis.toml"])
        .current_dir(folder.path());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("started");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut found = lines.map_while(Result::ok).filter_map(|line| {
        let (_, address) = line.split_once("serving metrics address=")?;
        Some(address.to_owned())
    });
    let address = found
        .next()
        .expect("it serves metrics")
        .parse()
        .expect("an address");
    let ready = get(address, "/readyz", "");
    assert_eq!(
        (ready.status, &*ready.body),
        (503, "starting: the lists are being read\n")
    );
    assert_eq!(get(address, "/healthz", "").status, 200);
    let page = get(address, "/metrics", "");
    assert_eq!(
        (page.status, value(&page.body, "tapis_ready")),
        (200, Some(0.0))
    );
    lease.release();
    until("it is ready", || get(address, "/readyz", "").status == 200);
    child.kill().expect("it ran");
    child.wait().expect("it ended");
}
