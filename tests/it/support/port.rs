//! Ports that are free for UDP and TCP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The system gives no port of this range to a socket that is bound to port 0, so no other test gets one of them.
const FIRST: u32 = 10_000;
const PORTS: u32 = 20_000;

/// A port for a program that can't choose one itself, and that no other test of this process gets. Other processes begin elsewhere.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(process::id() * 64));
    loop {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        let port = u16::try_from(port).expect("at most 29,999");
        let at = (Ipv4Addr::LOCALHOST, port);
        if UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok() {
            return port;
        }
    }
}

/// Sockets for UDP and TCP at one address. `tcp` binds the second one.
pub(crate) fn udp_and_tcp<T>(tcp: impl Fn(SocketAddr) -> io::Result<T>) -> (UdpSocket, T) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = udp.local_addr().expect("bound");
        // Another socket may have the port for TCP alone.
        if let Ok(tcp) = tcp(address) {
            return (udp, tcp);
        }
    }
}
