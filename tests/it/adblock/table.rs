//! The semantics of rules, by the sections of AdGuard's documentation.

use tapis::policy::rule::Kind;

use super::filter::Filter;

const CASES: &str = include_str!("cases.txt");

/// Calls `each` with the section, the rules, the kind of the list, and each query with its result.
fn each_case(mut each: impl FnMut(&str, &str, Kind, [&str; 3])) {
    let (mut section, mut kind, mut rules, mut is_open) = ("", Kind::Block, String::new(), false);
    for line in CASES.lines() {
        if let Some(heading) = line.strip_prefix("== ") {
            (section, kind) = (heading, Kind::Block);
        } else if let Some(rule) = line.strip_prefix("| ") {
            if !std::mem::replace(&mut is_open, true) {
                rules.clear();
            }
            rules.push_str(rule);
            rules.push('\n');
        } else if line == "allow" {
            kind = Kind::Allow;
        } else if !line.is_empty() && !line.starts_with('#') {
            is_open = false;
            let mut parts = line.splitn(3, ' ');
            let mut part = || parts.next().expect("name, type and result");
            each(section, &rules, kind, [part(), part(), part()]);
        }
    }
}

#[test]
fn rules_mean_what_the_documentation_says() {
    let (mut cases, mut wrong) = (0, Vec::new());
    each_case(|section, rules, kind, [name, rtype, expected]| {
        cases += 1;
        let answer = Filter::new(kind, rules.as_bytes()).answer(name, rtype);
        if answer != expected {
            let rules = rules.trim_end().replace('\n', " ; ");
            wrong.push(format!(
                "{section}: {rules}: {name} {rtype}: {answer} instead of {expected}"
            ));
        }
    });
    assert!(cases >= 150, "{cases} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
