//! How a running server answers one query, and which rules match: the interface of `tapis why`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::shown::path_text;
use crate::policy::explain::Role;
use crate::policy::rule::{Kind, Scope};

/// A query to explain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// The name.
    pub name: String,
    /// The record type's number.
    pub rtype: u16,
    /// The client; `None` for any permitted client.
    pub client: Option<IpAddr>,
    /// The address in upstream's answer; `None` if upstream is not asked, so that the answer is not known.
    #[serde(default)]
    pub address: Option<IpAddr>,
}

/// How a query is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueryVerdict {
    /// The generation of the policy.
    pub generation: u64,
    /// The outcome of the query.
    pub outcome: Outcome,
    /// Which rules apply to the rest of a CNAME chain; `None` if upstream is not asked.
    pub chain: Option<Chain>,
    /// The source of the rule that decides; `None` if no rule does.
    pub by: Option<String>,
    /// All rules in force that match, the best first. Rules that another one of the same list covers are not in memory, so
    /// they are missing.
    pub rules: Vec<MatchingRule>,
    /// `None` if upstream is asked, or no answer is sent.
    pub answer: Option<Answer>,
    /// Sentences about the answer that the fields above do not say.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The outcome of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A list or an order blocks it.
    Blocked,
    /// An allow list, or an exception against everything, allows it.
    Allowed,
    /// An exception overrides every rule that matches.
    Excepted,
    /// It is answered locally and never goes upstream.
    Local,
    /// The client is not permitted, or the query is not.
    Refused,
    /// No rule matches.
    Upstream,
    /// No server ran at that time. Only for past moments.
    Stopped,
    /// The policy of that time is not known. Only for past moments.
    Unknown,
}

/// The rules that apply to the targets of CNAMEs in an upstream answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chain {
    /// All rules.
    All,
    /// Those that the exception does not override.
    NotExcepted,
    /// Orders, which no allow list overrides.
    Orders,
    /// None, as the exception is against everything.
    None,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "blocked",
            Self::Allowed => "allowed",
            Self::Excepted => "excepted",
            Self::Local => "local",
            Self::Refused => "refused",
            Self::Upstream => "upstream",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        })
    }
}

/// A rule that matches a query.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MatchingRule {
    /// The name of its source.
    pub source: String,
    /// The kind of its source.
    pub kind: Kind,
    /// The file of its source, by its absolute path.
    #[serde(serialize_with = "path_text")]
    pub path: PathBuf,
    /// What matched.
    pub trigger: RuleTrigger,
    /// Its part in the decision.
    pub role: Role,
    /// Its records, if it is a rule of a policy zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
}

/// The trigger of a matching rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleTrigger {
    /// A name.
    Name {
        /// The name that the rule is written for, without the sign of its scope.
        owner: String,
        /// Whether it covers names below that.
        scope: Scope,
    },
    /// A pattern.
    Pattern(String),
    /// A network of the client's address.
    Client(String),
    /// A network of an address in the answer.
    Answer(String),
}

impl fmt::Display for RuleTrigger {
    /// The trigger as lists write it: a name with the sign of its scope. A pattern is
    /// between slashes. A network has the word `client` or `answer` before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { owner, scope } => f.write_str(&scope.notation(owner)),
            Self::Pattern(pattern) => write!(f, "/{pattern}/"),
            Self::Client(network) => write!(f, "client {network}"),
            Self::Answer(network) => write!(f, "answer {network}"),
        }
    }
}

impl RuleTrigger {
    /// The scope of a rule on a name.
    pub fn scope(&self) -> Option<Scope> {
        match self {
            Self::Name { scope, .. } => Some(*scope),
            Self::Pattern(_) | Self::Client(_) | Self::Answer(_) => None,
        }
    }
}

/// The answer that a client gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The response code, as `dig` writes it.
    pub rcode: String,
    /// The records of the answer section, as text.
    pub records: Vec<String>,
    /// Extended DNS Errors: code and text.
    pub ede: Vec<String>,
}

/// Explains a query under the policy in force. The error says why the query is not valid.
pub type Explain = Arc<dyn Fn(&ExplainRequest) -> Result<QueryVerdict, String> + Send + Sync>;
