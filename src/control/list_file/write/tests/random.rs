//! Rules that are written are read as the same rules, whatever names, answers and patterns they have.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::control::list_file::parse::{self, Notation, ParsedTrigger};
use crate::control::list_file::write::meaning::Meaning;
use crate::policy::condition::{Condition, TypeSet};
use crate::wire::rtype;

const FORMATS: [WrittenFormat; 5] = [
    WrittenFormat::Adblock,
    WrittenFormat::Dnsmasq,
    WrittenFormat::Domains,
    WrittenFormat::Hosts,
    WrittenFormat::Unbound,
];

/// A rule as text, to be compared: its trigger, and what it does.
type Shown = (String, String);

/// TTLs are compared in another test, as most formats have none.
fn shown(trigger: String, effect: &Effect, list: &ListSettings) -> Shown {
    let meaning = Meaning::of(effect, list).map(|meaning| meaning.without_ttl(list));
    (trigger, format!("{meaning:?}"))
}

/// The rules of a text, with records of one trigger joined as in an image.
fn read(format: WrittenFormat, list: &ListSettings, text: &[u8]) -> BTreeSet<Shown> {
    let notation = Notation {
        format: format.format(),
        allows: list.allows,
        ..Notation::default()
    };
    let mut rules: Vec<(String, Effect)> = Vec::new();
    let tally = parse::read(text, notation, None, |rule| {
        let trigger = match rule.trigger {
            ParsedTrigger::Name(name, scope) => scope.notation(name),
            ParsedTrigger::Pattern(pattern) => format!("/{pattern}/"),
            ParsedTrigger::Network(prefix) => panic!("{prefix:?}"),
        };
        let effect = rule.effect.cloned().unwrap_or_default();
        let mut same = rules.iter_mut().filter(|(other, _)| *other == trigger);
        let joined = same.find_map(|(_, other)| Some((other.joined(&effect)?, other)));
        match joined {
            Some((joined, other)) => *other = joined,
            None => rules.push((trigger, effect)),
        }
    });
    assert_eq!(tally.first, [], "{}", String::from_utf8_lossy(text));
    let rules = rules.into_iter();
    rules
        .map(|(trigger, effect)| shown(trigger, &effect, list))
        .collect()
}

/// Effects as lists have them, and some that only policy zones have.
fn effects() -> Vec<Effect> {
    let block = EffectAction::Block;
    let txt = |data: &[u8]| {
        EffectAction::Records(vec![LocalRecord {
            rtype: rtype::TXT,
            ttl_secs: None,
            data: data.into(),
        }])
    };
    let mx = EffectAction::Records(vec![LocalRecord {
        rtype: 15,
        ttl_secs: Some(30),
        data: b"\0\x0a\x04mail\x04test\0"[..].into(),
    }]);
    let alias = |target: &str| EffectAction::Cname {
        target: Arc::new(name(target)),
        prepend: false,
    };
    let mut effects = Vec::new();
    for action in [
        EffectAction::Source,
        EffectAction::Allow,
        block(Action::Nxdomain),
        block(Action::Nodata),
        block(Action::Refused),
        block(Action::Drop),
        block(Action::Sinkhole),
        EffectAction::TcpOnly,
        records(&["192.0.2.1"]),
        records(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        records(&["0.0.0.0"]),
        alias("other.test"),
        alias(r"o\,ther.test"),
        txt(b"\x05hello"),
        txt(b"\x0aa \"b\", 'c$"),
        txt(b"\x06a #b;/"),
        txt(b"\x01a\x01b"),
        mx,
    ] {
        for tier in [
            Tier::Usual,
            Tier::First,
            Tier::Important,
            Tier::ImportantFirst,
            Tier::Rewrite,
        ] {
            effects.push(of_tier(action.clone(), tier));
        }
    }
    let conditions = [
        Condition::new(Some(TypeSet::Only([1, 28].into())), []),
        Condition::new(Some(TypeSet::AllBut([65_280].into())), [name("a.test")]),
        Condition::new(None, [name("b.test"), name(r"c\ d.test")]),
    ];
    for condition in conditions {
        let condition = Some(Box::new(condition.expect("small")));
        let effect = Effect {
            condition,
            ..Effect::default()
        };
        effects.push(Effect {
            tier: Tier::Important,
            ..effect.clone()
        });
        effects.push(effect);
    }
    effects.push(Effect {
        ttl_secs: Some(30),
        ..records(&["192.0.2.1"]).into()
    });
    effects.push(Effect {
        extra_text: Some("why".to_owned()),
        ..Effect::default()
    });
    effects
}

fn any_label() -> impl Strategy<Value = Vec<u8>> {
    let odd = [
        "*",
        "#a",
        "!a",
        "@@a",
        "|a",
        "localhost",
        "local",
        "1",
        "192",
        "x.y",
        "a b",
        "a\\",
        "\"",
        "'",
        "$a",
        "-",
        "_",
        "xn--mnchen-3ya",
        "server:",
        "/",
        "a/",
        "^",
        "[a]",
        ";",
        ",",
    ];
    prop_oneof![
        6 => "[a-z0-9_-]{1,8}".prop_map(String::into_bytes),
        2 => prop::sample::select(odd.to_vec()).prop_map(|label| label.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..6),
    ]
}

fn any_name() -> impl Strategy<Value = Name> {
    let special = [
        "192.0.2.1",
        "0.0.0.0",
        "localhost",
        "localhost.localdomain",
        "ip6-loopback",
        "1.2.3.4.5",
        "example",
        "org",
        "a.b",
    ];
    let random = prop::collection::vec(any_label(), 0..5).prop_map(|labels| {
        let mut wire = Vec::new();
        for label in labels {
            wire.push(label.len() as u8);
            wire.extend(label);
        }
        wire.push(0);
        Name::parse(&wire, 0).expect("short").0
    });
    prop_oneof![
        4 => random,
        1 => prop::sample::select(special.to_vec()).prop_map(name),
    ]
}

fn any_pattern() -> impl Strategy<Value = String> {
    let usual = [
        r"ads\.x\.test$",
        "ads$",
        "^ads",
        "-ad[0-9]+",
        "a/bc",
        "ads #x",
        r"ads\$x",
        "(^|\\.)ads\\.",
        "##ads",
        "$$ads",
        "ads$important",
        r"^ads\..*\.test$",
        "x.test$",
        r"\.x\.test$",
    ];
    prop_oneof![
        prop::sample::select(usual.to_vec()).prop_map(str::to_owned),
        "[a-z]{3}[$#/,|.a-z-]{0,4}",
    ]
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let scopes = [Scope::Exact, Scope::Subtree, Scope::Below];
    let effect = || prop_oneof![Just(Effect::default()), prop::sample::select(effects()),];
    let on_name = (any_name(), prop::sample::select(scopes.to_vec()), effect());
    let names = prop::collection::vec(on_name, 0..12);
    let patterns = prop::collection::vec((any_pattern(), effect()), 0..4);
    (names, patterns).prop_map(|(names, patterns)| {
        let mut rules = Rules::default();
        for (name, scope, effect) in names {
            let own = rules.names.entry(name).or_default();
            if !own.contains(&(scope, effect.clone())) {
                own.push((scope, effect));
            }
        }
        for rule in patterns {
            if !rules.patterns.contains(&rule) {
                rules.patterns.push(rule);
            }
        }
        rules
    })
}

proptest! {
    #[test]
    fn rules_that_are_written_are_read_as_the_same_rules(
        rules in any_rules(),
        allows in any::<bool>(),
        action in prop::sample::select(vec![Action::Sinkhole, Action::Nxdomain]),
    ) {
        let list = ListSettings { allows, action, ttl_secs: 60 };
        let of_name = |(name, own): (&Name, &Vec<(Scope, Effect)>)| {
            let own = own.iter().map(|(scope, effect)| shown(scope.notation(name), effect, &list));
            own.collect::<Vec<_>>()
        };
        let mut all: Vec<_> = rules.names.iter().flat_map(of_name).collect();
        let of_pattern = |(pattern, effect): &(String, Effect)| {
            shown(format!("/{pattern}/"), effect, &list)
        };
        all.extend(rules.patterns.iter().map(of_pattern));
        for format in FORMATS {
            let (text, written, unwritten) = write(format, &list, &rules);
            prop_assert_eq!(written + unwritten.total(), all.len() as u64);
            let found = read(format, &list, text.as_bytes());
            for rule in &found {
                prop_assert!(all.contains(rule), "{:?}: {:?} of\n{}", format, rule, text);
            }
            // Some rules are the same one for this list: it does what they say anyway.
            prop_assert!(found.len() as u64 <= written);
            let distinct: BTreeSet<_> = all.iter().collect();
            let same = all.len() - distinct.len();
            prop_assert!((found.len() + same) as u64 >= written, "{:?}: {}", format, text);
        }
    }

    #[test]
    fn plain_names_are_written_in_all_scopes_that_a_format_has(
        labels in prop::collection::vec("[a-z0-9_-]{1,8}[a-z]", 2..4),
        place in 0_usize..3,
    ) {
        let owner = labels.join(".");
        let notation = [owner.clone(), format!(".{owner}"), format!("*.{owner}")];
        let is_host = !owner.starts_with("local");
        for (format, scopes) in [
            (WrittenFormat::Domains, [true, true, true]),
            (WrittenFormat::Adblock, [true, true, true]),
            (WrittenFormat::Dnsmasq, [false, true, true]),
            (WrittenFormat::Unbound, [true, true, false]),
            (WrittenFormat::Hosts, [is_host, false, false]),
        ] {
            let (owner, scope) = crate::names::typed::one(&notation[place]).expect("a name");
            let rule = (scope.unwrap_or(Scope::Exact), Effect::default());
            let rules = Rules { names: [(owner, vec![rule])].into(), ..Rules::default() };
            let (_, written, _) = write(format, &blocking(), &rules);
            prop_assert_eq!(written == 1, scopes[place], "{:?} {}", format, notation[place]);
        }
    }
}
