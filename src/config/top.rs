//! The section `[top]`: lists of the most frequent names, clients and sources.

use std::time::Duration;

use super::findings::Findings;
use super::reader::{At, Reader};
use super::values::number;

/// The default of `interval-secs`.
const INTERVAL_SECS: u64 = 300;
const DAY_SECS: u64 = 24 * 60 * 60;

/// Lists of the most frequent names, clients and sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Whether they are made.
    pub enabled: bool,
    /// The time that they are about, 10 seconds to a day.
    pub interval: Duration,
}

impl Default for Top {
    fn default() -> Self {
        Self {
            enabled: false,
            interval: Duration::from_secs(INTERVAL_SECS),
        }
    }
}

/// The section `[top]` before validation.
#[derive(Default)]
pub(super) struct RawTop {
    enabled: Option<At<bool>>,
    interval_secs: Option<At<i64>>,
}

impl RawTop {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            enabled: table.boolean("enabled"),
            interval_secs: table.integer("interval-secs"),
        }
    }
}

/// Validates the section `[top]`.
pub(super) fn top(raw: RawTop, findings: &mut Findings) -> Top {
    let interval = number(raw.interval_secs, 10..=DAY_SECS, findings).unwrap_or(INTERVAL_SECS);
    Top {
        enabled: raw.enabled.is_some_and(|given| given.value),
        interval: Duration::from_secs(interval),
    }
}
