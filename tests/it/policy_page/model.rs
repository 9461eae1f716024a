//! A plain model of `docs/policy.md`: which rules decide about a query, and which ones are logged only. It has some
//! enums of the engine, but no code of it. It leaves out:
//!
//! - the section "NXDOMAIN", by which NODATA may be sent in place of NXDOMAIN, and the flag *as written*;
//! - TTLs, Extended DNS Errors, which addresses and records are sent, and what the target of a CNAME leads to;
//! - which rules are refused, and the order of effects, which is given;
//! - targets and hints of SVCB and HTTPS records, the additional section, DS and DNSKEY.
use std::net::IpAddr;
use tapis::policy::effect::Tier;
use tapis::policy::rule::{Action, Kind, Scope};
pub(super) type Name = Vec<String>;
#[derive(Debug)]
pub(super) struct Source {
    pub(super) kind: Kind,
    pub(super) action: Action,
    pub(super) against: Option<Vec<usize>>,
    pub(super) allows_across: bool,
}
#[derive(Debug)]
pub(super) enum Trigger {
    Name(Name, Scope),
    Pattern(String),
    Client(IpAddr, u8),
    Answer(IpAddr, u8),
}
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Act {
    Source,
    Block(Action),
    Addresses,
    /// Some records, or a single CNAME record with this target.
    Records(Option<&'static str>),
    /// The target, and whether it is appended to the name.
    Cname(&'static str, bool),
    TcpOnly,
    Allow,
}
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) source: usize,
    pub(super) trigger: Trigger,
    pub(super) act: Act,
    pub(super) tier: Tier,
    pub(super) condition: Condition,
    pub(super) order: usize,
}
/// The types of queries that a rule is limited to, or all but these; and the names that it leaves out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) only: Option<&'static [u16]>,
    pub(super) all_but: Option<&'static [u16]>,
    pub(super) except: &'static [&'static str],
}
#[derive(Debug)]
pub(super) struct ViewList {
    pub(super) source: usize,
    pub(super) log_only: bool,
    pub(super) action: Option<Action>,
}
pub(super) type View = Vec<ViewList>;
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) sources: Vec<Source>,
    pub(super) rules: Vec<Rule>,
}
#[derive(Debug)]
pub(super) struct Query {
    pub(super) client: IpAddr,
    pub(super) is_stream: bool,
    pub(super) qtype: u16,
    pub(super) name: Name,
    pub(super) chain: Vec<Name>,
    pub(super) addresses: Vec<IpAddr>,
}
/// What is decided about a query. Rules are numbers.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// The rule that decides about the queried name before upstream is asked.
    pub(super) asked: Option<usize>,
    /// The place, the rule that blocks, and how it does.
    pub(super) blocked: Option<(usize, usize, Act)>,
    /// The rules that are logged only: for the queried name, and for the answer.
    pub(super) logged: [Option<usize>; 2],
}
/// The number of bits after the prefix, and the bits of the prefix. An IPv4 address counts as the mapped address.
fn network(net: IpAddr, prefix: u8) -> (u32, u128) {
    let (rest, bits) = match net {
        IpAddr::V4(v4) => (32 - u32::from(prefix), v4.to_ipv6_mapped().to_bits()),
        IpAddr::V6(v6) => (128 - u32::from(prefix), v6.to_bits()),
    };
    (rest, bits >> rest)
}
/// Section "Rules": whether the trigger of a rule matches.
fn hits(rule: &Rule, name: Option<&Name>, client: Option<IpAddr>, answer: &[IpAddr]) -> bool {
    let bits = |a: IpAddr| network(a, if a.is_ipv4() { 32 } else { 128 }).1;
    let contains = |(rest, prefix), address| bits(address) >> rest == prefix;
    match (&rule.trigger, name) {
        (Trigger::Name(x, Scope::Exact), Some(name)) => name == x,
        (Trigger::Name(x, Scope::Below), Some(name)) => name.ends_with(x) && name != x,
        (Trigger::Name(x, Scope::Subtree), Some(name)) => name.ends_with(x),
        (Trigger::Pattern(text), Some(name)) => name.join(".").contains(&text.to_lowercase()),
        (Trigger::Client(net, len), _) => client.is_some_and(|a| contains(network(*net, *len), a)),
        (Trigger::Answer(net, len), _) => answer.iter().any(|a| contains(network(*net, *len), *a)),
        _ => false,
    }
}
/// Section "Conditions": whether the condition of a rule holds for a name.
fn holds(rule: &Rule, name: &Name, qtype: u16) -> bool {
    const ANY: u16 = 255;
    let Condition {
        only,
        all_but,
        except,
    } = rule.condition;
    let below = |x: &&str| name.ends_with(&x.split('.').map(str::to_owned).collect::<Vec<_>>());
    only.is_none_or(|types| qtype == ANY || types.contains(&qtype))
        && all_but.is_none_or(|types| !types.contains(&qtype))
        && !except.iter().any(below)
}
type Entry = (usize, bool, Option<Action>);
/// Section "Views": the place of a source, whether it is logged only, and an action for its rules that block.
fn entry(policy: &Policy, view: Option<&View>, source: usize) -> Option<Entry> {
    if view.is_none() || matches!(policy.sources[source].kind, Kind::Exception | Kind::Order) {
        return Some((source, false, None));
    }
    let lists = view?;
    let place = lists.iter().position(|list| list.source == source)?;
    Some((place, lists[place].log_only, lists[place].action))
}
/// Whether a rule may decide; those of an exception against some sources never do.
fn counts(policy: &Policy, view: Option<&View>, rule: &Rule, logged: bool) -> bool {
    let entry = entry(policy, view, rule.source).filter(|(_, log_only, _)| logged || !log_only);
    entry.is_some() && policy.sources[rule.source].against.is_none()
}
/// How a rule blocks a name; none if it allows it.
fn block(p: &Policy, view: Option<&View>, r: &Rule, name: &Name, is_stream: bool) -> Option<Act> {
    let act = match (r.act, p.sources[r.source].kind) {
        (_, Kind::Exception) | (Act::Allow, _) | (Act::Source, Kind::Allow) => return None,
        (Act::Source, _) => Act::Block(p.sources[r.source].action),
        (act, _) => act,
    };
    match entry(p, view, r.source)?.2.map_or(act, Act::Block) {
        Act::TcpOnly if is_stream => None,
        Act::Records(Some(target)) | Act::Cname(target, false) if name.join(".") == target => None,
        act => Some(act),
    }
}
/// Criteria 1 to 4: the smaller precedes.
fn rank(
    policy: &Policy,
    view: Option<&View>,
    rule: &Rule,
) -> (usize, Option<usize>, bool, bool, bool) {
    let rewrites = rule.tier == Tier::Rewrite;
    let important = rewrites || matches!(rule.tier, Tier::Important | Tier::ImportantFirst);
    let first = matches!(rule.tier, Tier::First | Tier::ImportantFirst);
    let source = &policy.sources[rule.source];
    let class = match source.kind {
        Kind::Exception => 1,
        Kind::Order => 2,
        Kind::Block if source.allows_across && rewrites => 3,
        Kind::Block if source.allows_across && first && important => 4,
        Kind::Block if important => 5,
        Kind::Allow => 6,
        Kind::Block if source.allows_across && first => 7,
        Kind::Block => 8,
    };
    let place = entry(policy, view, rule.source).map(|(place, ..)| place);
    (class, place, !rewrites, !important, !first)
}
/// Criteria 5 to 7: the smaller precedes.
fn rest(rule: &Rule) -> (usize, (u32, u128), usize) {
    let scope = |of| u128::from(of != Scope::Exact) + u128::from(of == Scope::Subtree);
    match &rule.trigger {
        Trigger::Client(net, prefix) => (0, network(*net, *prefix), rule.order),
        Trigger::Name(x, of) => (1, (u32::MAX - x.len() as u32, scope(*of)), rule.order),
        Trigger::Pattern(_) => (2, (0, 0), rule.order),
        Trigger::Answer(net, prefix) => (3, network(*net, *prefix), rule.order),
    }
}
fn first(policy: &Policy, view: Option<&View>, of: impl Fn(&Rule) -> bool) -> Option<usize> {
    let key = |rule: &Rule| (rank(policy, view, rule), rest(rule));
    let rules = (0..policy.rules.len()).filter(|rule| of(&policy.rules[*rule]));
    rules.min_by_key(|rule| key(&policy.rules[*rule]))
}
/// The sources whose rules are ignored for a name because of exceptions against some sources.
fn ignored(policy: &Policy, name: &Name, qtype: u16) -> Vec<usize> {
    let is_name = |r: &Rule| matches!(r.trigger, Trigger::Name(..)) && holds(r, name, qtype);
    let on = |r: &&Rule| is_name(r) && hits(r, Some(name), None, &[]);
    let against = |r: &Rule| policy.sources[r.source].against.clone().unwrap_or_default();
    policy.rules.iter().filter(on).flat_map(against).collect()
}
/// Sections "Places", "Views" (log only) and "CNAME chains and addresses". The first step is the queried name before
/// upstream is asked. Rules apply at a step if the kind of their source is in `kinds`.
pub(super) fn decide(policy: &Policy, view: Option<&View>, query: &Query) -> Decided {
    let mut decided = Decided::default();
    let mut kinds = vec![Kind::Exception, Kind::Order, Kind::Allow, Kind::Block];
    let kind = |rule: &Rule| policy.sources[rule.source].kind;
    let has_chain = !query.chain.is_empty();
    let asked = std::slice::from_ref(&query.name);
    let answer = if has_chain { &query.chain } else { asked };
    for (step, name) in asked.iter().chain(answer).enumerate() {
        let place = step.min(query.chain.len());
        let client = Some(query.client).filter(|_| place == 0);
        let is_last = step == answer.len();
        let addresses: &[IpAddr] = if is_last { &query.addresses } else { &[] };
        let without = [&query.name, name]
            .map(|name| ignored(policy, name, query.qtype))
            .concat();
        let on = |r: &Rule, logged: bool| {
            let of_answer = hits(r, None, None, addresses) && counts(policy, view, r, logged);
            let logged = logged && (step == 0 || has_chain);
            let of_name = hits(r, Some(name), client, &[]) && counts(policy, view, r, logged);
            let applies = (of_answer || of_name) && holds(r, name, query.qtype);
            applies && kinds.contains(&kind(r)) && !without.contains(&r.source)
        };
        let logged = first(policy, view, |r| on(r, true)).filter(|r| !on(&policy.rules[*r], false));
        let of_step = &mut decided.logged[step.min(1)];
        *of_step = of_step.or(logged);
        let Some(number) = first(policy, view, |r| on(r, false)) else {
            continue;
        };
        let rule = &policy.rules[number];
        decided.asked = decided.asked.or(Some(number).filter(|_| step == 0));
        if let Some(act) = block(policy, view, rule, name, query.is_stream) {
            decided.blocked = Some((place, number, act));
            break;
        }
        let of_orders = |of: &Kind| matches!(of, Kind::Exception | Kind::Order);
        kinds.retain(|of| !has_chain || (kind(rule) != Kind::Exception && of_orders(of)));
    }
    decided
}
