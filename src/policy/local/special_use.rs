//! The special-use zones, whose names never go upstream (RFC 6761, 6303, 7686, 8375, 9462).

use crate::names::scope::Scope;
use crate::wire::name::Name;

/// How a special-use zone answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialUseZone {
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
const NAMED: &[(&str, SpecialUseZone)] = &[
    ("localhost", SpecialUseZone::Loopback),
    ("invalid", SpecialUseZone::Nonexistent),
    ("test", SpecialUseZone::Nonexistent),
    ("onion", SpecialUseZone::Nonexistent),
    ("resolver.arpa", SpecialUseZone::NoData),
    ("home.arpa", SpecialUseZone::Empty),
];

/// The IPv4 zones of private networks (RFC 6303, section 4.1), without their suffix. Those of 172.16.0.0/12 are added by
/// `private_reverse_zones`.
const PRIVATE_V4: &[&str] = &["10", "168.192"];

/// The IPv6 zones of private networks and links (RFC 6303, sections 4.4 and 4.5), without their suffix.
const PRIVATE_V6: &[&str] = &["d.f", "8.e.f", "9.e.f", "a.e.f", "b.e.f"];

/// The other IPv4 zones of RFC 6303 (section 4.2), without their suffix.
const REVERSE_V4: &[&str] = &[
    "0",
    "127",
    "254.169",
    "2.0.192",
    "100.51.198",
    "113.0.203",
    "255.255.255.255",
];

/// The other IPv6 zones of RFC 6303 (section 4.6), without their suffix. Those of `::` and `::1` (section 4.3) are added
/// by `all`.
const REVERSE_V6: &[&str] = &["8.b.d.0.1.0.0.2"];

/// The zones; the canary domain only if `canary` is set.
pub(super) fn zones(canary: bool) -> impl Iterator<Item = (Name, SpecialUseZone)> {
    let canary = canary.then(|| (CANARY.to_owned(), SpecialUseZone::Nonexistent));
    all().chain(canary).map(|(text, zone)| {
        let name = Name::from_text(&text);
        (name.expect("the zones above are names"), zone)
    })
}

/// Whether `name` is the name of a zone that is answered locally by default.
pub fn is_special_use(name: &Name) -> bool {
    let text = name.to_string();
    all().any(|(zone, _)| zone == text)
}

/// Whether `name` is below a zone that is answered locally by default.
pub(crate) fn is_below_special_use(name: &Name) -> bool {
    zones(false).any(|(zone, _)| Scope::Below.reaches(&zone, name))
}

/// The reverse zones of private networks and links.
pub(crate) fn private_reverse_zones() -> impl Iterator<Item = String> {
    let v4 = PRIVATE_V4
        .iter()
        .map(|&zone| zone.to_owned())
        .chain((16..32).map(|byte| format!("{byte}.172")));
    let v6 = PRIVATE_V6.iter().map(|zone| format!("{zone}.ip6.arpa"));
    v4.map(|zone| format!("{zone}.in-addr.arpa")).chain(v6)
}

fn all() -> impl Iterator<Item = (String, SpecialUseZone)> {
    let named = NAMED.iter().map(|&(text, kind)| (text.to_owned(), kind));
    let v4 = REVERSE_V4.iter().map(|zone| format!("{zone}.in-addr.arpa"));
    let loopback = ["0", "1"].map(|last| format!("{last}{}", ".0".repeat(31)));
    let v6 = REVERSE_V6
        .iter()
        .map(|&zone| zone.to_owned())
        .chain(loopback)
        .map(|zone| format!("{zone}.ip6.arpa"));
    let empty = private_reverse_zones().chain(v4).chain(v6);
    named.chain(empty.map(|zone| (zone, SpecialUseZone::Empty)))
}
