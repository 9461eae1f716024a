//! Validates an order: required keys, the bounds of each field, the order of its dates.

use std::fmt::Display;
use std::path::Path;

use jiff::Timestamp;

use super::super::blocking::{ACTIONS, sinkhole};
use super::super::findings::{Findings, quote};
use super::super::reader::{self, At, Strings};
use super::super::values::{
    SCOPES, choice, each, language, line, non_empty, plain_name, prose, public_text, rule_name,
};
use super::contradictions;
use super::raw::{self, Raw};
use super::types::{
    Authority, Dates, Decision, Except, Notice, Order, REVIEW, Redress, Suspension, Target, Texts,
};
use crate::config::moment::Moment;
use crate::names::typed;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// The maximum number of targets of an order, and of the excepts of all its targets together. Each takes about 400
/// bytes of memory while the server has the order.
const TARGETS_MAX: usize = 100_000;
/// The maximum numbers of notices and suspensions of an order, and of orders that it supersedes.
const ITEMS_MAX: usize = 1000;

/// Validates an order; `None` if a required key is missing or invalid, which is reported.
pub(super) fn validate(raw: Raw, path: &Path, findings: &mut Findings) -> Option<Order> {
    if !is_within_bounds(&raw, findings) {
        return None;
    }
    let id = required(raw.id, "id = \"...\"", 1, findings);
    let id = plain_name(id, findings);
    let authority = authority(raw.authority, findings);
    let decision = raw.decision.map(|given| decision(given.value, findings));
    let legal_basis = legal_basis(raw.legal_basis, findings);
    let category = line(raw.category, findings);
    let remedy = "reason = { en = \"...\" }";
    let reason = required(raw.reason, remedy, 1, findings);
    let reason = texts(reason, findings, |text, findings| {
        prose(non_empty(text, findings), findings)
    });
    let public = texts(raw.public_text, findings, public_text);
    let dates = dates(raw.dates, findings);
    let redress = redress(raw.redress, findings);
    let notices = raw.notices.into_iter();
    let notices: Vec<_> = notices.map(|given| notice(given, findings)).collect();
    let action = choice(raw.action, ACTIONS, findings);
    let sinkhole = sinkhole(raw.sinkhole, findings);
    let supersedes = ids(raw.supersedes, id.as_deref(), findings);
    if raw.targets.is_empty() {
        missing(
            "targets",
            "one [[targets]] with name and scope for each name",
            1,
            findings,
        );
    }
    let lines: Vec<_> = raw.targets.iter().map(|target| target.line).collect();
    let targets = raw.targets.into_iter();
    let targets: Vec<_> = targets.map(|given| target(given, findings)).collect();
    let targets: Option<Vec<_>> = targets.into_iter().collect();
    contradictions::report(targets.as_deref().unwrap_or_default(), &lines, findings);
    Some(Order {
        id: id?,
        path: path.to_owned(),
        authority: authority?,
        decision: decision.unwrap_or_default(),
        legal_basis: legal_basis?,
        category,
        reason: reason?,
        public_text: public.unwrap_or_default(),
        dates: dates?,
        redress: redress?,
        notices: notices.into_iter().collect::<Option<_>>()?,
        action,
        sinkhole,
        supersedes,
        targets: targets.filter(|targets| !targets.is_empty())?,
    })
}

/// Whether the order has no more items than allowed. An order that has more is not validated further.
fn is_within_bounds(raw: &Raw, findings: &mut Findings) -> bool {
    let excepts = raw
        .targets
        .iter()
        .filter_map(|target| target.except.as_ref());
    let excepts = excepts.map(|except| (except.value.len(), except.line));
    let (mut count, mut line) = (0, 1);
    for (more, at) in excepts {
        if count <= TARGETS_MAX {
            line = at;
        }
        count += more;
    }
    let supersedes = raw.supersedes.as_ref();
    let (suspended, notices) = (&raw.dates.suspended, &raw.notices);
    let line_of = |line: Option<u32>| line.unwrap_or(1);
    let counts = [
        (
            "targets",
            raw.targets.len(),
            TARGETS_MAX,
            line_of(raw.targets.get(TARGETS_MAX).map(|target| target.line)),
        ),
        ("excepts in its targets", count, TARGETS_MAX, line),
        (
            "suspensions",
            suspended.len(),
            ITEMS_MAX,
            line_of(suspended.get(ITEMS_MAX).map(|pause| pause.line)),
        ),
        (
            "notices",
            notices.len(),
            ITEMS_MAX,
            line_of(notices.get(ITEMS_MAX).map(|notice| notice.line)),
        ),
        (
            "orders that it supersedes",
            supersedes.map_or(0, |ids| ids.value.len()),
            ITEMS_MAX,
            line_of(supersedes.map(|ids| ids.line)),
        ),
    ];
    let mut within = true;
    for (what, count, most, line) in counts {
        if count > most {
            within = false;
            let message =
                format!("the order has {count} {what}, must be at most {most}: split the order");
            findings.report(line, message);
        }
    }
    within
}

/// Reports that a required key is missing.
fn missing(key: &str, remedy: &str, line: u32, findings: &mut Findings) {
    let mut parts = key.split('.');
    let is_known = parts.any(|part| findings.mistyped.contains(&(line, part)));
    if !findings.damaged.contains(&line) && !is_known {
        findings.report(line, format!("the order has no `{key}`: add {remedy}"));
    }
}

fn required<T>(
    given: Option<At<T>>,
    remedy: &str,
    line: u32,
    findings: &mut Findings,
) -> Option<At<T>> {
    if given.is_none() {
        let key = remedy.split(' ').next().unwrap_or(remedy);
        missing(key, remedy, line, findings);
    }
    given
}

fn authority(given: Option<At<raw::Authority>>, findings: &mut Findings) -> Option<Authority> {
    let remedy = "authority = { name = \"...\" }";
    let At {
        line: at, value, ..
    } = required(given, remedy, 1, findings)?;
    let name = value.name;
    if name.is_none() {
        missing(
            "authority.name",
            "name = \"...\" to [authority]",
            at,
            findings,
        );
    }
    Some(Authority {
        name: line(non_empty(name, findings), findings)?,
        country: country(value.country, findings),
        unit: line(value.unit, findings),
        contact: line(value.contact, findings),
    })
}

fn country(given: Option<At<String>>, findings: &mut Findings) -> Option<String> {
    let At { key, line, value } = given?;
    if value.len() == 2 && value.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Some(value);
    }
    let shown = quote(&value);
    let message =
        format!("{key} is {shown}, must be two capital letters (ISO 3166-1), as in \"ID\"");
    findings.report(line, message);
    None
}

fn decision(raw: raw::Decision, findings: &mut Findings) -> Decision {
    Decision {
        reference: line(raw.reference, findings),
        date: raw.date.map(|date| date.value),
    }
}

fn legal_basis(given: Option<Strings>, findings: &mut Findings) -> Option<Vec<String>> {
    let given = required(given, "legal-basis = [\"...\"]", 1, findings)?;
    let at = given.line;
    let laws = given.value.into_iter();
    let laws: Vec<_> = laws
        .map(|law| line(non_empty(Some(law), findings), findings))
        .collect();
    let laws = laws.into_iter().collect::<Option<Vec<_>>>()?;
    if laws.is_empty() && !findings.mistyped.contains(&(1, "legal-basis")) {
        missing("legal-basis", "the law that it is based on", at, findings);
    }
    (!laws.is_empty()).then_some(laws)
}

/// Texts by language, each validated by `read`.
fn texts(
    given: Option<reader::Texts>,
    findings: &mut Findings,
    read: impl Fn(Option<At<String>>, &mut Findings) -> Option<String>,
) -> Option<Texts> {
    let At { key, line, value } = given?;
    if value.is_empty() {
        findings.report(
            line,
            format!("{key} is empty: add a text, as in {{ en = \"...\" }}"),
        );
    }
    let mut texts = Texts::new();
    for (tag, given) in value {
        let (line, text) = (given.line, read(Some(given), findings));
        let tag = At {
            key,
            line,
            value: tag,
        };
        texts.extend(language(Some(tag), findings).zip(text));
    }
    Some(texts)
}

fn redress(given: Option<At<raw::Redress>>, findings: &mut Findings) -> Option<Redress> {
    let remedy = "redress = { how = \"...\" }";
    let At {
        line: at, value, ..
    } = required(given, remedy, 1, findings)?;
    if value.how.is_none() {
        missing("redress.how", "how = \"...\" to [redress]", at, findings);
    }
    Some(Redress {
        how: line(non_empty(value.how, findings), findings)?,
        deadline: line(value.deadline, findings),
    })
}

/// Reports `second` if it is before `first`.
fn in_order(first: Option<&At<Moment>>, second: Option<&At<Moment>>, findings: &mut Findings) {
    if let (Some(first), Some(second)) = (first, second)
        && first.value > second.value
    {
        wrong_order(second, first.key, first.value, findings);
    }
}

fn wrong_order(second: &At<Moment>, first: &str, instant: impl Display, findings: &mut Findings) {
    let At { key, line, value } = second;
    let message =
        format!("{key} is {value}, before {first}, which is {instant}: correct one of them");
    findings.report(*line, message);
}

fn dates(raw: raw::Dates, findings: &mut Findings) -> Option<Dates> {
    let start = raw
        .effective_from
        .as_ref()
        .or(raw.issued_at.as_ref())
        .cloned();
    let start = required(
        start,
        "effective-from = 2017-07-14T11:30:00+07:00",
        1,
        findings,
    );
    let remedy = format!(
        "review-at = {}",
        review_after(start.as_ref(), Timestamp::now())
    );
    let review_at = required(raw.review_at, &remedy, 1, findings);
    let issued = raw.issued_at.as_ref();
    // An order may be lifted before it begins, but not before it is issued.
    for later in [&raw.effective_from, &raw.comply_by, &raw.lifted_at] {
        in_order(issued, later.as_ref(), findings);
    }
    for later in [review_at.as_ref(), raw.expires_at.as_ref()] {
        in_order(start.as_ref(), later, findings);
    }
    if let (Some(start), Some(expires)) = (&start, &raw.expires_at)
        && start.value == expires.value
    {
        let message = "expires-at is when the order begins: it would never be in force";
        findings.report(expires.line, message.to_owned());
    }
    if let (None, Some(reason)) = (&raw.lifted_at, &raw.lift_reason) {
        let message = "lift-reason is set without lifted-at: add when it was lifted".to_owned();
        findings.report(reason.line, message);
    }
    Some(Dates {
        issued_at: raw.issued_at.map(|at| at.value),
        effective_from: start?.value,
        comply_by: raw.comply_by.map(|at| at.value),
        review_at: review_at?.value,
        expires_at: raw.expires_at.map(|at| at.value),
        suspended: suspensions(raw.suspended, findings)?,
        lifted_at: raw.lifted_at.map(|at| at.value),
        lift_reason: prose(raw.lift_reason, findings),
    })
}

/// The proposed review date of an order that begins at `start`: [`REVIEW`] after `start`, or, if that is not in the
/// future, [`REVIEW`] after `now`.
fn review_after(start: Option<&At<Moment>>, now: Timestamp) -> Moment {
    let start = start.map_or(now, |start| start.value.at());
    let after = |at: Timestamp| at.saturating_add(REVIEW).unwrap_or(Timestamp::MAX);
    let review = if after(start) > now {
        after(start)
    } else {
        after(now)
    };
    Moment::from(review)
}

/// The suspensions of an order, sorted.
fn suspensions(raw: Vec<raw::Suspension>, findings: &mut Findings) -> Option<Vec<Suspension>> {
    let mut all = Vec::new();
    for raw in raw {
        if raw.from.is_none() {
            missing(
                "suspended.from",
                "from = (a time) to it",
                raw.line,
                findings,
            );
        }
        in_order(raw.from.as_ref(), raw.until.as_ref(), findings);
        let from = raw.from?;
        let suspension = Suspension {
            from: from.value,
            until: raw.until.map(|at| at.value),
            reason: prose(raw.reason, findings),
        };
        all.push((from, suspension));
    }
    all.sort_by_key(|(_, suspension)| suspension.from);
    for pair in all.windows(2) {
        let [(_, first), (from, _)] = pair else {
            continue;
        };
        match first.until {
            Some(until) if until <= from.value => {}
            Some(until) => wrong_order(from, "the end of the previous suspension", until, findings),
            None => wrong_order(from, "the end of the previous suspension", "open", findings),
        }
    }
    Some(all.into_iter().map(|(_, suspension)| suspension).collect())
}

fn notice(raw: raw::Notice, findings: &mut Findings) -> Option<Notice> {
    if raw.sent_at.is_none() {
        missing(
            "notices.sent-at",
            "sent-at = (a time) to it",
            raw.line,
            findings,
        );
    }
    in_order(raw.sent_at.as_ref(), raw.reply_due.as_ref(), findings);
    in_order(raw.sent_at.as_ref(), raw.replied_at.as_ref(), findings);
    Some(Notice {
        sent_at: raw.sent_at?.value,
        channel: line(raw.channel, findings),
        to: line(raw.to, findings),
        reply_due: raw.reply_due.map(|at| at.value),
        replied_at: raw.replied_at.map(|at| at.value),
    })
}

fn ids(given: Option<Strings>, own: Option<&str>, findings: &mut Findings) -> Vec<String> {
    let ids = each(given, findings, |id| {
        if Some(id) == own {
            return Err("which is the order itself: remove it".to_owned());
        }
        Ok(id.to_owned())
    });
    ids.unwrap_or_default()
}

fn target(raw: raw::Target, findings: &mut Findings) -> Option<Target> {
    if raw.name.is_none() {
        missing("targets.name", "name = \"...\" to it", raw.line, findings);
    }
    if raw.scope.is_none() {
        let remedy = "scope = \"exact\", \"subtree\" (with all names under it) or \"below\"";
        missing("targets.scope", remedy, raw.line, findings);
    }
    let scope = choice(raw.scope, SCOPES, findings);
    let name = rule_name(raw.name, findings);
    let except = match (&name, scope) {
        (Some(name), Some(scope)) => each(raw.except, findings, |text| except(text, name, scope)),
        _ => None,
    };
    Some(Target {
        name: name?,
        scope: scope?,
        except: except.unwrap_or_default(),
    })
}

/// A name within a target's scope that is not blocked, in the notation of lists: `x`, `.x`, `*.x`.
fn except(text: &str, target: &Name, scope: Scope) -> Result<Except, String> {
    let (name, own) = typed::one(text).map_err(|why| format!("which is {why}"))?;
    let own = own.unwrap_or(Scope::Exact);
    let is_below = name.label_count() > target.label_count()
        && name.ancestor(target.label_count()) == target.wire();
    let at = name == *target && scope == Scope::Subtree && own != Scope::Subtree;
    if scope == Scope::Exact || !(is_below || at) {
        return Err(format!(
            "which the target {target} does not cover anyway: remove it, or correct the scope"
        ));
    }
    Ok(Except { name, scope: own })
}
