//! Secondaries of other makes.
