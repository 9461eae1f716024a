//! Tests of rules that are carried over: their effects, and the image that they come from.

use std::fs;

use super::name;
use super::plans::{folder, open, plan, run};
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
