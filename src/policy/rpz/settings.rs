//! How the rules of a policy zone are applied, apart from what its records say.

use crate::wire::name::Name;

/// A policy zone as a source of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceZone {
    /// How its rules are applied.
    pub settings: ZoneSettings,
    /// The SOA record that is added to the additional section of answers that it changes, if any.
    pub soa: Option<ZoneSoa>,
}

impl From<ZoneSettings> for SourceZone {
    /// The zone before its SOA record is known.
    fn from(settings: ZoneSettings) -> Self {
        Self {
            settings,
            soa: None,
        }
    }
}

/// The settings of a policy zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneSettings {
    /// The actions of its rules.
    pub policy: ZonePolicy,
    /// Longer TTLs of its records are lowered to this in answers.
    pub max_ttl_secs: u32,
    /// Whether its rules are applied even if the client asks for DNSSEC and upstream's answer is signed.
    pub break_dnssec: bool,
}

/// The SOA record of a policy zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneSoa {
    /// The name of the zone.
    pub apex: Box<Name>,
    /// RDATA without compressed names.
    pub data: Box<[u8]>,
}

/// The actions of a policy zone's rules: those of its records, or one that overrides them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZonePolicy {
    /// Each rule has the action of its record.
    Given,
    /// Rules change no answers. The queries that they would have blocked are counted, and `tapis why` shows what they would do.
    Disabled,
    /// All rules answer NXDOMAIN.
    Nxdomain,
    /// All rules answer NODATA.
    Nodata,
    /// All rules exempt what they match from later zones and lists.
    Passthru,
    /// All rules leave queries without an answer.
    Drop,
    /// All rules make clients repeat a query over TCP, where it is answered.
    TcpOnly,
    /// All rules answer with a CNAME record to this name; `*.x` stands for the queried name followed by `x`.
    Cname(Box<Name>),
}

impl ZonePolicy {
    /// Its word in the configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Disabled => "disabled",
            Self::Nxdomain => "nxdomain",
            Self::Nodata => "nodata",
            Self::Passthru => "passthru",
            Self::Drop => "drop",
            Self::TcpOnly => "tcp-only",
            Self::Cname(_) => "cname",
        }
    }

    /// The target of [`Cname`](Self::Cname).
    pub fn target(&self) -> Option<&Name> {
        match self {
            Self::Cname(target) => Some(target),
            _ => None,
        }
    }
}
