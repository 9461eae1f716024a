//! From lists and orders that are ready to a snapshot in force.

pub(in crate::control) mod causes;
pub mod compose;
pub mod data_plane;
pub(in crate::control) mod delta;
pub(in crate::control) mod order_changes;
pub(in crate::control) mod pending;
pub(in crate::control) mod provenance;
pub(in crate::control) mod publishing;
pub(in crate::control) mod slots;
