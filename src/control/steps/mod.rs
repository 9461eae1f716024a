//! What concerns several components at once: loads that come into force, reloads, and rollbacks.

mod loads;
mod reload;
mod rollback;
