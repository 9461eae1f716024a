//! The state directory: the images that outlive the process, and rollbacks to earlier generations.

pub mod durable;
pub(crate) mod image_store;
pub(crate) mod restore;
pub(crate) mod rollback;
pub mod rollback_file;
pub mod store;
