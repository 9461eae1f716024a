//! Turns loaded lists and orders into snapshots, and puts these in force.

pub mod compose;
pub(crate) mod delta;
pub(crate) mod order_changes;
pub(crate) mod publishing;
pub(crate) mod record;
pub(crate) mod slots;
