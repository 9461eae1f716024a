//! The values on the page, compared with what happened.

use std::fs;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::{METRICS, page, value};
use crate::orders::{PAST, order, target};
use crate::support::client::{ask, is_blocked, rcode, until};
use crate::support::server::{Server, folder, list, preamble};
use crate::support::upstream::{Upstream, address_of, name};

/// The value of a sample that must be there.
fn of(page: &str, sample: &str) -> f64 {
    value(page, sample).unwrap_or_else(|| panic!("no {sample} in {page}"))
}

#[test]
fn the_page_shows_the_state_of_the_policy_and_its_changes() {
    let upstream = Upstream::plain();
    let orders = "[orders]\npath = \"orders\"\n";
    let config = preamble(upstream.address) + METRICS + orders + &list("ads", "");
    let folder = folder(
        &config,
        &[("ads", "a.example\nb.example\nno name at all\n")],
    );
    let overdue = order("x-1", PAST, &target("law.example", "exact"));
    let overdue = overdue.replace("2100-01-01", "2021-01-01");
    fs::create_dir(folder.path().join("orders")).expect("made");
    fs::write(folder.path().join("orders/x-1.toml"), overdue).expect("written");
    let server = Server::start_in(folder);
    until("the order", || is_blocked(server.address, "law.example"));
    let ads = |family: &str| format!("tapis_source_{family}{{kind=\"list\",source=\"ads\"}}");
    until("the figures of the order", || {
        value(&page(&server), "tapis_orders_overdue_reviews") == Some(1.0)
    });
    let before = page(&server);
    assert_eq!(of(&before, &ads("rules")), 2.0);
    assert_eq!(of(&before, &ads("bad_lines")), 1.0);
    assert_eq!(of(&before, &ads("alarms")), 0.0);
    assert_eq!(of(&before, "tapis_orders{state=\"in_force\"}"), 1.0);
    assert_eq!(of(&before, "tapis_orders{state=\"expired\"}"), 0.0);
    let generation = server.status()["generation"].as_f64();
    assert_eq!(value(&before, "tapis_generation"), generation);
    let published = of(&before, "tapis_policy_runs_total{work=\"publish\"}");
    assert!(Some(published) >= generation, "{published}");

    // A guard rejects the loss of most rules.
    let many: String = (0..100)
        .map(|number| format!("n{number}.example\n"))
        .collect();
    server.replace("ads", &many);
    assert!(server.verb(&["reload"]).status.success());
    server.replace("ads", "n1.example\n");
    until("the alarm", || {
        let page = page(&server);
        value(&page, &ads("alarms")) == Some(1.0) && value(&page, "tapis_alarms") == Some(1.0)
    });
    let reloaded = page(&server);
    assert_eq!(of(&reloaded, &ads("rules")), 100.0);
    assert_eq!(
        of(&reloaded, "tapis_reloads_total{result=\"success\"}"),
        1.0
    );
    assert_eq!(
        of(&reloaded, "tapis_reloads_total{result=\"failure\"}"),
        0.0
    );
    let publish = |family: &str| format!("tapis_policy_{family}{{work=\"publish\"}}");
    assert!(of(&reloaded, &publish("runs_total")) > published);
    let last = of(&reloaded, &publish("last_run_seconds"));
    assert!(last > 0.0 && of(&reloaded, &publish("work_seconds_total")) > last);

    let changed = config.replace("workers = 2", "workers = 1") + "[upstream\n";
    server.replace("tapis.toml", &changed);
    assert!(!server.verb(&["reload"]).status.success());
    server.replace("tapis.toml", &changed.replace("[upstream\n", ""));
    // The guard still rejects the list.
    server.verb(&["reload"]);
    until("the failure and the key are counted", || {
        let page = page(&server);
        value(&page, "tapis_reloads_total{result=\"failure\"}") >= Some(1.0)
            && value(&page, "tapis_restart_needed") == Some(1.0)
    });
}

#[test]
fn the_page_shows_how_upstream_answers() {
    let upstream = Upstream::start(|asked| match name(asked).as_str() {
        "silent.example" => None,
        _ => Some(address_of(asked, [192, 0, 2, 1])),
    });
    let config = preamble(upstream.address) + "timeout-ms = 300\n" + METRICS;
    let server = Server::start(&config, &[]);
    for number in 0..5 {
        let answer = ask(server.address, &format!("n{number}.example"), RecordType::A);
        assert_eq!(answer.answers.len(), 1);
    }
    let labels = format!("server=\"{}\",zone=\"\"", upstream.address);
    let asked = |page: &str| {
        let sample = format!("tapis_upstream_queries_total{{{labels},transport=\"udp\"}}");
        of(page, &sample)
    };
    let page_before = page(&server);
    // On a slow machine, a query may be sent twice.
    assert!(asked(&page_before) >= 5.0);
    let latency =
        |page: &str, part: &str| of(page, &format!("tapis_upstream_latency_seconds_{part}"));
    let all = latency(&page_before, &format!("count{{{labels}}}"));
    assert!((5.0..=asked(&page_before)).contains(&all), "{page_before}");
    let most = format!("bucket{{{labels},le=\"+Inf\"}}");
    assert_eq!(latency(&page_before, &most), all);
    assert!(latency(&page_before, &format!("sum{{{labels}}}")) > 0.0);
    let timeouts = format!("tapis_upstream_timeouts_total{{{labels}}}");
    let before = of(&page_before, &timeouts);

    let failed = ask(server.address, "silent.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    let after = page(&server);
    assert!(of(&after, &timeouts) > before, "{after}");
    assert!(asked(&after) > asked(&page_before));
    assert!(of(&after, "tapis_upstream_failures_total") >= 1.0);
    assert!(of(&after, "process_cpu_seconds_total") > 0.0);
}
