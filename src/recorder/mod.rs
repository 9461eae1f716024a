//! Records finished queries: from the data plane's threads through bounded rings to one thread that feeds the sinks.
//!
//! ```text
//!   UDP workers ------- a ring each ----+                     +--> lines --> writer's thread --> query log
//!                                       +--> recorder's thread +--> dnstap
//!   tasks of the async side - some -----+                     +--> top lists
//!                                                              +--> readers of live queries
//! ```
//!
//! A thread of the data plane never waits for a sink: if its ring is full, the query is not recorded, and counted.

mod client_text;
mod clients;
mod control;
mod dnstap;
mod figures;
mod overflow;
mod query_log;
mod record;
mod ring;
mod servers;
mod tail;
mod tap;
mod thread;
mod top;
mod wall_clock;

pub use self::client_text::problem as client_problem;
pub use self::control::Recorder;
pub use self::tap::Tap;
