//! The precedence of rules of response policy zones: draft-vixie-dnsop-dns-rpz-00, section 5. Each test has the number of its
//! section in its name. Section 5.5 is about NSDNAME triggers, which a forwarder can't apply. Wildcards match as in any
//! zone (RFC 4592).

use std::net::IpAddr;
use std::sync::Arc;

use tapis::policy::builder::Builder;
use tapis::policy::decide::{Decision, Matched, PolicyView};
use tapis::policy::effect::{Effect, EffectAction};
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::prefix::{AddressOf, Prefix};
use tapis::policy::ranking::{LookupResult, Trigger};
use tapis::policy::rpz::settings::{ZonePolicy, ZoneSettings};
use tapis::policy::rule::{Action, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::policy::view::{LookupKey, Mode, View, ViewId, ViewList};
use tapis::wire::name::Name;

use crate::support::policy::list;

/// The rules of one zone, as triggers: `client NETWORK`, `answer NETWORK`, `*.NAME` or `NAME`. The effect of those with a `!` in
/// front is PASSTHRU.
type Zone<'z> = &'z [&'z str];

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// A snapshot of these zones, in the order of precedence.
fn zones(zones: &[Zone<'_>]) -> Snapshot {
    with_views(zones, &[])
}

/// A snapshot of these zones, in the order of precedence in the default view.
fn with_views(zones: &[Zone<'_>], views: &[View]) -> Snapshot {
    let mut builder = Builder::new();
    let mut sources = Vec::new();
    for (number, rules) in zones.iter().enumerate() {
        let zone = format!("zone{}", number + 1);
        let source = ImageSource {
            amendable: true,
            ..ImageSource::named(&zone)
        };
        let source = builder.source(source).expect("room");
        for rule in *rules {
            add(&mut builder, source, rule);
        }
        let settings = ZoneSettings {
            policy: ZonePolicy::Given,
            max_ttl_secs: 60,
            break_dnssec: true,
        };
        sources.push(Arc::new(Source {
            zone: Some(Box::new(settings.into())),
            ..list(&zone)
        }));
    }
    let image = Arc::new(builder.finish().expect("room"));
    Snapshot::default().with_views(sources, image.into(), views)
}

fn add(builder: &mut Builder, source: u16, rule: &str) {
    let passthru = Effect {
        action: EffectAction::Allow,
        ..Effect::default()
    };
    let (rule, effect) = match rule.strip_prefix('!') {
        Some(rule) => (rule, passthru),
        None => (rule, Effect::default()),
    };
    let network =
        |of, text: &str| Prefix::new(of, text.parse().expect("a network")).expect("valid");
    let added = match (rule.split_once(' '), rule.strip_prefix("*.")) {
        (Some(("client", text)), _) => {
            builder.insert_prefix(network(AddressOf::Client, text), source, &effect)
        }
        (Some((_, text)), _) => {
            builder.insert_prefix(network(AddressOf::Answer, text), source, &effect)
        }
        (None, Some(owner)) => builder.insert_effect(&name(owner), source, Scope::Below, &effect),
        (None, None) => builder.insert_effect(&name(rule), source, Scope::Exact, &effect),
    };
    added.expect("room");
}

/// The zone and the trigger of the rule that decides about a query from the client 192.0.2.1, and whether the rule
/// blocks. `names` are the queried name and the targets of its chain.
fn decides(snapshot: &Snapshot, names: &[&str], addresses: &[&str]) -> String {
    decides_in(snapshot.view(ViewId::DEFAULT), names, addresses)
}

fn decides_in(view: PolicyView<'_>, names: &[&str], addresses: &[&str]) -> String {
    let view = view.for_client([192, 0, 2, 1].into());
    let asked = name(names[0]);
    let decision = view.decide(&asked);
    if let Decision::Blocked { by, .. } = decision {
        return format!("{} blocks", described(view, &asked, by));
    }
    let chain: Vec<Name> = names[1..].iter().map(|text| name(text)).collect();
    let addresses: Vec<IpAddr> = addresses
        .iter()
        .map(|text| text.parse().expect("valid"))
        .collect();
    let answer = view.decide_answer(
        &asked,
        decision.later_rules(),
        chain.iter().cloned(),
        addresses.into_iter(),
    );
    let last = chain.last().unwrap_or(&asked);
    match (answer.decision, decision) {
        (Decision::Blocked { by, .. }, _) => {
            let at = [&asked].into_iter().chain(&chain).nth(answer.hops);
            format!("{} blocks", described(view, at.expect("a place"), by))
        }
        (Decision::Allowed(by), _) => format!("{} passes", described(view, last, by)),
        (_, Decision::Allowed(by)) => format!("{} passes", described(view, &asked, by)),
        _ => "nothing".to_owned(),
    }
}

fn described(view: PolicyView<'_>, at: &Name, by: Matched<'_>) -> String {
    let trigger = match by.hit.trigger {
        Trigger::Name { scope, labels } => {
            let (owner, _) = Name::parse(at.ancestor(labels.into()), 0).expect("a name");
            scope.notation(&owner)
        }
        Trigger::Pattern => format!("{:?}", view.patterns(by.hit, at)),
        Trigger::Client(network) => format!("client {}", view.client_network(network).network()),
        Trigger::Answer(network) => format!("answer {}", view.answer_network(network).network()),
    };
    format!("{}: {trigger}", by.source.name)
}

#[test]
fn section_5_1_a_rule_at_an_earlier_place_of_the_chain_precedes() {
    let snapshot = zones(&[&["c.test", "answer 198.51.100.0/24"], &["b.test"]]);
    let decides = |names: &[&str]| decides(&snapshot, names, &["198.51.100.1"]);
    assert_eq!(
        decides(&["a.test", "b.test", "c.test"]),
        "zone2: b.test blocks"
    );
    assert_eq!(
        decides(&["a.test", "c.test", "b.test"]),
        "zone1: c.test blocks"
    );
    assert_eq!(
        decides(&["a.test", "b.test"]),
        "zone1: answer 198.51.100.0/24 blocks"
    );
}

#[test]
fn section_5_1_passthru_at_an_earlier_place_is_the_only_rule_that_applies() {
    let snapshot = zones(&[
        &["c.test", "answer 198.51.100.0/24"],
        &["!a.test", "!b.test"],
    ]);
    let decides = |names: &[&str]| decides(&snapshot, names, &["198.51.100.1"]);
    assert_eq!(decides(&["a.test", "c.test"]), "zone2: a.test passes");
    assert_eq!(
        decides(&["d.test", "b.test", "c.test"]),
        "nothing",
        "no rule applies after b.test"
    );
    assert_eq!(decides(&["d.test", "c.test"]), "zone1: c.test blocks");
}

#[test]
fn section_5_2_at_one_place_an_earlier_zone_precedes_whatever_the_trigger() {
    let one = ["!*.a.test", "answer 198.51.100.0/24"];
    let snapshot = zones(&[&one, &["client 192.0.2.1/32", "x.a.test"], &["b.test"]]);
    let answer = ["198.51.100.1"];
    assert_eq!(
        decides(&snapshot, &["x.a.test"], &answer),
        "zone1: *.a.test passes"
    );
    assert_eq!(
        decides(&snapshot, &["b.test"], &answer),
        "zone2: client 192.0.2.1/32 blocks"
    );
    let later = zones(&[&["!b.test"], &["client 192.0.2.1/32"]]);
    assert_eq!(
        decides(&later, &["b.test"], &answer),
        "zone1: b.test passes"
    );
    let address = zones(&[&["answer 198.51.100.0/24"], &["!b.test"]]);
    assert_eq!(
        decides(&address, &["b.test"], &answer),
        "zone1: answer 198.51.100.0/24 blocks"
    );
    let target = zones(&[&["!answer 198.51.100.0/24"], &["b.test"]]);
    assert_eq!(
        decides(&target, &["a.test", "b.test"], &answer),
        "zone1: answer 198.51.100.0/24 passes"
    );
}

#[test]
fn section_5_3_an_exact_name_precedes_a_wildcard_and_the_longest_wildcard_the_others() {
    let snapshot = zones(&[&["*.test", "!*.a.test", "x.a.test"]]);
    let decides = |asked: &str| decides(&snapshot, &[asked], &[]);
    assert_eq!(decides("x.a.test"), "zone1: x.a.test blocks");
    assert_eq!(decides("y.a.test"), "zone1: *.a.test passes");
    assert_eq!(decides("w.z.y.a.test"), "zone1: *.a.test passes");
    assert_eq!(decides("b.test"), "zone1: *.test blocks");
    assert_eq!(
        decides("test"),
        "nothing",
        "a wildcard does not match its own name"
    );
}

#[test]
fn section_5_3_a_wildcard_does_not_match_below_a_closer_name_of_its_zone() {
    let snapshot = zones(&[&["*.a.test", "b.a.test", "c.e.d.a.test", "*.f.a.test"]]);
    for (asked, expected) in [
        ("x.a.test", "zone1: *.a.test blocks"),
        ("y.x.a.test", "zone1: *.a.test blocks"),
        ("b.a.test", "zone1: b.a.test blocks"),
        // b.a.test has no wildcard.
        ("x.b.a.test", "nothing"),
        ("y.x.b.a.test", "nothing"),
        // d.a.test and e.d.a.test are names of the zone, because there is a name below them.
        ("d.a.test", "nothing"),
        ("x.d.a.test", "nothing"),
        ("e.d.a.test", "nothing"),
        ("x.e.d.a.test", "nothing"),
        ("c.e.d.a.test", "zone1: c.e.d.a.test blocks"),
        ("x.c.e.d.a.test", "nothing"),
        // So is f.a.test, because there is a wildcard below it.
        ("f.a.test", "nothing"),
        ("x.f.a.test", "zone1: *.f.a.test blocks"),
    ] {
        assert_eq!(decides(&snapshot, &[asked], &[]), expected, "{asked}");
        let of_chain = decides(&snapshot, &["alias.test", asked], &[]);
        assert_eq!(of_chain, expected, "a chain to {asked}");
    }
}

#[test]
fn section_5_3_a_wildcard_on_the_apex_does_not_match_below_a_top_level_name_of_its_zone() {
    let snapshot = zones(&[&["*..", "!x.y.test", "example"]]);
    for (asked, expected) in [
        ("org", "zone1: *. blocks"),
        ("a.org", "zone1: *. blocks"),
        ("test", "nothing"),
        ("a.test", "nothing"),
        ("a.y.test", "nothing"),
        ("x.y.test", "zone1: x.y.test passes"),
        ("example", "zone1: example blocks"),
        ("a.example", "nothing"),
    ] {
        assert_eq!(decides(&snapshot, &[asked], &[]), expected, "{asked}");
    }
}

#[test]
fn section_5_3_a_closer_name_of_one_zone_does_not_end_the_wildcard_of_another() {
    let one: Zone<'_> = &["*.a.test", "!c.b.a.test"];
    let two: Zone<'_> = &["!*.a.test"];
    let (first, second) = (zones(&[one, two]), zones(&[two, one]));
    for (asked, expected) in [
        ("x.a.test", "zone1: *.a.test blocks"),
        ("b.a.test", "zone2: *.a.test passes"),
        ("x.b.a.test", "zone2: *.a.test passes"),
        ("c.b.a.test", "zone1: c.b.a.test passes"),
        ("x.c.b.a.test", "zone2: *.a.test passes"),
    ] {
        assert_eq!(decides(&first, &[asked], &[]), expected, "{asked}");
        assert_eq!(
            decides(&second, &[asked], &[]),
            "zone1: *.a.test passes",
            "{asked}"
        );
    }
    let client = zones(&[one, &["client 192.0.2.0/24"]]);
    assert_eq!(
        decides(&client, &["x.b.a.test"], &[]),
        "zone2: client 192.0.2.0/24 blocks"
    );
}

#[test]
fn section_5_3_wildcards_match_the_same_names_in_each_view_and_in_a_log() {
    let list = |name: &str, mode| ViewList {
        name: name.to_owned(),
        mode,
        action: None,
    };
    let view = |lists: &[ViewList]| View {
        lists: lists.to_vec(),
    };
    let (one, two) = (list("zone1", Mode::Enforce), list("zone2", Mode::Enforce));
    let views = [
        view(&[two, one]),
        view(&[list("zone1", Mode::LogOnly), list("zone2", Mode::Enforce)]),
    ];
    let zones: &[Zone<'_>] = &[&["*.a.test", "c.b.a.test"], &["*.test", "b.a.test"]];
    let snapshot = with_views(zones, &views);
    for (asked, expected, reversed, alone, logged) in [
        ("x.a.test", 1, 1, None, Some(1)),
        ("x.b.a.test", 0, 0, None, None),
        ("b.a.test", 2, 2, Some(2), None),
        ("c.b.a.test", 1, 1, None, Some(1)),
        ("x.test", 2, 2, Some(2), None),
    ] {
        let name = name(asked);
        let in_view = |number| {
            let view = snapshot.view(ViewId(number));
            let decides = decides_in(view, &[asked], &[]);
            let zone = decides.strip_prefix("zone").map(|zone| &zone[..1]);
            zone.map_or(0, |zone| zone.parse().expect("a number"))
        };
        assert_eq!((in_view(0), in_view(1)), (expected, reversed), "{asked}");
        assert_eq!(in_view(2), alone.unwrap_or_default(), "{asked}");
        let mut found = [LookupResult::default()];
        snapshot.lookup_in(&[&name], &[LookupKey::new(ViewId(2), 1)], &mut found);
        let log = found[0].logged().map(|hit| {
            let matched = snapshot.view(ViewId(2)).matched(hit);
            matched.source.name.clone()
        });
        assert_eq!(log, logged.map(|zone: u8| format!("zone{zone}")), "{asked}");
    }
}

#[test]
fn names_below_a_closer_name_of_the_zone_are_not_denied_with_the_names_that_a_wildcard_matches() {
    let nxdomain = Effect {
        action: EffectAction::Block(Action::Nxdomain),
        as_written: true,
        ..Effect::default()
    };
    let mut builder = Builder::new();
    let source = builder.source(ImageSource {
        amendable: true,
        ..ImageSource::named("zone1")
    });
    let source = source.expect("room");
    for (owner, scope) in [
        ("a.test", Scope::Exact),
        ("a.test", Scope::Below),
        ("c.b.a.test", Scope::Exact),
    ] {
        let added = builder.insert_effect(&name(owner), source, scope, &nxdomain);
        added.expect("room");
    }
    let image = Arc::new(builder.finish().expect("room"));
    let of_zone = zones(&[&[]]).sources()[0].clone();
    let snapshot = Snapshot::default().with_rules(vec![of_zone], image.into());
    for (asked, expected) in [
        ("a.test", Some((true, false))),
        ("x.a.test", Some((true, true))),
        ("b.a.test", None),
        ("c.b.a.test", Some((true, false))),
        ("x.b.a.test", None),
    ] {
        let blocked = match snapshot.decide(&name(asked)) {
            Decision::Blocked {
                nxdomain, closed, ..
            } => Some((nxdomain, closed)),
            _ => None,
        };
        assert_eq!(
            blocked, expected,
            "{asked}: NXDOMAIN as written, all below blocked"
        );
    }
}

#[test]
fn section_5_4_in_one_zone_the_client_precedes_the_name_and_the_name_the_answer() {
    let answer = ["198.51.100.1"];
    let client = zones(&[&["!x.test", "client 192.0.2.0/24"]]);
    assert_eq!(
        decides(&client, &["x.test"], &answer),
        "zone1: client 192.0.2.0/24 blocks"
    );
    let asked = zones(&[&["!x.test", "answer 198.51.100.0/24"]]);
    assert_eq!(
        decides(&asked, &["x.test"], &answer),
        "zone1: x.test passes"
    );
    let target = zones(&[&["y.test", "!answer 198.51.100.0/24"]]);
    assert_eq!(
        decides(&target, &["x.test", "y.test"], &answer),
        "zone1: y.test blocks"
    );
}

#[test]
fn section_5_6_the_longest_prefix_precedes_and_ipv4_prefixes_are_longer_by_96() {
    let nested = zones(&[&["answer 198.51.0.0/16", "!answer 198.51.100.0/24"]]);
    let long = "zone1: answer 198.51.100.0/24 passes";
    assert_eq!(
        decides(&nested, &["x.test"], &["198.51.7.1", "198.51.100.1"]),
        long
    );
    assert_eq!(
        decides(&nested, &["x.test"], &["198.51.7.1"]),
        "zone1: answer 198.51.0.0/16 blocks"
    );
    let clients = zones(&[&["client 192.0.0.0/16", "!client 192.0.2.0/24"]]);
    assert_eq!(
        decides(&clients, &["x.test"], &[]),
        "zone1: client 192.0.2.0/24 passes"
    );
    // With 96 added, the IPv4 prefix of length 16 counts as 112: longer than 111, and shorter than 113.
    let addresses = ["198.51.100.1", "2001:db8::1"];
    let families = zones(&[&["answer 198.51.0.0/16", "answer 2001:db8::/111"]]);
    assert_eq!(
        decides(&families, &["x.test"], &addresses),
        "zone1: answer 198.51.0.0/16 blocks"
    );
    let families = zones(&[&["answer 198.51.0.0/16", "answer 2001:db8::/113"]]);
    assert_eq!(
        decides(&families, &["x.test"], &addresses),
        "zone1: answer 2001:db8::/113 blocks"
    );
}

#[test]
fn section_5_7_of_equal_prefixes_the_smallest_address_precedes() {
    let snapshot = zones(&[&["answer 198.51.100.0/24", "!answer 198.51.7.0/24"]]);
    for addresses in [
        ["198.51.100.1", "198.51.7.1"],
        ["198.51.7.1", "198.51.100.1"],
    ] {
        assert_eq!(
            decides(&snapshot, &["x.test"], &addresses),
            "zone1: answer 198.51.7.0/24 passes"
        );
    }
}
