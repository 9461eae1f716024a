//! Tests of rules that are carried over: their effects, and the image that they come from.

use std::fs;

use super::name;
use super::plans::{folder, open, plan, reported, run};
use crate::config::Format;
use crate::policy::builder::Builder;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::image::path::Path;
use crate::policy::image::provenance::ImageSource;
use crate::policy::prefix::{AddressOf, Prefix};
use crate::policy::rule::{Action, Scope};

#[test]
fn effects_are_carried_over_from_the_base_and_the_delta() {
    let folder = folder(&[]);
    let at = folder.path();
    let effect = |action| Effect {
        action: EffectAction::Block(action),
        ..Effect::default()
    };
    let image = |file: &str, rules: &[(&str, &str, Effect)]| {
        let mut builder = Builder::new();
        let mut last = None;
        for (list, owner, effect) in rules {
            if last.is_none_or(|(known, _)| known != list) {
                let source = ImageSource::named(list);
                last = Some((list, builder.source(source).expect("room")));
            }
            let (_, number) = last.expect("set");
            builder
                .insert_effect(&name(owner), number, Scope::Exact, effect)
                .expect("room");
        }
        let image = builder.finish().expect("room");
        fs::write(at.join(file), image.bytes()).expect("written");
    };
    image(
        "base",
        &[
            ("one", "a.example", Effect::default()),
            ("one", "b.example", effect(Action::Refused)),
            ("two", "c.example", effect(Action::Refused)),
        ],
    );
    image("delta", &[("two", "d.example", effect(Action::Drop))]);
    let mut plan = plan(at, "image", &["two", "one"]);
    plan.base = Some(at.join("base"));
    plan.delta = Some(at.join("delta"));
    for list in &mut plan.lists {
        list.read = false;
    }
    run(&plan);
    let image = open(&plan.out);
    let mut cursor = image.cursor();
    let mut found = Vec::new();
    while cursor.advance() {
        for rule in cursor.rules() {
            let source = &image.provenance().sources[usize::from(image.source_of(rule))];
            let owner = Path::of(cursor.path()).to_name().to_string();
            let effect = image.clauses().effect(rule.clause).clone();
            found.push((source.name.clone(), owner, effect));
        }
    }
    found.sort();
    let is = |list: &str, owner: &str, effect| (list.to_owned(), owner.to_owned(), effect);
    assert_eq!(
        found,
        [
            is("one", "a.example", Effect::default()),
            is("one", "b.example", effect(Action::Refused)),
            is("two", "d.example", effect(Action::Drop)),
        ]
    );
}

#[test]
fn rules_on_networks_are_carried_over_from_the_image_that_has_the_list() {
    let folder = folder(&[("read", "a.example\n")]);
    let at = folder.path();
    let network = |text: &str| {
        let network = text.parse().expect("a network");
        Prefix::new(AddressOf::Answer, network).expect("valid")
    };
    let image = |file: &str, lists: &[(&str, &[&str])]| {
        let mut builder = Builder::new();
        for (list, networks) in lists {
            let source = builder.source(ImageSource::named(list)).expect("room");
            for text in *networks {
                let inserted = builder.insert_prefix(network(text), source, &Effect::default());
                inserted.expect("room");
            }
        }
        let image = builder.finish().expect("room");
        fs::write(at.join(file), image.bytes()).expect("written");
    };
    let base: &[(&str, &[&str])] = &[
        ("stays", &["192.0.2.0/25"]),
        ("moved", &["192.0.2.0/26", "192.0.2.0/27"]),
        ("emptied", &["192.0.2.0/28"]),
        ("read", &["192.0.2.0/29"]),
    ];
    image("base", base);
    let delta: &[(&str, &[&str])] = &[
        ("moved", &["192.0.2.0/27", "192.0.2.0/30"]),
        ("emptied", &[]),
        ("read", &["192.0.2.0/31"]),
    ];
    image("delta", delta);
    let mut plan = plan(at, "image", &["emptied", "read", "moved", "stays"]);
    plan.base = Some(at.join("base"));
    plan.delta = Some(at.join("delta"));
    for list in &mut plan.lists {
        list.read = list.name == "read";
    }
    run(&plan);
    let image = open(&plan.out);
    let rules = image.triggers().prefixes().iter().map(|(prefix, clause)| {
        let source = image.clauses().get(*clause).source;
        let source = &image.provenance().sources[usize::from(source)];
        (*prefix, source.name.as_str())
    });
    let expected = [
        (network("192.0.2.0/25"), "stays"),
        (network("192.0.2.0/27"), "moved"),
        (network("192.0.2.0/30"), "moved"),
    ];
    let mut rules: Vec<_> = rules.collect();
    rules.sort();
    assert_eq!(rules, expected);
}

#[test]
fn amendments_are_merged_into_the_base_that_they_amend() {
    let folder = folder(&[("ads", "new.example\n")]);
    let at = folder.path();
    let network = |text: &str| {
        let network = text.parse().expect("a network");
        Prefix::new(AddressOf::Answer, network).expect("valid")
    };
    let refused = Effect {
        action: EffectAction::Block(Action::Refused),
        ..Effect::default()
    };
    let write = |file: &str, builder: Builder| {
        let image = builder.finish().expect("room");
        fs::write(at.join(file), image.bytes()).expect("written");
    };
    let zone = |rules, amends| ImageSource {
        rules,
        amends,
        amendable: true,
        ..ImageSource::named("zone")
    };
    let mut base = Builder::new();
    let number = base.source(zone(6, false)).expect("room");
    for (owner, scope) in [
        ("wide.example", Scope::Subtree),
        ("x.wide.example", Scope::Exact),
        ("gone.example", Scope::Exact),
        ("gone.example", Scope::Below),
        ("below.gone.example", Scope::Exact),
        ("changed.example", Scope::Exact),
    ] {
        base.insert(&name(owner), number, scope).expect("room");
    }
    let effect = Effect::default();
    let inserted = base.insert_prefix(network("192.0.2.0/25"), number, &effect);
    inserted.expect("room");
    let other = base.source(ImageSource::named("ads")).expect("room");
    for owner in ["gone.example", "old.example"] {
        let inserted = base.insert(&name(owner), other, Scope::Exact);
        inserted.expect("room");
    }
    write("base", base);
    let mut delta = Builder::new();
    let number = delta.source(zone(4, true)).expect("room");
    for owner in ["wide.example", "gone.example", "changed.example"] {
        let amended = delta.amend(Path::from(&name(owner)).as_bytes(), number);
        amended.expect("room");
    }
    let changed = name("changed.example");
    let inserted = delta.insert_effect(&changed, number, Scope::Exact, &refused);
    inserted.expect("room");
    let inserted = delta.insert_prefix(network("192.0.2.0/26"), number, &effect);
    inserted.expect("room");
    write("delta", delta);
    let rules = |file: &str| {
        let image = open(&at.join(file));
        let mut cursor = image.cursor();
        let mut found = Vec::new();
        while cursor.advance() {
            for rule in cursor.rules() {
                let source = &image.provenance().sources[usize::from(image.source_of(rule))];
                let owner = Path::of(cursor.path()).to_name();
                let effect = match image.clauses().effect(rule.clause).is_default() {
                    true => "",
                    false => " with an effect",
                };
                found.push(format!("{} {:?} {owner}{effect}", source.name, rule.scope));
            }
        }
        found.sort();
        found
    };
    let mut next = plan(at, "next", &["ads", "zone"]);
    next.base = Some(at.join("base"));
    next.lists[1].read = false;
    // A base that is made without the delta has the old rules, which the delta still amends.
    run(&next);
    let old = [
        "ads Exact new.example",
        "zone Exact below.gone.example",
        "zone Exact changed.example",
        "zone Exact x.wide.example",
        "zone Subtree gone.example",
        "zone Subtree wide.example",
    ];
    assert_eq!(rules("next"), old);
    next.delta = Some(at.join("delta"));
    let outcome = run(&next);
    let new = [
        "ads Exact new.example",
        "zone Exact below.gone.example",
        "zone Exact changed.example with an effect",
        "zone Exact x.wide.example",
    ];
    assert_eq!(rules("next"), new);
    assert_eq!((outcome.lists[1].rules, outcome.rules), (4, 5));
    let image = open(&next.out);
    assert_eq!(image.provenance().sources[1], zone(4, false));
    let networks = image.triggers().prefixes().iter();
    let networks: Vec<_> = networks.map(|(prefix, _)| *prefix).collect();
    assert_eq!(networks, [network("192.0.2.0/26")]);
    // Whether the list is carried over from one image or from two, its covered rules stay.
    next.base = Some(at.join("next"));
    next.delta = None;
    next.out = at.join("third");
    run(&next);
    assert_eq!(rules("third"), new);
}

#[test]
fn a_list_that_grew_is_refused_if_the_patterns_of_a_list_behind_it_have_no_room_any_more() {
    let folder = folder(&[
        ("grown", "/^ads[0-9]/\n||x.example^\n"),
        ("plain", "||y.example^\n"),
    ]);
    let at = folder.path();
    // There is room for 128 sets of patterns.
    let mut names: Vec<_> = (0..127).map(|number| format!("list{number}")).collect();
    names.extend(["grown", "plain", "held"].map(str::to_owned));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut builder = Builder::new();
    for list in &names {
        let source = builder.source(ImageSource::named(list)).expect("room");
        match *list {
            "grown" | "plain" => builder.insert_effect(
                &name("old.example"),
                source,
                Scope::Exact,
                &Effect::default(),
            ),
            _ => builder.insert_pattern("^ads[0-9]", source, &Effect::default()),
        }
        .expect("room");
    }
    let image = builder.finish().expect("room");
    fs::write(at.join("base"), image.bytes()).expect("written");
    let mut plan = plan(at, "image", &names);
    plan.base = Some(at.join("base"));
    for list in &mut plan.lists {
        list.read = matches!(&*list.name, "grown" | "plain");
        list.format = Format::Adblock;
    }
    let outcome = run(&plan);
    let refused = outcome.lists.iter();
    let refused: Vec<_> = refused
        .filter(|list| list.refused.is_some())
        .map(|list| &*list.name)
        .collect();
    assert_eq!(refused, ["grown"]);
    let rules = reported(&plan.out);
    assert_eq!(rules, ["grown old.example", "plain y.example"]);
}
