//! The rule of a list as it was read.

use crate::policy::effect::Effect;
use crate::policy::prefix::Prefix;
use crate::policy::rpz::{ZoneRule, ZoneTrigger};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// A rule of a list.
#[derive(Clone, Copy, Debug)]
pub struct ParsedRule<'r> {
    /// What it matches.
    pub trigger: ParsedTrigger<'r>,
    /// What it does; `None` is the default effect, which all rules of most formats have.
    pub effect: Option<&'r Effect>,
    /// Its line; 1 is the first.
    pub line: u32,
}

/// The rule of a policy zone.
impl<'r> From<ZoneRule<'r>> for ParsedRule<'r> {
    fn from(rule: ZoneRule<'r>) -> Self {
        Self {
            trigger: match rule.trigger {
                ZoneTrigger::Name(scope) => ParsedTrigger::Name(rule.name, *scope),
                ZoneTrigger::Network(prefix) => ParsedTrigger::Network(*prefix),
            },
            effect: Some(rule.effect),
            line: rule.line,
        }
    }
}

/// The trigger of a list's rule.
#[derive(Clone, Copy, Debug)]
pub enum ParsedTrigger<'r> {
    /// A name and the names below it, as the scope says.
    Name(&'r Name, Scope),
    /// A network of clients or of answers.
    Network(Prefix),
    /// A regular expression that is searched for in names: see [`PatternSet`](crate::policy::patterns::PatternSet).
    Pattern(&'r str),
}
