//! Explains how a query is answered under a snapshot, by running the code of the data plane.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name as DnsName, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::control::admin::verdict::{
    Answer, Chain, ExplainRequest, MatchingRule, Outcome, QueryVerdict,
};
use crate::policy::snapshot::{ChainExemption, Decision, Matched, Snapshot};
use crate::policy::view::ViewId;
use crate::serve::cache::Cache;
use crate::serve::client::{Client, Transport};
use crate::serve::respond::respond;
use crate::serve::step::Step;
use crate::stats::Count;
use crate::wire::name::{Name, write_text};

/// A reason why a query can't be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The name is invalid.
    #[error("{name:?} is not a domain name: {source}")]
    Name {
        /// The name as it was given.
        name: String,
        /// The mistake.
        source: crate::wire::name::NameError,
    },
    /// The query could not be written.
    #[error(transparent)]
    Write(#[from] hickory_proto::ProtoError),
    /// The query or its answer could not be read.
    #[error(transparent)]
    Read(#[from] hickory_proto::serialize::binary::DecodeError),
}

/// Answers a query under a snapshot as the server does with an empty cache. If the request names no client, one that
/// may query is assumed, if the configuration permits any.
///
/// # Errors
/// [`ExplainError`].
pub fn explain(
    snapshot: &Snapshot,
    request: &ExplainRequest,
) -> Result<QueryVerdict, ExplainError> {
    let name = Name::from_text(&request.name).map_err(|source| ExplainError::Name {
        name: request.name.clone(),
        source,
    })?;
    let (outcome, answer) = ask(snapshot, &name, request)?;
    let decision = snapshot.decide(&name);
    let chain = match outcome {
        Outcome::Upstream | Outcome::Allowed | Outcome::Excepted => {
            Some(chain(decision.chain_exemption()))
        }
        _ => None,
    };
    let by = match decision {
        Decision::Blocked { by, .. } | Decision::Allowed(by) | Decision::Excepted(by) => {
            Some(by.source.name.clone())
        }
        Decision::Pass => None,
    };
    let decided = matches!(
        outcome,
        Outcome::Blocked | Outcome::Allowed | Outcome::Excepted
    );
    let matching = snapshot.view(ViewId::DEFAULT).matching(&name).into_iter();
    Ok(QueryVerdict {
        generation: snapshot.generation,
        outcome,
        chain,
        by: by.filter(|_| decided),
        rules: matching.map(|matched| rule(&name, &matched)).collect(),
        answer,
    })
}

fn chain(exemption: ChainExemption) -> Chain {
    match exemption {
        ChainExemption::None => Chain::All,
        ChainExemption::Suppressed => Chain::NotExcepted,
        ChainExemption::Lists => Chain::Orders,
        ChainExemption::All => Chain::None,
    }
}

fn rule(name: &Name, matched: &Matched<'_>) -> MatchingRule {
    let mut owner = String::new();
    write_text(name.ancestor(matched.hit.labels.into()), &mut owner)
        .expect("writing to a string does not fail");
    let path = &matched.source.path;
    MatchingRule {
        // Without a working directory it stays relative.
        path: std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        source: matched.source.name.clone(),
        kind: matched.source.kind,
        owner,
        scope: matched.hit.scope,
    }
}

fn ask(
    snapshot: &Snapshot,
    name: &Name,
    request: &ExplainRequest,
) -> Result<(Outcome, Option<Answer>), ExplainError> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let dns_name = DnsName::read(&mut BinDecoder::new(name.wire()))?;
    let rtype = RecordType::from(request.rtype);
    message.queries.push(Query::query(dns_name, rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(crate::wire::UDP_PAYLOAD);
    message.edns = Some(edns);
    let permitted = request.client.or_else(|| snapshot.clients.any());
    let address = permitted.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let client = Client::new(SocketAddr::new(address, 0), Transport::Tcp);
    let mut out = Vec::new();
    let empty = Cache::new(1 << 20, 0);
    let step = respond(0, &client, &message.to_vec()?, snapshot, &empty, &mut out);
    let outcome = match step {
        // The cache is empty, so any query that is not answered locally is forwarded.
        Step::Resolve(..) | Step::Refresh(..) => {
            let outcome = match snapshot.decide(name) {
                Decision::Allowed(_) => Outcome::Allowed,
                Decision::Excepted(_) => Outcome::Excepted,
                Decision::Pass | Decision::Blocked { .. } => Outcome::Upstream,
            };
            return Ok((outcome, None));
        }
        Step::Drop(_) => return Ok((Outcome::Blocked, None)),
        Step::Reply(tally) => match tally.count {
            Count::Blocked => Outcome::Blocked,
            Count::Local | Count::Any => Outcome::Local,
            _ => Outcome::Refused,
        },
    };
    Ok((outcome, Some(answer(&Message::from_vec(&out)?))))
}

fn answer(reply: &Message) -> Answer {
    let options = reply.edns.iter();
    let options = options.flat_map(|edns| edns.options().as_ref().iter());
    let ede = options.filter_map(|(_, option)| match option {
        EdnsOption::Unknown(15, bytes) => bytes.split_at_checked(2).map(|(code, text)| {
            let code = u16::from_be_bytes([code[0], code[1]]);
            format!("{code} {}", String::from_utf8_lossy(text))
                .trim_end()
                .to_owned()
        }),
        _ => None,
    });
    Answer {
        rcode: mnemonic(reply.metadata.response_code),
        records: reply.answers.iter().map(ToString::to_string).collect(),
        ede: ede.collect(),
    }
}

/// The response code as `dig` writes it.
fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}
