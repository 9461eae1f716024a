//! The alert rules and the dashboard that are shipped, compared with the page and with the documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use super::complete::{Complete, documented};
use super::{families, page};

pub(super) const ALERTS: &str = "packaging/prometheus/alerts.yaml";
pub(super) const DASHBOARD: &str = "packaging/grafana/tapis.json";
/// Labels that Prometheus adds, and that of histograms.
const ADDED: [&str; 3] = ["instance", "job", "le"];

pub(super) fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(path).expect("readable")
}

/// An alert rule.
struct Alert {
    name: String,
    /// The texts of its other keys.
    keys: BTreeMap<String, String>,
}

fn alerts() -> Vec<Alert> {
    let text = read(ALERTS);
    let mut alerts = Vec::<Alert>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((key, value)) = line.trim().split_once(": ") else {
            continue;
        };
        let value = value.trim_matches('\'').to_owned();
        match key {
            "- alert" => alerts.push(Alert {
                name: value,
                keys: BTreeMap::new(),
            }),
            "- name" => {}
            _ => {
                let alert = alerts.last_mut().expect("an alert first");
                alert.keys.insert(key.to_owned(), value);
            }
        }
    }
    alerts
}

/// The dashboard.
pub(super) fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("JSON")
}

/// The queries of the dashboard with their legends, by the title of their panel.
pub(super) fn queries(dashboard: &Value) -> Vec<(&str, &str, &str)> {
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().expect("targets") {
            let text = |key: &str| target[key].as_str().expect("a text");
            all.push((title, text("expr"), text("legendFormat")));
        }
    }
    all
}

/// Checks the names, the labels and the values of labels of an expression, and the labels of a text about its result.
fn check(expression: &str, text: &str, live: &BTreeMap<String, String>) {
    let names = Regex::new(r"(?-u:\b)(?:tapis|process)_[a-z_]+").expect("valid");
    let documented = documented();
    let mut labels: BTreeSet<_> = ADDED.map(str::to_owned).into();
    let mut count = 0;
    for name in names.find_iter(expression) {
        let name = name.as_str();
        let ends = ["_bucket", "_sum", "_count"];
        let family = ends.iter().find_map(|end| {
            let family = name.strip_suffix(end)?;
            (live.get(family)? == "histogram").then_some(family)
        });
        let family = family.unwrap_or(name);
        assert!(live.contains_key(family), "{name} of {expression}");
        assert!(
            live[family] != "histogram" || family != name,
            "{name} has no samples"
        );
        labels.extend(documented[family].1.iter().cloned());
        count += 1;
    }
    assert!(count > 0 || expression.starts_with("up{"), "{expression}");
    let page = read("docs/metrics.md");
    let matcher = Regex::new(r#"([a-z_]+)(?:=~|!~|!=|=)"([^"]*)""#).expect("valid");
    for found in matcher.captures_iter(expression) {
        let (label, values) = (&found[1], &found[2]);
        assert!(labels.contains(label), "{label} of {expression}");
        for value in values.split('|') {
            let value = value.trim_end_matches(".*");
            let is_known = ADDED.contains(&label) || page.contains(&format!("`{value}`"));
            assert!(is_known, "{value} of {expression} is not documented");
        }
    }
    let grouped = Regex::new(r"(?-u:\b)(?:by|on|ignoring|without) \(([^)]*)\)").expect("valid");
    for found in grouped.captures_iter(expression) {
        for label in found[1].split(", ") {
            assert!(labels.contains(label), "{label} of {expression}");
        }
    }
    let named = Regex::new(r"\{\{ *(?:\$labels\.)?([a-z_]+)(?: \|[^}]*)? *\}\}").expect("valid");
    for found in named.captures_iter(text) {
        assert!(labels.contains(&found[1]), "{} of {text}", &found[1]);
    }
}

#[test]
fn each_alert_and_each_query_of_the_dashboard_fits_the_page() {
    let complete = Complete::start();
    let live = families(&page(&complete.server));
    let alerts = alerts();
    assert!(alerts.len() > 15, "{}", alerts.len());
    for alert in alerts {
        check(&alert.keys["expr"], &alert.keys["summary"], &live);
    }
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    assert!(queries.len() > 30, "{}", queries.len());
    for (title, expression, legend) in queries {
        check(expression, legend, &live);
        assert!(!title.is_empty() && expression.contains("{instance=~\"$instance\""));
    }
}

#[test]
fn each_alert_has_a_severity_a_summary_and_a_section_with_its_remedy() {
    let page = read("docs/operations.md");
    let (_, part) = page
        .split_once("\n## Prometheus alerts\n")
        .expect("the part");
    let (part, _) = part.split_once("\n## ").expect("more parts");
    let sections: BTreeMap<_, _> = part
        .split("\n### ")
        .skip(1)
        .map(|section| section.split_once('\n').expect("a text"))
        .collect();
    let alerts = alerts();
    let names = alerts
        .iter()
        .map(|alert| &*alert.name)
        .collect::<BTreeSet<_>>();
    assert_eq!(
        names,
        sections.keys().copied().collect(),
        "one section for each"
    );
    for Alert { name, keys } in &alerts {
        assert!(
            ["critical", "warning"].contains(&&*keys["severity"]),
            "{name}"
        );
        assert!(
            keys.contains_key("for") && keys["summary"].contains("$labels"),
            "{name}"
        );
        let anchor = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(keys["runbook"], anchor);
        assert!(sections[&**name].contains("**Remedy**: "), "{name}");
    }
}

#[test]
fn the_dashboard_can_be_imported_with_any_data_source() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"]
        .as_array()
        .expect("variables");
    let names: Vec<_> = variables.iter().map(|variable| &variable["name"]).collect();
    assert_eq!(names, ["datasource", "instance"]);
    assert_eq!(variables[0]["type"], "datasource");
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(
            ids.insert(panel["id"].as_u64().expect("a number")),
            "{panel}"
        );
        let place = &panel["gridPos"];
        let side = |key: &str| place[key].as_u64().expect("a number");
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(x < 24 && places.insert((x, y)), "{panel} overlaps");
            }
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        for target in panel["targets"].as_array().expect("targets") {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
        }
    }
}

#[test]
fn the_package_has_the_alerts_and_the_dashboard() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let assets = &manifest["package"]["metadata"]["deb"]["assets"];
    let assets = assets.as_array().expect("assets").iter();
    let paths: Vec<_> = assets.filter_map(|asset| asset[0].as_str()).collect();
    assert!(
        paths.contains(&ALERTS) && paths.contains(&DASHBOARD),
        "{paths:?}"
    );
}
