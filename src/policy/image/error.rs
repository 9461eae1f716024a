//! Why an image cannot be read or written.

use std::io;

use crate::policy::effect::EffectError;
use crate::policy::patterns::{Problem, TooMuchWork};

/// Why bytes are not a usable image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The magic number is wrong.
    #[error("not an image of Tapis")]
    NotAnImage,
    /// The image has another version of the layout.
    #[error("an image of layout {found}, and this program reads layout {supported}")]
    Version {
        /// The version of the image.
        found: u32,
        /// The version that this program reads and writes.
        supported: u32,
    },
    /// The file is shorter than its header says.
    #[error("cut short")]
    Truncated,
    /// A digest does not match.
    #[error("damaged: {0} (not as written)")]
    Damaged(&'static str),
    /// The digests match, but the content is inconsistent.
    #[error("invalid: inconsistent {0}")]
    Invalid(&'static str),
}

/// Which limit of an image is exceeded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// Two gigabytes of buckets.
    #[error("more names than fit into 2 GiB of image; leave out a list")]
    Buckets,
    /// 16,777,216 groups of the directory.
    #[error(
        "more names that have many names directly below them than fit into one image; leave out a list"
    )]
    Directory,
    /// 65,535 sources, or rules on one name.
    #[error("more than 65,535 lists, or more than 65,535 rules on one name; join some lists")]
    Sources,
    /// 536,870,912 pairs of a source and an effect.
    #[error("more than 536,870,912 different effects of rules; leave out a list")]
    Clauses,
    /// More than [`MAX_DATA`](crate::policy::effect::MAX_DATA) of effects of one list.
    #[error(
        "the records of its rules need more than {} MiB of memory, with equal ones counted once; leave out rules with records of their own",
        crate::policy::effect::MAX_DATA >> 20
    )]
    Data,
    /// No answer can carry the effect of a rule.
    #[error("a rule has an effect that no answer can carry: {0}")]
    Effect(EffectError),
    /// 16,777,216 rules on networks.
    #[error("more than 16,777,216 rules on networks of addresses; leave out a list")]
    Prefixes,
    /// The patterns of all sources are too much work for a lookup.
    #[error("the patterns of {list} are too much work for each query: {why}")]
    PatternWork {
        /// The source whose patterns exceed the limit, together with the patterns of the sources before it.
        list: Box<str>,
        /// The limit that they exceed.
        why: TooMuchWork,
    },
    /// A pattern is not accepted.
    #[error("the pattern `{pattern}` of {list}: {problem}")]
    Pattern {
        /// The source.
        list: Box<str>,
        /// The first 100 characters of the pattern, without control characters.
        pattern: Box<str>,
        /// What is wrong with it.
        problem: Problem,
    },
    /// An effect that no answer can carry, with the name that the rule is on.
    #[error("the rule on {owner} has an effect that no answer can carry: {error}")]
    RuleEffect {
        /// The name, as text.
        owner: Box<str>,
        /// The mistake.
        error: EffectError,
    },
    /// 8,388,608 different combinations of rules on a name.
    #[error("more than 8,388,608 different combinations of lists on a name; leave out a list")]
    Values,
}

impl TooLarge {
    /// The list whose patterns exceed the limit.
    pub fn list(&self) -> Option<&str> {
        match self {
            Self::PatternWork { list, .. } | Self::Pattern { list, .. } => Some(list),
            _ => None,
        }
    }
}

/// Why writing an image failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A limit of the image is exceeded.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// Writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
