//! Snapshots of the lists, with three views, exceptions and an order.

use std::sync::Arc;

use super::lists::{LISTS, universe};
use super::sources::{source, zone};
use crate::policy::builder::Builder;
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;
use crate::policy::rule::{Action, Against, Kind, Scope, Source};
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
        let added = builder.source(ImageSource::named(name)).expect("room");
        for (_, owner) in rules.iter().filter(|rule| rule.0 == number) {
            let inserted = builder.insert(&names[*owner], added, Scope::Subtree);
            inserted.expect("room");
        }
        let named = against.iter().map(|list| (*list).to_owned());
        let against = match against {
            [] => Against::All,
            _ => Against::Named(named.collect()),
        };
        sources.push(Arc::new(Source {
            against,
            ..source(name, kind, Action::Nxdomain)
        }));
    }
    (Arc::new(builder.finish().expect("room")), sources)
}

/// A snapshot with three views.
pub(super) fn snapshot(images: Images, others: &[Arc<Source>]) -> Snapshot {
    let lists = LISTS.iter().map(|(name, kind, is_zone)| {
        let action = match *name {
            "ads" => Action::Refused,
            _ => Action::Nxdomain,
        };
        let list = source(name, *kind, action);
        let zone = if *is_zone { zone(name).zone } else { None };
        Arc::new(Source { zone, ..list })
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
