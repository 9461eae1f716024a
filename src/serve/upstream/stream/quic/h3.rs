//! DNS over HTTPS (RFC 8484) by HTTP/3: a request for each query.

use std::future::{Future, poll_fn};

use h3::client::{RequestStream, SendRequest};
use h3::error::{Code, StreamError};
use h3_quinn::OpenStreams;
use quinn::VarInt;
use tokio_util::bytes::{Buf, Bytes};

use super::super::state::ConnectionState;
use super::protocol::{End, Fault, Protocol};
use crate::serve::upstream::http::{Body, Endpoint, HttpFault};

/// H3_NO_ERROR (RFC 9114, section 8.1).
const NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// The maximum length of the headers of a response.
const HEADERS: u64 = 16 << 10;

type Requests = SendRequest<OpenStreams, Bytes>;
type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// The protocol on one connection.
pub(super) struct H3 {
    requests: Requests,
    endpoint: Endpoint,
}

impl H3 {
    /// Starts it on a new connection. Returns with it a future that waits for the end of the connection, which must be
    /// polled; its result is the fault in that end.
    pub(super) async fn start(
        connection: quinn::Connection,
        endpoint: Endpoint,
    ) -> Result<(Self, impl Future<Output = Option<Fault>> + Send), Fault> {
        let mut builder = h3::client::builder();
        // Some servers end connections that have the reserved values by which HTTP/3 tests them.
        builder.send_grease(false).max_field_section_size(HEADERS);
        let quic = connection.clone();
        let started = builder.build::<_, _, Bytes>(h3_quinn::Connection::new(connection));
        let (mut driver, requests) = started.await.map_err(|error| protocol(&error))?;
        let closed = async move {
            let end = poll_fn(|context| driver.poll_close(context)).await;
            match quic.close_reason() {
                Some(reason) => Fault::of_end(&reason, NO_ERROR),
                None if end.is_h3_no_error() => None,
                None => Some(protocol(&end)),
            }
        };
        Ok((Self { requests, endpoint }, closed))
    }
}

impl Protocol for H3 {
    const NO_ERROR: VarInt = NO_ERROR;

    async fn exchange(&self, query: Vec<u8>, state: &ConnectionState) -> Result<Vec<u8>, End> {
        let head = self.endpoint.request(query.len());
        // Waits while the server permits no further stream.
        let stream = self.requests.clone().send_request(head).await;
        let mut request = Request {
            stream: stream.map_err(|error| end_of(&error))?,
            is_complete: false,
        };
        let message = read(&mut request.stream, query, state).await?;
        request.is_complete = true;
        Ok(message)
    }
}

/// Sends a query, and reads the DNS message of the response.
async fn read(
    stream: &mut Stream,
    query: Vec<u8>,
    state: &ConnectionState,
) -> Result<Vec<u8>, End> {
    let sent = async {
        stream.send_data(Bytes::from(query)).await?;
        stream.finish().await
    };
    sent.await.map_err(|error| end_of(&error))?;
    let head = loop {
        let head = stream.recv_response().await;
        let (head, ()) = head.map_err(|error| end_of(&error))?.into_parts();
        state.received();
        // Interim responses may come before the final one (RFC 9114, section 4.1).
        if !head.status.is_informational() {
            break head;
        }
    };
    let mut body = Body::of(&head).map_err(fault)?;
    while let Some(mut bytes) = stream.recv_data().await.map_err(|error| end_of(&error))? {
        state.received();
        while bytes.has_remaining() {
            let chunk = bytes.chunk();
            body.add(chunk).map_err(fault)?;
            let length = chunk.len();
            bytes.advance(length);
        }
    }
    Ok(body.into_message())
}

/// A request that is cancelled if it is dropped before its response is complete.
struct Request {
    stream: Stream,
    is_complete: bool,
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.is_complete {
            // The receiving half ends by itself: QUIC asks the server to stop once it is dropped. While a read waits,
            // `stop_sending` would panic.
            self.stream.stop_stream(Code::H3_REQUEST_CANCELLED);
        }
    }
}

fn fault(fault: HttpFault) -> End {
    End::Fault(of_http(&fault))
}

fn of_http(fault: &HttpFault) -> Fault {
    Fault {
        kind: fault.failure(),
        problem: fault.to_string(),
    }
}

fn protocol(error: &dyn std::fmt::Display) -> Fault {
    of_http(&HttpFault::Protocol(error.to_string()))
}

/// The end of a request by an error.
fn end_of(error: &StreamError) -> End {
    match error {
        // The server has not processed it (RFC 9114, section 4.1.1).
        StreamError::RemoteTerminate { code, .. } if *code == Code::H3_REQUEST_REJECTED => {
            End::Unprocessed { is_over: false }
        }
        StreamError::RemoteClosing { .. } => End::Unprocessed { is_over: true },
        StreamError::ConnectionError { .. } => End::Lost,
        other => End::Fault(protocol(other)),
    }
}
