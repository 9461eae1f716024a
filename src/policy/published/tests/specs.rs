//! Random sources in two versions of a policy.

use std::sync::Arc;

use super::*;

/// All names of up to `depth` of these labels, the root first.
pub(super) fn names(labels: &[&str], depth: usize) -> Vec<Name> {
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..depth {
        let pairs = last
            .iter()
            .flat_map(|name| labels.iter().map(move |label| (label, name)));
        last = pairs
            .map(|(label, name)| format!("{label}.{name}"))
            .collect();
        all.extend(last.iter().cloned());
    }
    all[0] = ".".to_owned();
    all.iter().map(|text| name(text)).collect()
}

/// A rule: the number of its name among those of `owners`, its scope, its effect.
pub(super) type Rule = (usize, u8, u8);

pub(super) fn owners() -> Vec<Name> {
    names(&["a", "b"], 3)
}

/// All queried names but the root. The label `z` is in no rule.
pub(super) fn asked() -> Vec<Name> {
    names(&["a", "b", "z"], 4).split_off(1)
}

pub(super) fn scope(number: u8, is_zone: bool) -> Scope {
    match number {
        0 => Scope::Exact,
        1 => Scope::Below,
        _ if is_zone => Scope::Below,
        _ => Scope::Subtree,
    }
}

pub(super) fn effect(number: u8, is_zone: bool) -> Effect {
    let to = |target: &str, prepend| EffectAction::Cname {
        target: Arc::new(name(target)),
        prepend,
    };
    let action = match number {
        0 | 1 if !is_zone => return Effect::default(),
        0 | 2 => EffectAction::Block(Action::Nxdomain),
        1 | 3 => EffectAction::Allow,
        4 => to("b.a", false),
        5 => to("garden.test", true),
        6 => EffectAction::Records(vec![LocalRecord {
            rtype: rtype::TXT,
            ttl_secs: Some(7),
            data: b"\x01x"[..].into(),
        }]),
        7 => EffectAction::TcpOnly,
        8 => EffectAction::Block(Action::Drop),
        _ => EffectAction::Block(Action::Nodata),
    };
    Effect {
        as_written: is_zone && action == EffectAction::Block(Action::Nxdomain),
        tier: if number == 2 && !is_zone {
            Tier::First
        } else {
            Tier::Usual
        },
        action,
        ..Effect::default()
    }
}

/// A source in two versions of a policy.
#[derive(Clone)]
pub(super) struct Spec {
    kind: u8,
    actions: [Action; 2],
    against: u8,
    pub(super) base: Option<Vec<Rule>>,
    /// Rules in the delta or in the image of orders.
    overlays: [Option<Vec<Rule>>; 2],
    in_force: [bool; 2],
}

pub(super) const SOURCES: usize = 6;

/// On one line, so that the sources of a failure can be compared.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owners = owners();
        let rules = |rules: &Option<Vec<Rule>>| {
            let rules = rules.as_ref()?.iter();
            let shown =
                rules.map(|(owner, scope, effect)| format!("{scope}:{}:{effect}", owners[*owner]));
            Some(shown.collect::<Vec<_>>().join(" "))
        };
        let overlays = self.overlays.each_ref().map(rules);
        write!(
            f,
            "{} {:?} against {:b} base {:?} overlays {overlays:?} in force {:?}",
            self.kind,
            self.actions,
            self.against,
            rules(&self.base),
            self.in_force,
        )
    }
}

pub(super) fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let rules = || prop::collection::vec((0..owners().len(), 0..3_u8, 0..10_u8), 0..5);
    let overlays = (
        prop::option::of(rules()),
        prop::option::of(rules()),
        any::<bool>(),
    );
    let overlays = overlays.prop_map(|(one, other, is_same)| match is_same {
        true => [one.clone(), one],
        false => [one, other],
    });
    let action = prop::sample::select(vec![
        Action::Nxdomain,
        Action::Nodata,
        Action::Sinkhole,
        Action::Refused,
    ]);
    let actions = (action.clone(), action, 0..3_u8);
    let actions = actions.prop_map(|(one, other, differ)| match differ {
        0 => [one, other],
        _ => [one; 2],
    });
    let in_force = prop::sample::select(vec![[true; 2], [true; 2], [true, false], [false, true]]);
    let spec = (
        0..9_u8,
        actions,
        0..1_u8 << SOURCES,
        prop::option::of(rules()),
        overlays,
        in_force,
    );
    let spec = spec.prop_map(|(kind, actions, against, base, overlays, in_force)| Spec {
        kind,
        actions,
        against,
        base,
        overlays,
        in_force,
    });
    prop::collection::vec(spec, SOURCES)
}

impl Spec {
    fn is_zone(&self) -> bool {
        (5..=7).contains(&self.kind)
    }

    fn is_list(&self) -> bool {
        self.kind >= 3
    }

    fn source(&self, number: usize, version: usize) -> Source {
        let against = (0..SOURCES).filter(|other| self.against >> other & 1 != 0);
        let zone = self.is_zone().then(|| {
            Box::new(
                ZoneSettings {
                    policy: match self.kind {
                        7 => ZonePolicy::Disabled,
                        _ => ZonePolicy::Given,
                    },
                    max_ttl_secs: u32::MAX,
                    break_dnssec: true,
                }
                .into(),
            )
        });
        Source {
            name: list_name(number),
            path: "list".into(),
            kind: match self.kind {
                0 | 1 => Kind::Exception,
                2 => Kind::Order,
                3 => Kind::Allow,
                _ => Kind::Block,
            },
            blocking: Blocking {
                action: self.actions[version],
                sinkhole_v4: vec![[192, 0, 2, 1].into()],
                ttl_secs: 60,
                ede: Ede::Blocked,
                ..Blocking::none()
            },
            against: match self.kind {
                1 => Against::Named(against.map(list_name).collect()),
                _ => Against::All,
            },
            allows_across: false,
            zone,
        }
    }

    fn rules(&self, rules: &[Rule]) -> Vec<(Name, Scope, Effect)> {
        let owners = owners();
        let is_plain = !self.is_list();
        let rules = rules.iter().map(|(owner, of, number)| {
            let number = if is_plain { 0 } else { *number };
            (
                owners[*owner].clone(),
                scope(*of, self.is_zone()),
                effect(number, self.is_zone()),
            )
        });
        rules.collect()
    }
}

pub(super) fn list_name(number: usize) -> String {
    format!("list{number}")
}

/// Adds the rules of a source to an image. Rules that lead to themselves are refused, and left out.
pub(super) fn add(builder: &mut Builder, source: ImageSource, rules: &[(Name, Scope, Effect)]) {
    let source = builder.source(source).expect("room");
    for (owner, scope, effect) in rules {
        let _ = builder.insert_effect(owner, source, *scope, effect);
    }
}

pub(super) fn base(specs: &[Spec]) -> Option<Arc<Image>> {
    let mut builder = Builder::new();
    for (number, spec) in specs.iter().enumerate() {
        if let Some(rules) = spec.base.as_ref().filter(|_| spec.is_list()) {
            let source = ImageSource {
                amendable: spec.is_zone(),
                ..ImageSource::named(&list_name(number))
            };
            add(&mut builder, source, &spec.rules(rules));
        }
    }
    Some(Arc::new(builder.finish().expect("room")))
}

pub(super) fn snapshot(specs: &[Spec], base: Option<Arc<Image>>, version: usize) -> Snapshot {
    let (mut delta, mut orders) = (Builder::new(), Builder::new());
    let only_base = Images {
        base: base.clone(),
        ..Images::default()
    };
    for (number, spec) in specs.iter().enumerate() {
        let Some(rules) = &spec.overlays[version] else {
            continue;
        };
        let rules = spec.rules(rules);
        let source = ImageSource {
            amendable: spec.is_zone(),
            ..ImageSource::named(&list_name(number))
        };
        if !spec.is_list() {
            add(&mut orders, source, &rules);
        } else if spec.is_zone() && spec.base.is_some() {
            let mut amendment = Amendment::default();
            for (owner, scope, effect) in rules {
                let path = Path::from(&owner).as_bytes().to_vec();
                let on_name = amendment.names.entry(path).or_default();
                // Every other name loses its rules.
                if effect.action != EffectAction::Allow
                    && effect.check_trigger(|| owner.clone(), scope).is_ok()
                {
                    on_name.push((scope, effect));
                }
            }
            let image = amendment.image(&only_base, source.clone()).expect("room");
            let amended = ImageSource {
                amends: true,
                ..source
            };
            let number = delta.source(amended).expect("room");
            delta.add_image(&image, |_| Some(number)).expect("room");
        } else {
            add(&mut delta, source, &rules);
        }
    }
    let image = |builder: Builder| Some(Arc::new(builder.finish().expect("room")));
    let images = Images {
        base,
        delta: image(delta),
        orders: image(orders),
        ..Images::default()
    };
    let sources = specs.iter().enumerate();
    let sources = sources.filter(|(_, spec)| spec.in_force[version]);
    let sources = sources.map(|(number, spec)| Arc::new(spec.source(number, version)));
    Snapshot::default().with_rules(sources.collect(), images)
}

/// A source that is a policy zone.
pub(super) fn zone_source(name: &str) -> Source {
    let spec = Spec {
        kind: 5,
        actions: [Action::Nodata; 2],
        against: 0,
        base: None,
        overlays: [None, None],
        in_force: [true; 2],
    };
    Source {
        name: name.to_owned(),
        ..spec.source(0, 0)
    }
}
