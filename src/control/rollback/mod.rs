//! Rollbacks: the lists of an earlier generation, the record that holds them, and the task that reads and writes both.

pub mod record;
pub(crate) mod restore;
pub(crate) mod state;
pub mod stored;
