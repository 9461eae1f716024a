//! The steps of the control loop in which several components take part.

mod compiling;
mod guarding;
mod joining;
mod preparing;
mod publishing;
mod reading_orders;
mod reconfiguring;
mod requests;
mod restoring;
mod rolling_back;
