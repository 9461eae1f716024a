//! Scenarios in the `.rpl` format of Unbound's testbound, against the server.
//! `TAPIS_RPL_DIR=FOLDER cargo test --test it scenarios` adds those of a folder.

mod clients;
mod compare;
mod configuration;
mod entry;
mod lines;
mod parse;
mod primary;
mod records;
mod recursor;
mod runner;

use std::fs;
use std::path::{Path, PathBuf};

use runner::{Failure, run};

/// A step of another project's scenario that is left out.
struct LeftOut {
    file: &'static str,
    /// The number of the step that checks the answer.
    step: u32,
    reason: &'static str,
}

/// Triggers on name servers are not applied: a forwarder sees no delegations.
const LEFT_OUT: [LeftOut; 4] = [
    left_out("rpz_cname_wild.rpl", 40, "nsdname"),
    left_out("rpz_ixfr.rpl", 21, "nsip"),
    left_out("rpz_ixfr.rpl", 23, "nsdname"),
    left_out("rpz_qtype_cname.rpl", 21, "nsip"),
];

const fn left_out(file: &'static str, step: u32, reason: &'static str) -> LeftOut {
    LeftOut { file, step, reason }
}

/// The scenarios of a folder.
fn scenarios(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of scenarios");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "rpl"))
        .collect();
    paths.sort();
    paths
}

/// Runs the scenarios of a folder, apart from steps that are left out. Returns what went wrong.
fn problems(folder: &Path, left_out: &[LeftOut]) -> Vec<String> {
    let mut problems = Vec::new();
    for path in scenarios(folder) {
        let file = path.file_name().expect("a name").to_string_lossy();
        let left_out = left_out.iter().filter(|step| step.file == file);
        let text = fs::read_to_string(&path).expect("a scenario");
        // A scenario in which the server ends, or never does what is awaited, does not hide those after it.
        match std::panic::catch_unwind(|| run(&file, &text)) {
            Ok(Ok(failures)) => problems.extend(unexpected(failures, left_out)),
            Ok(Err(why)) => problems.push(why),
            Err(_) => problems.push(format!("{file}: it was aborted, as reported above")),
        }
    }
    problems
}

/// Failures of steps that are not left out, and steps that are left out although they pass.
fn unexpected<'l>(
    failures: Vec<Failure>,
    left_out: impl Iterator<Item = &'l LeftOut> + Clone,
) -> Vec<String> {
    let is_left_out = |failure: &&Failure| !left_out.clone().any(|step| step.step == failure.step);
    let unexpected = failures.iter().filter(is_left_out);
    let mut problems: Vec<String> = unexpected.map(|failure| failure.report.clone()).collect();
    let stale = left_out
        .clone()
        .filter(|step| !failures.iter().any(|failure| failure.step == step.step));
    problems.extend(stale.map(|LeftOut { file, step, reason }| {
        format!("{file}, step {step} is left out ({reason}), but it passes or does not exist")
    }));
    problems
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_scenario_of_the_project_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    assert!(!scenarios(&folder).is_empty());
    assert_none(&problems(&folder, &[]));
}

#[test]
fn every_scenario_of_a_given_folder_passes() {
    match std::env::var_os("TAPIS_RPL_DIR") {
        Some(folder) => {
            let folder = Path::new(&folder);
            assert!(!scenarios(folder).is_empty(), "no .rpl file in {folder:?}");
            assert_none(&problems(folder, &LEFT_OUT));
        }
        None => eprintln!("TAPIS_RPL_DIR is not set: no other project's scenarios were run"),
    }
}

/// A server whose upstream knows two names, and one of its lists blocks another.
const TWO_NAMES: &str = r#"
server:
	serve-expired: no
stub-zone:
	name: "."
	stub-addr: 192.0.2.53
TEMPFILE_CONTENTS names
dropped.example
TEMPFILE_END
TEMPFILE_CONTENTS tapis.toml
[[list]]
name = "names"
path = "names"
action = "drop"
TEMPFILE_END
CONFIG_END
SCENARIO_BEGIN
RANGE_BEGIN 0 100
ADDRESS 192.0.2.53
ENTRY_BEGIN
MATCH qname qtype
REPLY QR NOERROR
SECTION QUESTION
one.example. IN A
SECTION ANSWER
one.example. 300 IN A 192.0.2.1
one.example. 300 IN A 192.0.2.2
ENTRY_END
ENTRY_BEGIN
MATCH qname qtype
REPLY QR NXDOMAIN
SECTION QUESTION
two.example. IN A
SECTION AUTHORITY
example. 300 IN SOA ns.example. host.example. 1 2 3 4 300
ENTRY_END
RANGE_END
"#;

/// Runs steps after [`TWO_NAMES`].
fn run_steps(steps: &str) -> Result<Vec<Failure>, String> {
    run("inline", &format!("{TWO_NAMES}{steps}SCENARIO_END\n"))
}

/// A query for A, and the step that checks the answer.
fn asked(number: u32, name: &str, matching: &str, reply: &str, answer: &str) -> String {
    let query = format!("REPLY RD\nSECTION QUESTION\n{name} IN A\n");
    let check = format!("MATCH {matching}\nREPLY {reply}\nSECTION QUESTION\n{name} IN A\n{answer}");
    let entry = |text| format!("ENTRY_BEGIN\n{text}ENTRY_END\n");
    format!(
        "STEP {number} QUERY\n{}STEP {} CHECK_ANSWER\n{}",
        entry(query),
        number + 1,
        entry(check)
    )
}

#[test]
fn an_answer_that_differs_is_reported_with_both_messages() {
    let both = "SECTION ANSWER\none.example. A 192.0.2.2\none.example. A 192.0.2.1\n";
    let other = "SECTION ANSWER\none.example. A 192.0.2.1\none.example. A 192.0.2.3\n";
    let old = "SECTION ANSWER\none.example. 301 A 192.0.2.1\none.example. 300 A 192.0.2.2\n";
    let soa = "SECTION AUTHORITY\nexample. SOA ns.example. host.example. 2 2 3 4 300\n";
    let is_noerror = "QR RD RA NOERROR";
    let steps = [
        // As expected.
        asked(1, "one.example.", "all", "QR AA RD RA", both),
        asked(3, "two.example.", "all", "QR RD RA NXDOMAIN", ""),
        asked(5, "one.example.", "rcode", "TC NOERROR", other),
        // Not as expected.
        asked(11, "one.example.", "all", is_noerror, other),
        asked(13, "one.example.", "all", is_noerror, ""),
        asked(15, "one.example.", "all ttl", is_noerror, old),
        asked(17, "two.example.", "all", is_noerror, ""),
        asked(19, "two.example.", "all", "QR RD RA AD NXDOMAIN", ""),
        asked(21, "two.example.", "all", "QR RD RA NXDOMAIN", soa),
        asked(23, "two.example.", "all ede=15", "QR RD RA NXDOMAIN", ""),
    ];
    let failures = run_steps(&steps.concat()).expect("a scenario");
    let numbers: Vec<u32> = failures.iter().map(|failure| failure.step).collect();
    assert_eq!(numbers, [12, 14, 16, 18, 20, 22, 24]);
    let report = &failures[0].report;
    assert!(report.starts_with("inline:"), "{report}");
    assert!(
        report.contains(", step 12: - expected, + received\n"),
        "{report}"
    );
    for line in [
        "    rcode      No Error\n",
        "    flags      QR RD RA\n",
        "    answer     one.example. A 192.0.2.1\n",
        "  - answer     one.example. A 192.0.2.3\n",
        "  + answer     one.example. A 192.0.2.2\n",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
}

#[test]
fn a_query_without_a_checked_answer_must_be_dropped() {
    let query = |number, name| {
        let question = format!("REPLY RD\nSECTION QUESTION\n{name} IN A\n");
        format!("STEP {number} QUERY\nENTRY_BEGIN\n{question}ENTRY_END\n")
    };
    let tcp = query(3, "dropped.example.").replace("REPLY", "MATCH TCP\nREPLY");
    let steps = [query(1, "dropped.example."), tcp, query(5, "one.example.")];
    let failures = run_steps(&steps.concat()).expect("a scenario");
    let numbers: Vec<u32> = failures.iter().map(|failure| failure.step).collect();
    assert_eq!(numbers, [5], "{failures:?}");
    assert!(failures[0].report.contains("expected no answer"));
}

#[test]
fn a_step_is_left_out_only_while_it_fails() {
    let failure = |step| Failure {
        step,
        report: format!("step {step}"),
    };
    let left_out = [left_out("x.rpl", 1, "a"), left_out("x.rpl", 2, "b")];
    let problems = unexpected(vec![failure(2), failure(3)], left_out.iter());
    let stale = "x.rpl, step 1 is left out (a), but it passes or does not exist";
    assert_eq!(problems, ["step 3", stale]);
}

#[test]
fn unknown_parts_of_a_scenario_are_refused() {
    let error = |from: &str, to: &str| {
        assert!(TWO_NAMES.contains(from));
        let text = format!("{}SCENARIO_END\n", TWO_NAMES.replacen(from, to, 1));
        run("inline", &text).expect_err(to)
    };
    for (from, to, message) in [
        ("MATCH qname", "MATCH qnam", "line 21: unknown word qnam"),
        ("REPLY QR", "REPLY QQ", "line 22: unknown word QQ"),
        ("IN A\n", "IN B\n", "line 24: "),
        ("IN A 192", "IN A 1.192", "line 26: "),
        ("ADDRESS", "ADRESS", "line 19: unknown word"),
        ("0 100", "0", "line 18: a range has"),
        (
            "serve-expired",
            "served",
            "unknown option of server: served",
        ),
        ("[[list]]", "[[list", "tapis.toml: "),
    ] {
        let error = error(from, to);
        assert!(error.starts_with("inline: "), "{error}");
        assert!(error.contains(message), "{error}");
    }
    assert_eq!(
        run("inline", TWO_NAMES).expect_err("no end"),
        "inline: the file ends too early"
    );
}
