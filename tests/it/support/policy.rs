//! A policy with one list. Benchmarks include this file, too.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use tapis::policy::builder::Builder;
use tapis::policy::rule::{Action, Against, Blocking, Ede, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::wire::name::Name;

/// A snapshot with the list `ads`, which answers with a sinkhole. Only clients of `network` are permitted.
pub(crate) fn snapshot<'n>(
    network: &str,
    rules: impl IntoIterator<Item = (&'n Name, Scope)>,
) -> Snapshot {
    let source = Source {
        name: "ads".to_owned(),
        path: PathBuf::new(),
        kind: Kind::Block,
        against: Against::All,
        blocking: Blocking {
            action: Action::Sinkhole,
            own: None,
            as_written: false,
            sinkhole_v4: vec![Ipv4Addr::UNSPECIFIED],
            sinkhole_v6: Vec::new(),
            ttl_secs: 60,
            ede: Ede::Blocked,
            extra_text: "ads".to_owned(),
        },
    };
    let mut builder = Builder::new();
    builder.list("ads", rules).expect("there is room");
    let image = Arc::new(builder.finish().expect("there is room"));
    let mut snapshot = Snapshot::default();
    snapshot.clients = [network.parse().expect("a network")].iter().collect();
    snapshot.with_rules(vec![Arc::new(source)], image.into())
}
