//! Tests of policy zones and amendments: lookups in a base and a delta that amends it are compared with lookups in one
//! image of the rules that are left, and these with a simple model.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::amendment::{Amendment, rebased};
use super::builder::Builder;
use super::decide::{Decision, Matched, PolicyView};
use super::effect::{Effect, EffectAction, Tier};
use super::image::Image;
use super::image::path::Path;
use super::image::provenance::ImageSource;
use super::images::Images;
use super::prefix::{AddressOf, Prefix};
use super::ranking::{Hit, LookupResult, hit};
use super::rpz::settings::{ZonePolicy, ZoneSettings};
use super::rule::{Action, Against, Blocking, Kind, Scope, Source};
use super::snapshot::Snapshot;
use super::view::{Mode, View, ViewId, ViewList};
use crate::wire::name::Name;

/// The lists. Those that are amendable are policy zones. They are first in the base, and are then only amended.
const LISTS: [(&str, Kind, bool); 4] = [
    ("ok", Kind::Allow, false),
    ("zone", Kind::Block, true),
    ("more", Kind::Block, true),
    ("ads", Kind::Block, false),
];
const SCOPES: [Scope; 3] = [Scope::Exact, Scope::Below, Scope::Subtree];
const EFFECTS: usize = 5;
/// The effects of rules of policy zones, which are all of one tier.
const ZONE_EFFECTS: usize = 4;
const TRIGGERS: usize = 4;

fn effect(number: usize) -> Effect {
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
fn universe() -> Vec<Name> {
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
struct ListState {
    names: BTreeMap<(usize, usize), usize>,
    triggers: BTreeMap<usize, usize>,
}

impl ListState {
    fn add_names(&self, builder: &mut Builder, source: u16, is: impl Fn(usize) -> bool) {
        let names = universe();
        for (&(name, scope), &number) in self.names.iter().filter(|((name, _), _)| is(*name)) {
            let scope = SCOPES[scope];
            let added = builder.insert_effect(&names[name], source, scope, &effect(number));
            added.expect("room");
        }
    }

    fn add_triggers(&self, builder: &mut Builder, source: u16) {
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

    fn source(&self, list: usize) -> ImageSource {
        ImageSource {
            rules: (self.names.len() + self.triggers.len()) as u64,
            amendable: LISTS[list].2,
            ..ImageSource::named(LISTS[list].0)
        }
    }
}

/// The rules of all lists.
type State = [ListState; LISTS.len()];

/// An image of all rules.
fn whole(state: &State) -> Arc<Image> {
    let mut builder = Builder::new();
    for (list, rules) in state.iter().enumerate() {
        let source = rules.source(list);
        let source = builder.source(source).expect("room");
        rules.add_names(&mut builder, source, |_| true);
        rules.add_triggers(&mut builder, source);
    }
    Arc::new(builder.finish().expect("room"))
}

/// What the delta has of a list.
#[derive(Clone, Debug)]
enum InDelta {
    All,
    /// The rules on these names.
    Names(BTreeSet<usize>),
}

/// A delta with the lists that it has, of whose names the amended ones are voided. `old` are the rules in the base.
fn delta(state: &State, old: &State, lists: &BTreeMap<usize, InDelta>) -> Image {
    let mut builder = Builder::new();
    let names = universe();
    for (&list, part) in lists {
        let mut source = state[list].source(list);
        source.amends = matches!(part, InDelta::Names(_));
        let source = builder.source(source).expect("room");
        if let InDelta::Names(changed) = part {
            for name in changed {
                let path = Path::from(&names[*name]);
                builder.amend(path.as_bytes(), source).expect("room");
            }
            for name in emptied(&old[list], changed) {
                let path = Path::from(&names[name]);
                builder.amend_below(path.as_bytes(), source).expect("room");
            }
        }
        state[list].add_names(&mut builder, source, |name| match part {
            InDelta::All => true,
            InDelta::Names(changed) => changed.contains(&name),
        });
        state[list].add_triggers(&mut builder, source);
    }
    builder.finish().expect("room")
}

/// The names below which a list has rules, of which all are on names that `changed`. Those below such a name are left out.
fn emptied(list: &ListState, changed: &BTreeSet<usize>) -> Vec<usize> {
    let names = universe();
    let mut emptied: Vec<usize> = Vec::new();
    for at in 0..names.len() {
        let owners = list.names.keys().map(|(owner, _)| *owner);
        let mut below = owners
            .filter(|owner| is_below(&names[*owner], &names[at]))
            .peekable();
        let has_some = below.peek().is_some();
        let is_above = |above: &usize| is_below(&names[at], &names[*above]);
        if has_some && below.all(|owner| changed.contains(&owner)) && !emptied.iter().any(is_above)
        {
            emptied.push(at);
        }
    }
    emptied
}

fn is_below(name: &Name, above: &Name) -> bool {
    let labels = above.label_count();
    name.label_count() > labels && name.ancestor(labels) == above.wire()
}

/// The same image, copied rule by rule.
fn copied(image: &Image) -> Image {
    let mut builder = Builder::new();
    for source in &image.provenance().sources {
        builder.source(source.clone()).expect("room");
    }
    builder.add_image(image, Some).expect("room");
    builder.finish().expect("room")
}

/// One image of the rules that a cursor over base and delta reads.
fn merged(images: &Images) -> Arc<Image> {
    let mut builder = Builder::new();
    let mut numbers = BTreeMap::new();
    for (list, (name, ..)) in LISTS.iter().enumerate() {
        let (image, source) = images.find(name).expect("in force");
        let source = ImageSource {
            amends: false,
            ..source.clone()
        };
        let number = builder.source(source).expect("room");
        assert_eq!(usize::from(number), list);
        numbers.insert(*name, number);
        let sources = &image.provenance().sources;
        let of_list = |source: u16| {
            let is_same = sources[usize::from(source)].name == *name;
            is_same.then_some(number)
        };
        builder.add_triggers(image, of_list).expect("room");
    }
    let mut cursor = images.rule_cursor(|_| true);
    while cursor.advance() {
        for rule in cursor.rules() {
            let number = numbers[rule.list];
            builder
                .insert_path(cursor.path(), number, rule.scope, rule.effect)
                .expect("room");
        }
    }
    assert_eq!(cursor.damage(), None);
    Arc::new(builder.finish().expect("room"))
}

/// Exceptions and an order, each with subtree rules on some names.
fn orders(rules: &[(usize, usize)]) -> (Arc<Image>, Vec<Arc<Source>>) {
    let mut builder = Builder::new();
    let names = universe();
    let all = [
        ("exception:some", Kind::Exception, &["zone", "ads"][..]),
        ("exception:all", Kind::Exception, &[]),
        ("order:one", Kind::Order, &[]),
    ];
    let mut sources = Vec::new();
    for (number, (name, kind, against)) in all.into_iter().enumerate() {
        let source = builder.source(ImageSource::named(name)).expect("room");
        for (_, owner) in rules.iter().filter(|rule| rule.0 == number) {
            let added = builder.insert(&names[*owner], source, Scope::Subtree);
            added.expect("room");
        }
        let named = against.iter().map(|list| (*list).to_owned());
        let against = match against {
            [] => Against::All,
            _ => Against::Named(named.collect()),
        };
        sources.push(source_of(name, kind, Action::Nxdomain, against));
    }
    (Arc::new(builder.finish().expect("room")), sources)
}

fn source_of(name: &str, kind: Kind, action: Action, against: Against) -> Arc<Source> {
    let is_zone = LISTS.contains(&(name, kind, true));
    let zone = ZoneSettings {
        policy: ZonePolicy::Given,
        max_ttl_secs: 60,
        break_dnssec: true,
    };
    Arc::new(Source {
        zone: is_zone.then(|| Box::new(zone.into())),
        name: name.to_owned(),
        path: name.into(),
        kind,
        blocking: Blocking {
            action,
            ..Blocking::none()
        },
        against,
    })
}

/// A snapshot with three views.
fn snapshot(images: Images, others: &[Arc<Source>]) -> Snapshot {
    let lists = LISTS.iter().map(|(name, kind, _)| {
        let action = match *name {
            "ads" => Action::Refused,
            _ => Action::Nxdomain,
        };
        source_of(name, *kind, action, Against::All)
    });
    let view = |lists: &[(&str, Mode, Option<Action>)]| View {
        lists: lists
            .iter()
            .map(|(name, mode, action)| ViewList {
                name: (*name).to_owned(),
                mode: *mode,
                action: *action,
            })
            .collect(),
    };
    let views = [
        view(&[
            ("zone", Mode::LogOnly, None),
            ("ads", Mode::Enforce, None),
            ("more", Mode::Enforce, Some(Action::Nxdomain)),
        ]),
        view(&[
            ("more", Mode::LogOnly, None),
            ("zone", Mode::Enforce, Some(Action::Nodata)),
            ("ok", Mode::Enforce, None),
        ]),
    ];
    let sources = others.iter().cloned().chain(lists).collect();
    Snapshot::default().with_views(sources, images, &views)
}

/// A matching rule without the numbers that depend on the images.
fn shown(matched: Matched<'_>) -> String {
    let (source, effect) = (&matched.source.name, matched.effect());
    format!("{source} {effect:?} {:?}", matched.hit.trigger)
}

/// A decision: the kind, the deciding rule, whether it is NXDOMAIN, and whether all names below are blocked.
fn decided(decision: Decision<'_>) -> (&'static str, Option<Matched<'_>>, bool, bool) {
    match decision {
        Decision::Pass => ("pass", None, false, false),
        Decision::Excepted(by) => ("excepted", Some(by), false, false),
        Decision::Allowed(by) => ("allowed", Some(by), false, false),
        Decision::Blocked {
            by,
            nxdomain,
            closed,
        } => ("blocked", Some(by), nxdomain, closed),
    }
}

fn explained(view: PolicyView<'_>, asked: &Name, chain: &[Name]) -> Vec<String> {
    let addresses: [IpAddr; 2] = [[198, 51, 100, 1].into(), [198, 51, 100, 200].into()];
    let view = view.for_client([192, 0, 2, 1].into());
    let places = view.explain(asked, chain, &addresses).into_iter();
    let shown = places.map(|place| {
        let rules = place.rules.iter();
        let rules = rules.map(|(matched, role)| format!("{} {role:?}", shown(*matched)));
        format!("{} {:?}", place.name, rules.collect::<Vec<_>>())
    });
    shown.collect()
}

/// Compares lookups and decisions about all names.
fn compare(amended: &Images, whole: &Images, others: &[Arc<Source>]) {
    let names = universe();
    let snapshots = [amended, whole].map(|images| snapshot(images.clone(), others));
    for view in (0..3).map(ViewId) {
        let views = snapshots.each_ref().map(|snapshot| snapshot.view(view));
        let all: Vec<_> = names.iter().collect();
        let mut found = vec![LookupResult::default(); all.len()];
        snapshots[0].lookup_in(&all, &vec![view; all.len()], &mut found);
        let decided_at = names.iter().map(|name| decided(views[0].decide(name)));
        let decided_at: Vec<_> = decided_at.collect();
        for (at, name) in names.iter().enumerate() {
            let results = views.map(|view| view.lookup(name));
            // Only a lookup needs the encloser.
            let result = |found| LookupResult {
                encloser: 0,
                ..found
            };
            assert_eq!(
                result(found[at]),
                result(results[0]),
                "{name} in a batch, {view:?}"
            );
            let rule = |of: usize, hit: Option<Hit>| hit.map(|hit| shown(views[of].matched(hit)));
            let rules = |of: usize| {
                let LookupResult {
                    best,
                    cover,
                    excepted,
                    logged,
                    other: _,
                    encloser: _,
                } = results[of];
                [best, cover, excepted, logged].map(|weight| rule(of, hit(weight)))
            };
            assert_eq!(rules(0), rules(1), "{name}, {view:?}");
            let (one, one_by, nxdomain, closed) = decided_at[at];
            let two = decided(views[1].decide(name));
            assert_eq!(one, two.0, "{name}, {view:?}");
            // In two images, the names below are known more or less precisely.
            if amended.delta.is_none() {
                assert_eq!((nxdomain, closed), (two.2, two.3), "{name}, {view:?}");
            }
            let is_as_written = one_by.is_some_and(|by| by.blocking.as_written);
            let below = (0..names.len()).filter(|below| is_below(&names[*below], name));
            for below in below {
                let (kind, by, ..) = &decided_at[below];
                let action = by.map(|by| by.blocking.action);
                let is_nxdomain = *kind == "blocked" && action == Some(Action::Nxdomain);
                let below = &names[below];
                assert!(
                    !nxdomain || is_as_written || is_nxdomain,
                    "{below} below {name}"
                );
                assert!(!closed || *kind == "blocked", "{below} below {name}");
            }
            let chain = [names[(at * 7 + 5) % names.len()].clone()];
            for chain in [&[][..], &chain] {
                let explained = [0, 1].map(|of| explained(views[of], name, chain));
                assert_eq!(explained[0], explained[1], "{name}, {view:?}");
            }
        }
    }
}

/// The lists of each view of [`snapshot`], best first, and whether they are logged only.
const VIEWS: [&[(usize, bool)]; 3] = [
    &[(0, false), (1, false), (2, false), (3, false)],
    &[(1, true), (3, false), (2, false)],
    &[(0, false), (2, true), (1, false)],
];

/// The list, the effect and the number of labels of a rule on a name, if it is in a policy zone. In other lists, another rule with
/// the same effect may stand for it.
type Ruled = (usize, Effect, Option<usize>);

/// The rules on names that match a name, by their precedence in a view, and whether they are logged only.
fn model(state: &State, view: &[(usize, bool)], name: &Name) -> Vec<(Ruled, bool)> {
    let (names, depth) = (universe(), name.label_count());
    let mut matching = Vec::new();
    for (place, (list, logs)) in view.iter().enumerate() {
        let rules = &state[*list].names;
        let owners = rules.keys().map(|(owner, _)| &names[*owner]);
        let is_on = |owner: &Name, labels| {
            owner.label_count() >= labels && owner.ancestor(labels) == name.ancestor(labels)
        };
        // The closest encloser, if the list is a policy zone.
        let encloser = (0..=depth)
            .rev()
            .filter(|_| LISTS[*list].2)
            .find(|labels| owners.clone().any(|owner| is_on(owner, *labels)));
        for (&(owner, scope), &number) in rules {
            let labels = names[owner].label_count();
            let matches = match SCOPES[scope] {
                Scope::Exact => labels == depth,
                Scope::Below => labels < depth,
                Scope::Subtree => labels <= depth,
            };
            let is_above = labels <= depth && is_on(&names[owner], labels);
            if matches && is_above && encloser.is_none_or(|encloser| labels >= encloser) {
                let effect = effect(number);
                let key = (place, Reverse(effect.tier), Reverse(labels), scope);
                let labels = LISTS[*list].2.then_some(labels);
                matching.push((key, ((*list, effect, labels), *logs)));
            }
        }
    }
    matching.sort();
    matching.into_iter().map(|(_, rule)| rule).collect()
}

/// Compares lookups and explanations with the model.
fn compare_with_model(state: &State) {
    let mut state = state.clone();
    for list in &mut state {
        list.triggers.clear();
    }
    let snapshot = snapshot(whole(&state).into(), &[]);
    let names = universe();
    for (number, lists) in (0..).zip(VIEWS) {
        let view = snapshot.view(ViewId(number));
        for name in &names {
            let ruled = |matched: Matched<'_>| {
                let list = LISTS.iter().position(|list| list.0 == matched.source.name);
                let list = list.expect("a list");
                let labels = matched.hit.labels().filter(|_| LISTS[list].2);
                (list, matched.effect().cloned().unwrap_or_default(), labels)
            };
            let model = model(&state, lists, name);
            let best = |is_logged: bool| {
                let mut rules = model.iter().enumerate();
                rules.find(|(_, (_, logs))| *logs == is_logged)
            };
            let (best, logged) = (best(false), best(true));
            let precedes = |place: usize| best.is_none_or(|(best, _)| place < best);
            let logged = logged.filter(|(place, _)| precedes(*place));
            let expected = [best, logged].map(|rule| rule.map(|(_, (ruled, _))| ruled.clone()));
            let found = view.lookup(name);
            let found = [found.best(), found.logged()];
            let found = found.map(|hit| hit.map(|hit| ruled(view.matched(hit))));
            assert_eq!(found, expected, "{name} in view {number}");
            let is_zone = |rule: &Ruled| LISTS[rule.0].2;
            let model = model.iter().map(|(ruled, _)| ruled.clone());
            let model: BTreeSet<_> = model.filter(is_zone).collect();
            let places = view.explain(name, &[], &[]);
            let explained = places[0].rules.iter().map(|(matched, _)| ruled(*matched));
            let explained: BTreeSet<_> = explained.filter(is_zone).collect();
            assert_eq!(explained, model, "{name} in view {number}");
        }
    }
}

/// Compares the rules of all lists one by one.
fn compare_rules(amended: &Images, whole: &Images) {
    let all = |images: &Images| {
        let mut rules = BTreeSet::new();
        let mut cursor = images.rule_cursor(|_| true);
        while cursor.advance() {
            for rule in cursor.rules() {
                let rule = (cursor.path().to_vec(), format!("{rule:?}"));
                assert!(rules.insert(rule), "each rule comes once");
            }
        }
        rules
    };
    let rules = all(amended);
    assert_eq!(rules, all(whole));
    for (list, ..) in LISTS {
        for name in universe() {
            let on = [amended, whole].map(|images| {
                let rules = images.rules_on(&name, list).into_iter();
                rules
                    .map(|rule| format!("{rule:?}"))
                    .collect::<BTreeSet<_>>()
            });
            assert_eq!(on[0], on[1], "{list} {name}");
            let path = Path::from(&name);
            let mut on = on[0].iter();
            assert!(on.all(|rule| rules.contains(&(path.as_bytes().to_vec(), rule.clone()))));
        }
    }
    assert_eq!(amended.list_rules(), whole.list_rules());
}

/// Compares the rules of a list that is amended with those that it is to have. `names` are those on which rules changed.
fn compare_amendment(
    before: &Images,
    state: &State,
    list: usize,
    names: impl Iterator<Item = usize>,
) {
    let all = universe();
    let rules = &state[list];
    let of_name = |name: usize| {
        let rules = rules.names.iter().filter(move |((of, _), _)| *of == name);
        rules.map(|((_, scope), number)| (SCOPES[*scope], effect(*number)))
    };
    let path = |name: usize| Path::from(&all[name]).as_bytes().to_vec();
    let mut amendment = Amendment {
        names: names
            .map(|name| (path(name), of_name(name).collect()))
            .collect(),
        networks: None,
    };
    let network = |text: &str| {
        let network = text.parse().expect("a network");
        Prefix::new(AddressOf::Answer, network).expect("valid")
    };
    let (name, refused) = (LISTS[list].0, effect(1));
    let shown = |images: &Images| {
        let mut cursor = images.rule_cursor(|list| list == name);
        let mut rules = BTreeSet::new();
        while cursor.advance() {
            let each = cursor.rules().iter();
            rules.extend(each.map(|rule| (cursor.path().to_vec(), format!("{rule:?}"))));
        }
        rules
    };
    let networks = |images: &Images| {
        let (image, _) = images.find(name).expect("in force");
        let of_list = |clause: u32| {
            let clause = image.clauses().get(clause);
            image.provenance().sources[usize::from(clause.source)].name == name
        };
        let rules = image.triggers().prefixes().iter();
        let rules = rules.filter(|(_, clause)| of_list(*clause));
        let rules =
            rules.map(|(prefix, clause)| (*prefix, image.clauses().effect(*clause).clone()));
        rules.collect::<Vec<_>>()
    };
    let expected = shown(&whole(state).into());
    for new in [None, Some(vec![(network("203.0.113.0/24"), refused)])] {
        amendment.networks.clone_from(&new);
        let source = rules.source(list);
        let image = amendment.image(before, source).expect("room");
        assert!(image.provenance().amends(), "the base has the list");
        let after = Images {
            delta: Some(Arc::new(image)),
            ..before.clone()
        };
        assert_eq!(shown(&after), expected);
        assert_eq!(networks(&after), new.unwrap_or_else(|| networks(before)));
        // Without a base, the image has all rules.
        let delta = Images {
            base: None,
            delta: before.base.clone(),
            ..Images::default()
        };
        if before.delta.is_none() {
            let image = amendment.image(&delta, rules.source(list)).expect("room");
            assert_eq!(shown(&Arc::new(image).into()), expected);
        }
    }
}

/// A change of some lists.
#[derive(Clone, Debug)]
struct Step {
    /// Rules that amendable lists add (with their effects) and remove: list, name, scope.
    names: Vec<((usize, usize, usize), Option<usize>)>,
    /// Rules with other triggers: list, trigger.
    triggers: Vec<((usize, usize), Option<usize>)>,
    /// The new rules of a list that is not amendable.
    replaced: Option<(usize, ListState)>,
    /// Whether all is merged into a new base afterwards, and if not, whether a base with the old rules of amended lists and
    /// the new ones of the others is compiled.
    is_merged: bool,
    is_compiled: bool,
}

fn owner() -> impl Strategy<Value = usize> {
    // Of few names, so that changes hit rules that are there. Seldom one of fewer than two labels, with which the delta
    // is searched for all names.
    prop_oneof![1 => 0..3_usize, 12 => 3..31_usize]
}

fn rules(effects: usize, size: usize) -> impl Strategy<Value = ListState> {
    let names = prop::collection::btree_map((owner(), 0..3_usize), 0..effects, 0..size);
    let triggers = prop::collection::btree_map(0..TRIGGERS, 0..effects, 0..2);
    (names, triggers).prop_map(|(names, triggers)| ListState { names, triggers })
}

fn step() -> impl Strategy<Value = Step> {
    let is_set = prop::bool::weighted(0.2);
    (
        prop::collection::vec(
            (
                (1..3_usize, owner(), 0..3_usize),
                prop::option::of(0..ZONE_EFFECTS),
            ),
            0..12,
        ),
        prop::collection::vec(
            ((1..3_usize, 0..TRIGGERS), prop::option::of(0..ZONE_EFFECTS)),
            0..2,
        ),
        prop::option::of((prop::sample::select(vec![0, 3_usize]), rules(EFFECTS, 8))),
        is_set,
        is_set,
    )
        .prop_map(|(names, triggers, replaced, is_merged, is_compiled)| Step {
            names,
            triggers,
            replaced,
            is_merged,
            is_compiled,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn wildcards_of_policy_zones_match_only_below_their_closest_encloser(
        state in [
            rules(EFFECTS, 4),
            rules(ZONE_EFFECTS, 8),
            rules(ZONE_EFFECTS, 8),
            rules(EFFECTS, 8),
        ],
    ) {
        compare_with_model(&state);
    }
}

proptest! {
    // Each case makes many snapshots.
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_base_and_its_amendments_decide_as_one_image_of_the_rules_that_are_left(
        start in [
            rules(EFFECTS, 6),
            rules(ZONE_EFFECTS, 30),
            rules(ZONE_EFFECTS, 12),
            rules(EFFECTS, 12),
        ],
        steps in prop::collection::vec(step(), 1..5),
        others in prop::collection::vec((0..3_usize, owner()), 0..3),
    ) {
        let (orders, others) = orders(&others);
        let with = |base, delta| Images {
            base: Some(base),
            delta,
            orders: Some(Arc::clone(&orders)),
            ..Images::default()
        };
        let mut state: State = start;
        let (mut old, mut base) = (state.clone(), whole(&state));
        let mut lists: BTreeMap<usize, InDelta> = BTreeMap::new();
        // The images before each step. At first, there is no delta.
        let mut before = with(Arc::clone(&base), None);
        for step in steps {
            let changed = step.names.iter().map(|((list, name, _), _)| (*list, Some(*name)));
            let changed = changed.chain(step.triggers.iter().map(|((list, _), _)| (*list, None)));
            let changed: Vec<_> = changed.collect();
            for &(list, name) in &changed {
                let part = lists.entry(list).or_insert(InDelta::Names(BTreeSet::new()));
                if let InDelta::Names(names) = part {
                    names.extend(name);
                }
            }
            for ((list, name, scope), effect) in step.names {
                match effect {
                    Some(effect) => state[list].names.insert((name, scope), effect),
                    None => state[list].names.remove(&(name, scope)),
                };
            }
            for ((list, trigger), effect) in step.triggers {
                match effect {
                    Some(effect) => state[list].triggers.insert(trigger, effect),
                    None => state[list].triggers.remove(&trigger),
                };
            }
            for list in [1, 2] {
                let names = changed.iter().filter(|change| change.0 == list);
                compare_amendment(&before, &state, list, names.filter_map(|change| change.1));
            }
            if let Some((list, rules)) = step.replaced {
                lists.insert(list, InDelta::All);
                state[list] = rules;
            }
            if step.is_compiled {
                for (list, (.., amendable)) in LISTS.iter().enumerate() {
                    if !amendable {
                        old[list] = state[list].clone();
                        lists.remove(&list);
                    }
                }
                base = whole(&old);
            }
            let delta = Arc::new(copied(&delta(&state, &old, &lists)));
            let amended = with(Arc::clone(&base), Some(delta));
            let whole = with(whole(&state), None);
            compare(&amended, &whole, &others);
            compare_rules(&amended, &whole);
            before = amended;
            if step.is_merged {
                base = merged(&before);
                before = with(Arc::clone(&base), None);
                compare(&before, &whole, &others);
                (old, lists) = (state.clone(), BTreeMap::new());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn amendments_one_after_the_other_decide_as_one_image_of_the_rules_that_are_left(
        start in rules(ZONE_EFFECTS, 30),
        other in rules(EFFECTS, 20),
        steps in prop::collection::vec(
            (
                prop::collection::vec(
                    ((owner(), 0..3_usize), prop::option::of(0..ZONE_EFFECTS)),
                    1..12,
                ),
                prop::bool::weighted(0.4),
            ),
            1..6,
        ),
    ) {
        let all = universe();
        let mut state: State = [ListState::default(), start, ListState::default(), other];
        // An amendment does not change patterns.
        state[1].triggers.remove(&3);
        let mut images = Images::from(whole(&state));
        // A base that is compiled while further changes come.
        let mut compiled = None;
        for (step, merge) in steps {
            let changed: BTreeSet<_> = step.iter().map(|((name, _), _)| *name).collect();
            for (rule, effect) in step {
                match effect {
                    Some(effect) => state[1].names.insert(rule, effect),
                    None => state[1].names.remove(&rule),
                };
            }
            let rules_of = |name: usize| {
                let rules = state[1].names.iter().filter(move |((of, _), _)| *of == name);
                rules.map(|((_, scope), number)| (SCOPES[*scope], effect(*number)))
            };
            let path = |name: usize| Path::from(&all[name]).as_bytes().to_vec();
            let names = changed.iter().map(|name| (path(*name), rules_of(*name).collect()));
            let amendment = Amendment { names: names.collect(), networks: None };
            let delta = amendment.image(&images, state[1].source(1)).expect("room");
            images.delta = Some(Arc::new(delta));
            let whole = Images::from(whole(&state));
            compare(&images, &whole, &[]);
            compare_rules(&images, &whole);
            if let Some(base) = compiled.take_if(|_| merge) {
                // The old amendments decide alike over the new base, and so do those that it does not have.
                images.base = Some(base);
                compare(&images, &whole, &[]);
                let delta = images.delta.take().expect("set");
                let base = images.base.as_ref().expect("set");
                let rebased = rebased(&delta, "zone", base).expect("room");
                prop_assert!(in_delta(&rebased).len() <= in_delta(&delta).len());
                images.delta = Some(Arc::new(rebased));
                compare(&images, &whole, &[]);
                compare_rules(&images, &whole);
            } else {
                compiled = compiled.or_else(|| merge.then(|| merged(&images)));
            }
        }
    }
}

/// Images of a base with rules of `zone` and `ads`, and a delta that amends `zone`: its rules on the names of `changed` are
/// those of `left`.
fn amended(base: &[(&str, Scope)], changed: &[&str], left: &[(&str, Scope)]) -> Images {
    let name = |text: &str| Name::from_text(text).expect("a name");
    let add = |builder: &mut Builder, rules: &[(&str, Scope)], source| {
        for (text, scope) in rules {
            builder.insert(&name(text), source, *scope).expect("room");
        }
    };
    let source = |amends| ImageSource {
        amends,
        amendable: true,
        ..ImageSource::named("zone")
    };
    let mut old = Builder::new();
    let zone = old.source(source(false)).expect("room");
    add(&mut old, base, zone);
    let ads = old.source(ImageSource::named("ads")).expect("room");
    add(&mut old, &[("ads.test", Scope::Exact)], ads);
    let mut delta = Builder::new();
    let zone = delta.source(source(true)).expect("room");
    for text in changed {
        let path = Path::from(&name(text));
        delta.amend(path.as_bytes(), zone).expect("room");
    }
    add(&mut delta, left, zone);
    Images {
        base: Some(Arc::new(old.finish().expect("room"))),
        delta: Some(Arc::new(delta.finish().expect("room"))),
        ..Images::default()
    }
}

#[test]
fn a_name_whose_rules_an_amendment_removes_is_decided_by_the_other_rules() {
    let base = [
        ("x.test", Scope::Subtree),
        ("a.x.test", Scope::Exact),
        ("y.test", Scope::Subtree),
    ];
    let images = amended(
        &base,
        &["a.x.test", "y.test"],
        &[("b.y.test", Scope::Exact)],
    );
    let snapshot = snapshot(images, &[]);
    let decide = |text: &str| {
        let name = Name::from_text(text).expect("a name");
        let (kind, _, nxdomain, _) = decided(snapshot.decide(&name));
        (kind, nxdomain)
    };
    // NODATA in place of a true NXDOMAIN is permitted: other names of the zone were below.
    assert_eq!(decide("x.test"), ("blocked", false));
    assert_eq!(decide("a.x.test").0, "blocked", "by the rule above");
    assert_eq!(decide("y.test"), ("pass", false));
    assert_eq!(decide("b.y.test"), ("blocked", false));
}

#[test]
fn an_amended_list_is_in_both_images_and_its_newest_state_in_the_delta() {
    let images = amended(&[("x.test", Scope::Exact)], &["x.test"], &[]);
    assert!(images.is_in_base("zone") && images.is_in_delta("zone"));
    assert!(images.is_amended("zone") && !images.is_amended("ads"));
    let [base, delta] = [&images.base, &images.delta].map(|image| image.as_ref().expect("there"));
    assert!(images.is_in(delta, "zone") && !images.is_in(base, "zone"));
    assert!(images.is_in(base, "ads"));
    let found = images.find("zone").expect("in force");
    assert!(Arc::ptr_eq(found.0, delta) && found.1.amends);
    // If the delta replaces the list, the base does not count.
    let mut replaced = Builder::new();
    replaced.source(ImageSource::named("zone")).expect("room");
    let images = Images {
        delta: Some(Arc::new(replaced.finish().expect("room"))),
        ..images
    };
    assert!(!images.is_in_base("zone") && !images.is_amended("zone"));
    let name = Name::from_text("x.test").expect("a name");
    assert_eq!(images.rules_on(&name, "zone"), []);
    let gone = images.clone().with_lists(|list| list != "ads");
    let ads = Name::from_text("ads.test").expect("a name");
    assert_eq!(images.rules_on(&ads, "ads").len(), 1);
    assert_eq!(gone.rules_on(&ads, "ads"), []);
    assert!(!gone.rule_cursor(|_| true).advance());
}

/// An amendment that leaves no rules on these names.
fn removal(names: &[&str]) -> Amendment {
    let path = |text: &&str| {
        let name = Name::from_text(text).expect("a name");
        (Path::from(&name).as_bytes().to_vec(), Vec::new())
    };
    Amendment {
        names: names.iter().map(path).collect(),
        networks: None,
    }
}

/// The names of a delta with their rules and marks, sorted.
fn in_delta(delta: &Image) -> Vec<String> {
    let mut cursor = delta.cursor();
    let mut found = Vec::new();
    while cursor.advance() {
        for rule in cursor.rules() {
            let mark = match delta.clauses().is_void(rule.clause) {
                true => "-",
                false => "",
            };
            let name = Path::of(cursor.path()).to_name();
            found.push(format!("{mark}{:?} {name}", rule.scope));
        }
    }
    found.sort();
    found
}

#[test]
fn a_removed_name_that_was_alone_below_its_top_level_domain_leaves_a_mark_on_itself_only() {
    let base = [("only.zip", Scope::Subtree), ("x.test", Scope::Subtree)];
    let images = Images {
        delta: None,
        ..amended(&base, &[], &[])
    };
    let source = ImageSource {
        amendable: true,
        ..ImageSource::named("zone")
    };
    let delta = removal(&["only.zip"]).image(&images, source);
    assert_eq!(in_delta(&delta.expect("room")), ["-Exact only.zip"]);
}

#[test]
fn names_between_a_wildcard_and_removed_names_are_marked_whichever_of_them_changes_first() {
    let base = [("c.b.test", Scope::Exact), ("d.b.test", Scope::Exact)];
    let wildcard = ("test", Scope::Below);
    let marked = ["-Below b.test", "-Exact c.b.test", "-Exact d.b.test"];
    let source = || ImageSource {
        amendable: true,
        ..ImageSource::named("zone")
    };
    let images = Images {
        delta: None,
        ..amended(&[base[0], base[1], wildcard], &[], &[])
    };
    let delta = removal(&["c.b.test"]).image(&images, source());
    let images = Images {
        delta: Some(Arc::new(delta.expect("room"))),
        ..images
    };
    let delta = removal(&["d.b.test"]).image(&images, source());
    assert_eq!(in_delta(&delta.expect("room")), marked);
    let images = Images {
        delta: None,
        ..amended(&base, &[], &[])
    };
    let delta = removal(&["c.b.test", "d.b.test"]).image(&images, source());
    let delta = Arc::new(delta.expect("room"));
    assert_eq!(in_delta(&delta), marked[1..]);
    let images = Images {
        delta: Some(delta),
        ..images
    };
    let mut later = removal(&[]);
    let test = Path::from(&Name::from_text("test").expect("a name"));
    let rule = (wildcard.1, Effect::default());
    later.names.insert(test.as_bytes().to_vec(), vec![rule]);
    let delta = later.image(&images, source()).expect("room");
    let all = [&marked[..], &["-Exact test", "Below test"]].concat();
    assert_eq!(in_delta(&delta), all);
}
