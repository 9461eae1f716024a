//! Reads a message, and makes all checks that come before the policy decides on the queried name.

use std::net::IpAddr;

use super::client::Client;
use super::step::Ending;
use super::synthesized;
use crate::policy::decide::PolicyView;
use crate::policy::snapshot::Snapshot;
use crate::policy::view::{LookupKey, ViewId};
use crate::stats::Count;
use crate::wire::edns::{Ede, code};
use crate::wire::name::Name;
use crate::wire::query::{Fault, Query, Reject};
use crate::wire::reply;
use crate::wire::{Rcode, class, rtype};

/// A query to whose name the policy applies.
#[derive(Debug)]
pub(super) struct Asked<'p> {
    /// The query.
    pub(super) query: Query<'p>,
    /// The view of its client.
    view: ViewId,
    /// The address of its client.
    client: IpAddr,
    is_stream: bool,
    /// The most bytes that its answer may have.
    pub(super) limit: usize,
}

impl Asked<'_> {
    /// What the lookup of its name depends on.
    #[inline]
    pub(super) fn key(&self) -> LookupKey {
        LookupKey::new(self.view, self.query.rtype)
    }

    /// The policy that applies to the client.
    #[inline]
    pub(super) fn policy<'s>(&self, snapshot: &'s Snapshot) -> PolicyView<'s> {
        let view = snapshot.view(self.view).over(self.is_stream);
        let view = view.asking_for_dnssec(self.query.dnssec_ok());
        view.for_type(self.query.rtype).for_client(self.client)
    }
}

/// Reads a packet and makes all checks that come before the policy decides on the qname, which is written to `name`.
///
/// # Errors
/// The [`Ending`] of a query that needs no policy; `out` holds the answer, if there is one.
#[inline(always)]
pub(super) fn read<'p>(
    client: &Client,
    packet: &'p [u8],
    name: &'p mut Name,
    snapshot: &Snapshot,
    out: &mut Vec<u8>,
) -> Result<Asked<'p>, Ending> {
    let query = match Query::parse(packet, name) {
        Ok(query) => query,
        Err(reject) => {
            let permitted = snapshot.permits(client.address);
            return Err(refuse_packet(reject, permitted, packet, out));
        }
    };
    let is_stream = client.transport.is_stream();
    let limit = match is_stream {
        true => query.stream_limit(),
        false => query.udp_limit(),
    };
    if !snapshot.permits(client.address) {
        let why = [Ede {
            code: code::PROHIBITED,
            text: "",
        }];
        synthesized::bare(&query, Rcode::Refused, &why, limit, out);
        return Err(Ending::Reply(Count::Denied.into()));
    }
    if let Some((rcode, count)) = beyond(&query, snapshot, limit, out) {
        if let Some(rcode) = rcode {
            synthesized::bare(&query, rcode, &[], limit, out);
        }
        return Err(Ending::Reply(count.into()));
    }
    Ok(Asked {
        query,
        view: client.view,
        client: client.address,
        is_stream,
        limit,
    })
}

/// Like [`read`], but not inlined. Its callers handle one message at a time, so inlining would only enlarge the code.
#[inline(never)]
pub(super) fn read_one<'p>(
    client: &Client,
    packet: &'p [u8],
    name: &'p mut Name,
    snapshot: &Snapshot,
    out: &mut Vec<u8>,
) -> Result<Asked<'p>, Ending> {
    read(client, packet, name, snapshot, out)
}

/// Answers a packet that was too long to be received whole.
pub(super) fn oversized(
    client: &Client,
    packet: &[u8],
    snapshot: &Snapshot,
    out: &mut Vec<u8>,
) -> Ending {
    if !snapshot.permits(client.address) {
        return Ending::Drop(Count::DeniedMalformed.into());
    }
    // Some messages, such as responses, are always dropped. They must not be answered when they are too long, either.
    if matches!(
        Query::parse(packet, &mut Name::default()),
        Err(Reject::Drop(_))
    ) {
        return Ending::Drop(Count::Oversized.into());
    }
    reply::header_only(packet, Rcode::FormErr, out);
    Ending::Reply(Count::Oversized.into())
}

/// Answers or drops a packet that could not be parsed. Only permitted clients get an answer.
fn refuse_packet(reject: Reject, permitted: bool, packet: &[u8], out: &mut Vec<u8>) -> Ending {
    let count = match reject.fault() {
        Fault::Short => Count::Short,
        Fault::Response => Count::Response,
        Fault::Opcode => Count::Opcode,
        Fault::QuestionCount => Count::QuestionCount,
        Fault::Question => Count::Question,
        Fault::Records => Count::Records,
        Fault::Edns => Count::Edns,
    };
    match reject {
        Reject::Drop(_) => Ending::Drop(count.into()),
        Reject::Header(..) if !permitted => Ending::Drop(Count::DeniedMalformed.into()),
        Reject::Header(rcode, _) => {
            reply::header_only(packet, rcode, out);
            Ending::Reply(count.into())
        }
    }
}

/// Handles queries to which no rule on names applies: unknown EDNS versions, other classes, transfers and meta-types.
/// If the response code is `None`, the answer has already been written.
fn beyond(
    query: &Query<'_>,
    snapshot: &Snapshot,
    limit: usize,
    out: &mut Vec<u8>,
) -> Option<(Option<Rcode>, Count)> {
    if query.unknown_version() {
        return Some((Some(Rcode::BadVers), Count::EdnsVersion));
    }
    if query.class != class::IN {
        let answered = query.class == class::CH && synthesized::chaos(query, snapshot, limit, out);
        return Some(match answered {
            true => (None, Count::Chaos),
            false => (Some(Rcode::Refused), Count::Refused),
        });
    }
    match query.rtype {
        rtype::AXFR | rtype::IXFR => Some((Some(Rcode::Refused), Count::Refused)),
        // Type 0 is reserved, and no record has it (RFC 6895, section 3.1).
        rtype::OPT | 0 => Some((Some(Rcode::FormErr), Count::Question)),
        rtype::FIRST_META..rtype::ANY => Some((Some(Rcode::NotImp), Count::MetaType)),
        _ => None,
    }
}
