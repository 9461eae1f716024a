//! The journal's record of a moment, and the orders and exceptions of that moment.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::config::Config;
use crate::control::journal::past::{Moment, Past};
use crate::control::journal::{JournalError, unwritten_since};
use crate::control::sources::orders::registry::OrderRegistry;

/// The orders and exceptions of a past moment, from the configuration's journal. They are from the present files if the
/// moment is `None` or in the future, or if there is no journal. They are from the present files, too, if the journal
/// does not have the moment or can't be read; then a sentence that says so is returned as well.
pub fn orders_at(config: &Config, at: Option<Timestamp>) -> (OrderRegistry, Option<String>) {
    let at = at.filter(|at| *at <= Timestamp::now() && config.journal.path.is_some());
    let why = match at.map(|at| read_journal(config, &[], Moment::At(at))) {
        None => None,
        Some(Ok(Some(past))) => {
            let registry = OrderRegistry::of_past(config, past.orders, past.exceptions);
            return (registry, None);
        }
        Some(Ok(None)) => Some("the journal does not reach back so far".to_owned()),
        Some(Err(error)) => Some(error.to_string()),
    };
    let why = why.map(|why| format!("{why}: orders are shown from the present files"));
    (OrderRegistry::read(config), why)
}

/// The journal's record of a moment; `None` if it does not reach back so far.
pub(super) fn read_journal(
    config: &Config,
    files: &[PathBuf],
    moment: Moment,
) -> Result<Option<Past>, JournalError> {
    let files: Vec<_> = files.iter().map(PathBuf::as_path).collect();
    match (&config.journal.path, &files[..]) {
        (Some(path), []) => {
            let unwritten = unwritten_since(config.state.dir.as_deref(), path);
            match Past::read_with(&[path], moment, unwritten) {
                Err(error) if error.is_absent() => Ok(None),
                past => past,
            }
        }
        (_, files) => Past::read_files(files, moment),
    }
}
