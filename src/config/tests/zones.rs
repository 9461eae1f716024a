//! Tests of the keys of response policy zones.

use super::{list, problems, valid};
use crate::config::zone::{PolicyZone, policy_with_word};
use crate::config::{Content, Format};
use crate::policy::rpz::settings::{ZonePolicy, ZoneSettings};
use crate::policy::rule::{Action, Ede};
use crate::wire::name::Name;

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// The settings of a list of this format with these keys.
fn zone(keys: &str) -> PolicyZone {
    let config = valid(&list(&format!("format = \"rpz\"\n{keys}")));
    let zone = config.lists.into_iter().next().and_then(|list| list.zone);
    zone.expect("a policy zone")
}

#[test]
fn a_policy_zone_is_applied_as_it_is_given_unless_its_keys_say_otherwise() {
    let expected = PolicyZone {
        apex: None,
        settings: ZoneSettings {
            policy: ZonePolicy::Given,
            max_ttl_secs: 5,
            break_dnssec: true,
        },
        soa: true,
    };
    assert_eq!(zone(""), expected);
    assert_eq!(PolicyZone::default(), expected);
    let keys = "zone = \"RPZ.Example.\"\npolicy = \"cname\"\ncname = \"walled.garden.example\"\n\
                max-policy-ttl-secs = 604800\nbreak-dnssec = false\nsoa = false\n";
    let expected = PolicyZone {
        apex: Some(name("rpz.example")),
        settings: ZoneSettings {
            policy: ZonePolicy::Cname(Box::new(name("walled.garden.example"))),
            max_ttl_secs: 604_800,
            break_dnssec: false,
        },
        soa: false,
    };
    assert_eq!(zone(keys), expected);
}

#[test]
fn only_lists_of_policy_zones_have_a_policy_zone() {
    for (keys, is_zone) in [
        ("", false),
        ("format = \"hosts\"", false),
        ("format = \"rpz\"", true),
    ] {
        let config = valid(&list(keys));
        let [list] = &config.lists[..] else {
            panic!("one list");
        };
        assert_eq!(list.zone.is_some(), is_zone);
        assert_eq!(list.format == Format::Rpz, is_zone);
        assert_eq!(list.content, Content::File);
    }
}

#[test]
fn a_zones_policy_is_one_of_eight_words() {
    for policy in [
        ZonePolicy::Given,
        ZonePolicy::Disabled,
        ZonePolicy::Nxdomain,
        ZonePolicy::Nodata,
        ZonePolicy::Passthru,
        ZonePolicy::Drop,
        ZonePolicy::TcpOnly,
    ] {
        let word = policy.word();
        assert_eq!(
            zone(&format!("policy = \"{word}\"")).settings.policy,
            policy
        );
        assert_eq!(policy_with_word(word, None), Some(policy));
    }
    for target in ["garden.example", "*.garden.example"] {
        let policy = ZonePolicy::Cname(Box::new(name(target)));
        let keys = format!("policy = \"cname\"\ncname = \"{target}\"");
        assert_eq!(zone(&keys).settings.policy, policy);
        let back = policy_with_word(policy.word(), policy.target().cloned());
        assert_eq!(back, Some(policy));
    }
    assert_eq!(policy_with_word("cname", None), None);
    assert_eq!(
        problems(&list("format = \"rpz\"\npolicy = \"tcponly\"")),
        [
            "5: policy is \"tcponly\", must be one of given, disabled, nxdomain, nodata, passthru, drop, tcp-only, cname; \
             did you mean \"tcp-only\"?"
        ]
    );
}

#[test]
fn the_error_and_text_of_a_policy_zone_are_set_as_for_other_lists() {
    let of = |keys: &str| {
        let block = "[block]\nttl-secs = 30\nsinkhole = [\"192.0.2.1\"]\nede = \"filtered\"\n";
        let text = format!("{block}{}", list(&format!("format = \"rpz\"\n{keys}")));
        valid(&text).lists[0].source.blocking.clone()
    };
    let inherited = of("");
    assert_eq!(
        (inherited.ede, &*inherited.extra_text),
        (Ede::Filtered, "a")
    );
    assert_eq!(
        (inherited.action, inherited.ttl_secs),
        (Action::Nxdomain, 5)
    );
    assert!(inherited.sinkhole_v4.is_empty() && inherited.sinkhole_v6.is_empty());
    let own = of("ede = \"censored\"\ntext = \"why\"\npolicy = \"drop\"\nmax-policy-ttl-secs = 60");
    assert_eq!((own.ede, &*own.extra_text), (Ede::Censored, "a: why"));
    assert_eq!((own.action, own.ttl_secs), (Action::Drop, 60));
}

#[test]
fn keys_of_policy_zones_are_refused_in_other_lists_each_on_its_line() {
    let keys = "zone = \"rpz.example\"\npolicy = \"drop\"\ncname = \"a.example\"\nmax-policy-ttl-secs = 1\n\
                break-dnssec = true\nsoa = true";
    let expected: Vec<_> = [
        "zone",
        "policy",
        "cname",
        "max-policy-ttl-secs",
        "break-dnssec",
        "soa",
    ]
    .iter()
    .zip(4..)
    .map(|(key, line)| {
        format!(
            "{line}: {key} is a key of response policy zones only: remove it, or set format = \"rpz\""
        )
    })
    .collect();
    // Their values are not validated.
    assert_eq!(problems(&list(keys)), expected);
    let misspelt = format!("format = \"rzp\"\n{}", keys.replace("drop", "cname"));
    assert_eq!(
        problems(&list(&misspelt)).len(),
        1,
        "it may be meant as rpz"
    );
}

#[test]
fn keys_that_policy_zones_can_not_have_are_refused_with_a_remedy() {
    for (key, problem) in [
        (
            "kind = \"allow\"",
            "kind \"allow\" has no meaning for a response policy zone, as its records say which names are allowed: \
             remove it, or set policy = \"passthru\"",
        ),
        (
            "scope = \"exact\"",
            "scope has no meaning for a response policy zone, as its records on x and on *.x are separate rules: \
             remove it",
        ),
        (
            "comments = \"#\"",
            "comments has no meaning for a response policy zone, as comments in zone files begin with `;`: remove it",
        ),
        (
            "action = \"drop\"",
            "action has no meaning for a response policy zone, as its records have actions: remove it, or set `policy`",
        ),
        (
            "sinkhole = []",
            "sinkhole has no meaning for a response policy zone, as its records have addresses: remove it, or set \
             policy = \"cname\" and `cname`",
        ),
        (
            "ttl-secs = 60",
            "ttl-secs has no meaning for a response policy zone, as its records have TTLs: remove it, or set \
             max-policy-ttl-secs",
        ),
    ] {
        let found = problems(&list(&format!("format = \"rpz\"\n{key}")));
        assert_eq!(found, [format!("5: {problem}")]);
    }
    valid(&list(
        "format = \"rpz\"\nkind = \"block\"\nrequired = true\nguards = \"warn\"\nede = \"none\"",
    ));
}

#[test]
fn a_target_is_set_exactly_with_the_policy_that_has_one() {
    for (keys, problem) in [
        (
            "policy = \"cname\"",
            "5: policy is \"cname\", but cname is missing: add cname = \"walled.garden.example\"",
        ),
        (
            "policy = \"drop\"\ncname = \"a.example\"",
            "6: cname is set, but policy is not \"cname\": remove cname, or set policy = \"cname\"",
        ),
        (
            "cname = \"a.example\"",
            "5: cname is set, but policy is not \"cname\": remove cname, or set policy = \"cname\"",
        ),
        (
            "cname = \"a.example\"\npolicy = \"cnam\"",
            "6: policy is \"cnam\", must be one of given, disabled, nxdomain, nodata, passthru, drop, tcp-only, cname; \
             did you mean \"cname\"?",
        ),
    ] {
        assert_eq!(
            problems(&list(&format!("format = \"rpz\"\n{keys}"))),
            [problem]
        );
    }
}

#[test]
fn a_target_is_a_name_and_does_not_stand_for_another_action() {
    let refused = |target: &str| {
        let keys = format!("format = \"rpz\"\npolicy = \"cname\"\ncname = '{target}'");
        let found = problems(&list(&keys));
        let start = format!("6: cname is {target:?}, ");
        let [problem] = &found[..] else {
            panic!("one problem: {found:?}");
        };
        problem
            .strip_prefix(&start)
            .unwrap_or_else(|| panic!("{problem}"))
            .to_owned()
    };
    for (target, policy) in [
        (".", "nxdomain"),
        ("*.", "nodata"),
        ("*", "nodata"),
        ("rpz-passthru.", "passthru"),
        ("RPZ-drop", "drop"),
        ("rpz-tcp-only.", "tcp-only"),
    ] {
        let expected =
            format!("which stands for another action: remove it, and set policy = \"{policy}\"");
        assert_eq!(refused(target), expected);
    }
    let long = format!(
        "*.{}",
        vec!["a".repeat(63); 3].join(".") + "." + &"b".repeat(61)
    );
    for (target, why) in [
        ("", "not a domain name"),
        ("a..b", "not a domain name: a label is empty"),
        ("192.0.2.1", "an address, not a name: write a name as in"),
        ("http://a.example/", "a URL or a path"),
        (".a.example", "a name with a scope: write the name alone"),
        ("a.*.example", "`*` is only understood as a leading `*.`"),
    ] {
        let found = refused(target);
        assert!(found.starts_with(why), "{target}: {found}");
    }
    let keys = format!("format = \"rpz\"\npolicy = \"cname\"\ncname = \"{long}\"");
    assert_eq!(problems(&list(&keys)).len(), 1, "over 255 bytes");
}

#[test]
fn a_zones_name_is_a_domain_name_below_the_root() {
    let idn = zone("zone = \"sperre.münchen.example\"").apex;
    assert_eq!(idn, Some(name("sperre.xn--mnchen-3ya.example")));
    for (value, why) in [
        (".", "the root, which can't be a policy zone"),
        ("", "not a domain name: a label is empty"),
        ("*.rpz.example", "more than the name of a zone"),
        (
            "/etc/rpz.zone",
            "a URL or a path; write the host name alone",
        ),
    ] {
        let found = problems(&list(&format!("format = \"rpz\"\nzone = \"{value}\"")));
        let expected =
            format!("5: zone is {value:?}, {why}: write the zone's name, as in \"rpz.example\"");
        assert_eq!(found, [expected]);
    }
}

#[test]
fn the_longest_ttl_is_a_second_to_a_week() {
    let given = |secs: i64| list(&format!("format = \"rpz\"\nmax-policy-ttl-secs = {secs}"));
    for secs in [1, 604_800] {
        valid(&given(secs));
    }
    for secs in [0, 604_801] {
        let problem = format!("5: max-policy-ttl-secs is {secs}, must be 1 to 604800");
        assert_eq!(problems(&given(secs)), [problem]);
    }
}

#[test]
fn wrong_types_and_misspelt_keys_are_reported_together() {
    let keys =
        "format = \"rpz\"\nsoa = \"no\"\nbreak-dnsec = true\nmax-policy-ttl = 60\npolicy = 1";
    assert_eq!(
        problems(&list(keys)),
        [
            "5: soa is a string (\"no\"), must be true or false: write true or false, without quotes",
            "6: unknown key `break-dnsec` in [[list]]; did you mean `break-dnssec`?",
            "7: unknown key `max-policy-ttl` in [[list]]; did you mean `max-policy-ttl-secs`?",
            "8: policy is a whole number (1), must be a string: put it in quotes",
        ]
    );
}
