//! Published zones: answers the queries of secondaries, before policy and cache. Queries for whole zones and for changes
//! over a stream become a `transfer`; all other queries are answered by one message here.
//!
//! Only a secondary that the zone's `allow-transfer` and `tsig` permit gets its SOA record. There are no answers for other
//! names and types of a zone: it is data for servers, and not part of the DNS.

mod query;
mod transfer;

use std::net::IpAddr;
use std::sync::Arc;

use self::query::{Asked, Denial, seconds};
pub use self::transfer::Transfers;
pub(super) use self::transfer::{Outgoing, RunningTransfer};
use super::client::Client;
use super::step::Ending;
use crate::policy::served_zones::{ServedZone, ServedZones, ZoneVersion};
use crate::stats::Count;
use crate::wire::name::Name;
use crate::wire::transfer::request::TransferQuery;
use crate::wire::transfer::sign::Signer;
use crate::wire::transfer::write::{MessageWriter, refuse};
use crate::wire::{Rcode, rtype};

/// Whether a sender that may not query may be a secondary.
pub(super) fn may_transfer(zones: &ServedZones, sender: IpAddr) -> bool {
    let zones = zones.load();
    zones.iter().any(|zone| zone.access.permits_address(sender))
}

/// Answers a query for a name in a published zone by one message. Returns `None`, and leaves `out` as it is, for all other
/// messages.
#[cold]
pub(super) fn answer(
    zones: &[Arc<ServedZone>],
    client: &Client,
    packet: &[u8],
    out: &mut Vec<u8>,
) -> Option<Ending> {
    if zones.is_empty() {
        return None;
    }
    let mut name = Name::default();
    let asked = Asked::read(zones, packet, &mut name)?;
    let count = match asked.permit(client, packet) {
        Ok(signer) => {
            let (rcode, count) = asked.write(&name, client, out);
            if let Some(rcode) = rcode {
                refuse(&asked.query, rcode, out);
            }
            match sign(signer, std::mem::take(out)) {
                Some(signed) => *out = signed,
                None => return Some(Ending::Drop(count.into())),
            }
            count
        }
        Err(Denial::Refused) => {
            refuse(&asked.query, Rcode::Refused, out);
            Count::ZoneRefused
        }
        Err(Denial::NotAuthentic(rejected)) => {
            refuse(&asked.query, Rcode::NotAuth, out);
            if let Some(reported) = rejected.report(packet, out, seconds()) {
                *out = reported;
            }
            Count::ZoneNotAuthentic
        }
    };
    if matches!(count, Count::ZoneRefused | Count::ZoneNotAuthentic) {
        asked.zone.transfers.refuse();
    }
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

/// Signs a message, if the query was signed. `None` if there is no room for the signature.
fn sign(signer: Option<Signer>, message: Vec<u8>) -> Option<Vec<u8>> {
    match signer {
        Some(mut signer) => signer.sign(message, seconds()),
        None => Some(message),
    }
}
