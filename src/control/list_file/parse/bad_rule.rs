//! The problems that a rule with a pattern or modifiers can have.

use serde::{Deserialize, Serialize};

use crate::policy::condition::{MAX_EXCEPT, MAX_TYPES};
use crate::policy::patterns::{
    LIST_COMPARED, LIST_FILTERED_RUNS, LIST_UNFILTERED_AUTOMATA, LIST_UNFILTERED_MEMORY,
    MAX_PATTERNS, MAX_UNFILTERED, Problem,
};

/// The most lines with `$badfilter` in a list.
pub(super) const MAX_VOIDING: usize = 100_000;
/// The most rules of a list that take rewrites back. Every rewrite is compared with all of them.
pub(super) const MAX_REWRITE_EXCEPTIONS: usize = 1000;
/// The most of these rules whose patterns are compiled, each alone.
pub(super) const MAX_REWRITE_PATTERNS: usize = 100;

/// The most parts of rewrites beside the rewrites themselves into which the exceptions of a list may divide them.
pub(super) const MAX_PARTS: usize = 10_000;

/// Why a rule with a pattern or modifiers can't be applied. Images store a variant's name, so it can't be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadRule {
    /// A pattern that matches almost everything, and no modifier that limits it.
    #[error(
        "matches too many names; write a longer pattern, or limit it with `$dnstype` or `$denyallow`"
    )]
    TooWide,
    /// The text between slashes is no regular expression, or uses a feature that takes more than linear time.
    #[error("not a regular expression; look-around and back-references are not supported")]
    BadRegex,
    /// A pattern with characters that no name has.
    #[error(
        "a pattern with characters that no name has; write names in other scripts in their ASCII form (xn--...)"
    )]
    PatternCharacter,
    /// A pattern that matches every name.
    #[error("a pattern that matches every name; make it more specific")]
    MatchesEverything,
    /// A pattern that matches no name.
    #[error("a pattern that matches no name; remove it")]
    MatchesNothing,
    /// A pattern whose automaton is too large.
    #[error("a pattern that is too large; use smaller counts in braces, or split it")]
    PatternTooLarge,
    /// Too many patterns without a fixed text.
    #[error(
        "the list has more than {MAX_UNFILTERED} patterns without a fixed text of three characters, which are matched \
         against every name; add a text that the names must contain"
    )]
    Unfiltered,
    /// Too many patterns look for the same text.
    #[error("looks for the same text as many other patterns; combine some of them")]
    TooManyAlike,
    /// The patterns without a fixed text are too much work.
    #[error(
        "the patterns of the list without a fixed text of three characters, which are matched against every name, need more \
         than {LIST_UNFILTERED_AUTOMATA} automata or {} KiB; add a text that the names must contain, or use smaller \
         counts in braces",
        LIST_UNFILTERED_MEMORY >> 10
    )]
    UnfilteredWork,
    /// The patterns that look for the same texts are too much work.
    #[error(
        "the patterns of the list may need more than {LIST_FILTERED_RUNS} automata or {LIST_COMPARED} comparisons for one \
         name, as too many of them look for the same texts as this one; combine or remove some of them"
    )]
    AlikeWork,
    /// The list has too many patterns.
    #[error("the list has more than {MAX_PATTERNS} patterns; remove some")]
    TooManyPatterns,
    /// The patterns of the list are too large in all.
    #[error("the patterns of the list up to this one are too large in all; remove some")]
    PatternsTooLarge,
    /// The value of `$dnstype`.
    #[error("`$dnstype` needs types, as in `$dnstype=A|AAAA` or `$dnstype=~A`")]
    DnsType,
    /// The value of `$denyallow`.
    #[error("`$denyallow` needs names, as in `$denyallow=a.example|b.example`")]
    DenyAllow,
    /// The value of `$dnsrewrite`.
    #[error(
        "`$dnsrewrite` needs an address, a name, NOERROR, NXDOMAIN, REFUSED, or RCODE;TYPE;VALUE with a value that the \
         type allows"
    )]
    DnsRewrite,
    /// A record type that rewrites can't have.
    #[error("a rewrite to a type other than A, AAAA, CNAME, HTTPS, MX, PTR, SRV, SVCB and TXT")]
    RewriteType,
    /// A rewrite of a name to itself.
    #[error("a rewrite of a name to itself, which changes nothing")]
    RewriteToItself,
    /// The effect is too large.
    #[error("the modifiers have too many values; split the rule")]
    TooManyValues,
    /// Exceptions leave a part of a rewrite that is no rule.
    #[error(
        "the exceptions with `$dnsrewrite` leave out more than {MAX_EXCEPT} names or {MAX_TYPES} types of a part of the \
         rewrite, so this part is not rewritten; write rewrites of the names that are to be rewritten"
    )]
    PartLeavesOutTooMuch,
    /// Too many lines that take rules back.
    #[error(
        "the list has more than {MAX_VOIDING} lines with `$badfilter`, or more than {MAX_REWRITE_EXCEPTIONS} with `@@` \
         and `$dnsrewrite`, or {MAX_REWRITE_PATTERNS} of these with a pattern; remove the rules that they take back"
    )]
    TooManyTakenBack,
    /// Exceptions leave many small parts of rewrites.
    #[error(
        "the exceptions with `$dnsrewrite` divide the rewrites of the list into more than {MAX_PARTS} further rules; remove \
         some"
    )]
    TooManyParts,
}

impl From<&Problem> for BadRule {
    fn from(problem: &Problem) -> Self {
        match problem {
            Problem::Syntax(_) | Problem::UnicodeBoundary => Self::BadRegex,
            Problem::NotAscii(_) | Problem::Control(_) => Self::PatternCharacter,
            Problem::TooLong(_) | Problem::TooLarge => Self::PatternTooLarge,
            Problem::MatchesEmpty | Problem::MatchesEverything => Self::MatchesEverything,
            Problem::MatchesNothing => Self::MatchesNothing,
            Problem::Unfiltered => Self::Unfiltered,
            Problem::TooManyAlike(_) => Self::TooManyAlike,
            Problem::TooMany => Self::TooManyPatterns,
            Problem::SetTooLarge => Self::PatternsTooLarge,
        }
    }
}
