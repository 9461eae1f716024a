//! Sockets that another process has bound and passed to the server: a service manager, or a running server. They are used in place of new
//! ones for the configured addresses.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket as Raw, Type};

use crate::control::admin::socket::Owned;
use crate::sys::passed::take_passed;
use crate::sys::udp::Socket;

/// The size of the system's send buffer for each TCP connection, in bytes. It holds answers that the client has not
/// read. The system doubles the number for its overhead; its default is up to several megabytes.
pub(super) const SEND_BUFFER: usize = 64 << 10;

/// Why sockets that were passed can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// The environment does not announce them properly.
    #[error(
        "the service manager passed sockets that can't be used: LISTEN_FDS or LISTEN_FDNAMES: {0}; correct the .socket unit, or start without it"
    )]
    Announced(io::Error),
    /// One of them is of no use.
    #[error(
        "file descriptor {number} ({name}), which the service manager passed, can't be used: {problem}"
    )]
    Unusable {
        /// The number of the descriptor.
        number: i32,
        /// The name that the service manager gave it.
        name: String,
        /// The reason, with the remedy.
        problem: String,
    },
}

/// Sockets that were passed and are not used yet.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    tcp: Vec<(SocketAddr, TcpListener)>,
    /// There may be several for one address.
    udp: Vec<(SocketAddr, Socket)>,
    /// TCP listeners for metrics, of a running server. A service manager does not say what a socket is for.
    metrics: Vec<(SocketAddr, TcpListener)>,
    control: Vec<Control>,
    /// The running server that they are from.
    pub(super) process: Option<u32>,
}

/// A control socket, which waits for connections.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) path: PathBuf,
    pub(super) listener: UnixListener,
    /// What a running server leaves; `None` if it belongs to a service manager.
    pub(super) owned: Option<Owned>,
}

/// What a running server uses a socket for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Described {
    /// UDP, by the configured address, whose port may be 0.
    Udp(SocketAddr),
    /// TCP, by the configured address.
    Tcp(SocketAddr),
    /// TCP for metrics, by the configured address.
    Metrics(SocketAddr),
    /// The control socket.
    Control {
        /// Its path, which is absolute.
        path: PathBuf,
        /// The server's part in it; `None` if it belongs to a service manager.
        owned: Option<Owned>,
    },
}

/// The addresses of sockets that were passed. They are in use, but by no other server.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// Addresses that queries are sent to.
    pub(super) listen: Vec<SocketAddr>,
    /// Whether there is a control socket among them.
    pub(super) has_control: bool,
    /// The running server that they are from.
    pub(super) process: Option<u32>,
}

impl Inherited {
    /// The sockets that the service manager passed.
    pub(super) fn from_service_manager() -> Result<Self, InheritedError> {
        let mut inherited = Self::default();
        for passed in take_passed().map_err(InheritedError::Announced)? {
            let added = inherited.add(passed.file, None);
            added.map_err(|problem| InheritedError::Unusable {
                number: passed.number,
                name: passed.name,
                problem,
            })?;
        }
        Ok(inherited)
    }

    /// Adds a socket: one of a running server as it is `described`, and others by their type and address. The error says
    /// what is wrong with it, and the remedy.
    pub(super) fn add(
        &mut self,
        file: OwnedFd,
        described: Option<Described>,
    ) -> Result<(), String> {
        let system = |error: io::Error| format!("the system refuses to examine it: {error}");
        let raw = SockRef::from(&file);
        let (domain, kind) = match (raw.domain(), raw.r#type()) {
            (Ok(domain), Ok(kind)) => (domain, kind),
            (Err(error), _) | (_, Err(error)) if error.raw_os_error() == Some(libc::ENOTSOCK) => {
                return Err("it is not a socket; remove it from the .socket unit".to_owned());
            }
            (Err(error), _) | (_, Err(error)) => return Err(system(error)),
        };
        let local = raw.local_addr().map_err(system)?;
        if let Some(address) = local.as_socket() {
            if domain == Domain::IPV6 && !raw.only_v6().map_err(system)? {
                return Err(format!(
                    "the socket at {address} receives IPv4 as well; set BindIPv6Only=ipv6-only in the .socket unit, and list the IPv4 address, too"
                ));
            }
            let (configured, is_metrics) = match described {
                Some(Described::Udp(configured) | Described::Tcp(configured)) => {
                    (configured, false)
                }
                Some(Described::Metrics(configured)) => (configured, true),
                _ => (address, false),
            };
            return match kind {
                Type::DGRAM => {
                    let socket = Socket::adopt(file, address).map_err(system)?;
                    self.udp.push((configured, socket));
                    Ok(())
                }
                Type::STREAM => {
                    let listener = adopt_tcp(file, address)?;
                    let listeners = match is_metrics {
                        true => &mut self.metrics,
                        false => &mut self.tcp,
                    };
                    listeners.push((configured, listener));
                    Ok(())
                }
                _ => Err(format!(
                    "the socket at {address} is neither UDP nor TCP; use ListenDatagram= and ListenStream= in the .socket unit"
                )),
            };
        }
        let (path, owned) = match described {
            Some(Described::Control { path, owned }) => (Some(path), owned),
            _ => (local.as_pathname().map(Path::to_owned), None),
        };
        let is_listening = raw.is_listener().unwrap_or(false);
        match path {
            Some(path) if kind == Type::STREAM && is_listening => {
                raw.set_nonblocking(true).map_err(system)?;
                self.control.push(Control {
                    path,
                    listener: Raw::from(file).into(),
                    owned,
                });
                Ok(())
            }
            _ => Err(
                "it is neither a UDP or TCP socket of an IP address, nor a Unix stream socket for the control socket; remove it from the .socket unit"
                    .to_owned(),
            ),
        }
    }

    /// These sockets, or the `others` if there are none.
    pub(super) fn or(self, others: Self) -> Self {
        let is_empty = self.tcp.is_empty() && self.udp.is_empty() && self.control.is_empty();
        if is_empty { others } else { self }
    }

    /// Whether there is a control socket that was not taken.
    pub(super) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Their addresses.
    pub(super) fn held(&self) -> Held {
        let tcp = self.tcp.iter().chain(&self.metrics);
        let tcp = tcp.map(|(address, _)| *address);
        let udp = self.udp.iter().map(|(address, _)| *address);
        Held {
            listen: tcp.chain(udp).collect(),
            has_control: !self.control.is_empty(),
            process: self.process,
        }
    }

    /// Takes the TCP listener of an address.
    pub(super) fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.tcp.iter().position(|(bound, _)| *bound == address)?;
        Some(self.tcp.swap_remove(at).1)
    }

    /// Takes the TCP listener of an address for metrics.
    pub(super) fn take_metrics(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let mut bound = self.metrics.iter();
        match bound.position(|(bound, _)| *bound == address) {
            Some(at) => Some(self.metrics.swap_remove(at).1),
            None => self.take_tcp(address),
        }
    }

    /// Takes all UDP sockets of an address.
    pub(super) fn take_udp(&mut self, address: SocketAddr) -> Vec<Socket> {
        let taken = self.udp.extract_if(.., |(bound, _)| *bound == address);
        taken.map(|(_, socket)| socket).collect()
    }

    /// Takes a Unix socket at one of `paths`.
    pub(super) fn take_control(&mut self, paths: &[PathBuf]) -> Option<Control> {
        // The socket's path is absolute, and those of the configuration may be relative.
        let same =
            |wanted: &Path, path: &Path| std::path::absolute(wanted).is_ok_and(|it| it == path);
        let is_wanted = |it: &Control| paths.iter().any(|path| same(path, &it.path));
        let at = self.control.iter().position(is_wanted)?;
        Some(self.control.swap_remove(at))
    }

    /// Closes the sockets that were not taken, because the configuration does not name their addresses.
    pub(super) fn close_rest(self) {
        let tcp = self.tcp.iter().chain(&self.metrics);
        let tcp = tcp.map(|(at, _)| ("TCP", at.to_string()));
        let udp = self.udp.iter().map(|(at, _)| ("UDP", at.to_string()));
        let unix = self.control.iter();
        let unix = unix.map(|it| ("Unix", it.path.to_string_lossy().into_owned()));
        for (protocol, address) in tcp.chain(udp).chain(unix) {
            tracing::warn!(
                protocol,
                address,
                "a socket that was passed is closed, because the configuration doesn't name its address; add it there if it is to be served"
            );
        }
    }
}

fn adopt_tcp(file: OwnedFd, address: SocketAddr) -> Result<TcpListener, String> {
    let raw = SockRef::from(&file);
    if !raw.is_listener().unwrap_or(false) {
        return Err(format!(
            "the TCP socket at {address} does not listen; use ListenStream= with Accept=no in the .socket unit"
        ));
    }
    let prepared = raw
        .set_nonblocking(true)
        // Accepted connections inherit it.
        .and_then(|()| raw.set_send_buffer_size(SEND_BUFFER));
    prepared.map_err(|error| format!("the TCP socket at {address} refuses an option: {error}"))?;
    Ok(Raw::from(file).into())
}
