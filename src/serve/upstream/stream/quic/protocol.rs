//! A protocol over QUIC, and how its queries and connections end.

use std::fmt::Display;
use std::future::Future;

use quinn::{ConnectionError, VarInt};

use super::super::state::ConnectionState;
use crate::serve::upstream::failures::Failure;

/// A protocol with a stream for each query.
pub(super) trait Protocol: Send + Sync + 'static {
    /// The code of a connection's end without an error.
    const NO_ERROR: VarInt;

    /// Sends a query, and waits for the message that answers it. Cancels the stream if the future is dropped before.
    fn exchange(
        &self,
        query: Vec<u8>,
        state: &ConnectionState,
    ) -> impl Future<Output = Result<Vec<u8>, End>> + Send;
}

/// A reason to complain about a server.
pub(super) struct Fault {
    pub(super) kind: Failure,
    pub(super) problem: String,
}

impl Fault {
    /// It reset a stream, or broke the protocol.
    pub(super) fn protocol(problem: impl Display) -> Self {
        Self {
            kind: Failure::QuicProtocol,
            problem: format!("QUIC with it fails: {problem}"),
        }
    }

    /// The fault in the end of a connection; `None` if that is usual.
    pub(super) fn of_end(error: &ConnectionError, no_error: VarInt) -> Option<Self> {
        match error {
            ConnectionError::ApplicationClosed(close) if close.error_code == no_error => None,
            // It was idle, or the server has restarted, or this program has ended it.
            ConnectionError::TimedOut | ConnectionError::Reset | ConnectionError::LocallyClosed => {
                None
            }
            other => Some(Self::protocol(other)),
        }
    }
}

/// Why a query has no response that fits it.
pub(super) enum End {
    /// The connection ended: the query is sent again.
    Lost,
    /// The server did not process the query: it is sent again.
    Unprocessed {
        /// Whether the server takes no further queries on this connection.
        is_over: bool,
    },
    /// The server gave no DNS message, and would give none to the same query again.
    Fault(Fault),
    /// The response belongs to another query.
    Unasked,
    /// The query has given up.
    Unwanted,
}
