//! Domain names as text: the notations of lists, IDNs, and public suffixes.

pub mod public_suffix;
pub mod scope;
pub mod typed;
