//! A plain model of `docs/policy.md`. It leaves out the section "NXDOMAIN", by which NODATA may be sent in place of
//! NXDOMAIN.
use std::net::IpAddr;
pub(super) type Name = Vec<String>;
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Exception,
    Order,
    Allow,
    Block,
}
#[derive(Debug)]
pub(super) struct Source {
    pub(super) kind: Kind,
    pub(super) action: Action,
    pub(super) against: Option<Vec<usize>>,
}
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Action {
    Nxdomain,
    Nodata,
    Sinkhole,
    Refused,
}
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scope {
    Exact,
    Below,
    Subtree,
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
    Allow,
}
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tier {
    Usual,
    First,
    Important,
    ImportantFirst,
}
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) source: usize,
    pub(super) trigger: Trigger,
    pub(super) act: Act,
    pub(super) tier: Tier,
    pub(super) order: usize,
}
#[derive(Debug)]
pub(super) struct ViewList {
    pub(super) source: usize,
    pub(super) log_only: bool,
    pub(super) action: Option<Action>,
}
#[derive(Debug)]
pub(super) struct View {
    pub(super) lists: Vec<ViewList>,
}
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) sources: Vec<Source>,
    pub(super) rules: Vec<Rule>,
}
#[derive(Debug)]
pub(super) struct Query {
    pub(super) client: IpAddr,
    pub(super) name: Name,
    pub(super) chain: Vec<Name>,
    pub(super) addresses: Vec<IpAddr>,
}
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    Upstream,
    /// The place, the rule, and its action.
    Blocked(usize, usize, Action),
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
type Entry = (usize, bool, Option<Action>);
/// Section "Views": the place of a source, whether it is logged only, and an action for its rules that block.
fn entry(policy: &Policy, view: Option<&View>, source: usize) -> Option<Entry> {
    if view.is_none() || matches!(policy.sources[source].kind, Kind::Exception | Kind::Order) {
        return Some((source, false, None));
    }
    let lists = &view?.lists;
    let place = lists.iter().position(|list| list.source == source)?;
    Some((place, lists[place].log_only, lists[place].action))
}
/// Whether a rule may decide; those of an exception against some sources never do.
fn counts(policy: &Policy, view: Option<&View>, rule: &Rule, logged: bool) -> bool {
    let entry = entry(policy, view, rule.source).filter(|(_, log_only, _)| logged || !log_only);
    entry.is_some() && policy.sources[rule.source].against.is_none()
}
/// The action with which a rule blocks; none if it allows.
fn action(policy: &Policy, view: Option<&View>, rule: &Rule) -> Option<Action> {
    let action = match (rule.act, policy.sources[rule.source].kind) {
        (_, Kind::Exception) => return None,
        (Act::Block(action), _) => action,
        (Act::Source, Kind::Order | Kind::Block) => policy.sources[rule.source].action,
        _ => return None,
    };
    entry(policy, view, rule.source)?.2.or(Some(action))
}
/// Criteria 1 to 4: the smaller precedes.
fn rank(policy: &Policy, view: Option<&View>, rule: &Rule) -> (usize, Option<usize>, bool, bool) {
    let important = matches!(rule.tier, Tier::Important | Tier::ImportantFirst);
    let first = matches!(rule.tier, Tier::First | Tier::ImportantFirst);
    let class = match policy.sources[rule.source].kind {
        Kind::Exception => 1,
        Kind::Order => 2,
        Kind::Block if important => 3,
        Kind::Allow => 4,
        Kind::Block => 5,
    };
    let place = entry(policy, view, rule.source).map(|(place, ..)| place);
    (class, place, !important, !first)
}
/// Criteria 5 to 7: the smaller precedes.
fn rest(rule: &Rule) -> (usize, (u32, u128), usize) {
    match &rule.trigger {
        Trigger::Client(net, prefix) => (0, network(*net, *prefix), rule.order),
        Trigger::Name(x, of) => (1, (u32::MAX - x.len() as u32, *of as u128), rule.order),
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
fn ignored(policy: &Policy, name: &Name) -> Vec<usize> {
    let on = |r: &&Rule| matches!(r.trigger, Trigger::Name(..)) && hits(r, Some(name), None, &[]);
    let against = |r: &Rule| policy.sources[r.source].against.clone().unwrap_or_default();
    policy.rules.iter().filter(on).flat_map(against).collect()
}
/// Sections "Places" and "CNAME chains and addresses". Rules apply at a place if the kind of their source is in
/// `kinds`.
pub(super) fn decide(policy: &Policy, view: Option<&View>, query: &Query) -> Outcome {
    let blocks = |rule: usize| action(policy, view, &policy.rules[rule]);
    let rank = |rule: usize| rank(policy, view, &policy.rules[rule]);
    let kind = |rule: &Rule| policy.sources[rule.source].kind;
    let mut kinds = vec![Kind::Exception, Kind::Order, Kind::Allow, Kind::Block];
    for (place, name) in std::iter::once(&query.name).chain(&query.chain).enumerate() {
        let client = Some(query.client).filter(|_| place == 0);
        let without = [ignored(policy, &query.name), ignored(policy, name)].concat();
        let of_kind = |r: &Rule| kinds.contains(&kind(r)) && !without.contains(&r.source);
        let applies = |r: &Rule| of_kind(r) && counts(policy, view, r, false);
        let on_name = |r: &Rule| applies(r) && hits(r, Some(name), client, &[]);
        let on_answer = |r: &Rule| applies(r) && hits(r, None, None, &query.addresses);
        let mut decides = first(policy, view, on_name);
        if place == query.chain.len() && (place > 0 || decides.and_then(blocks).is_none()) {
            let better = |a: &usize| decides.is_none_or(|rule| rank(*a) < rank(rule));
            decides = first(policy, view, on_answer).filter(better).or(decides);
        }
        let Some(rule) = decides else { continue };
        if let Some(action) = blocks(rule) {
            return Outcome::Blocked(place, rule, action);
        }
        let is_exception = kind(&policy.rules[rule]) == Kind::Exception;
        kinds.retain(|of| !is_exception && matches!(of, Kind::Exception | Kind::Order));
    }
    Outcome::Upstream
}
/// Section "Views", log only: the rule that would have decided about the queried name.
pub(super) fn logged(policy: &Policy, view: Option<&View>, query: &Query) -> Option<usize> {
    let without = ignored(policy, &query.name);
    let on = |r: &Rule| hits(r, Some(&query.name), Some(query.client), &[]);
    let of = |r: &Rule| on(r) && counts(policy, view, r, true) && !without.contains(&r.source);
    first(policy, view, of).filter(|rule| !counts(policy, view, &policy.rules[*rule], false))
}
