//! The dnstap messages of a record.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::frames::data;
use super::schema::{Dnstap, Message, Policy};
use crate::config::dnstap::Dnstap as Config;
use crate::config::recording::ClientForm;
use crate::policy::ranking::Trigger;
use crate::policy::rule::{Action, Scope};
use crate::recorder::client_text::truncated;
use crate::recorder::record::{Record, Rule, RuleAction, SourceKind};
use crate::recorder::wall_clock::WallClock;
use crate::serve::client::Transport;
use crate::wire::sections::blank_subnets;
use crate::wire::{Rcode, read_u16};

/// Appends the frames of a record.
pub(super) fn write_messages(
    record: &Record<'_>,
    clock: &WallClock,
    config: &Config,
    frames: &mut Vec<u8>,
) {
    let head = record.head;
    let is_answered = head.answer_len > 0;
    let (client, port) = match config.client {
        ClientForm::Whole => (Some(head.address), Some(head.port.into())),
        // A hash is no address.
        ClientForm::None | ClientForm::Hashed => (None, None),
        ClientForm::Truncated => (Some(truncated(head.address.to_canonical())), None),
    };
    let client = client.map(|address| address.to_canonical());
    let (query_sec, query_nsec) = since_epoch(clock.at(head.received));
    let common = Message {
        kind: Message::CLIENT_QUERY,
        socket_family: Some(match head.address.to_canonical() {
            IpAddr::V4(_) => Message::INET,
            IpAddr::V6(_) => Message::INET6,
        }),
        socket_protocol: Some(match head.transport {
            Transport::Udp => Message::UDP,
            Transport::Tcp => Message::TCP,
        }),
        query_address: client.map(address_bytes),
        response_address: head.local.map(|local| address_bytes(local.to_canonical())),
        query_port: port,
        query_time_sec: Some(query_sec),
        query_time_nsec: Some(query_nsec),
        ..Message::default()
    };
    let policy = head.rule.map(|rule| policy(record, rule, client));
    let source = head.rule.map(|_| record.source.to_vec());
    let text = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
    let mut write = |message: Message| {
        let frame = Dnstap {
            identity: text(&config.identity),
            version: text(&config.version),
            extra: message.policy.as_ref().and(source.clone()),
            message: Some(message),
            kind: Dnstap::MESSAGE,
        };
        data(frames, |frames| frame.append_to(frames));
    };
    if config.queries {
        write(Message {
            query_message: Some(query_message(record.query, config.client)),
            // The policy of an answer is in the answer's message.
            policy: policy.clone().filter(|_| !is_answered || !config.responses),
            ..common.clone()
        });
    }
    if config.responses && is_answered {
        let (response_sec, response_nsec) = since_epoch(clock.at(head.ended));
        write(Message {
            kind: Message::CLIENT_RESPONSE,
            response_time_sec: Some(response_sec),
            response_time_nsec: Some(response_nsec),
            response_message: Some(record.answer.to_vec()),
            policy,
            ..common
        });
    }
}

/// The bytes of a query. A forwarder may have put the address of its client into them.
fn query_message(query: &[u8], form: ClientForm) -> Vec<u8> {
    let mut message = query.to_vec();
    if form != ClientForm::Whole {
        blank_subnets(&mut message);
    }
    message
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn since_epoch(time: SystemTime) -> (u64, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}

fn policy(record: &Record<'_>, rule: Rule, client: Option<IpAddr>) -> Policy {
    let question = record.question();
    let name = question
        .as_ref()
        .and_then(|(name, rtype)| record.matched_name(name, *rtype));
    let wildcard = |name: &[u8]| match rule.trigger {
        Trigger::Name {
            scope: Scope::Below,
            ..
        } => [b"\x01*", name].concat(),
        _ => name.to_vec(),
    };
    let (matched, value) = match rule.trigger {
        Trigger::Name { .. } | Trigger::Pattern => {
            let blocked = question
                .as_ref()
                .and_then(|(name, rtype)| record.blocked_name(name, *rtype));
            let value = blocked.map(|name| name.wire().to_vec());
            (Policy::QNAME, value)
        }
        Trigger::Client(_) => (Policy::CLIENT_IP, client.map(address_bytes)),
        Trigger::Answer(_) => (Policy::RESPONSE_IP, None),
    };
    let kind = match rule.kind {
        SourceKind::Zone => "RPZ",
        SourceKind::List | SourceKind::Order => rule.kind.word(),
    };
    Policy {
        kind: Some(kind.to_owned()),
        rule: name.map(|name| wildcard(name.wire())),
        action: action(record, rule.action),
        matched: Some(matched),
        value,
    }
}

/// What was done; `None` for REFUSED, which dnstap has no word for.
fn action(record: &Record<'_>, action: RuleAction) -> Option<i32> {
    let has_answers = read_u16(record.answer, 6).is_some_and(|count| count > 0);
    let data = match has_answers {
        true => Policy::LOCAL_DATA,
        false => Policy::NODATA,
    };
    let is_nxdomain = record.rcode() == Some(Rcode::NxDomain as u16);
    match action {
        RuleAction::Plain(Action::Nxdomain) if is_nxdomain => Some(Policy::NXDOMAIN),
        RuleAction::Plain(Action::Nxdomain | Action::Nodata) => Some(Policy::NODATA),
        RuleAction::Plain(Action::Sinkhole) | RuleAction::Records => Some(data),
        RuleAction::Plain(Action::Refused) => None,
        RuleAction::Plain(Action::Drop) => Some(Policy::DROP),
        RuleAction::Cname => Some(Policy::LOCAL_DATA),
        RuleAction::TcpOnly => Some(Policy::TRUNCATE),
    }
}
