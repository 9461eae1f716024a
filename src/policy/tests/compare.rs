//! Compares images of which one is amended with images of the rules that are left.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::lists::{LISTS, is_below, universe};
use super::snapshots::snapshot;
use crate::policy::decide::{Decision, Matched, PolicyView};
use crate::policy::image::path::Path;
use crate::policy::images::Images;
use crate::policy::ranking::{Hit, LookupResult, hit};
use crate::policy::rule::{Action, Source};
use crate::policy::view::{LookupKey, ViewId};
use crate::wire::name::Name;

/// A matching rule without the numbers that depend on the images.
fn shown(matched: Matched<'_>) -> String {
    let (source, effect) = (&matched.source.name, matched.effect());
    format!("{source} {effect:?} {:?}", matched.hit.trigger)
}

/// A decision: the kind, the deciding rule, whether it is NXDOMAIN, and whether all names below are blocked.
pub(super) fn decided(decision: Decision<'_>) -> (&'static str, Option<Matched<'_>>, bool, bool) {
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
pub(super) fn compare(amended: &Images, whole: &Images, others: &[Arc<Source>]) {
    let names = universe();
    let snapshots = [amended, whole].map(|images| snapshot(images.clone(), others));
    for view in (0..3).map(ViewId) {
        let views = snapshots.each_ref().map(|snapshot| snapshot.view(view));
        let all: Vec<_> = names.iter().collect();
        let mut found = vec![LookupResult::default(); all.len()];
        snapshots[0].lookup_in(&all, &vec![LookupKey::new(view, 1); all.len()], &mut found);
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
                    is_conditional: _,
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

/// Compares the rules of all lists one by one.
pub(super) fn compare_rules(amended: &Images, whole: &Images) {
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
