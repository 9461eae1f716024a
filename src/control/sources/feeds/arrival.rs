//! How far a transfer has come, as the server reports it to the compiler.

use serde::{Deserialize, Serialize};

/// A report of the server: a JSON object on a line of the compiler's standard input, after the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The name of the list.
    pub list: String,
    /// The number of bytes of its spool that are written.
    pub bytes: u64,
    /// Whether there will be more.
    pub state: ArrivalState,
}

/// Whether a transfer goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArrivalState {
    /// It goes on.
    #[default]
    Arriving,
    /// All of it was written, and it is authentic.
    Complete,
    /// It failed, and nothing of it may be used.
    Failed,
}
