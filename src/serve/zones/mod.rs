//! Published zones: answers the queries of secondaries, before policy and cache. Queries for whole zones and for changes
//! over a stream become a `transfer`; all other queries are answered by one message here.
//!
//! Only a secondary that the zone's `allow-transfer` and `tsig` permit gets its SOA record. There are no answers for other
//! names and types of a zone: it is data for servers, and not part of the DNS.

mod query;
mod signatures;
mod transfer;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use self::query::{Asked, sign};
pub use self::signatures::SignatureLimits;
pub use self::transfer::Transfers;
pub(super) use self::transfer::{Outgoing, RunningTransfer, Started};
use super::client::Client;
use super::step::Ending;
use crate::policy::served_zones::{ServedZone, ServedZones, ZoneVersion};
use crate::stats::Count;
use crate::wire::name::Name;
use crate::wire::transfer::request::TransferQuery;
use crate::wire::transfer::sign::Signer;
use crate::wire::transfer::write::{MessageWriter, refuse, truncate};
use crate::wire::{Rcode, rtype};

/// Whether the address of a sender that may not query is in the `allow-transfer` of a zone.
pub(super) fn knows(zones: &ServedZones, sender: IpAddr) -> bool {
    let zones = zones.load();
    zones.iter().any(|zone| zone.access.knows(sender))
}

/// Whether secondaries with any address may transfer a zone if they sign their queries.
pub(super) fn permits_strangers(zones: &ServedZones) -> bool {
    let zones = zones.load();
    zones.iter().any(|zone| zone.access.permits_strangers())
}

/// Answers a query for a name in a published zone by one message. Returns `None`, and leaves `out` as it is, for all other
/// messages.
pub(super) fn answer(
    zones: &[Arc<ServedZone>],
    client: &Client,
    packet: &[u8],
    limits: (&SignatureLimits, Instant),
    out: &mut Vec<u8>,
) -> Option<Ending> {
    if zones.is_empty() {
        return None;
    }
    let mut name = Name::default();
    let asked = Asked::read(zones, packet, &mut name)?;
    let (limits, now) = limits;
    let count = match asked.permit(client, packet, limits, now) {
        Ok(signer) => {
            let (rcode, count) = asked.write(&name, client, out);
            if count == Count::ZoneRefused {
                asked.zone.transfers.refuse();
            }
            if let Some(rcode) = rcode {
                refuse(&asked.query, rcode, out);
            }
            let signature = signer.as_ref().map_or(0, Signer::signature_len);
            if !client.transport.is_stream() && out.len() + signature > asked.query.udp_limit {
                refuse(&asked.query, Rcode::NoError, out);
                truncate(out);
            }
            match sign(signer, std::mem::take(out)) {
                Some(signed) => *out = signed,
                None => return Some(Ending::Drop(count.into())),
            }
            count
        }
        Err(denial) => match asked.deny(denial, client, packet, out) {
            Some(count) => count,
            None => return Some(Ending::Drop(Count::ZoneLimited.into())),
        },
    };
    Some(Ending::Reply(count.into()))
}

impl Asked<'_, '_> {
    /// Writes the answer to a permitted query; or returns the response code of one without records.
    fn write(&self, name: &Name, client: &Client, out: &mut Vec<u8>) -> (Option<Rcode>, Count) {
        let Self { zone, query } = self;
        let is_stream = client.transport.is_stream();
        match query.rtype {
            _ if *name != zone.name => (Some(Rcode::Refused), Count::ZoneRefused),
            // RFC 5936, section 4.2.
            rtype::AXFR if !is_stream => (Some(Rcode::FormErr), Count::ZoneRefused),
            rtype::SOA | rtype::IXFR | rtype::AXFR => {
                let version = zone.version.load();
                let is_single = query.rtype == rtype::SOA || !is_stream;
                match version.as_deref().filter(|_| is_single) {
                    // To a query for changes by UDP, this says that the secondary is up to date, or to ask again over TCP (RFC
                    // 1995, section 2).
                    Some(version) => {
                        *out = soa(query, version);
                        (None, Count::ZoneAnswers)
                    }
                    None => (Some(Rcode::ServFail), Count::ZoneNotLoaded),
                }
            }
            _ => (Some(Rcode::Refused), Count::ZoneRefused),
        }
    }
}

/// The answer with the zone's SOA record alone.
fn soa(query: &TransferQuery<'_>, version: &ZoneVersion) -> Vec<u8> {
    let mut writer = MessageWriter::new(query);
    let data = version.soa_data(version.soa.serial);
    // A SOA record has less than a KB.
    let _ = writer.push(b"", rtype::SOA, version.ttl_secs, &data);
    writer.take()
}

#[cfg(test)]
mod tests {
    use super::query::seconds;
    use arc_swap::ArcSwapOption;

    use super::transfer::tests::{name, version};
    use super::*;
    use crate::policy::served_zones::ZoneAccess;
    use crate::serve::client::Transport;
    use crate::wire::transfer::query::Query;
    use crate::wire::transfer::tsig::{Algorithm, Key, Session};

    /// A zone that secondaries with this key may transfer.
    fn zone(name: &Name, key: &Key) -> [Arc<ServedZone>; 1] {
        let mut version = version(None, Vec::new());
        version.soa.mname = name.clone();
        [Arc::new(ServedZone {
            name: name.clone(),
            access: ZoneAccess {
                networks: None,
                is_signed: true,
                key: ArcSwapOption::from_pointee(key.clone()),
            },
            version: ArcSwapOption::from_pointee(version),
            transfers: Arc::default(),
        })]
    }

    fn client(transport: Transport) -> Client {
        Client::new(([192, 0, 2, 1], 4711).into(), transport)
    }

    #[test]
    fn an_answer_by_udp_that_is_too_long_for_the_secondary_is_cut_and_signed() {
        let label = "x".repeat(50);
        let apex = name(&[label.as_str(); 4].join("."));
        let key = Key::new(&name("key.test"), Algorithm::Sha512, &[7; 32]).expect("a key");
        let zones = zone(&apex, &key);
        let query = Query::Soa.write(9, &apex);
        let (mut session, signed) = Session::sign(&key, &query, seconds()).expect("signed");
        let ask = |transport| {
            let (limits, mut out) = (SignatureLimits::default(), Vec::new());
            let limits = (&limits, Instant::now());
            let ending = answer(&zones, &client(transport), &signed, limits, &mut out);
            assert!(matches!(ending, Some(Ending::Reply(_))));
            out
        };
        let whole = ask(Transport::Tcp);
        assert_eq!((whole[2] & 2, whole[7]), (0, 1));
        assert!(whole.len() > 512, "{}", whole.len());
        let mut cut = ask(Transport::Udp);
        assert_eq!((cut[2] & 2, cut[7]), (2, 0));
        assert!(cut.len() <= 512, "{}", cut.len());
        session.check(&mut cut, seconds()).expect("authentic");
    }

    #[test]
    fn a_flood_of_wrong_signatures_is_dropped_unchecked() {
        let [key, other] = [7, 8].map(|byte| {
            Key::new(&name("key.test"), Algorithm::Sha256, &[byte; 32]).expect("a key")
        });
        let apex = name("rpz.test");
        let zones = zone(&apex, &key);
        let query = Query::Soa.write(9, &apex);
        let (_, signed) = Session::sign(&other, &query, seconds()).expect("signed");
        let (limits, mut out) = (SignatureLimits::default(), Vec::new());
        let now = Instant::now();
        let mut answered = |transport, count| {
            let client = client(transport);
            let answers = (0..count).filter(|_| {
                let limits = (&limits, now);
                let ending = answer(&zones, &client, &signed, limits, &mut out);
                matches!(ending, Some(Ending::Reply(_)))
            });
            answers.count()
        };
        assert_eq!(answered(Transport::Udp, 3000), 1000);
        assert_eq!(answered(Transport::Tcp, 10), 10, "of a separate limit");
    }
}
