//! Lists in the syntax of ad blockers.

mod broken;
mod filter;
mod model;
mod serving;
mod table;
