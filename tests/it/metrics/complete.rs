//! A server with everything that metrics show, and the page compared with its documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::{METRICS, families, labels, page, value};
use crate::feeds::Versions;
use crate::orders::{PAST, order, target};
use crate::support::client::{Stream, ask, is_blocked, query, until};
use crate::support::dot::TlsUpstream;
use crate::support::primary::{Primary, send};
use crate::support::server::{Server, folder, list, preamble};
use crate::support::tls::{Security, authority};
use crate::support::upstream::{Upstream, address_of, answer, name};

/// Families that have samples only while a list is downloaded from a mirror that can be asked again.
const WITHOUT_SAMPLES: [&str; 1] = ["tapis_source_next_attempt_timestamp_seconds"];

/// The server, and its upstream servers and primary.
pub(super) struct Complete {
    pub(super) server: Server,
    _upstream: Upstream,
    _of_tls: TlsUpstream,
    _primary: Primary,
}

impl Complete {
    /// Starts it, and waits until all families have samples.
    pub(super) fn start() -> Self {
        let upstream = Upstream::start(|asked| match name(asked).as_str() {
            "fails.example" => Some(answer(asked, ResponseCode::ServFail)),
            _ => Some(address_of(asked, [192, 0, 2, 1])),
        });
        let (of_tls, versions) = (TlsUpstream::plain(), Versions::new(1, &["feed.example"]));
        let primary = Primary::secured(Security::tls(b"dot"), move |asked| {
            send(versions.answer(asked))
        });
        let ca = authority();
        let (ca, of_feed) = (ca.to_str().expect("UTF-8"), primary.address);
        let of_zone = of_tls.server();
        let config = preamble(upstream.address)
            + METRICS
            + "[state]\ndir = \"state\"\n[query-log]\nfile = \"queries.jsonl\"\nsample = 0.5\n\
               [orders]\npath = \"orders\"\n[[exception]]\nname = \"free.example\"\nscope = \"exact\"\n\
               against = [\"ads\"]\nreason = \"x\"\nauthor = \"x\"\n"
            + &format!("[[forward]]\nzone = \"tls.example\"\nservers = [{of_zone}]\n")
            + &list("ads", "")
            + &list("paused", "")
            // The first primary is always at fault.
            + &format!(
                "[[feed]]\nname = \"zone\"\nzone = \"rpz.test\"\nprimaries = [\"127.0.0.1:9\", {{ address = \
                 \"{of_feed}\", tls = \"primary.test\", tls-ca = \"{ca}\" }}]\n"
            );
        let files = [
            ("ads", "ads.example\nfree.example\n"),
            ("paused", "would.example\n"),
        ];
        let folder = folder(&config, &files);
        let orders = folder.path().join("orders");
        fs::create_dir(&orders).expect("made");
        let far = "effective-from = 2100-01-01T00:00:00Z";
        for (id, dates, name) in [("x-1", PAST, "law.example"), ("x-2", far, "later.example")] {
            let text = order(id, dates, &target(name, "exact"));
            fs::write(orders.join(format!("{id}.toml")), text).expect("written");
        }
        let complete = Self {
            server: Server::start_in(folder),
            _upstream: upstream,
            _of_tls: of_tls,
            _primary: primary,
        };
        complete.ask_all();
        complete
    }

    fn ask_all(&self) {
        let server = &self.server;
        let pause = ["pause", "paused", "--for", "1h", "--reason", "a test"];
        assert!(server.verb(&pause).status.success());
        for name in ["ads.example", "law.example"] {
            until(name, || is_blocked(server.address, name));
        }
        until("the feed", || {
            let answer = ask(server.address, "feed.example", RecordType::A);
            answer.metadata.response_code == ResponseCode::NXDomain
        });
        for name in [
            "www.example",
            "www.example",
            "a.tls.example",
            "fails.example",
            "would.example",
        ] {
            ask(server.address, name, RecordType::A);
        }
        let mut stream = Stream::open(server.address);
        stream.send(&query("www.example", RecordType::AAAA));
        assert!(stream.receive().is_some());
        // The figures of the policy are a second old.
        let samples = [
            "tapis_source_certificate_not_after_timestamp_seconds{",
            "tapis_source_faults_total{",
            "tapis_would_block_total{",
        ];
        until("all figures", || {
            let page = page(server);
            samples.iter().all(|sample| page.contains(sample))
        });
    }
}

/// The families of the documentation: the type and the labels of each.
pub(super) fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(path).expect("readable");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`').to_owned();
        let kind = cells.next().filter(|_| !name.starts_with('/'))?.to_owned();
        let labels = cells.next()?.split('`').skip(1).step_by(2);
        Some((name, (kind, labels.map(str::to_owned).collect())))
    });
    rows.collect()
}

#[test]
fn the_documentation_lists_exactly_the_families_and_labels_of_the_page() {
    let complete = Complete::start();
    let page = page(&complete.server);
    let documented = documented();
    let kinds = documented
        .iter()
        .map(|(name, (kind, _))| (name.clone(), kind.clone()));
    assert_eq!(kinds.collect::<BTreeMap<_, _>>(), families(&page));
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (name, label) in labels(&page) {
        found.entry(name).or_default().insert(label);
    }
    for (name, (_, labels)) in documented {
        let has_samples = page.lines().any(|line| {
            let rest = line.strip_prefix(&*name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
        });
        if WITHOUT_SAMPLES.contains(&&*name) {
            continue;
        }
        assert!(has_samples, "{name} has no sample: {page}");
        let found = found.remove(&name).unwrap_or_default();
        assert_eq!(found, labels, "the labels of {name}");
    }
}

#[test]
fn the_page_shows_certificates_records_and_what_upstream_did() {
    let complete = Complete::start();
    let server = &complete.server;
    let page = page(server);
    let status = server.status();
    let address = status["upstream"][1]["address"]
        .as_str()
        .expect("an address");
    let of_zone = format!("{{server=\"{address}\",zone=\"tls.example\"}}");
    // Both certificates are that of `primary.test`, which ends on 2126-11-03T23:44:44Z.
    let end = Some(4_949_423_084.0);
    let upstream = "tapis_upstream_certificate_not_after_timestamp_seconds";
    assert_eq!(value(&page, &format!("{upstream}{of_zone}")), end, "{page}");
    assert_eq!(page.matches(&format!("{upstream}{{")).count(), 1);
    let feed =
        "tapis_source_certificate_not_after_timestamp_seconds{kind=\"feed\",source=\"zone\",";
    let line = page
        .lines()
        .find(|line| line.starts_with(feed))
        .expect("a sample");
    let number = line.rsplit(' ').next().expect("a value").parse().ok();
    assert_eq!(number, end, "{line}");
    assert_eq!(
        status["upstream"][1]["certificate_end"],
        "2126-11-03T23:44:44Z"
    );
    let shown = server.verb(&["feed", "show", "zone"]).stdout;
    let shown = String::from_utf8(shown).expect("text");
    assert!(
        shown.contains("certificate ends at 2126-11-03T23:44:44Z"),
        "{shown}"
    );

    let handshakes = "tapis_upstream_tls_handshakes_total{result=\"success\"}";
    assert!(value(&page, handshakes) >= Some(1.0), "{page}");
    until("all queries are recorded or sampled out", || {
        let page = super::page(server);
        let count = |result| {
            let labels = format!("{{sink=\"query_log\",result=\"{result}\"}}");
            value(&page, &format!("tapis_recorder_queries_total{labels}")).expect("a sample")
        };
        let finished = page
            .lines()
            .filter(|line| line.starts_with("tapis_queries_total{"));
        let finished = finished.map(|line| line.rsplit(' ').next().expect("a value"));
        let finished: f64 = finished
            .map(|value| value.parse::<f64>().expect("a number"))
            .sum();
        count("dropped") + count("lost") == 0.0
            && count("recorded") + count("sampled_out") == finished
    });
    let rule = "{kind=\"authority\",source=\"The Authority\",action=\"sinkhole\"}";
    let blocked = value(&page, &format!("tapis_blocked_total{rule}"));
    assert!(blocked >= Some(1.0), "{page}");
    let would = "tapis_would_block_total{kind=\"list\",source=\"paused\",action=\"sinkhole\"}";
    assert_eq!(value(&page, would), Some(1.0), "{page}");
}
