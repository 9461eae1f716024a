//! The terms of the policy: scopes, kinds and actions of rules, and their sources.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::LocalRecord;
use super::rpz::settings::{SourceZone, ZonePolicy};
pub use crate::names::scope::Scope;
use crate::wire::name::Name;

/// The kind of a source, by which its rules block names, allow them, or suppress other sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Names are blocked with the source's action.
    Block,
    /// Names are answered from upstream, even if a block list matches.
    Allow,
    /// As `Block`, but by an authority's order, which allow lists do not override.
    Order,
    /// Names are answered as if the suppressed sources had no rule for them.
    Exception,
}

impl Kind {
    /// Whether the source is a list: neither an order nor an exception.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Block | Self::Allow)
    }
}

/// The sources that an exception suppresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// All lists and orders.
    All,
    /// The sources with these names; an order's name is `order:ID`.
    Named(Vec<String>),
}

/// How a blocked name is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// NXDOMAIN where it is true of all names below as well (RFC 8020), else as `Nodata`.
    Nxdomain,
    /// NOERROR without records.
    Nodata,
    /// The sinkhole's addresses for A and AAAA, as `Nodata` for all other types.
    Sinkhole,
    /// REFUSED.
    Refused,
    /// No answer at all.
    Drop,
}

impl Action {
    /// Its name in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nxdomain => "nxdomain",
            Self::Nodata => "nodata",
            Self::Sinkhole => "sinkhole",
            Self::Refused => "refused",
            Self::Drop => "drop",
        }
    }
}

/// The Extended DNS Error that says why a name is blocked (RFC 8914, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ede {
    /// 15: blocked by the operator.
    Blocked,
    /// 16: blocked by an authority.
    Censored,
    /// 17: blocked at the customer's request.
    Filtered,
    /// 18: the client is not authorized.
    Prohibited,
    /// No error is sent.
    None,
}

impl Ede {
    /// Its name in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Censored => "censored",
            Self::Filtered => "filtered",
            Self::Prohibited => "prohibited",
            Self::None => "none",
        }
    }

    /// The INFO-CODE. `None` for [`Ede::None`].
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

/// The contents of a blocked answer, apart from the question section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocking {
    /// The kind of answer.
    pub action: Action,
    /// The answer of a rule whose effect has one, in place of the action's. `None` for sources.
    pub effect_answer: Option<EffectAnswer>,
    /// Whether NXDOMAIN is sent even where it is not true of all names below. False for sources; only effects set it.
    pub as_written: bool,
    /// Addresses for A records; NODATA if empty.
    pub sinkhole_v4: Vec<Ipv4Addr>,
    /// Addresses for AAAA records; NODATA if empty.
    pub sinkhole_v6: Vec<Ipv6Addr>,
    /// TTL of the records, and TTL and MINIMUM of the SOA record, in seconds.
    pub ttl_secs: u32,
    /// The Extended DNS Error of the answer.
    pub ede: Ede,
    /// EXTRA-TEXT of the error, UTF-8: the source's name, and its public text if it has one.
    pub extra_text: String,
}

/// An answer that only effects of rules lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectAnswer {
    /// The records of the queried type, NODATA for other types. Sorted by type; each has a TTL, which is the same for all
    /// records of a type.
    Records(Box<[LocalRecord]>),
    /// A CNAME record, and the target's records from upstream.
    Cname {
        /// The target of the record. With `prepend`, the name that is appended to the queried name to form the target.
        target: Arc<Name>,
        /// Whether the record leads to the queried name followed by `target`, and not to `target` itself.
        prepend: bool,
        /// TTL of the CNAME record in seconds.
        ttl_secs: u32,
    },
    /// Over UDP, an empty answer with TC. Over a stream the name is allowed.
    TcpOnly,
}

/// The text that `tapis diff` shows.
impl fmt::Display for EffectAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(records) => {
                f.write_str("records")?;
                let mut separator = " ";
                for record in records {
                    write!(f, "{separator}{record}")?;
                    separator = "; ";
                }
                Ok(())
            }
            Self::Cname {
                target,
                prepend,
                ttl_secs,
            } => {
                let prepended = if *prepend { "*." } else { "" };
                write!(f, "cname {ttl_secs} {prepended}{target}")
            }
            Self::TcpOnly => f.write_str("tcp-only"),
        }
    }
}

impl EffectAnswer {
    /// Whether a name that the rule matches is allowed.
    pub fn allows(&self, name: &Name, is_stream: bool) -> bool {
        match self {
            Self::Records(_) => false,
            Self::Cname {
                target, prepend, ..
            } => !prepend && **target == *name,
            Self::TcpOnly => is_stream,
        }
    }

    /// Whether there may be a name or a transport that it [`allows`](Self::allows).
    pub fn may_allow(&self) -> bool {
        match self {
            Self::Records(_) => false,
            Self::Cname { prepend, .. } => !prepend,
            Self::TcpOnly => true,
        }
    }
}

impl Blocking {
    /// The placeholder for sources that do not block.
    pub fn none() -> Self {
        Self {
            action: Action::Nodata,
            effect_answer: None,
            as_written: false,
            sinkhole_v4: Vec::new(),
            sinkhole_v6: Vec::new(),
            ttl_secs: 0,
            ede: Ede::None,
            extra_text: String::new(),
        }
    }
}

/// A list, an order or an exception, with the answer that its rules lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// For a list, its configured name. For an order, [`ORDER`](Self::ORDER) followed by its id. For an exception,
    /// [`EXCEPTION`](Self::EXCEPTION) followed by the distinguishing part of its name.
    pub name: String,
    /// The file that the rules were read from.
    pub path: PathBuf,
    /// Whether its rules block, allow or suppress.
    pub kind: Kind,
    /// The answer; unused if `kind` does not block.
    pub blocking: Blocking,
    /// The suppressed sources; unused if `kind` is not an exception.
    pub against: Against,
    /// Whether its rules of the tiers [`First`](super::effect::Tier::First) and
    /// [`ImportantFirst`](super::effect::Tier::ImportantFirst) also precede those of earlier block lists, as the rules
    /// that allow names do in AdGuard Home. Unused if `kind` is not [`Kind::Block`].
    pub allows_across: bool,
    /// How its rules are applied, if it is a response policy zone.
    pub zone: Option<Box<SourceZone>>,
    /// Whether the operator has paused it: its rules are logged only, in all views.
    pub paused: bool,
}

impl Source {
    /// Prefix of an order's name. A list's name never contains a colon.
    pub const ORDER: &str = "order:";
    /// Prefix of an exception's name.
    pub const EXCEPTION: &str = "exception:";

    /// Whether its rules block.
    pub fn blocks(&self) -> bool {
        matches!(self.kind, Kind::Block | Kind::Order)
    }

    /// Whether its rules are logged only, in all views.
    pub fn is_logged_only(&self) -> bool {
        self.paused || self.is_disabled()
    }

    /// Whether it is a policy zone that is configured to be logged only.
    pub fn is_disabled(&self) -> bool {
        let zone = self.zone.as_ref();
        zone.is_some_and(|zone| zone.settings.policy == ZonePolicy::Disabled)
    }

    /// The name under which its hits are counted. While it is disabled or paused, those are queries that it would have
    /// blocked.
    pub fn hits_name(&self) -> Cow<'_, str> {
        match (self.is_disabled(), self.paused) {
            (true, _) => format!("{} (disabled)", self.name).into(),
            (false, true) => format!("{} (paused)", self.name).into(),
            (false, false) => self.name.as_str().into(),
        }
    }

    /// Whether its rules do not change signed answers to clients that ask for DNSSEC records.
    pub fn spares_signed(&self) -> bool {
        let zone = self.zone.as_ref();
        zone.is_some_and(|zone| !zone.settings.break_dnssec)
    }
}
