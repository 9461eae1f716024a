//! Owns the making of a snapshot from a configuration and its lists' rules.
//! Refuses to read files: the rules come read.

use crate::config::{Canary, Config};
use crate::policy::local::LocalZones;
use crate::policy::snapshot::{Layer, Snapshot};

/// What a configuration says in vain: zones to forward that would go upstream anyway.
pub fn problems(config: &Config) -> Vec<String> {
    let zones = config.local.forward.iter();
    let vain = zones.filter(|zone| !LocalZones::is_zone(zone));
    vain.map(|zone| {
        format!(
            "[local] forward: `{zone}` is no zone that is answered here, so it changes nothing; \
             name a whole zone, such as 10.in-addr.arpa or home.arpa"
        )
    })
    .collect()
}

/// The policy that `config` and `layers` (in the configuration's order) make, as `generation`.
pub fn snapshot(config: &Config, layers: Vec<Layer>, generation: u64) -> Snapshot {
    let canary = config.local.use_application_dns == Canary::Nxdomain;
    let mut snapshot = Snapshot::default().with_layers(layers);
    snapshot.generation = generation;
    snapshot.clients = config.server.allow.iter().collect();
    snapshot.local = LocalZones::new(&config.local.forward, canary);
    snapshot.version.clone_from(&config.server.version);
    snapshot.id.clone_from(&config.server.id);
    snapshot
}
