//! Exceptions, orders and lists compared with a simple model that goes through all rules.

use std::sync::Arc;

use proptest::prelude::*;

use tapis::policy::builder::Builder;
use tapis::policy::decide::Decision;
use tapis::policy::images::Images;
use tapis::policy::rule::{Action, Against, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::policy::view::ViewId;
use tapis::wire::name::Name;

use crate::support::policy::list;

/// The sources: name, kind, whether it answers NXDOMAIN, what it overrides. Tests shuffle them;
/// exceptions still precede orders, orders allow lists, and allow lists block lists.
const SOURCES: [(&str, Kind, bool, &[&str]); 9] = [
    ("e-all", Kind::Exception, false, &[]),
    ("e-ads", Kind::Exception, false, &["ads"]),
    (
        "e-some",
        Kind::Exception,
        false,
        &["more", "order:one", "nowhere"],
    ),
    ("order:one", Kind::Order, true, &[]),
    ("order:two", Kind::Order, false, &[]),
    ("good", Kind::Allow, false, &[]),
    ("ads", Kind::Block, true, &[]),
    ("more", Kind::Block, false, &[]),
    ("last", Kind::Block, true, &[]),
];
const SCOPES: [Scope; 3] = [Scope::Exact, Scope::Below, Scope::Subtree];

/// A rule: source, name, scope.
type Rule = (usize, Name, Scope);

fn source(&(name, kind, nxdomain, against): &(&str, Kind, bool, &[&str])) -> Arc<Source> {
    let action = if nxdomain {
        Action::Nxdomain
    } else {
        Action::Sinkhole
    };
    let mut source = Source {
        kind,
        against: match against {
            [] => Against::All,
            names => Against::Named(names.iter().map(|&name| name.to_owned()).collect()),
        },
        ..list(name)
    };
    source.blocking.action = action;
    Arc::new(source)
}

/// Rules, and the order of their sources in the configuration and in the images.
#[derive(Clone, Debug)]
struct Policy {
    rules: Vec<Rule>,
    configured: Vec<usize>,
    image_order: Vec<usize>,
}

impl Policy {
    /// Orders and exceptions have a separate image; the last list is in the delta.
    fn snapshot(&self) -> Snapshot {
        let image = |holds: &dyn Fn(usize) -> bool| {
            let mut builder = Builder::new();
            for &number in self.image_order.iter().filter(|n| holds(**n)) {
                let rules = self.rules.iter().filter(|(source, ..)| *source == number);
                let rules = rules.map(|(_, name, scope)| (name, *scope));
                let name = SOURCES[number].0;
                builder.list(name, rules).expect("there is room");
            }
            Some(Arc::new(builder.finish().expect("there is room")))
        };
        let images = Images {
            base: image(&|n| (5..8).contains(&n)),
            delta: image(&|n| n == 8),
            orders: image(&|n| n < 5),
            ..Images::default()
        };
        let sources = self.configured.iter().map(|n| source(&SOURCES[*n]));
        Snapshot::default().with_rules(sources.collect(), images)
    }

    /// A source's precedence: its kind, then its place in the configuration.
    fn rank(&self, number: usize) -> (u8, usize) {
        let kind = match SOURCES[number].1 {
            Kind::Exception => 0,
            Kind::Order => 1,
            Kind::Allow => 2,
            Kind::Block => 3,
        };
        let place = self.configured.iter().position(|n| *n == number);
        (kind, place.expect("each source is there"))
    }

    /// The sources with a rule that matches a name, in order of precedence.
    fn matching(&self, name: &Name) -> Vec<usize> {
        let matching = self
            .rules
            .iter()
            .filter(|rule| rule.2.reaches(&rule.1, name));
        let mut sources: Vec<_> = matching.map(|rule| rule.0).collect();
        sources.sort_by_key(|number| self.rank(*number));
        sources.dedup();
        sources
    }

    fn exceptions(&self, name: &Name) -> Vec<usize> {
        let mut matching = self.matching(name);
        matching.retain(|number| *number < 3);
        matching
    }

    /// The expected decision: a word, and the source. `past` has the exceptions of earlier names in the chain, which
    /// apply to this name, too.
    fn model(&self, name: &Name, past: &[usize]) -> (&'static str, Option<&'static str>) {
        let own = self.exceptions(name);
        if own.contains(&0) || past.contains(&0) {
            return ("allowed", Some("e-all"));
        }
        let overridden = |number: usize| {
            let mut against = own.iter().chain(past).flat_map(|n| SOURCES[*n].3);
            against.any(|name| *name == SOURCES[number].0)
        };
        let counted = self.matching(name).into_iter();
        let mut counted = counted.filter(|number| *number >= 3 && !overridden(*number));
        match (counted.next(), own.first()) {
            (Some(5), _) => ("allowed", Some("good")),
            (Some(number), _) => ("blocked", Some(SOURCES[number].0)),
            (None, Some(number)) => ("excepted", Some(SOURCES[*number].0)),
            (None, None) => ("nothing", None),
        }
    }

    /// The expected decision on a CNAME chain: the blocked hop, and the source that blocks it.
    fn model_of_chain(&self, asked: &Name, chain: &[Name]) -> Option<(usize, &'static str)> {
        let past = self.exceptions(asked);
        // An exception to all sources ends the evaluation; after an allow list, only orders apply.
        let mut by = self.model(asked, &[]);
        let mut orders_alone = false;
        for (hop, name) in (1..).zip(chain) {
            if by == ("allowed", Some("e-all")) {
                return None;
            }
            orders_alone |= by == ("allowed", Some("good"));
            by = self.model(name, &past);
            match by {
                ("blocked", Some(source)) if !orders_alone || source.starts_with("order:") => {
                    return Some((hop, source));
                }
                _ => {}
            }
        }
        None
    }
}

fn summary(decision: &Decision<'_>) -> (&'static str, Option<String>) {
    match decision {
        Decision::Pass => ("nothing", None),
        Decision::Excepted(by) => ("excepted", Some(by.source.name.clone())),
        Decision::Allowed(by) => ("allowed", Some(by.source.name.clone())),
        Decision::Blocked { by, .. } => ("blocked", Some(by.source.name.clone())),
    }
}

/// Few labels, so that names nest and rules often match the same name.
fn name() -> impl Strategy<Value = Name> {
    let label = prop_oneof![Just("a"), Just("b"), Just("c")];
    prop::collection::vec(label, 1..5)
        .prop_map(|labels| Name::from_text(&labels.join(".")).expect("a name"))
}

fn policy() -> impl Strategy<Value = Policy> {
    let rule = (0..SOURCES.len(), name(), prop::sample::select(&SCOPES[..]));
    let shuffled = || Just((0..SOURCES.len()).collect::<Vec<_>>()).prop_shuffle();
    let rules = prop::collection::vec(rule, 0..24);
    (rules, shuffled(), shuffled()).prop_map(|(rules, configured, image_order)| Policy {
        rules,
        configured,
        image_order,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn exceptions_orders_and_lists_decide_as_the_model_does(
        policy in policy(),
        names in prop::collection::vec(name(), 1..40),
    ) {
        let snapshot = policy.snapshot();
        for name in &names {
            let decision = snapshot.decide(name);
            let (word, by) = summary(&decision);
            prop_assert_eq!((word, by.as_deref()), policy.model(name, &[]), "{}", name);
            // NXDOMAIN applies to all names below.
            if let Decision::Blocked { nxdomain: true, .. } = decision {
                let is_below = |other: &&Name| {
                    other.label_count() > name.label_count()
                        && other.ancestor(name.label_count()) == name.wire()
                };
                let owners = policy.rules.iter().map(|rule| &rule.1);
                for other in names.iter().chain(owners).filter(is_below) {
                    let (word, by) = policy.model(other, &[]);
                    let nxdomain = SOURCES.iter().any(|s| Some(s.0) == by && s.2);
                    prop_assert!(word == "blocked" && nxdomain, "{} below {}", other, name);
                }
            }
        }
    }

    #[test]
    fn a_chain_of_cnames_is_decided_as_the_model_does(
        policy in policy(),
        asked in prop::collection::vec(name(), 1..20),
        chain in prop::collection::vec(name(), 1..4),
    ) {
        let snapshot = policy.snapshot();
        for asked in &asked {
            let decision = snapshot.decide(asked);
            if let Decision::Blocked { .. } = decision {
                continue;
            }
            let view = snapshot.view(ViewId::DEFAULT);
            let (names, addresses) = (chain.iter().cloned(), std::iter::empty());
            let answer = view.decide_answer(asked, decision.later_rules(), names, addresses);
            let (word, by) = match answer.decision {
                Decision::Blocked { .. } => summary(&answer.decision),
                _ => ("nothing", None),
            };
            let expected = match policy.model_of_chain(asked, &chain) {
                Some((hop, source)) => (hop, "blocked", Some(source)),
                None => (0, "nothing", None),
            };
            prop_assert_eq!((answer.hops, word, by.as_deref()), expected, "{} to {:?}", asked, chain);
        }
    }
}

/// A policy of exact rules.
fn exact_rules(rules: &[(usize, &str)]) -> Policy {
    let name = |text: &str| Name::from_text(text).expect("a name");
    let rules = rules.iter();
    Policy {
        rules: rules
            .map(|(n, text)| (*n, name(text), Scope::Exact))
            .collect(),
        configured: (0..SOURCES.len()).collect(),
        image_order: (0..SOURCES.len()).collect(),
    }
}

/// The source that blocks the target of the asked name's CNAME.
fn blocked_by(policy: &Policy, asked: &str, target: &str) -> Option<String> {
    let name = |text: &str| Name::from_text(text).expect("a name");
    let snapshot = policy.snapshot();
    let past = snapshot.decide(&name(asked)).later_rules();
    let (chain, addresses) = (std::iter::once(name(target)), std::iter::empty());
    let view = snapshot.view(ViewId::DEFAULT);
    let answer = view.decide_answer(&name(asked), past, chain, addresses);
    match answer.decision {
        Decision::Blocked { .. } => summary(&answer.decision).1,
        _ => None,
    }
}

#[test]
fn an_exception_on_an_allow_listed_name_applies_to_its_cname_too() {
    let order = Some("order:one".to_owned());
    let rules = [(5, "a.b"), (3, "c.b")];
    assert_eq!(blocked_by(&exact_rules(&rules), "a.b", "c.b"), order);
    // An exception on the asked name overrides that order.
    let excepted = [&rules[..], &[(2, "a.b")]].concat();
    assert_eq!(blocked_by(&exact_rules(&excepted), "a.b", "c.b"), None);
    // One of these overrides only a list, the other does not match the asked name.
    let other = [&rules[..], &[(1, "a.b"), (2, "b")]].concat();
    assert_eq!(blocked_by(&exact_rules(&other), "a.b", "c.b"), order);
}

#[test]
fn an_exception_applies_at_any_place_in_the_configuration() {
    let rules = [(2, "a.b"), (1, "a.b"), (3, "a.b"), (6, "a.b"), (7, "a.b")];
    let name = Name::from_text("a.b").expect("a name");
    for configured in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
        let mut policy = exact_rules(&rules);
        policy.configured = (3..SOURCES.len()).chain(configured).collect();
        policy.image_order.reverse();
        let first = configured.into_iter().find(|n| *n != 0);
        let first = first.map(|n| SOURCES[n].0.to_owned());
        let snapshot = policy.snapshot();
        let decision = snapshot.decide(&name);
        assert_eq!(summary(&decision), ("excepted", first), "{configured:?}");
    }
}
