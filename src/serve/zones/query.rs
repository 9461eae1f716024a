//! Queries for names in published zones, and whether they are permitted.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::signatures::SignatureLimits;
use crate::policy::served_zones::{ServedZone, innermost};
use crate::serve::client::Client;
use crate::stats::Count;
use crate::wire::Rcode;
use crate::wire::name::Name;
use crate::wire::transfer::request::TransferQuery;
use crate::wire::transfer::sign::Signer;
use crate::wire::transfer::tsig::{Rejected, Seconds, SignedRequest};
use crate::wire::transfer::write::refuse;

/// A query for a name in a published zone.
pub(super) struct Asked<'z, 'p> {
    pub(super) zone: &'z Arc<ServedZone>,
    pub(super) query: TransferQuery<'p>,
}

/// Why a query is not permitted.
pub(super) enum Denial {
    /// The address is not permitted, or the query must be signed.
    Refused,
    /// The signature is not valid.
    NotAuthentic(Rejected),
    /// There are too many signatures, so this one was not checked.
    Limited,
}

impl<'z, 'p> Asked<'z, 'p> {
    /// Reads a message; `None` if it is anything else. The queried name is written to `name`.
    pub(super) fn read(
        zones: &'z [Arc<ServedZone>],
        packet: &'p [u8],
        name: &mut Name,
    ) -> Option<Self> {
        let query = TransferQuery::parse(packet, name)?;
        let zone = innermost(zones, name)?;
        Some(Self { zone, query })
    }

    /// Checks whether the secondary may have the zone. The address comes first, because checking a signature is more work.
    /// Returns what signs the answer.
    pub(super) fn permit(
        &self,
        client: &Client,
        packet: &[u8],
        limits: &SignatureLimits,
        now: Instant,
    ) -> Result<Option<Signer>, Denial> {
        let access = &self.zone.access;
        let is_permitted = access.permits_address(client.address);
        if !is_permitted || access.is_signed && !self.query.is_signed {
            return Err(Denial::Refused);
        }
        if !self.query.is_signed {
            return Ok(None);
        }
        if !limits.permit(client.transport, now) {
            return Err(Denial::Limited);
        }
        let key = access.key.load();
        let request = SignedRequest::check(key.as_deref(), packet, seconds());
        let request = request.map_err(Denial::NotAuthentic)?;
        Ok(Some(Signer::from(request)))
    }

    /// Writes the answer to a query that is not permitted; `None` if it gets no answer.
    pub(super) fn deny(
        &self,
        denial: Denial,
        client: &Client,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Count> {
        match denial {
            Denial::Refused => {
                refuse(&self.query, Rcode::Refused, out);
                self.zone.transfers.refuse();
                Some(Count::ZoneRefused)
            }
            Denial::NotAuthentic(rejected) => {
                refuse(&self.query, Rcode::NotAuth, out);
                if let Some(reported) = rejected.report(packet, out, seconds()) {
                    *out = reported;
                }
                self.zone.transfers.refuse();
                Some(Count::ZoneNotAuthentic)
            }
            // As if the message was lost: the secondary asks again.
            Denial::Limited if !client.transport.is_stream() => None,
            Denial::Limited => {
                refuse(&self.query, Rcode::Refused, out);
                Some(Count::ZoneLimited)
            }
        }
    }
}

/// Signs a message, if the query was signed. `None` if there is no room for the signature.
pub(super) fn sign(signer: Option<Signer>, message: Vec<u8>) -> Option<Vec<u8>> {
    match signer {
        Some(mut signer) => signer.sign(message, seconds()),
        None => Some(message),
    }
}

/// The time of signatures, by the clock of this system.
pub(super) fn seconds() -> Seconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
