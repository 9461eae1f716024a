//! The rules in force of one source, as a policy zone.

use std::sync::Arc;

use crate::policy::published::{PublishedZone, Selection};
use crate::policy::served_zones::ZoneVersion;
use crate::policy::snapshot::Snapshot;
use crate::wire::name::Name;
use crate::wire::transfer::{Serial, Soa};

/// The times of the SOA record of a source that has none. Nobody asks for them.
const TIME_SECS: u32 = 3600;

/// The zone with the rules of a source, and its name. The SOA record is that of the source's own zone. A source without one
/// gets its name as that of the zone, and the generation as the serial. `None` if there is no such source.
pub fn zone_of(snapshot: &Arc<Snapshot>, source: &str) -> Option<(Name, ZoneVersion)> {
    let sources = snapshot.sources();
    let found = sources.iter().find(|found| found.name == source)?;
    let own = found.zone.as_ref().and_then(|zone| zone.soa.as_ref());
    let own = own.and_then(|own| {
        let soa = Soa::parse(&own.data, 0, own.data.len())?;
        Some((Name::clone(&own.apex), soa))
    });
    let (apex, soa) = own.unwrap_or_else(|| {
        // Names of orders and exceptions may have characters that are unusual in names.
        let apex = Name::from_text(source).unwrap_or_else(|_| name("exported"));
        let soa = Soa {
            mname: name("localhost"),
            rname: name("nobody.invalid"),
            serial: Serial(snapshot.generation as u32),
            refresh: TIME_SECS,
            retry: TIME_SECS,
            expire: TIME_SECS,
            minimum: found.blocking.ttl_secs,
        };
        (apex, soa)
    });
    let selection = Selection::Named(vec![source.to_owned()]);
    let version = ZoneVersion {
        name_server: name("localhost"),
        ttl_secs: soa.minimum,
        soa,
        contents: Some(PublishedZone::new(snapshot, &selection, &apex)),
        records: 0,
        bytes: u64::MAX,
        history: Vec::new(),
    };
    Some((apex, version))
}

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}
