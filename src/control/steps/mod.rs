//! Steps that involve several components: putting loads in force, reloads, and rollbacks.

mod loads;
mod reload;
mod rollback;
pub(crate) mod status;
