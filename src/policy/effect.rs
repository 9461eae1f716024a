//! Effects: what a rule does with the queries that its trigger matches, where that differs from its source.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::rule::{Action, Ede};

/// The bytes that all records of an effect may have in a message: 65,535 bytes without the header, the longest
/// question, and an OPT record with the longest Extended DNS Error.
pub const MAX_RECORD_BYTES: usize = 65_535 - 12 - (255 + 4) - (11 + 4 + 2 + MAX_EXTRA_TEXT);
/// The longest EXTRA-TEXT in bytes.
pub const MAX_EXTRA_TEXT: usize = 1_000;
/// The largest TTL in seconds (RFC 2181, section 8).
pub const MAX_TTL_SECS: u32 = i32::MAX as u32;

/// What a rule does. The default is to do what its source is configured for. The order of effects has no meaning; it
/// only decides between several rules of one source with the same trigger.
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
    /// The name is blocked, and A and AAAA queries are answered with these addresses; others with NODATA.
    Addresses(Vec<Ipv4Addr>, Vec<Ipv6Addr>),
    /// The name is answered from upstream, and its CNAME chain is not checked against block lists.
    Allow,
}

/// Which rules a rule precedes, beside the order of the sources.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Those of later sources; among the rules of its source, those on names that are less deep.
    #[default]
    Usual,
    /// Also all rules of its source in the tier [`Usual`](Self::Usual), at any depth.
    First,
    /// Also all allow lists, and all rules of block lists that are not important.
    Important,
    /// Also all rules in the tier [`Important`](Self::Important) of its source.
    ImportantFirst,
}

impl Tier {
    /// The number of tiers.
    pub const COUNT: usize = 4;
}

/// Why no answer can carry an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// The addresses are too many for one message.
    #[error(
        "its addresses need {bytes} bytes, and an answer has room for {MAX_RECORD_BYTES}: remove some"
    )]
    Records {
        /// The bytes of their records in an answer.
        bytes: usize,
    },
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

impl Effect {
    /// Whether the rule does what its source is configured for, and nothing else.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
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
        let bytes = match &self.action {
            EffectAction::Addresses(v4, v6) => (v4.len() * (12 + 4)).max(v6.len() * (12 + 16)),
            EffectAction::Source | EffectAction::Block(_) | EffectAction::Allow => 0,
        };
        match bytes > MAX_RECORD_BYTES {
            true => Err(EffectError::Records { bytes }),
            false => Ok(()),
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
            assert_eq!(error, Err(EffectError::Records { bytes }));
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
