//! Why a set of patterns is not accepted.

/// A pattern that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern {index}: {problem}")]
pub struct PatternError {
    /// The index of the pattern in the set.
    pub index: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a pattern, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is not a regular expression, or uses a feature that takes more than linear time.
    #[error("{0}; look-around and back-references are not supported")]
    Syntax(String),
    /// The pattern has a character that no name has.
    #[error("has the character '{0}'; write names in other scripts in their ASCII form (xn--...)")]
    NotAscii(char),
    /// The pattern has a control character, such as a line break.
    #[error("has the control character {0:?}; remove it")]
    Control(char),
    /// The pattern depends on Unicode's word boundaries.
    #[error("uses a Unicode word boundary; write \\b without the flag u")]
    UnicodeBoundary,
    /// The text of the pattern is too long.
    #[error("has {0} bytes of at most {max}; split it", max = super::limits::MAX_LENGTH)]
    TooLong(usize),
    /// The pattern matches without a single character, and so matches every name.
    #[error(
        "can match without any character, and so matches every name; make some part of it mandatory"
    )]
    MatchesEmpty,
    /// The pattern matches all of the built-in sample of very different names.
    #[error("matches every one of {count} very different names; make it more specific", count = super::limits::SAMPLE.len())]
    MatchesEverything,
    /// No name can match.
    #[error("matches no name; remove it")]
    MatchesNothing,
    /// The pattern's automaton is too large.
    #[error("needs an automaton that is too large; use smaller counts in braces, or split it")]
    TooLarge,
    /// Too many patterns have no literal: no fixed text of at least three characters that matching names must contain.
    #[error(
        "is the {nth} pattern without a fixed text of three characters, and at most {max} are allowed, because they \
         are matched against every name; add a text that the names must contain",
        nth = super::limits::MAX_UNFILTERED + 1, max = super::limits::MAX_UNFILTERED
    )]
    Unfiltered,
    /// Too many patterns look for the same text.
    #[error("looks for \"{0}\" like many others; combine some of them into one pattern")]
    TooManyAlike(String),
    /// There are too many patterns.
    #[error("more than {max} patterns; remove some", max = super::limits::MAX_PATTERNS)]
    TooMany,
    /// The automata are too many or too large in all.
    #[error(
        "the patterns up to this one need too many automata or too much memory in all; remove some of the complex ones"
    )]
    SetTooLarge,
}
