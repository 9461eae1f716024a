//! Take-over: a new process gets the sockets of the running one, which ends only when the new one serves.
//!
//! The new process connects to the control socket of the running one, and turns the connection into a link by an HTTP
//! upgrade ([`PROTOCOL`](crate::control::admin::successor::PROTOCOL)). On the link, each message is a line of JSON;
//! file descriptors come with it (`SCM_RIGHTS`).
//!
//! ```text
//!   running process                                     new process
//!
//!   serving                      <--- upgrade --------   starting: has read its configuration
//!      |      ---- Socket (each), Offer ------------->      |
//!   offered                                              adopts the sockets
//!      |                         <--- Prepared -------      |
//!   waits until nothing is being written, then parks     waits
//!      |      ---- Parked --------------------------->      |
//!   parked: answers queries, publishes nothing           restores the policy, opens the journal, answers queries
//!      |                         <--- Serving --------      |
//!   committed ( = the commit point)                      serving
//!      |      ---- Connection (each open one) ------->      |
//!   drains and ends
//!      |      ---- End ------------------------------>   alone
//! ```
//!
//! Both processes have the same UDP sockets and listeners, so no query is lost while one of them stops to read. The state
//! directory and the journal are unlocked from `Parked` on, and only one process ever has them.
//!
//! A process learns from the end of the link that the other one has died:
//!
//! - The running process goes on if the link ends before `Serving` has arrived: it parks no longer, and opens the state
//!   directory and the journal again.
//! - The new process goes on in any case: with the sockets, and, as the other one is dead, with the state directory and
//!   the journal. After the upgrade, the running process closes the link only if it has ended, or after `Abort`.
//! - If the running process wants to go on itself, it sends `Abort`, and the new one ends. It waits for that, and kills a
//!   new process that does not end: two processes must not serve with one state directory.

mod predecessor;
mod successor;

pub(super) use self::predecessor::Predecessor;
pub(super) use self::successor::TakeOver;
