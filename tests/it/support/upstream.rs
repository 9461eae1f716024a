//! A test's upstream with a script, by UDP and TCP on one port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record};

use super::port::udp_and_tcp;

/// A query as received.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) message: Message,
    pub(crate) tcp: bool,
    pub(crate) peer: SocketAddr,
}

/// The script: the answers to a query as bytes; an empty list is silence.
type Script = dyn Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync;

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Upstream {
    /// Answers by `script` until the test ends.
    pub(crate) fn start(
        script: impl Fn(&Asked) -> Option<Message> + Send + Sync + 'static,
    ) -> Self {
        Self::start_raw(move |asked| script(asked).iter().map(bytes).collect())
    }

    /// The same for bytes that need not be valid answers, and any number of them.
    pub(crate) fn start_raw(
        script: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let script: Arc<Script> = Arc::new(script);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (udp, tcp) = udp_and_tcp(TcpListener::bind::<SocketAddr>);
        let address = udp.local_addr().expect("bound");
        let (log, play) = (Arc::clone(&asked), Arc::clone(&script));
        std::thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while let Ok((len, peer)) = udp.recv_from(&mut buffer) {
                let (log, play) = (Arc::clone(&log), Arc::clone(&play));
                let (bytes, udp) = (buffer[..len].to_vec(), udp.try_clone().expect("a handle"));
                // One thread for each query: a script may wait.
                std::thread::spawn(move || {
                    for answer in perform(&bytes, (false, peer), &log, &*play) {
                        let _ = udp.send_to(&answer, peer);
                    }
                });
            }
        });
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                let (log, play) = (Arc::clone(&log), Arc::clone(&script));
                std::thread::spawn(move || converse(stream, &log, &*play));
            }
        });
        Self { address, asked }
    }

    /// Answers each A query with 192.0.2.1, and all else with NODATA.
    pub(crate) fn plain() -> Self {
        Self::start(|asked| Some(address_of(asked, [192, 0, 2, 1])))
    }

    /// The same once the gate is open.
    pub(crate) fn gated() -> (Self, Arc<AtomicBool>) {
        let gate = Arc::new(AtomicBool::new(false));
        let open = Arc::clone(&gate);
        let upstream = Self::start(move |asked| {
            while !open.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            Some(address_of(asked, [192, 0, 2, 1]))
        });
        (upstream, gate)
    }

    /// The queries so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    /// An address without a server, for as long as the test runs.
    pub(crate) fn silent_address() -> (SocketAddr, UdpSocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        (socket.local_addr().expect("bound"), socket)
    }

    /// An address that answers with an ICMP error: its port is bound, but connected to another sender.
    pub(crate) fn refusing() -> (SocketAddr, UdpSocket) {
        let (address, socket) = Self::silent_address();
        socket.connect(address).expect("connected");
        (address, socket)
    }
}

fn converse(mut stream: std::net::TcpStream, log: &Mutex<Vec<Asked>>, play: &Script) {
    let Ok(peer) = stream.peer_addr() else {
        return;
    };
    let mut len = [0; 2];
    while stream.read_exact(&mut len).is_ok() {
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
        if stream.read_exact(&mut bytes).is_err() {
            return;
        }
        for answer in perform(&bytes, (true, peer), log, play) {
            let _ = stream.write_all(&(answer.len() as u16).to_be_bytes());
            let _ = stream.write_all(&answer);
        }
    }
}

fn perform(
    bytes: &[u8],
    (tcp, peer): (bool, SocketAddr),
    log: &Mutex<Vec<Asked>>,
    play: &Script,
) -> Vec<Vec<u8>> {
    let Ok(message) = Message::from_vec(bytes) else {
        return Vec::new();
    };
    let asked = Asked { message, tcp, peer };
    log.lock().expect("not poisoned").push(asked.clone());
    play(&asked)
}

/// A message in wire form.
pub(crate) fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message")
}

/// An answer without records.
pub(crate) fn answer(asked: &Asked, rcode: ResponseCode) -> Message {
    let mut message = Message::new(
        asked.message.metadata.id,
        MessageType::Response,
        OpCode::Query,
    );
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.metadata.response_code = rcode;
    message.queries = asked.message.queries.clone();
    message
}

/// The asked name in lower case, without the final dot.
pub(crate) fn name(asked: &Asked) -> String {
    let name = asked.message.queries[0].name().to_lowercase().to_string();
    name.trim_end_matches('.').to_owned()
}

/// An answer with one address, TTL 300, if A is asked.
pub(crate) fn address_of(asked: &Asked, address: [u8; 4]) -> Message {
    let mut message = answer(asked, ResponseCode::NoError);
    let question = &asked.message.queries[0];
    if question.query_type() == hickory_proto::rr::RecordType::A {
        let data = RData::A(A(address.into()));
        message
            .answers
            .push(Record::from_rdata(question.name().clone(), 300, data));
    }
    message
}

/// The same, or for `owner` behind an alias of `target`.
pub(crate) fn aliased(asked: &Asked, owner: &str, target: &str) -> Message {
    let mut message = address_of(asked, [192, 0, 2, 9]);
    if name(asked) == owner {
        for record in &mut message.answers {
            record.name = Name::from_ascii(target).expect("a name");
        }
        message.answers.insert(0, alias(owner, target, 300));
    }
    message
}

/// A CNAME record.
pub(crate) fn alias(owner: &str, target: &str, ttl: u32) -> Record {
    let name = |text: &str| Name::from_ascii(text).expect("a name");
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

/// An SOA record that lets negative answers live for `ttl`.
pub(crate) fn soa(owner: &str, ttl: u32) -> Record {
    let name = |text: &str| Name::from_ascii(text).expect("a name");
    let data = SOA::new(name("ns.test."), name("host.test."), 1, 60, 60, 60, ttl);
    Record::from_rdata(name(owner), ttl, RData::SOA(data))
}
