//! An authority's order in a file: the authority, its reason, the names, the dates.
//!
//! The fields are from the EU's Digital Services Act (Regulation 2022/2065, article 9), the Lumen database, and
//! national practice. `docs/orders.md` explains each.

mod contradictions;
mod raw;
mod state;
mod types;
mod validate;

#[cfg(test)]
mod tests;

use std::path::Path;

use super::error::Problems;
use super::findings::Findings;
use super::syntax;

pub use state::State;
pub use types::{
    Authority, Dates, Decision, Except, Notice, Order, REVIEW, Redress, Suspension, Target, Texts,
};

impl Order {
    /// Parses and validates a text. `path` is only used in messages; the file is not opened.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Problems> {
        let mut findings = Findings::new(path, text.as_bytes());
        let raw = syntax::parse(text, &mut findings, raw::Raw::read);
        let order = validate::validate(raw, path, &mut findings);
        // A missing order always has findings, so this does not panic.
        findings
            .conclude(order)
            .map(|order| order.expect("each missing part was reported"))
    }
}
