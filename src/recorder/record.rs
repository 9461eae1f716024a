//! A finished query as it is recorded.

use std::net::IpAddr;
use std::num::NonZeroU16;

use tokio::time::Instant;

use crate::policy::ranking::Trigger;
use crate::policy::rule::{Blocking, EffectAnswer, Kind};
use crate::serve::client::Transport;
use crate::stats::Count;
use crate::wire::name::Name;
use crate::wire::query::Query;
use crate::wire::{Rcode, read_u16, rtype, skip_name};

/// The bytes of a message's header.
const HEADER: usize = 12;
/// The bytes of a record between its owner and its data.
const FIXED: usize = 10;
/// The most aliases that are followed to find the name that a rule matched.
const CHAIN_MAX: usize = 64;

/// The properties of a query that have a fixed size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// The sinks that record it, as bits.
    pub(super) sinks: u8,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// The address of this server, if the transport reports it.
    pub(super) local: Option<IpAddr>,
    pub(super) transport: Transport,
    pub(super) outcome: Option<Count>,
    pub(super) rcode: Option<u8>,
    /// The number of the upstream server that the answer comes from.
    pub(super) upstream: Option<NonZeroU16>,
    pub(super) received: Instant,
    pub(super) ended: Instant,
    pub(super) rule: Option<Rule>,
    /// The length of the answer, also if its bytes are not recorded; 0 if none was sent.
    pub(super) answer_len: u16,
    /// The recorded bytes: the name of the rule's source, the query, and the answer.
    pub(super) lengths: [u16; 3],
}

impl Head {
    /// The number of recorded bytes.
    pub(super) fn bytes(&self) -> usize {
        self.lengths.iter().map(|length| usize::from(*length)).sum()
    }
}

/// The rule that blocked a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) kind: SourceKind,
    pub(super) action: RuleAction,
    pub(super) trigger: Trigger,
}

/// The section of the configuration that the source of a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceKind {
    List,
    Zone,
    Order,
}

impl SourceKind {
    pub(super) fn new(kind: Kind, is_zone: bool) -> Self {
        match kind {
            Kind::Order => Self::Order,
            _ if is_zone => Self::Zone,
            _ => Self::List,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Zone => "zone",
            Self::Order => "order",
        }
    }
}

/// The action of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleAction {
    Plain(crate::policy::rule::Action),
    Records,
    Cname,
    TcpOnly,
}

impl RuleAction {
    pub(super) fn new(blocking: &Blocking) -> Self {
        match &blocking.effect_answer {
            None => Self::Plain(blocking.action),
            Some(EffectAnswer::Records(_)) => Self::Records,
            Some(EffectAnswer::Cname { .. }) => Self::Cname,
            Some(EffectAnswer::TcpOnly) => Self::TcpOnly,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Plain(action) => action.word(),
            Self::Records => "records",
            Self::Cname => "cname",
            Self::TcpOnly => "tcp-only",
        }
    }
}

/// A recorded query.
pub(super) struct Record<'r> {
    pub(super) head: &'r Head,
    /// The name of the source of the rule that blocked it; empty if none did.
    pub(super) source: &'r [u8],
    pub(super) query: &'r [u8],
    /// The answer; empty if it is not recorded.
    pub(super) answer: &'r [u8],
}

impl<'r> Record<'r> {
    /// `bytes` are those that belong to `head`.
    pub(super) fn new(head: &'r Head, bytes: &'r [u8]) -> Self {
        let [source, query, _] = head.lengths.map(usize::from);
        let (source, rest) = bytes.split_at(source.min(bytes.len()));
        let (query, answer) = rest.split_at(query.min(rest.len()));
        Self {
            head,
            source,
            query,
            answer,
        }
    }

    /// The queried name and type; `None` if the query can't be read.
    pub(super) fn question(&self) -> Option<(Name, u16)> {
        let mut name = Name::default();
        let rtype = Query::parse(self.query, &mut name).ok()?.rtype;
        Some((name, rtype))
    }

    /// The name of the source of the rule that blocked it.
    pub(super) fn source(&self) -> &str {
        // Names of sources are ASCII, as the configuration checks.
        std::str::from_utf8(self.source).unwrap_or_default()
    }

    /// Whether a rule blocked it.
    pub(super) fn is_blocked(&self) -> bool {
        self.head.rule.is_some()
    }

    /// The response code. That of a wrong EDNS version is in part in another place of the answer.
    pub(super) fn rcode(&self) -> Option<u16> {
        let rcode = u16::from(self.head.rcode?);
        let is_version = self.head.outcome == Some(Count::EdnsVersion);
        Some(if is_version {
            Rcode::BadVers as u16
        } else {
            rcode
        })
    }

    /// The name that was blocked: the queried one, or the last alias of the answer. `None` if that is not known.
    pub(super) fn blocked_name(&self, asked: &Name, asked_type: u16) -> Option<Name> {
        let is_target = self.head.outcome == Some(Count::BlockedTarget);
        let of_service = matches!(asked_type, rtype::SVCB | rtype::HTTPS);
        match is_target {
            false => Some(asked.clone()),
            // The target of the record itself may have matched.
            true if of_service => None,
            true => last_alias(self.answer, asked),
        }
    }

    /// The name of the rule that blocked it; `None` if the rule is not on a name, or if the blocked name is not known.
    pub(super) fn matched_name(&self, asked: &Name, asked_type: u16) -> Option<Name> {
        let Trigger::Name { labels, .. } = self.head.rule?.trigger else {
            return None;
        };
        let labels = usize::from(labels);
        let name = self.blocked_name(asked, asked_type)?;
        if name.label_count() < labels {
            return None;
        }
        Name::parse(name.ancestor(labels), 0)
            .ok()
            .map(|(name, _)| name)
    }
}

/// The last name of the chain of aliases in an answer. `None` if there is none.
fn last_alias(answer: &[u8], asked: &Name) -> Option<Name> {
    let records = usize::from(read_u16(answer, 6)?);
    let mut at = skip_name(answer, HEADER)?.checked_add(4)?;
    let mut last: Option<Name> = None;
    for _ in 0..records.min(CHAIN_MAX) {
        let (owner, after) = Name::parse_compressed(answer, at).ok()?;
        let rtype = read_u16(answer, after)?;
        let data = after.checked_add(FIXED)?;
        let length = usize::from(read_u16(answer, data - 2)?);
        if rtype == rtype::CNAME && owner == *last.as_ref().unwrap_or(asked) {
            last = Some(Name::parse_compressed(answer, data).ok()?.0);
        }
        at = data.checked_add(length)?;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_alias_of_an_answer_is_found_and_a_broken_answer_has_none() {
        let name = |text| Name::from_text(text).expect("a name");
        let mut answer = b"\0\0\x81\x80\0\x01\0\x02\0\0\0\0".to_vec();
        answer.extend(name("a.example").wire());
        answer.extend(b"\0\x01\0\x01");
        answer.extend(b"\xC0\x0C\0\x05\0\x01\0\0\0\x3C\0\x04\x01b\xC0\x0E");
        answer.extend(b"\xC0\x27\0\x05\0\x01\0\0\0\x3C\0\x04\x01c\xC0\x0E");
        let last = last_alias(&answer, &name("a.example"));
        assert_eq!(last, Some(name("c.example")));
        assert_eq!(last_alias(&answer, &name("z.example")), None);
        for end in 0..answer.len() {
            let found = last_alias(&answer[..end], &name("a.example"));
            assert_eq!(found, None, "of {end} bytes");
        }
    }
}
