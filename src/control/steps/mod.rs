//! Steps that involve several components: putting loads in force, reloads, rollbacks, take-overs, and the status.

mod downloads;
mod feeds;
mod figures;
mod loads;
mod parking;
mod pauses;
mod published;
mod reload;
mod rollback;
pub(crate) mod status;
