//! Explains how a query is answered under a snapshot, by running the code of the data plane.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, Query};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name as DnsName, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::answers::answer;
use crate::config::paths::{recorded, section};
use crate::config::shown::counted;
use crate::control::admin::verdict::{
    Answer, Chain, ExplainRequest, MatchingRule, Outcome, QueryVerdict, RuleTrigger,
};
use crate::policy::decide::{ChainExemption, Decision, Matched, PolicyView};
use crate::policy::explain::Role;
use crate::policy::local::ForwardedZone;
use crate::policy::ranking::Trigger;
use crate::policy::rpz::settings::ZonePolicy;
use crate::policy::rpz::{network_owner, rule_lines, rule_owners};
use crate::policy::rule::EffectAnswer;
use crate::policy::snapshot::Snapshot;
use crate::policy::view::ViewId;
use crate::serve::cache::{Cache, Entry, Key};
use crate::serve::client::{Client, Transport};
use crate::serve::respond::respond;
use crate::serve::step::Step;
use crate::stats::Count;
use crate::wire::answer::{Answer as UpstreamAnswer, AnswerError, Intake};
use crate::wire::class;
use crate::wire::name::Name;
use crate::wire::presentation::MessageText;
use crate::wire::query::Query as WireQuery;

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
    /// Upstream's answer to the query can't have the address.
    #[error("no answer to a query of this type can have this address: {0}")]
    Address(#[from] AnswerError),
    /// The query could not be written.
    #[error(transparent)]
    Write(#[from] hickory_proto::ProtoError),
    /// The answer could not be read.
    #[error("the answer can't be read")]
    Unreadable,
    /// The query could not be read.
    #[error(transparent)]
    Read(#[from] hickory_proto::serialize::binary::DecodeError),
}

/// The TTL of records in assumed answers of upstream, in seconds. Any but 0 will do.
const ASSUMED_TTL: u32 = 60;

const TCP_ONLY: &str = "over UDP the answer is empty and truncated, so that the client asks again over TCP, where the \
                        name is allowed";

const FORWARDED: &str = "the name is blocked, but its DS and DNSKEY records come from upstream, because names below it may \
                         not be blocked";

const BLOCKED_TARGET: &str = "a name that a CNAME record leads to is blocked";

const UNLESS_SIGNED: &str = "the rule does not change signed answers to clients that ask for DNSSEC records, as its zone has \
                             break-dnssec = false; lower rules then apply";

/// Answers a query under a snapshot as the server does with an empty cache; or, if the request has an address, with a cache
/// that has an answer of upstream with this address. If the request names no client, one that may query is assumed, if
/// the configuration permits any.
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
    let policy = policy(snapshot, client_of(snapshot, request.client)).for_type(request.rtype);
    // Upstream is not asked, so of its answer only that address is known.
    let (mut decision, mut matching) = (Decision::Pass, Vec::new());
    for place in policy.explain(&name, &[], request.address.as_slice()) {
        (decision, matching) = (place.decision, place.rules);
    }
    let asked = ask(snapshot, &name, request, &decision)?;
    let outcome = asked.outcome;
    let mut notes: Vec<_> = asked.note.into_iter().collect();
    let chain = match outcome {
        Outcome::Upstream | Outcome::Allowed | Outcome::Excepted => {
            let has_ignored = matching.iter().any(|(_, role)| *role == Role::Ignored);
            match decision {
                Decision::Blocked { .. } => {
                    notes.push(FORWARDED.to_owned());
                    Some(if has_ignored {
                        Chain::NotExcepted
                    } else {
                        Chain::All
                    })
                }
                decision => Some(chain(decision.chain_exemption())),
            }
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
    if let Decision::Blocked { by, .. } = decision
        && outcome == Outcome::Blocked
        && by.source.spares_signed()
    {
        notes.push(UNLESS_SIGNED.to_owned());
    }
    notes.extend(local_note(snapshot, &name, request.rtype, outcome));
    if let Some(by) = policy.would_block(&name, None)
        && by.source.paused
    {
        let path = &by.source.path;
        notes.push(format!(
            "{} {} is paused, and would block it",
            section(path),
            by.source.name
        ));
    }
    let matching = matching.iter();
    notes.extend(rules_on_addresses(
        policy, &name, request, &decision, outcome,
    ));
    Ok(QueryVerdict {
        generation: snapshot.generation,
        outcome,
        chain,
        by: by.filter(|_| decided),
        rules: matching
            .flat_map(|(matched, role)| {
                let role = match role {
                    // The answer is the same without the rule.
                    Role::Decides if !decided => Role::Loses,
                    role => *role,
                };
                rules(policy, &name, matched, role)
            })
            .collect(),
        answer: asked.answer,
        notes,
    })
}

/// The section of the configuration that answers the name, or that names its servers.
pub(super) fn local_note(
    snapshot: &Snapshot,
    name: &Name,
    rtype: u16,
    outcome: Outcome,
) -> Option<String> {
    match outcome {
        Outcome::Local => {
            let line = snapshot.local.lookup(name, rtype)?.line?;
            Some(format!("answered by [[local]] on line {line}"))
        }
        Outcome::Upstream | Outcome::Allowed | Outcome::Excepted => {
            let zone = snapshot.local.forwarded(name, rtype)?;
            let ForwardedZone { servers, line } = zone;
            Some(format!(
                "forwarded to {servers} by [[forward]] on line {line}"
            ))
        }
        _ => None,
    }
}

/// Sentences about the rules on addresses that were not evaluated: on those of the answer, because upstream is not asked, and
/// on those of clients, if the request names none.
fn rules_on_addresses(
    policy: PolicyView<'_>,
    name: &Name,
    request: &ExplainRequest,
    decision: &Decision<'_>,
    outcome: Outcome,
) -> Vec<String> {
    let is_forwarded = matches!(
        outcome,
        Outcome::Upstream | Outcome::Allowed | Outcome::Excepted
    );
    let in_answer = match is_forwarded && request.address.is_none() {
        true => policy.later_answer_rules(name, decision),
        false => 0,
    };
    let on_clients = match request.client {
        None if is_forwarded || outcome == Outcome::Blocked => {
            policy.preceding_client_rules(name, decision)
        }
        _ => 0,
    };
    let in_answer = (in_answer > 0).then(|| {
        let rules = counted(in_answer, "rule", "rules");
        format!("{rules} on addresses in answers may still decide; see --address")
    });
    let on_clients = (on_clients > 0).then(|| {
        let rules = counted(on_clients, "rule", "rules");
        format!("{rules} on networks of clients may decide for other clients; see --client")
    });
    in_answer.into_iter().chain(on_clients).collect()
}

fn chain(exemption: ChainExemption) -> Chain {
    match exemption {
        ChainExemption::None => Chain::All,
        ChainExemption::Suppressed => Chain::NotExcepted,
        ChainExemption::Lists => Chain::Orders,
        ChainExemption::All => Chain::None,
    }
}

/// Converts a matching rule for the control socket. Each pattern that is found in the name becomes a rule.
pub(super) fn rules(
    policy: PolicyView<'_>,
    name: &Name,
    matched: &Matched<'_>,
    role: Role,
) -> Vec<MatchingRule> {
    let path = recorded(&matched.source.path);
    let rule = |trigger, owners: &[Name]| MatchingRule {
        records: records(owners, matched),
        path: path.clone(),
        source: matched.source.name.clone(),
        kind: matched.source.kind,
        trigger,
        role,
    };
    match matched.hit.trigger {
        Trigger::Name { scope, labels } => {
            let (owner, _) =
                Name::parse(name.ancestor(labels.into()), 0).expect("a part of a name is a name");
            let trigger = RuleTrigger::Name {
                owner: owner.to_string(),
                scope,
            };
            vec![rule(trigger, &rule_owners(&owner, scope))]
        }
        Trigger::Pattern => {
            let patterns = policy.patterns(matched.hit, name).into_iter();
            let triggers = patterns.map(|pattern| RuleTrigger::Pattern(pattern.to_owned()));
            triggers.map(|trigger| rule(trigger, &[])).collect()
        }
        Trigger::Client(network) => {
            let prefix = policy.client_network(network);
            let trigger = RuleTrigger::Client(prefix.network().to_string());
            vec![rule(trigger, &[network_owner(&prefix)])]
        }
        Trigger::Answer(network) => {
            let prefix = policy.answer_network(network);
            let trigger = RuleTrigger::Answer(prefix.network().to_string());
            vec![rule(trigger, &[network_owner(&prefix)])]
        }
    }
}

/// The records of a matching rule, if it is one of a policy zone whose records decide.
fn records(owners: &[Name], matched: &Matched<'_>) -> Vec<String> {
    let zone = matched.source.zone.as_ref();
    let is_given = zone.is_some_and(|zone| zone.settings.policy == ZonePolicy::Given);
    let effect = matched.effect().filter(|_| is_given);
    effect.map_or_else(Vec::new, |effect| rule_lines(owners, effect))
}

/// The client of a request. If it names none, one that may query is assumed, if the configuration permits any.
pub(super) fn client_of(snapshot: &Snapshot, named: Option<IpAddr>) -> IpAddr {
    let permitted = named.or_else(|| snapshot.clients.any());
    permitted.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The policy for queries of a client over TCP, so that no answer is truncated.
fn policy(snapshot: &Snapshot, client: IpAddr) -> PolicyView<'_> {
    snapshot.view(ViewId::DEFAULT).over(true).for_client(client)
}

/// The outcome of a query, with the answer if Tapis sends one itself.
struct Explained {
    outcome: Outcome,
    answer: Option<Answer>,
    note: Option<String>,
}

impl Explained {
    fn without_answer(outcome: Outcome) -> Self {
        Self {
            outcome,
            answer: None,
            note: None,
        }
    }

    /// Upstream's answer is sent, because of this decision.
    fn forwarded(decision: &Decision<'_>) -> Self {
        let outcome = match decision {
            Decision::Allowed(by) => {
                let tcp_only = matches!(by.blocking.effect_answer, Some(EffectAnswer::TcpOnly));
                let note = tcp_only.then(|| TCP_ONLY.to_owned());
                let allowed = Self::without_answer(Outcome::Allowed);
                return Self { note, ..allowed };
            }
            Decision::Excepted(_) => Outcome::Excepted,
            Decision::Pass | Decision::Blocked { .. } => Outcome::Upstream,
        };
        Self::without_answer(outcome)
    }
}

fn ask(
    snapshot: &Snapshot,
    name: &Name,
    request: &ExplainRequest,
    decision: &Decision<'_>,
) -> Result<Explained, ExplainError> {
    let query = query(name, request)?;
    let client = SocketAddr::new(client_of(snapshot, request.client), 0);
    let client = Client::new(client, Transport::Tcp);
    let (packet, mut out) = (query.to_vec()?, Vec::new());
    let cache = Cache::new(1 << 20, 0);
    if let Some(address) = request.address {
        let data = match address {
            IpAddr::V4(address) => RData::A(address.into()),
            IpAddr::V6(address) => RData::AAAA(address.into()),
        };
        learn(&cache, &query, name, |answer, record| {
            answer.add_answer(record(data));
        })?;
    }
    let mut step = respond(0, &client, &packet, snapshot, &cache, &mut out);
    let mut note = None;
    if let Step::Resolve(key, _) = &step
        && key.name() != name.wire()
    {
        let (target, _) = Name::parse(key.name(), 0).expect("the name of a query is valid");
        let is_local = snapshot.local.lookup(name, request.rtype).is_some();
        let rules = match is_local && !matches!(decision, Decision::Blocked { .. }) {
            true => "rules on its names and addresses apply",
            false => "no rule applies to them",
        };
        note = Some(format!(
            "the records of {target} come from upstream, and {rules}"
        ));
        // Without records of the target, the answer is the CNAME record alone.
        let query = self::query(&target, request)?;
        learn(&cache, &query, &target, |answer, record| {
            let soa = SOA::new(DnsName::root(), DnsName::root(), 0, 0, 0, 0, ASSUMED_TTL);
            answer.add_authority(record(RData::SOA(soa)));
        })?;
        step = respond(0, &client, &packet, snapshot, &cache, &mut out);
    }
    let outcome = match step {
        // The cache has no answer, so any query that is not answered locally is forwarded.
        Step::Resolve(..) | Step::Refresh(..) => return Ok(Explained::forwarded(decision)),
        Step::Drop(_) => return Ok(Explained::without_answer(Outcome::Blocked)),
        Step::Reply(tally) => match tally.count {
            Count::CacheHits => return Ok(Explained::forwarded(decision)),
            Count::Blocked => Outcome::Blocked,
            Count::BlockedTarget => {
                note.get_or_insert_with(|| BLOCKED_TARGET.to_owned());
                Outcome::Blocked
            }
            Count::Local | Count::Any => Outcome::Local,
            _ => Outcome::Refused,
        },
    };
    Ok(Explained {
        outcome,
        answer: Some(answer(
            &MessageText::read(&out).ok_or(ExplainError::Unreadable)?,
        )),
        note,
    })
}

/// A query for a name, with the type of the request.
fn query(name: &Name, request: &ExplainRequest) -> Result<Message, ExplainError> {
    question(name, request.rtype)
}

/// A query with RD and EDNS.
pub(super) fn question(name: &Name, rtype: u16) -> Result<Message, ExplainError> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let dns_name = DnsName::read(&mut BinDecoder::new(name.wire()))?;
    let rtype = RecordType::from(rtype);
    message.queries.push(Query::query(dns_name, rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(crate::wire::UDP_PAYLOAD);
    message.edns = Some(edns);
    Ok(message)
}

/// Adds an answer of upstream to the cache. `fill` adds records to it, each made from its data.
fn learn(
    cache: &Cache,
    query: &Message,
    name: &Name,
    fill: impl FnOnce(&mut Message, &dyn Fn(RData) -> Record),
) -> Result<(), ExplainError> {
    let mut response = query.clone();
    response.metadata.message_type = MessageType::Response;
    let asked = &query.queries[0];
    let record = |data| Record::from_rdata(asked.name.clone(), ASSUMED_TTL, data);
    fill(&mut response, &record);
    let intake = Intake {
        min_ttl: 0,
        max_ttl: ASSUMED_TTL,
        max_negative_ttl: ASSUMED_TTL,
        additional: false,
    };
    let (bytes, rtype) = (response.to_vec()?, asked.query_type.into());
    let answer = UpstreamAnswer::parse(&bytes, name, rtype, class::IN, intake)?;
    let (packet, mut room) = (query.to_vec()?, Name::default());
    let query = WireQuery::parse(&packet, &mut room).expect("the query was just written");
    cache.insert(Key::new(&query), Arc::new(Entry::new(answer, 0)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::builder::Builder;
    use crate::policy::effect::{Effect, EffectAction};
    use crate::policy::image::provenance::ImageSource;
    use crate::policy::rpz::settings::{ZonePolicy, ZoneSettings};
    use crate::policy::rule::{Action, Kind, Scope, Source};
    use crate::policy::tests::sources::source;

    /// Explains a query for the A records of `www.example`, under a rule with this action on `example` and below.
    fn explained(action: EffectAction) -> QueryVerdict {
        explained_at("example", Scope::Subtree, RecordType::A, action)
    }

    /// Explains a query for `www.example`, under a rule of this scope on `owner`.
    fn explained_at(
        owner: &str,
        scope: Scope,
        rtype: RecordType,
        action: EffectAction,
    ) -> QueryVerdict {
        explained_in(None, owner, scope, rtype, action)
    }

    /// The same under a rule of this policy zone.
    fn explained_in(
        zone: Option<ZoneSettings>,
        owner: &str,
        scope: Scope,
        rtype: RecordType,
        action: EffectAction,
    ) -> QueryVerdict {
        let mut builder = Builder::new();
        let list = builder.source(ImageSource::named("zone")).expect("few");
        let effect = Effect {
            action,
            ..Effect::default()
        };
        let owner = Name::from_text(owner).expect("a name");
        let added = builder.insert_effect(&owner, list, scope, &effect);
        added.expect("a valid effect");
        let source = Source {
            zone: zone.map(|zone| Box::new(zone.into())),
            ..source("zone", Kind::Block, Action::Nxdomain)
        };
        let image = Arc::new(builder.finish().expect("room"));
        let mut snapshot = Snapshot::default().with_rules(vec![source.into()], image.into());
        let network = "192.0.2.0/24".parse().expect("a network");
        snapshot.clients = [network].iter().collect();
        let request = ExplainRequest {
            name: "www.example".to_owned(),
            rtype: rtype.into(),
            client: None,
            address: None,
        };
        explain(&snapshot, &request).expect("explained")
    }

    #[test]
    fn an_alias_is_explained_by_its_cname_and_where_the_other_records_come_from() {
        let verdict = explained(EffectAction::Cname {
            target: Arc::new(Name::from_text("garden.test.example").expect("a name")),
            prepend: true,
        });
        assert_eq!(verdict.outcome, Outcome::Blocked);
        assert_eq!((verdict.by.as_deref(), verdict.chain), (Some("zone"), None));
        let answer = verdict.answer.expect("an answer");
        let cname = "www.example. 60 IN CNAME www.example.garden.test.example.";
        assert_eq!(
            (&*answer.rcode, &answer.records[..]),
            ("NOERROR", &[cname.to_owned()][..])
        );
        let note = "the records of www.example.garden.test.example come from upstream, and no rule applies to them";
        assert_eq!(verdict.notes, [note]);
    }

    #[test]
    fn ds_records_of_a_blocked_name_are_explained_if_they_come_from_upstream() {
        let scope = Scope::Exact;
        let verdict = explained_at("www.example", scope, RecordType::DS, EffectAction::Source);
        assert_eq!(verdict.outcome, Outcome::Upstream);
        assert_eq!(verdict.notes, [FORWARDED]);
        assert_eq!(verdict.chain, Some(Chain::All), "no exception is involved");
        let verdict = explained_at("www.example", scope, RecordType::A, EffectAction::Source);
        assert_eq!(
            (verdict.outcome, verdict.notes.len()),
            (Outcome::Blocked, 0)
        );
    }

    #[test]
    fn a_rule_that_demands_tcp_is_explained() {
        let verdict = explained(EffectAction::TcpOnly);
        assert_eq!(verdict.outcome, Outcome::Allowed);
        let by = (verdict.by.as_deref(), verdict.chain);
        assert_eq!(by, (Some("zone"), Some(Chain::Orders)));
        assert!(verdict.answer.is_none());
        assert_eq!(verdict.notes, [TCP_ONLY]);
    }
    #[test]
    fn a_rule_that_does_not_apply_to_signed_answers_is_explained() {
        for (break_dnssec, notes) in [(true, &[][..]), (false, &[UNLESS_SIGNED][..])] {
            let zone = ZoneSettings {
                policy: ZonePolicy::Given,
                max_ttl_secs: 5,
                break_dnssec,
            };
            let action = EffectAction::Block(Action::Nodata);
            let verdict = explained_in(
                Some(zone),
                "www.example",
                Scope::Exact,
                RecordType::A,
                action,
            );
            assert_eq!(verdict.outcome, Outcome::Blocked);
            assert_eq!(verdict.notes, notes);
        }
    }
}
