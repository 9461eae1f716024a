//! Lists in the syntax of ad blockers.

mod broken;
mod filter;
mod model;
mod room;
mod serving;
mod table;
