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
pub(in crate::control) struct Draft {
    pub(in crate::control) generation: u64,
    pub(in crate::control) at: Timestamp,
    pub(in crate::control) causes: Vec<Cause>,
    pub(in crate::control) lists: Vec<ListEntry>,
    /// Orders and exceptions, unless they are as they were.
    pub(in crate::control) pages: Option<Arc<Pages>>,
    /// What each order is.
    pub(in crate::control) states: Vec<(String, State)>,
    /// The generation of these lists, which is held.
    pub(in crate::control) held: Option<u64>,
    /// The settings in force.
    pub(in crate::control) settings: Settings,
}

/// All orders and all exceptions; `None` where there may be others that could not be read yet.
#[derive(Debug)]
pub(in crate::control) struct Pages {
    /// By their ids, in that order.
    pub(in crate::control) orders: Option<Vec<Page>>,
    pub(in crate::control) exceptions: Option<Vec<Exception>>,
}

/// An order's text.
#[derive(Debug)]
pub(in crate::control) struct Page {
    pub(in crate::control) id: String,
    pub(in crate::control) path: PathBuf,
    pub(in crate::control) text: Arc<str>,
    pub(in crate::control) warnings: Vec<String>,
}
