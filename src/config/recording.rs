//! Which finished queries are recorded, where, and how their clients are shown; with the section `[query-log]`.

use std::path::PathBuf;

use super::findings::Findings;
use super::reader::{At, Reader};
use super::values::{choice, file, number};

/// The largest file of the query log before it is rotated, in MiB.
const ROTATE_MIB_MAX: u64 = 1 << 20;
/// The default of `rotate-mib`.
const ROTATE_MIB: u64 = 100;
/// The most rotated files that are kept.
const KEEP_MAX: u32 = 1000;
/// The default of `keep`.
const KEEP: u32 = 5;

/// The query log.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryLog {
    /// Its file; `None` turns it off.
    pub file: Option<PathBuf>,
    /// Whether only blocked queries are recorded.
    pub only_blocked: bool,
    /// The share of the queries that is recorded, more than 0 and at most 1.
    pub sample: f64,
    /// How clients are shown.
    pub client: ClientForm,
    /// A file of the key that clients are hashed with; `None` means a random one at each start.
    pub client_key: Option<PathBuf>,
    /// The size at which the file is rotated, in bytes; `None` means never.
    pub rotate_bytes: Option<u64>,
    /// The number of rotated files that are kept.
    pub keep: u32,
    /// Whether users of the control socket may read queries as they come.
    pub tail: bool,
}

/// How much of a client's address is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientForm {
    /// The address.
    Whole,
    /// Its /24 network (IPv4) or its /56 network (IPv6).
    #[default]
    Truncated,
    /// A hash of the address, with a key.
    Hashed,
    /// Nothing.
    None,
}

impl Default for QueryLog {
    fn default() -> Self {
        Self {
            file: None,
            only_blocked: false,
            sample: 1.0,
            client: ClientForm::default(),
            client_key: None,
            rotate_bytes: Some(ROTATE_MIB << 20),
            keep: KEEP,
            tail: false,
        }
    }
}

/// The section `[query-log]` before validation.
#[derive(Default)]
pub(super) struct RawQueryLog {
    file: Option<At<String>>,
    only: Option<At<String>>,
    sample: Option<At<f64>>,
    client: Option<At<String>>,
    client_key: Option<At<String>>,
    rotate_mib: Option<At<i64>>,
    keep: Option<At<i64>>,
    tail: Option<At<bool>>,
}

impl RawQueryLog {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            file: table.string("file"),
            only: table.string("only"),
            sample: table.fraction("sample"),
            client: table.string("client"),
            client_key: table.string("client-key"),
            rotate_mib: table.integer("rotate-mib"),
            keep: table.integer("keep"),
            tail: table.boolean("tail"),
        }
    }
}

impl RawQueryLog {
    /// The line of `file`.
    pub(super) fn line(&self) -> Option<u32> {
        self.file.as_ref().map(|given| given.line)
    }
}

/// Validates the section `[query-log]`.
pub(super) fn query_log(raw: RawQueryLog, findings: &mut Findings) -> QueryLog {
    let forms = [
        ("whole", ClientForm::Whole),
        ("truncated", ClientForm::Truncated),
        ("hashed", ClientForm::Hashed),
        ("none", ClientForm::None),
    ];
    let only = choice(raw.only, &[("all", false), ("blocked", true)], findings);
    let rotate: Option<u64> = number(raw.rotate_mib, 0..=ROTATE_MIB_MAX, findings);
    let client_key = file(raw.client_key, findings);
    let file = file(raw.file, findings);
    QueryLog {
        tail: raw.tail.map_or(file.is_some(), |given| given.value),
        file,
        only_blocked: only.unwrap_or(false),
        sample: sample(raw.sample, findings).unwrap_or(1.0),
        client: choice(raw.client, &forms, findings).unwrap_or_default(),
        client_key,
        rotate_bytes: Some(rotate.unwrap_or(ROTATE_MIB) << 20).filter(|bytes| *bytes > 0),
        keep: number(raw.keep, 0..=KEEP_MAX, findings).unwrap_or(KEEP),
    }
}

/// A share of the queries.
pub(super) fn sample(given: Option<At<f64>>, findings: &mut Findings) -> Option<f64> {
    let At { key, line, value } = given?;
    let is_share = value > 0.0 && value <= 1.0;
    if !is_share {
        let message = format!(
            "{key} is {value}, must be more than 0 and at most 1: write 0.01 for one query in a hundred"
        );
        findings.report(line, message);
    }
    is_share.then_some(value)
}
