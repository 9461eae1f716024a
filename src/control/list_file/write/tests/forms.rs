//! The lines of each format, and the reasons why rules have none.

use super::*;
use crate::control::list_file::write::Reason;

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
