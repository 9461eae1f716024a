//! c
pub mod lists;
