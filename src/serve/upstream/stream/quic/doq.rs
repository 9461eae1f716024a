//! DNS over QUIC (RFC 9250): a message with its length in each direction of a stream.

use futures_util::FutureExt;
use quinn::{ReadError, ReadExactError, RecvStream, SendStream, VarInt, WriteError};

use super::super::state::ConnectionState;
use super::protocol::{End, Fault, Protocol};
use crate::wire::{HEADER, read_u16};

// The codes of section 4.3.
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
/// Their names.
const CODES: [&str; 6] = [
    "DOQ_NO_ERROR",
    "DOQ_INTERNAL_ERROR",
    "DOQ_PROTOCOL_ERROR",
    "DOQ_REQUEST_CANCELLED",
    "DOQ_EXCESSIVE_LOAD",
    "DOQ_UNSPECIFIED_ERROR",
];

/// The protocol on one connection.
pub(super) struct Doq(quinn::Connection);

impl Doq {
    pub(super) fn new(connection: quinn::Connection) -> Self {
        Self(connection)
    }

    /// Waits for the end of a connection; returns the fault in it.
    pub(super) async fn closed(connection: quinn::Connection) -> Option<Fault> {
        Fault::of_end(&connection.closed().await, NO_ERROR)
    }

    /// Ends the connection, because the server broke the protocol (section 4.3.3). Its other queries are sent again on
    /// another connection.
    fn broken(&self, problem: &str) -> End {
        self.0.close(PROTOCOL_ERROR, b"");
        End::Fault(Fault::protocol(problem))
    }

    async fn read(&self, from: &mut Receiving, state: &ConnectionState) -> Result<Vec<u8>, End> {
        let mut length = [0; 2];
        self.fill(from, &mut length).await?;
        state.received();
        let length = u16::from_be_bytes(length);
        if usize::from(length) < HEADER {
            return Err(self.broken("it sent a message that is shorter than a header"));
        }
        let mut message = vec![0; usize::from(length)];
        self.fill(from, &mut message).await?;
        if read_u16(&message, 0) != Some(0) {
            return Err(self.broken("it sent a message whose ID is not 0"));
        }
        // Most servers end the stream together with the response. Others are not waited for.
        match from.stream.read_chunk(1, true).now_or_never() {
            Some(Ok(Some(_))) => Err(self.broken("it sent more than one response to a query")),
            _ => {
                from.end = NO_ERROR;
                Ok(message)
            }
        }
    }

    async fn fill(&self, from: &mut Receiving, bytes: &mut [u8]) -> Result<(), End> {
        from.stream
            .read_exact(bytes)
            .await
            .map_err(|error| match error {
                ReadExactError::FinishedEarly(_) => {
                    self.broken("it ended a stream before the end of the response")
                }
                ReadExactError::ReadError(ReadError::Reset(code)) => reset(code),
                ReadExactError::ReadError(_) => End::Lost,
            })
    }
}

impl Protocol for Doq {
    const NO_ERROR: VarInt = NO_ERROR;

    async fn exchange(&self, query: Vec<u8>, state: &ConnectionState) -> Result<Vec<u8>, End> {
        // Waits while the server permits no further stream.
        let (to, stream) = self.0.open_bi().await.map_err(|_| End::Lost)?;
        let mut to = Sending(to);
        let mut from = Receiving {
            stream,
            end: REQUEST_CANCELLED,
        };
        let length = (query.len() as u16).to_be_bytes();
        let frame = [&length[..], &query].concat();
        to.0.write_all(&frame).await.map_err(|error| match error {
            WriteError::Stopped(code) => reset(code),
            _ => End::Lost,
        })?;
        // Queries have no more messages. It fails only if the connection has ended, which reading reports.
        let _ = to.0.finish();
        self.read(&mut from, state).await
    }
}

/// The sending half of a stream, which is reset if the query is given up before the server has all of it. Otherwise QUIC
/// would finish it, and a part of a query would look like all of it, which breaks the protocol.
struct Sending(SendStream);

impl Drop for Sending {
    fn drop(&mut self) {
        // It fails if the server has all of it, or has stopped it.
        let _ = self.0.reset(REQUEST_CANCELLED);
    }
}

/// The receiving half of a stream, which is ended with a code.
struct Receiving {
    stream: RecvStream,
    end: VarInt,
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // It fails if the server has ended it already.
        let _ = self.stream.stop(self.end);
    }
}

/// The server refuses a query.
fn reset(code: VarInt) -> End {
    let number = code.into_inner();
    let name = usize::try_from(number)
        .ok()
        .and_then(|number| CODES.get(number));
    let shown = name.map_or_else(|| format!("code {number}"), |name| (*name).to_owned());
    End::Fault(Fault::protocol(format!("it resets streams ({shown})")))
}
