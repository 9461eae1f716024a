//! Prints an order, in short or in full.

use std::io::{self, Write};

use jiff::Timestamp;

use crate::config::moment::Moment;
use crate::config::order::State;
use crate::config::order::{Dates, Order, Suspension, Texts};
use crate::config::shown::Show;

/// Whether a moment is in the future, both now and at `at`.
pub(super) fn is_ahead(moment: Timestamp, at: Timestamp) -> bool {
    moment > at.max(Timestamp::now())
}

/// `lifted` or `to be lifted`, and the date; `None` if the order has no lift.
fn lift(dates: &Dates, at: Timestamp) -> Option<(&'static str, Moment)> {
    let lifted = dates.lifted_at?;
    let what = match is_ahead(lifted.at(), at) {
        true => "to be lifted",
        false => "lifted",
    };
    Some((what, lifted))
}

/// Prints an order in short as of `at`: its authority, its reasons and its dates.
pub(super) fn print_summary(order: &Order, at: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let Order { id, dates, .. } = order;
    let (authority, from) = (&order.authority.name, dates.effective_from);
    let reference = order.decision.reference.as_ref();
    let reference = reference.map_or(String::new(), |reference| format!(", {reference}"));
    writeln!(
        out,
        "  order {id}: {authority}{reference}, in force from {from}"
    )?;
    writeln!(out, "    legal basis: {}", order.legal_basis.join("; "))?;
    for (language, reason) in &order.reason {
        writeln!(out, "    reason ({language}): {}", folded(reason))?;
    }
    if let Some((what, lifted)) = lift(dates, at) {
        let reason = dates.lift_reason.as_ref();
        let reason = reason.map_or(String::new(), |reason| format!(": {}", folded(reason)));
        let ahead = is_ahead(lifted.at(), at);
        let preposition = if ahead { "at " } else { "" };
        writeln!(out, "    {what} {preposition}{lifted}{reason}")?;
    }
    writeln!(out, "    redress: {}", order.redress.how)
}

/// Prints the first line of an order in full: its state.
pub(super) fn print_headline(order: &Order, state: State, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "order {}: {state} ({})", order.id, order.path.shown())
}

/// Prints all other facts of an order as of `at`, one on each line.
pub(super) fn print_facts(order: &Order, at: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let dates = &order.dates;
    let authority = &order.authority;
    let more = [&authority.country, &authority.unit, &authority.contact];
    let more: Vec<_> = more.into_iter().flatten().map(String::as_str).collect();
    let more = match more.is_empty() {
        true => String::new(),
        false => format!(" ({})", more.join(", ")),
    };
    writeln!(out, "  authority: {}{more}", authority.name)?;
    if let Some(reference) = &order.decision.reference {
        writeln!(out, "  decision: {reference}")?;
    }
    if let Some(date) = order.decision.date {
        writeln!(out, "  decided: {date}")?;
    }
    writeln!(out, "  legal basis: {}", order.legal_basis.join("; "))?;
    if let Some(category) = &order.category {
        writeln!(out, "  category: {category}")?;
    }
    texts("reason", &order.reason, out)?;
    texts("public text", &order.public_text, out)?;
    let moments = [
        ("issued", dates.issued_at),
        ("in force from", Some(dates.effective_from)),
        ("to be in force by", dates.comply_by),
        ("review", Some(dates.review_at)),
        ("expires", dates.expires_at),
    ];
    for (what, moment) in moments {
        if let Some(moment) = moment {
            writeln!(out, "  {what}: {moment}")?;
        }
    }
    if let Some((what, lifted)) = lift(dates, at) {
        writeln!(out, "  {what}: {lifted}")?;
        if let Some(reason) = &dates.lift_reason {
            writeln!(out, "  {what} because: {}", folded(reason))?;
        }
    }
    for pause in &dates.suspended {
        writeln!(out, "  suspended: {}{}", span(pause), reason(pause))?;
    }
    let deadline = order.redress.deadline.as_ref();
    let deadline = deadline.map_or(String::new(), |deadline| format!(" ({deadline})"));
    writeln!(out, "  redress: {}{deadline}", order.redress.how)?;
    for notice in &order.notices {
        let channel = notice.channel.as_deref().unwrap_or("notice");
        let to = notice
            .to
            .as_ref()
            .map_or(String::new(), |to| format!(" to {to}"));
        let reply = match (notice.replied_at, notice.reply_due) {
            (Some(at), _) => format!(", answered {at}"),
            (None, Some(due)) => format!(", no answer, due {due}"),
            (None, None) => ", no answer".to_owned(),
        };
        writeln!(out, "  {channel}{to}: {}{reply}", notice.sent_at)?;
    }
    for id in &order.supersedes {
        writeln!(out, "  supersedes: {id}")?;
    }
    for target in &order.targets {
        let except = target.except.iter();
        let except = except.map(|except| except.scope.notation(&except.name));
        let except: Vec<_> = except.collect();
        let except = match except.is_empty() {
            true => String::new(),
            false => format!(", but not {}", except.join(", ")),
        };
        writeln!(
            out,
            "  target: {}{except}",
            target.scope.notation(&target.name)
        )?;
    }
    Ok(())
}

/// The period of a suspension: `from TIME until TIME`.
pub(super) fn span(pause: &Suspension) -> String {
    let until = pause.until.map(|at| at.to_string());
    let until = until.as_deref().unwrap_or("further notice");
    format!("from {} until {until}", pause.from)
}

fn reason(pause: &Suspension) -> String {
    let reason = pause.reason.as_ref();
    reason.map_or(String::new(), |why| format!(": {}", folded(why)))
}

/// Prints an order that is not in force: what [`print_summary`] prints, and its current suspension.
pub(super) fn print_idle(
    order: &Order,
    state: State,
    pause: Option<&Suspension>,
    at: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "  not in force, {state}:")?;
    print_summary(order, at, out)?;
    match pause {
        Some(pause) => writeln!(out, "    suspended {}{}", span(pause), reason(pause)),
        None => Ok(()),
    }
}

fn texts(what: &str, texts: &Texts, out: &mut impl Write) -> io::Result<()> {
    for (language, text) in texts {
        writeln!(out, "  {what} ({language}): {}", folded(text))?;
    }
    Ok(())
}

/// A text with a mark before each line but the first, so that none of its lines can be mistaken for a line that this
/// program writes itself.
fn folded(text: &str) -> String {
    text.trim_end().replace('\n', "\n        | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_an_authoritys_text_can_not_be_mistaken_for_one_of_ours() {
        let mut text = String::from("r\n  lifted: 2020-01-01T00:00:00Z\norder s-2: in force\n");
        let mut shown = Vec::new();
        let reasons = [("en".to_owned(), std::mem::take(&mut text))];
        texts("reason", &reasons.into_iter().collect(), &mut shown).expect("written");
        let shown = String::from_utf8(shown).expect("text");
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(
            lines[1..].iter().all(|line| line.starts_with("        | ")),
            "{shown}"
        );
    }
}
