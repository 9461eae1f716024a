//! Feeds that are wrong: the version in force stays, `status` and `tapis feed` name the fault, and the feed recovers.

mod contents;
mod demands;
mod faults;
mod guards;
mod keys;
mod large;
mod primaries;
mod resilience;
mod scene;
mod states;
