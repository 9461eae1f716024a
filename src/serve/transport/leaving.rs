//! Passes open TCP connections to another process that takes over.

use std::net::TcpStream;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Where connections go when this process leaves them to another one.
#[derive(Debug, Default)]
pub struct Leaving(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Cancelled when connections are to be left.
    token: CancellationToken,
    receiver: Option<Sender<Left>>,
}

/// A connection whose queries are all answered, for another process.
#[derive(Debug)]
pub struct Left {
    /// The connection.
    pub stream: TcpStream,
    /// The bytes of an incomplete query, and queries that were not read yet.
    pub received: Vec<u8>,
}

impl Leaving {
    /// Each connection goes to `receiver` as soon as its queries are answered.
    pub fn begin(&self, receiver: Sender<Left>) {
        let mut state = self.lock();
        state.receiver = Some(receiver);
        state.token.cancel();
    }

    /// Connections that are accepted from now on stay. Those that were to be left, and still wait for answers, are closed
    /// after these.
    pub fn end(&self) {
        *self.lock() = State::default();
    }

    /// Notifies a new connection when it is to be left.
    pub(super) fn token(&self) -> CancellationToken {
        self.lock().token.clone()
    }

    /// Leaves a connection. It is closed if no process takes it any more.
    pub(super) fn leave(&self, left: Left) {
        if let Some(receiver) = &self.lock().receiver {
            // An error means that the other process has ended.
            let _ = receiver.send(left);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
