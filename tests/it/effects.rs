//! Rules with effects are compared with a model that knows all rules and no image.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use tapis::policy::builder::Builder;
use tapis::policy::condition::{Condition, TypeSet};
use tapis::policy::decide::{Decision, PolicyView};
use tapis::policy::effect::{Effect, EffectAction, Tier};
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::images::Images;
use tapis::policy::prefix::{AddressOf, Prefix};
use tapis::policy::ranking::LookupResult;
use tapis::policy::record::LocalRecord;
use tapis::policy::rule::{Action, Against, Blocking, Ede, EffectAnswer, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::policy::view::{LookupKey, Mode, View, ViewId, ViewList};
use tapis::wire::name::Name;
use tapis::wire::rtype;

use crate::support::policy::list;

const KINDS: [Kind; 6] = [
    Kind::Block,
    Kind::Allow,
    Kind::Order,
    Kind::Block,
    Kind::Exception,
    Kind::Block,
];

/// A rule: source, owner, scope, effect.
type Rule = (usize, Name, Scope, Effect);

fn named(number: usize) -> String {
    format!("source{number}")
}

fn source(number: usize, action: Action) -> Arc<Source> {
    let mut source = Source {
        kind: KINDS[number],
        ..list(&named(number))
    };
    source.blocking.action = action;
    Arc::new(source)
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Upstream,
    /// By the rule of this source.
    Allowed(usize),
    Blocked(usize, Blocking),
}

struct Policy {
    actions: [Action; 6],
    rules: Vec<Rule>,
    views: Vec<View>,
}

impl Policy {
    /// The first sources are in the base, the others in the delta; orders and exceptions have their own image.
    fn snapshot(&self) -> Snapshot {
        let image = |numbers: &[usize]| {
            let mut builder = Builder::new();
            for number in numbers {
                let name = ImageSource::named(&named(*number));
                let at = builder.source(name).expect("few");
                for (_, owner, scope, effect) in self.rules.iter().filter(|rule| rule.0 == *number)
                {
                    builder
                        .insert_effect(owner, at, *scope, effect)
                        .expect("room");
                }
            }
            Some(Arc::new(builder.finish().expect("room")))
        };
        let images = Images {
            base: image(&[3, 1, 0]),
            delta: image(&[5]),
            orders: image(&[2, 4]),
            ..Images::default()
        };
        let sources = self.actions.iter().enumerate();
        let sources = sources.map(|(number, action)| source(number, *action));
        Snapshot::default().with_views(sources.collect(), images, &self.views)
    }

    /// The place of a source in a view, and its list there; `None` if it does not count.
    fn place(number: usize, view: Option<&View>) -> Option<(usize, Option<&ViewList>)> {
        match (KINDS[number], view) {
            (Kind::Exception | Kind::Order, _) | (_, None) => Some((number, None)),
            (_, Some(view)) => {
                let mut lists = view.lists.iter().enumerate();
                let (place, list) = lists.find(|(_, list)| list.name == named(number))?;
                Some((place, Some(list)))
            }
        }
    }

    /// The precedence of a rule; the lowest decides.
    fn precedence(rule: &Rule, place: usize) -> (u8, usize, Reverse<Tier>, usize, u32, &Effect) {
        let (number, owner, scope, effect) = rule;
        let is_important = effect.tier >= Tier::Important;
        let stage = match (KINDS[*number], is_important) {
            (Kind::Exception, _) => 0,
            (Kind::Order, _) => 1,
            (Kind::Block, true) => 2,
            (Kind::Allow, _) => 3,
            (Kind::Block, false) => 4,
        };
        let depth = usize::MAX - owner.label_count();
        let scope = scope.weight();
        (stage, place, Reverse(effect.tier), depth, scope, effect)
    }

    /// The outcome of a query of this type in a view, and the source of the rule that is logged only and would have decided.
    fn outcome(
        &self,
        (name, qtype): (&Name, u16),
        view: Option<&View>,
        is_stream: bool,
    ) -> (Outcome, Option<usize>) {
        let matching = self.rules.iter().filter(|(_, owner, scope, effect)| {
            scope.reaches(owner, name) && effect.applies_to(name, Some(qtype))
        });
        let placed = matching.filter_map(|rule| Some((rule, Self::place(rule.0, view)?)));
        let best = |logs: bool| {
            let of_mode = placed.clone().filter(|(_, (_, list))| {
                let mode = list.map_or(Mode::Enforce, |list| list.mode);
                (mode == Mode::LogOnly) == logs
            });
            of_mode.min_by_key(|(rule, (place, _))| Self::precedence(rule, *place))
        };
        let (decides, logged) = (best(false), best(true));
        let order = |(rule, (place, _)): (&'_ Rule, (usize, Option<&ViewList>))| {
            let (stage, place, tier, depth, scope, effect) = Self::precedence(rule, place);
            (stage, place, tier, depth, scope, effect.clone())
        };
        let precedes = |logged| decides.is_none_or(|decides| order(logged) < order(decides));
        let logged = logged
            .filter(|logged| precedes(*logged))
            .map(|(rule, _)| rule.0);
        let Some(((number, _, _, effect), (_, list))) = decides else {
            return (Outcome::Upstream, logged);
        };
        let source = source(*number, self.actions[*number]);
        let mut blocking = source.blocking.clone();
        match &effect.action {
            _ if source.kind == Kind::Exception => return (Outcome::Allowed(*number), logged),
            EffectAction::Source if source.blocks() => {}
            EffectAction::Source | EffectAction::Allow => {
                return (Outcome::Allowed(*number), logged);
            }
            EffectAction::Void => unreachable!("only images that amend others have marks"),
            EffectAction::Block(action) => blocking.action = *action,
            EffectAction::Addresses(v4, v6) => {
                blocking.action = Action::Sinkhole;
                blocking.sinkhole_v4.clone_from(v4);
                blocking.sinkhole_v6.clone_from(v6);
            }
            EffectAction::Records(_) | EffectAction::Cname { .. } | EffectAction::TcpOnly => {
                blocking.action = Action::Nodata;
            }
        }
        blocking.ttl_secs = effect.ttl_secs.unwrap_or(blocking.ttl_secs);
        blocking.effect_answer = own(&effect.action, blocking.ttl_secs);
        blocking.as_written = effect.as_written;
        blocking.ede = effect.ede.unwrap_or(blocking.ede);
        if let Some(text) = &effect.extra_text {
            blocking.extra_text.clone_from(text);
        }
        if let Some(action) = list.and_then(|list| list.action) {
            blocking.action = action;
            blocking.effect_answer = None;
        }
        let allows = match &blocking.effect_answer {
            Some(EffectAnswer::TcpOnly) => is_stream,
            Some(EffectAnswer::Cname {
                target, prepend, ..
            }) => !prepend && **target == *name,
            _ => false,
        };
        if allows {
            return (Outcome::Allowed(*number), logged);
        }
        (Outcome::Blocked(*number, blocking), logged)
    }

    /// The names below `name` that may be decided differently: the owners of rules, and a name below each of them.
    fn below(&self, name: &Name) -> Vec<Name> {
        let owners = self.rules.iter().map(|(_, owner, ..)| owner);
        let owners = owners.chain([name]).filter(|owner| {
            let depth = name.label_count();
            owner.label_count() >= depth && owner.ancestor(depth) == name.wire()
        });
        let mut below: Vec<_> = owners
            .flat_map(|owner| [owner.clone(), child(owner)])
            .collect();
        below.retain(|other| other.label_count() > name.label_count());
        below
    }
}

/// The answer of an action with a TTL. The model has effects with one record only.
fn own(action: &EffectAction, ttl_secs: u32) -> Option<EffectAnswer> {
    match action {
        EffectAction::Records(records) => Some(match records[0].cname_target() {
            Some(target) => EffectAnswer::Cname {
                target: Arc::new(target),
                prepend: false,
                ttl_secs,
            },
            None => EffectAnswer::Records(Box::new([LocalRecord {
                ttl_secs: Some(ttl_secs),
                ..records[0].clone()
            }])),
        }),
        EffectAction::Cname { target, prepend } => Some(EffectAnswer::Cname {
            target: target.clone(),
            prepend: *prepend,
            ttl_secs,
        }),
        EffectAction::TcpOnly => Some(EffectAnswer::TcpOnly),
        _ => None,
    }
}

/// A name without a rule, one label below the given one.
fn child(name: &Name) -> Name {
    let wire = [b"\x05other", name.wire()].concat();
    Name::parse(&wire, 0).expect("short").0
}

fn number(source: &Source) -> usize {
    source.name["source".len()..].parse().expect("a number")
}

fn decided(policy: PolicyView<'_>, found: &LookupResult, name: &Name) -> (Outcome, Option<usize>) {
    let outcome = match policy.decide_by(name, found) {
        Decision::Pass => Outcome::Upstream,
        Decision::Allowed(by) | Decision::Excepted(by) => Outcome::Allowed(number(by.source)),
        Decision::Blocked { by, .. } => Outcome::Blocked(number(by.source), by.blocking.clone()),
    };
    let logged = policy.logged(name, found);
    (outcome, logged.map(|logged| number(logged.source)))
}

fn names() -> impl Strategy<Value = Name> {
    let label = prop::sample::select(vec!["a", "b", "c"]);
    prop::collection::vec(label, 1..4)
        .prop_map(|labels| Name::from_text(&labels.join(".")).expect("a name"))
}

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![
        Action::Nxdomain,
        Action::Nxdomain,
        Action::Sinkhole,
        Action::Refused,
    ])
}

fn effects() -> impl Strategy<Value = Effect> {
    let actions = prop_oneof![
        4 => Just(EffectAction::Source),
        2 => action().prop_map(EffectAction::Block),
        1 => Just(EffectAction::Allow),
        1 => (0..3_u8).prop_map(|last| EffectAction::Addresses(vec![[192, 0, 2, last].into()], Vec::new())),
        1 => (0..3_u8).prop_map(|last| record(rtype::TXT, &[1, last])),
        1 => names().prop_map(|name| record(rtype::CNAME, name.wire())),
        1 => (names(), any::<bool>()).prop_map(|(target, prepend)| EffectAction::Cname {
            target: Arc::new(target),
            prepend,
        }),
        1 => Just(EffectAction::TcpOnly),
    ];
    let tiers = prop_oneof![
        6 => Just(Tier::Usual),
        1 => Just(Tier::First),
        1 => Just(Tier::Important),
        1 => Just(Tier::ImportantFirst),
        1 => Just(Tier::Rewrite),
    ];
    let ttl_secs = prop::option::weighted(0.1, 1..3_u32);
    let ede = prop::option::weighted(0.1, Just(Ede::Filtered));
    let text = prop::option::weighted(0.1, Just("text".to_owned()));
    let of = |((action, as_written), tier, (ttl_secs, condition), ede, extra_text)| Effect {
        action,
        tier,
        ttl_secs,
        ede,
        extra_text,
        as_written,
        condition,
    };
    let actions = (actions, prop::bool::weighted(0.2));
    let ttl_secs = (ttl_secs, prop::option::weighted(0.3, conditions()));
    (actions, tiers, ttl_secs, ede, text).prop_map(of)
}

/// The types of queries in the tests.
const TYPES: [u16; 3] = [rtype::A, rtype::AAAA, rtype::TXT];

fn conditions() -> impl Strategy<Value = Box<Condition>> {
    let types = prop_oneof![
        2 => Just(Some(TypeSet::Only([rtype::A].into()))),
        1 => Just(Some(TypeSet::AllBut([rtype::A, rtype::TXT].into()))),
        1 => Just(None),
    ];
    let except = prop::collection::vec(names(), 0..3);
    (types, except).prop_filter_map("it holds for all queries", |(types, except)| {
        Condition::new(types, except).ok().map(Box::new)
    })
}

fn record(rtype: u16, data: &[u8]) -> EffectAction {
    EffectAction::Records(vec![LocalRecord {
        rtype,
        ttl_secs: None,
        data: data.into(),
    }])
}

/// Some of the lists in any order.
fn views() -> impl Strategy<Value = View> {
    let mode = prop_oneof![3 => Just(Mode::Enforce), 1 => Just(Mode::LogOnly)];
    let list = (mode, prop::option::weighted(0.3, action()));
    let lists = prop::collection::vec(list, 4);
    let order = Just(vec![0, 1, 3, 5]).prop_shuffle();
    (order, lists, 0..=4_usize).prop_map(|(order, lists, count)| View {
        lists: order
            .into_iter()
            .zip(lists)
            .take(count)
            .map(|(number, (mode, action))| ViewList {
                name: named(number),
                mode,
                action,
            })
            .collect(),
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let scope = prop::sample::select(vec![Scope::Exact, Scope::Below, Scope::Subtree]);
    let effect = prop_oneof![2 => Just(Effect::default()), 3 => effects()];
    let rule = (0..6_usize, names(), scope, effect);
    let rule = rule.prop_filter("no CNAME to itself", |(_, owner, scope, effect)| {
        effect.check_trigger(|| owner.clone(), *scope).is_ok()
    });
    prop::collection::vec(rule, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn decisions_match_the_model(
        rules in rules(),
        actions in prop::array::uniform6(action()),
        asked in prop::collection::vec(names(), 1..8),
        views in prop::collection::vec(views(), 0..4),
    ) {
        let policy = Policy { actions, rules, views };
        let snapshot = policy.snapshot();
        let owners = policy.rules.iter().map(|(_, owner, ..)| owner.clone());
        let names = owners.flat_map(|owner| [child(&owner), owner]).chain(asked);
        // All names in all views, in one batch.
        let views = std::iter::once(None).chain(policy.views.iter().map(Some)).zip(0..);
        let keys = views.flat_map(|(view, id)| {
            TYPES.map(move |qtype| (view, qtype, LookupKey::new(ViewId(id), qtype)))
        });
        let all: Vec<(Name, _, u16, LookupKey)> = names
            .flat_map(|name| keys.clone().map(move |(view, qtype, key)| (name.clone(), view, qtype, key)))
            .collect();
        let mut found = vec![LookupResult::default(); all.len()];
        let names: Vec<_> = all.iter().map(|(name, ..)| name).collect();
        let keys: Vec<_> = all.iter().map(|(.., key)| *key).collect();
        snapshot.lookup_in(&names, &keys, &mut found);
        for ((name, view, qtype, key), found) in all.iter().zip(&found) {
            let in_view = snapshot.view(key.view).for_type(*qtype);
            for is_stream in [false, true] {
                let expected = policy.outcome((name, *qtype), *view, is_stream);
                let decided = decided(in_view.over(is_stream), found, name);
                prop_assert_eq!(decided, expected, "{} {} in {:?}", name, qtype, view);
            }
            let Decision::Blocked { by, nxdomain, closed } = in_view.decide(name) else { continue };
            let is_nxdomain = by.blocking.action == Action::Nxdomain;
            let as_written = is_nxdomain && by.blocking.as_written;
            prop_assert!(nxdomain || !as_written, "{}", name);
            let below = policy.below(name);
            let queries = below.iter().chain([name]).flat_map(|below| {
                TYPES.into_iter().flat_map(move |qtype| [(below, qtype, false), (below, qtype, true)])
            });
            for (below, qtype, is_stream) in queries {
                let (outcome, _) = policy.outcome((below, qtype), *view, is_stream);
                if closed && below != name {
                    prop_assert!(matches!(outcome, Outcome::Blocked(..)), "{} below {}", below, name);
                }
                // The streams of queries for the name itself are not compared: over one of the two, a rule may allow it.
                if nxdomain && !as_written && (below != name || !is_stream) {
                    let denies = |blocking: &Blocking| blocking.action == Action::Nxdomain;
                    let is_denied = matches!(&outcome, Outcome::Blocked(_, it) if denies(it));
                    prop_assert!(is_denied, "{} below {}: {:?}", below, name, outcome);
                }
            }
        }
    }
}

/// More cases by the variable `TAPIS_EFFECTS`.
fn cases() -> u32 {
    let cases = std::env::var("TAPIS_EFFECTS").ok();
    cases.map_or(500, |cases| cases.parse().expect("a number"))
}

#[test]
fn a_blocked_name_above_one_that_its_list_may_allow_is_not_closed() {
    let name = |text: &str| Name::from_text(text).expect("a name");
    let closed = |action: EffectAction| {
        let below = Effect {
            action,
            ..Effect::default()
        };
        let policy = Policy {
            actions: [Action::Sinkhole; 6],
            rules: vec![
                (0, name("a"), Scope::Subtree, Effect::default()),
                (0, name("b.a"), Scope::Subtree, below),
            ],
            views: Vec::new(),
        };
        match policy.snapshot().decide(&name("a")) {
            Decision::Blocked { closed, .. } => closed,
            other => panic!("{other:?}"),
        }
    };
    let alias = |prepend| EffectAction::Cname {
        target: Arc::new(name("c.b.a")),
        prepend,
    };
    let blocking = [
        EffectAction::Source,
        record(rtype::TXT, b"\x01x"),
        alias(true),
    ];
    for action in blocking {
        assert!(closed(action.clone()), "{action:?}");
    }
    // Validators need its DS and DNSKEY records.
    for action in [EffectAction::Allow, EffectAction::TcpOnly, alias(false)] {
        assert!(!closed(action.clone()), "{action:?}");
    }
}

/// A policy for the tests of [`Decision::Blocked`]. It has rules on names, on a client and with patterns, and
/// exceptions against one list each. The sources are those of [`KINDS`], followed by two exceptions.
#[derive(Clone, Debug)]
struct Mixed {
    actions: [Action; 6],
    rules: Vec<Rule>,
    /// Source and effect of rules on the client.
    clients: Vec<(usize, Effect)>,
    /// Source, effect, and the text that is found in names.
    patterns: Vec<(usize, &'static str, Effect)>,
    /// Rules of exceptions: the number of the exception (see [`AGAINST`]), the name and the scope.
    exceptions: Vec<(usize, Name, Scope)>,
}

/// The sources that the exceptions are against.
const AGAINST: [usize; 2] = [0, 3];

impl Mixed {
    fn snapshot(&self) -> Snapshot {
        let network = Prefix::new(
            AddressOf::Client,
            "192.0.2.0/24".parse().expect("a network"),
        );
        let network = network.expect("valid");
        let mut sources: Vec<_> = (0..6)
            .map(|number| source(number, self.actions[number]))
            .collect();
        let image = |numbers: &[usize], exceptions: &[usize]| {
            let mut builder = Builder::new();
            for number in numbers {
                let name = ImageSource::named(&named(*number));
                let at = builder.source(name).expect("few");
                for (_, owner, scope, effect) in self.rules.iter().filter(|rule| rule.0 == *number)
                {
                    let added = builder.insert_effect(owner, at, *scope, effect);
                    added.expect("room");
                }
                for (_, effect) in self.clients.iter().filter(|rule| rule.0 == *number) {
                    builder.insert_prefix(network, at, effect).expect("room");
                }
                for (_, text, effect) in self.patterns.iter().filter(|rule| rule.0 == *number) {
                    builder.insert_pattern(text, at, effect).expect("room");
                }
            }
            for exception in exceptions {
                let of = self.exceptions.iter().filter(|rule| rule.0 == *exception);
                let rules = of.map(|(_, owner, scope)| (owner, *scope));
                builder
                    .list(&format!("exception{exception}"), rules)
                    .expect("room");
            }
            Some(Arc::new(builder.finish().expect("room")))
        };
        let images = Images {
            base: image(&[3, 1, 0], &[]),
            delta: image(&[5], &[]),
            orders: image(&[2, 4], &[0, 1]),
            ..Images::default()
        };
        for (exception, against) in AGAINST.into_iter().enumerate() {
            sources.push(Arc::new(Source {
                allows_across: false,
                zone: None,
                name: format!("exception{exception}"),
                path: PathBuf::new(),
                kind: Kind::Exception,
                against: Against::Named(vec![named(against)]),
                blocking: Blocking::clone(&sources[0].blocking),
            }));
        }
        Snapshot::default().with_rules(sources, images)
    }

    /// The rule that decides about a query for a client of the network: its source and its effect.
    fn decides(&self, name: &Name, qtype: u16, with_clients: bool) -> Option<(usize, &Effect)> {
        let is_ignored = |source: usize| {
            let mut exceptions = self.exceptions.iter();
            exceptions.any(|(exception, owner, scope)| {
                AGAINST[*exception] == source && scope.reaches(owner, name)
            })
        };
        let rank = |source: usize, effect: &Effect| {
            let root = (source, Name::ROOT, Scope::Exact, effect.clone());
            let (class, place, tier, ..) = Policy::precedence(&root, source);
            (class, place, tier)
        };
        let text = name.to_string();
        let text = text.trim_end_matches('.');
        let on_client = self.clients.iter().filter(|_| with_clients);
        let on_client = on_client.map(|(source, effect)| ((*source, effect), (0, 0, 0)));
        let on_name = self
            .rules
            .iter()
            .filter(|(_, owner, scope, _)| scope.reaches(owner, name));
        let on_name = on_name.map(|(source, owner, scope, effect)| {
            let depth = usize::MAX - owner.label_count();
            ((*source, effect), (1, depth, scope.weight()))
        });
        let pattern = self
            .patterns
            .iter()
            .filter(|(_, pattern, _)| text.contains(pattern));
        let pattern = pattern.map(|(source, _, effect)| ((*source, effect), (2, 0, 0)));
        let all = on_client.chain(on_name).chain(pattern);
        let all = all.filter(|((source, effect), _)| {
            !is_ignored(*source) && effect.applies_to(name, Some(qtype))
        });
        let first =
            all.min_by_key(|((source, effect), kind)| (rank(*source, effect), *kind, *effect));
        first.map(|(rule, _)| rule)
    }

    /// The action with which a name is blocked; `None` if it is not blocked. `Drop` stands for all effects that block
    /// with something else than an action, such as records.
    fn blocks(
        &self,
        (name, qtype): (&Name, u16),
        with_clients: bool,
        is_stream: bool,
    ) -> Option<Action> {
        let (number, effect) = self.decides(name, qtype, with_clients)?;
        let source = source(number, self.actions[number]);
        match &effect.action {
            _ if source.kind == Kind::Exception => None,
            EffectAction::Source if source.blocks() => Some(source.blocking.action),
            EffectAction::Source | EffectAction::Allow | EffectAction::Void => None,
            EffectAction::Block(action) => Some(*action),
            EffectAction::TcpOnly if is_stream => None,
            EffectAction::Cname {
                target,
                prepend: false,
            } if **target == *name => None,
            EffectAction::Records(records)
                if records[0]
                    .cname_target()
                    .is_some_and(|target| target == *name) =>
            {
                None
            }
            _ => Some(Action::Drop),
        }
    }

    /// Names below: the owners of rules and exceptions, a name with each pattern, and a name below each of them.
    fn below(&self, name: &Name) -> Vec<Name> {
        let owners = self.rules.iter().map(|(_, owner, ..)| owner);
        let owners = owners.chain(self.exceptions.iter().map(|(_, owner, _)| owner));
        let owners = owners.chain([name]).filter(|owner| {
            let depth = name.label_count();
            owner.label_count() >= depth && owner.ancestor(depth) == name.wire()
        });
        let below = owners.flat_map(|owner| {
            let matching = PATTERNS.map(|pattern| {
                let wire = [&[3], pattern.as_bytes(), owner.wire()].concat();
                Name::parse(&wire, 0).expect("short").0
            });
            [owner.clone(), child(owner)].into_iter().chain(matching)
        });
        below
            .filter(|other| other.label_count() > name.label_count())
            .collect()
    }
}

/// Texts that patterns look for.
const PATTERNS: [&str; 3] = ["a.b", "xyz", "oth"];

fn mixed() -> impl Strategy<Value = Mixed> {
    let effect = || prop_oneof![2 => Just(Effect::default()), 1 => effects()];
    let client = (0..6_usize, effect());
    let pattern = prop::sample::select(PATTERNS.to_vec());
    let pattern = (0..6_usize, pattern, effect());
    let scope = prop::sample::select(vec![Scope::Exact, Scope::Below, Scope::Subtree]);
    let exception = (0..2_usize, names(), scope);
    let parts = (
        prop::array::uniform6(action()),
        rules(),
        prop::collection::vec(client, 0..3),
        prop::collection::vec(pattern, 0..2),
        prop::collection::vec(exception, 0..3),
    );
    parts.prop_map(|(actions, rules, clients, patterns, exceptions)| Mixed {
        actions,
        rules,
        clients,
        patterns,
        exceptions,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn nxdomain_and_closed_are_true_beside_clients_patterns_and_exceptions(
        policy in mixed(),
        asked in prop::collection::vec(names(), 1..4),
    ) {
        let snapshot = policy.snapshot();
        let owners = policy.rules.iter().map(|(_, owner, ..)| owner.clone());
        for name in owners.chain(asked) {
            for (with_clients, qtype) in [false, true].into_iter().flat_map(|with| TYPES.map(|qtype| (with, qtype))) {
                let address = if with_clients { [192, 0, 2, 1] } else { [198, 51, 100, 1] };
                let view = snapshot.view(ViewId::DEFAULT).for_client(address.into()).for_type(qtype);
                let decision = view.decide(&name);
                let is_blocked = policy.blocks((&name, qtype), with_clients, false).is_some();
                prop_assert_eq!(matches!(decision, Decision::Blocked { .. }), is_blocked, "{}", name);
                let Decision::Blocked { by, nxdomain, closed } = decision else { continue };
                for below in policy.below(&name).into_iter().chain([name.clone()]) {
                    for (is_stream, qtype) in [false, true].into_iter().flat_map(|is| TYPES.map(|qtype| (is, qtype))) {
                        if below == name && is_stream {
                            continue;
                        }
                        let action = policy.blocks((&below, qtype), with_clients, is_stream);
                        prop_assert!(!closed || below == name || action.is_some(), "{} below {}", below, name);
                        let is_true = by.blocking.as_written || action == Some(Action::Nxdomain);
                        prop_assert!(!nxdomain || is_true, "{} below {}: {:?}", below, name, action);
                    }
                }
            }
        }
    }
}
