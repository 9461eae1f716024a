//! Exceptions and orders against a stupid twin that goes through all rules.

use std::sync::Arc;

use proptest::prelude::*;

use tapis::policy::builder::Builder;
use tapis::policy::images::Images;
use tapis::policy::rule::{Action, Against, Blocking, Kind, Scope, Source};
use tapis::policy::snapshot::{Decision, Snapshot};
use tapis::wire::name::Name;

/// The sources in the order of precedence: name, kind, whether it answers NXDOMAIN, what it stands against.
const SOURCES: [(&str, Kind, bool, &[&str]); 9] = [
    ("e-all", Kind::Exception, false, &[]),
    ("e-ads", Kind::Exception, false, &["ads"]),
    (
        "e-some",
        Kind::Exception,
        false,
        &["order:one", "more", "nowhere"],
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
    Arc::new(Source {
        name: name.to_owned(),
        path: name.into(),
        kind,
        blocking: Blocking {
            action,
            ..Blocking::none()
        },
        against: match against {
            [] => Against::All,
            names => Against::Named(names.iter().map(|&name| name.to_owned()).collect()),
        },
    })
}

/// Orders and exceptions lie in an image of their own; of the lists the last one lies in the delta.
fn snapshot(rules: &[Rule]) -> Snapshot {
    let image = |holds: &dyn Fn(usize) -> bool| {
        let mut builder = Builder::new();
        for (number, (name, ..)) in SOURCES.iter().enumerate().filter(|(n, _)| holds(*n)) {
            let rules = rules.iter().filter(|(source, ..)| *source == number);
            let rules = rules.map(|(_, name, scope)| (name, *scope));
            builder.list(name, rules).expect("there is room");
        }
        Some(Arc::new(builder.finish().expect("there is room")))
    };
    let images = Images {
        base: image(&|n| (5..8).contains(&n)),
        delta: image(&|n| n == 8),
        orders: image(&|n| n < 5),
    };
    Snapshot::default().with_rules(SOURCES.iter().map(source).collect(), images)
}

/// What the twin says: a word, and by which source.
fn twin(rules: &[Rule], name: &Name, past: &[usize]) -> (&'static str, Option<&'static str>) {
    let speaks = |rule: &&Rule| rule.2.reaches(&rule.1, name);
    let exceptions = rules.iter().filter(speaks).map(|rule| rule.0);
    let exceptions: Vec<_> = exceptions
        .chain(past.iter().copied())
        .filter(|n| *n < 3)
        .collect();
    if exceptions.contains(&0) {
        return ("allowed", Some("e-all"));
    }
    let muted = |number: usize| {
        let mut against = exceptions.iter().flat_map(|n| SOURCES[*n].3);
        against.any(|name| *name == SOURCES[number].0)
    };
    let counted = rules
        .iter()
        .filter(speaks)
        .filter(|rule| rule.0 >= 3 && !muted(rule.0));
    match counted.map(|rule| rule.0).min() {
        Some(5) => ("allowed", Some("good")),
        Some(number) => ("blocked", Some(SOURCES[number].0)),
        None if exceptions
            .iter()
            .any(|n| rules.iter().filter(speaks).any(|r| r.0 == *n)) =>
        {
            ("excepted", None)
        }
        None => ("nothing", None),
    }
}

fn told(decision: &Decision<'_>) -> (&'static str, Option<String>) {
    match decision {
        Decision::Pass => ("nothing", None),
        Decision::Excepted(_) => ("excepted", None),
        Decision::Allowed(by) => ("allowed", Some(by.source.name.clone())),
        Decision::Blocked { by, .. } => ("blocked", Some(by.source.name.clone())),
    }
}

/// Few labels, so that names nest and rules meet all the time.
fn name() -> impl Strategy<Value = Name> {
    let label = prop_oneof![Just("a"), Just("b"), Just("c")];
    prop::collection::vec(label, 1..5)
        .prop_map(|labels| Name::from_text(&labels.join(".")).expect("a name"))
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (0..SOURCES.len(), name(), prop::sample::select(&SCOPES[..]));
    prop::collection::vec(rule, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn exceptions_orders_and_lists_decide_as_the_twin_says(
        rules in rules(),
        names in prop::collection::vec(name(), 1..40),
    ) {
        let snapshot = snapshot(&rules);
        for name in &names {
            let decision = snapshot.decide(name);
            let (word, by) = told(&decision);
            prop_assert_eq!((word, by.as_deref()), twin(&rules, name, &[]), "{}", name);
            // NXDOMAIN is true of all names beneath.
            if let Decision::Blocked { nxdomain: true, .. } = decision {
                let beneath = |other: &&Name| {
                    other.label_count() > name.label_count()
                        && other.ancestor(name.label_count()) == name.wire()
                };
                for other in names.iter().chain(rules.iter().map(|rule| &rule.1)).filter(beneath) {
                    let (word, by) = twin(&rules, other, &[]);
                    let nxdomain = SOURCES.iter().any(|s| Some(s.0) == by && s.2);
                    prop_assert!(word == "blocked" && nxdomain, "{} beneath {}", other, name);
                }
            }
        }
    }

    #[test]
    fn what_an_exception_stands_against_does_not_count_for_a_cname_either(
        rules in rules(),
        asked in name(),
        target in name(),
    ) {
        let snapshot = snapshot(&rules);
        let decision = snapshot.decide(&asked);
        if let Decision::Excepted(_) = decision {
            let speaks = |rule: &&Rule| rule.0 < 3 && rule.2.reaches(&rule.1, &asked);
            let past: Vec<_> = rules.iter().filter(speaks).map(|rule| rule.0).collect();
            let chain = [target.clone()].into_iter();
            let (hops, decision) = snapshot.decide_chain(&asked, decision.past(), chain);
            let (word, by) = told(&decision);
            match twin(&rules, &target, &past) {
                ("blocked", source) => {
                    prop_assert_eq!((hops, word, by.as_deref()), (1, "blocked", source));
                }
                _ => prop_assert_eq!((hops, word), (0, "nothing")),
            }
        }
    }
}
