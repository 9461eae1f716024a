//! Effects: what a rule does with the queries that its trigger matches, where that differs from its source.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::condition::{Condition, ConditionError};
use super::record::{self, LocalRecord, RECORD_OVERHEAD, RecordError};
use super::record::{MAX_EXTRA_TEXT, MAX_RECORD_BYTES, MAX_TTL_SECS};
use super::rule::{Action, Ede, Scope};
use crate::wire::name::Name;
use crate::wire::rtype;

/// The largest [size](Effect::size) of all distinct effects of one list or feed together. Real policy zones have a few distinct
/// effects for millions of names; this is room for 1,000 times the longest records that an answer can carry, or for 100,000
/// different redirects. Without a limit, a hostile primary fills the memory.
pub const MAX_DATA: usize = 64 << 20;

/// The effect of a rule on the queries that it matches. By default, the rule does what its source is configured for.
/// The comparison of effects only decides between rules of one source and tier that have the same trigger, or that are
/// patterns: the rule with the lowest effect applies. The default effect is the lowest. Answers without records precede aliases,
/// and these precede records, as for the rewrites of adblock lists. Apart from that, the order is arbitrary.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// The kind of answer.
    pub action: EffectAction,
    /// The precedence of the rule among those of its source, and of other sources.
    pub tier: Tier,
    /// TTL of a synthesized answer in seconds, in place of the source's.
    pub ttl_secs: Option<u32>,
    /// The Extended DNS Error, in place of the source's.
    pub ede: Option<Ede>,
    /// Its EXTRA-TEXT, in place of the source's.
    pub extra_text: Option<String>,
    /// Whether NXDOMAIN is sent even if a name below is decided otherwise, as the rules of policy zones require.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_written: bool,
    /// The queries that the rule is limited to, among those that its trigger matches; all if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Box<Condition>>,
}

/// The kind of answer that an effect leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectAction {
    /// That of the source: its action, or none if it is an allow list or an exception.
    #[default]
    Source,
    /// The name is blocked with this action, in place of the source's.
    Block(Action),
    /// The name is an alias of another name, whose records come from upstream and are not checked against the policy.
    /// The name is allowed if it is the target itself.
    Cname {
        /// The other name; with `prepend`, its suffix.
        target: Arc<Name>,
        /// Whether the other name is the queried name followed by `target`: `www.example` becomes
        /// `www.example.garden.test`.
        prepend: bool,
    },
    /// The name is blocked, and A and AAAA queries are answered with these addresses; others with NODATA.
    Addresses(Vec<Ipv4Addr>, Vec<Ipv6Addr>),
    /// The name is blocked, and a query is answered with those of these records that have its type; with NODATA if there
    /// are none. A single CNAME record acts as [`Cname`](Self::Cname).
    Records(Vec<LocalRecord>),
    /// Over UDP the answer is empty and truncated, so that the client asks over TCP, where the name is allowed.
    TcpOnly,
    /// The name is answered from upstream, and its CNAME chain is not checked against block lists.
    Allow,
    /// Not an effect of a rule, but a mark in an image that amends its source: the rules of the source on exactly this name
    /// in the base are void. With the scope below, it only says that all those on names below are void.
    Void,
}

/// The rules that a rule precedes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Rules of later sources; among the rules of its source, those on names with fewer labels.
    #[default]
    Usual,
    /// Also all rules of its source in the tier [`Usual`](Self::Usual), at any depth.
    First,
    /// Also all rules of its source in the tier [`First`](Self::First). In a block list, also all allow lists, and all
    /// rules of block lists that are not important.
    Important,
    /// Also all rules in the tier [`Important`](Self::Important) of its source.
    ImportantFirst,
    /// Also all other rules of its source, as the `$dnsrewrite` rules of adblock lists require. Precedes rules of other
    /// sources like [`Important`](Self::Important).
    Rewrite,
}

impl Tier {
    /// The number of tiers.
    pub const COUNT: usize = 5;
}

/// A reason why no answer can carry an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// Its records or addresses can't be an answer.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The target of a CNAME is the name that the rule is on.
    #[error("its CNAME leads from a name to the same name: remove the rule, or allow the name")]
    CnameToItself,
    /// The queried name is to be followed by the root, so the CNAME would lead to itself.
    #[error(
        "its CNAME appends the root to the queried name, which changes nothing: write another target"
    )]
    PrependToRoot,
    /// Its condition is empty or too large.
    #[error(transparent)]
    Condition(#[from] ConditionError),
    /// The mark of an amendment in another place.
    #[error(
        "it voids other rules, which only the amendments of a source can do: this is a bug; please report it"
    )]
    Void,
    /// The TTL is too large.
    #[error("its TTL is {secs} s; write at most {MAX_TTL_SECS}")]
    Ttl {
        /// The TTL in seconds.
        secs: u32,
    },
    /// The text is too long.
    #[error("its text has {bytes} bytes; write at most {MAX_EXTRA_TEXT}")]
    Text {
        /// The bytes of the text.
        bytes: usize,
    },
}

/// The effect with an action, and all else as its source has it.
impl From<EffectAction> for Effect {
    fn from(action: EffectAction) -> Self {
        Self {
            action,
            ..Self::default()
        }
    }
}

impl Effect {
    /// The effect of the mark that voids the rules on a name.
    pub fn void() -> Self {
        EffectAction::Void.into()
    }

    /// Whether this is the mark that voids the rules on a name.
    pub fn is_void(&self) -> bool {
        matches!(self.action, EffectAction::Void)
    }

    /// Whether the rule does what its source is configured for, and nothing else.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a rule with this effect applies to a name that its trigger matches, given the type of the query. If that is
    /// `None`, no rule with a condition applies.
    pub fn applies_to(&self, name: &Name, qtype: Option<u16>) -> bool {
        let Some(condition) = &self.condition else {
            return true;
        };
        qtype.is_some_and(|qtype| condition.holds(name, qtype))
    }

    /// The effect that answers with the records of both, if they have the same [`common`](Self::common) part, and an answer can
    /// carry all records.
    pub fn joined(&self, other: &Self) -> Option<Self> {
        let is_alike = self.common()? == other.common()?;
        let joined = is_alike.then(|| Self::join(&[self, other]))?;
        <[_; 1]>::try_from(joined).ok().map(|[joined]| joined)
    }

    /// What effects must have in common to be [joined](Self::join): all but their records and TTLs, and a CNAME record.
    /// `None` if the effect does not answer with records.
    pub fn common(&self) -> Option<Self> {
        let EffectAction::Records(records) = &self.action else {
            return None;
        };
        let aliases = records
            .iter()
            .filter(|record| record.rtype == rtype::CNAME)
            .map(|record| LocalRecord {
                ttl_secs: None,
                ..record.clone()
            });
        // The records are not copied first, because there may be thousands of them.
        Some(Self {
            action: EffectAction::Records(aliases.collect()),
            tier: self.tier,
            ttl_secs: None,
            ede: self.ede,
            extra_text: self.extra_text.clone(),
            as_written: self.as_written,
            condition: self.condition.clone(),
        })
    }

    /// Joins effects with the same [`common`](Self::common) into one that answers with the records of all. The order of the
    /// records is that of their types and data, whichever effect had them. If no answer can carry all records, further
    /// effects follow with the others.
    pub fn join(effects: &[&Self]) -> Vec<Self> {
        let records = effects.iter().filter_map(|effect| match &effect.action {
            EffectAction::Records(records) => Some(records),
            _ => None,
        });
        let mut records: Vec<_> = records.flatten().collect();
        records.sort_unstable_by(|one, other| {
            let data = (one.rtype, &one.data).cmp(&(other.rtype, &other.data));
            data.then(one.ttl_secs.cmp(&other.ttl_secs))
        });
        records.dedup_by(|other, one| (one.rtype, &one.data) == (other.rtype, &other.data));
        let ttl_secs = effects.iter().map(|effect| effect.ttl_secs).min().flatten();
        let answers = record::answers(&records).into_iter();
        let joined = answers.map(|records| Self {
            action: EffectAction::Records(records),
            ttl_secs,
            ..effects[0].clone()
        });
        joined.collect()
    }

    /// The bytes of memory that it takes.
    pub fn size(&self) -> usize {
        let record = |record: &LocalRecord| size_of::<LocalRecord>() + record.data.len();
        let action = match &self.action {
            EffectAction::Addresses(v4, v6) => size_of_val(&v4[..]) + size_of_val(&v6[..]),
            EffectAction::Records(records) => records.iter().map(record).sum(),
            EffectAction::Cname { .. } => size_of::<Name>(),
            EffectAction::Source
            | EffectAction::Block(_)
            | EffectAction::TcpOnly
            | EffectAction::Allow
            | EffectAction::Void => 0,
        };
        let text = self.extra_text.as_ref().map_or(0, String::len);
        let condition = self
            .condition
            .as_ref()
            .map_or(0, |condition| condition.size());
        size_of::<Self>() + action + text + condition
    }

    /// Checks that an answer can carry the effect.
    ///
    /// # Errors
    /// [`EffectError`]
    pub fn check(&self) -> Result<(), EffectError> {
        if let Some(secs) = self.ttl_secs
            && secs > MAX_TTL_SECS
        {
            return Err(EffectError::Ttl { secs });
        }
        if let Some(text) = &self.extra_text
            && text.len() > MAX_EXTRA_TEXT
        {
            return Err(EffectError::Text { bytes: text.len() });
        }
        if let Some(condition) = &self.condition {
            condition.check()?;
        }
        match &self.action {
            EffectAction::Addresses(v4, v6) => {
                let bytes =
                    (v4.len() * (RECORD_OVERHEAD + 4)).max(v6.len() * (RECORD_OVERHEAD + 16));
                match bytes > MAX_RECORD_BYTES {
                    true => Err(RecordError::TooMany { bytes }.into()),
                    false => Ok(()),
                }
            }
            EffectAction::Records(records) => Ok(record::check(records)?),
            EffectAction::Cname {
                target,
                prepend: true,
            } if target.label_count() == 0 => Err(EffectError::PrependToRoot),
            EffectAction::Void if *self != Self::void() => Err(EffectError::Void),
            EffectAction::Source
            | EffectAction::Block(_)
            | EffectAction::Cname { .. }
            | EffectAction::TcpOnly
            | EffectAction::Allow
            | EffectAction::Void => Ok(()),
        }
    }

    /// Checks that the effect makes sense for a rule with this trigger.
    ///
    /// # Errors
    /// [`EffectError::CnameToItself`], or [`EffectError::Void`] for a mark with the scope subtree.
    pub fn check_trigger(
        &self,
        owner: impl FnOnce() -> Name,
        scope: Scope,
    ) -> Result<(), EffectError> {
        let target = match &self.action {
            EffectAction::Void if scope == Scope::Subtree => return Err(EffectError::Void),
            EffectAction::Cname {
                target,
                prepend: false,
            } => Some((**target).clone()),
            EffectAction::Records(records) => records.first().and_then(LocalRecord::cname_target),
            _ => None,
        };
        // With another scope, the target is one of many names to which the rule applies.
        match target {
            Some(target) if scope == Scope::Exact && target == owner() => {
                Err(EffectError::CnameToItself)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
impl Effect {
    /// One of many effects that need much memory.
    pub(crate) fn large(number: u32) -> Self {
        let mut data = [&[255][..], &[b'x'; 255]].concat().repeat(195);
        data[1..5].copy_from_slice(&number.to_be_bytes());
        let record = LocalRecord {
            rtype: rtype::TXT,
            ttl_secs: None,
            data: data.into(),
        };
        Self {
            action: EffectAction::Records(vec![record]),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_effect_precedes_all_others() {
        let others = [
            EffectAction::Block(Action::Nxdomain),
            EffectAction::Addresses(Vec::new(), Vec::new()),
            EffectAction::Records(Vec::new()),
            EffectAction::TcpOnly,
            EffectAction::Allow,
        ];
        let of = |action| Effect {
            action,
            ..Effect::default()
        };
        for effect in others.map(of) {
            assert!(Effect::default() < effect && !effect.is_default());
        }
        let ttl = Effect {
            ttl_secs: Some(0),
            ..Effect::default()
        };
        assert!(Effect::default() < ttl);
    }

    #[test]
    fn effects_are_joined_if_they_differ_in_their_records_alone_and_an_answer_can_carry_all() {
        let record = |last: u8, ttl_secs| LocalRecord {
            rtype: rtype::A,
            ttl_secs: Some(ttl_secs),
            data: [192, 0, 2, last][..].into(),
        };
        let of = |records: &[LocalRecord], ttl_secs| Effect {
            action: EffectAction::Records(records.to_vec()),
            ttl_secs: Some(ttl_secs),
            ..Effect::default()
        };
        let one = of(&[record(1, 60), record(2, 60)], 60);
        let other = of(&[record(3, 30), record(1, 30)], 30);
        let joined = of(&[record(1, 30), record(2, 60), record(3, 30)], 30);
        assert_eq!(one.joined(&other), Some(joined.clone()));
        assert_eq!(other.joined(&one), Some(joined.clone()));
        assert_eq!(Effect::join(&[&one, &joined, &other]), [joined]);
        let as_written = Effect {
            as_written: true,
            ..other
        };
        let alias = LocalRecord {
            rtype: rtype::CNAME,
            ttl_secs: Some(60),
            data: b"\x01x\x00"[..].into(),
        };
        let alias = of(&[alias], 60);
        assert_eq!(one.joined(&as_written), None);
        assert_eq!(one.joined(&alias), None, "a CNAME record is alone");
        assert_eq!(one.joined(&Effect::default()), None);
        let [one, other] = [0, 1].map(Effect::large);
        assert_eq!(one.joined(&other), None);
        let joined = Effect::join(&[&one, &other, &one]);
        assert!(joined.len() > 1 && joined.iter().all(|effect| effect.check().is_ok()));
    }

    #[test]
    fn an_effect_that_no_answer_can_carry_is_an_error() {
        let addresses = |v4, v6| Effect {
            action: EffectAction::Addresses(
                vec![Ipv4Addr::UNSPECIFIED; v4],
                vec![Ipv6Addr::UNSPECIFIED; v6],
            ),
            ..Effect::default()
        };
        let most = (MAX_RECORD_BYTES / 16, MAX_RECORD_BYTES / 28);
        assert_eq!(addresses(most.0, most.1).check(), Ok(()));
        for (v4, v6, bytes) in [
            (most.0 + 1, 0, (most.0 + 1) * 16),
            (0, most.1 + 1, (most.1 + 1) * 28),
        ] {
            let error = addresses(v4, v6).check();
            assert_eq!(error, Err(RecordError::TooMany { bytes }.into()));
        }
        let ttl = |secs| Effect {
            ttl_secs: Some(secs),
            ..Effect::default()
        };
        assert_eq!(ttl(MAX_TTL_SECS).check(), Ok(()));
        let secs = MAX_TTL_SECS + 1;
        assert_eq!(ttl(secs).check(), Err(EffectError::Ttl { secs }));
        let text = |bytes| Effect {
            extra_text: Some("x".repeat(bytes)),
            ..Effect::default()
        };
        assert_eq!(text(MAX_EXTRA_TEXT).check(), Ok(()));
        let bytes = MAX_EXTRA_TEXT + 1;
        assert_eq!(text(bytes).check(), Err(EffectError::Text { bytes }));
    }
}
