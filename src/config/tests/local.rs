//! Tests of local names and forwarded zones.

use super::{problems, valid};
use crate::config::local::{LocalContent, OwnedRecord};
use crate::config::special_use::Canary;

/// The records of one section, as they are shown.
fn records(keys: &str) -> Vec<String> {
    let config = valid(&format!("[[local]]\nname = \"x.example\"\n{keys}"));
    let [section] = &config.local.sections[..] else {
        panic!("one section");
    };
    let LocalContent::Records(records) = &section.content else {
        panic!("records");
    };
    let shown = |OwnedRecord { owner, record }: &OwnedRecord| format!("{owner} {record}");
    records.iter().map(shown).collect()
}

#[test]
fn each_key_of_a_local_name_gives_records_of_its_type() {
    for (keys, expected) in [
        ("a = \"192.0.2.1\"", &["x.example 300 A 192.0.2.1"][..]),
        (
            "a = [\"192.0.2.1\", \"192.0.2.2\"]\nttl-secs = 0",
            &["x.example 0 A 192.0.2.1", "x.example 0 A 192.0.2.2"],
        ),
        (
            "aaaa = \"2001:db8::1\"",
            &["x.example 300 AAAA 2001:db8::1"],
        ),
        (
            "cname = \"Y.example.\"",
            &["x.example 300 CNAME y.example."],
        ),
        ("ptr = \"y.example\"", &["x.example 300 PTR y.example."]),
        ("txt = \"a b\"", &["x.example 300 TXT \"a b\""]),
        ("mx = \"10 m.example\"", &["x.example 300 MX 10 m.example."]),
        ("mx = \"0 .\"", &["x.example 300 MX 0 ."]),
        (
            "srv = \"0 5 5060 s.example\"",
            &["x.example 300 SRV 0 5 5060 s.example."],
        ),
        (
            "a = \"192.0.2.1\"\naaaa = \"2001:db8::1\"\nreverse = true",
            &[
                "x.example 300 A 192.0.2.1",
                "x.example 300 AAAA 2001:db8::1",
                "1.2.0.192.in-addr.arpa 300 PTR x.example.",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa 300 PTR x.example.",
            ],
        ),
    ] {
        assert_eq!(records(keys), expected, "{keys}");
    }
}

#[test]
fn a_long_text_becomes_several_strings() {
    let keys = format!("txt = \"{}\"", "x".repeat(300));
    let config = valid(&format!("[[local]]\nname = \"x.example\"\n{keys}"));
    let LocalContent::Records(records) = &config.local.sections[0].content else {
        panic!("records");
    };
    let data = &records[0].record.data;
    assert_eq!((data.len(), data[0], data[256]), (302, 255, 45));
}

#[test]
fn a_mistake_in_a_local_name_is_reported_with_its_line_and_remedy() {
    let section = "[[local]]\nname = \"x.example\"\n";
    for (keys, expected) in [
        (
            "",
            "1: [[local]] has no records: add one of a, aaaa, cname, ptr, txt, mx, srv, as in a = \"192.0.2.1\"",
        ),
        (
            "a = \"2001:db8::1\"",
            "3: a holds \"2001:db8::1\", which is an IPv6 address: write it in aaaa",
        ),
        (
            "a = \"x\"",
            "3: a holds \"x\", which is no IPv4 address: write it as in \"192.0.2.1\"",
        ),
        (
            "aaaa = \"192.0.2.1\"",
            "3: aaaa holds \"192.0.2.1\", which is an IPv4 address: write it in a",
        ),
        (
            "a = [\"192.0.2.1\", \"192.0.2.1\"]",
            "3: a holds \"192.0.2.1\", which is a duplicate: remove it",
        ),
        (
            "a = []",
            "3: a is empty, must have at least one record: add one or leave a out",
        ),
        (
            "cname = \"192.0.2.1\"",
            "3: cname holds \"192.0.2.1\", which has an address, not a name: write a name, as in \"host.example\"",
        ),
        (
            "mx = \"m.example\"",
            "3: mx holds \"m.example\", must be written as in \"10 mail.example.\"",
        ),
        (
            "srv = \"0 5 70000 s.example\"",
            "3: srv holds \"0 5 70000 s.example\", must be written as in \"0 5 5060 sip.example.\", with numbers of 0 to 65535",
        ),
        (
            "a = \"192.0.2.1\"\nttl-secs = 604801",
            "4: ttl-secs is 604801, must be 0 to 604800",
        ),
        (
            "txt = \"x\"\nreverse = true",
            "4: reverse is true, but the section has no addresses: add `a` or `aaaa`, or remove it",
        ),
        (
            "a = \"192.0.2.1\"\nfile = \"x\"",
            "4: file is for a section with a `zone`: remove it, or name the zone",
        ),
        (
            "a = \"192.0.2.1\"\nzone = \"y\"",
            "2: [[local]] has both `name` and `zone`: write a section for each",
        ),
        (
            "a = \"192.0.2.1\"\ncname = \"y.example\"",
            "1: [[local]] of x.example has a cname and other records, or two of them, but a name with a CNAME record has no other \
             data: remove the cname or the others",
        ),
    ] {
        let found = problems(&format!("{section}{keys}"));
        assert!(
            found.iter().any(|problem| problem == expected),
            "{keys}: {found:#?}"
        );
    }
}

#[test]
fn a_mistake_in_the_name_of_a_section_is_reported() {
    for (name, part) in [
        (".", "the root"),
        ("192.0.2.1", "an address, not a name"),
        ("x.*.example", "`*` is only understood as a leading `*.`"),
        ("*", "the root"),
        (
            ".x.example",
            "a name with a scope: write the name alone, or a wildcard",
        ),
        ("a..b", "a label is empty"),
    ] {
        let found = problems(&format!("[[local]]\nname = \"{name}\"\na = \"192.0.2.1\""));
        assert!(
            found.len() == 1 && found[0].starts_with("2: name is "),
            "{found:?}"
        );
        assert!(found[0].contains(part), "{name}: {found:?}");
    }
    let wildcard = "[[local]]\nname = \"*.x.example\"\na = \"192.0.2.1\"\n";
    valid(wildcard);
    let found = problems(&format!("{wildcard}reverse = true"));
    assert_eq!(
        found,
        ["4: reverse is true, but a wildcard is the name of no address: remove it"]
    );
}

#[test]
fn sections_that_contradict_each_other_are_reported_with_both_lines() {
    let name = |name: &str, keys: &str| format!("[[local]]\nname = \"{name}\"\n{keys}\n");
    let zone = |zone: &str| format!("[[local]]\nzone = \"{zone}\"\nfile = \"z\"\n");
    let forward = |zones: &str| format!("[[forward]]\nzone = {zones}\nservers = [\"192.0.2.1\"]\n");
    let a = "a = \"192.0.2.1\"";
    for (text, expected) in [
        (
            name("x.example", a) + &name("x.example", "cname = \"y.example\""),
            "4: x.example also has records by the section on line 1: a name with a CNAME record has no other data: remove one of \
             the two",
        ),
        (
            zone("x.example") + &zone("x.example"),
            "4: zone x.example is also that of the section on line 1: remove one",
        ),
        (
            zone("x.example") + &zone("a.x.example"),
            "4: zone a.x.example is inside zone x.example of line 1: write its records into the file of x.example",
        ),
        (
            name("a.x.example", a) + &zone("x.example"),
            "1: a.x.example is inside zone x.example of line 4: write its records into the file of x.example",
        ),
        (
            zone("x.example") + &forward("\"x.example\""),
            "5: zone is \"x.example\", but [[local]] on line 1 answers that zone from its file: remove one of the two",
        ),
        (
            forward("\"x.example\"") + &forward("[\"y.example\", \"X.example.\"]"),
            "5: zone is \"X.example.\", but line 2 has the same zone: remove one of the two",
        ),
        (
            forward("\".\""),
            "2: zone is \".\", the root, which is above every name: name a zone; [upstream] servers answer for all names",
        ),
        (
            forward("\"192.0.2.1\""),
            "2: zone is \"192.0.2.1\", an address, not a zone",
        ),
        (
            forward("[]"),
            "2: zone is empty, must name at least one: add one",
        ),
        (
            "[[local]]\nfile = \"z\"\n".to_owned(),
            "1: [[local]] has neither `name` nor `zone`: add name = \"...\" and its records, or zone = \"...\" and file = \"...\"",
        ),
        (
            "[[local]]\nzone = \"x.example\"\n".to_owned(),
            "1: [[local]] has a `zone` and no `file`: add file = \"...\"",
        ),
        (
            zone("x.example") + a,
            "4: a is for a section with a `name`: write it into the zone's file",
        ),
    ] {
        assert_eq!(problems(&text), [expected], "{text}");
    }
    // The same record twice, and records of other types.
    valid(&(name("x.example", a) + &name("x.example", a) + &name("x.example", "txt = \"x\"")));
    // A record inside of a forwarded zone, and one such zone inside another.
    valid(&(name("a.x.example", a) + &forward("\"x.example\"") + &forward("\"y.x.example\"")));
    valid(&(zone("x.example") + &forward("\"y.x.example\"")));
}

#[test]
fn a_forwarded_zone_needs_servers() {
    let text = "[[forward]]\nzone = \"x.example\"\n";
    let found = problems(text);
    assert_eq!(
        found,
        ["1: [[forward]] has no `servers`: add servers = [\"...\"]"]
    );
    let found = problems(&format!("{text}servers = [\"x\"]"));
    assert!(
        found.len() == 1 && found[0].starts_with("3: servers holds \"x\", "),
        "{found:?}"
    );
    let config = valid(&format!(
        "{text}servers = [\"192.0.2.1\"]\ntimeout-ms = 700"
    ));
    let [forward] = &config.local.forwards[..] else {
        panic!("one section");
    };
    assert_eq!(
        forward.timeout.map(|timeout| timeout.as_millis()),
        Some(700)
    );
    assert_eq!((forward.line, forward.servers.len()), (1, 1));
}

#[test]
fn the_old_section_of_special_use_zones_is_refused_with_its_new_name() {
    let found = problems("[local]\nforward = []");
    assert_eq!(
        found,
        [
            "1: local is a section, must be an array of sections: [local] is now [special-use]: rename it; [[local]] has names that are \
          answered locally"
        ]
    );
    let config =
        valid("[special-use]\nforward = [\"home.arpa\"]\nuse-application-dns = \"forward\"");
    let special_use = config.local.special_use;
    assert_eq!(
        (special_use.forward.len(), special_use.use_application_dns),
        (1, Canary::Forward)
    );
}
