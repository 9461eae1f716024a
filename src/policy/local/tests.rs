//! The tree of local names, compared with what RFC 4592 and RFC 8020 say.

use super::*;
use crate::policy::record::LocalRecord;
use crate::wire::name::Name;
use crate::wire::rtype;

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

fn builder() -> LocalBuilder {
    LocalBuilder::new(&[], true)
}

fn address(last: u8) -> LocalRecord {
    LocalRecord {
        rtype: rtype::A,
        ttl_secs: Some(60),
        data: [192, 0, 2, last].into(),
    }
}

fn soa() -> LocalRecord {
    LocalRecord {
        rtype: rtype::SOA,
        ttl_secs: Some(600),
        data: [&[0; 18][..], &[0, 0, 0, 30]].concat().into(),
    }
}

/// What a query for A gets: the last byte of the address, or the kind of another answer; `None` if upstream is asked.
fn found(names: &LocalNames, text: &str) -> Option<String> {
    let answer = names.lookup(&name(text), rtype::A)?;
    Some(match answer.data {
        LocalData::SpecialUse(zone) => format!("{zone:?} {}", answer.labels),
        LocalData::Nonexistent => format!("nonexistent {}", answer.labels),
        LocalData::Records([]) => format!("empty {}", answer.labels),
        LocalData::Records(all) => {
            let last = all.iter().filter(|record| record.rtype == rtype::A);
            let last = last.filter_map(|record| record.data.last());
            let last: Vec<_> = last.map(u8::to_string).collect();
            format!("{} {}", last.join(","), answer.labels)
        }
    })
}

fn check(names: &LocalNames, expected: &[(&str, Option<&str>)]) {
    for (name, expected) in expected {
        assert_eq!(found(names, name).as_deref(), *expected, "{name}");
    }
}

#[test]
fn special_names_are_answered_locally_and_all_others_are_not() {
    let one = format!("1{}.ip6.arpa", ".0".repeat(31));
    check(
        &builder().finish(),
        &[
            ("a.localhost", Some("Loopback 1")),
            ("1.2.168.192.in-addr.arpa", Some("Empty 4")),
            ("31.172.in-addr.arpa", Some("Empty 4")),
            ("32.172.in-addr.arpa", None),
            (&one, Some("Empty 34")),
            ("_dns.resolver.arpa", Some("NoData 2")),
            ("use-application-dns.net", Some("Nonexistent 2")),
            // RFC 6761, section 6.5: examples are ordinary names.
            ("example.com", None),
            ("arpa", None),
            (".", None),
        ],
    );
}

#[test]
fn a_zone_that_is_sent_upstream_is_not_answered_locally() {
    let names = LocalNames::special_use(&[name("10.in-addr.arpa"), name("home.arpa")], false);
    let expected = [
        ("1.10.in-addr.arpa", None),
        ("printer.home.arpa", None),
        (CANARY, None),
        ("x.onion", Some("Nonexistent 1")),
    ];
    check(&names, &expected);
}

#[test]
fn a_single_name_is_local_and_the_names_around_it_are_not() {
    let mut builder = builder();
    builder.add_record(&name("a.b.home.example"), address(1), 7);
    let names = builder.finish();
    let expected = [
        ("a.b.home.example", Some("1 4")),
        ("b.home.example", None),
        ("x.a.b.home.example", None),
        ("example", None),
    ];
    check(&names, &expected);
    let line = names.lookup(&name("a.b.home.example"), rtype::AAAA);
    assert_eq!(line.and_then(|answer| answer.line), Some(7));
    for rtype in [rtype::DS, rtype::DNSKEY] {
        let answer = names.lookup(&name("a.b.home.example"), rtype);
        assert!(answer.is_none(), "validators need it for names below");
    }
}

#[test]
fn a_wildcard_applies_where_its_parent_is_the_closest_encloser() {
    let mut builder = builder();
    for (owner, last) in [("*.x.example", 1), ("b.a.x.example", 2), ("*.home.arpa", 3)] {
        builder.add_record(&name(owner), address(last), 1);
    }
    let expected = [
        ("c.x.example", Some("1 3")),
        ("d.c.x.example", Some("1 4")),
        ("*.x.example", Some("1 3")),
        ("b.a.x.example", Some("2 4")),
        // `a.x.example` exists, as it has a name below it.
        ("a.x.example", None),
        ("c.a.x.example", None),
        ("c.b.a.x.example", None),
        ("x.example", None),
        ("printer.home.arpa", Some("3 2")),
        ("home.arpa", Some("Empty 2")),
    ];
    check(&builder.finish(), &expected);
}

#[test]
fn the_ancestor_of_a_record_in_a_special_use_zone_exists() {
    let mut builder = builder();
    builder.add_record(&name("a.b.home.arpa"), address(1), 1);
    let expected = [
        ("a.b.home.arpa", Some("1 2")),
        ("b.home.arpa", Some("empty 2")),
        ("c.home.arpa", Some("Empty 2")),
    ];
    check(&builder.finish(), &expected);
}

/// The zone `home.example` of a file, and forwarded zones inside and outside of it.
fn zones() -> LocalNames {
    let mut builder = builder();
    builder.add_zone(&name("home.example"), 3);
    builder.add_record(&name("home.example"), soa(), 3);
    builder.add_record(&name("a.b.home.example"), address(1), 3);
    let forwarded = |line| ForwardedZone {
        servers: "192.0.2.1:53".into(),
        line,
    };
    builder.add_forwarded(&name("lab.home.example"), forwarded(8));
    builder.add_forwarded(&name("10.in-addr.arpa"), forwarded(9));
    builder.add_forwarded(&name("deep.10.in-addr.arpa"), forwarded(10));
    builder.add_record(&name("www.lab.home.example"), address(2), 12);
    builder.finish()
}

#[test]
fn a_zone_denies_names_that_it_does_not_have() {
    let expected = [
        ("home.example", Some(" 2")),
        ("a.b.home.example", Some("1 2")),
        ("b.home.example", Some("empty 2")),
        ("c.home.example", Some("nonexistent 2")),
        ("x.a.b.home.example", Some("nonexistent 2")),
        ("example", None),
        ("other.example", None),
    ];
    let zones = zones();
    check(&zones, &expected);
    let denied = zones
        .lookup(&name("c.home.example"), rtype::A)
        .expect("local");
    let soa = denied.soa.expect("that of the file");
    assert_eq!((soa.negative_ttl, denied.line), (30, Some(3)));
}

#[test]
fn a_forwarded_zone_ends_a_local_one_and_records_precede_it() {
    let zones = zones();
    let expected = [
        ("lab.home.example", None),
        ("x.lab.home.example", None),
        ("www.lab.home.example", Some("2 4")),
        ("1.10.in-addr.arpa", None),
        ("1.168.192.in-addr.arpa", Some("Empty 4")),
    ];
    check(&zones, &expected);
    let line = |text: &str, rtype| {
        let zone = zones.forwarded(&name(text), rtype);
        zone.map(|zone| zone.line)
    };
    assert_eq!(line("1.10.in-addr.arpa", rtype::A), Some(9));
    assert_eq!(line("1.deep.10.in-addr.arpa", rtype::A), Some(10));
    assert_eq!(line("11.in-addr.arpa", rtype::A), None);
}

#[test]
fn thousands_of_names_of_one_label_are_found() {
    let mut builder = builder();
    let names: Vec<_> = (0..5000).map(|number| format!("host{number}")).collect();
    for owner in &names {
        builder.add_record(&name(owner), address(1), 1);
    }
    let tree = builder.finish();
    for owner in &names {
        assert_eq!(found(&tree, owner).as_deref(), Some("1 1"), "{owner}");
    }
    check(
        &tree,
        &[("host5000", None), ("com", None), ("x.host1", None)],
    );
}

#[test]
fn the_ds_record_of_a_zone_belongs_to_its_parent() {
    let zones = zones();
    let line = |text: &str, rtype| {
        let zone = zones.forwarded(&name(text), rtype);
        zone.map(|zone| zone.line)
    };
    assert_eq!(line("deep.10.in-addr.arpa", rtype::DS), Some(9));
    assert_eq!(line("deep.10.in-addr.arpa", rtype::DNSKEY), Some(10));
    assert_eq!(line("10.in-addr.arpa", rtype::DS), None, "upstream");
    let local = |text: &str| {
        let answer = zones.lookup(&name(text), rtype::DS);
        answer.map(|answer| answer.labels)
    };
    assert_eq!(local("home.example"), None, "upstream");
    assert_eq!(
        local("lab.home.example"),
        Some(2),
        "the zone above is local"
    );
    assert_eq!(local("x.lab.home.example"), None);
    assert_eq!(local("168.192.in-addr.arpa"), None);
    assert_eq!(local("onion"), Some(1), "there is no parent to ask");
}
