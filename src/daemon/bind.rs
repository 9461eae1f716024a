//! Binds the listen addresses for UDP and TCP: all of them, or none.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket as Raw, Type};

use super::inherited::{Inherited, SEND_BUFFER};
use crate::sys::udp::Socket;

/// The maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// The maximum number of attempts to find a port that is free for both TCP and UDP, if the system chooses the port.
const PORT_TRIES: usize = 64;

/// A reason why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program uses it.
    #[error(
        "{address} is in use by another program (a second tapis, or another DNS server); stop that one, or choose another address with `serve --listen` or in [server] listen"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// systemd-resolved uses it.
    #[error(
        "{address} is in use: systemd-resolved listens on {stub} for programs of this machine; turn that off with DNSStubListener=no in /etc/systemd/resolved.conf and `systemctl restart systemd-resolved`, or listen on single addresses of this machine instead of on all"
    )]
    Stub {
        /// The address.
        address: SocketAddr,
        /// The address of systemd-resolved.
        stub: SocketAddr,
    },
    /// The port needs a privilege.
    #[error(
        "{address} needs a privilege: run as root, give the binary CAP_NET_BIND_SERVICE, or choose a port from 1024 on with `serve --listen` or in [server] listen"
    )]
    Privilege {
        /// The address.
        address: SocketAddr,
    },
    /// It is not an address of this machine.
    #[error(
        "{address} is not an address of this machine; choose one that `ip address` shows, with `serve --listen` or in [server] listen"
    )]
    NotHere {
        /// The address.
        address: SocketAddr,
    },
    /// Another error.
    #[error(
        "{address} can't be listened on: {source}; choose another address with `serve --listen` or in [server] listen"
    )]
    Other {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// No address can be used.
    #[error("no address to listen on is left; this machine has neither IPv4 nor IPv6 loopback")]
    NoAddress,
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                let table = |name| fs::read_to_string(name).unwrap_or_default();
                match stub(address, &(table("/proc/net/udp") + &table("/proc/net/tcp"))) {
                    Some(stub) => Self::Stub { address, stub },
                    None => Self::InUse { address },
                }
            }
            io::ErrorKind::PermissionDenied => Self::Privilege { address },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address },
            _ => Self::Other { address, source },
        }
    }
}

/// The addresses of systemd-resolved (systemd-resolved.service(8)).
const STUBS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), 53),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54)), 53),
];

/// The address of systemd-resolved that conflicts with `address`, according to the system's tables of sockets
/// (proc_net(5)).
fn stub(address: SocketAddr, tables: &str) -> Option<SocketAddr> {
    let bound = tables.lines().filter_map(|line| {
        let (ip, port) = line.split_whitespace().nth(1)?.split_once(':')?;
        let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
        Some(SocketAddr::from((ip, u16::from_str_radix(port, 16).ok()?)))
    });
    let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 53));
    bound
        .filter(|bound| STUBS.contains(bound))
        .find(|bound| address == all || address == *bound)
}

/// A sentence for each address that can't be listened on now.
pub(super) fn problems(listen: impl Iterator<Item = SocketAddr>, lenient: bool) -> Vec<String> {
    let problem = |address| {
        let error = bind_one(address, 1, &mut Inherited::default()).err()?;
        let skipped = lenient && address.is_ipv6() && is_without_ipv6(&error);
        (!skipped).then(|| BindError::new(address, error).to_string())
    };
    listen.filter_map(problem).collect()
}

/// The bound sockets of one address, which are not served yet.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The configured address.
    pub(super) configured: SocketAddr,
    /// The bound address; if the configured port is 0, with the port that the system chose.
    pub(super) address: SocketAddr,
    /// The TCP socket.
    pub(super) tcp: TcpListener,
    /// The UDP sockets, one for each worker. If they were passed to the server, there may be fewer or more.
    pub(super) udp: Vec<Arc<Socket>>,
}

impl Endpoint {
    /// The UDP sockets of a worker: together, the workers have all sockets, and each worker has at least one.
    pub(super) fn udp_of(
        &self,
        worker: usize,
        workers: usize,
    ) -> impl Iterator<Item = &Arc<Socket>> {
        let count = self.udp.len();
        let indexes = (worker..count.max(workers)).step_by(workers.max(1));
        indexes.filter_map(move |index| self.udp.get(index % count.max(1)))
    }
}

/// Binds all addresses that are not among the inherited sockets. With `lenient` (the built-in default) IPv6 addresses
/// are skipped on a machine without IPv6.
pub(super) fn bind(
    listen: &[SocketAddr],
    workers: usize,
    lenient: bool,
    inherited: &mut Inherited,
) -> Result<Vec<Endpoint>, BindError> {
    let mut bound = Vec::new();
    for &address in listen {
        match bind_one(address, workers, inherited) {
            Ok(endpoint) => bound.push(endpoint),
            Err(error) if lenient && address.is_ipv6() && is_without_ipv6(&error) => {
                tracing::warn!(%address, %error, "this machine has no IPv6; serving IPv4 only");
            }
            Err(error) => return Err(BindError::new(address, error)),
        }
    }
    if bound.is_empty() {
        return Err(BindError::NoAddress);
    }
    Ok(bound)
}

/// Binds one more address.
pub(super) fn bind_another(address: SocketAddr, workers: usize) -> Result<Endpoint, BindError> {
    let bound = bind_one(address, workers, &mut Inherited::default());
    bound.map_err(|error| BindError::new(address, error))
}

fn is_without_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn bind_one(
    configured: SocketAddr,
    workers: usize,
    inherited: &mut Inherited,
) -> io::Result<Endpoint> {
    let mut tries = 1;
    loop {
        match bind_both(configured, workers, inherited) {
            // Another program has the port for UDP, or took it between bind(2) and listen(2).
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && configured.port() == 0
                    && tries < PORT_TRIES =>
            {
                tries += 1;
            }
            bound => return bound,
        }
    }
}

fn bind_both(
    configured: SocketAddr,
    workers: usize,
    inherited: &mut Inherited,
) -> io::Result<Endpoint> {
    // TCP first: a listening port is never shared, so it also prevents a second tapis.
    let tcp = match inherited.take_tcp(configured) {
        Some(tcp) => tcp,
        None => listen_tcp(configured)?,
    };
    let address = tcp.local_addr()?;
    let passed = inherited.take_udp(configured);
    let udp = match passed.is_empty() {
        true => bind_udp(address, workers)?,
        false => complete_udp(passed, address, workers),
    };
    Ok(Endpoint {
        configured,
        address,
        tcp,
        udp: udp.into_iter().map(Arc::new).collect(),
    })
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let raw = Raw::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        raw.set_only_v6(true)?;
    }
    // Connections of a server that has just ended must not prevent the next one from starting.
    raw.set_reuse_address(true)?;
    raw.set_nonblocking(true)?;
    // Accepted connections inherit it.
    raw.set_send_buffer_size(SEND_BUFFER)?;
    raw.bind(&address.into())?;
    raw.listen(BACKLOG)?;
    Ok(raw.into())
}

fn bind_udp(address: SocketAddr, workers: usize) -> io::Result<Vec<Socket>> {
    // The workers' sockets share the port. This first socket does not, so binding it fails if another process uses the
    // port.
    drop(Socket::bind(address, false)?);
    (0..workers).map(|_| Socket::bind(address, true)).collect()
}

/// Adds sockets to those that were passed, up to one for each worker. The system refuses this if they are not shared or
/// belong to another user, as those of a service manager may. Then workers share sockets.
fn complete_udp(mut passed: Vec<Socket>, address: SocketAddr, workers: usize) -> Vec<Socket> {
    let is_shared = passed.iter().all(Socket::is_shared);
    while is_shared && passed.len() < workers {
        match Socket::bind(address, true) {
            Ok(socket) => passed.push(socket),
            Err(_) => break,
        }
    }
    let sockets = passed.len();
    if sockets < workers {
        tracing::warn!(
            %address,
            sockets,
            workers,
            "workers share the UDP sockets that were passed, which costs throughput; set ReusePort=yes in the .socket unit, and repeat its ListenDatagram= once for each worker"
        );
    }
    passed
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn local() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn every_worker_has_a_socket_on_the_port_that_tcp_has_too() {
        let bound = bind(&[local()], 3, false, &mut Inherited::default()).expect("bound");
        let port = bound[0].address.port();
        assert_ne!(port, 0);
        assert_eq!(bound[0].udp.len(), 3);
        for socket in &bound[0].udp {
            assert_eq!(socket.local_addr().expect("bound").port(), port);
        }
    }

    #[test]
    fn an_accepted_connection_has_a_small_send_buffer() {
        let listener = listen_tcp(local()).expect("bound");
        let address = listener.local_addr().expect("bound");
        let _client = TcpStream::connect(address).expect("connected");
        listener.set_nonblocking(false).expect("waiting");
        let (accepted, _) = listener.accept().expect("accepted");
        let size = Raw::from(accepted).send_buffer_size().expect("a size");
        assert_eq!(size, 2 * SEND_BUFFER);
    }

    #[test]
    fn a_second_server_reports_that_the_address_is_in_use() {
        let first = bind(&[local()], 1, false, &mut Inherited::default()).expect("bound");
        let again =
            bind(&[first[0].address], 1, false, &mut Inherited::default()).expect_err("refused");
        assert!(matches!(again, BindError::InUse { .. }), "{again}");
        let udp_only = Socket::bind(local(), true).expect("bound");
        let in_use = udp_only.local_addr().expect("bound");
        let again = bind(&[in_use], 1, false, &mut Inherited::default()).expect_err("refused");
        assert!(
            matches!(again, BindError::InUse { .. }),
            "SO_REUSEPORT or not: {again}"
        );
    }

    #[test]
    fn the_stub_of_systemd_resolved_is_named_if_it_uses_the_address() {
        let number = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let line = |ip, port| {
            format!(
                "  36: {}:{port:04X} 00000000:0000 07 00:0 0 0 0 0 0 0\n",
                number(ip)
            )
        };
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n".to_owned();
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let tables = head.clone() + &line([127, 0, 0, 54], 53) + &line([127, 0, 0, 53], 53);
        assert_eq!(stub(at("0.0.0.0:53"), &tables), Some(STUBS[1]));
        assert_eq!(stub(at("127.0.0.53:53"), &tables), Some(STUBS[0]));
        for other in ["127.0.0.1:53", "[::]:53", "0.0.0.0:5353"] {
            assert_eq!(stub(at(other), &tables), None, "{other}");
        }
        let others = head + &line([127, 0, 0, 1], 53) + &line([127, 0, 0, 53], 5353);
        assert_eq!(stub(at("0.0.0.0:53"), &others), None);
        let error = BindError::Stub {
            address: at("0.0.0.0:53"),
            stub: STUBS[0],
        };
        let text = error.to_string();
        assert!(
            text.contains("127.0.0.53:53") && text.contains("DNSStubListener=no"),
            "{text}"
        );
    }

    #[test]
    fn an_address_of_another_machine_is_reported_as_such() {
        let foreign = ([192, 0, 2, 1], 5335).into();
        let error = bind(&[foreign], 1, true, &mut Inherited::default()).expect_err("refused");
        assert!(matches!(error, BindError::NotHere { .. }), "{error}");
    }
}
