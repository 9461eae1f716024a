//! The parts of a draft, each with the line that it comes from.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use toml_edit::Value;

use super::source::SourceLine;
use crate::policy::record::LocalRecord;
use crate::wire::name::Name;

/// A key of a section that exists once.
pub(super) struct Setting {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    pub(super) value: Value,
    pub(super) line: SourceLine,
}

/// A section `[[list]]` or `[[feed]]`.
pub(super) struct ListDraft {
    pub(super) section: &'static str,
    pub(super) name: String,
    pub(super) keys: Vec<(&'static str, Value)>,
    pub(super) line: SourceLine,
}

/// A section `[[local]]` of a name.
pub(super) struct LocalDraft {
    pub(super) name: Name,
    pub(super) ttl_secs: Option<u32>,
    pub(super) is_wildcard: bool,
    pub(super) records: Vec<RecordDraft>,
    pub(super) line: SourceLine,
}

/// A record of a `[[local]]` section.
pub(super) struct RecordDraft {
    /// The key of its type.
    pub(super) key: &'static str,
    /// Its value as it is written.
    pub(super) text: String,
    /// The record that this text is. Its TTL is that of the section.
    pub(super) record: LocalRecord,
}

/// The text of a local name, or of the wildcard below it.
pub(super) fn written(name: &Name, is_wildcard: bool) -> String {
    let prefix = if is_wildcard { "*." } else { "" };
    format!("{prefix}{name}")
}

/// A zone with servers of its own.
pub(super) struct ForwardDraft {
    pub(super) zone: Name,
    pub(super) servers: Vec<String>,
    pub(super) line: SourceLine,
}

/// A zone whose names go to the general servers.
pub(super) struct GeneralZone {
    pub(super) zone: Name,
    /// Whether it needs a section even if no zone above it is forwarded, as this server would answer it itself.
    pub(super) always: bool,
    pub(super) line: SourceLine,
}

/// Where names are in the draft.
#[derive(Default)]
pub(super) struct NameIndex {
    /// The sections of each owner.
    pub(super) locals: HashMap<Name, Vec<usize>>,
    /// TTLs of records that are too long.
    pub(super) long_ttls: HashSet<u32>,
    pub(super) forwards: HashMap<Name, usize>,
    /// Addresses whose reverse name has its record from a hosts file.
    pub(super) pointers: HashSet<IpAddr>,
    /// Zones with a server that does not carry over.
    pub(super) lost: Vec<(Name, SourceLine)>,
    /// Zones whose names go to the general servers.
    pub(super) general: Vec<GeneralZone>,
}
