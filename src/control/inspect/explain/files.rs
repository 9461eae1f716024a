//! Explains by the lists, orders and exceptions in their files, or, for a past moment, by the journal.

use std::path::PathBuf;

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;

use super::{Explanation, Query, RuleLine, precedence, rules_in_file, source_label};
use crate::config::Config;
use crate::control::admin::verdict::{Outcome, Question, Verdict};
use crate::control::guard::policy::GuardPolicy;
use crate::control::inspect::policy_at::{ListRule, PolicyAt};
use crate::control::journal::past::Served;
use crate::policy::image::TooLarge;
use crate::policy::snapshot::Snapshot;

/// Answers a query under a snapshot, by the code that serves.
pub type Respond<'a> =
    dyn Fn(&Snapshot, &Question) -> Result<Verdict, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The rules that match are too many for an image.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The query could not be answered.
    #[error(transparent)]
    Respond(Box<dyn std::error::Error + Send + Sync>),
}

/// Explains how a query is answered now, or at `moment`. A past moment is explained by `journal`, the journal's files
/// with the oldest first, or by the configuration's journal if there are none; a future one by the files as they are.
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
        let by = by.as_ref().map(|by| format!(" by {}", source_label(by)));
        left_out.push(format!(
            "by the dates in these files it would be: {outcome}{}",
            by.unwrap_or_default()
        ));
        verdict = undecided(verdict, Outcome::Unknown);
    }
    if let Some(before) = policy
        .is_fresh()
        .then(|| policy.before(config, &guard_policy, journal))
        .flatten()
        && before.served == Served::Yes
    {
        let (snapshot, _) = self::snapshot(&before, query)?;
        let was = self::verdict(&before, &snapshot, query, respond)?;
        if (was.outcome, &was.answer) != (verdict.outcome, &verdict.answer) {
            verdict = undecided(verdict, Outcome::Unknown);
            left_out.push(
                "a new generation was being put in force at that moment, and the one before decides otherwise"
                    .to_owned(),
            );
        }
    }
    let rules = rules(
        &policy,
        &snapshot,
        &guard_policy,
        query,
        &rules_of_lists,
        &mut left_out,
    );
    let as_of = moment.map(|_| match policy.in_force {
        Some(generation) => format!("as of {at}, generation {generation} by the journal"),
        None if at > now => format!(
            "as of {at}, which is to come: by the files as they are, with orders and exceptions by their dates"
        ),
        None => format!("as of {at}"),
    });
    Ok(Explanation {
        notes: as_of.into_iter().collect(),
        ..Explanation::new(query, registry, at, verdict, rules, left_out)
    })
}

/// All rules that match, in the order of the sources.
fn rules(
    policy: &PolicyAt,
    snapshot: &Snapshot,
    guard_policy: &GuardPolicy,
    query: &Query,
    of_lists: &[ListRule],
    left_out: &mut Vec<String>,
) -> Vec<RuleLine> {
    let of_orders = policy.registry.matching(&query.name);
    let mut rules = Vec::new();
    for source in snapshot.sources() {
        let mut lists = policy.lists.iter();
        let Some(at) = lists.position(|past| past.list.source.name == source.name) else {
            let found = of_orders.get(&source.name).into_iter().flatten();
            rules.extend(found.map(|(owner, scope)| RuleLine::new(source, owner, *scope)));
            continue;
        };
        let past = &policy.lists[at];
        let mut of_list = match past.is_file {
            true => rules_in_file(&past.list, guard_policy, &query.name, left_out),
            false => Vec::new(),
        };
        if of_list.is_empty() {
            let found = of_lists.iter().filter(|rule| rule.list == at);
            let mut found: Vec<_> = found.collect();
            found.sort_by_key(|rule| precedence(&rule.owner, rule.scope));
            let found = found.into_iter();
            of_list = found
                .map(|rule| RuleLine::new(source, &rule.owner, rule.scope))
                .collect();
        }
        rules.extend(of_list);
    }
    rules
}

/// The snapshot by which the client is answered, and the rules of lists that match.
fn snapshot(policy: &PolicyAt, query: &Query) -> Result<(Snapshot, Vec<ListRule>), TooLarge> {
    let (mut snapshot, matching) = policy.snapshot_for(&query.name)?;
    if query.client.is_none() {
        let everybody = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        snapshot.clients = everybody.iter().collect();
    }
    Ok((snapshot, matching))
}

/// How the client is answered, as far as that is known.
fn verdict(
    policy: &PolicyAt,
    snapshot: &Snapshot,
    query: &Query,
    respond: &Respond<'_>,
) -> Result<Verdict, ExplainError> {
    let verdict = respond(snapshot, &query.question()).map_err(ExplainError::Respond)?;
    let decided = snapshot.decide(&query.name);
    Ok(match policy.served {
        Served::Stopped(_) => undecided(verdict, Outcome::Stopped),
        Served::Unknown(_) | Served::Incomplete(_) => undecided(verdict, Outcome::Unknown),
        Served::Unrecorded => verdict,
        // Which clients may ask does not depend on lists.
        Served::Yes
            if verdict.outcome != Outcome::Refused && policy.is_open(snapshot, &decided) =>
        {
            undecided(verdict, Outcome::Unknown)
        }
        Served::Yes => verdict,
    })
}

/// The verdict with that outcome, and without the parts that an unknown outcome does not have.
fn undecided(verdict: Verdict, outcome: Outcome) -> Verdict {
    Verdict {
        outcome,
        chain: None,
        by: None,
        answer: None,
        ..verdict
    }
}
