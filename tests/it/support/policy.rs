//! A policy with one list. Benchmarks include this file, too.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use tapis::policy::builder::Builder;
use tapis::policy::effect::Effect;
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::rule::{Action, Against, Blocking, Ede, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::wire::name::Name;

/// A snapshot with the list `ads`, which answers with a sinkhole. Only clients of `network` are permitted.
pub(crate) fn snapshot<'n>(
    network: &str,
    rules: impl IntoIterator<Item = (&'n Name, Scope)>,
) -> Snapshot {
    let rules = rules.into_iter();
    let with_effect = |(name, scope)| (name, scope, Effect::default());
    snapshot_with_effects(network, rules.map(with_effect))
}

/// The same with an effect for each rule.
pub(crate) fn snapshot_with_effects<'n>(
    network: &str,
    rules: impl IntoIterator<Item = (&'n Name, Scope, Effect)>,
) -> Snapshot {
    let source = Source {
        zone: None,
        name: "ads".to_owned(),
        path: PathBuf::new(),
        kind: Kind::Block,
        against: Against::All,
        blocking: Blocking {
            action: Action::Sinkhole,
            effect_answer: None,
            as_written: false,
            sinkhole_v4: vec![Ipv4Addr::UNSPECIFIED],
            sinkhole_v6: Vec::new(),
            ttl_secs: 60,
            ede: Ede::Blocked,
            extra_text: "ads".to_owned(),
        },
    };
    let mut builder = Builder::new();
    let ads = builder.source(ImageSource::named("ads"));
    let ads = ads.expect("there is room");
    for (name, scope, effect) in rules {
        builder
            .insert_effect(name, ads, scope, &effect)
            .expect("there is room");
    }
    let image = Arc::new(builder.finish().expect("there is room"));
    let mut snapshot = Snapshot::default();
    snapshot.clients = [network.parse().expect("a network")].iter().collect();
    snapshot.with_rules(vec![Arc::new(source)], image.into())
}
