//! Lines of a list that give no rule, but are not bad: what they ask for is not a resolver's business.

use serde::{Deserialize, Serialize};

use crate::control::list_file::parse::bad::{Bad, excerpt};

/// Why a line gives no rule although it is not bad. Images store a variant's name, so it can't be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotApplicable {
    /// A rule that hides or changes elements of web pages.
    #[error("a rule on elements of web pages")]
    Cosmetic,
    /// A pattern that only a URL can match.
    #[error("a rule on URLs, which matches no name")]
    Url,
    /// A modifier that is not one of DNS filters.
    #[error("a rule with a modifier for browsers, or an unknown one")]
    Modifier,
    /// `$client` or `$ctag`. Without the modifier, the rule would apply to all clients.
    #[error("a rule for some clients, which needs a view")]
    Client,
    /// A rewrite in an allow list.
    #[error("a rewrite, and an allow list only allows")]
    Rewrite,
    /// A rewrite to a response code that no rule can answer with.
    #[error(
        "a rule with `$dnsrewrite` to a response code other than NOERROR, NXDOMAIN and REFUSED"
    )]
    RewriteCode,
    /// A rewrite of answers with an address.
    #[error("a rule with `$dnsrewrite` for an address, and only names can be rewritten")]
    RewriteOfAddress,
    /// A line that voids other rules: `$badfilter`, or `@@` with `$dnsrewrite`.
    #[error("takes other rules of the list back")]
    TakesBack,
    /// A rule that such a line voids.
    #[error("a rule that another line takes back")]
    TakenBack,
    /// An option of dnsmasq or Unbound that is not about the names of a list.
    #[error("an option that is not about the names of a list")]
    Option,
    /// A name of a list of dnscrypt-proxy that is blocked at some times of the day or the week.
    #[error("blocked at some times only, which needs a schedule")]
    Schedule,
    /// An option of dnsmasq that forwards queries. Its names are allowed.
    #[error(
        "forwards queries to another server: the names are allowed, and sent to the usual upstream"
    )]
    Forward,
}

/// A line that gives no rule although it is not bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredLine {
    /// Its number; 1 is the first.
    pub line: u32,
    /// An excerpt, as [`BadLine`](super::BadLine) has one.
    pub text: String,
    /// Why it gives no rule.
    pub reason: NotApplicable,
}

impl IgnoredLine {
    pub(super) fn new(line: u32, content: &[u8], reason: NotApplicable) -> Self {
        Self {
            line,
            text: excerpt(content),
            reason,
        }
    }
}

/// Why a line gives no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    Ignored(NotApplicable),
    Bad(Bad),
}

impl From<NotApplicable> for Unusable {
    fn from(reason: NotApplicable) -> Self {
        Self::Ignored(reason)
    }
}

impl<B: Into<Bad>> From<B> for Unusable {
    fn from(problem: B) -> Self {
        Self::Bad(problem.into())
    }
}
