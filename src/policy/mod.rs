//! Owns decisions: pure, immutable, explainable.
//! Refuses I/O, clocks and all bytes of the wire other than names.

pub mod builder;
pub mod clients;
pub mod current;
pub mod image;
pub mod images;
pub mod local;
mod prefilter;
pub mod ranking;
pub mod rule;
pub mod rules;
pub mod snapshot;
