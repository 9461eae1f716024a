//! The verbs of lists: `tapis list add`, `remove`, `available`, `stats`, `show`.

mod change;
mod show;
