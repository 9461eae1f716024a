//! Owns the vocabulary of rules: scopes, kinds, actions, and where a rule came from.
//! Refuses to know how rules are stored, read from files, or written to the wire.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::names::scope::Scope;

/// What a source's rules do to the names they match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Names are answered by the rule's action.
    Block,
    /// Names are answered truthfully, whatever block lists say.
    Allow,
    /// As `Block`, by an authority's order: allow lists don't stand against it.
    Order,
    /// Names are answered as if what it stands against had no rule for them.
    Exception,
}

/// What an exception stands against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// Every list and order.
    All,
    /// The sources that are called so: lists by their names, orders as `order:ID`.
    Named(Vec<String>),
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

impl Blocking {
    /// Of a source whose rules block nothing.
    pub fn none() -> Self {
        Self {
            action: Action::Nodata,
            sinkhole_v4: Vec::new(),
            sinkhole_v6: Vec::new(),
            ttl_secs: 0,
            ede: Ede::None,
            extra_text: String::new(),
        }
    }
}

/// A list, an order or an exception as decisions see it: who says so, and what then happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name that the operator gave the list; [`ORDER`](Self::ORDER) and an order's id;
    /// [`EXCEPTION`](Self::EXCEPTION) and what tells it from others.
    pub name: String,
    /// The file that the rules were read from.
    pub path: PathBuf,
    /// What its rules do.
    pub kind: Kind,
    /// The answer; unused where `kind` does not block.
    pub blocking: Blocking,
    /// What an exception stands against; unused where it is none.
    pub against: Against,
}

impl Source {
    /// What stands before an order's id. No list's name has a colon.
    pub const ORDER: &str = "order:";
    /// What an exception's name starts with.
    pub const EXCEPTION: &str = "exception:";

    /// Whether its rules block.
    pub fn blocks(&self) -> bool {
        matches!(self.kind, Kind::Block | Kind::Order)
    }
}
