//! The policy: compiled images of rules, snapshots of them, and decisions about names. A decision is a pure function of
//! an immutable snapshot, without I/O and without a clock.

pub mod amendment;
pub mod answer;
pub mod builder;
pub mod clients;
pub mod condition;
pub mod current;
pub mod decide;
pub mod effect;
mod enclosers;
mod evaluation;
pub mod explain;
pub mod image;
pub mod images;
pub mod local;
pub mod overlap;
pub mod patterns;
mod precedence;
mod prefilter;
pub mod prefix;
mod prefixes;
pub mod published;
pub mod ranking;
mod ranks;
pub mod record;
pub mod rpz;
pub mod rule;
pub mod rule_cursor;
pub mod rules;
pub mod served_zones;
mod signed;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod tests;
mod verdicts;
pub mod view;
mod zone_flags;
