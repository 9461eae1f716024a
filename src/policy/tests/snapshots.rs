//! Snapshots of the lists, with three views, exceptions and an order.

use std::sync::Arc;

use super::lists::{LISTS, universe};
use crate::policy::builder::Builder;
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::policy::rpz::settings::{ZonePolicy, ZoneSettings};
use crate::policy::rule::{Action, Against, Blocking, Kind, Scope, Source};
use crate::policy::snapshot::Snapshot;
use crate::policy::view::{Mode, View, ViewList};

/// Exceptions and an order, each with subtree rules on some names.
pub(super) fn orders(rules: &[(usize, usize)]) -> (Arc<Image>, Vec<Arc<Source>>) {
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
pub(super) fn snapshot(images: Images, others: &[Arc<Source>]) -> Snapshot {
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

/// The lists of each view of [`snapshot`], best first, and whether they are logged only.
pub(super) const VIEWS: [&[(usize, bool)]; 3] = [
    &[(0, false), (1, false), (2, false), (3, false)],
    &[(1, true), (3, false), (2, false)],
    &[(0, false), (2, true), (1, false)],
];
