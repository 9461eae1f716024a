//! Lists: from a file that changed to rules that are ready.

pub(in crate::control) mod landing;
pub mod load;
pub mod parse;
pub(in crate::control) mod state;
