//! A TCP stream that acknowledges what it receives at once if more responses are due.
//!
//! A server may hold back a short segment until the one before is acknowledged (Nagle's algorithm, RFC 1122, section
//! 4.2.3.4), and the system may delay an acknowledgement to send it together with data (section 4.2.3.2). Then the
//! second of two responses waits for the next query, or for tens of milliseconds, and so do all later ones.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::state::ConnectionState;

/// The TCP stream of a connection.
pub(super) struct PromptStream {
    stream: TcpStream,
    state: Arc<ConnectionState>,
}

impl PromptStream {
    pub(super) fn new(stream: TcpStream, state: Arc<ConnectionState>) -> Self {
        Self { stream, state }
    }
}

impl AsyncRead for PromptStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        // With a single query in flight, the next one carries the acknowledgement.
        if buffer.filled().len() > before && self.state.is_pipelined() {
            // It applies to what was received so far. An error is ignored, because the responses arrive without it, too.
            let _ = self.stream.set_quickack(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PromptStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::serve::upstream::server::Server;
    use crate::wire::ask::Dialect;

    async fn exchange(client: &mut PromptStream, server: &mut TcpStream) {
        let mut byte = [0];
        client.write_all(b"?").await.expect("sent");
        server.read_exact(&mut byte).await.expect("received");
        server.write_all(b"!").await.expect("sent");
        client.read_exact(&mut byte).await.expect("received");
    }

    #[tokio::test]
    async fn acknowledgements_are_delayed_unless_another_query_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let stream = TcpStream::connect(address).await.expect("connected");
        let (mut server, _) = listener.accept().await.expect("connected");
        let peer = Server::new(address, Dialect::FULL).peer(&Arc::default());
        let state = Arc::new(ConnectionState::new(&peer));
        let mut client = PromptStream::new(stream, Arc::clone(&state));
        let is_prompt = |client: &PromptStream| client.stream.quickack().expect("known");

        let _first = state.places.acquire().await.expect("open");
        let mut rounds = 0;
        // Linux delays them once it has seen that each response is followed by a query.
        while is_prompt(&client) {
            rounds += 1;
            assert!(rounds < 10_000, "never delayed");
            exchange(&mut client, &mut server).await;
        }
        let second = state.places.acquire().await.expect("open");
        exchange(&mut client, &mut server).await;
        assert!(is_prompt(&client));
        drop(second);
        exchange(&mut client, &mut server).await;
        exchange(&mut client, &mut server).await;
        assert!(!is_prompt(&client));
    }
}
