//! Take-over: a new process gets the sockets of the running one, which ends only when the new one serves.
//!
//! The new process connects to the control socket of the running one, checks which user runs it, and turns the
//! connection into a link by an HTTP upgrade ([`PROTOCOL`](crate::control::admin::successor::PROTOCOL)). The running
//! process checks that the new one belongs to its own user or to root. On the link, each message is a line of JSON;
//! file descriptors come with it (`SCM_RIGHTS`). Each process may have to wait for the end of the other one, and to kill it. The
//! running one gets the number of the new one from the system (`SO_PEERCRED`); the new one compares the number in `Offer` with
//! that of the sender (`SCM_CREDENTIALS`). Both then use a descriptor of the process, as a number may be used again.
//!
//! ```text
//!   running process                                     new process
//!
//!   serving                      <--- upgrade --------   starting: has read its configuration
//!      |      ---- Socket (each), Offer ------------->      |
//!   offered                                              prepared: has adopted the sockets
//!      |                         <--- Prepared -------      |
//!      |      ---- Cache ---------------------------->      |
//!   waits until nothing is being written                 waits
//!      |      ---- Parked --------------------------->      |
//!   parked: answers queries, publishes nothing           restores policy and cache, opens the journal
//!      |                         <--- Serving --------   answering: both answer queries
//!   leaving: reads no queries, answers those it has         |
//!      |                         <--- Alive (again, until Well)
//!      |      ---- Connection (each open one) ------->      |
//!   closes its query log                                    |
//!      |      ---- Drained -------------------------->   the only one that answers; writes its query log
//!   guarding: can go on at any moment                    checks that it reads all queries
//!      |                         <--- Well -----------      |
//!   committed: notifies the service manager (MAINPID)       |
//!      |      ---- End ------------------------------>   serving: control socket, metrics, changes of the policy
//!   ends
//! ```
//!
//! Both processes have the same UDP sockets and listeners, so no query is lost while one of them stops to read.
//!
//! **One process changes things.** The state directory and the journal are unlocked from `Parked` on, and only one
//! process ever has them. From `Parked` to `End`, no process changes the policy: the running one is parked, and the
//! control loop of the new one has not started. So whichever process is left has everything that was in force. The
//! running process keeps the control socket and the addresses of metrics until `End`; it answers questions, and
//! requests for changes wait for the process that serves afterwards: those for the control loop from `Parked` on, and those of
//! the cache and the level of the log from `Cache` on. If the running process gets SIGHUP, or has begun a reload since the
//! take-over began, it sends SIGHUP to the new process, which has read its configuration before. The query log and dnstap are written by the
//! running process until `Drained`, and by the new one from then on, which holds back its records until then.
//!
//! **Deaths.** A process learns from the end of the link that the other one has died:
//!
//! ```text
//!                          the new process dies,
//!                          hangs, or is not well in time
//!   offered, parked, leaving, guarding ----------> serving: reads its sockets, state directory and journal again
//!
//!                          the running process dies
//!   prepared, answering, ... --------------------> serving: alone, with the sockets and all that is in force
//! ```
//!
//! - While the running process reads no queries, the new one sends `Alive` every 250 ms. If none comes for two seconds, nobody may
//!   be reading: the running process kills the new one, and reads again. From `Drained` on nothing takes long: 30 s for
//!   `Well` are a limit for a new process that is alive, and reads.
//! - The running process goes on until it has received `Well`, which is the commit point. Before it opens the state
//!   directory again, it makes sure that the new process has ended, and kills it if need be: two processes must not
//!   serve with one state directory. It answers queries at once, without waiting for that.
//! - The new process goes on in any case: after the upgrade, the running process closes the link only if it has ended,
//!   or after `Abort`. If a bug in it broke the take-over off, it stops. The new process waits until it has ended, and
//!   kills it if need be.
//! - Between `Well` and the end of the running process are the two messages to service manager and new process: some
//!   milliseconds. Afterwards, the new process is as any server: if it is killed, the service manager restarts it
//!   (`Restart=on-failure` follows `MAINPID`), and without one, nobody does.
//! - SIGTERM to the new process before `End` ends it, and the running one goes on. SIGTERM to the running process ends it,
//!   and the new one goes on. A service manager sends the signal to both.

mod departure;
mod launch;
mod predecessor;
mod successor;
mod warming;

pub use self::launch::Launcher;
pub(super) use self::predecessor::Predecessor;
pub(super) use self::successor::{Begun, TakeOver};
