//! The parts of a draft, each with the line that it comes from.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use toml_edit::Value;

use super::source::SourceLine;
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
    /// Keys and values of records.
    pub(super) records: Vec<(&'static str, String)>,
    pub(super) line: SourceLine,
}

/// A zone with servers of its own.
pub(super) struct ForwardDraft {
    pub(super) zone: Name,
    pub(super) servers: Vec<String>,
    pub(super) line: SourceLine,
}

/// Where names are in the draft.
#[derive(Default)]
pub(super) struct NameIndex {
    /// The sections of each name, and of each wildcard.
    pub(super) locals: HashMap<(Name, bool), Vec<usize>>,
    pub(super) forwards: HashMap<Name, usize>,
    /// Addresses whose reverse name has its record from a hosts file.
    pub(super) pointers: HashSet<IpAddr>,
    /// Zones with a server that does not carry over.
    pub(super) lost: Vec<(Name, SourceLine)>,
}
