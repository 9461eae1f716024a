//! Unsafe system calls and instructions behind safe functions.

pub mod account;
pub mod alarm;
pub mod background;
pub mod group;
pub mod interface;
pub mod lanes;
mod lookup;
pub mod orphan;
pub mod passed;
pub mod prefetch;
pub mod privileges;
pub mod process;
pub mod starter;
pub mod udp;
pub mod wait;
