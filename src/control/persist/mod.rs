//! The state directory with the images that outlive the process, and the module that writes files durably.

pub mod durable;
pub(crate) mod image_store;
pub(crate) mod list_notes;
pub(crate) mod lock;
pub(crate) mod persistence;
pub mod store;
