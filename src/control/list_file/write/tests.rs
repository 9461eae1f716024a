//! Rules that are written are read as the same rules, whatever names, answers and patterns they have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::meaning::{ListSettings, Meaning};
use super::writer::Writer;
use super::{Reason, WrittenFormat};
use crate::control::list_file::parse::{self, Notation, ParsedTrigger};
use crate::policy::condition::{Condition, TypeSet};
use crate::policy::effect::{Effect, EffectAction, Tier};
use crate::policy::record::LocalRecord;
use crate::policy::rule::{Action, Scope};
use crate::wire::name::Name;
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

/// The rules of a list: those on each name, and those with patterns.
#[derive(Clone, Debug, Default)]
struct Rules {
    names: BTreeMap<Name, Vec<(Scope, Effect)>>,
    patterns: Vec<(String, Effect)>,
}

fn blocking() -> ListSettings {
    ListSettings {
        allows: false,
        action: Action::Sinkhole,
        ttl_secs: 60,
    }
}

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

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

/// Writes rules. Returns the text, the number of rules in it, and the reasons why the others are not.
fn write(
    format: WrittenFormat,
    list: &ListSettings,
    rules: &Rules,
) -> (String, u64, super::Unwritten) {
    let mut out = Vec::new();
    let mut writer = Writer::new(format, *list, &mut out);
    for (name, rules) in &rules.names {
        let rules = rules.iter().map(|(scope, effect)| (*scope, effect));
        writer.name(name, rules).expect("memory");
    }
    let patterns: Vec<_> = rules
        .patterns
        .iter()
        .map(|(pattern, effect)| (pattern.as_str(), effect))
        .collect();
    writer.patterns(&patterns).expect("memory");
    let written = writer.written;
    let text = String::from_utf8(out).expect("text");
    (text, written.rules, written.unwritten)
}

/// The text of one rule on a name, or why there is none.
fn one(format: WrittenFormat, list: &ListSettings, owner: &str, effect: Effect) -> String {
    let (owner, scope) = crate::names::typed::one(owner).expect("a name");
    let rule = (scope.unwrap_or(Scope::Exact), effect);
    let rules = Rules {
        names: [(owner, vec![rule])].into(),
        ..Rules::default()
    };
    let (text, written, unwritten) = write(format, list, &rules);
    assert_eq!(written + unwritten.total(), 1);
    match written {
        1 => text.trim_end().replace('\n', "; "),
        _ => unwritten.to_string(),
    }
}

fn records(texts: &[&str]) -> EffectAction {
    let record = |text: &&str| LocalRecord::address(text.parse::<IpAddr>().expect("an address"));
    EffectAction::Records(texts.iter().map(record).collect())
}

fn of_tier(action: EffectAction, tier: Tier) -> Effect {
    Effect {
        action,
        tier,
        ..Effect::default()
    }
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

#[test]
fn each_format_says_what_it_can() {
    use WrittenFormat::{Adblock, Dnsmasq, Domains, Hosts, Unbound};
    let default = Effect::default;
    let nxdomain = || Effect::from(EffectAction::Block(Action::Nxdomain));
    let important = || of_tier(EffectAction::Source, Tier::Important);
    let rewrite = |action| of_tier(action, Tier::Rewrite);
    let addresses = || Effect::from(records(&["192.0.2.1", "2001:db8::1"]));
    let allow = |tier| of_tier(EffectAction::Allow, tier);
    for (format, owner, effect, expected) in [
        (Domains, "x.test", default(), "x.test"),
        (Domains, ".x.test", default(), ".x.test"),
        (Domains, "*.x.test", default(), "*.x.test"),
        (Domains, r"192.0.2.\049", default(), r"192.0.2.\049"),
        (Domains, r"\042.x.test", default(), r"\042.x.test"),
        (Domains, r"a\032b\.c.test", default(), r"a\032b\046c.test"),
        (Domains, "x.test", nxdomain(), "1 with answers of their own"),
        (Domains, "x.test", allow(Tier::Usual), "1 that allow names"),
        (Domains, "x.test", important(), "1 with another precedence"),
        (Hosts, "x.test", default(), "0.0.0.0 x.test"),
        (
            Hosts,
            ".x.test",
            default(),
            "1 on a name and all names below it",
        ),
        (Hosts, "*.x.test", default(), "1 on all names below a name"),
        (
            Hosts,
            "localhost",
            default(),
            "1 on names that the format can't have",
        ),
        (
            Hosts,
            r"192.0.2.\049",
            default(),
            "1 on names that the format can't have",
        ),
        (
            Hosts,
            r"a\032b.test",
            default(),
            "1 on names that the format can't have",
        ),
        (
            Dnsmasq,
            "x.test",
            default(),
            "1 on a name without those below it",
        ),
        (Dnsmasq, ".x.test", default(), "address=/x.test/#"),
        (Dnsmasq, "*.x.test", default(), "address=/*.x.test/#"),
        (Dnsmasq, ".x.test", nxdomain(), "address=/x.test/"),
        (Dnsmasq, ".x.test", allow(Tier::Usual), "server=/x.test/#"),
        (
            Dnsmasq,
            ".x.test",
            addresses(),
            "address=/x.test/192.0.2.1; address=/x.test/2001:db8::1",
        ),
        (
            Dnsmasq,
            ".x.test",
            records(&["0.0.0.0"]).into(),
            "address=/x.test/#",
        ),
        (
            Unbound,
            ".x.test",
            default(),
            "local-zone: \"x.test.\" always_null",
        ),
        (
            Unbound,
            "x.test",
            default(),
            "local-data: \"x.test. A 0.0.0.0\"",
        ),
        (
            Unbound,
            "*.x.test",
            default(),
            "1 on all names below a name",
        ),
        (
            Unbound,
            ".x.test",
            nxdomain(),
            "local-zone: \"x.test.\" always_nxdomain",
        ),
        (
            Unbound,
            "x.test",
            nxdomain(),
            "1 on a name without those below it",
        ),
        (
            Unbound,
            ".x.test",
            allow(Tier::Usual),
            "local-zone: \"x.test.\" always_transparent",
        ),
        (
            Unbound,
            ".x.test",
            addresses(),
            "local-zone: \"x.test.\" redirect; local-data: 'x.test. 60 IN A 192.0.2.1'; \
             local-data: 'x.test. 60 IN AAAA 2001:db8::1'",
        ),
        (Adblock, ".x.test", default(), "||x.test^"),
        (Adblock, "x.test", default(), "|x.test^"),
        (Adblock, "*.x.test", default(), "*.x.test^"),
        (Adblock, ".x.test", important(), "||x.test^$important"),
        (Adblock, ".x.test", allow(Tier::First), "@@||x.test^"),
        (
            Adblock,
            ".x.test",
            allow(Tier::ImportantFirst),
            "@@||x.test^$important",
        ),
        (
            Adblock,
            ".x.test",
            allow(Tier::Usual),
            "1 with another precedence",
        ),
        (
            Adblock,
            ".x.test",
            rewrite(EffectAction::Block(Action::Nodata)),
            "||x.test^$dnsrewrite=NOERROR",
        ),
        (
            Adblock,
            ".x.test",
            rewrite(records(&["192.0.2.1", "2001:db8::1"])),
            "||x.test^$dnsrewrite=NOERROR;A;192.0.2.1; ||x.test^$dnsrewrite=NOERROR;AAAA;2001:db8::1",
        ),
        (
            Adblock,
            "x.test",
            addresses(),
            "192.0.2.1 x.test; 2001:db8::1 x.test",
        ),
        (
            Adblock,
            ".x.test",
            nxdomain(),
            "1 with answers of their own",
        ),
    ] {
        let found = one(format, &blocking(), owner, effect.clone());
        assert_eq!(found, expected, "{format:?} {owner} {effect:?}");
    }
}

#[test]
fn a_list_that_allows_names_is_written_as_rules_that_allow_them() {
    use WrittenFormat::{Adblock, Dnsmasq, Domains, Hosts, Unbound};
    let list = ListSettings {
        allows: true,
        ..blocking()
    };
    for (format, owner, expected) in [
        (Domains, ".x.test", ".x.test"),
        (Hosts, "x.test", "0.0.0.0 x.test"),
        (Dnsmasq, ".x.test", "server=/x.test/#"),
        (
            Unbound,
            ".x.test",
            "local-zone: \"x.test.\" always_transparent",
        ),
        (Unbound, "x.test", "1 on a name without those below it"),
        (Adblock, "*.x.test", "@@*.x.test^"),
    ] {
        assert_eq!(one(format, &list, owner, Effect::default()), expected);
    }
    let tiers = [
        Tier::Usual,
        Tier::First,
        Tier::Important,
        Tier::ImportantFirst,
    ];
    for effect in tiers.map(|tier| of_tier(EffectAction::Allow, tier)) {
        assert_eq!(one(Adblock, &list, ".x.test", effect), "@@||x.test^");
    }
}

#[test]
fn a_rule_that_names_the_action_of_its_list_is_written_like_one_without() {
    let list = ListSettings {
        action: Action::Nxdomain,
        ..blocking()
    };
    let nxdomain = Effect::from(EffectAction::Block(Action::Nxdomain));
    assert_eq!(
        one(WrittenFormat::Domains, &list, "x.test", nxdomain),
        "x.test"
    );
}

#[test]
fn of_rules_that_a_format_can_not_have_on_one_name_the_first_is_written() {
    let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| Effect::from(records(&[address])));
    let rules = Rules {
        names: [(
            name("x.test"),
            vec![(Scope::Exact, one), (Scope::Subtree, other)],
        )]
        .into(),
        ..Rules::default()
    };
    let (text, written, unwritten) = write(WrittenFormat::Unbound, &blocking(), &rules);
    assert_eq!(text, "local-data: 'x.test. 60 IN A 192.0.2.1'\n");
    assert_eq!((written, unwritten.count(Reason::Beside)), (1, 1));
}

#[test]
fn patterns_are_written_where_the_format_has_them() {
    let rules = Rules {
        patterns: [r"ads\.test$", "^ads[0-9]+", "ads/x", "ads$$x"]
            .map(|pattern| (pattern.to_owned(), Effect::default()))
            .into(),
        ..Rules::default()
    };
    for (format, expected) in [
        (
            WrittenFormat::Adblock,
            "/ads\\.test$/\n/^ads[0-9]+/\n/ads/x/\n",
        ),
        (WrittenFormat::Dnsmasq, "address=/*ads.test/#\n"),
        (WrittenFormat::Domains, ""),
        (WrittenFormat::Hosts, ""),
        (WrittenFormat::Unbound, ""),
    ] {
        let (text, written, unwritten) = write(format, &blocking(), &rules);
        assert_eq!(text, expected, "{format:?}");
        assert_eq!(unwritten.count(Reason::Pattern), 4 - written, "{format:?}");
    }
}

#[test]
fn ttls_are_written_where_records_have_them_and_else_counted() {
    let mut record = LocalRecord::address("192.0.2.1".parse().expect("an address"));
    record.ttl_secs = Some(30);
    let effect = Effect::from(EffectAction::Records(vec![record]));
    let rules = Rules {
        names: [(name("x.test"), vec![(Scope::Subtree, effect)])].into(),
        ..Rules::default()
    };
    for (format, line, without) in [
        (
            WrittenFormat::Unbound,
            "local-data: 'x.test. 30 IN A 192.0.2.1'\n",
            0,
        ),
        (WrittenFormat::Dnsmasq, "address=/x.test/192.0.2.1\n", 1),
    ] {
        let mut out = Vec::new();
        let mut writer = Writer::new(format, blocking(), &mut out);
        for (name, rules) in &rules.names {
            let rules = rules.iter().map(|(scope, effect)| (*scope, effect));
            writer.name(name, rules).expect("memory");
        }
        let written = writer.written;
        assert_eq!((written.rules, written.without_ttl), (1, without));
        assert!(String::from_utf8(out).expect("text").ends_with(line));
    }
}
