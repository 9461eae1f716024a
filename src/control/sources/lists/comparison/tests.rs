//! Comparisons of a zone with the rules in force: the amendment leads to the zone's rules, whatever their order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;

use super::{Comparison, MAX_DATA};
use crate::control::list_file::parse::{ParsedRule, ParsedTrigger};
use crate::policy::amendment::Amendment;
use crate::policy::builder::Builder;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::image::Image;
use crate::policy::image::path::Path;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::policy::prefix::{AddressOf, Prefix};
use crate::policy::record::LocalRecord;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

const LIST: &str = "zone";

/// A rule on the name, and its effect by TTL.
type Rule = (Name, Scope, u32);

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// The effect of each trigger.
type Model = BTreeMap<(Vec<u8>, bool), u32>;

fn effect(ttl: u32) -> Effect {
    Effect {
        action: EffectAction::Allow,
        ttl_secs: Some(ttl),
        ..Effect::default()
    }
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let labels = prop::collection::vec(prop::sample::select(vec!["a", "b", "com"]), 0..4);
    let name = labels.prop_map(|labels| match labels.is_empty() {
        true => Name::ROOT,
        false => name(&labels.join(".")),
    });
    let scope = prop::sample::select(vec![Scope::Exact, Scope::Below]);
    let rules = prop::collection::vec((name, scope, 0..3_u32), 0..30);
    rules.prop_map(without_contradictions)
}

/// The same rules, but all those on one name with one scope have the effect of the first of them.
fn without_contradictions(mut rules: Vec<Rule>) -> Vec<Rule> {
    let model = model(&rules);
    for (name, scope, ttl) in &mut rules {
        *ttl = model[&(name.wire().to_vec(), *scope == Scope::Below)];
    }
    rules
}

fn model(rules: &[Rule]) -> Model {
    let mut model = Model::new();
    for (name, scope, ttl) in rules {
        let key = (name.wire().to_vec(), *scope == Scope::Below);
        model.entry(key).or_insert(*ttl);
    }
    model
}

fn image(model: &Model, other: bool) -> Image {
    let mut builder = Builder::new();
    let rules = model.len() as u64;
    let source = builder.source(ImageSource {
        amendable: true,
        rules,
        ..ImageSource::named(LIST)
    });
    let source = source.expect("few");
    for ((wire, below), ttl) in model {
        let scope = if *below { Scope::Below } else { Scope::Exact };
        let name = Name::parse(wire, 0).expect("a name").0;
        let added = builder.insert_effect(&name, source, scope, &effect(*ttl));
        added.expect("few");
    }
    if other {
        // Rules of another list, on some of the names.
        let other = builder.source(ImageSource::named("other")).expect("few");
        for text in ["a", "b.a", "x.com"] {
            builder
                .insert(&name(text), other, Scope::Subtree)
                .expect("few");
        }
    }
    builder.finish().expect("few")
}

fn compared(images: &Images, rules: &[Rule]) -> Amendment {
    try_compare(images, rules).expect("few differences")
}

fn try_compare(images: &Images, rules: &[Rule]) -> Option<Amendment> {
    let mut comparison = Comparison::new(images, LIST).expect("in the base");
    for (line, (name, scope, ttl)) in (1..).zip(rules) {
        comparison.add(ParsedRule {
            trigger: ParsedTrigger::Name(name, *scope),
            effect: Some(&effect(*ttl)),
            line,
        });
    }
    comparison.finish().expect("undamaged")
}

fn amended(images: &Images, amendment: &Amendment) -> Images {
    let source = ImageSource {
        amendable: true,
        rules: amendment.rules_after(images, LIST),
        ..ImageSource::named(LIST)
    };
    let delta = amendment.image(images, source).expect("few");
    Images {
        delta: Some(Arc::new(delta)),
        ..images.clone()
    }
}

fn in_force(images: &Images) -> Model {
    let mut model = Model::new();
    let mut cursor = images.rule_cursor(|list| list == LIST);
    while cursor.advance() {
        let path = Path::of(cursor.path());
        let name = path.to_name();
        for rule in cursor.rules() {
            let ttl = rule.effect.ttl_secs.expect("each has one");
            for below in [false, true] {
                let scope = if below { Scope::Below } else { Scope::Exact };
                if rule.scope == scope || rule.scope == Scope::Subtree {
                    let before = model.insert((name.wire().to_vec(), below), ttl);
                    assert_eq!(before, None, "{name}");
                }
            }
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_amendment_leads_to_the_rules_of_the_zone(
        (first, second, third, other) in (rules(), rules(), rules(), any::<bool>())
    ) {
        let mut images = Images::from(Arc::new(image(&model(&first), other)));
        for rules in [second, third] {
            let amendment = compared(&images, &rules);
            prop_assert_eq!(amendment.rules_after(&images, LIST), model(&rules).len() as u64);
            images = amended(&images, &amendment);
            prop_assert_eq!(in_force(&images), model(&rules));
            // The same zone again differs in nothing, whatever its order.
            let reversed: Vec<_> = model(&rules).into_iter().rev().map(|((wire, below), ttl)| {
                let scope = if below { Scope::Below } else { Scope::Exact };
                (Name::parse(&wire, 0).expect("a name").0, scope, ttl)
            }).collect();
            let again = compared(&images, &reversed);
            prop_assert!(again.names.is_empty() && again.networks.is_none(), "{:?}", again);
        }
    }
}

#[test]
fn a_zone_in_which_rules_contradict_each_other_is_compiled_wherever_these_are() {
    let rule = |text: &str, ttl| (name(text), Scope::Exact, ttl);
    let far: Vec<Rule> = (0..100).map(|n| rule(&format!("n{n}.com"), 1)).collect();
    let images = |rules: &[Rule]| Images::from(Arc::new(image(&model(rules), false)));
    let zone = [&[rule("a.com", 1)][..], &far].concat();
    let in_force = images(&zone);
    assert!(try_compare(&in_force, &zone).is_some());
    for other in [rule("a.com", 2), rule("n50.com", 2)] {
        let contradicting = [&zone[..], &[other]].concat();
        assert!(try_compare(&in_force, &contradicting).is_none());
    }
    let adjacent = [&[rule("a.com", 1), rule("a.com", 2)][..], &far].concat();
    assert!(try_compare(&in_force, &adjacent).is_none());
}

#[test]
fn the_records_of_one_owner_are_one_rule_wherever_they_are() {
    let of = |last: u8| Effect {
        action: EffectAction::Records(vec![LocalRecord {
            rtype: 1,
            ttl_secs: Some(60),
            data: [192, 0, 2, last].into(),
        }]),
        ttl_secs: Some(60),
        ..Effect::default()
    };
    let whole = of(1).joined(&of(2)).expect("records");
    let mut builder = Builder::new();
    let source = builder.source(ImageSource {
        amendable: true,
        rules: 2,
        ..ImageSource::named(LIST)
    });
    let source = source.expect("few");
    for (text, effect) in [("a.com", &whole), ("b.com", &of(1))] {
        let added = builder.insert_effect(&name(text), source, Scope::Exact, effect);
        added.expect("few");
    }
    let images = Images::from(Arc::new(builder.finish().expect("few")));
    let names: Vec<_> = (0..100).map(|n| format!("n{n}.com")).collect();
    let far = names.iter().map(|text| (&**text, 1));
    let changed = |records: &mut dyn Iterator<Item = (&str, u8)>| {
        let mut comparison = Comparison::new(&images, LIST).expect("in the base");
        for (text, last) in records {
            comparison.add(ParsedRule {
                trigger: ParsedTrigger::Name(&name(text), Scope::Exact),
                effect: Some(&of(last)),
                line: 1,
            });
        }
        let amendment = comparison
            .finish()
            .expect("undamaged")
            .expect("few differences");
        let own = ["a.com", "b.com"].map(name);
        own.map(|name| amendment.names.get(Path::from(&name).as_bytes()).cloned())
    };
    let start = [("a.com", 2), ("b.com", 1)].into_iter();
    let same = start.clone().chain(far.clone()).chain([("a.com", 1)]);
    assert_eq!(changed(&mut { same }), [None, None]);
    let more = start.chain(far).chain([("b.com", 2)]);
    assert_eq!(
        changed(&mut { more }),
        [
            Some(vec![(Scope::Exact, of(2))]),
            Some(vec![(Scope::Exact, whole)])
        ]
    );
}

/// Whether a comparison ends while it reads this many rules with distinct records of 60,000 bytes each.
fn ends(rules: u32, of_networks: bool) -> bool {
    let images = Images::from(Arc::new(image(
        &model(&[(name("a"), Scope::Exact, 1)]),
        false,
    )));
    let mut comparison = Comparison::new(&images, LIST).expect("in the base");
    for number in 0..rules {
        let mut data = vec![0; 60_000];
        data[..4].copy_from_slice(&number.to_be_bytes());
        let record = LocalRecord {
            rtype: 65_280,
            ttl_secs: Some(1),
            data: data.into(),
        };
        let effect = Effect {
            action: EffectAction::Records(vec![record]),
            ..Effect::default()
        };
        let owner = name(&format!("n{number}.test"));
        let network = IpNet::from(IpAddr::from(number.to_be_bytes()));
        let network = Prefix::new(AddressOf::Answer, network).expect("a network");
        comparison.add(ParsedRule {
            trigger: match of_networks {
                true => ParsedTrigger::Network(network),
                false => ParsedTrigger::Name(&owner, Scope::Exact),
            },
            effect: Some(&effect),
            line: number + 1,
        });
    }
    comparison.is_too_different
}

#[test]
fn large_records_end_a_comparison_on_names_and_on_networks() {
    const FULL: u32 = (MAX_DATA / 60_000) as u32;
    assert!(ends(FULL + 1, true) && !ends(FULL - 1, true));
    assert!(ends(FULL / 2 + 1, false), "those of names are kept twice");
    assert!(!ends(FULL / 2 - 1, false));
}

#[test]
fn small_records_count_with_the_memory_that_each_takes() {
    let images = Images::from(Arc::new(image(
        &model(&[(name("a"), Scope::Exact, 1)]),
        false,
    )));
    let mut comparison = Comparison::new(&images, LIST).expect("in the base");
    let record = |number: u32| LocalRecord {
        rtype: 65_280,
        ttl_secs: Some(number),
        data: Box::default(),
    };
    let effect = Effect {
        action: EffectAction::Records((0..500_000).map(record).collect()),
        ..Effect::default()
    };
    comparison.add(ParsedRule {
        trigger: ParsedTrigger::Name(&name("n.test"), Scope::Exact),
        effect: Some(&effect),
        line: 1,
    });
    assert!(comparison.is_too_different);
}
