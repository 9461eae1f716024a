//! Block lists, and a policy with one of them. Benchmarks include this file, too.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use tapis::policy::builder::Builder;
use tapis::policy::effect::Effect;
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::rule::{Action, Against, Blocking, Ede, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::wire::name::Name;

/// A block list that answers with a sinkhole.
pub(crate) fn list(name: &str) -> Source {
    Source {
        name: name.to_owned(),
        path: PathBuf::new(),
        kind: Kind::Block,
        blocking: Blocking {
            action: Action::Sinkhole,
            effect_answer: None,
            as_written: false,
            sinkhole_v4: vec![Ipv4Addr::UNSPECIFIED],
            sinkhole_v6: Vec::new(),
            ttl_secs: 60,
            ede: Ede::Blocked,
            extra_text: name.to_owned(),
        },
        against: Against::All,
        allows_across: false,
        zone: None,
    }
}

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
    snapshot.with_rules(vec![Arc::new(list("ads"))], image.into())
}
