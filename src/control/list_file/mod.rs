//! The file of a list: its signature, its text, and the rules in it. Knows neither which list it is, nor its guards.

pub mod file;
pub mod parse;
pub mod signature;
pub mod suppressed;
pub mod write;
