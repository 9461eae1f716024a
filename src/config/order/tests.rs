//! Tests of whole order files.

use super::*;
use crate::policy::rule::{Action, Scope};

mod many;
mod remedies;

const GOOD: &str = r#"
id = "id-2017-07-14"
legal-basis = ["Permenkominfo 19/2014"]
category = "terrorism"
issued-at = 2017-07-14T10:00:00+07:00
effective-from = 2017-07-14T11:30:00+07:00
comply-by = 2017-07-15T00:00:00+07:00
review-at = 2018-01-14T00:00:00+07:00
expires-at = 2019-01-14T00:00:00+07:00
lifted-at = 2017-08-10T10:46:00+07:00
lift-reason = "a procedure was agreed on"
suspended = [{ from = 2017-07-20T00:00:00+07:00, until = 2017-07-21T00:00:00+07:00, reason = "talks" }]
supersedes = ["id-2017-07-01"]
action = "nodata"
sinkhole = ["192.0.2.1", "2001:db8::1"]

[authority]
name = "Kementerian Komunikasi dan Informatika"
country = "ID"
unit = "Direktorat Jenderal Aplikasi Informatika"
contact = "aduan@example.go.id"

[decision]
reference = "1/2017"
date = 2017-07-14

[reason]
en = "content of radicalism"
id = "muatan radikalisme"

[public-text]
en = "Blocked by order"

[redress]
how = "Write to the ministry"
deadline = "21 days"

[[notices]]
sent-at = 2016-03-29T00:00:00+07:00
channel = "e-mail"
to = "abuse@telegram.org"
reply-due = 2016-04-12T00:00:00+07:00

[[targets]]
name = "web.telegram.org"
scope = "exact"

[[targets]]
name = "münchen.example"
scope = "subtree"
except = ["www.münchen.example", ".frei.münchen.example"]
"#;

fn outcome(text: &str) -> String {
    match Order::parse(text, Path::new("o.toml")) {
        Ok(order) => format!("{order:?}"),
        Err(problems) => problems.to_string(),
    }
}

/// The outcome of the good order with `other` in place of `line`.
fn with(line: &str, other: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    outcome(&GOOD.replacen(line, other, 1))
}

/// The good order without the table or array of tables that starts with `header`.
fn without_section(header: &str) -> String {
    let start = GOOD.find(header).expect("it is there");
    let rest = &GOOD[start + 1..];
    let end = rest.find("\n[").map_or(GOOD.len(), |at| start + 1 + at + 1);
    outcome(&format!("{}{}", &GOOD[..start], &GOOD[end..]))
}

#[test]
fn a_date_that_means_never_is_rejected_with_a_remedy() {
    let expires = "expires-at = 2019-01-14T00:00:00+07:00";
    let never = with(expires, "expires-at = 9999-12-31T23:59:59Z");
    assert!(
        never.contains("is after the last instant") && never.contains("no end, leave it out"),
        "{never}"
    );
    let review = "review-at = 2018-01-14T00:00:00+07:00";
    let never = with(review, "review-at = 9999-12-31T00:00:00-01:00");
    assert!(
        never.contains("write 9999-12-30T22:00:00Z at the latest"),
        "{never}"
    );
}

#[test]
fn all_keys_of_an_order_are_read() {
    let order = Order::parse(GOOD, Path::new("o.toml")).expect("valid");
    assert_eq!(order.authority.country.as_deref(), Some("ID"));
    assert_eq!(order.reason["id"], "muatan radikalisme");
    assert_eq!(
        order.dates.effective_from.to_string(),
        "2017-07-14T11:30:00+07:00"
    );
    assert_eq!(order.dates.suspended.len(), 1);
    assert_eq!(order.notices[0].channel.as_deref(), Some("e-mail"));
    assert_eq!(order.action, Some(Action::Nodata));
    let names: Vec<_> = order.targets.iter().map(|t| t.name.to_string()).collect();
    assert_eq!(names, ["web.telegram.org", "xn--mnchen-3ya.example"]);
    let except: Vec<_> = order.targets[1].except.iter().map(|e| e.scope).collect();
    assert_eq!(except, [Scope::Exact, Scope::Subtree]);
}

#[test]
fn missing_required_keys_of_an_order_are_named() {
    let line = |line: &str| with(line, "");
    for (problem, found) in [
        ("`id`", line("id = \"id-2017-07-14\"\n")),
        (
            "`legal-basis`",
            line("legal-basis = [\"Permenkominfo 19/2014\"]"),
        ),
        ("`legal-basis`", with("[\"Permenkominfo 19/2014\"]", "[]")),
        ("`review-at`", line("review-at = 2018-01-14T00:00:00+07:00")),
        ("`authority`", without_section("[authority]")),
        (
            "`authority.name`",
            line("name = \"Kementerian Komunikasi dan Informatika\""),
        ),
        ("`reason`", without_section("[reason]")),
        ("`redress`", without_section("[redress]")),
        ("`redress.how`", line("how = \"Write to the ministry\"")),
        ("`targets.scope`", line("scope = \"subtree\"\n")),
        ("`targets.name`", line("name = \"web.telegram.org\"")),
    ] {
        let wanted = format!("the order has no {problem}: add ");
        assert!(found.starts_with("o.toml:"), "{found}");
        assert!(found.contains(&wanted), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn an_order_without_effective_from_begins_when_it_was_issued() {
    let text = GOOD.replace("effective-from = 2017-07-14T11:30:00+07:00", "");
    let order = Order::parse(&text, Path::new("o.toml")).expect("valid");
    assert_eq!(Some(order.dates.effective_from), order.dates.issued_at);
    let text = text.replace("issued-at = 2017-07-14T10:00:00+07:00", "");
    assert!(outcome(&text).contains("the order has no `effective-from`"));
}

#[test]
fn dates_in_the_wrong_order_are_reported_with_both() {
    for (line, other, problem) in [
        (
            "effective-from = 2017-07-14T11:30",
            "effective-from = 2017-07-14T09:30",
            "effective-from is 2017-07-14T09:30:00+07:00, before issued-at, which is \
             2017-07-14T10:00:00+07:00: correct one of them",
        ),
        (
            "lifted-at = 2017-08",
            "lifted-at = 2017-06",
            "lifted-at is 2017-06-10T10:46:00+07:00, before issued-at, which is",
        ),
        (
            "expires-at = 2019",
            "expires-at = 2016",
            "expires-at is 2016-01-14T00:00:00+07:00, before effective-from, which is",
        ),
        (
            "review-at = 2018",
            "review-at = 2017",
            "review-at is 2017-01-14T00:00:00+07:00, before effective-from, which is",
        ),
        (
            "until = 2017-07-21",
            "until = 2017-07-19",
            "until is 2017-07-19T00:00:00+07:00, before from, which is",
        ),
        (
            "reply-due = 2016",
            "reply-due = 2015",
            "reply-due is 2015-04-12T00:00:00+07:00, before sent-at, which is",
        ),
        (
            "reason = \"talks\" }",
            "}, { from = 2017-07-20T12:00:00+07:00 }",
            "from is 2017-07-20T12:00:00+07:00, before the end of the previous suspension, which is \
             2017-07-21T00:00:00+07:00",
        ),
        (
            "expires-at = 2019-01-14T00:00:00",
            "expires-at = 2017-07-14T11:30:00",
            "expires-at is when the order begins: it would never be in force",
        ),
        (
            "lifted-at = 2017-08-10T10:46:00+07:00",
            "",
            "lift-reason is set without lifted-at: add when it was lifted",
        ),
    ] {
        let found = with(line, other);
        assert!(found.contains(problem), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn texts_of_several_lines_have_no_other_control_characters() {
    let problem = "without control and format characters";
    let lines = [
        ("en = \"content of radicalism\"", "reason"),
        ("lift-reason = \"a procedure was agreed on\"", "lift-reason"),
    ];
    for (line, key) in lines {
        let (field, _) = line.split_once(" = ").expect("a field");
        let good = with(line, &format!("{field} = \"\"\"one\ntwo\"\"\""));
        assert!(good.contains("one\\ntwo"), "{good}");
        for escape in ["\\u001b[2J", "\\u202e", "\\r"] {
            let found = with(line, &format!("{field} = \"a{escape}b\""));
            assert!(found.contains(&format!("{key} is ")), "{found}");
            assert!(found.contains(problem), "{found}");
        }
    }
    let found = with("reason = \"talks\"", "reason = \"\\u202e\"");
    assert!(found.contains(problem), "{found}");
}

#[test]
fn an_order_may_be_lifted_before_it_begins() {
    let lifted = with(
        "lifted-at = 2017-08-10T10:46",
        "lifted-at = 2017-07-14T10:46",
    );
    assert!(lifted.starts_with("Order"), "{lifted}");
}

#[test]
fn targets_that_no_rule_can_express_are_refused() {
    let name = |name: &str| with("name = \"web.telegram.org\"", &format!("name = {name:?}"));
    let except = |except: &str| {
        with(
            "[\"www.münchen.example\", \".frei.münchen.example\"]",
            &format!("[{except:?}]"),
        )
    };
    for (problem, found) in [
        (
            "name is \"192.0.2.1\", an address, not a name",
            name("192.0.2.1"),
        ),
        (
            "name is \"https://t.me/x\", a URL or a path",
            name("https://t.me/x"),
        ),
        ("name is \".t.me\", a name with a scope", name(".t.me")),
        (
            "name is \".\", the root, which covers every name",
            name("."),
        ),
        ("name is \"a..b\", not a domain name", name("a..b")),
        (
            "except holds \"example\", which the target",
            except("example"),
        ),
        (
            "except holds \".münchen.example\", which the target",
            except(".münchen.example"),
        ),
        (
            "scope is \"all\", must be one of exact, subtree, below",
            with("\"exact\"", "\"all\""),
        ),
        (
            "supersedes holds \"id-2017-07-14\", which is the order itself",
            with("\"id-2017-07-01\"", "\"id-2017-07-14\""),
        ),
    ] {
        assert!(found.contains(problem), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn times_need_an_offset_and_no_quotes() {
    for (time, remedy) in [
        (
            "2017-07-14T10:00:00",
            "add the offset from UTC: Z, +07:00, ...",
        ),
        ("\"2017-07-14T10:00:00Z\"", "remove the quotes"),
        ("2017-07-14", "write date, time and offset, without quotes"),
        ("7", "write date, time and offset, without quotes"),
    ] {
        let found = with(
            "issued-at = 2017-07-14T10:00:00+07:00",
            &format!("issued-at = {time}"),
        );
        assert!(found.starts_with("o.toml:5: issued-at is "), "{found}");
        assert!(found.ends_with(remedy), "{found}");
    }
}

#[test]
fn a_misspelt_field_is_reported_with_a_suggestion() {
    let found = with("expires-at", "expires_at");
    assert!(found.contains("unknown key `expires_at`"), "{found}");
    assert!(found.contains("did you mean `expires-at`?"), "{found}");
}

#[test]
fn an_except_must_not_contradict_another_target() {
    let other = |name: &str, scope: &str| {
        outcome(&format!(
            "{GOOD}\n[[targets]]\nname = \"{name}\"\nscope = \"{scope}\"\n"
        ))
    };
    let found = other("a.frei.münchen.example", "exact");
    let problem = "o.toml:48: except leaves frei.xn--mnchen-3ya.example free, but the target \
                   a.frei.xn--mnchen-3ya.example blocks there: correct one of them";
    assert_eq!(found, problem);
    assert!(other("example", "subtree").contains("but the target example blocks there"));
    assert!(other("www.telegram.org", "exact").starts_with("Order"));
}

#[test]
fn an_invalid_field_is_not_reported_as_missing_too() {
    for (line, other, place) in [
        ("id = \"id-2017-07-14\"", "id = 7", "o.toml:2: "),
        (
            "id = \"id-2017-07-14\"",
            "id = \"id-2017-07-14",
            "o.toml:2: ",
        ),
        (
            "legal-basis = [\"Permenkominfo 19/2014\"]",
            "legal-basis = 19",
            "o.toml:3: ",
        ),
        (
            "legal-basis = [\"Permenkominfo 19/2014\"]",
            "legal-basis = [19]",
            "o.toml:3: ",
        ),
        (
            "how = \"Write to the ministry\"",
            "how = true",
            "o.toml:35: ",
        ),
        ("scope = \"exact\"", "scope = 1", "o.toml:46: "),
        (
            "sent-at = 2016-03-29T00:00:00+07:00",
            "sent-at = \"then\"",
            "o.toml:39: ",
        ),
        (
            "review-at = 2018-01-14T00:00:00+07:00",
            "review-at = 2018",
            "o.toml:8: ",
        ),
    ] {
        let found = with(line, other);
        assert_eq!(found.lines().count(), 1, "{found}");
        assert!(found.starts_with(place), "{found}");
    }
}

#[test]
fn a_misspelt_field_of_an_order_is_not_reported_as_missing_too() {
    for (right, wrong) in [
        ("legal-basis", "legal-bases"),
        ("review-at", "reviev-at"),
        ("[authority]", "[authorty]"),
        ("[[targets]]", "[[target]]"),
        ("how = ", "howe = "),
        ("[redress]", "[redres]"),
        ("id = ", "ids = "),
    ] {
        let found = outcome(&GOOD.replace(right, wrong));
        assert!(found.contains("unknown key `"), "{wrong}: {found}");
        assert_eq!(found.lines().count(), 1, "{wrong}: {found}");
    }
}
