//! The configuration: TOML text to a mirror of the file to a validated [`Config`]. All problems of a file are
//! reported at once.
//!
//! To add a key: a field in `raw`, its default and bounds in `validate`, its type in `types`, its documentation
//! in `config/tapis.toml`.

mod address;
mod blocking;
pub mod comments;
pub mod control;
mod error;
pub mod exception;
mod findings;
pub mod guard;
mod load;
pub mod moment;
pub mod order;
mod raw;
mod reader;
pub mod regular;
pub mod shown;
mod suggest;
mod syntax;
mod types;
pub mod upstream;
mod validate;
pub(crate) mod values;

#[cfg(test)]
mod tests;

pub use error::{Problem, Problems};
pub use types::{
    Cache, Canary, Config, Content, Exceptions, Format, History, List, Local, Orders, Origin,
    Overrides, Server, State,
};
