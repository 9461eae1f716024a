//! What a rule does, so that rules of lists in different formats can be compared.

use std::net::IpAddr;
use std::sync::Arc;

use crate::control::list_file::write::unwritten::Reason;
use crate::policy::condition::Condition;
use crate::policy::effect::{Effect, EffectAction, Tier};
use crate::policy::record::LocalRecord;
use crate::policy::rule::{Action, Kind, Source};
use crate::wire::name::Name;
use crate::wire::rtype;

/// The settings of a list that its rules depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListSettings {
    /// Whether the list allows names.
    pub allows: bool,
    /// The action of rules that do as the list; unused if it allows names.
    pub action: Action,
    /// The TTL of answers that have no other one.
    pub ttl_secs: u32,
}

impl From<&Source> for ListSettings {
    fn from(source: &Source) -> Self {
        Self {
            allows: source.kind == Kind::Allow,
            action: source.blocking.action,
            ttl_secs: source.blocking.ttl_secs,
        }
    }
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) does: Does,
    pub(super) tier: Tier,
    pub(super) condition: Option<Box<Condition>>,
}

/// The kind of answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// That of the list.
    AsList,
    /// The name is allowed by a list that blocks names.
    Allow,
    Block(Action),
    /// The name is an alias.
    Alias {
        target: Arc<Name>,
        ttl_secs: u32,
    },
    /// Records of any type but CNAME, sorted. Each has a TTL.
    Records(Vec<LocalRecord>),
}

impl Meaning {
    /// The meaning of an effect.
    ///
    /// # Errors
    /// If only policy zones have such effects.
    pub(super) fn of(effect: &Effect, list: &ListSettings) -> Result<Self, Reason> {
        let ttl_secs = effect.ttl_secs.unwrap_or(list.ttl_secs);
        let does = match &effect.action {
            EffectAction::Source => Does::AsList,
            // All rules of such a list do the same.
            EffectAction::Allow if list.allows => Does::AsList,
            EffectAction::Allow => Does::Allow,
            EffectAction::Block(action) if does_as_list(*action, effect.tier, list) => Does::AsList,
            EffectAction::Block(action) => Does::Block(*action),
            EffectAction::Cname {
                target,
                prepend: false,
            } => Does::Alias {
                target: Arc::clone(target),
                ttl_secs,
            },
            EffectAction::Addresses(v4, v6) => {
                let v4 = v4.iter().copied().map(IpAddr::from);
                let all = v4.chain(v6.iter().copied().map(IpAddr::from));
                records(all.map(LocalRecord::address), ttl_secs)
            }
            EffectAction::Records(own) => records(own.iter().cloned(), ttl_secs),
            EffectAction::Cname { prepend: true, .. }
            | EffectAction::TcpOnly
            | EffectAction::Void => return Err(Reason::Answer),
        };
        let has_records = matches!(does, Does::Alias { .. } | Does::Records(_));
        if effect.ttl_secs.is_some() && !has_records {
            return Err(Reason::Ttl);
        }
        if effect.ede.is_some() || effect.extra_text.is_some() || effect.as_written {
            return Err(Reason::Answer);
        }
        // In a list that allows names, no rule that allows one overrides another that does.
        let tier = match list.allows && does == Does::AsList {
            true => Tier::Usual,
            false => effect.tier,
        };
        Ok(Self {
            does,
            tier,
            condition: effect.condition.clone(),
        })
    }
}

/// Whether an action that a rule names is that of its list anyway. A rewrite is kept as one.
fn does_as_list(action: Action, tier: Tier, list: &ListSettings) -> bool {
    !list.allows && action == list.action && tier == Tier::Usual
}

/// The answer with these records. A single CNAME record is an alias.
fn records(records: impl Iterator<Item = LocalRecord>, ttl_secs: u32) -> Does {
    let with_ttl = |mut record: LocalRecord| {
        record.ttl_secs.get_or_insert(ttl_secs);
        record
    };
    let mut records: Vec<_> = records.map(with_ttl).collect();
    if let [only] = &records[..]
        && only.rtype == rtype::CNAME
        && let Some(target) = only.cname_target()
    {
        return Does::Alias {
            target: Arc::new(target),
            ttl_secs: only.ttl_secs.unwrap_or(ttl_secs),
        };
    }
    records.sort_unstable_by(|one, other| (one.rtype, &one.data).cmp(&(other.rtype, &other.data)));
    Does::Records(records)
}
