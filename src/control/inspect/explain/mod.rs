//! Explains how a name is answered: the decision, and every matching rule with its line in the file.

pub mod files;
mod in_file;
pub mod served;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use crate::config::exception::Exception;
use crate::config::order::State;
use crate::config::order::{Order, Suspension};
use crate::config::paths::{at, recorded, section};
use crate::config::pause::Pause;
use crate::config::shown::path_text;
use crate::control::admin::verdict::{
    Answer, Chain, ExplainRequest, MatchingRule, Outcome, QueryVerdict,
};
use crate::control::list_file::suppressed::LeftOut;
use crate::control::sources::orders::registry::OrderRegistry;
use crate::policy::explain::Role;
use crate::policy::rule::{Kind, Scope, Source};
use crate::wire::name::Name;
use crate::wire::presentation::TypeText;

/// The query to explain.
#[derive(Clone, Debug)]
pub struct Query {
    /// The name.
    pub name: Name,
    /// The number of the record type.
    pub rtype: u16,
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
            rtype: self.rtype,
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
    /// An excerpt of the line, if it is one of a filter list, which says more than the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
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
            r#type: TypeText(query.rtype).to_string(),
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
            text: None,
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
            text: None,
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

/// A rule that a guard left out, and why.
fn left_out_text(source: &str, path: &Path, left: &LeftOut) -> String {
    let (place, rule, why) = (at(path, left.line), &left.rule, &left.why);
    format!("{source}: {place}: {rule}: it {why}")
}
