//! Has the data plane answer a query of an operator, and describes how it did.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::answers::answer;
use super::caching::parsed;
use super::explain::{ExplainError, client_of, local_note, question, rules};
use super::live::Live;
use crate::control::admin::querying::{
    ClientAnswer, QueryControl, QueryReport, QueryRequest, QueryTransport, UpstreamPart,
};
use crate::control::admin::verdict::{MatchingRule, Outcome};
use crate::policy::decide::{Decision, PolicyView};
use crate::policy::explain::Role;
use crate::policy::snapshot::Snapshot;
use crate::serve::client::{Client, Transport};
use crate::serve::observe::origin;
use crate::serve::resolver::traced::{Part, Traced};
use crate::stats::Count;
use crate::wire::flag;
use crate::wire::name::Name;
use crate::wire::presentation::{MessageText, TypeText};

impl QueryControl for Live {
    fn query(&self, request: QueryRequest) -> BoxFuture<'static, Result<QueryReport, String>> {
        let live = self.clone();
        Box::pin(async move { live.traced(&request).await })
    }
}

impl Live {
    async fn traced(&self, request: &QueryRequest) -> Result<QueryReport, String> {
        let name = parsed(&request.name)?;
        let packet = packet(&name, request).map_err(|error| error.to_string())?;
        let address = client(&self.0.streams.shared.policy.load(), request.client);
        let transport = match request.transport {
            QueryTransport::Udp => Transport::Udp,
            QueryTransport::Tcp => Transport::Tcp,
        };
        let client = Client::new(SocketAddr::new(address, 0), transport);
        let traced = self.0.resolver.trace(&client, &packet).await;
        let answer = traced.response.as_deref().map(client_answer).transpose();
        let parts = traced.parts.iter().map(|part| self.part(part));
        let parts: Result<_, String> = parts.collect();
        let snapshot = &traced.snapshot;
        let policy = snapshot.view(client.view).over(transport.is_stream());
        let policy = policy.asking_for_dnssec(request.dnssec);
        let policy = policy.for_type(request.rtype).for_client(address);
        let (by, rules) = deciding(policy, &name, &traced);
        let note = local_note(snapshot, &name, request.rtype, outcome(traced.outcome));
        Ok(QueryReport {
            name: name.to_string(),
            rtype: TypeText(request.rtype).to_string(),
            client: address,
            transport: request.transport,
            generation: snapshot.generation,
            outcome: traced.outcome.name().to_owned(),
            from: origin(Some(traced.outcome), traced.rule.is_some()).map(str::to_owned),
            answer: answer.map_err(|error| error.to_string())?,
            by,
            rules,
            upstream: parts?,
            took_us: micros(traced.took),
            notes: note.into_iter().collect(),
        })
    }

    fn part(&self, part: &Part) -> Result<UpstreamPart, String> {
        let (name, _) = Name::parse(part.key.name(), 0).map_err(|error| error.to_string())?;
        let now = self.0.streams.shared.clock.now();
        let entry = part.entry.as_ref();
        Ok(UpstreamPart {
            name: name.to_string(),
            rtype: TypeText(part.key.rtype()).to_string(),
            waited_us: part.waited.map(micros),
            answer: entry.map(|entry| self.cached(entry, now)).transpose()?,
        })
    }
}

/// The client of a request. If it names none: this machine if it may query, else any that may.
fn client(snapshot: &Snapshot, named: Option<IpAddr>) -> IpAddr {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let is_here = named.is_none() && snapshot.permits(here);
    client_of(snapshot, if is_here { Some(here) } else { named })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn packet(name: &Name, request: &QueryRequest) -> Result<Vec<u8>, ExplainError> {
    let mut message = question(name, request.rtype)?;
    if let Some(edns) = &mut message.edns {
        edns.set_dnssec_ok(request.dnssec);
    }
    Ok(message.to_vec()?)
}

fn client_answer(bytes: &[u8]) -> Result<ClientAnswer, ExplainError> {
    let message = MessageText::read(bytes).ok_or(ExplainError::Unreadable)?;
    let flags = [
        ("qr", flag::QR),
        ("aa", flag::AA),
        ("tc", flag::TC),
        ("rd", flag::RD),
        ("ra", flag::RA),
        ("ad", flag::AD),
        ("cd", flag::CD),
    ];
    let flags = flags
        .into_iter()
        .filter(|(_, bit)| message.flags & bit != 0);
    let [_, authority, additional] = &message.sections;
    Ok(ClientAnswer {
        answer: answer(&message),
        flags: flags.map(|(flag, _)| flag.to_owned()).collect(),
        authority: authority.clone(),
        additional: additional.clone(),
        bytes: bytes.len(),
    })
}

/// The source of the rule that decided, and all rules that match a name of the chain, the client, or an address in
/// upstream's answer.
fn deciding(
    policy: PolicyView<'_>,
    name: &Name,
    traced: &Traced,
) -> (Option<String>, Vec<MatchingRule>) {
    let (chain, addresses) = (traced.chain(), traced.addresses());
    let mut places = policy.explain(name, &chain, &addresses);
    // The targets of service records are checked one by one, and not as a chain.
    for service in traced.services() {
        places.extend(policy.explain(&service, &[], &addresses));
    }
    let is_forwarded = traced.rule.is_none() && outcome(traced.outcome) == Outcome::Upstream;
    let mut by = traced
        .rule
        .map(|hit| policy.matched(hit).source.name.clone());
    let (mut all, mut seen) = (Vec::new(), Vec::new());
    for place in &places {
        let allows = matches!(place.decision, Decision::Allowed(_) | Decision::Excepted(_));
        for (matched, role) in &place.rules {
            let role = match (role, traced.rule) {
                (_, Some(hit)) if matched.hit == hit => Role::Decides,
                (Role::Decides, None) if allows && is_forwarded => {
                    by.get_or_insert_with(|| matched.source.name.clone());
                    Role::Decides
                }
                // The answer is the same without the rule.
                (Role::Decides, _) => Role::Loses,
                (role, _) => *role,
            };
            if !seen.contains(&matched.hit) {
                seen.push(matched.hit);
                all.extend(rules(policy, &place.name, matched, role));
            }
        }
    }
    (by, all)
}

/// The outcome in the words of `why`.
fn outcome(count: Count) -> Outcome {
    match count {
        Count::Blocked | Count::BlockedTarget | Count::BlockedDrop => Outcome::Blocked,
        Count::Local | Count::Any | Count::Chaos => Outcome::Local,
        Count::CacheHits | Count::Resolved | Count::Stale | Count::Failed | Count::Overloaded => {
            Outcome::Upstream
        }
        _ => Outcome::Refused,
    }
}
