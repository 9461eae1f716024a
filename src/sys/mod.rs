//! Owns the few unsafe system calls, behind safe functions.
//! Refuses to know what they are for.

pub mod alarm;
pub mod background;
pub mod group;
pub mod interface;
pub mod lanes;
pub mod prefetch;
pub mod process;
pub mod udp;
pub mod wait;
