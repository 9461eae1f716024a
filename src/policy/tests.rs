//! Tests of policy zones and amendments: lookups in a base and a delta that amends it are compared with lookups in one
//! image of the rules that are left, and these with a simple model.

mod amendments;
mod compare;
mod deltas;
mod lists;
mod marks;
mod model;
mod overlap;
mod snapshots;
pub(crate) mod sources;
