//! A connection to a primary: messages over TCP, with the limits of a transfer.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::fault::Fault;
use super::limits::{Limits, MIN_BYTES, Progress, RATE_TIME, Stage};
use super::tls::Tls;
use crate::tls::explain;

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
pub(super) struct Budget<'p> {
    limits: Limits,
    progress: &'p Progress,
    until: Instant,
    /// Bytes received so far.
    pub(super) bytes: u64,
    /// The time spent waiting for the primary since the rate was last checked, and the bytes received in it.
    waited: Duration,
    waited_bytes: u64,
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

impl<'p> Budget<'p> {
    pub(super) fn new(limits: Limits, progress: &'p Progress) -> Self {
        Self {
            limits,
            progress,
            until: Instant::now() + limits.total,
            bytes: 0,
            waited: Duration::ZERO,
            waited_bytes: 0,
        }
    }

    /// The deadline of the next step.
    fn deadline(&self) -> Instant {
        self.until.min(Instant::now() + self.limits.idle)
    }

    /// Counts a message that took this long to arrive.
    ///
    /// # Errors
    /// If the primary has sent too little for too long.
    fn receive(&mut self, bytes: u64, waited: Duration) -> Result<(), Broken> {
        self.bytes += bytes;
        self.waited += waited;
        self.waited_bytes += bytes;
        if self.waited < RATE_TIME {
            return Ok(());
        }
        let (waited, bytes) = (self.waited.as_secs(), self.waited_bytes);
        (self.waited, self.waited_bytes) = (Duration::ZERO, 0);
        match bytes < MIN_BYTES {
            true => Err(Broken::new(
                Fault::TooSlow,
                format!("only {bytes} bytes came in {waited} s"),
            )),
            false => Ok(()),
        }
    }

    /// The fault if a deadline has passed.
    fn late(&self) -> Broken {
        let (fault, detail) = match self.until <= Instant::now() {
            true => (
                Fault::TooLong,
                format!("not complete after {} s", self.limits.total.as_secs_f64()),
            ),
            false => self.progress.stage().stalled(self.limits.idle),
        };
        Broken { fault, detail }
    }
}

impl Connection {
    /// Connects to a primary, over TLS if wanted.
    pub(super) async fn open(
        primary: SocketAddr,
        tls: Option<&Tls>,
        budget: &Budget<'_>,
    ) -> Result<Self, Broken> {
        budget.progress.set_stage(Stage::Connecting);
        budget.progress.set_waiting(true);
        let connected = timeout_at(budget.deadline(), TcpStream::connect(primary)).await;
        let stream = connected
            .map_err(|_| budget.late())?
            .map_err(|error| Broken::new(Fault::Unreachable, error))?;
        // A query is one small segment, which is sent at once. Without this option it is only later.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(Tls {
                name,
                connector,
                end,
            }) => {
                budget.progress.set_stage(Stage::Securing);
                let shaken = connector.connect(name.clone(), stream);
                let shaken = timeout_at(budget.deadline(), shaken).await;
                let encrypted = shaken
                    .map_err(|_| budget.late())?
                    .map_err(|error| Broken::new(Fault::TlsFailed, explain(&error)))?;
                let certificates = encrypted.get_ref().1.peer_certificates();
                if let Some(certificate) = certificates.and_then(<[_]>::first) {
                    end.accepted(certificate);
                }
                Box::new(encrypted)
            }
        };
        budget.progress.set_stage(Stage::Asking);
        Ok(Self {
            stream: BufReader::with_capacity(BUFFER, stream),
            received: 0,
        })
    }

    /// Sends a query.
    pub(super) async fn send(&mut self, query: &[u8], budget: &Budget<'_>) -> Result<(), Broken> {
        let mut framed = Vec::with_capacity(2 + query.len());
        budget.progress.set_stage(Stage::Asking);
        // A query has at most some hundreds of bytes.
        framed.extend_from_slice(&(query.len() as u16).to_be_bytes());
        framed.extend_from_slice(query);
        let sent = async {
            self.stream.write_all(&framed).await?;
            self.stream.flush().await
        };
        match timeout_at(budget.deadline(), sent).await {
            Err(_) => Err(budget.late()),
            Ok(Err(error)) => Err(Broken::new(Fault::Cut, error)),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Overwrites `message` with the next message.
    pub(super) async fn receive(
        &mut self,
        message: &mut Vec<u8>,
        budget: &mut Budget<'_>,
    ) -> Result<(), Broken> {
        // A timeout alone would not end a transfer whose next message is always there already.
        if budget.until <= Instant::now() {
            return Err(budget.late());
        }
        let (start, deadline) = (Instant::now(), budget.deadline());
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
        budget.progress.set_waiting(true);
        let read = timeout_at(deadline, read).await;
        budget.progress.set_waiting(false);
        match read {
            Err(_) => Err(budget.late()),
            Ok(Err(error)) => Err(Broken::new(Fault::Cut, cut(&error))),
            Ok(Ok(None)) => Err(Broken::new(
                Fault::TooLarge,
                format!("more than {} bytes", budget.limits.bytes),
            )),
            Ok(Ok(Some(bytes))) => {
                self.received += 1;
                budget.progress.set_stage(Stage::Receiving);
                budget.receive(bytes, start.elapsed())
            }
        }
    }

    /// Waits until the next message begins to arrive. False if it does not within this time.
    pub(super) async fn goes_on(&mut self, budget: &Budget<'_>, within: Duration) -> bool {
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

#[cfg(test)]
mod tests {
    use std::iter::{repeat, repeat_n};
    use std::net::TcpListener;
    use std::path::Path;

    use tokio::io::DuplexStream;
    use tokio::net::TcpSocket;

    use super::*;

    fn message(size: u16) -> Vec<u8> {
        [&size.to_be_bytes()[..], &vec![0; size.into()]].concat()
    }

    /// A connection, and the end of its primary.
    fn connection() -> (Connection, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let connection = Connection {
            stream: BufReader::new(Box::new(ours)),
            received: 0,
        };
        (connection, theirs)
    }

    fn budget(total: Duration, progress: &Progress) -> Budget<'_> {
        let limits = Limits {
            records: u64::MAX,
            bytes: u64::MAX,
            total,
            idle: Duration::from_secs(30),
        };
        Budget::new(limits, progress)
    }

    /// Receives messages of these sizes, of which one arrives every 20 s, until one fails.
    async fn receive(sizes: impl Iterator<Item = u16> + Send + 'static) -> (u64, Broken) {
        let (mut connection, mut theirs) = connection();
        tokio::spawn(async move {
            for size in sizes {
                if theirs.write_all(&message(size)).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        });
        let progress = Progress::default();
        let mut budget = budget(Duration::from_secs(3600), &progress);
        let (start, mut message) = (Instant::now(), Vec::new());
        loop {
            if let Err(broken) = connection.receive(&mut message, &mut budget).await {
                return (start.elapsed().as_secs(), broken);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_primary_that_drips_is_too_slow_after_a_minute() {
        let (seconds, broken) = receive(repeat(100)).await;
        assert_eq!((seconds, broken.fault), (60, Fault::TooSlow));
        assert!(
            broken.detail.contains("408 bytes came in 60 s"),
            "{broken:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_primary_that_sends_enough_has_all_the_time_that_is_configured() {
        let (seconds, broken) = receive(repeat(25_000)).await;
        assert_eq!((seconds, broken.fault), (3600, Fault::TooLong));
    }

    #[tokio::test(start_paused = true)]
    async fn a_primary_that_drips_after_a_fast_minute_is_too_slow_after_the_next_one() {
        let (seconds, broken) = receive(repeat_n(25_000, 4).chain(repeat(100))).await;
        assert_eq!((seconds, broken.fault), (120, Fault::TooSlow));
    }

    /// The fault of a primary at this address that stalls when the secondary connects.
    async fn open(primary: SocketAddr, tls: Option<&Tls>) -> Broken {
        let progress = Progress::default();
        let budget = budget(Duration::from_secs(3600), &progress);
        let opened = Connection::open(primary, tls, &budget).await;
        opened.err().expect("it stalls")
    }

    #[tokio::test(start_paused = true)]
    async fn a_primary_that_does_not_answer_the_connection_is_unreachable() {
        // With this queue, the system answers the first connections only.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        rustix::net::listen(&listener, 0).expect("listening");
        let primary = listener.local_addr().expect("bound");
        let clients = (0..8).map(|_| {
            let client = TcpSocket::new_v4().expect("a socket");
            tokio::spawn(client.connect(primary))
        });
        let _clients: Vec<_> = clients.collect();
        tokio::task::yield_now().await;
        let broken = open(primary, None).await;
        assert_eq!(broken.fault, Fault::Unreachable);
        assert_eq!(
            broken.detail,
            "it did not answer the connection within 30 s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_primary_that_does_not_complete_the_handshake_fails_at_tls() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let primary = listener.local_addr().expect("bound");
        let authorities = Path::new(env!("CARGO_MANIFEST_DIR"));
        let authorities = authorities.join("tests/it/support/tls/authority.pem");
        let tls = Tls::new("primary.test", Some(&authorities)).expect("set up");
        let broken = open(primary, Some(&tls)).await;
        assert_eq!(broken.fault, Fault::TlsFailed);
        assert_eq!(broken.detail, "the handshake was not complete after 30 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_primary_that_falls_silent_is_said_to_have_stopped_sending() {
        let (mut connection, mut theirs) = connection();
        let progress = Progress::default();
        progress.set_stage(Stage::Asking);
        let mut budget = budget(Duration::from_secs(3600), &progress);
        let mut message = Vec::new();
        let silent = connection.receive(&mut message, &mut budget).await;
        let silent = silent.expect_err("nothing comes");
        assert_eq!(silent.detail, "nothing complete came for 30 s");
        theirs.write_all(&[0, 1, 7]).await.expect("sent");
        let first = connection.receive(&mut message, &mut budget).await;
        first.expect("a message");
        let stopped = connection.receive(&mut message, &mut budget).await;
        let stopped = stopped.expect_err("no more comes");
        assert_eq!(
            (silent.fault, stopped.fault),
            (Fault::TooSlow, Fault::TooSlow)
        );
        assert_eq!(
            stopped.detail,
            "it stopped sending: nothing complete came for 30 s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_ends_in_time_though_its_next_message_is_there() {
        let (mut connection, mut theirs) = connection();
        theirs.write_all(&message(100)).await.expect("room");
        let progress = Progress::default();
        let mut budget = budget(Duration::ZERO, &progress);
        let received = connection.receive(&mut Vec::new(), &mut budget).await;
        assert_eq!(received.expect_err("too late").fault, Fault::TooLong);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_in_which_a_primary_sends_nothing_is_waited_for_it() {
        let (mut connection, mut theirs) = connection();
        let progress = Progress::default();
        let mut budget = budget(Duration::from_secs(3600), &progress);
        theirs.write_all(&[0, 1, 7, 0]).await.expect("sent");
        let (second, mut message) = (Duration::from_secs(1), Vec::new());
        let first = connection.receive(&mut message, &mut budget).await;
        first.expect("a message");
        tokio::time::sleep(9 * second).await;
        assert_eq!(progress.waited(), Duration::ZERO, "it takes the message");
        let next = connection.receive(&mut message, &mut budget);
        let waiting = tokio::time::timeout(7 * second, next).await;
        assert!(waiting.is_err() && progress.waited() == 7 * second);
    }
}
