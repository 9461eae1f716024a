//! Limits of the work for patterns and for parts of rewrites: what has no room is left out, and nothing else.

use std::fmt::Write;

use tapis::control::list_file::parse::{Bad, BadRule};
use tapis::policy::rule::Kind;

use super::filter::Filter;

/// Lines with a pattern that needs a large automaton and has no fixed text.
fn large(prefix: &str, lines: usize) -> String {
    let line = |number| format!("{prefix}/{number}[0-9]{{9}}[a-z]/\n");
    (0..lines).map(line).collect()
}

fn good(lines: usize) -> String {
    let line = |number| format!("-tracker{number}.\n");
    (0..lines).map(line).collect()
}

#[test]
fn patterns_without_a_fixed_text_that_are_too_much_work_are_left_out_and_no_others() {
    let text = large("", 10) + &good(300) + "/^[0-9]{4}$/\n";
    let filter = Filter::new(Kind::Block, text.as_bytes());
    let [(Bad::Rule(BadRule::UnfilteredWork), bad)] = filter.tally.bad[..] else {
        panic!("{:?}", filter.tally);
    };
    let lines: Vec<_> = filter.tally.first.iter().map(|bad| bad.line).collect();
    assert!((1..10).contains(&bad), "{:?}", filter.tally);
    assert_eq!(lines, (11 - bad..11).collect::<Vec<_>>());
    assert_eq!(filter.answer("x-tracker299.test", "A"), "block");
    assert_eq!(filter.answer("0123456789a.test", "A"), "block");
    assert_eq!(filter.answer("9123456789a.test", "A"), "pass");
}

#[test]
fn patterns_that_look_for_the_same_texts_are_left_out_and_no_others() {
    let mut text = String::new();
    for number in 0..3000_u32 {
        let letter = |place: u32| ['q', 'z', 'j', 'x'][(number >> (2 * place) & 3) as usize];
        let letters: String = (0..6).map(letter).collect();
        writeln!(text, "/-{letters}[0-9]/").expect("memory");
    }
    let filter = Filter::new(Kind::Block, (text + &good(300)).as_bytes());
    let alike = Bad::Rule(BadRule::AlikeWork);
    let left_out = filter.tally.bad.iter().find(|(bad, _)| *bad == alike);
    assert!(
        left_out.is_some_and(|(_, count)| *count < 2000),
        "{:?}",
        filter.tally.bad
    );
    assert_eq!(filter.tally.rules, 3300 - filter.tally.bad_total());
    for number in 0..300 {
        let name = format!("x-tracker{number}.test");
        assert_eq!(
            filter.answer(&name, "A"),
            "block",
            "{name} {:?}",
            filter.tally.bad
        );
    }
    assert_eq!(filter.answer("x-qqqqqq1.test", "A"), "block");
}

#[test]
fn exceptions_have_room_before_the_patterns_that_block() {
    let text = large("", 10) + "@@/^7[0-9]{9}[a-z]/\n";
    let filter = Filter::new(Kind::Block, text.as_bytes());
    assert_eq!(filter.answer("7123456789a.test", "A"), "allow");
    assert!(filter.tally.first.iter().all(|bad| bad.line < 11));
    assert!(filter.tally.bad_total() > 0);
}

#[test]
fn an_exception_that_leaves_out_its_own_names_takes_nothing_and_costs_no_room() {
    let exceptions = "@@||x.a.test^$dnsrewrite,dnstype=A,denyallow=a.test\n".repeat(40);
    let text = format!("||a.test^$dnsrewrite=192.0.2.1\n{exceptions}");
    let filter = Filter::new(Kind::Block, text.as_bytes());
    assert_eq!((filter.tally.rules, filter.tally.bad_total()), (1, 0));
    assert_eq!(filter.answer("x.a.test", "A"), "A 192.0.2.1");
}

#[test]
fn names_below_others_in_an_exception_are_no_parts_of_their_own() {
    let below: String = (0..50)
        .map(|number| format!("|n{number}.b.a.test"))
        .collect();
    let text = format!(
        "||a.test^$dnsrewrite=192.0.2.1\n@@||a.test^$dnsrewrite,denyallow=b.a.test{below}\n"
    );
    let filter = Filter::new(Kind::Block, text.as_bytes());
    assert_eq!((filter.tally.rules, filter.tally.bad_total()), (1, 0));
    assert_eq!(filter.answer("n1.b.a.test", "A"), "A 192.0.2.1");
    assert_eq!(filter.answer("a.test", "A"), "pass");
}

/// Names below a.test, separated by bars.
fn names(start: &str, count: usize) -> String {
    let names: Vec<_> = (0..count)
        .map(|name| format!("{start}{name}.a.test"))
        .collect();
    names.join("|")
}

#[test]
fn rewrites_that_exceptions_divide_too_often_leave_no_room_for_others() {
    let mut text = "||a.test^$dnsrewrite=192.0.2.1\n||b.test^$dnsrewrite=192.0.2.2\n".to_owned();
    for number in 0..63 {
        let (rtype, names) = (1000 + number, names("", 170));
        writeln!(
            text,
            "@@||a.test^$dnsrewrite,dnstype=TYPE{rtype},denyallow={names}"
        )
        .expect("memory");
    }
    text.push_str("@@|b.test^$dnsrewrite,dnstype=A\n||c.test^$dnsrewrite=192.0.2.3\n");
    let filter = Filter::new(Kind::Block, text.as_bytes());
    assert_eq!(
        filter.tally.bad,
        [(Bad::Rule(BadRule::TooManyParts), 2)],
        "{:?}",
        filter.tally.first
    );
    assert_eq!(filter.answer("c.test", "A"), "A 192.0.2.3");
}

#[test]
fn a_part_of_a_rewrite_that_is_no_rule_does_not_affect_the_others() {
    let mut text = "||a.test^$dnsrewrite=192.0.2.1,denyallow=x.a.test|y.a.test\n\
                    @@||a.test^$dnsrewrite,dnstype=A,denyallow=good.a.test\n"
        .to_owned();
    for name in names("n", 999).split('|') {
        writeln!(text, "@@||{name}^$dnsrewrite,dnstype=AAAA").expect("memory");
    }
    let filter = Filter::new(Kind::Block, text.as_bytes());
    let problem = Bad::Rule(BadRule::PartLeavesOutTooMuch);
    assert_eq!(filter.tally.bad, [(problem, 1)]);
    assert_eq!(filter.answer("good.a.test", "A"), "A 192.0.2.1");
    assert_eq!(filter.answer("a.test", "A"), "pass");
    assert_eq!(filter.answer("a.test", "TXT"), "NODATA");
}
