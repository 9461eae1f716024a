//! How clients reach the server. A transport receives messages, passes each one with its client to the dispatcher, and
//! sends the answers that the dispatcher returns. It does not depend on policy, cache or upstream.
//!
//! Each transport does this:
//!
//! 1. It receives messages and describes their sender as a [`Client`](super::client::Client): a stream once per
//!    connection, UDP once per packet.
//! 2. It dispatches each message exactly once. An asynchronous transport calls
//!    [`Resolver::dispatch`](super::resolver::Resolver::dispatch), which returns a
//!    [`Dispatched`](super::pending::Dispatched): the answer, nothing, or a [`Pending`](super::pending::Pending)
//!    message. The UDP workers, which must not wait or allocate, pass batches to `Dispatcher::batch` and implement
//!    `BatchExchange`.
//! 3. It sends answers in any order. For a pending message it awaits
//!    [`Pending::resolve`](super::pending::Pending::resolve) and then sends the answer that
//!    [`Pending::conclude`](super::pending::Pending::conclude) returns. `conclude` uses the policy snapshot that is
//!    current when it is called.
//! 4. It limits what it keeps in memory for one client, and ends at shutdown.
//!
//! A transport neither counts nor observes queries: the dispatcher reports each query to the
//! [`Observer`](super::observe::Observer) once. A new transport is a module here and a variant of
//! [`Transport`](super::client::Transport).

mod frame;
pub mod leaving;
pub mod stream;
pub mod udp;
