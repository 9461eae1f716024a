//! The configuration. TOML text is parsed into `raw` values, and these are validated and become a [`Config`]. All
//! problems of a file are reported at once.
//!
//! To add a key, add a field to `raw`, its default and bounds to `validate`, its type to `types`, and its documentation
//! to `config/tapis.toml`.

mod address;
pub(crate) mod blocking;
pub mod catalogue;
pub mod comments;
pub mod control;
mod convert;
pub mod dnstap;
pub mod download;
pub mod encryption;
mod error;
pub mod exception;
pub mod feed;
mod findings;
mod format;
pub mod forward;
pub mod guard;
pub mod import;
pub mod list_edit;
mod lists;
mod load;
pub mod local;
mod local_record;
pub mod log;
pub mod metrics;
pub mod moment;
mod named;
pub mod order;
pub mod paths;
pub mod pause;
mod primary;
pub mod process;
pub(crate) mod public;
pub mod publish;
mod raw;
mod reader;
pub mod recording;
pub mod regular;
pub mod secret;
pub mod selection;
pub mod shown;
pub mod special_use;
pub(crate) mod suggest;
mod syntax;
pub mod top;
mod tsig;
mod types;
pub mod upstream;
mod validate;
pub(crate) mod values;
pub mod web;
pub mod zone;

#[cfg(test)]
mod tests;

pub use error::{Problem, Problems};
pub use types::{
    Cache, Config, Content, Exceptions, Format, History, List, Local, Orders, Origin, Overrides,
    Recording, Server, StateConfig,
};
