//! The data of a record in a policy zone, and the effect that it stands for.

use serde::{Deserialize, Serialize};

use super::overrides::redirect;
use crate::policy::effect::{Effect, EffectAction};
use crate::policy::record::MAX_TTL_SECS;
use crate::policy::rule::Action;
use crate::wire::name::Name;

/// Why the data of a CNAME record is no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnusableData {
    /// The data is no name.
    #[error("the data is not valid for its type")]
    Malformed,
    /// An unknown name that begins with `rpz-`.
    #[error(
        "the action is unknown; known are `.`, `*.`, rpz-passthru., rpz-drop., rpz-tcp-only. and names"
    )]
    UnknownAction,
}

/// The targets of CNAME records that stand for actions; NXDOMAIN is the root.
pub(super) const PASSTHRU: &[u8] = b"rpz-passthru";
pub(super) const DROP: &[u8] = b"rpz-drop";
pub(super) const TCP_ONLY: &[u8] = b"rpz-tcp-only";
/// Alone, it stands for NODATA. Before other labels, it stands for the queried name.
pub(super) const WILDCARD: &[u8] = b"*";
/// All other targets that end with a label that begins so are reserved for the draft.
const RESERVED: &[u8] = b"rpz-";

/// The action of a CNAME record to `target` (section 3 of the draft).
///
/// # Errors
/// [`UnusableData::UnknownAction`]
pub(super) fn of_cname(target: &Name) -> Result<EffectAction, UnusableData> {
    let labels = target.label_count();
    if labels == 0 {
        return Ok(EffectAction::Block(Action::Nxdomain));
    }
    let first = target.label_from_root(0);
    match (labels, first) {
        (1, WILDCARD) => Ok(EffectAction::Block(Action::Nodata)),
        (1, PASSTHRU) => Ok(EffectAction::Allow),
        (1, DROP) => Ok(EffectAction::Block(Action::Drop)),
        (1, TCP_ONLY) => Ok(EffectAction::TcpOnly),
        _ if first.starts_with(RESERVED) => Err(UnusableData::UnknownAction),
        _ => Ok(redirect(target)),
    }
}

/// The effect with this action, of a record with this TTL. NXDOMAIN is sent as the zone says, whatever other names the
/// policy has below.
pub(super) fn effect(action: EffectAction, ttl_secs: u32) -> Effect {
    let has_answer = !matches!(
        action,
        EffectAction::Allow | EffectAction::TcpOnly | EffectAction::Block(Action::Drop)
    );
    Effect {
        as_written: action == EffectAction::Block(Action::Nxdomain),
        ttl_secs: has_answer.then(|| usable_ttl(ttl_secs)),
        action,
        ..Effect::default()
    }
}

/// A TTL as a receiver must use it: more than 2^31 - 1 counts as 0 (RFC 2181, section 8).
pub(super) fn usable_ttl(ttl_secs: u32) -> u32 {
    if ttl_secs > MAX_TTL_SECS { 0 } else { ttl_secs }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    #[test]
    fn targets_of_cname_records_stand_for_actions() {
        let redirect = |target: &str, prepend| EffectAction::Cname {
            target: Arc::new(name(target)),
            prepend,
        };
        for (target, action) in [
            (".", EffectAction::Block(Action::Nxdomain)),
            ("*", EffectAction::Block(Action::Nodata)),
            ("rpz-passthru", EffectAction::Allow),
            ("RPZ-Drop", EffectAction::Block(Action::Drop)),
            ("rpz-tcp-only", EffectAction::TcpOnly),
            ("garden.test", redirect("garden.test", false)),
            ("*.garden.test", redirect("garden.test", true)),
            ("a.rpz-drop.test", redirect("a.rpz-drop.test", false)),
        ] {
            let found = of_cname(&name(target));
            assert_eq!(found, Ok(action), "{target}");
        }
        for target in ["rpz-other", "a.rpz-drop"] {
            let found = of_cname(&name(target));
            assert_eq!(found, Err(UnusableData::UnknownAction), "{target}");
        }
    }

    #[test]
    fn a_ttl_with_the_top_bit_set_counts_as_0() {
        let ttl_of = |action, ttl_secs| effect(action, ttl_secs).ttl_secs;
        assert_eq!(
            ttl_of(EffectAction::Block(Action::Nodata), 1 << 31),
            Some(0)
        );
        assert_eq!(ttl_of(EffectAction::Block(Action::Nodata), 7), Some(7));
        assert_eq!(
            ttl_of(EffectAction::Allow, 7),
            None,
            "it synthesizes no answer"
        );
    }
}
