//! Tapis.
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod policy;
pub mod serve;
pub mod stats;
pub mod sys;
pub mod wire;
