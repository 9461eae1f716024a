//! What is published of networks and names with special owners, and which sources.

use ipnet::IpNet;

use super::super::regions;
use super::super::source::PublishedPolicy;
use super::super::walk::Region;
use super::*;
use crate::policy::condition::{Condition, TypeSet};
use crate::policy::prefix::{AddressOf, Prefix};
use crate::policy::tests::sources;

/// A source: its name, its kind, its action.
type List<'t> = (&'t str, Kind, Action);

fn source(list: &List<'_>) -> Arc<Source> {
    let (name, kind, action) = *list;
    Arc::new(sources::source(name, kind, action))
}

/// Adds a rule: `x`, `*.x` or `.x`, `client NETWORK`, `answer NETWORK`, or `/PATTERN/`.
fn add_rule(builder: &mut Builder, source: u16, rule: &str, effect: &Effect) {
    let network = |of, text: &str| {
        let network: IpNet = text.parse().expect("a network");
        Prefix::new(of, network).expect("valid")
    };
    let added = if let Some(text) = rule.strip_prefix("client ") {
        builder.insert_prefix(network(AddressOf::Client, text), source, effect)
    } else if let Some(text) = rule.strip_prefix("answer ") {
        builder.insert_prefix(network(AddressOf::Answer, text), source, effect)
    } else if let Some(text) = rule.strip_prefix('/') {
        builder.insert_pattern(text.trim_end_matches('/'), source, effect)
    } else if let Some(text) = rule.strip_prefix("*.") {
        builder.insert_effect(&name(text), source, Scope::Below, effect)
    } else if let Some(text) = rule.strip_prefix('.').filter(|text| !text.is_empty()) {
        builder.insert_effect(&name(text), source, Scope::Subtree, effect)
    } else {
        builder.insert_effect(&name(rule), source, Scope::Exact, effect)
    };
    added.expect("room");
}

fn image(lists: &[(List<'_>, &[&str])]) -> Arc<Image> {
    let mut builder = Builder::new();
    for ((list, ..), rules) in lists {
        let source = builder.source(ImageSource::named(list)).expect("room");
        for rule in *rules {
            add_rule(&mut builder, source, rule, &Effect::default());
        }
    }
    Arc::new(builder.finish().expect("room"))
}

fn policy(lists: &[(List<'_>, &[&str])]) -> Snapshot {
    let sources = lists.iter().map(|(list, _)| source(list)).collect();
    Snapshot::default().with_rules(sources, image(lists).into())
}

/// The records as `OWNER TARGET`, or `OWNER #TYPE` if they have another type than CNAME; and what can't be expressed.
fn shown(zone: &PublishedZone) -> (BTreeSet<String>, Inexpressible) {
    let (mut records, mut all) = (zone.records(), BTreeSet::new());
    while let Some(record) = records.next() {
        let shown = match record.rtype {
            rtype::CNAME => Name::parse(record.data, 0).expect("a name").0.to_string(),
            other => format!("#{other}"),
        };
        all.insert(format!("{} {shown}", record.owner));
    }
    (all, *records.inexpressible())
}

fn published_of(lists: &[(List<'_>, &[&str])]) -> (BTreeSet<String>, Inexpressible) {
    shown(&zone_of(&policy(lists)))
}

const BLOCK: List<'_> = ("block", Kind::Block, Action::Nxdomain);
const ORDER: List<'_> = ("order:1", Kind::Order, Action::Nodata);
const ALLOW: List<'_> = ("allow", Kind::Allow, Action::Nodata);

#[track_caller]
fn assert_published(
    lists: &[(List<'_>, &[&str])],
    expected: &[&str],
    inexpressible: Inexpressible,
) {
    let (records, found) = published_of(lists);
    let expected: BTreeSet<String> = expected.iter().map(|&text| text.to_owned()).collect();
    assert_eq!(records, expected);
    assert_eq!(found, inexpressible);
}

#[test]
fn empty_names_below_a_wildcard_have_its_records() {
    let lists = [(BLOCK, &[".x"][..]), (ALLOW, &["a.b.x"])];
    assert_published(
        &lists,
        &[
            "x *",
            "*.x .",
            "b.x *",
            "*.b.x .",
            "a.b.x rpz-passthru",
            "*.a.b.x .",
        ],
        Inexpressible::default(),
    );
}

#[test]
fn a_name_that_says_what_the_wildcard_above_says_is_left_out() {
    let lists = [(ORDER, &[".x", "a.x", ".b.x"][..]), (BLOCK, &["c.x", "y"])];
    assert_published(&lists, &["x *", "*.x *", "y *"], Inexpressible::default());
}

#[test]
fn networks_of_clients_are_published_unless_rules_on_names_precede_them() {
    let clients = ["client 192.0.2.0/24", "client 192.0.2.1/32"];
    assert_published(
        &[(ALLOW, &clients[..1]), (BLOCK, &["y", clients[1]])],
        &["24.0.2.0.192.rpz-client-ip rpz-passthru", "y *"],
        Inexpressible::default(),
    );
    // The rule on the smaller network does not decide there.
    assert_published(
        &[(ORDER, &["x"]), (ALLOW, &clients[..1]), (BLOCK, &["y"])],
        &["x *", "y *"],
        Inexpressible {
            networks: 1,
            ..Inexpressible::default()
        },
    );
    assert_published(
        &[(ORDER, &clients), (BLOCK, &["y"])],
        &["24.0.2.0.192.rpz-client-ip *", "y *"],
        Inexpressible::default(),
    );
}

#[test]
fn networks_of_answers_are_published_also_if_names_precede_them() {
    let answers = ["answer 192.0.2.0/24", "answer 2001:db8::/32"];
    let both = ["24.0.2.0.192.rpz-ip *", "32.zz.db8.2001.rpz-ip *"];
    assert_published(
        &[(BLOCK, &["y", answers[0], answers[1]])],
        &[both[0], both[1], "y *"],
        Inexpressible::default(),
    );
    assert_published(
        &[(ORDER, &answers), (ALLOW, &["y"])],
        &[both[0], both[1], "y rpz-passthru"],
        Inexpressible {
            inexact_networks: 2,
            ..Inexpressible::default()
        },
    );
}

#[test]
fn what_is_left_out_is_counted() {
    let long = ["a"; 122].join(".");
    let lists = [
        (("refused", Kind::Block, Action::Refused), &["w"][..]),
        (
            BLOCK,
            &[
                "/ads[0-9]/",
                "/trk[0-9]/",
                "x.rpz-ip",
                r"\042.test",
                ".",
                &long,
            ],
        ),
    ];
    assert_published(
        &lists,
        &["w *"],
        Inexpressible {
            patterns: 2,
            effects: 1,
            reserved_owners: 3,
            long_owners: 1,
            ..Inexpressible::default()
        },
    );
}

#[test]
fn an_owner_may_be_as_long_as_the_name_of_the_zone_permits() {
    let label = "a".repeat(63);
    let long = |first: &str, len| {
        [&first.repeat(len), &label, &label, &label]
            .map(String::as_str)
            .join(".")
    };
    let (exact, below) = (long("b", 49), format!("*.{}", long("c", 47)));
    let longer = [long("b", 50), format!("*.{}", long("c", 48))];
    assert_published(
        &[(BLOCK, &[&exact, &below, &longer[0], &longer[1]])],
        &[&format!("{exact} *"), &format!("{below} .")],
        Inexpressible {
            long_owners: 2,
            ..Inexpressible::default()
        },
    );
}

#[test]
fn only_selected_sources_are_published() {
    let exception = ("exception:1", Kind::Exception, Action::Nodata);
    let policy = policy(&[
        (exception, &["e"]),
        (ORDER, &["x", "e"]),
        (ALLOW, &["z"]),
        (BLOCK, &["y", "z", "e"]),
    ]);
    let of = |names: &[&str]| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let zone = PublishedZone::new(&policy, &Selection::Named(names), &name(APEX));
        let (records, _) = shown(&zone);
        records.into_iter().collect::<Vec<_>>().join(", ")
    };
    assert_eq!(of(&["block"]), "e *, y *, z *");
    assert_eq!(of(&["block", "allow"]), "e *, y *, z rpz-passthru");
    assert_eq!(of(&["order:1"]), "e *, x *");
    assert_eq!(
        of(&[Selection::ALL_ORDERS, Selection::ALL_EXCEPTIONS]),
        "e rpz-passthru, x *"
    );
    assert_eq!(of(&["other"]), "");
}

/// The policies of one base, and of an image of orders for each of `orders`.
fn with_orders(base: &Arc<Image>, orders: &[&[&str]]) -> Vec<Snapshot> {
    let orders = orders.iter().map(|rules| {
        let images = Images {
            base: Some(base.clone()),
            orders: Some(image(&[(ORDER, rules)])),
            ..Images::default()
        };
        Snapshot::default().with_rules(vec![source(&ORDER), source(&BLOCK)], images)
    });
    orders.collect()
}

#[test]
fn only_names_concerned_by_changed_rules_are_visited() {
    let base = image(&[(BLOCK, &["x", "a.x", "b.a.x", "y"])]);
    let policies = with_orders(&base, &[&["u", ".w"], &["u", "v.u", ".x"]]);
    let all = Selection::All;
    let policies = policies
        .iter()
        .map(|policy| PublishedPolicy::new(policy, &all, &name(APEX)));
    let policies: Vec<_> = policies.collect();
    let found = regions::differing(&policies[0], &policies[1]);
    let region = |text: &str, is_subtree| Region {
        path: Path::from(&name(text)).as_bytes().into(),
        is_subtree,
    };
    assert_eq!(
        found,
        [region("v.u", false), region("w", true), region("x", true)]
    );
    assert_eq!(regions::differing(&policies[1], &policies[1]), []);
}

#[test]
fn networks_that_differ_are_changes() {
    let policy = |rules: &[&str]| zone_of(&policy(&[(BLOCK, rules)]));
    let old = policy(&["answer 192.0.2.0/24", "answer 198.51.100.0/24"]);
    let new = policy(&["answer 192.0.2.0/24", "client 198.51.100.0/24"]);
    let mut changes = new.changes_from(&old);
    let mut found = Vec::new();
    while let Some((change, record)) = changes.next() {
        found.push((change, record.owner.to_string()));
    }
    let expected = [
        (RecordChange::Added, "24.0.100.51.198.rpz-client-ip"),
        (RecordChange::Deleted, "24.0.100.51.198.rpz-ip"),
    ];
    assert_eq!(
        found,
        expected.map(|(change, owner)| (change, owner.to_owned()))
    );
}

#[test]
fn a_name_that_ends_a_wildcard_of_a_zone_changes_other_names_below_it() {
    let mut builder = Builder::new();
    let zone = ImageSource {
        amendable: true,
        ..ImageSource::named("zone")
    };
    let zone_number = builder.source(zone.clone()).expect("room");
    let written = Effect {
        action: EffectAction::Block(Action::Nxdomain),
        as_written: true,
        ..Effect::default()
    };
    add_rule(&mut builder, zone_number, "*.a", &written);
    let list = builder.source(ImageSource::named("block")).expect("room");
    add_rule(&mut builder, list, "x.b.a", &Effect::default());
    let before = Images::from(Arc::new(builder.finish().expect("room")));
    let mut amendment = Amendment::default();
    let path = Path::from(&name("c.b.a")).as_bytes().to_vec();
    amendment.names.insert(path, vec![(Scope::Exact, written)]);
    let delta = amendment.image(&before, zone).expect("room");
    let after = Images {
        delta: Some(Arc::new(delta)),
        ..before.clone()
    };
    let zones = [before, after].map(|images| {
        let sources = vec![Arc::new(sources::zone("zone")), source(&BLOCK)];
        zone_of(&Snapshot::default().with_rules(sources, images))
    });
    let [(old, _), (new, _)] = [&zones[0], &zones[1]].map(shown);
    assert!(old.contains("*.a .") && !old.contains("x.b.a *"), "{old:?}");
    assert!(new.contains("x.b.a *"), "{new:?}");
    let [old, new] = zones;
    let expected: BTreeSet<_> = published(&new).into_iter().collect();
    assert_eq!(apply(&published(&old), new.changes_from(&old)), expected);
}

#[test]
fn rules_with_conditions_are_left_out_and_counted_by_their_effects() {
    let mut builder = Builder::new();
    let list = builder.source(ImageSource::named("block")).expect("room");
    let only = |qtype: u16| Effect {
        condition: Condition::new(Some(TypeSet::Only([qtype].into())), [])
            .ok()
            .map(Box::new),
        ..Effect::default()
    };
    for (rule, effect) in [
        ("x", only(rtype::A)),
        ("y", only(rtype::A)),
        ("answer 192.0.2.0/24", only(rtype::AAAA)),
        ("client 192.0.2.0/24", only(rtype::AAAA)),
        ("z", Effect::default()),
    ] {
        add_rule(&mut builder, list, rule, &effect);
    }
    let base = Arc::new(builder.finish().expect("room"));
    let snapshot = Snapshot::default().with_rules(vec![source(&BLOCK)], base.into());
    let (records, inexpressible) = shown(&zone_of(&snapshot));
    assert_eq!(records, BTreeSet::from(["z *".to_owned()]));
    let conditions = 2;
    let expected = Inexpressible {
        conditions,
        ..Inexpressible::default()
    };
    assert_eq!(inexpressible, expected);
}

#[test]
fn a_source_of_the_orders_with_another_action_changes_its_names() {
    let orders = image(&[(ORDER, &["x", ".y"])]);
    let zones = [Action::Nodata, Action::Drop].map(|action| {
        let images = Images {
            orders: Some(orders.clone()),
            ..Images::default()
        };
        let sources = vec![source(&("order:1", Kind::Order, action))];
        zone_of(&Snapshot::default().with_rules(sources, images))
    });
    let [old, new] = zones;
    let expected: BTreeSet<_> = published(&new).into_iter().collect();
    assert_eq!(expected.len(), 3);
    assert_eq!(apply(&published(&old), new.changes_from(&old)), expected);
}

#[test]
fn an_exception_against_some_sources_changes_names_below_it() {
    let base = image(&[(BLOCK, &["*.x.y"])]);
    let policy = |exception: &[&str]| {
        let exceptions = ("exception:1", Kind::Exception, Action::Nodata);
        let images = Images {
            base: Some(base.clone()),
            orders: Some(image(&[(exceptions, exception)])),
            ..Images::default()
        };
        let against = Source {
            against: Against::Named(vec!["other".to_owned()]),
            ..sources::source("exception:1", Kind::Exception, Action::Nodata)
        };
        let sources = vec![Arc::new(against), source(&BLOCK)];
        Snapshot::default().with_rules(sources, images)
    };
    let zones = [policy(&[]), policy(&["y"])].map(|policy| zone_of(&policy));
    let [(old, _), (new, _)] = [&zones[0], &zones[1]].map(shown);
    assert!(
        old.contains("*.x.y .") && new.contains("*.x.y *"),
        "{old:?} {new:?}"
    );
    let [old, new] = zones;
    let expected: BTreeSet<_> = published(&new).into_iter().collect();
    assert_eq!(apply(&published(&old), new.changes_from(&old)), expected);
}
