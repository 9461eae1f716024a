//! Hostile clients: the answers that they get, and the service for other clients meanwhile.

mod connections;
mod floods;
mod packets;

use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::support::client::PATIENCE;
use crate::support::server::{Server, list, preamble};
use crate::support::upstream::Upstream;

/// A server with the keys `upstream` in its section `[upstream]`, and the keys `server` in its section `[server]`.
fn server(from: &Upstream, server: &str, upstream: &str) -> Server {
    let patient = if server.contains("discard-ms") {
        ""
    } else {
        "discard-ms = 60000"
    };
    let server = format!("workers = 2\n{patient}\n{server}");
    let config = preamble(from.address).replace("workers = 2", &server);
    let config = config + "timeout-ms = 30000\n" + upstream + "\n" + &list("ads", "");
    Server::start(&config, &[("ads", "blocked.example\n")])
}

/// A connection from that address with a receive buffer of that many bytes.
pub(crate) fn connect(client: [u8; 4], server: SocketAddr, buffer: Option<usize>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    if let Some(buffer) = buffer {
        socket.set_recv_buffer_size(buffer).expect("small");
    }
    socket
        .bind(&SocketAddr::from((client, 0)).into())
        .expect("bound");
    socket.connect(&server.into()).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.into()
}
