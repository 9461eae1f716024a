//! Prints an explanation.

use std::io::Write;

use crate::cli::answer_text::{RuleText, print_records, print_rule};
use crate::cli::failure::Failure;
use crate::cli::order_text;
use crate::config::shown::Show;
use crate::control::admin::verdict::{Chain, Outcome};
use crate::control::inspect::explain::{Explanation, IdleOrder, source_label};

pub(super) fn print_explanation(
    explanation: &Explanation,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let by = explanation.by.as_ref();
    let path = |source: &str| {
        let mut rules = explanation.rules.iter();
        let rule = rules.find(|rule| rule.source == source)?;
        Some(rule.path.as_path())
    };
    let of = by.map_or(String::new(), |by| {
        format!(" by {}", source_label(by, path(by)))
    });
    writeln!(out, "{}: {}{of}", explanation.name, explanation.decision)?;
    for rule in &explanation.rules {
        let text = RuleText {
            rule: &rule.rule,
            kind: rule.kind,
            source: &rule.source,
            path: &rule.path,
            line: rule.line,
            role: rule.role,
            more: &mut rule.text.iter().chain(&rule.records),
        };
        print_rule(text, out)?;
    }
    for order in &explanation.orders {
        order_text::print_summary(order, explanation.at, out)?;
    }
    for IdleOrder {
        state,
        pause,
        order,
    } in &explanation.idle
    {
        order_text::print_idle(order, *state, pause.as_ref(), explanation.at, out)?;
    }
    for exception in &explanation.exceptions {
        let (reason, author) = (&exception.reason, &exception.author);
        let until = exception
            .until
            .map_or(String::new(), |at| format!(", until {at}"));
        let (path, line) = (exception.path.shown(), exception.line);
        writeln!(
            out,
            "  exception ({path}:{line}): {reason}, by {author}{until}"
        )?;
    }
    match &explanation.answer {
        Some(answer) => {
            writeln!(out, "  answer to {}: {}", explanation.r#type, answer.rcode)?;
            print_records(answer, "    ", out)?;
        }
        None => match (explanation.decision, explanation.chain) {
            (Outcome::Blocked, _) => writeln!(out, "  no answer is sent")?,
            (_, Some(Chain::None)) => writeln!(out, "  the query is forwarded")?,
            (_, Some(Chain::Orders)) => writeln!(
                out,
                "  the query is forwarded; an order may still block the target of a CNAME in the answer, as orders take \
                 precedence over allow lists"
            )?,
            (_, Some(Chain::NotExcepted)) => writeln!(
                out,
                "  the query is forwarded; rules that the exception does not override may still block the target of a \
                 CNAME in the answer"
            )?,
            (_, Some(Chain::All)) => writeln!(
                out,
                "  the query is forwarded; a CNAME in the answer may still lead to a blocked name"
            )?,
            (_, None) => {}
        },
    }
    for note in &explanation.notes {
        writeln!(out, "  note: {note}")?;
    }
    for list in &explanation.left_out {
        writeln!(out, "  left out: {list}")?;
    }
    if let Some(generation) = explanation.generation {
        writeln!(out, "  by the running server, generation {generation}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::inspect::explain::RuleLine;
    use crate::policy::explain::Role;
    use crate::policy::rule::Kind;

    #[test]
    fn a_rule_is_printed_with_its_role() {
        let rule = |source: &str, role| RuleLine {
            source: source.to_owned(),
            kind: Kind::Block,
            rule: "www.example".to_owned(),
            scope: None,
            role,
            path: source.into(),
            text: None,
            line: None,
            records: Vec::new(),
        };
        let explanation = Explanation {
            at: jiff::Timestamp::UNIX_EPOCH,
            name: "www.example".to_owned(),
            r#type: "A".to_owned(),
            client: None,
            address: None,
            generation: None,
            decision: Outcome::Upstream,
            chain: None,
            by: None,
            rules: vec![
                rule("a", Some(Role::LogOnly)),
                rule("b", Some(Role::Ignored)),
                rule("c", Some(Role::Decides)),
                rule("d", Some(Role::Loses)),
                rule("e", None),
            ],
            orders: Vec::new(),
            idle: Vec::new(),
            exceptions: Vec::new(),
            answer: None,
            notes: Vec::new(),
            left_out: Vec::new(),
        };
        let mut out = Vec::new();
        print_explanation(&explanation, &mut out).expect("a vector takes all");
        let printed = "www.example: upstream
  also www.example (block, list a, a) (logged only)
  also www.example (block, list b, b) (ignored because of an exception)
  rule www.example (block, list c, c)
  also www.example (block, list d, d)
  also www.example (block, list e, e)
";
        assert_eq!(String::from_utf8_lossy(&out), printed);
    }
}
