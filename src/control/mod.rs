//! Owns the control plane: lists, reloading, the control socket.
//! Refuses to touch a packet: it meets the data plane in `policy::current` alone.

pub mod api;
mod calendar;
mod chronicle;
pub mod client;
pub mod compile;
mod compiling;
pub mod compose;
mod errands;
mod following;
pub mod guard;
mod guarding;
pub mod hold;
mod join;
pub mod journal;
mod keep;
mod landing;
pub mod lists;
pub mod load;
mod notes;
pub mod orders;
mod preparing;
mod publishing;
mod reading;
pub mod reload;
mod report;
mod slots;
pub mod socket;
mod stage;
pub mod start;
mod state;
pub mod status;
pub mod store;
pub mod wall;
pub mod watch;
mod way;
pub mod wishes;
