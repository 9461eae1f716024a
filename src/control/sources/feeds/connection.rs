//! A connection to a primary: messages over TCP, with the limits of a transfer.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::fault::Fault;
use super::limits::Limits;
use super::tls::Tls;

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// What a connection runs over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to a primary.
pub(super) struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    /// Messages that were received.
    received: u64,
}

/// What all connections of a transfer may take together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    limits: Limits,
    until: Instant,
    /// Bytes received so far.
    pub(super) bytes: u64,
}

/// Why there is no next message.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) fault: Fault,
    pub(super) detail: String,
}

impl Broken {
    fn new(fault: Fault, detail: impl ToString) -> Self {
        let detail = detail.to_string();
        Self { fault, detail }
    }
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            until: Instant::now() + limits.total,
            bytes: 0,
        }
    }

    /// The deadline of the next step.
    fn deadline(&self) -> Instant {
        self.until.min(Instant::now() + self.limits.idle)
    }

    /// The fault if a deadline has passed.
    fn late(&self, idle: Fault) -> Broken {
        match self.until <= Instant::now() {
            true => Broken::new(
                Fault::TooLong,
                format!("not complete after {} s", self.limits.total.as_secs_f64()),
            ),
            false => Broken::new(
                idle,
                format!(
                    "nothing complete came for {} s",
                    self.limits.idle.as_secs_f64()
                ),
            ),
        }
    }
}

impl Connection {
    /// Connects to a primary, over TLS if wanted.
    pub(super) async fn open(
        primary: SocketAddr,
        tls: Option<&Tls>,
        budget: &Budget,
    ) -> Result<Self, Broken> {
        let connected = timeout_at(budget.deadline(), TcpStream::connect(primary)).await;
        let stream = connected
            .map_err(|_| budget.late(Fault::Unreachable))?
            .map_err(|error| Broken::new(Fault::Unreachable, error))?;
        // A query is one small segment, which is sent at once. Without this option it is only later.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(Tls { name, connector }) => {
                let shaken = connector.connect(name.clone(), stream);
                let shaken = timeout_at(budget.deadline(), shaken).await;
                let encrypted = shaken
                    .map_err(|_| budget.late(Fault::TlsFailed))?
                    .map_err(|error| Broken::new(Fault::TlsFailed, error))?;
                Box::new(encrypted)
            }
        };
        Ok(Self {
            stream: BufReader::with_capacity(BUFFER, stream),
            received: 0,
        })
    }

    /// Sends a query.
    pub(super) async fn send(&mut self, query: &[u8], budget: &Budget) -> Result<(), Broken> {
        let mut framed = Vec::with_capacity(2 + query.len());
        // A query has at most some hundreds of bytes.
        framed.extend_from_slice(&(query.len() as u16).to_be_bytes());
        framed.extend_from_slice(query);
        let sent = async {
            self.stream.write_all(&framed).await?;
            self.stream.flush().await
        };
        match timeout_at(budget.deadline(), sent).await {
            Err(_) => Err(budget.late(Fault::TooSlow)),
            Ok(Err(error)) => Err(Broken::new(Fault::Cut, error)),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Overwrites `message` with the next message.
    pub(super) async fn receive(
        &mut self,
        message: &mut Vec<u8>,
        budget: &mut Budget,
    ) -> Result<(), Broken> {
        // A timeout alone would not end a transfer whose next message is always there already.
        if budget.until <= Instant::now() {
            return Err(budget.late(Fault::TooSlow));
        }
        let deadline = budget.deadline();
        let left = budget.limits.bytes.saturating_sub(budget.bytes);
        let read = async {
            let len = self.stream.read_u16().await?;
            if u64::from(len) + 2 > left {
                return Ok(None);
            }
            message.resize(usize::from(len), 0);
            self.stream.read_exact(message).await?;
            io::Result::Ok(Some(u64::from(len) + 2))
        };
        match timeout_at(deadline, read).await {
            Err(_) => Err(budget.late(Fault::TooSlow)),
            Ok(Err(error)) => Err(Broken::new(Fault::Cut, cut(&error))),
            Ok(Ok(None)) => Err(Broken::new(
                Fault::TooLarge,
                format!("more than {} bytes", budget.limits.bytes),
            )),
            Ok(Ok(Some(bytes))) => {
                budget.bytes += bytes;
                self.received += 1;
                Ok(())
            }
        }
    }

    /// Waits until the next message begins to arrive. False if it does not within this time.
    pub(super) async fn goes_on(&mut self, budget: &Budget, within: Duration) -> bool {
        let deadline = budget.deadline().min(Instant::now() + within);
        let next = timeout_at(deadline, self.stream.fill_buf()).await;
        matches!(next, Ok(Ok(bytes)) if !bytes.is_empty())
    }

    /// The number of messages received.
    pub(super) fn received(&self) -> u64 {
        self.received
    }
}

fn cut(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "the primary closed the connection".to_owned(),
        _ => error.to_string(),
    }
}
