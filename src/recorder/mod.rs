//! Records finished queries: from the data plane's threads through bounded rings to one thread that feeds the sinks.
//!
//! ```text
//!   UDP workers ------- a ring each ----+
//!                                       +--> recorder's thread --> query log, dnstap
//!   tasks of the async side - some -----+
//! ```
//!
//! A thread of the data plane never waits for a sink: if its ring is full, the query is not recorded, and counted.

mod client_text;
mod control;
mod dnstap;
mod figures;
pub mod query_log;
mod record;
mod ring;
mod tap;
mod thread;
mod wall_clock;

pub use self::control::Recorder;
pub use self::tap::Tap;
