//! The meaning of a rule, so that rules of lists in different formats can be compared.

use std::net::IpAddr;
use std::sync::Arc;

use crate::control::list_file::write::reason::Reason;
use crate::policy::condition::Condition;
use crate::policy::effect::{Effect, EffectAction, Tier};
use crate::policy::record::LocalRecord;
use crate::policy::rule::{Action, Kind, Source};
use crate::wire::name::Name;
use crate::wire::rtype;

/// The settings of a list that its rules depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListSettings {
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

/// The meaning of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) does: Does,
    pub(super) tier: Tier,
    pub(super) condition: Option<Box<Condition>>,
    /// The TTL of an answer without records, and of an alias.
    pub(super) ttl_secs: u32,
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
    Alias(Arc<Name>),
    /// Records of any type but CNAME, sorted. Each has a TTL.
    Records(Vec<LocalRecord>),
}

impl Meaning {
    /// The meaning of an effect. Whether NXDOMAIN is answered as written makes no difference: other programs know no other
    /// way.
    ///
    /// # Errors
    /// If only policy zones have such effects.
    pub(super) fn of(effect: &Effect, list: &ListSettings) -> Result<Self, Reason> {
        let is_other = effect.ede.is_some() || effect.extra_text.is_some();
        let ttl_secs = effect.ttl_secs.unwrap_or(list.ttl_secs);
        let (does, ttl_secs) = match &effect.action {
            _ if is_other => return Err(Reason::Answer),
            EffectAction::Source => (Does::AsList, ttl_secs),
            // All rules of such a list do the same.
            EffectAction::Allow if list.allows => (Does::AsList, ttl_secs),
            EffectAction::Allow => (Does::Allow, ttl_secs),
            EffectAction::Block(action) => (Does::Block(*action), ttl_secs),
            EffectAction::Cname {
                target,
                prepend: false,
            } => (Does::Alias(Arc::clone(target)), ttl_secs),
            EffectAction::Addresses(v4, v6) => {
                let v4 = v4.iter().copied().map(IpAddr::from);
                let all = v4.chain(v6.iter().copied().map(IpAddr::from));
                records(all.map(LocalRecord::address), effect.tier, ttl_secs)
            }
            EffectAction::Records(own) => records(own.iter().cloned(), effect.tier, ttl_secs),
            EffectAction::Cname { prepend: true, .. }
            | EffectAction::TcpOnly
            | EffectAction::Void => return Err(Reason::Answer),
        };
        // In a list that allows names, no rule that allows one overrides another that does.
        let tier = match list.allows && does == Does::AsList {
            true => Tier::Usual,
            false => effect.tier,
        };
        Ok(Self {
            does,
            tier,
            condition: effect.condition.clone(),
            ttl_secs,
        })
    }

    /// Whether the rule does what its list does, in these words or in others. A rewrite is kept as one.
    pub(super) fn is_as_list(&self, list: &ListSettings) -> bool {
        match self.does {
            Does::AsList => true,
            Does::Block(action) => {
                !list.allows && action == list.action && self.tier == Tier::Usual
            }
            Does::Allow | Does::Alias(_) | Does::Records(_) => false,
        }
    }

    /// Whether an answer has another TTL than that of its list.
    pub(super) fn has_own_ttl(&self, list: &ListSettings) -> bool {
        let is_own = |ttl_secs: u32| ttl_secs != list.ttl_secs;
        match &self.does {
            Does::Records(records) => {
                let mut ttls = records.iter().filter_map(|record| record.ttl_secs);
                ttls.any(is_own)
            }
            Does::AsList | Does::Allow | Does::Block(_) | Does::Alias(_) => is_own(self.ttl_secs),
        }
    }

    /// The same with the TTL of the list, and without the words for what the list does anyway, for comparisons.
    pub(super) fn without_ttl(mut self, list: &ListSettings) -> Self {
        if let Does::Records(records) = &mut self.does {
            let ttls = records.iter_mut().map(|record| &mut record.ttl_secs);
            ttls.for_each(|ttl_secs| *ttl_secs = Some(list.ttl_secs));
        }
        self.ttl_secs = list.ttl_secs;
        self.normalized(list)
    }

    /// The same without the words for what the list does anyway, for comparisons.
    pub(super) fn normalized(mut self, list: &ListSettings) -> Self {
        if self.is_as_list(list) {
            self.does = Does::AsList;
        }
        // Each record has its own.
        if let Does::Records(_) = self.does {
            self.ttl_secs = list.ttl_secs;
        }
        self
    }
}

/// The answer with these records, and its TTL. A single CNAME record is an alias. Addresses that lead nowhere block a name,
/// unless they are those of a rewrite, as in the formats of other programs.
fn records(records: impl Iterator<Item = LocalRecord>, tier: Tier, ttl_secs: u32) -> (Does, u32) {
    let with_ttl = |mut record: LocalRecord| {
        record.ttl_secs.get_or_insert(ttl_secs);
        record
    };
    let mut records: Vec<_> = records.map(with_ttl).collect();
    let first_ttl = records.first().and_then(|record| record.ttl_secs);
    let first_ttl = first_ttl.unwrap_or(ttl_secs);
    if let [only] = &records[..]
        && let Some(target) = only.cname_target()
    {
        return (Does::Alias(Arc::new(target)), first_ttl);
    }
    let leads_nowhere = |record: &LocalRecord| {
        matches!(record.rtype, rtype::A | rtype::AAAA) && record.data.iter().all(|byte| *byte == 0)
    };
    if tier == Tier::Usual && !records.is_empty() && records.iter().all(leads_nowhere) {
        return (Does::Block(Action::Sinkhole), first_ttl);
    }
    records.sort_unstable_by(|one, other| (one.rtype, &one.data).cmp(&(other.rtype, &other.data)));
    (Does::Records(records), ttl_secs)
}
