//! A real Prometheus, and its tool that checks pages and rules.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use serde_json::Value;
use tempfile::TempDir;

use super::complete::Complete;
use super::shipped::{ALERTS, dashboard, queries};
use super::{address, get, page, send};
use crate::support::client::{Port, Stream, query, until};
use crate::support::server::text;

/// The file that the picture of the dashboard is written to; then the load lasts as long as the picture shows.
const PICTURE: &str = "TAPIS_DASHBOARD_PICTURE";
const LOAD: Duration = Duration::from_secs(75);

fn file(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("written");
    drop(stdin);
    child.wait_with_output().expect("it ended")
}

#[test]
#[ignore = "needs promtool; CI runs it"]
fn promtool_accepts_the_page_and_the_rules() {
    let complete = Complete::start();
    let page = page(&complete.server);
    let checked = promtool(&["check", "metrics"], &page);
    // It also reports names that do not follow the conventions.
    assert!(checked.status.success(), "{}", text(&checked));
    assert_eq!(text(&checked), "", "no warnings either");
    let wrong = page.replace("tapis_queries_total", "tapis_queries_seconds");
    assert_ne!(
        text(&promtool(&["check", "metrics"], &wrong)),
        "",
        "it works"
    );
    let rules = promtool(
        &["check", "rules", file(ALERTS).to_str().expect("UTF-8")],
        "",
    );
    assert!(rules.status.success(), "{}", text(&rules));
}

/// A Prometheus that scrapes every second.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        let rules = file(ALERTS);
        let rules = rules.to_str().expect("UTF-8");
        let text = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [\"{rules}\"]\nscrape_configs:\n\
             - job_name: tapis\n  static_configs:\n  - targets: [\"{target}\"]\n"
        );
        fs::write(&config, text).expect("written");
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, address) = line.split_once("msg=\"Listening on\" address=")?;
            address.trim().parse().ok()
        });
        // It ends if nobody reads its log.
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let prometheus = Self {
            child,
            address: address.expect("it listens"),
            _folder: folder,
        };
        until("it is ready", || {
            let ready = "GET /-/ready HTTP/1.0\r\nhost: prometheus\r\n\r\n";
            send(prometheus.address, ready).status == 200
        });
        prometheus
    }

    fn ask(&self, path: &str) -> Value {
        let request = format!("GET {path} HTTP/1.0\r\nhost: prometheus\r\n\r\n");
        let answer = send(self.address, &request);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).expect("JSON")
    }

    /// The values of a query's result.
    fn query(&self, expression: &str) -> Vec<f64> {
        let escaped: String = url::form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let answer = self.ask(&format!("/api/v1/query?query={escaped}"));
        let result = answer["data"]["result"]
            .as_array()
            .expect("a vector")
            .clone();
        let values = result.iter().map(|sample| {
            let value = sample["value"][1].as_str().expect("a value");
            value.parse().expect("a number")
        });
        values.collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends queries of all kinds, one after the other, until the end.
fn load(server: SocketAddr, end: &AtomicBool) {
    let port = Port::open(server);
    let types = [
        RecordType::A,
        RecordType::AAAA,
        RecordType::HTTPS,
        RecordType::MX,
    ];
    let mut number = 0_usize;
    while !end.load(Ordering::Relaxed) {
        // The load rises and falls.
        let wave = (number / 400) % 5;
        let name = match number % 20 {
            0 => format!("new{number}.example"),
            1 => format!("new{number}.tls.example"),
            2..5 => "ads.example".to_owned(),
            5 => "law.example".to_owned(),
            6 => "feed.example".to_owned(),
            7 if wave == 0 => "fails.example".to_owned(),
            8 => "would.example".to_owned(),
            _ => format!("popular{}.example", number % 50),
        };
        let message = query(&name, types[number / 7 % types.len()]);
        if number.is_multiple_of(30) {
            let mut stream = Stream::open(server);
            stream.send(&message);
            assert!(stream.receive().is_some(), "{name}");
        } else {
            port.send(&message);
            port.receive();
        }
        if number % 10 < wave {
            thread::yield_now();
        }
        number += 1;
    }
}

#[test]
#[ignore = "needs prometheus; CI runs it"]
fn each_query_of_the_dashboard_returns_data_and_the_picture_is_drawn_from_it() {
    let complete = Complete::start();
    let server = &complete.server;
    let prometheus = Prometheus::start(address(server));
    let (dashboard, end) = (dashboard(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| load(server.address, &end));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (title, expression, _) in queries(&dashboard) {
                let expression = expression
                    .replace("$__rate_interval", "15s")
                    .replace("$instance", ".*");
                until(&format!("data of {title}: {expression}"), || {
                    let values = prometheus.query(&expression);
                    !values.is_empty() && values.iter().any(|value| value.is_finite())
                });
            }
            if std::env::var_os(PICTURE).is_some() {
                thread::sleep(LOAD);
            }
        }));
        end.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    assert_eq!(prometheus.query("up"), [1.0]);
    let rules = prometheus.ask("/api/v1/rules");
    let rules = rules["data"]["groups"][0]["rules"]
        .as_array()
        .expect("rules");
    assert!(rules.len() > 15);
    until("each rule is evaluated", || {
        let rules = prometheus.ask("/api/v1/rules");
        let rules = &rules["data"]["groups"][0]["rules"];
        rules
            .as_array()
            .expect("rules")
            .iter()
            .all(|rule| rule["health"] == "ok")
    });

    let folder = tempfile::tempdir().expect("a folder");
    let picture = std::env::var_os(PICTURE).map_or_else(|| folder.path().join("d.svg"), Into::into);
    let drawn = Command::new("python3")
        .arg("-B")
        .arg(file("packaging/grafana/draw.py"))
        .arg(format!("http://{}", prometheus.address))
        .arg(&picture)
        .output()
        .expect("python3");
    assert!(drawn.status.success(), "{}", text(&drawn));
    let picture = fs::read_to_string(picture).expect("the picture");
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(picture.contains(&format!(">{title}<")), "{title}");
    }
    assert!(!picture.contains("no data"), "each panel has data");
    assert!(get(address(server), "/metrics", "").status == 200);
}
