//! A generation that comes into force, in the form that the journal takes.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::entry::{Cause, ListEntry};
use crate::config::exception::Exception;
use crate::config::order::State;
use crate::control::journal::settings::Settings;

/// The whole policy of a generation. The journal records the differences from the one before.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) generation: u64,
    pub(crate) at: Timestamp,
    pub(crate) causes: Vec<Cause>,
    pub(crate) lists: Vec<ListEntry>,
    /// All orders and exceptions; `None` if they did not change.
    pub(crate) order_records: Option<Arc<OrderRecords>>,
    /// The state of each order, by its ID.
    pub(crate) states: Vec<(String, State)>,
    /// The generation that is rolled back to.
    pub(crate) held: Option<u64>,
    /// The settings in force.
    pub(crate) settings: Settings,
}

/// All orders and all exceptions; `None` while some of their files could not be read yet.
#[derive(Debug)]
pub(crate) struct OrderRecords {
    /// Sorted by their IDs.
    pub(crate) orders: Option<Vec<OrderRecord>>,
    pub(crate) exceptions: Option<Vec<Exception>>,
}

/// An order's text.
#[derive(Debug)]
pub(crate) struct OrderRecord {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) text: Arc<str>,
    pub(crate) warnings: Vec<String>,
}
