//! Sends DNS queries by UDP at a steady rate, and measures the latency of the answers.
//!
//!     pace --server ADDRESS:PORT --queries FILE --rate N [--seconds 5] [--sockets 8] [--timeout-ms 2000]
//!
//! FILE has dnsperf's format: a name and a type on each line; it is repeated as often as needed.
//! Query i is due at start + i / rate, regardless of earlier ones (open loop), and its latency is
//! counted from that moment, not from when it was sent: neither a slow server nor a late sender can
//! hide a delay. The lateness of the sender is reported separately.
//!
//! One thread sends the queries that are due and polls the sockets with pending answers; it never
//! sleeps, but yields to other threads on its core. Prints one line of JSON.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::UdpSocket;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The maximum number of queries sent before answers are received, even if the sender is late.
const BURST: usize = 16;
const RCODES: [&str; 6] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match Options::read(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(line) if writeln!(io::stdout(), "{line}").is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "pace: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    server: String,
    queries: String,
    rate: f64,
    seconds: f64,
    sockets: usize,
    timeout: Duration,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self {
            server: String::new(),
            queries: String::new(),
            rate: 0.0,
            seconds: 5.0,
            sockets: 8,
            timeout: Duration::from_secs(2),
        };
        while let Some(key) = words.next() {
            let value = words.next().ok_or_else(|| format!("{key} needs a value"))?;
            match key.as_str() {
                "--server" => options.server = value,
                "--queries" => options.queries = value,
                "--rate" => options.rate = value.parse()?,
                "--seconds" => options.seconds = value.parse()?,
                "--sockets" => options.sockets = value.parse()?,
                "--timeout-ms" => options.timeout = Duration::from_millis(value.parse()?),
                _ => return Err(format!("{key} is no option").into()),
            }
        }
        let complete =
            !options.server.is_empty() && !options.queries.is_empty() && options.sockets > 0;
        if !(complete && options.rate > 0.0 && options.seconds > 0.0) {
            return Err(
                "needs --server, --queries and --rate; rate, seconds and sockets above 0".into(),
            );
        }
        Ok(options)
    }
}

fn run(options: &Options) -> Outcome<String> {
    let queries = read_queries(&options.queries)?;
    let ports = (0..options.sockets)
        .map(|_| Port::open(&options.server))
        .collect::<io::Result<_>>()?;
    let total = ((options.rate * options.seconds) as usize).max(1);
    let mut pace = Pace {
        queries: &queries,
        ports,
        start: Instant::now(),
        interval: 1e9 / options.rate,
        timeout: options.timeout.as_nanos() as u64,
        waits: Vec::with_capacity(total),
        lates: Vec::with_capacity(total),
        rcodes: BTreeMap::new(),
        strays: 0,
    };
    pace.run(total);
    Ok(pace.report())
}

/// The packets of a file, without their IDs.
fn read_queries(path: &str) -> Outcome<Vec<Box<[u8]>>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let lines = text.lines().filter(|line| !line.is_empty());
    let packets = lines
        .map(|line| packet(line).ok_or_else(|| format!("{path}: `{line}` is not a query").into()));
    match packets.collect::<Outcome<Vec<_>>>() {
        Ok(packets) if packets.is_empty() => Err(format!("{path} is empty").into()),
        other => other,
    }
}

fn packet(line: &str) -> Option<Box<[u8]>> {
    let (name, rtype) = line.split_once([' ', '\t'])?;
    let rtype: u8 = match rtype.trim() {
        "A" => 1,
        "TXT" => 16,
        "AAAA" => 28,
        "HTTPS" => 65,
        _ => return None,
    };
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        packet.push(
            u8::try_from(label.len())
                .ok()
                .filter(|&length| (1..64).contains(&length))?,
        );
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, rtype, 0, 1]);
    Some(packet.into())
}

/// The latest query under an ID.
#[derive(Clone, Copy)]
struct Asked {
    due: u64,
    query: usize,
}

/// A socket and its queries by ID.
struct Port {
    socket: UdpSocket,
    asked: Vec<Option<Asked>>,
    next: u16,
    owed: usize,
}

impl Port {
    fn open(server: &str) -> io::Result<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            asked: vec![None; 1 << 16],
            next: 0,
            owed: 0,
        })
    }

    /// A query is lost if it has no answer when its ID is used again, or if the kernel refuses to send it.
    fn send(&mut self, packet: &[u8], asked: Asked) {
        let id = self.next;
        self.next = id.wrapping_add(1);
        let mut bytes = [0; 512];
        bytes[..packet.len()].copy_from_slice(packet);
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        self.owed += usize::from(self.asked[usize::from(id)].replace(asked).is_none());
        let _ = self.socket.send(&bytes[..packet.len()]);
    }

    /// The query that belongs to this answer.
    fn settle(&mut self, reply: &[u8], queries: &[Box<[u8]>]) -> Option<Asked> {
        let (&[high, low], rest) = reply.split_first_chunk()?;
        let asked = self.asked[usize::from(u16::from_be_bytes([high, low]))].as_mut();
        let question = &queries[asked.as_ref()?.query][12..];
        let answers = rest.first()? & 0x80 != 0 && reply.get(12..)?.starts_with(question);
        if !answers {
            return None;
        }
        self.owed -= 1;
        self.asked[usize::from(u16::from_be_bytes([high, low]))].take()
    }
}

/// A run. Times are nanoseconds since its start.
struct Pace<'a> {
    queries: &'a [Box<[u8]>],
    ports: Vec<Port>,
    start: Instant,
    interval: f64,
    timeout: u64,
    waits: Vec<u64>,
    lates: Vec<u64>,
    rcodes: BTreeMap<u8, usize>,
    strays: usize,
}

impl Pace<'_> {
    fn run(&mut self, total: usize) {
        self.start = Instant::now();
        let end = self.due(total) + self.timeout;
        while self.lates.len() < total || (self.owed() && self.now() < end) {
            let sent = self.send_due(total);
            if !self.take() && sent == 0 {
                std::thread::yield_now();
            }
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn due(&self, index: usize) -> u64 {
        (index as f64 * self.interval) as u64
    }

    fn owed(&self) -> bool {
        self.ports.iter().any(|port| port.owed > 0)
    }

    fn send_due(&mut self, total: usize) -> usize {
        for sent in 0..BURST {
            let (index, now) = (self.lates.len(), self.now());
            let due = self.due(index);
            if index == total || due > now {
                return sent;
            }
            let query = index % self.queries.len();
            let socket = index % self.ports.len();
            self.ports[socket].send(&self.queries[query], Asked { due, query });
            self.lates.push(now - due);
        }
        BURST
    }

    /// Receives the datagrams that have arrived; returns whether there were any.
    fn take(&mut self) -> bool {
        let mut reply = [0; 4096];
        let before = self.waits.len() + self.strays;
        for socket in 0..self.ports.len() {
            for _ in 0..BURST {
                if self.ports[socket].owed == 0 {
                    break;
                }
                // An ICMP error belongs to no query: there may be answers after it.
                let length = match self.ports[socket].socket.recv(&mut reply) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    other => other.unwrap_or(0),
                };
                let now = self.now();
                match self.ports[socket].settle(&reply[..length], self.queries) {
                    Some(asked) if now - asked.due <= self.timeout => {
                        self.waits.push(now - asked.due);
                        *self.rcodes.entry(reply[3] & 15).or_default() += 1;
                    }
                    _ => self.strays += 1,
                }
            }
        }
        before < self.waits.len() + self.strays
    }

    fn report(&mut self) -> String {
        self.waits.sort_unstable();
        self.lates.sort_unstable();
        let (sent, answered) = (self.lates.len(), self.waits.len());
        let mut line = format!(
            "{{\"sent\": {sent}, \"answered\": {answered}, \"lost\": {}",
            sent - answered
        );
        let _ = write!(
            line,
            ", \"rate\": {:.0}, \"strays\": {}",
            1e9 / self.interval,
            self.strays
        );
        let shares = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];
        for (word, share) in shares {
            let _ = write!(
                line,
                ", \"{word}_us\": {}",
                microseconds(&self.waits, share)
            );
        }
        for (word, share) in [shares[1], shares[3]] {
            let _ = write!(
                line,
                ", \"late_{word}_us\": {}",
                microseconds(&self.lates, share)
            );
        }
        let counts = self
            .rcodes
            .iter()
            .map(|(&code, count)| match RCODES.get(usize::from(code)) {
                Some(word) => format!("\"{word}\": {count}"),
                None => format!("\"{code}\": {count}"),
            });
        let _ = write!(
            line,
            ", \"rcodes\": {{{}}}}}",
            counts.collect::<Vec<_>>().join(", ")
        );
        line
    }
}

/// A quantile of sorted nanoseconds, for JSON.
fn microseconds(sorted: &[u64], share: f64) -> String {
    let index = (sorted.len() as f64 * share) as usize;
    match sorted.get(index.min(sorted.len().saturating_sub(1))) {
        Some(&nanos) => format!("{:.1}", nanos as f64 / 1e3),
        None => "null".into(),
    }
}
