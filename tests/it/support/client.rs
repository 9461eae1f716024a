//! A client: builds queries, sends them by UDP or TCP, parses answers with another implementation.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};
use socket2::{Domain, Socket, Type};

/// Longer than any answer takes on the slowest of machines.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The time after which an awaited event counts as failed; a busy machine may need a while.
const NEVER: Duration = Duration::from_secs(60);

/// A query with RD and EDNS.
pub(crate) fn query(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).expect("a name");
    message.queries.push(Query::query(name, rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.edns = Some(edns);
    message
}

/// Sends a query by UDP; `None` without an answer within `patience`.
pub(crate) fn exchange(
    server: SocketAddr,
    message: &Message,
    patience: Duration,
) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    let bytes = message.to_vec().expect("a message");
    socket.send_to(&bytes, server).expect("sent");
    let mut buffer = [0; 65_535];
    let len = socket.recv(&mut buffer).ok()?;
    let answer = Message::from_vec(&buffer[..len]).expect("an answer that can be read");
    assert_eq!(answer.metadata.id, message.metadata.id);
    Some(answer)
}

/// Sends a query by UDP; there must be an answer.
pub(crate) fn ask(server: SocketAddr, name: &str, rtype: RecordType) -> Message {
    exchange(server, &query(name, rtype), PATIENCE).expect("an answer")
}

/// Queries A and returns the addresses of the answer.
pub(crate) fn addresses(server: SocketAddr, name: &str) -> Vec<String> {
    data(&ask(server, name, RecordType::A))
}

/// The data of an answer's records.
pub(crate) fn data(answer: &Message) -> Vec<String> {
    let records = answer.answers.iter();
    records.map(|record| record.data.to_string()).collect()
}

/// Whether the name gets the sinkhole's address.
pub(crate) fn is_blocked(server: SocketAddr, name: &str) -> bool {
    addresses(server, name) == ["0.0.0.0"]
}

/// Polls `condition` until it returns true.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < NEVER, "did not happen: {what}");
        std::thread::yield_now();
    }
}

/// The Extended DNS Errors: code and text.
pub(crate) fn errors(answer: &Message) -> Vec<(u16, String)> {
    let options = answer
        .edns
        .iter()
        .flat_map(|edns| edns.options().as_ref().iter());
    let ede = options.filter_map(|(_, option)| match option {
        EdnsOption::Unknown(15, bytes) => {
            let (code, text) = bytes.split_at(2);
            let code = u16::from_be_bytes([code[0], code[1]]);
            Some((code, String::from_utf8(text.to_vec()).expect("UTF-8")))
        }
        _ => None,
    });
    ede.collect()
}

/// The response code.
pub(crate) fn rcode(answer: &Message) -> ResponseCode {
    answer.metadata.response_code
}

/// A UDP socket connected to one server.
pub(crate) struct Port(pub(crate) UdpSocket);

impl Port {
    pub(crate) fn open(server: SocketAddr) -> Self {
        Self::open_at([127, 0, 0, 1], server)
    }

    /// The same for a client with that address.
    pub(crate) fn open_at(client: [u8; 4], server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((IpAddr::from(client), 0)).expect("a socket");
        socket.connect(server).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(socket)
    }

    pub(crate) fn send(&self, message: &Message) {
        self.0
            .send(&message.to_vec().expect("a message"))
            .expect("sent");
    }

    /// The bytes of the next answer.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut buffer = [0; 65_535];
        let len = self.0.recv(&mut buffer).expect("an answer");
        buffer[..len].to_vec()
    }

    /// The next answer.
    pub(crate) fn receive(&self) -> Message {
        Message::from_vec(&self.bytes()).expect("an answer that can be read")
    }
}

/// A TCP connection for DNS.
pub(crate) struct Stream(pub(crate) TcpStream);

impl Stream {
    pub(crate) fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(stream)
    }

    /// The same for a client with a small receive buffer.
    pub(crate) fn open_small(server: SocketAddr) -> Self {
        let raw = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
        raw.set_recv_buffer_size(4096).expect("set");
        raw.connect(&server.into()).expect("connected");
        let stream = TcpStream::from(raw);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(stream)
    }

    pub(crate) fn send(&mut self, message: &Message) {
        self.try_send(message).expect("sent");
    }

    /// The same on a connection that the server may have closed.
    pub(crate) fn try_send(&mut self, message: &Message) -> io::Result<()> {
        let bytes = message.to_vec().expect("a message");
        self.0.write_all(&(bytes.len() as u16).to_be_bytes())?;
        self.0.write_all(&bytes)
    }

    /// The next answer; `None` when the server has closed the connection.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        let mut len = [0; 2];
        self.0.read_exact(&mut len).ok()?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
        self.0.read_exact(&mut bytes).expect("a whole message");
        Some(Message::from_vec(&bytes).expect("an answer that can be read"))
    }
}
