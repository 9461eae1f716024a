//! Explains how the running server answers a query, with line numbers from the files that it loaded.

use jiff::Timestamp;

use super::in_file::{complete, complete_filter, rules_in_file};
use super::{Explanation, Query, RuleLine, left_out_text};
use crate::config::paths::{is_of_feed, section};
use crate::config::shown::{Show, counted};
use crate::config::{Config, Content, Format, List};
use crate::control::admin::status::{ListStatus, Status};
use crate::control::admin::verdict::{MatchingRule, QueryVerdict};
use crate::control::guard::policy::GuardPolicy;
use crate::control::list_file::file::digest;
use crate::control::sources::orders::registry::OrderRegistry;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// Adds to the server's verdict the line numbers of its rules, and the contents of its orders and exceptions. Both are
/// read from the files of the server's configuration.
pub fn explain(
    config: &Config,
    query: &Query,
    status: &Status,
    verdict: QueryVerdict,
) -> Explanation {
    let guard_policy = GuardPolicy::read(config);
    let registry = OrderRegistry::read(config);
    let mut left_out = registry.problems();
    left_out.extend_from_slice(guard_policy.problems());
    let (mut rules, mut notes) = (Vec::new(), verdict.notes.clone());
    for (source, its_rules) in by_source(&verdict.rules) {
        let in_force = || its_rules.iter().copied().map(RuleLine::in_force);
        match find(config, status, source) {
            None => rules.extend(in_force()),
            Some((list, state)) => {
                let mut found = rules_in_file(list, &guard_policy, &query.name, &mut left_out);
                if is_as_loaded(list, state) {
                    match list.format {
                        Format::Adblock => complete_filter(&mut found, &its_rules),
                        _ => complete(&mut found, &its_rules),
                    }
                } else {
                    let in_file = std::mem::replace(&mut found, in_force().collect());
                    for rule in &mut found {
                        let same = in_file.iter().find(|other| other.rule == rule.rule);
                        rule.line = same.and_then(|same| same.line);
                    }
                }
                rules.extend(found);
            }
        }
    }
    for state in &status.lists {
        let name = &state.name;
        if let Some(alarm) = &state.alarm {
            notes.push(format!("{} {name}: {alarm}", section(&state.path)));
        }
        let has_no_rule = verdict.rules.iter().all(|rule| rule.source != *name);
        if is_of_feed(&state.path) {
            left_out.extend(left_out_of_feed(state, &query.name));
        } else if let Some((list, _)) = find(config, status, name)
            && has_no_rule
            && state.left_out.iter().any(|left| left.count > 0)
        {
            // Only `left_out` is of interest here.
            rules_in_file(list, &guard_policy, &query.name, &mut left_out);
        }
    }
    Explanation {
        generation: Some(verdict.generation),
        notes,
        ..Explanation::new(query, &registry, Timestamp::now(), verdict, rules, left_out)
    }
}

/// The rules of each source, the source of highest precedence first.
fn by_source(rules: &[MatchingRule]) -> Vec<(&str, Vec<&MatchingRule>)> {
    let mut sources: Vec<(&str, Vec<_>)> = Vec::new();
    for rule in rules {
        match sources.iter_mut().find(|(name, _)| *name == rule.source) {
            Some((_, its_rules)) => its_rules.push(rule),
            None => sources.push((&rule.source, vec![rule])),
        }
    }
    sources
}

/// The list with this name in the configuration, and its status in the server.
fn find<'f>(
    config: &'f Config,
    status: &'f Status,
    name: &str,
) -> Option<(&'f List, &'f ListStatus)> {
    let list = config.lists.iter().find(|list| list.source.name == name)?;
    let state = status.lists.iter().find(|state| state.name == name)?;
    Some((list, state))
}

/// The rules of a feed that match the name and that guards left out, as far as the server remembers them. Its zone is in no
/// file that could be read again.
fn left_out_of_feed(feed: &ListStatus, name: &Name) -> Vec<String> {
    let (source, path, first) = (&feed.name, &feed.path, &feed.first_left_out);
    let rules = rules_on(name);
    let matching = first.iter().filter(|left| rules.contains(&left.rule));
    let mut texts: Vec<_> = matching
        .map(|left| left_out_text(source, path, left))
        .collect();
    let all: u32 = feed.left_out.iter().map(|left| left.count).sum();
    let unknown = all.saturating_sub(first.len() as u32);
    if unknown > 0 {
        let rules = counted(unknown, "more rule", "more rules");
        texts.push(format!(
            "{source}: {}: {rules}, of which the server knows only the number: whether one of them matches {name} is not \
             known",
            path.shown()
        ));
    }
    texts
}

/// All rules that match a name, in the notation of lists.
fn rules_on(name: &Name) -> Vec<String> {
    let owners = (0..=name.label_count()).map(|labels| {
        let owner = Name::parse(name.ancestor(labels), 0);
        owner.expect("a part of a name is a name").0
    });
    let scopes = [Scope::Exact, Scope::Below, Scope::Subtree];
    let rules = owners.flat_map(|owner| {
        let scopes = scopes.into_iter();
        let matching = scopes.filter(|scope| scope.reaches(&owner, name));
        let rules = matching.map(|scope| scope.notation(&owner));
        rules.collect::<Vec<_>>()
    });
    rules.collect()
}

/// Whether the file has the content that the server loaded, and would be read with the same scope.
fn is_as_loaded(list: &List, state: &ListStatus) -> bool {
    let now = match list.content {
        Content::Transferred => None,
        Content::File | Content::Embedded(_) => {
            digest(&list.source.path, list.content.embedded()).ok()
        }
    };
    now.is_some() && now == state.digest && list.scope == state.scope
}
