//! Explains how a query is answered from the files of lists, orders and exceptions; for a past moment, from the journal.

use std::path::PathBuf;

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;

use super::in_file::{complete, complete_filter, precedence, rules_in_file};
use super::{Explanation, Query, RuleLine, pause_notes, source_label};
use crate::config::{Config, Format};
use crate::control::admin::verdict::{ExplainRequest, Outcome, QueryVerdict};
use crate::control::guard::policy::GuardPolicy;
use crate::control::inspect::policy_at::{ListRule, PolicyAt};
use crate::control::journal::past::Served;
use crate::policy::image::TooLarge;
use crate::policy::snapshot::Snapshot;
use crate::policy::view::ViewId;

/// Answers a query under a snapshot, with the code of the data plane.
pub type Respond<'a> =
    dyn Fn(&Snapshot, &ExplainRequest) -> Result<QueryVerdict, RespondError> + 'a;

/// The error of [`Respond`].
pub type RespondError = Box<dyn std::error::Error + Send + Sync>;

/// A reason why a query can't be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// An image can't hold all matching rules.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The query could not be answered.
    #[error(transparent)]
    Respond(RespondError),
}

/// Explains how a query is answered now, or at `moment`. A past moment is explained from the journal: `journal` has its
/// files, the oldest first; if it is empty, the journal of the configuration is read. A future moment is explained
/// from the present files.
///
/// # Errors
/// [`ExplainError`]
pub fn explain(
    config: &Config,
    query: &Query,
    moment: Option<Timestamp>,
    journal: &[PathBuf],
    respond: &Respond<'_>,
) -> Result<Explanation, ExplainError> {
    let now = Timestamp::now();
    let at = moment.unwrap_or(now);
    let guard_policy = GuardPolicy::read(config);
    let policy = match moment {
        Some(_) if at <= now => PolicyAt::moment(config, &guard_policy, journal, at),
        _ => PolicyAt::now(config, &guard_policy, at),
    };
    let registry = &policy.registry;
    let mut left_out = policy.notes.clone();
    left_out.extend(registry.problems());
    left_out.extend_from_slice(guard_policy.problems());
    let (snapshot, rules_of_lists) = snapshot(&policy, query)?;
    let mut verdict = verdict(&policy, &snapshot, query, respond)?;
    if policy.served == Served::Unrecorded {
        let (outcome, by) = (verdict.outcome, &verdict.by);
        let path = |by: &str| {
            let mut rules = verdict.rules.iter();
            let rule = rules.find(|rule| rule.source == by)?;
            Some(rule.path.as_path())
        };
        let by = by.as_ref();
        let by = by.map(|by| format!(" by {}", source_label(by, path(by))));
        left_out.push(format!(
            "by the dates in these files it would be: {outcome}{}",
            by.unwrap_or_default()
        ));
        verdict = without_decision(verdict, Outcome::Unknown);
    }
    if let Some(before) = policy
        .may_follow_previous()
        .then(|| policy.before(config, &guard_policy, journal))
        .flatten()
        && before.served == Served::Yes
    {
        let (snapshot, _) = self::snapshot(&before, query)?;
        let was = self::verdict(&before, &snapshot, query, respond)?;
        if (was.outcome, &was.answer) != (verdict.outcome, &verdict.answer) {
            verdict = without_decision(verdict, Outcome::Unknown);
            left_out.push(
                "a new generation was being put in force at that moment, and the generation before it gives another decision"
                    .to_owned(),
            );
        }
    }
    let mut rules = rules(
        &policy,
        &snapshot,
        &guard_policy,
        query,
        &rules_of_lists,
        &mut left_out,
    );
    if !matches!(verdict.outcome, Outcome::Stopped | Outcome::Unknown) {
        for (source, lines) in &mut rules {
            let in_force = verdict.rules.iter();
            let in_force = in_force.filter(|rule| rule.source == *source);
            let in_force: Vec<_> = in_force.collect();
            let past = policy.lists.iter().map(|past| &past.list);
            let is_filter = past
                .filter(|list| list.source.name == *source)
                .any(|list| list.format == Format::Adblock);
            match is_filter {
                true => complete_filter(lines, &in_force),
                false => complete(lines, &in_force),
            }
        }
    }
    let rules: Vec<_> = rules.into_iter().flat_map(|(_, lines)| lines).collect();
    let pauses = pause_notes(rules.iter(), |source| policy.pause(source));
    let as_of = moment.map(|_| match policy.in_force {
        Some(generation) => format!("as of {at}, generation {generation} by the journal"),
        None if at > now => format!(
            "as of {at}, in the future: by the present files, with orders and exceptions by their dates"
        ),
        None => format!("as of {at}"),
    });
    Ok(Explanation {
        notes: as_of
            .into_iter()
            .chain(verdict.notes.clone())
            .chain(pauses)
            .collect(),
        ..Explanation::new(query, registry, at, verdict, rules, left_out)
    })
}

/// All matching rules on names by the name of their source, in the order of the sources in the snapshot.
fn rules(
    policy: &PolicyAt,
    snapshot: &Snapshot,
    guard_policy: &GuardPolicy,
    query: &Query,
    list_rules: &[ListRule],
    left_out: &mut Vec<String>,
) -> Vec<(String, Vec<RuleLine>)> {
    let order_rules = policy.registry.matching(&query.name);
    let mut rules = Vec::new();
    for source in snapshot.sources() {
        let mut lists = policy.lists.iter();
        let Some(at) = lists.position(|past| past.list.source.name == source.name) else {
            let found = order_rules.get(&source.name).into_iter().flatten();
            let lines = found.map(|(owner, scope)| RuleLine::new(source, owner, *scope));
            rules.push((source.name.clone(), lines.collect()));
            continue;
        };
        let past = &policy.lists[at];
        let mut lines = match past.is_file_unchanged {
            true => rules_in_file(&past.list, guard_policy, &query.name, left_out),
            false => Vec::new(),
        };
        if lines.is_empty() {
            let found = list_rules.iter().filter(|rule| rule.list == at);
            let mut found: Vec<_> = found.collect();
            found.sort_by_key(|rule| precedence(&rule.owner, rule.scope));
            let found = found.into_iter();
            lines = found
                .map(|rule| RuleLine::new(source, &rule.owner, rule.scope))
                .collect();
        }
        rules.push((source.name.clone(), lines));
    }
    rules
}

/// The snapshot that the query is answered under, and the matching rules of lists. Without a client, all clients may
/// query.
fn snapshot(policy: &PolicyAt, query: &Query) -> Result<(Snapshot, Vec<ListRule>), TooLarge> {
    let (mut snapshot, matching) = policy.snapshot_for(&query.name)?;
    if query.client.is_none() {
        let all_clients = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        snapshot.clients = all_clients.iter().collect();
    }
    Ok((snapshot, matching))
}

/// How the query is answered, or that this is not known.
fn verdict(
    policy: &PolicyAt,
    snapshot: &Snapshot,
    query: &Query,
    respond: &Respond<'_>,
) -> Result<QueryVerdict, ExplainError> {
    let verdict = respond(snapshot, &query.to_request()).map_err(ExplainError::Respond)?;
    let policy_of_type = snapshot.view(ViewId::DEFAULT).for_type(query.rtype);
    let decided = policy_of_type.decide(&query.name);
    Ok(match policy.served {
        Served::Stopped(_) => without_decision(verdict, Outcome::Stopped),
        Served::Unknown(_) | Served::Incomplete(_) => without_decision(verdict, Outcome::Unknown),
        Served::Unrecorded => verdict,
        // Lists don't affect whether a client may query.
        Served::Yes
            if verdict.outcome != Outcome::Refused
                && policy.may_be_overruled(snapshot, &decided) =>
        {
            without_decision(verdict, Outcome::Unknown)
        }
        Served::Yes => verdict,
    })
}

/// The verdict with another outcome, and without rule, chain and answer.
fn without_decision(verdict: QueryVerdict, outcome: Outcome) -> QueryVerdict {
    QueryVerdict {
        outcome,
        chain: None,
        by: None,
        answer: None,
        notes: Vec::new(),
        ..verdict
    }
}
