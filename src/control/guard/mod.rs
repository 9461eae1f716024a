//! Owns the guard rails: which lists are held, which rules are left out, and what stands between both and an accident.
//! Refuses to overrule people: what a guard holds, its name releases.

pub mod acceptance;
pub(crate) mod guarding;
mod names;
pub mod policy;
pub mod protected;
pub mod release;
pub mod suppressed;
