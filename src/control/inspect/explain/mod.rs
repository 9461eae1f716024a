//! Explains how a name is answered: the decision, and every matching rule with its line in the file.

pub mod files;
pub mod served;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hickory_proto::rr::RecordType;
use jiff::Timestamp;
use serde::Serialize;

use crate::config::exception::Exception;
use crate::config::order::State;
use crate::config::order::{Order, Suspension};
use crate::config::paths::{at, recorded, section};
use crate::config::pause::Pause;
use crate::config::shown::path_text;
use crate::config::{Content, List, regular};
use crate::control::admin::verdict::{
    Answer, Chain, ExplainRequest, MatchingRule, Outcome, QueryVerdict, RuleTrigger,
};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::protected::Guarded;
use crate::control::guard::suppressed::admits_rule;
use crate::control::list_file::file::MAX_FILE;
use crate::control::list_file::parse::{self, ParsedTrigger};
use crate::control::list_file::suppressed::{LeftOut, SuppressedRules};
use crate::control::sources::orders::registry::OrderRegistry;
use crate::policy::explain::Role;
use crate::policy::rpz::{rule_lines, rule_owners};
use crate::policy::rule::{Kind, Scope, Source};
use crate::wire::name::Name;

/// The query to explain.
#[derive(Clone, Debug)]
pub struct Query {
    /// The name.
    pub name: Name,
    /// The record type.
    pub rtype: RecordType,
    /// The client; `None` for any client that may query.
    pub client: Option<IpAddr>,
    /// The address in upstream's answer, if it is assumed to have one.
    pub address: Option<IpAddr>,
}

impl Query {
    /// The query as a request to the control socket.
    pub fn to_request(&self) -> ExplainRequest {
        ExplainRequest {
            name: self.name.to_string(),
            rtype: self.rtype.into(),
            client: self.client,
            address: self.address,
        }
    }
}

/// The explanation of a query's answer.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The moment that is explained.
    #[serde(skip)]
    pub at: Timestamp,
    /// The name of the query.
    pub name: String,
    /// Its record type.
    pub r#type: String,
    /// Its client; `None` for any client that may query.
    pub client: Option<IpAddr>,
    /// The address that upstream's answer is assumed to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The generation in force in the running server; `None` if the explanation is from files.
    pub generation: Option<u64>,
    /// The decision.
    pub decision: Outcome,
    /// The rules that apply to targets of CNAMEs in upstream's answer. `None` if the query is not forwarded.
    pub chain: Option<Chain>,
    /// The source of the rule that decides; `None` if no rule does.
    pub by: Option<String>,
    /// Every matching rule, the one of highest precedence first.
    pub rules: Vec<RuleLine>,
    /// The orders among the sources of these rules.
    pub orders: Vec<Order>,
    /// Orders that have the name among their targets, but are not in force.
    pub idle: Vec<IdleOrder>,
    /// The exceptions among the sources of these rules.
    pub exceptions: Vec<Exception>,
    /// The synthesized answer; `None` if the query is forwarded, or if no answer is sent.
    pub answer: Option<Answer>,
    /// The moment that is explained, or the alarms of the running server about its lists.
    pub notes: Vec<String>,
    /// Reasons why the above may be incomplete: rejected files of lists and orders, matching rules that guards leave
    /// out, and gaps in the record of a past moment.
    pub left_out: Vec<String>,
}

/// An order that is not in force.
#[derive(Debug, Serialize)]
pub struct IdleOrder {
    /// Its state.
    pub state: State,
    /// Its current suspension.
    #[serde(skip)]
    pub pause: Option<Suspension>,
    /// The order.
    #[serde(flatten)]
    pub order: Order,
}

/// A matching rule, and its line in a file.
#[derive(Debug, Serialize)]
pub struct RuleLine {
    /// The list's name, `order:ID`, or `exception:RULE#NUMBER`.
    pub source: String,
    /// The kind of the source.
    pub kind: Kind,
    /// The rule in the notation of lists: `x`, `.x` or `*.x`; a pattern between slashes; `client` or `answer`, and a network.
    pub rule: String,
    /// Which names it matches; `None` if it is not on a name.
    pub scope: Option<Scope>,
    /// Its part in the decision; `None` if the decision is not known.
    pub role: Option<Role>,
    /// The file of the source.
    #[serde(serialize_with = "path_text")]
    pub path: PathBuf,
    /// The first line with the rule; `None` if the file has changed since it was loaded.
    pub line: Option<u32>,
    /// Its records, if it is a rule of a policy zone, with owners relative to the zone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
}

impl Explanation {
    fn new(
        query: &Query,
        registry: &OrderRegistry,
        at: Timestamp,
        verdict: QueryVerdict,
        rules: Vec<RuleLine>,
        left_out: Vec<String>,
    ) -> Self {
        let mut sources: Vec<&str> = Vec::new();
        for rule in &rules {
            if !sources.contains(&&*rule.source) {
                sources.push(&rule.source);
            }
        }
        let orders = sources.iter().filter_map(|source| registry.order(source));
        let exceptions = sources
            .iter()
            .filter_map(|source| registry.exception(source));
        Self {
            at,
            orders: orders.cloned().collect(),
            idle: idle_orders(registry, &query.name, at),
            exceptions: exceptions.cloned().collect(),
            name: query.name.to_string(),
            r#type: query.rtype.to_string(),
            client: query.client,
            address: query.address,
            generation: None,
            decision: verdict.outcome,
            chain: verdict.chain,
            by: verdict.by,
            rules,
            answer: verdict.answer,
            notes: verdict.notes,
            left_out,
        }
    }

    /// Makes all paths of files absolute.
    pub fn make_paths_absolute(&mut self) {
        let rules = self.rules.iter_mut().map(|rule| &mut rule.path);
        let exceptions = self
            .exceptions
            .iter_mut()
            .map(|exception| &mut exception.path);
        let idle = self.idle.iter_mut().map(|idle| &mut idle.order);
        let orders = self.orders.iter_mut().chain(idle);
        let orders = orders.map(|order| &mut order.path);
        for path in rules.chain(exceptions).chain(orders) {
            *path = recorded(path);
        }
    }
}

impl RuleLine {
    fn new(source: &Source, owner: &Name, scope: Scope) -> Self {
        Self {
            source: source.name.clone(),
            kind: source.kind,
            rule: scope.notation(owner),
            scope: Some(scope),
            role: None,
            path: source.path.clone(),
            line: None,
            records: Vec::new(),
        }
    }

    /// A rule in force, without a line number.
    fn in_force(rule: &MatchingRule) -> Self {
        Self {
            source: rule.source.clone(),
            kind: rule.kind,
            rule: rule.trigger.to_string(),
            scope: rule.trigger.scope(),
            role: Some(rule.role),
            path: rule.path.clone(),
            line: None,
            records: rule.records.clone(),
        }
    }
}

/// The name of a source, as it is shown to users: `list ads`, `feed ministry`, `order ID`, `exception NAME`. `path` is that
/// of its rules, if it is known.
pub fn source_label(source: &str, path: Option<&Path>) -> String {
    match source.split_once(':') {
        Some((kind @ ("order" | "exception"), name)) => format!("{kind} {name}"),
        _ => format!("{} {source}", path.map_or("list", section)),
    }
}

/// The orders that have the name among their targets, but are not in force.
fn idle_orders(registry: &OrderRegistry, name: &Name, at: Timestamp) -> Vec<IdleOrder> {
    let all = registry.known().filter(|known| {
        let mut targets = known.order.targets.iter();
        targets.any(|target| {
            let mut except = target.except.iter();
            target.scope.reaches(&target.name, name)
                && !except.any(|except| except.scope.reaches(&except.name, name))
        })
    });
    let idle = all.map(|known| IdleOrder {
        state: known.schedule.state(at),
        pause: known.schedule.pause(at).cloned(),
        order: known.order.clone(),
    });
    idle.filter(|idle| idle.state != State::InForce).collect()
}

/// Sentences about the pauses of the lists that these rules are of. `pause` returns that of a list with this name.
fn pause_notes<'r>(
    rules: impl Iterator<Item = &'r RuleLine>,
    pause: impl Fn(&str) -> Option<Pause>,
) -> Vec<String> {
    let sources: BTreeMap<_, _> = rules.map(|rule| (&*rule.source, &*rule.path)).collect();
    let notes = sources.into_iter().filter_map(|(source, path)| {
        let pause = pause(source)?;
        Some(format!(
            "{} is paused {pause}",
            source_label(source, Some(path))
        ))
    });
    notes.collect()
}

/// The matching rules in a list's file, the one of highest precedence first, each with its first line. Those that
/// guards leave out are added to `left_out`. The file is read again, because images have neither line numbers nor
/// pruned rules.
fn rules_in_file(
    list: &List,
    guard_policy: &GuardPolicy,
    name: &Name,
    left_out: &mut Vec<String>,
) -> Vec<RuleLine> {
    let bytes = match list.content {
        Content::Embedded(text) => text.as_bytes().to_vec(),
        Content::File => regular::read(&list.source.path, MAX_FILE).unwrap_or_default(),
        Content::Transferred => return Vec::new(),
    };
    // The closest encloser of the name, if the list is a policy zone.
    let mut encloser = 0;
    // By rule, in the order of precedence: a file may have the same rule millions of times.
    let (mut found, mut suppressed) = (BTreeMap::new(), SuppressedRules::default());
    let (protected_names, guarded) = (guard_policy.protected_names(), Guarded::from(list));
    parse::read(&bytes, list.into(), list.apex(), |rule| {
        let ParsedTrigger::Name(owner, scope) = rule.trigger else {
            return;
        };
        let reaches = scope.reaches(owner, name);
        let pairs = owner.labels_from_root().zip(name.labels_from_root());
        let shared = match list.zone {
            Some(_) => pairs.take_while(|(one, other)| one == other).count(),
            None => 0,
        };
        if !reaches && shared <= encloser {
            return;
        }
        // Of the suppressed rules, only those that reach the name are reported.
        let unreported = &mut SuppressedRules::default();
        let suppressed = if reaches { &mut suppressed } else { unreported };
        if admits_rule(suppressed, protected_names, guarded, rule) {
            encloser = encloser.max(shared);
            if reaches {
                let effect = rule.effect.filter(|_| list.zone.is_some());
                let records = |effect| rule_lines(&rule_owners(owner, scope), effect);
                let line = || RuleLine {
                    line: Some(rule.line),
                    records: effect.map_or_else(Vec::new, records),
                    ..RuleLine::new(&list.source, owner, scope)
                };
                let found = found.entry(precedence(owner, scope));
                found.or_insert_with(|| (owner.label_count(), line()));
            }
        }
    });
    let (source, path) = (&list.source.name, &list.source.path);
    let texts = suppressed
        .first
        .iter()
        .map(|left| left_out_text(source, path, left));
    left_out.extend(texts);
    let found = found.into_values();
    let found = found.filter(|(labels, _)| *labels >= encloser);
    found.map(|(_, line)| line).collect()
}

/// A rule that a guard left out, and why.
fn left_out_text(source: &str, path: &Path, left: &LeftOut) -> String {
    let (place, rule, why) = (at(path, left.line), &left.rule, &left.why);
    format!("{source}: {place}: {rule}: it {why}")
}

/// Sets the roles of the rules on names that one source's file has, the one of highest precedence first. The roles can be
/// derived from the source's rules in force, although a rule that another rule of the source covers is missing there. Adds
/// the source's rules on addresses, which are not looked for in the file.
fn complete(lines: &mut Vec<RuleLine>, in_force: &[&MatchingRule]) {
    let (on_names, on_addresses): (Vec<&MatchingRule>, Vec<_>) = in_force
        .iter()
        .copied()
        .partition(|rule| rule.trigger.scope().is_some());
    let has = |role| on_names.iter().any(|rule| rule.role == role);
    // All rules of a source that match a name are ignored, or logged only, if one of them is.
    let mut common = [Role::Ignored, Role::LogOnly].into_iter();
    let common = common.find(|role| has(*role)).unwrap_or(Role::Loses);
    for (place, line) in lines.iter_mut().enumerate() {
        line.role = Some(match place {
            0 if has(Role::Decides) => Role::Decides,
            _ => common,
        });
    }
    // Of one source, rules on the client come first, and those on the answer last.
    let (on_client, on_answer): (Vec<&MatchingRule>, Vec<_>) = on_addresses
        .into_iter()
        .partition(|rule| matches!(rule.trigger, RuleTrigger::Client(_)));
    lines.splice(0..0, on_client.into_iter().map(RuleLine::in_force));
    lines.extend(on_answer.into_iter().map(RuleLine::in_force));
}

/// Of several matching rules of one source, the one with the lowest value decides.
fn precedence(owner: &Name, scope: Scope) -> (Reverse<usize>, u32) {
    (Reverse(owner.label_count()), scope.weight())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Config;
    use crate::control::inspect::policy_at::PolicyAt;
    use crate::policy::decide::Decision;

    #[test]
    fn a_rule_of_a_zone_that_allows_a_protected_name_is_shown_as_in_force_with_its_record() {
        let folder = tempfile::tempdir().expect("a folder");
        let zone = "$ORIGIN zone.\n@ SOA . . 1 60 60 600 60\nbank.example 30 CNAME rpz-passthru.\n\
                    *.bank.example 30 CNAME .\n";
        fs::write(folder.path().join("zone"), zone).expect("written");
        fs::write(folder.path().join("protect"), "bank.example\n").expect("written");
        let text = "[[list]]\nname = \"zone\"\npath = \"zone\"\nformat = \"rpz\"\n[guard]\nprotect = \"protect\"\n";
        let config = Config::parse(text, &folder.path().join("tapis.toml")).expect("valid");
        let guard_policy = GuardPolicy::read(&config);
        let list = &config.lists[0];
        let mut left_out = Vec::new();
        let name = Name::from_text("bank.example").expect("a name");
        let lines = rules_in_file(list, &guard_policy, &name, &mut left_out);
        assert!(left_out.is_empty(), "{left_out:?}");
        assert_eq!(lines[0].records, ["bank.example CNAME rpz-passthru."]);
    }

    #[test]
    fn wildcards_of_a_zone_that_a_closer_name_ends_are_neither_applied_nor_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let zone = "$ORIGIN zone.\n@ SOA . . 1 60 60 600 60\n*.a.example CNAME .\nd.c.b.a.example CNAME .\n";
        fs::write(folder.path().join("zone"), zone).expect("written");
        let text = "[[list]]\nname = \"zone\"\npath = \"zone\"\nformat = \"rpz\"\n";
        let config = Config::parse(text, &folder.path().join("tapis.toml")).expect("valid");
        let guard_policy = GuardPolicy::read(&config);
        let policy = PolicyAt::now(&config, &guard_policy, Timestamp::now());
        for (asked, expected) in [
            ("x.a.example", Some("*.a.example")),
            ("b.a.example", None),
            ("x.b.a.example", None),
            ("x.c.b.a.example", None),
            ("d.c.b.a.example", Some("d.c.b.a.example")),
            ("x.d.c.b.a.example", None),
        ] {
            let name = Name::from_text(asked).expect("a name");
            let (snapshot, matching) = policy.snapshot_for(&name).expect("room");
            let is_blocked = matches!(snapshot.decide(&name), Decision::Blocked { .. });
            assert_eq!(is_blocked, expected.is_some(), "{asked}");
            let expected: Vec<_> = expected.into_iter().collect();
            let shown = matching.iter();
            let shown = shown.map(|rule| rule.scope.notation(&rule.owner));
            assert_eq!(shown.collect::<Vec<_>>(), expected, "{asked}");
            let list = &policy.lists[0].list;
            let lines = rules_in_file(list, &guard_policy, &name, &mut Vec::new());
            let lines: Vec<_> = lines.iter().map(|line| &*line.rule).collect();
            assert_eq!(lines, expected, "{asked}");
        }
    }
}
