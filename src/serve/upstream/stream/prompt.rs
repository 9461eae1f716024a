//! A TCP stream that acknowledges at once what it receives.
//!
//! A server may hold back a short segment until the one before is acknowledged (Nagle's algorithm, RFC 1122, section
//! 4.2.3.4), and the system may delay an acknowledgement to send it together with data (section 4.2.3.2). Then the
//! second of two responses, or of two parts of a response, waits for the next query, or for tens of milliseconds.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The TCP stream of a connection.
pub(super) struct PromptStream(pub(super) TcpStream);

impl AsyncRead for PromptStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_read(context, buffer))?;
        // It applies only to what was received so far. An error is ignored, because responses arrive without it, too.
        let _ = self.0.set_quickack(true);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PromptStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn exchange<S>(client: &mut S, server: &mut TcpStream)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut byte = [0];
        client.write_all(b"?").await.expect("sent");
        server.read_exact(&mut byte).await.expect("received");
        server.write_all(b"!").await.expect("sent");
        client.read_exact(&mut byte).await.expect("received");
    }

    #[tokio::test]
    async fn what_is_received_is_acknowledged_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).await.expect("connected");
        let (mut server, _) = listener.accept().await.expect("connected");
        let is_prompt = |client: &TcpStream| client.quickack().expect("known");
        let mut rounds = 0;
        // Linux delays acknowledgements once it has seen that queries follow responses.
        while is_prompt(&client) {
            rounds += 1;
            assert!(rounds < 10_000, "never delayed");
            exchange(&mut client, &mut server).await;
        }
        let mut client = PromptStream(client);
        exchange(&mut client, &mut server).await;
        assert!(is_prompt(&client.0));
    }
}
