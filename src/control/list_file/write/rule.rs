//! A rule that is to be written.

use crate::control::list_file::write::meaning::{Does, ListSettings, Meaning};
use crate::control::list_file::write::reason::Reason;
use crate::policy::effect::Tier;
use crate::policy::prefix::Prefix;
use crate::policy::record::LocalRecord;
use crate::policy::rule::Scope;
use crate::wire::name::Name;
use crate::wire::rtype;

/// A rule of a list.
pub(super) struct Rule<'r> {
    pub(super) trigger: Trigger<'r>,
    pub(super) meaning: &'r Meaning,
    pub(super) list: &'r ListSettings,
}

/// What a rule matches.
#[derive(Clone, Copy)]
pub(super) enum Trigger<'r> {
    Name(&'r Name, Scope),
    /// A regular expression.
    Pattern(&'r str),
    Network(Prefix),
}

impl<'r> Rule<'r> {
    /// The name and the scope of a rule that is on a name other than the root.
    pub(super) fn name(&self) -> Result<(&'r Name, Scope), Reason> {
        match self.trigger {
            Trigger::Name(name, scope) if name.label_count() > 0 => Ok((name, scope)),
            Trigger::Name(..) => Err(Reason::Name),
            Trigger::Pattern(_) => Err(Reason::Pattern),
            Trigger::Network(_) => Err(Reason::Network),
        }
    }

    /// Checks that the rule has the usual precedence and no condition. In formats other than adblock, no rule has another
    /// one.
    pub(super) fn is_usual(&self) -> Result<(), Reason> {
        match (&self.meaning.condition, self.meaning.tier) {
            (Some(_), _) => Err(Reason::Condition),
            (None, Tier::Usual) => Ok(()),
            (None, _) => Err(Reason::Precedence),
        }
    }

    /// Checks that the rule does no more than its list is configured for.
    pub(super) fn does_as_list(&self) -> Result<(), Reason> {
        match self.meaning.does {
            _ if self.meaning.is_as_list(self.list) => self.is_usual(),
            Does::Allow => Err(Reason::Allow),
            _ => Err(Reason::Answer),
        }
    }
}

/// Checks that an answer has addresses and nothing else.
pub(super) fn are_addresses(records: &[LocalRecord]) -> Result<(), Reason> {
    let is_address = |record: &LocalRecord| matches!(record.rtype, rtype::A | rtype::AAAA);
    match !records.is_empty() && records.iter().all(is_address) {
        true => Ok(()),
        false => Err(Reason::Answer),
    }
}
