//! What the journal is given of a generation that goes in force.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::entry::{Cause, ListEntry};
use crate::config::exception::Exception;
use crate::control::journal::settings::Settings;
use crate::control::sources::orders::schedule::State;

/// What goes in force.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) generation: u64,
    pub(crate) at: Timestamp,
    pub(crate) causes: Vec<Cause>,
    pub(crate) lists: Vec<ListEntry>,
    /// Orders and exceptions, unless they are as they were.
    pub(crate) pages: Option<Arc<OrderRecords>>,
    /// What each order is.
    pub(crate) states: Vec<(String, State)>,
    /// The generation of these lists, which is held.
    pub(crate) held: Option<u64>,
    /// The settings in force.
    pub(crate) settings: Settings,
}

/// All orders and all exceptions; `None` where there may be others that could not be read yet.
#[derive(Debug)]
pub(crate) struct OrderRecords {
    /// By their ids, in that order.
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
