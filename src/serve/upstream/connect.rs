//! Owns the way to one upstream server: datagrams of our own, and hickory's TCP connections.
//! Refuses to choose servers or to judge answers.
//!
//! UDP is ours (`datagram`), so that an answer need only be one to the question. By TCP hickory
//! still reads the whole answer: records that it can't read make none, but only where UDP cut them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::xfer::{DnsExchange, DnsHandle};
use hickory_net::{DnsError, NetError};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::datagram;
use crate::serve::cache::Key;
use crate::stats::Counters;
use crate::wire::{UDP_PAYLOAD, ask};

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
    /// No socket was free: this says nothing of the server.
    Busy,
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

    /// Whether questions wait for a socket, so that a late answer may not be the server's fault.
    fn crowded(&self) -> bool {
        false
    }
}

/// Asks over the network. Keeps one TCP connection for each server.
pub struct Network {
    /// Owns the tasks that drive the TCP connections: they end when it is dropped.
    provider: TokioRuntimeProvider,
    lines: HashMap<SocketAddr, Arc<Mutex<Line>>>,
    /// Places for UDP sockets. TCP needs none: it has one connection for each server.
    places: Arc<Semaphore>,
    counters: Arc<Counters>,
}

/// The TCP connection to one server.
#[derive(Default)]
struct Line {
    exchange: Option<DnsExchange<TokioRuntimeProvider>>,
    /// Which one it is, counted from 1.
    number: u64,
}

impl Network {
    /// For these servers, with at most `sockets` UDP sockets at a time: a question has one for each
    /// try that waits.
    pub fn new(servers: &[SocketAddr], sockets: usize, counters: Arc<Counters>) -> Self {
        let lines = servers.iter().map(|&server| (server, Arc::default()));
        Self {
            provider: TokioRuntimeProvider::new(),
            lines: lines.collect(),
            places: Arc::new(Semaphore::new(sockets.clamp(1, Semaphore::MAX_PERMITS))),
            counters,
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
        match over {
            Transport::Udp => {
                let mut octets = Vec::new();
                ask::write(&question.question(), &rand::random(), &mut octets);
                let (places, counters) = (self.places.clone(), self.counters.clone());
                Box::pin(by_udp(server, octets, patience, places, counters))
            }
            Transport::Tcp => {
                let Some(request) = request(question) else {
                    return Box::pin(std::future::ready(Err(ExchangeError::Malformed)));
                };
                let request = DnsRequest::new(request, DnsRequestOptions::default());
                let line = self.lines.get(&server).cloned().unwrap_or_default();
                let provider = self.provider.clone();
                Box::pin(async move {
                    let answer = by_tcp(server, request, patience, provider, &line);
                    match timeout(patience, answer).await {
                        Ok(Ok(response)) => Ok(response.into_buffer()),
                        Ok(Err(error)) => Err(classify(&error)),
                        Err(_) => Err(ExchangeError::Timeout),
                    }
                })
            }
        }
    }

    fn crowded(&self) -> bool {
        self.places.available_permits() == 0
    }
}

/// A fresh query: random ID, RD, EDNS of our own (nothing of the client's travels on, ECS least of
/// all), and AD to be told whether the answer is authentic (RFC 6840, section 5.7).
fn request(question: &Key) -> Option<Message> {
    let asked = question.question();
    let name = Name::read(&mut BinDecoder::new(question.name())).ok()?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.metadata.authentic_data = true;
    message.metadata.checking_disabled = asked.checking_disabled;
    message
        .queries
        .push(Query::query(name, RecordType::from(question.rtype())));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    edns.set_dnssec_ok(asked.dnssec_ok);
    message.edns = Some(edns);
    Some(message)
}

async fn by_udp(
    server: SocketAddr,
    request: Vec<u8>,
    patience: Duration,
    places: Arc<Semaphore>,
    counters: Arc<Counters>,
) -> Result<Vec<u8>, ExchangeError> {
    let deadline = Instant::now() + patience;
    let Ok(Ok(_place)) = timeout_at(deadline, places.acquire()).await else {
        return Err(ExchangeError::Busy);
    };
    let answer = datagram::exchange(server, &request, &counters);
    match timeout_at(deadline, answer).await {
        Ok(Ok(octets)) => Ok(octets),
        Ok(Err(error)) => Err(unreachable(&error)),
        Err(_) => Err(ExchangeError::Timeout),
    }
}

async fn by_tcp(
    server: SocketAddr,
    request: DnsRequest,
    patience: Duration,
    provider: TokioRuntimeProvider,
    line: &Mutex<Line>,
) -> Result<DnsResponse, NetError> {
    let connect =
        || TcpClientStream::exchange(server, None, patience, Some(TCP_PIPELINE), provider);
    let mut line_now = line.lock().await;
    let kept = line_now
        .exchange
        .clone()
        .map(|kept| (kept, line_now.number));
    if let Some((exchange, number)) = kept {
        // The lock is not held while an answer is waited for.
        drop(line_now);
        // A connection may have died without a word: half the time is kept for another.
        let answer = first(exchange.send(request.clone()));
        if let Ok(Ok(response)) = timeout(patience / 2, answer).await {
            return Ok(response);
        }
        line_now = line.lock().await;
        if line_now.number == number {
            line_now.exchange = None;
        }
    }
    // None was kept, or it is of no use any more. Who needs one meanwhile waits for this one.
    let exchange = match &line_now.exchange {
        Some(another) => another.clone(),
        None => {
            let exchange = connect().await?;
            line_now.exchange = Some(exchange.clone());
            line_now.number += 1;
            exchange
        }
    };
    drop(line_now);
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
        NetError::Io(io) => unreachable(io),
        NetError::Dns(DnsError::ResponseCode(_)) | NetError::Proto(_) => ExchangeError::Malformed,
        _ => ExchangeError::Unreachable,
    }
}

/// What an error of a socket says of the server: nothing, if it is we who have no socket left.
fn unreachable(error: &io::Error) -> ExchangeError {
    let ours = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRINUSE,
        libc::EADDRNOTAVAIL,
        libc::EAGAIN,
        libc::EPERM,
    ];
    match error.raw_os_error() {
        Some(number) if ours.contains(&number) => ExchangeError::Busy,
        _ if error.kind() == io::ErrorKind::TimedOut => ExchangeError::Timeout,
        _ => ExchangeError::Unreachable,
    }
}
