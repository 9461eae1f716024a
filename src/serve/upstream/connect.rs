//! Owns the way to one upstream server: hickory's UDP and TCP connections.
//! Refuses to choose servers or to judge answers.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsExchange, DnsHandle, DnsRequestSender};
use hickory_net::{DnsError, NetError};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio::sync::Mutex;

use crate::serve::cache::Key;
use crate::wire::UDP_PAYLOAD;

/// Most questions that wait on one TCP connection at a time.
const TCP_PIPELINE: usize = 1024;

/// How a question travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One datagram from a random port, with a random ID (RFC 5452).
    Udp,
    /// A connection that is kept and shared (RFC 7766).
    Tcp,
}

/// Why a server gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeError {
    /// None came in time.
    Timeout,
    /// The network does not lead there.
    Unreachable,
    /// What came is no DNS message, or no answer to the question.
    Malformed,
}

/// Asks one server one question. The tests' own kind answers from a script.
pub trait Connector: Send + Sync + 'static {
    /// Sends `question` to `server` and returns the answer's octets. Gives up after `patience`.
    fn exchange(
        &self,
        server: SocketAddr,
        over: Transport,
        question: &Key,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, ExchangeError>>;
}

/// Asks over the network. Keeps one TCP connection for each server.
#[derive(Default)]
pub struct Network {
    /// Owns the tasks that drive the TCP connections: they end when it is dropped.
    provider: TokioRuntimeProvider,
    streams: HashMap<SocketAddr, std::sync::Arc<Stream>>,
}

type Stream = Mutex<Option<DnsExchange<TokioRuntimeProvider>>>;

impl Network {
    /// For these servers.
    pub fn new(servers: &[SocketAddr]) -> Self {
        let streams = servers.iter().map(|&s| (s, std::sync::Arc::default()));
        Self {
            provider: TokioRuntimeProvider::new(),
            streams: streams.collect(),
        }
    }
}

impl Connector for Network {
    fn exchange(
        &self,
        server: SocketAddr,
        over: Transport,
        question: &Key,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, ExchangeError>> {
        let Some(request) = request(question) else {
            return Box::pin(std::future::ready(Err(ExchangeError::Malformed)));
        };
        let stream = self.streams.get(&server).cloned().unwrap_or_default();
        let provider = self.provider.clone();
        Box::pin(async move {
            let answer = async {
                match over {
                    Transport::Udp => by_udp(server, request, patience, provider).await,
                    Transport::Tcp => by_tcp(server, request, patience, provider, &stream).await,
                }
            };
            match tokio::time::timeout(patience, answer).await {
                Ok(Ok(response)) => Ok(response.into_buffer()),
                Ok(Err(error)) => Err(classify(&error)),
                Err(_) => Err(ExchangeError::Timeout),
            }
        })
    }
}

/// A fresh query: random ID, RD, EDNS of our own (nothing of the client's travels on, ECS least of
/// all), and AD to be told whether the answer is authentic (RFC 6840, section 5.7).
fn request(question: &Key) -> Option<DnsRequest> {
    let name = Name::read(&mut BinDecoder::new(question.name())).ok()?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.metadata.authentic_data = true;
    message.metadata.checking_disabled = question.checking_disabled();
    message
        .queries
        .push(Query::query(name, RecordType::from(question.rtype())));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    edns.set_dnssec_ok(question.dnssec_ok());
    message.edns = Some(edns);
    Some(DnsRequest::new(message, DnsRequestOptions::default()))
}

async fn by_udp(
    server: SocketAddr,
    request: DnsRequest,
    patience: Duration,
    provider: TokioRuntimeProvider,
) -> Result<DnsResponse, NetError> {
    let mut sender = UdpClientStream::builder(server, provider)
        .with_timeout(Some(patience))
        // Repetition is the pool's: it goes to another server if there is one.
        .with_max_retries(1)
        .build();
    first(sender.send_message(request)).await
}

async fn by_tcp(
    server: SocketAddr,
    request: DnsRequest,
    patience: Duration,
    provider: TokioRuntimeProvider,
    stream: &Stream,
) -> Result<DnsResponse, NetError> {
    let kept = stream.lock().await.clone();
    if let Some(exchange) = kept {
        // A connection may have died without a word: half the time is kept for another.
        let answer = first(exchange.send(request.clone()));
        if let Ok(Ok(response)) = tokio::time::timeout(patience / 2, answer).await {
            return Ok(response);
        }
    }
    // None was kept, or it is of no use any more.
    let exchange =
        TcpClientStream::exchange(server, None, patience, Some(TCP_PIPELINE), provider).await?;
    *stream.lock().await = Some(exchange.clone());
    first(exchange.send(request)).await
}

/// The one answer. A stream that ends without any is how hickory tells that time is up.
async fn first(
    mut answers: impl futures_util::Stream<Item = Result<DnsResponse, NetError>> + Unpin,
) -> Result<DnsResponse, NetError> {
    answers.next().await.unwrap_or(Err(NetError::Timeout))
}

fn classify(error: &NetError) -> ExchangeError {
    match error {
        NetError::Timeout => ExchangeError::Timeout,
        NetError::Io(io) if io.kind() == io::ErrorKind::TimedOut => ExchangeError::Timeout,
        NetError::Io(_) | NetError::NoConnections | NetError::Busy => ExchangeError::Unreachable,
        NetError::Dns(DnsError::ResponseCode(_)) | NetError::Proto(_) => ExchangeError::Malformed,
        _ => ExchangeError::Unreachable,
    }
}
