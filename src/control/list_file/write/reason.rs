//! The reasons why a format can't express a rule.

/// Why a rule can't be written in a format. The text follows a number of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// The format has no rules on single names.
    #[error("on a name without those below it")]
    Exact,
    /// The format has no rules on names with those below them.
    #[error("on a name and all names below it")]
    Subtree,
    /// The format has no rules on names below others.
    #[error("on all names below a name")]
    Below,
    /// The name would be read as something else.
    #[error("on names that the format can't have")]
    Name,
    /// The format has no such patterns.
    #[error("with patterns")]
    Pattern,
    /// The format has no networks.
    #[error("on networks")]
    Network,
    /// The format has no rules that allow names.
    #[error("that allow names")]
    Allow,
    /// The format does not have this answer.
    #[error("with answers of their own")]
    Answer,
    /// In the format, the rule would precede other rules.
    #[error("with another precedence")]
    Precedence,
    /// The format has no conditions.
    #[error("for some queries only")]
    Condition,
    /// The format has only one of the rules on this name.
    #[error("beside another rule on the same name")]
    Beside,
}
