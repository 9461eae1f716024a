//! Tests of `[[list]]`: overrides, names, scopes.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::policy::rule::{Action, Ede, Kind, Scope};

use super::{list, problems, valid};
use crate::config::Format;

#[test]
fn a_list_overrides_the_keys_of_the_block_section_one_by_one() {
    let config = valid(
        "[block]\naction = \"nxdomain\"\nsinkhole = [\"192.0.2.1\"]\nttl-secs = 30\n\
         [[list]]\nname = \"plain\"\npath = \"/a\"\n\
         [[list]]\nname = \"own\"\npath = \"/b\"\nsinkhole = [\"::1\", \"192.0.2.2\"]\n\
         action = \"drop\"\nede = \"none\"\ntext = \"why\"\nformat = \"hosts\"\n\
         scope = \"subtree\"\nkind = \"allow\"\nrequired = true\n",
    );
    let [plain, own] = &config.lists[..] else {
        panic!("two lists");
    };
    let blocking = &plain.source.blocking;
    assert_eq!(
        (blocking.action, blocking.ede),
        (Action::Nxdomain, Ede::Blocked)
    );
    assert_eq!(
        blocking.sinkhole_v4,
        ["192.0.2.1".parse::<Ipv4Addr>().expect("valid")]
    );
    assert_eq!(blocking.sinkhole_v6, [] as [Ipv6Addr; 0]);
    assert_eq!(blocking.ttl_secs, 30);
    assert_eq!(blocking.extra_text, "plain");
    assert_eq!(plain.source.kind, Kind::Block);
    assert_eq!((plain.format, plain.scope), (Format::Domains, Scope::Exact));
    assert!(!plain.required);

    let blocking = &own.source.blocking;
    assert_eq!((blocking.action, blocking.ede), (Action::Drop, Ede::None));
    assert_eq!(
        (blocking.sinkhole_v4.len(), blocking.sinkhole_v6.len()),
        (1, 1)
    );
    assert_eq!(blocking.ttl_secs, 30);
    assert_eq!(blocking.extra_text, "own: why");
    assert_eq!(own.source.kind, Kind::Allow);
    assert_eq!((own.format, own.scope), (Format::Hosts, Scope::Subtree));
    assert!(own.required);
}

#[test]
fn the_scope_of_allow_rules_is_refused_for_lists_without_such_rules() {
    for format in ["domains", "hosts", "rpz"] {
        let keys = format!("format = \"{format}\"\nallow-scope = \"all-lists\"");
        let problem = "5: allow-scope has no meaning here, as a list of this format has no rules that allow names: \
                       remove it";
        assert_eq!(problems(&list(&keys)), [problem], "{format}");
    }
}

#[test]
fn list_names_are_short_plain_and_unique() {
    let named = |name: &str| format!("[[list]]\nname = \"{name}\"\npath = \"x\"\n");
    valid(&named(&"x".repeat(64)));
    valid(&named("a-z_0.9"));
    for name in ["", "A", "a b", "é", &"x".repeat(65)] {
        assert_eq!(problems(&named(name)).len(), 1, "{name}");
    }
    assert_eq!(
        problems(&named("x").repeat(2)),
        ["5: name is \"x\", but the list on line 2 has the same name: rename one"]
    );
}

#[test]
fn below_is_rejected_as_the_scope_of_names_without_a_prefix() {
    assert_eq!(
        problems(&list("scope = \"below\"")),
        ["4: scope is \"below\", must be one of exact, subtree"]
    );
}

#[test]
fn no_missing_key_is_reported_for_a_list_with_a_syntax_error() {
    assert_eq!(
        problems("[[list]]\nname \"a\"\npath = \"a\"\n[[list]]\npath = \"b\"\n"),
        [
            "2: not TOML: key with no value, expected `=`",
            "4: [[list]] has no `name`: add name = \"...\"",
        ]
    );
}

#[test]
fn a_misspelt_key_is_not_reported_as_missing_too() {
    for (text, expected) in [
        (
            "[[list]]\nname = \"a\"\npaht = \"x\"\n",
            "3: unknown key `paht` in [[list]]; did you mean `path`?",
        ),
        (
            "[[list]]\nnmae = \"a\"\npath = \"x\"\n",
            "2: unknown key `nmae` in [[list]]; did you mean `name`?",
        ),
        (
            "[upstream]\nservers = [{ adress = \"192.0.2.1\" }]\n",
            "2: unknown key `adress` in a table of servers; did you mean `address`?",
        ),
        (
            "[[exception]]\nname = \"a.example\"\nscop = \"exact\"\nagainst = [\"x\"]\nreason = \"r\"\nauthor = \"a\"\n",
            "3: unknown key `scop` in [[exception]]; did you mean `scope`?",
        ),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
    assert_eq!(
        problems("[[list]]\nname = \"a\"\nwhere = \"x\"\n").len(),
        2,
        "it resembles no key"
    );
}

#[test]
fn an_unknown_format_is_reported_with_the_known_ones() {
    let found = |format: &str| {
        problems(&format!(
            "[[list]]\nname = \"a\"\npath = \"/a\"\nformat = \"{format}\"\n"
        ))
    };
    for (format, name) in [("DNSCrypt", "wildcard"), ("zone", "rpz"), ("host", "hosts")] {
        let expected = format!("4: format is \"{format}\": did you mean \"{name}\"?");
        assert_eq!(found(format), [expected]);
    }
    let expected = "must be one of adblock, auto, csv, dnsmasq, domains, hosts, json, rpz, unbound, wildcard; did you mean \"unbound\"?";
    assert!(
        found("unbond")[0].ends_with(expected),
        "{:?}",
        found("unbond")
    );
}

#[test]
fn keys_without_meaning_for_the_format_of_a_list_are_reported() {
    let found = |keys: &str| problems(&format!("[[list]]\nname = \"a\"\npath = \"/a\"\n{keys}"));
    for (keys, key) in [
        ("format = \"dnsmasq\"\nscope = \"exact\"\n", "5: scope"),
        ("format = \"dnsmasq\"\ncomments = \"!\"\n", "5: comments"),
        ("format = \"unbound\"\nscope = \"exact\"\n", "5: scope"),
        ("format = \"wildcard\"\nscope = \"exact\"\n", "5: scope"),
        ("format = \"json\"\ncomments = \"!\"\n", "5: comments"),
        (
            "format = \"csv\"\ncolumn = \"host\"\ncomments = \"!\"\n",
            "6: comments",
        ),
        ("format = \"hosts\"\ncolumn = \"host\"\n", "5: column"),
        ("column = \"host\"\n", "4: column"),
    ] {
        let expected = format!("{key} has no meaning for");
        assert!(
            found(keys)[0].starts_with(&expected),
            "{keys}: {:?}",
            found(keys)
        );
    }
    assert_eq!(
        found("format = \"csv\"\n"),
        [
            "1: a CSV table needs `column`: the title of the column that has the names, or its number"
        ]
    );
    for keys in [
        "format = \"csv\"\ncolumn = \"3\"\nscope = \"subtree\"\n",
        "format = \"json\"\n",
        "format = \"auto\"\ncolumn = \"host\"\ncomments = \"!\"\n",
    ] {
        assert_eq!(found(keys), [""; 0], "{keys}");
    }
}
