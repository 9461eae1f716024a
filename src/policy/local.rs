//! Names that are answered locally and never go upstream (RFC 6761, 6303, 7686, 8375, 9462).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::builder::Builder;
use super::image::provenance::ImageSource;
use super::ranking::LookupResult;
use super::rule::Scope;
use super::rules::Rules;
use crate::wire::name::Name;

/// How a local zone answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalZone {
    /// SOA and NS at the zone's name, NXDOMAIN below (RFC 6303, section 3).
    Empty,
    /// NXDOMAIN at and below the zone's name.
    Nonexistent,
    /// The loopback addresses at and below the zone's name (RFC 6761, section 6.3).
    Loopback,
    /// NODATA at and below the zone's name.
    NoData,
}

/// The canary domain. NXDOMAIN for it keeps Firefox from using DNS over HTTPS by default.
pub const CANARY: &str = "use-application-dns.net";

/// The zones of RFC 6761 (sections 6.2 to 6.4), RFC 7686, RFC 9462 (section 6.4) and RFC 8375.
const NAMED: &[(&str, LocalZone)] = &[
    ("localhost", LocalZone::Loopback),
    ("invalid", LocalZone::Nonexistent),
    ("test", LocalZone::Nonexistent),
    ("onion", LocalZone::Nonexistent),
    ("resolver.arpa", LocalZone::NoData),
    ("home.arpa", LocalZone::Empty),
];

/// The IPv4 zones of RFC 6303, sections 4.1 and 4.2, without their suffix. Those of 172.16.0.0/12 are added by `all`.
const REVERSE_V4: &[&str] = &[
    "0",
    "10",
    "127",
    "168.192",
    "254.169",
    "2.0.192",
    "100.51.198",
    "113.0.203",
    "255.255.255.255",
];

/// The IPv6 zones of RFC 6303, sections 4.3 to 4.6, without their suffix. Those of `::` and `::1` are added
/// by `all`.
const REVERSE_V6: &[&str] = &["d.f", "8.e.f", "9.e.f", "a.e.f", "b.e.f", "8.b.d.0.1.0.0.2"];

/// The one source of all zones' rules.
const SOURCE: &str = "local zones";

/// The zones that are answered locally.
#[derive(Debug)]
pub struct LocalZones {
    rules: Rules,
    kinds: HashMap<Box<[u8]>, LocalZone>,
    /// The few top-level labels of zones. Most names have none of them and need no lookup.
    tlds: Vec<Box<[u8]>>,
}

impl LocalZones {
    /// All zones except those in `forwarded`; the canary domain only if `canary` is set.
    pub fn new(forwarded: &[Name], canary: bool) -> Self {
        let mut builder = Builder::new();
        // A few dozen short names of one source always fit.
        let room = "there is room for a few dozen names";
        let source = builder.source(ImageSource::named(SOURCE)).expect(room);
        let (mut kinds, mut tlds) = (HashMap::new(), BTreeSet::new());
        let canary = canary.then(|| (CANARY.to_owned(), LocalZone::Nonexistent));
        for (text, kind) in all().chain(canary) {
            let name = Name::from_text(&text).expect("the zones above are names");
            if forwarded.contains(&name) {
                continue;
            }
            builder.insert(&name, source, Scope::Subtree).expect(room);
            kinds.insert(name.wire().into(), kind);
            tlds.insert(name.label_from_root(0).into());
        }
        let image = Arc::new(builder.finish().expect(room));
        Self {
            rules: Rules::by_rank(image.into(), |name| (name == SOURCE).then_some(0), |_| true),
            kinds,
            tlds: tlds.into_iter().collect(),
        }
    }

    /// The zone that answers `name`, and the number of labels of the zone's name. Never allocates.
    pub fn lookup(&self, name: &Name) -> Option<(LocalZone, usize)> {
        let top = (name.label_count() > 0).then(|| name.label_from_root(0))?;
        if !self.tlds.iter().any(|one| **one == *top) {
            return None;
        }
        let mut found = [LookupResult::default()];
        self.rules.lookup(&[name], &mut found);
        let labels = found[0].best()?.labels()?;
        Some((*self.kinds.get(name.ancestor(labels))?, labels))
    }

    /// Whether `name` is the name of a zone that is answered locally by default.
    pub fn is_zone(name: &Name) -> bool {
        let text = name.to_string();
        all().any(|(zone, _)| zone == text)
    }
}

fn all() -> impl Iterator<Item = (String, LocalZone)> {
    let named = NAMED.iter().map(|&(text, kind)| (text.to_owned(), kind));
    let v4 = REVERSE_V4
        .iter()
        .map(|&zone| zone.to_owned())
        .chain((16..32).map(|byte| format!("{byte}.172")))
        .map(|zone| format!("{zone}.in-addr.arpa"));
    let loopback = ["0", "1"].map(|last| format!("{last}{}", ".0".repeat(31)));
    let v6 = REVERSE_V6
        .iter()
        .map(|&zone| zone.to_owned())
        .chain(loopback)
        .map(|zone| format!("{zone}.ip6.arpa"));
    named.chain(v4.chain(v6).map(|zone| (zone, LocalZone::Empty)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    #[test]
    fn special_names_are_answered_locally_and_all_others_are_not() {
        let zones = LocalZones::new(&[], true);
        let kind = |text: &str| zones.lookup(&name(text)).map(|(kind, _)| kind);
        assert_eq!(kind("a.localhost"), Some(LocalZone::Loopback));
        assert_eq!(kind("1.2.168.192.in-addr.arpa"), Some(LocalZone::Empty));
        assert_eq!(kind("31.172.in-addr.arpa"), Some(LocalZone::Empty));
        assert_eq!(kind("32.172.in-addr.arpa"), None);
        let one = format!("1{}.ip6.arpa", ".0".repeat(31));
        assert_eq!(kind(&one), Some(LocalZone::Empty));
        assert_eq!(kind("_dns.resolver.arpa"), Some(LocalZone::NoData));
        assert_eq!(
            kind("use-application-dns.net"),
            Some(LocalZone::Nonexistent)
        );
        assert_eq!(
            kind("example.com"),
            None,
            "RFC 6761, 6.5: examples are ordinary names"
        );
    }

    #[test]
    fn a_forwarded_zone_is_not_answered_locally() {
        let zones = LocalZones::new(&[name("10.in-addr.arpa"), name("home.arpa")], false);
        assert_eq!(zones.lookup(&name("1.10.in-addr.arpa")), None);
        assert_eq!(zones.lookup(&name("printer.home.arpa")), None);
        assert_eq!(zones.lookup(&name(CANARY)), None);
        assert!(zones.lookup(&name("x.onion")).is_some());
    }
}
