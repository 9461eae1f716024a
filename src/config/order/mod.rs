//! An authority's order, as its file describes it: who decided what, why, from when, until when.
//!
//! The fields are those of the EU's Digital Services Act (Regulation 2022/2065, article 9), of the
//! Lumen database, and of national practice; `docs/orders.md` explains each.

mod contradictions;
mod raw;
mod types;
mod validate;

#[cfg(test)]
mod tests;

use std::path::Path;

use super::error::Problems;
use super::findings::Findings;
use super::syntax;

pub use types::{
    Authority, Dates, Decision, Except, Notice, Order, REVIEW, Redress, Suspension, Target, Texts,
};

impl Order {
    /// Parses and validates a text. `path` is only for the problems; the file is not opened.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Problems> {
        let mut findings = Findings::new(path, text.as_bytes());
        let raw = syntax::parse(text, &mut findings, raw::Raw::read);
        let order = validate::validate(raw, path, &mut findings);
        // If there is no order, there are findings.
        findings
            .conclude(order)
            .map(|order| order.expect("all that is missing was reported"))
    }
}
