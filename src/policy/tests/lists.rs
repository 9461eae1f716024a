//! Random rules of four lists, on all names of up to four labels, and images of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::policy::builder::Builder;
use crate::policy::effect::{Effect, EffectAction, Tier};
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::prefix::{AddressOf, Prefix};
use crate::policy::rule::{Action, Kind, Scope};
use crate::wire::name::Name;

/// The lists. Those that are amendable are policy zones. They are first in the base, and are then only amended.
pub(super) const LISTS: [(&str, Kind, bool); 4] = [
    ("ok", Kind::Allow, false),
    ("zone", Kind::Block, true),
    ("more", Kind::Block, true),
    ("ads", Kind::Block, false),
];
pub(super) const SCOPES: [Scope; 3] = [Scope::Exact, Scope::Below, Scope::Subtree];
pub(super) const EFFECTS: usize = 5;
/// The effects of rules of policy zones, which are all of one tier.
pub(super) const ZONE_EFFECTS: usize = 4;
pub(super) const TRIGGERS: usize = 4;

pub(super) fn effect(number: usize) -> Effect {
    let of = |action, tier, as_written| Effect {
        action,
        tier,
        as_written,
        ..Effect::default()
    };
    match number {
        0 => Effect::default(),
        1 => of(EffectAction::Block(Action::Refused), Tier::Usual, false),
        2 => of(EffectAction::Allow, Tier::Usual, false),
        3 => of(EffectAction::Block(Action::Nxdomain), Tier::Usual, true),
        _ => of(EffectAction::Allow, Tier::First, false),
    }
}

/// All names of up to four labels, of which there are two.
pub(super) fn universe() -> Vec<Name> {
    let mut texts = vec![String::new()];
    for at in 0.. {
        if texts[at].len() >= 8 {
            break;
        }
        for label in ["a", "b"] {
            texts.push(format!("{label}.{}", texts[at]));
        }
    }
    let name = |text: &String| Name::from_text(text).expect("a name");
    let names = texts[1..].iter().map(name);
    std::iter::once(Name::ROOT).chain(names).collect()
}

/// The rules of a list: the effect by name and scope, and by trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListState {
    pub(super) names: BTreeMap<(usize, usize), usize>,
    pub(super) triggers: BTreeMap<usize, usize>,
}

impl ListState {
    pub(super) fn add_names(&self, builder: &mut Builder, source: u16, is: impl Fn(usize) -> bool) {
        let names = universe();
        for (&(name, scope), &number) in self.names.iter().filter(|((name, _), _)| is(*name)) {
            let scope = SCOPES[scope];
            let added = builder.insert_effect(&names[name], source, scope, &effect(number));
            added.expect("room");
        }
    }

    pub(super) fn add_triggers(&self, builder: &mut Builder, source: u16) {
        for (&trigger, &number) in &self.triggers {
            let effect = effect(number);
            let network = |of, text: &str| Prefix::new(of, text.parse().expect("a network"));
            let network = match trigger {
                0 => network(AddressOf::Client, "192.0.2.0/24"),
                1 => network(AddressOf::Answer, "198.51.100.0/24"),
                2 => network(AddressOf::Answer, "198.51.100.0/25"),
                _ => {
                    builder
                        .insert_pattern("b[.]a", source, &effect)
                        .expect("room");
                    continue;
                }
            };
            let network = network.expect("valid");
            builder
                .insert_prefix(network, source, &effect)
                .expect("room");
        }
    }

    pub(super) fn source(&self, list: usize) -> ImageSource {
        ImageSource {
            rules: (self.names.len() + self.triggers.len()) as u64,
            amendable: LISTS[list].2,
            ..ImageSource::named(LISTS[list].0)
        }
    }
}

/// The rules of all lists.
pub(super) type State = [ListState; LISTS.len()];

/// An image of all rules.
pub(super) fn whole(state: &State) -> Arc<Image> {
    let mut builder = Builder::new();
    for (list, rules) in state.iter().enumerate() {
        let source = rules.source(list);
        let source = builder.source(source).expect("room");
        rules.add_names(&mut builder, source, |_| true);
        rules.add_triggers(&mut builder, source);
    }
    Arc::new(builder.finish().expect("room"))
}

pub(super) fn is_below(name: &Name, above: &Name) -> bool {
    let labels = above.label_count();
    name.label_count() > labels && name.ancestor(labels) == above.wire()
}

pub(super) fn owner() -> impl Strategy<Value = usize> {
    // Of few names, so that changes hit rules that are there. Seldom one of fewer than two labels, with which the delta
    // is searched for all names.
    prop_oneof![1 => 0..3_usize, 12 => 3..31_usize]
}

pub(super) fn rules(effects: usize, size: usize) -> impl Strategy<Value = ListState> {
    let names = prop::collection::btree_map((owner(), 0..3_usize), 0..effects, 0..size);
    let triggers = prop::collection::btree_map(0..TRIGGERS, 0..effects, 0..2);
    (names, triggers).prop_map(|(names, triggers)| ListState { names, triggers })
}
