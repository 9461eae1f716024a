//! Owns the vocabulary of rules: scopes, kinds, actions, and where a rule came from.
//! Refuses to know how rules are stored, read from files, or written to the wire.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which names a rule on `x` speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// `x` alone.
    Exact,
    /// `x` and all names under it (written `.x`).
    Subtree,
    /// All names under `x`, not `x` itself (written `*.x`).
    Below,
}

/// What a list's rules do to the names they match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Names are answered by the rule's action.
    Block,
    /// Names are answered truthfully, whatever block lists say.
    Allow,
}

/// How a blocked name is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// NXDOMAIN where that is true of all names beneath too (RFC 8020), else as `nodata`.
    Nxdomain,
    /// NOERROR without records.
    Nodata,
    /// The sinkhole's addresses for A and AAAA, `nodata` for all other types.
    Sinkhole,
    /// REFUSED.
    Refused,
    /// No answer at all.
    Drop,
}

/// The Extended DNS Error that says why a name is blocked (RFC 8914, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ede {
    /// 15: the operator's own decision.
    Blocked,
    /// 16: an authority's demand.
    Censored,
    /// 17: what the customer asked for.
    Filtered,
    /// 18: the client may not ask.
    Prohibited,
    /// No error is sent.
    None,
}

impl Ede {
    /// The INFO-CODE, or nothing for [`Ede::None`].
    pub fn code(self) -> Option<u16> {
        match self {
            Self::Blocked => Some(15),
            Self::Censored => Some(16),
            Self::Filtered => Some(17),
            Self::Prohibited => Some(18),
            Self::None => None,
        }
    }
}

/// All that a blocked answer is made of, apart from the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocking {
    /// What is answered.
    pub action: Action,
    /// Addresses for A; none means NODATA.
    pub sinkhole_v4: Vec<Ipv4Addr>,
    /// Addresses for AAAA; none means NODATA.
    pub sinkhole_v6: Vec<Ipv6Addr>,
    /// TTL of the records, and TTL and MINIMUM of the SOA, in seconds.
    pub ttl_secs: u32,
    /// Which Extended DNS Error goes along.
    pub ede: Ede,
    /// EXTRA-TEXT of that error, UTF-8: the source's name, and its public text if it has one.
    pub extra_text: String,
}

/// A list as decisions see it: who says so, and what then happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name that the operator gave the list.
    pub name: String,
    /// The file that the rules were read from.
    pub path: PathBuf,
    /// Block or allow.
    pub kind: Kind,
    /// The answer; unused where `kind` is allow.
    pub blocking: Blocking,
}
