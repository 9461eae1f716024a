//! A test's upstream for DNS over TLS. Its certificate is valid for `primary.test`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hickory_proto::op::Message;
use tokio_rustls::rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use super::port::udp_and_tcp;
use super::tls::{Security, authority};
use super::upstream::{Asked, address_of, bytes};

/// A connection of a client.
pub(crate) type Client = StreamOwned<ServerConnection, TcpStream>;

/// What a server saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    queries: Mutex<Vec<Vec<u8>>>,
    connections: AtomicUsize,
    resumed: AtomicUsize,
}

pub(crate) struct TlsUpstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    /// Receives queries that are sent in clear.
    udp: UdpSocket,
}

impl TlsUpstream {
    /// Serves each connection by `serve`, until the test ends.
    pub(crate) fn start(
        security: Security,
        serve: impl Fn(&mut Client, &Seen) + Send + Sync + 'static,
    ) -> Self {
        let Security::Tls(config) = security else {
            panic!("encrypted");
        };
        let (udp, tcp) = udp_and_tcp(TcpListener::bind::<SocketAddr>);
        let address = udp.local_addr().expect("bound");
        let (seen, serve) = (Arc::<Seen>::default(), Arc::new(serve));
        let all = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                let (config, serve) = (Arc::clone(&config), Arc::clone(&serve));
                let seen = Arc::clone(&all);
                std::thread::spawn(move || {
                    if let Some(mut client) = accept(config, stream, &seen) {
                        serve(&mut client, &seen);
                        client.conn.send_close_notify();
                        let _ = client.flush();
                    }
                });
            }
        });
        Self { address, seen, udp }
    }

    /// Answers all queries, with 192.0.2.1 for A.
    pub(crate) fn plain() -> Self {
        Self::start(Security::tls(b"dot"), |client, seen| {
            while let Some(query) = seen.next(client) {
                send(client, &answer(&query));
            }
        })
    }

    /// The server as a configuration names it, with the authority of its certificate.
    pub(crate) fn server(&self) -> String {
        let ca = authority();
        format!(
            "{{ address = \"tls://{}#primary.test\", ca-file = \"{}\" }}",
            self.address,
            ca.to_str().expect("UTF-8")
        )
    }

    /// Whether anything was sent to its port by UDP.
    pub(crate) fn got_datagram(&self) -> bool {
        self.udp.set_nonblocking(true).expect("a socket");
        self.udp.recv(&mut [0; 512]).is_ok()
    }
}

impl Seen {
    /// The next query of a connection; `None` at its end.
    pub(crate) fn next(&self, client: &mut Client) -> Option<Vec<u8>> {
        let mut len = [0; 2];
        client.read_exact(&mut len).ok()?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        client.read_exact(&mut query).ok()?;
        self.queries
            .lock()
            .expect("not poisoned")
            .push(query.clone());
        Some(query)
    }

    pub(crate) fn queries(&self) -> Vec<Vec<u8>> {
        self.queries.lock().expect("not poisoned").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn resumed(&self) -> usize {
        self.resumed.load(Ordering::Relaxed)
    }
}

fn accept(config: Arc<ServerConfig>, mut stream: TcpStream, seen: &Seen) -> Option<Client> {
    let mut connection = ServerConnection::new(config).expect("a connection");
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).ok()?;
    }
    seen.connections.fetch_add(1, Ordering::Relaxed);
    if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
        seen.resumed.fetch_add(1, Ordering::Relaxed);
    }
    Some(StreamOwned::new(connection, stream))
}

/// Sends a message as one frame.
pub(crate) fn send(client: &mut Client, message: &[u8]) {
    let mut frame = (message.len() as u16).to_be_bytes().to_vec();
    frame.extend_from_slice(message);
    let _ = client.write_all(&frame);
    let _ = client.flush();
}

/// The answer to a query.
pub(crate) fn answer(query: &[u8]) -> Vec<u8> {
    let asked = Asked {
        message: Message::from_vec(query).expect("a query"),
        tcp: true,
        peer: SocketAddr::from(([127, 0, 0, 1], 1)),
    };
    bytes(&address_of(&asked, [192, 0, 2, 1]))
}
