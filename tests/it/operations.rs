//! Compares docs/operations.md with the source: each kind of alarm has a remedy there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::layering::shipped;

/// Where alarms come from, and the section of the page about them.
const SOURCES: &[(&str, &str)] = &[
    ("list_alarm(", "Lists"),
    ("download_problems(", "Downloads"),
    ("control.feeds.reports", "Feeds"),
    ("control.zones.reports", "Published zones"),
    ("control.configuration.problems", "Configuration"),
    ("control.configuration.socket_problem", "Configuration"),
    ("control.guard_policy.problems", "Configuration"),
    ("control.configuration.local.problems", "Configuration"),
    ("control.scheduler.problems", "Orders and exceptions"),
    ("control.late_files", "State directory and files"),
    ("filter_map(hangs)", "Lists"),
    ("control.persist.store.problem", "State directory and files"),
    ("control.lists.pauses.problem", "State directory and files"),
    ("control.hits.problem", "State directory and files"),
    ("control.record.journal.problem", "Journal"),
    ("control.record.journal.losses", "Journal"),
    ("RollbackRecord::alarm", "Rollback"),
    ("rollback.unrestored", "Rollback"),
    ("control.rollback.lost", "Rollback"),
    ("control.compiler.overfull", "Lists"),
    ("compose::problems", "Configuration"),
    ("gauges.problems", ""),
    ("self.upstream_source.problem", "Upstream"),
    ("self.outage.alarm", "Upstream"),
    ("self.forward_outages.alarms", "Upstream"),
    ("upstream_blocks::alarms", "Upstream"),
    ("LogOutput::problem", "Log lines"),
    ("self.recorder.alarms", "Records"),
];

/// The text between two others, without white space.
fn between(file: &str, start: &str, end: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let text = fs::read_to_string(path).expect(file);
    let (_, text) = text.split_once(start).expect(start);
    let (text, _) = text.split_once(end).expect(end);
    let lines = text.lines().filter(|line| !line.trim().starts_with("//"));
    lines.flat_map(|line| line.split_whitespace()).collect()
}

/// The arguments of the calls of `chain` that are not in those of another call.
fn chained(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(".chain(") {
        let mut depth = 1;
        let end = after.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let (link, next) = after.split_at(end.expect("closed"));
        links.push(link);
        rest = next;
    }
    links
}

/// Part "Alarms" of the page.
fn alarms() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = fs::read_to_string(path).expect("the page");
    let (_, part) = page.split_once("\n## Alarms\n").expect("the part");
    let end = part.find("\n## ").unwrap_or(part.len());
    part[..end].to_owned()
}

#[test]
fn each_source_of_alarms_has_a_section_in_the_operations_page() {
    let all = between(
        "control/steps/status.rs",
        "fn alarms(control: &Control, gauges: &Gauges) -> Vec<String> {",
        ".collect()\n}",
    );
    let (own, _) = all.split_once(".chain(").expect("several");
    let gauges = between("daemon/live.rs", "fn problems(", "fn config(");
    let calls = [
        ".problem()",
        ".alarm(",
        ".alarms()",
        "::problem()",
        "::alarms(",
    ]
    .map(|call| gauges.matches(call).count());
    let known = |text: &str| SOURCES.iter().any(|(source, _)| text.contains(source));
    for link in [own].into_iter().chain(chained(&all)) {
        assert!(
            known(link),
            "no section of docs/operations.md is known for {link}"
        );
    }
    let of_gauges = SOURCES.iter().filter(|(source, _)| gauges.contains(source));
    let count: usize = calls.iter().sum();
    assert_eq!(of_gauges.count(), count, "{gauges}");
    let page = alarms();
    let sections: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    for (source, section) in SOURCES {
        assert!(
            all.contains(source) || gauges.contains(source),
            "{source} is gone"
        );
        assert!(
            section.is_empty() || sections.contains(section),
            "{section}"
        );
    }
    let used: BTreeSet<_> = SOURCES
        .iter()
        .map(|(_, section)| *section)
        .filter(|s| !s.is_empty())
        .collect();
    assert_eq!(sections, used);
}

#[test]
fn each_alarm_that_the_operations_page_quotes_is_in_the_source() {
    let source: String = shipped().into_iter().map(|(_, text)| text).collect();
    // Long strings continue in the next line.
    let joined: Vec<_> = source.split("\\\n").map(str::trim_start).collect();
    let source = joined.concat().replace("\\\"", "\"");
    let page = alarms();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let mut count = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_end_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 3, "alarm, meaning, remedy: {row}");
        let quoted = cells[0].split('`').skip(1).step_by(2);
        for piece in quoted.flat_map(|quote| quote.split('…')) {
            let piece = piece.trim();
            if piece.chars().filter(|c| c.is_alphabetic()).count() > 3 {
                assert!(source.contains(piece), "no alarm has the words: {piece}");
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count}");
}
