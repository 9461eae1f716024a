//! Compares the decisions of the engine, for random policies and queries, with those of a model: the place, the rule
//! and the answer, and the rules that are logged only. The model was written from `docs/policy.md` alone.

mod model;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use tapis::policy::builder::Builder;
use tapis::policy::condition::{self, TypeSet};
use tapis::policy::decide::{Decision, Matched, PolicyView};
use tapis::policy::effect::{Effect, EffectAction, Tier};
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::images::Images;
use tapis::policy::prefix::{AddressOf, Prefix};
use tapis::policy::ranking::{self, LookupResult};
use tapis::policy::record::LocalRecord;
use tapis::policy::rule::{Action, Against, Blocking, EffectAnswer, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::policy::view::{self, LookupKey, Mode, ViewId};
use tapis::wire::name;

use self::model::{Act, Condition, Name, Policy, Query, Rule, Trigger, View, ViewList};

const KINDS: [Kind; 8] = [
    Kind::Block,
    Kind::Allow,
    Kind::Exception,
    Kind::Order,
    Kind::Block,
    Kind::Exception,
    Kind::Order,
    Kind::Block,
];

/// The actions of effects. The engine sorts effects that have the same [`Tier`] in this order.
const ACTS: [Act; 15] = [
    Act::Source,
    Act::Block(Action::Nxdomain),
    Act::Block(Action::Nodata),
    Act::Block(Action::Sinkhole),
    Act::Block(Action::Refused),
    Act::Cname("aa", false),
    Act::Cname("aa.bb", false),
    Act::Cname("ab", true),
    Act::Cname("bb", false),
    Act::Addresses,
    Act::Records(None),
    Act::Records(Some("aa")),
    Act::Records(Some("bb.aa")),
    Act::TcpOnly,
    Act::Allow,
];

const NO_CONDITION: Condition = Condition {
    only: None,
    all_but: None,
    except: &[],
};

/// The conditions of rules. The engine sorts effects that differ in nothing else in this order.
const CONDITIONS: [Condition; 7] = [
    NO_CONDITION,
    Condition {
        except: &["aa"],
        ..NO_CONDITION
    },
    Condition {
        except: &["bb.aa", "bb"],
        ..NO_CONDITION
    },
    Condition {
        only: Some(&[1]),
        ..NO_CONDITION
    },
    Condition {
        only: Some(&[1, 16]),
        except: &["ab"],
        ..NO_CONDITION
    },
    Condition {
        only: Some(&[28]),
        ..NO_CONDITION
    },
    Condition {
        all_but: Some(&[1, 255]),
        ..NO_CONDITION
    },
];

fn source_name(number: usize) -> String {
    match KINDS[number] {
        Kind::Exception => format!("exception:{number}"),
        Kind::Order => format!("order:{number}"),
        _ => format!("list{number}"),
    }
}

fn number_of(by: &Matched<'_>) -> usize {
    let digits = by
        .source
        .name
        .trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().expect("a number")
}

fn engine_name(labels: &Name) -> name::Name {
    name::Name::from_text(&labels.join(".")).expect("a name")
}

fn engine_source(number: usize, source: &model::Source) -> Source {
    let against = source.against.as_ref().map_or(Against::All, |named| {
        Against::Named(named.iter().map(|source| source_name(*source)).collect())
    });
    Source {
        name: source_name(number),
        path: PathBuf::new(),
        kind: source.kind,
        blocking: Blocking {
            action: source.action,
            ..Blocking::none()
        },
        against,
        allows_across: source.allows_across,
        zone: None,
        paused: false,
    }
}

/// A CNAME record, or an address.
fn record(target: Option<&str>) -> LocalRecord {
    let wire = |target: &str| {
        let label = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
        let labels: Vec<_> = target.split('.').chain([""]).map(label).collect();
        labels.concat()
    };
    LocalRecord {
        rtype: if target.is_some() { 5 } else { 1 },
        ttl_secs: None,
        data: target.map_or(vec![192, 0, 2, 1], wire).into(),
    }
}

fn engine_effect(rule: &Rule) -> Effect {
    Effect {
        action: match rule.act {
            Act::Source => EffectAction::Source,
            Act::Block(of) => EffectAction::Block(of),
            Act::Addresses => EffectAction::Addresses(vec![Ipv4Addr::LOCALHOST], vec![]),
            Act::Records(target) => EffectAction::Records(vec![record(target)]),
            Act::Cname(target, prepend) => EffectAction::Cname {
                target: Arc::new(name::Name::from_text(target).expect("a name")),
                prepend,
            },
            Act::TcpOnly => EffectAction::TcpOnly,
            Act::Allow => EffectAction::Allow,
        },
        tier: rule.tier,
        condition: engine_condition(rule.condition),
        ..Effect::default()
    }
}

fn engine_condition(of: Condition) -> Option<Box<condition::Condition>> {
    let only = of.only.map(|types| TypeSet::Only(types.into()));
    let types = only.or(of.all_but.map(|types| TypeSet::AllBut(types.into())));
    let except = of
        .except
        .iter()
        .map(|text| name::Name::from_text(text).expect("a name"));
    (of != NO_CONDITION).then(|| Box::new(condition::Condition::new(types, except).expect("small")))
}

fn network(address: IpAddr, len: u8) -> ipnet::IpNet {
    ipnet::IpNet::new(address, len).expect("a length").trunc()
}

/// An image with the rules of those sources that `selects` selects.
fn image(policy: &Policy, selects: impl Fn(usize) -> bool) -> Arc<tapis::policy::image::Image> {
    let mut builder = Builder::new();
    for source in (0..policy.sources.len()).filter(|source| selects(*source)) {
        let number = builder
            .source(ImageSource::named(&source_name(source)))
            .expect("room");
        for rule in policy.rules.iter().filter(|rule| rule.source == source) {
            let effect = engine_effect(rule);
            let prefix = |of, address, len| Prefix::new(of, network(address, len)).expect("valid");
            let added = match &rule.trigger {
                Trigger::Name(owner, scope) => {
                    builder.insert_effect(&engine_name(owner), number, *scope, &effect)
                }
                Trigger::Pattern(text) => builder.insert_pattern(&pattern(text), number, &effect),
                Trigger::Client(address, len) => builder.insert_prefix(
                    prefix(AddressOf::Client, *address, *len),
                    number,
                    &effect,
                ),
                Trigger::Answer(address, len) => builder.insert_prefix(
                    prefix(AddressOf::Answer, *address, *len),
                    number,
                    &effect,
                ),
            };
            added.expect("room");
        }
    }
    Arc::new(builder.finish().expect("room"))
}

/// The snapshot of a policy. As in a server, orders and exceptions have a separate image, and one list is in the delta.
fn snapshot(policy: &Policy, views: &[View]) -> Snapshot {
    let is_list = |source: usize| matches!(KINDS[source], Kind::Allow | Kind::Block);
    let images = Images {
        base: Some(image(policy, |source| is_list(source) && source != 4)),
        delta: Some(image(policy, |source| source == 4)),
        orders: Some(image(policy, |source| !is_list(source))),
        ..Images::default()
    };
    let sources = policy.sources.iter().enumerate();
    let sources = sources.map(|(number, source)| Arc::new(engine_source(number, source)));
    let views: Vec<_> = views
        .iter()
        .map(|view| view::View {
            lists: view
                .iter()
                .map(|list| view::ViewList {
                    name: source_name(list.source),
                    mode: match list.log_only {
                        true => Mode::LogOnly,
                        false => Mode::Enforce,
                    },
                    action: list.action,
                })
                .collect(),
        })
        .collect();
    Snapshot::default().with_views(sources.collect(), images, &views)
}

/// A rule, as both the engine and the model can describe it.
#[derive(Debug)]
struct Described {
    source: usize,
    /// The trigger of the rule, and wider triggers of rules of the same source with the same effect. Such a wider rule
    /// makes this rule redundant, and the engine may report the wider rule in its place.
    triggers: Vec<String>,
    effect: String,
}

impl PartialEq for Described {
    fn eq(&self, other: &Self) -> bool {
        let is_same = |trigger| other.triggers.contains(trigger);
        (self.source, &self.effect) == (other.source, &other.effect)
            && self.triggers.iter().any(is_same)
    }
}

/// What the engine or the model decides about a query.
#[derive(Debug, PartialEq)]
struct Decided {
    /// The rule that decides about the queried name.
    asked: Option<Described>,
    /// The place, the rule that blocks, and the answer.
    blocked: Option<(usize, Described, String)>,
    /// The rules that are logged only: for the queried name, and for the answer.
    logged: [Option<Described>; 2],
}

/// The text of a pattern that is found in names with the given text.
fn pattern(text: &str) -> String {
    text.replace('.', r"\.")
}

/// The trigger of a rule with a pattern: all patterns that are found in one of the names. No criterion distinguishes
/// patterns of one source with the same effect, so any of them may be reported.
fn patterns(mut found: Vec<String>) -> String {
    found.sort_unstable();
    found.dedup();
    format!("patterns {found:?}")
}

/// A rule of the engine that matches one of the names.
fn of_engine(policy: &PolicyView<'_>, by: &Matched<'_>, names: &[Name]) -> Described {
    let trigger = match by.hit.trigger {
        ranking::Trigger::Name { scope, labels } => format!("{labels} labels, {scope:?}"),
        ranking::Trigger::Pattern => {
            let found = |name| policy.patterns(by.hit, &engine_name(name));
            let found = names.iter().flat_map(found).map(str::to_owned);
            patterns(found.collect())
        }
        ranking::Trigger::Client(number) => {
            format!("client {}", policy.client_network(number).network())
        }
        ranking::Trigger::Answer(number) => {
            format!("answer {}", policy.answer_network(number).network())
        }
    };
    Described {
        source: number_of(by),
        triggers: vec![trigger],
        effect: format!("{:?}", by.effect().cloned().unwrap_or_default()),
    }
}

/// A rule of the model that matches one of the names.
fn of_model(policy: &Policy, number: usize, names: &[Name]) -> Described {
    let rule = &policy.rules[number];
    let key = |rule: &Rule| (rule.source, rule.order, rule.tier);
    let alike = policy.rules.iter().filter(|of| key(of) == key(rule));
    let triggers = match &rule.trigger {
        Trigger::Name(owner, scope) => {
            let wider = alike.filter_map(|of| match &of.trigger {
                Trigger::Name(above, Scope::Below) if owner.ends_with(above) && owner != above => {
                    Some((above, Scope::Below))
                }
                Trigger::Name(above, Scope::Subtree) if owner.ends_with(above) => {
                    Some((above, Scope::Subtree))
                }
                _ => None,
            });
            let all = std::iter::once((owner, *scope)).chain(wider);
            all.map(|(owner, scope)| format!("{} labels, {scope:?}", owner.len()))
                .collect()
        }
        Trigger::Pattern(_) => {
            let is_found = |text: &str| names.iter().any(|name| name.join(".").contains(text));
            let found = alike.filter_map(|of| match &of.trigger {
                Trigger::Pattern(text) if is_found(text) => Some(pattern(text)),
                _ => None,
            });
            vec![patterns(found.collect())]
        }
        Trigger::Client(address, len) => vec![format!("client {}", network(*address, *len))],
        Trigger::Answer(address, len) => vec![format!("answer {}", network(*address, *len))],
    };
    Described {
        source: rule.source,
        triggers,
        effect: format!("{:?}", engine_effect(rule)),
    }
}

fn answer_of(blocking: &Blocking) -> String {
    match &blocking.effect_answer {
        None => format!("{:?}", blocking.action),
        Some(EffectAnswer::Records(_)) => "records".to_owned(),
        Some(EffectAnswer::Cname {
            target, prepend, ..
        }) => format!("{target:?} {prepend}"),
        Some(EffectAnswer::TcpOnly) => "tcp-only".to_owned(),
    }
}

fn answer_of_model(act: Act) -> String {
    let cname = |target, prepend| {
        let target = name::Name::from_text(target).expect("a name");
        format!("{target:?} {prepend}")
    };
    match act {
        Act::Block(action) => format!("{action:?}"),
        Act::Addresses => format!("{:?}", Action::Sinkhole),
        Act::Records(None) => "records".to_owned(),
        Act::Records(Some(target)) => cname(target, false),
        Act::Cname(target, prepend) => cname(target, prepend),
        Act::TcpOnly => "tcp-only".to_owned(),
        Act::Source | Act::Allow => unreachable!("not an answer"),
    }
}

/// The name of each place.
fn places(query: &Query) -> Vec<Name> {
    [std::slice::from_ref(&query.name), &query.chain].concat()
}

/// The names of the answer: those of the chain, or the queried name.
fn answer_names(query: &Query) -> &[Name] {
    if query.chain.is_empty() {
        return std::slice::from_ref(&query.name);
    }
    &query.chain
}

fn by_engine(snapshot: &Snapshot, view: ViewId, query: &Query) -> Decided {
    let policy = snapshot
        .view(view)
        .for_client(query.client)
        .for_type(query.qtype)
        .over(query.is_stream);
    let asked = engine_name(&query.name);
    let places = places(query);
    let mut found = [LookupResult::default()];
    let key = LookupKey::new(view, query.qtype);
    snapshot.lookup_in(&[&asked], &[key], &mut found);
    let decision = policy.decide_by(&asked, &found[0]);
    let blocked = |decision: Decision<'_>, place: usize| match decision {
        Decision::Blocked { by, .. } => {
            let rule = of_engine(&policy, &by, &places[place..=place]);
            Some((place, rule, answer_of(by.blocking)))
        }
        _ => None,
    };
    let on_asked = |by: &Matched<'_>| of_engine(&policy, by, &places[..1]);
    let mut decided = Decided {
        asked: match &decision {
            Decision::Pass | Decision::Excepted(_) => None,
            Decision::Allowed(by) | Decision::Blocked { by, .. } => Some(on_asked(by)),
        },
        blocked: blocked(decision, 0),
        logged: [
            policy.logged(&asked, &found[0]).as_ref().map(on_asked),
            None,
        ],
    };
    if decided.blocked.is_none() {
        let answer = policy.decide_answer(
            &asked,
            decision.later_rules(),
            query.chain.iter().map(engine_name),
            query.addresses.iter().copied(),
        );
        let logged = answer.logged.as_ref();
        decided.logged[1] = logged.map(|by| of_engine(&policy, by, answer_names(query)));
        decided.blocked = blocked(answer.decision, answer.hops);
    }
    decided
}

fn by_model(policy: &Policy, view: Option<&View>, query: &Query) -> Decided {
    let places = places(query);
    let decided = model::decide(policy, view, query);
    let on_asked = |rule| of_model(policy, rule, &places[..1]);
    let [logged, in_answer] = decided.logged;
    Decided {
        asked: decided.asked.map(on_asked),
        blocked: decided.blocked.map(|(place, rule, act)| {
            let rule = of_model(policy, rule, &places[place..=place]);
            (place, rule, answer_of_model(act))
        }),
        logged: [
            logged.map(on_asked),
            in_answer.map(|rule| of_model(policy, rule, answer_names(query))),
        ],
    }
}

fn labels() -> impl Strategy<Value = Name> {
    let label = prop::sample::select(vec!["aa", "bb", "ab"]);
    prop::collection::vec(label.prop_map(str::to_owned), 1..4)
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    let all = [
        "192.0.2.1",
        "192.0.3.1",
        "192.1.2.1",
        "2001:db8::1",
        "2001:db9::1",
        "2001:db8::2:1",
    ];
    prop::sample::select(all.to_vec()).prop_map(|text| text.parse().expect("an address"))
}

fn networks() -> impl Strategy<Value = (IpAddr, u8)> {
    (addresses(), prop::sample::select(vec![8_u8, 16, 24, 32])).prop_map(|(address, len)| {
        // The engine adds 96 to the length of IPv4 prefixes. The test adds 96 to the length of most IPv6 prefixes, so
        // that the engine also compares IPv4 and IPv6 prefixes of the same length.
        let len = match address {
            IpAddr::V4(_) => len,
            IpAddr::V6(_) if len == 8 => 32,
            IpAddr::V6(_) => len + 96,
        };
        (network(address, len).addr(), len)
    })
}

fn triggers() -> impl Strategy<Value = Trigger> {
    let scopes = prop::sample::select(vec![Scope::Exact, Scope::Below, Scope::Subtree]);
    let patterns = prop::sample::select(vec!["aa.b", "b.aa", "ab.ab", "bb.bb", "a.a"]);
    prop_oneof![
        6 => (labels(), scopes).prop_map(|(owner, scope)| Trigger::Name(owner, scope)),
        1 => patterns.prop_map(|text| Trigger::Pattern(text.to_owned())),
        1 => networks().prop_map(|(address, len)| Trigger::Client(address, len)),
        1 => networks().prop_map(|(address, len)| Trigger::Answer(address, len)),
    ]
}

fn actions() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![
        Action::Nxdomain,
        Action::Nodata,
        Action::Sinkhole,
        Action::Refused,
    ])
}

fn rules() -> impl Strategy<Value = Rule> {
    let tiers = prop_oneof![
        6 => Just(Tier::Usual),
        1 => Just(Tier::First),
        1 => Just(Tier::Important),
        1 => Just(Tier::ImportantFirst),
        1 => Just(Tier::Rewrite),
    ];
    let acts = prop_oneof![1 => Just(0_usize), 1 => 0..ACTS.len()];
    let conditions = prop_oneof![3 => Just(0_usize), 1 => 1..CONDITIONS.len()];
    let effects = (acts, tiers, conditions);
    (0..KINDS.len(), triggers(), effects).prop_map(|(source, trigger, (order, tier, condition))| {
        // Exact rules whose CNAME leads to their own name are refused.
        let order = match (&trigger, ACTS[order]) {
            (
                Trigger::Name(owner, Scope::Exact),
                Act::Cname(target, false) | Act::Records(Some(target)),
            ) if owner.join(".") == target => 0,
            _ => order,
        };
        Rule {
            source,
            trigger,
            act: ACTS[order],
            tier,
            condition: CONDITIONS[condition],
            order: order * CONDITIONS.len() + condition,
        }
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let against = prop::option::weighted(0.7, prop::collection::vec(0..KINDS.len(), 0..4));
    let source = (actions(), against, prop::bool::weighted(0.3));
    let sources = prop::collection::vec(source, KINDS.len()).prop_map(|sources| {
        let sources = sources.into_iter().zip(KINDS);
        let source =
            |((action, against, across), kind): ((_, Option<Vec<usize>>, _), _)| model::Source {
                kind,
                action,
                against: against.filter(|_| kind == Kind::Exception),
                allows_across: across,
            };
        sources.map(source).collect()
    });
    (sources, prop::collection::vec(rules(), 0..24))
        .prop_map(|(sources, rules)| Policy { sources, rules })
}

fn views() -> impl Strategy<Value = View> {
    let lists: Vec<_> = (0..KINDS.len())
        .filter(|source| matches!(KINDS[*source], Kind::Allow | Kind::Block))
        .collect();
    let list = (
        prop::sample::select(lists),
        any::<bool>(),
        prop::option::of(actions()),
    );
    let list = list.prop_map(|(source, log_only, action)| ViewList {
        source,
        log_only,
        action,
    });
    prop::collection::vec(list, 0..7)
}

fn queries() -> impl Strategy<Value = Query> {
    let chain = prop::collection::vec(labels(), 0..3);
    let answers = prop::collection::vec(addresses(), 0..3);
    let qtypes = prop::sample::select(vec![1_u16, 16, 28, 255]);
    let client = (addresses(), any::<bool>(), qtypes);
    (client, labels(), chain, answers).prop_map(
        |((client, is_stream, qtype), name, chain, addresses)| Query {
            client,
            is_stream,
            qtype,
            name,
            chain,
            addresses,
        },
    )
}

fn config() -> ProptestConfig {
    let cases = std::env::var("TAPIS_POLICIES").ok();
    let cases = cases.and_then(|cases| cases.parse().ok()).unwrap_or(400);
    ProptestConfig::with_cases(cases)
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn the_engine_decides_as_the_page_says(
        policy in policies(),
        views in prop::collection::vec(views(), 0..3),
        queries in prop::collection::vec(queries(), 20),
    ) {
        let snapshot = snapshot(&policy, &views);
        for (query, which) in queries.iter().zip((0..=views.len()).cycle()) {
            let view = which.checked_sub(1).map(|view| &views[view]);
            let expected = by_model(&policy, view, query);
            let decided = by_engine(&snapshot, ViewId(which as u16), query);
            prop_assert_eq!(decided, expected, "{:?} in {:?}", query, view);
        }
    }
}
