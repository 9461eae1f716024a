//! Opens streams to an upstream server: TCP, or TLS over TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Version;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::prompt::PromptStream;
use crate::config::encryption::Protocol;
use crate::serve::upstream::exchange::{ExchangeError, error_of};
use crate::serve::upstream::failures::{Failure, Failures};
use crate::serve::upstream::http::Endpoint;
use crate::stats::{Count, Counters};
use crate::tls::client::TlsClient;
use crate::tls::fault::{TlsFault, describe, other_protocol};

/// How often a connection is opened again that is cut during its handshake.
const HANDSHAKES: usize = 3;

/// A byte stream to a server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How streams to a server are opened, and where failures are recorded.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Peer {
    pub(in crate::serve) address: SocketAddr,
    /// `None` means TCP without encryption.
    pub(in crate::serve) tls: Option<TlsClient>,
    pub(in crate::serve) failures: Arc<Failures>,
    pub(in crate::serve) counters: Arc<Counters>,
}

impl Peer {
    /// Opens a stream.
    pub(super) async fn open(&self, deadline: Instant) -> Result<Box<dyn Stream>, ExchangeError> {
        let Some(tls) = &self.tls else {
            return Ok(Box::new(self.connect(deadline).await?));
        };
        for left in (0..HANDSHAKES).rev() {
            let stream = self.connect(deadline).await.inspect_err(|error| {
                let problem = match error {
                    ExchangeError::Timeout => "TCP connections to it are not accepted in time",
                    ExchangeError::Unreachable => "TCP connections to it are refused",
                    ExchangeError::Busy | ExchangeError::Refused => return,
                };
                self.failures.not_connected(None, problem.to_owned());
            })?;
            let handshake = tls.connector().connect(tls.name().clone(), stream);
            match timeout_at(deadline, handshake).await {
                Ok(Ok(stream)) if !tls.is_spoken_by(stream.get_ref().1) => {
                    let problem = other_protocol(tls.protocol());
                    self.fail(Failure::Tls(TlsFault::Protocol), problem.to_owned());
                    return Err(ExchangeError::Unreachable);
                }
                Ok(Ok(stream)) => {
                    self.counters.bump(Count::UpstreamHandshakes);
                    return Ok(Box::new(stream));
                }
                Ok(Err(error)) if left > 0 && is_cut(&error) => {}
                Ok(Err(error)) => {
                    let (fault, problem) =
                        describe(&error, &tls.subject().to_str(), tls.protocol());
                    self.fail(Failure::Tls(fault), problem);
                    return Err(ExchangeError::Unreachable);
                }
                Err(_) => {
                    let problem = "it does not complete the TLS handshake in time";
                    self.fail(Failure::TlsTimeout, problem.to_owned());
                    return Err(ExchangeError::Timeout);
                }
            }
        }
        Err(ExchangeError::Unreachable)
    }

    /// Where queries are sent by HTTP; `None` if the server is not asked by HTTP.
    pub(super) fn endpoint(&self) -> Result<Option<Endpoint>, ExchangeError> {
        let tls = self.tls.as_ref();
        let of_http = tls.filter(|tls| !tls.protocol().path().is_empty());
        let endpoint = of_http.map(|tls| {
            let version = match tls.protocol() {
                Protocol::H3 { .. } => Version::HTTP_3,
                _ => Version::HTTP_2,
            };
            let endpoint = Endpoint::new(tls.settings(), self.address, version);
            endpoint.map_err(|error| {
                self.fail(
                    Failure::HttpProtocol,
                    format!("its URL can't be used: {error}"),
                );
                ExchangeError::Unreachable
            })
        });
        endpoint.transpose()
    }

    async fn connect(&self, deadline: Instant) -> Result<PromptStream, ExchangeError> {
        let stream = match timeout_at(deadline, TcpStream::connect(self.address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(error_of(&error)),
            Err(_) => return Err(ExchangeError::Timeout),
        };
        // An error is ignored, because the option is not essential: without it the system may delay a query, to merge
        // it with the next one.
        let _ = stream.set_nodelay(true);
        Ok(PromptStream(stream))
    }

    /// Records that a connection was not established.
    pub(super) fn fail(&self, failure: Failure, problem: String) {
        self.counters.bump(Count::UpstreamHandshakesFailed);
        self.failures.not_connected(Some(failure), problem);
    }
}

/// Whether the other end closed the connection, without an error of TLS.
fn is_cut(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}
