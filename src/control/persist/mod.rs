//! The state directory: the images that outlive the process, and rollbacks to earlier generations.

pub(in crate::control) mod keeper;
pub(in crate::control) mod restore;
pub(in crate::control) mod rollback;
pub mod rollback_file;
pub mod store;
