//! A test's primary with a script, by TCP and UDP on one port. Each fault of a primary is a few steps of a script.

use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};

use socket2::{Domain, Socket, Type};
use tapis::wire::name::Name;
use tapis::wire::rtype;

use super::port::udp_and_tcp;
use super::tls::{Security, Stream};

/// A query as received.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rtype: u16,
    /// The serial of an IXFR query.
    pub(crate) serial: Option<u32>,
    pub(crate) is_tcp: bool,
}

impl Asked {
    pub(crate) fn parse(bytes: &[u8], is_tcp: bool) -> Self {
        let (_, end) = Name::parse(bytes, 12).expect("a question");
        let rtype = u16::from_be_bytes([bytes[end], bytes[end + 1]]);
        let has_soa = bytes[9] == 1;
        // The serial of the SOA record that the secondary writes precedes four times.
        let serial = has_soa.then(|| {
            let (_, owner_end) = Name::parse(bytes, end + 4).expect("the zone");
            let data = owner_end + 10;
            let len = usize::from(bytes[data - 1]);
            let serial = &bytes[data + len - 20..][..4];
            u32::from_be_bytes(serial.try_into().expect("four bytes"))
        });
        Self {
            bytes: bytes.to_vec(),
            rtype,
            serial,
            is_tcp,
        }
    }

    pub(crate) fn id(&self) -> [u8; 2] {
        [self.bytes[0], self.bytes[1]]
    }

    /// The question section.
    fn question(&self) -> &[u8] {
        let (_, end) = Name::parse(&self.bytes, 12).expect("a question");
        &self.bytes[12..end + 4]
    }
}

/// A step of a script.
pub(crate) enum Step {
    /// Sends a message with its length.
    Send(Vec<u8>),
    /// Sends bytes as they are.
    Raw(Vec<u8>),
    /// Sends a message again and again, until the client closes the connection.
    Forever(Vec<u8>),
    /// Sends nothing until the gate is open.
    Wait(Gate),
    /// Sends nothing more, until the client closes the connection.
    Hang,
    /// Closes the connection.
    Close,
}

/// All messages as steps.
pub(crate) fn send(messages: Vec<Vec<u8>>) -> Vec<Step> {
    messages.into_iter().map(Step::Send).collect()
}

/// Holds a script until the test opens it.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        let Self(gate) = self;
        *gate.0.lock().expect("not poisoned") = true;
        gate.1.notify_all();
    }

    fn wait(&self) {
        let Self(gate) = self;
        let is_open = gate.0.lock().expect("not poisoned");
        let waited = gate.1.wait_while(is_open, |is_open| !*is_open);
        drop(waited.expect("not poisoned"));
    }
}

pub(crate) type Script = dyn Fn(&Asked) -> Vec<Step> + Send + Sync;

pub(crate) struct Primary {
    pub(crate) address: SocketAddr,
    /// What it does; all of its threads have it.
    role: Arc<Role>,
    /// Keeps the TCP port while nothing listens at it.
    _port: Socket,
    listener: Mutex<Option<Socket>>,
}

struct Role {
    script: Mutex<Arc<Script>>,
    security: Mutex<Security>,
    asked: Mutex<Vec<Asked>>,
}

impl Role {
    /// The answer to a query.
    fn play(&self, asked: &Asked) -> Vec<Step> {
        self.asked.lock().expect("not poisoned").push(asked.clone());
        let script = Arc::clone(&self.script.lock().expect("not poisoned"));
        script(asked)
    }
}

impl Primary {
    /// Answers by `script` until the test ends.
    pub(crate) fn start(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::secured(Security::Plain, script)
    }

    /// The same over TLS.
    pub(crate) fn secured(
        security: Security,
        script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let role = Arc::new(Role {
            script: Mutex::new(Arc::new(script)),
            security: Mutex::new(security),
            asked: Mutex::default(),
        });
        let (udp, port) = udp_and_tcp(tcp_at);
        let address = udp.local_addr().expect("bound");
        let player = Arc::clone(&role);
        std::thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while let Ok((len, peer)) = udp.recv_from(&mut buffer) {
                let asked = Asked::parse(&buffer[..len], false);
                for step in player.play(&asked) {
                    if let Step::Send(message) = step {
                        let _ = udp.send_to(&message, peer);
                    }
                }
            }
        });
        let primary = Self {
            address,
            role,
            _port: port,
            listener: Mutex::new(None),
        };
        primary.listen();
        primary
    }

    /// Accepts connections again, after [`close`](Self::close).
    pub(crate) fn listen(&self) {
        let socket = tcp_at(self.address).expect("the port is kept");
        socket.listen(128).expect("listening");
        let listener = socket.try_clone().expect("cloned");
        *self.listener.lock().expect("not poisoned") = Some(socket);
        let role = Arc::clone(&self.role);
        std::thread::spawn(move || {
            for stream in TcpListener::from(listener).incoming().map_while(Result::ok) {
                let role = Arc::clone(&role);
                std::thread::spawn(move || {
                    let security = role.security.lock().expect("not poisoned").clone();
                    converse(&mut *security.accept(stream), &role);
                });
            }
        });
    }

    /// Refuses connections from now on.
    pub(crate) fn close(&self) {
        let listener = self.listener.lock().expect("not poisoned").take();
        let listener = listener.expect("listening");
        listener.shutdown(Shutdown::Both).expect("shut down");
    }

    /// Answers by another script from now on.
    pub(crate) fn play(&self, script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) {
        *self.role.script.lock().expect("not poisoned") = Arc::new(script);
    }

    /// Speaks otherwise on new connections.
    pub(crate) fn secure(&self, security: Security) {
        *self.role.security.lock().expect("not poisoned") = security;
    }

    /// Serves this zone, and no changes of it: IXFR is answered with the whole zone.
    pub(crate) fn serving(zone: Zone) -> Self {
        Self::start(move |asked| send(zone.answer(asked)))
    }

    /// The queries so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.role.asked.lock().expect("not poisoned").clone()
    }

    /// The types of the queries so far.
    pub(crate) fn types(&self) -> Vec<u16> {
        self.asked().iter().map(|asked| asked.rtype).collect()
    }

    /// A TCP address at which nothing listens: its port is bound by a UDP socket alone.
    pub(crate) fn unreachable() -> (SocketAddr, UdpSocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        (socket.local_addr().expect("bound"), socket)
    }
}

/// A TCP address that does not answer connections, as with a firewall that drops them.
pub(crate) struct Silent {
    pub(crate) address: SocketAddr,
    /// The listener, and the clients that fill its queue.
    _sockets: Vec<Socket>,
}

impl Silent {
    pub(crate) fn new() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = tcp_at(any).expect("a socket");
        listener.listen(0).expect("listening");
        let address = listener.local_addr().expect("bound");
        let clients = (0..8).map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            client.set_nonblocking(true).expect("set");
            let _ = client.connect(&address);
            client
        });
        Self {
            address: address.as_socket().expect("an address"),
            _sockets: clients.chain([listener]).collect(),
        }
    }
}

/// A TCP socket of this address that does not listen. Another one of this process may have the same address.
fn tcp_at(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Serves one connection. Errors of the stream mean that the client has closed it.
fn converse(stream: &mut dyn Stream, role: &Role) {
    let mut len = [0; 2];
    while stream.read_exact(&mut len).is_ok() {
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
        if stream.read_exact(&mut bytes).is_err() {
            return;
        }
        for step in role.play(&Asked::parse(&bytes, true)) {
            let is_sent = match step {
                Step::Send(message) => stream.write_all(&framed(&message)),
                Step::Raw(bytes) => stream.write_all(&bytes),
                Step::Forever(message) => {
                    while stream.write_all(&framed(&message)).is_ok() {}
                    return;
                }
                Step::Wait(gate) => {
                    gate.wait();
                    continue;
                }
                Step::Hang => {
                    let _ = stream.read(&mut [0; 1]);
                    return;
                }
                Step::Close => return,
            };
            if is_sent.is_err() {
                return;
            }
        }
    }
}

/// A message with its length.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let len = u16::try_from(message.len()).expect("at most 65,535 bytes");
    [&len.to_be_bytes()[..], message].concat()
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rr {
    pub(crate) owner: Name,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    pub(crate) data: Vec<u8>,
}

pub(crate) fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// A CNAME record.
pub(crate) fn cname(owner: &str, target: &str) -> Rr {
    Rr {
        owner: name(owner),
        rtype: rtype::CNAME,
        class: 1,
        data: name(target).wire().to_vec(),
    }
}

/// EXPIRE of all zones.
pub(crate) const EXPIRE_SECS: u32 = 86_400;

/// A version of a zone.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    pub(crate) name: Name,
    pub(crate) serial: u32,
    /// The records besides the SOA record.
    pub(crate) records: Vec<Rr>,
    /// The number of records in a message.
    pub(crate) per_message: usize,
    /// REFRESH.
    pub(crate) refresh_secs: u32,
}

impl Zone {
    /// A zone with an NS record and CNAME records to the root for these names, three records to a message.
    pub(crate) fn new(zone: &str, serial: u32, names: &[&str]) -> Self {
        let ns = Rr {
            rtype: rtype::NS,
            ..cname(zone, "localhost")
        };
        let blocked = names
            .iter()
            .map(|name| cname(&format!("{name}.{zone}"), "."));
        Self {
            name: name(zone),
            serial,
            records: [ns].into_iter().chain(blocked).collect(),
            per_message: 3,
            refresh_secs: 900,
        }
    }

    /// The SOA record of a version.
    pub(crate) fn soa(&self, serial: u32) -> Rr {
        let mut data = [name("primary.test").wire(), name("admin.test").wire()].concat();
        for number in [serial, self.refresh_secs, 60, EXPIRE_SECS, 60] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        Rr {
            owner: self.name.clone(),
            rtype: rtype::SOA,
            class: 1,
            data,
        }
    }

    /// The answer to any query of a secondary, without changes.
    pub(crate) fn answer(&self, asked: &Asked) -> Vec<Vec<u8>> {
        match asked.rtype {
            rtype::SOA => vec![self.message(asked, &[self.soa(self.serial)], 0)],
            _ => self.messages(asked, &self.whole()),
        }
    }

    /// All records, with the SOA record at the start and at the end.
    pub(crate) fn whole(&self) -> Vec<Rr> {
        let soa = || [self.soa(self.serial)];
        let records = self.records.iter().cloned();
        soa().into_iter().chain(records).chain(soa()).collect()
    }

    /// The answer to IXFR with these changes: the serial before and after each, and the records that it deletes and
    /// adds.
    pub(crate) fn changes(&self, changes: &[(u32, &[Rr], u32, &[Rr])]) -> Vec<Rr> {
        let mut records = vec![self.soa(self.serial)];
        for (from, deleted, to, added) in changes {
            records.push(self.soa(*from));
            records.extend_from_slice(deleted);
            records.push(self.soa(*to));
            records.extend_from_slice(added);
        }
        records.push(self.soa(self.serial));
        records
    }

    /// The records as messages.
    pub(crate) fn messages(&self, asked: &Asked, records: &[Rr]) -> Vec<Vec<u8>> {
        let chunks = records.chunks(self.per_message);
        chunks.map(|chunk| self.message(asked, chunk, 0)).collect()
    }

    /// One message with the question, in which owners end in a pointer to it.
    pub(crate) fn message(&self, asked: &Asked, records: &[Rr], rcode: u8) -> Vec<u8> {
        let mut out = asked.id().to_vec();
        out.extend_from_slice(&[0x84, rcode, 0, 1]);
        out.extend_from_slice(&(records.len() as u16).to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(asked.question());
        for record in records {
            let owner = record.owner.wire();
            match owner.strip_suffix(self.name.wire()) {
                Some(below) => {
                    out.extend_from_slice(below);
                    out.extend_from_slice(&[0xC0, 12]);
                }
                None => out.extend_from_slice(owner),
            }
            out.extend_from_slice(&record.rtype.to_be_bytes());
            out.extend_from_slice(&record.class.to_be_bytes());
            out.extend_from_slice(&[0, 0, 0, 60]);
            out.extend_from_slice(&(record.data.len() as u16).to_be_bytes());
            out.extend_from_slice(&record.data);
        }
        out
    }

    /// An answer without records.
    pub(crate) fn refusal(&self, asked: &Asked, rcode: u8) -> Vec<Step> {
        vec![Step::Send(self.message(asked, &[], rcode))]
    }
}
