//! Explains how a query is answered under a snapshot, by running the code of the data plane.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name as DnsName, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::control::admin::verdict::{
    Answer, Chain, ExplainRequest, MatchingRule, Outcome, QueryVerdict, RuleTrigger,
};
use crate::policy::decide::{ChainExemption, Decision, Matched, PolicyView};
use crate::policy::ranking::Trigger;
use crate::policy::snapshot::Snapshot;
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
    let policy = snapshot
        .view(ViewId::DEFAULT)
        .for_client(client(snapshot, request));
    let decision = policy.decide(&name);
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
    let matching = policy.matching(&name).into_iter();
    Ok(QueryVerdict {
        generation: snapshot.generation,
        outcome,
        chain,
        by: by.filter(|_| decided),
        rules: matching
            .flat_map(|matched| rules(policy, &name, &matched))
            .collect(),
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

/// A rule in the form of the interface; one for each pattern that is found in the name.
fn rules(policy: PolicyView<'_>, name: &Name, matched: &Matched<'_>) -> Vec<MatchingRule> {
    let path = &matched.source.path;
    // Without a working directory it stays relative.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let rule = |trigger| MatchingRule {
        path: path.clone(),
        source: matched.source.name.clone(),
        kind: matched.source.kind,
        trigger,
        log_only: matched.is_logged_only,
    };
    match matched.hit.trigger {
        Trigger::Name { scope, labels } => {
            let mut owner = String::new();
            write_text(name.ancestor(labels.into()), &mut owner)
                .expect("writing to a string does not fail");
            vec![rule(RuleTrigger::Name { owner, scope })]
        }
        Trigger::Pattern => {
            let patterns = policy.patterns(matched.hit, name).into_iter();
            let triggers = patterns.map(|pattern| RuleTrigger::Pattern(pattern.to_owned()));
            triggers.map(rule).collect()
        }
        Trigger::Client(network) => {
            let network = policy.client_network(network);
            vec![rule(RuleTrigger::Client(network.to_string()))]
        }
        Trigger::Answer(network) => {
            let network = policy.answer_network(network);
            vec![rule(RuleTrigger::Answer(network.to_string()))]
        }
    }
}

/// The client of a request. If it names none, one that may query is assumed, if the configuration permits any.
fn client(snapshot: &Snapshot, request: &ExplainRequest) -> IpAddr {
    let permitted = request.client.or_else(|| snapshot.clients.any());
    permitted.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
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
    let address = client(snapshot, request);
    let client = Client::new(SocketAddr::new(address, 0), Transport::Tcp);
    let mut out = Vec::new();
    let empty = Cache::new(1 << 20, 0);
    let step = respond(0, &client, &message.to_vec()?, snapshot, &empty, &mut out);
    let outcome = match step {
        // The cache is empty, so any query that is not answered locally is forwarded.
        Step::Resolve(..) | Step::Refresh(_) => {
            let policy = snapshot.view(ViewId::DEFAULT).for_client(address);
            let outcome = match policy.decide(name) {
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
