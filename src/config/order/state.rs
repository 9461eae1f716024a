//! The states of an order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of an order at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Before `effective-from`.
    Scheduled,
    /// Its names are blocked.
    InForce,
    /// Within a suspension.
    Suspended,
    /// Ended at `expires-at`.
    Expired,
    /// Ended at `lifted-at`.
    Lifted,
    /// Ended by another order that supersedes it.
    Superseded,
}

impl State {
    /// All states; those that end an order come last.
    pub const ALL: [Self; 6] = [
        Self::Scheduled,
        Self::InForce,
        Self::Suspended,
        Self::Expired,
        Self::Lifted,
        Self::Superseded,
    ];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheduled => "scheduled",
            Self::InForce => "in force",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Lifted => "lifted",
            Self::Superseded => "superseded",
        })
    }
}
