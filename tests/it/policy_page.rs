//! Compares the decisions of the engine, for random policies and queries, with those of a model. The model was written
//! from `docs/policy.md` alone.

mod model;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use tapis::policy::builder::Builder;
use tapis::policy::decide::{Decision, Matched};
use tapis::policy::effect::{self, Effect, EffectAction};
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::images::Images;
use tapis::policy::prefix::{AddressOf, Prefix};
use tapis::policy::ranking::LookupResult;
use tapis::policy::rule::{self, Against, Blocking, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::policy::view::{self, Mode, ViewId};
use tapis::wire::name;

use self::model::{
    Act, Action, Kind, Name, Outcome, Policy, Query, Rule, Scope, Tier, Trigger, View, ViewList,
};

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

/// The actions of effects, in the order in which the engine sorts effects of one tier.
const ACTS: [Act; 5] = [
    Act::Source,
    Act::Block(Action::Nxdomain),
    Act::Block(Action::Nodata),
    Act::Block(Action::Refused),
    Act::Allow,
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

fn action(action: Action) -> rule::Action {
    match action {
        Action::Nxdomain => rule::Action::Nxdomain,
        Action::Nodata => rule::Action::Nodata,
        Action::Sinkhole => rule::Action::Sinkhole,
        Action::Refused => rule::Action::Refused,
    }
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
        kind: match source.kind {
            Kind::Exception => rule::Kind::Exception,
            Kind::Order => rule::Kind::Order,
            Kind::Allow => rule::Kind::Allow,
            Kind::Block => rule::Kind::Block,
        },
        blocking: Blocking {
            action: action(source.action),
            ..Blocking::none()
        },
        against,
    }
}

fn engine_effect(rule: &Rule) -> Effect {
    Effect {
        action: match rule.act {
            Act::Source => EffectAction::Source,
            Act::Block(of) => EffectAction::Block(action(of)),
            Act::Allow => EffectAction::Allow,
        },
        tier: match rule.tier {
            Tier::Usual => effect::Tier::Usual,
            Tier::First => effect::Tier::First,
            Tier::Important => effect::Tier::Important,
            Tier::ImportantFirst => effect::Tier::ImportantFirst,
        },
        ..Effect::default()
    }
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
                    let scope = match scope {
                        Scope::Exact => rule::Scope::Exact,
                        Scope::Below => rule::Scope::Below,
                        Scope::Subtree => rule::Scope::Subtree,
                    };
                    builder.insert_effect(&engine_name(owner), number, scope, &effect)
                }
                Trigger::Pattern(text) => {
                    builder.insert_pattern(&text.replace('.', r"\."), number, &effect)
                }
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
                .lists
                .iter()
                .map(|list| view::ViewList {
                    name: source_name(list.source),
                    mode: match list.log_only {
                        true => Mode::LogOnly,
                        false => Mode::Enforce,
                    },
                    action: list.action.map(action),
                })
                .collect(),
        })
        .collect();
    Snapshot::default().with_views(sources.collect(), images, &views)
}

/// A decision of the engine or of the model: the place, the source and the action of the rule that blocks; and the
/// source that would have decided about the queried name if it were not logged only.
type Decided = (Option<(usize, usize, rule::Action)>, Option<usize>);

fn by_engine(snapshot: &Snapshot, view: ViewId, query: &Query) -> Decided {
    let policy = snapshot.view(view).for_client(query.client);
    let asked = engine_name(&query.name);
    let mut found = [LookupResult::default()];
    snapshot.lookup_in(&[&asked], &[view], &mut found);
    let decision = policy.decide_by(&asked, &found[0]);
    let logged = policy.logged(&asked, &found[0]).map(|by| number_of(&by));
    let blocked = |place, by: Matched<'_>| Some((place, number_of(&by), by.blocking.action));
    if let Decision::Blocked { by, .. } = decision {
        return (blocked(0, by), logged);
    }
    let answer = policy.decide_answer(
        &asked,
        decision.later_rules(),
        query.chain.iter().map(engine_name),
        query.addresses.iter().copied(),
    );
    match answer.decision {
        Decision::Blocked { by, .. } => (blocked(answer.hops, by), logged),
        _ => (None, logged),
    }
}

fn by_model(policy: &Policy, view: Option<&View>, query: &Query) -> Decided {
    let source = |rule: usize| policy.rules[rule].source;
    let blocked = match model::decide(policy, view, query) {
        Outcome::Upstream => None,
        Outcome::Blocked(place, rule, of) => Some((place, source(rule), action(of))),
    };
    (blocked, model::logged(policy, view, query).map(source))
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
        // The engine adds 96 to the length of IPv4 prefixes. IPv6 prefixes are that much longer here, so that some of
        // both are equally long.
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
    ];
    let acts = prop_oneof![3 => Just(0_usize), 1 => 0..ACTS.len()];
    (0..KINDS.len(), triggers(), acts, tiers).prop_map(|(source, trigger, order, tier)| Rule {
        source,
        trigger,
        act: ACTS[order],
        tier,
        order,
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let against = prop::option::weighted(0.7, prop::collection::vec(0..KINDS.len(), 0..4));
    let source = (actions(), against);
    let sources = prop::collection::vec(source, KINDS.len()).prop_map(|sources| {
        let sources = sources.into_iter().zip(KINDS);
        let source = |((action, against), kind): ((_, Option<Vec<usize>>), _)| model::Source {
            kind,
            action,
            against: against.filter(|_| kind == Kind::Exception),
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
    let order = prop::sample::subsequence(lists.clone(), 0..=lists.len()).prop_shuffle();
    let overrides = (any::<bool>(), prop::option::of(actions()));
    (order, prop::collection::vec(overrides, lists.len())).prop_map(|(order, overrides)| View {
        lists: order
            .into_iter()
            .zip(overrides)
            .map(|(source, (log_only, action))| ViewList {
                source,
                log_only,
                action,
            })
            .collect(),
    })
}

fn queries() -> impl Strategy<Value = Query> {
    let chain = prop::collection::vec(labels(), 0..3);
    let answers = prop::collection::vec(addresses(), 0..3);
    (addresses(), labels(), chain, answers).prop_map(|(client, name, chain, addresses)| Query {
        client,
        name,
        chain,
        addresses,
    })
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
