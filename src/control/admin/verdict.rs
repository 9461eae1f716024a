//! How a running server answers one name, and which of its rules match: the interface of `why`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::shown::path_text;
use crate::policy::rule::{Kind, Scope};

/// A query to explain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    /// The name.
    pub name: String,
    /// The record type's number.
    pub rtype: u16,
    /// The client; `None` for any client that may ask.
    pub client: Option<IpAddr>,
}

/// How it is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The generation of the policy that says so.
    pub generation: u64,
    /// What happens to the query.
    pub outcome: Outcome,
    /// Which rules count for the rest of a CNAME chain; `None` when upstream is not asked.
    pub chain: Option<Chain>,
    /// The source of the rule that decides, where one does.
    pub by: Option<String>,
    /// Every rule in force that matches, the best first. Rules that another one of the same list covers
    /// are not kept in memory, so they are missing.
    pub rules: Vec<MatchingRule>,
    /// `None` when upstream is asked, or when no answer is sent.
    pub answer: Option<Answer>,
}

/// What happens to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A list or an order blocks it.
    Blocked,
    /// An allow list, or an exception to everything, lets it through.
    Allowed,
    /// An exception overrides every rule that matches.
    Excepted,
    /// It is answered here and never goes upstream.
    Local,
    /// The client may not ask, or not so.
    Refused,
    /// No rule matches.
    Upstream,
    /// No server ran at that time; of the past alone.
    Stopped,
    /// What was in force at that time is not known; of the past alone.
    Unknown,
}

/// The rules that count for the names that a CNAME in upstream's answer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chain {
    /// All rules.
    All,
    /// Those that the exception does not override.
    NotExcepted,
    /// Orders, which no allow list overrides.
    Orders,
    /// None: the exception is to everything.
    None,
}

impl MatchingRule {
    /// The rule as lists write it, with the sign of its scope.
    pub fn text(&self) -> String {
        format!("{}{}", self.scope.sign(), self.owner)
    }
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

/// A rule that matches a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MatchingRule {
    /// The name of its source.
    pub source: String,
    /// What its source is.
    pub kind: Kind,
    /// The file of its source, by its absolute path.
    #[serde(serialize_with = "path_text")]
    pub path: PathBuf,
    /// Its name, without the sign of its scope.
    pub owner: String,
    /// Which names below its own it covers.
    pub scope: Scope,
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

/// Answers a question under the policy in force, or says why it can't be read.
pub type Judge = Arc<dyn Fn(&Question) -> Result<Verdict, String> + Send + Sync>;
