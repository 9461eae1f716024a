//! Tapis.
pub mod policy;
pub mod serve;
pub mod stats;
pub mod sys;
pub mod wire;
