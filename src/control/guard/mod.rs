//! Owns the guard rails: which lists are held, which rules are left out, and what stands between both and an accident.
//! Refuses to overrule people: what a guard holds, its name releases.

pub mod account;
pub mod held;
mod names;
pub mod rails;
pub mod release;
pub mod wards;
