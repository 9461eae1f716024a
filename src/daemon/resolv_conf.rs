//! Reads the servers of the system's resolv.conf(5), and follows its changes.
//!
//! Like the C library, it ignores invalid lines. If the file has no server any more, or can't be read, the previous
//! servers stay in use: often the machine is changing networks, or the file is being written.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use resolv_conf::{ParseError, ScopedIp};

use super::target::{DEFAULT_PLACE, UpstreamError, own_address, reached_address, resolve};
use crate::config::regular;
use crate::config::shown::Show;
use crate::config::upstream::ServerAddress;
use crate::serve::upstream::server::Target;
use crate::wire::ask::Dialect;

const DNS_PORT: u16 = 53;
/// How often the file is read. It is small, and modification times are coarse.
const PERIOD: Duration = Duration::from_secs(2);
/// The maximum number of bytes read from the file.
const SIZE_MAX: u64 = 64 * 1024;

/// The current problem with the source of the servers, for `status`.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceProblem(Arc<Mutex<Option<String>>>);

impl SourceProblem {
    pub(super) fn current(&self) -> Option<String> {
        self.lock().clone()
    }

    pub(super) fn set(&self, problem: Option<String>) {
        *self.lock() = problem;
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file and its last contents.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    /// The addresses of this server, which must not be used as upstream.
    listen: Vec<SocketAddr>,
    /// The bytes read last; `None` if that failed.
    bytes: Option<Vec<u8>>,
    /// Whether a server was left out because its interface does not exist. The interface may appear without a change of
    /// the file.
    is_incomplete: bool,
    servers: Vec<Target>,
    problem: SourceProblem,
}

impl ResolvConf {
    pub(super) fn new(path: &Path, listen: &[SocketAddr]) -> Self {
        Self {
            path: path.to_owned(),
            listen: listen.to_vec(),
            bytes: None,
            is_incomplete: false,
            servers: Vec::new(),
            problem: SourceProblem::default(),
        }
    }

    /// The problem with the file.
    pub(super) fn problem(&self) -> SourceProblem {
        self.problem.clone()
    }

    /// The servers at the start. If there are none, this is a warning and not an error.
    pub(super) fn read_first(&mut self) -> Result<Vec<Target>, UpstreamError> {
        self.bytes = self.read();
        let servers = self.parse(true);
        for server in &servers {
            own_address(server.address.socket, &self.listen, DEFAULT_PLACE)?;
        }
        if servers.is_empty() {
            tracing::warn!(
                path = %self.path.shown(),
                "no upstream server: the file names none, so only locally served names are answered"
            );
            self.set_problem(Some(format!(
                "{} names no upstream server: queries that are not blocked are answered by SERVFAIL; add one there, or to \
                 [upstream] servers",
                self.path.shown()
            )));
        }
        self.servers.clone_from(&servers);
        Ok(servers)
    }

    /// Calls `replace` with the servers each time that they change.
    pub(super) async fn follow(mut self, replace: impl Fn(&[Target])) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let read = tokio::task::spawn_blocking(move || {
                let changed = self.reread();
                (self, changed)
            });
            // This fails only when the runtime ends.
            let Ok((next, changed)) = read.await else {
                return;
            };
            self = next;
            if let Some(servers) = changed {
                replace(&servers);
            }
        }
    }

    /// Reads the file again, and returns the servers if they have changed.
    fn reread(&mut self) -> Option<Vec<Target>> {
        let bytes = self.try_read().ok();
        let is_new = bytes != self.bytes;
        if !is_new && !self.is_incomplete {
            return None;
        }
        if is_new && bytes.is_none() {
            // This logs the reason.
            self.read();
        }
        self.bytes = bytes;
        let mut servers = self.parse(is_new);
        servers.retain(|server| {
            let address = server.address.socket;
            let is_ours = reached_address(address, &self.listen).is_some();
            if is_ours && is_new {
                tracing::warn!(%address, "upstream left out: it is this server itself");
            }
            !is_ours
        });
        if servers.is_empty() {
            if is_new && !self.servers.is_empty() {
                let path = self.path.shown();
                tracing::warn!(%path, "the file names no usable upstream server any more; the previous ones stay in use");
                let problem = format!(
                    "{path} names no upstream server that is usable; the previous ones stay in use"
                );
                self.set_problem(Some(problem));
            }
            return None;
        }
        self.set_problem(None);
        if servers == self.servers {
            return None;
        }
        let named = |servers: &[Target]| {
            let servers = servers
                .iter()
                .map(|server| server.address.socket.to_string());
            servers.collect::<Vec<_>>().join(", ")
        };
        tracing::info!(
            path = %self.path.shown(),
            before = named(&self.servers),
            now = named(&servers),
            "upstream servers changed"
        );
        self.servers.clone_from(&servers);
        Some(servers)
    }

    fn set_problem(&self, problem: Option<String>) {
        self.problem.set(problem);
    }

    /// Reads the file. Unless it is missing, an error is logged.
    fn read(&self) -> Option<Vec<u8>> {
        match self.try_read() {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = self.path.shown();
                tracing::warn!(%path, %error, "the system's servers can't be read");
                None
            }
        }
    }

    fn try_read(&self) -> io::Result<Vec<u8>> {
        let (bytes, _) = regular::read_start(&self.path, SIZE_MAX)?;
        Ok(bytes)
    }

    /// Parses the bytes. With `is_new`, problems are logged.
    fn parse(&mut self, is_new: bool) -> Vec<Target> {
        let path = self.path.shown();
        let bytes = self.bytes.as_deref().unwrap_or_default();
        let (parsed, errors) = resolv_conf::Config::parse_with_errors(bytes);
        for error in errors.into_iter().filter(|_| is_new) {
            let (ParseError::InvalidUtf8(line, _)
            | ParseError::InvalidValue(line)
            | ParseError::InvalidOptionValue(line)
            | ParseError::InvalidOption(line)
            | ParseError::InvalidDirective(line)
            | ParseError::InvalidIp(line, _)
            | ParseError::ExtraData(line)) = error;
            // The error counts lines from 0.
            let line = line + 1;
            tracing::warn!(%path, line, "invalid, or not supported in full");
        }
        let mut servers: Vec<Target> = Vec::new();
        let mut is_incomplete = false;
        for server in &parsed.nameservers {
            let (ip, zone) = match server {
                ScopedIp::V4(ip) => (IpAddr::V4(*ip), None),
                // The IPv6 sockets of the server can't send to IPv4 addresses.
                ScopedIp::V6(ip, zone) => (ip.to_canonical(), zone.clone()),
            };
            let is_link_local = matches!(server, ScopedIp::V6(ip, _) if ip.is_unicast_link_local());
            if is_link_local && zone.is_none() {
                if is_new {
                    tracing::warn!(%path, %ip, "upstream left out: it has no interface behind a %");
                }
                continue;
            }
            let socket = SocketAddr::new(ip, DNS_PORT);
            match resolve(ServerAddress { socket, zone }, DEFAULT_PLACE) {
                Ok(address)
                    if servers
                        .iter()
                        .any(|known| known.address.socket == address.socket) => {}
                Ok(address) => servers.push(Target::plain(address, Dialect::FULL)),
                Err(error) => {
                    is_incomplete = true;
                    if is_new {
                        tracing::warn!(%path, %error, "upstream left out");
                    }
                }
            }
        }
        self.is_incomplete = is_incomplete;
        servers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A resolv.conf in a temporary folder.
    struct Fixture {
        folder: tempfile::TempDir,
        file: ResolvConf,
    }

    impl Fixture {
        fn new(content: &[u8]) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("resolv.conf");
            std::fs::write(&path, content).expect("written");
            let listen = ["127.0.0.1:53".parse().expect("an address")];
            let file = ResolvConf::new(&path, &listen);
            Self { folder, file }
        }

        fn write(&self, content: &str) {
            std::fs::write(self.folder.path().join("resolv.conf"), content).expect("written");
        }

        fn first(&mut self) -> Vec<String> {
            texts(&self.file.read_first().expect("not ourselves"))
        }

        fn again(&mut self) -> Option<Vec<String>> {
            self.file.reread().map(|servers| texts(&servers))
        }

        fn problem(&self) -> Option<String> {
            self.file.problem.current()
        }
    }

    fn texts(servers: &[Target]) -> Vec<String> {
        servers
            .iter()
            .map(|server| server.address.socket.to_string())
            .collect()
    }

    #[test]
    fn the_systems_servers_are_used_and_none_is_no_error() {
        let text = b"search example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53"];
        assert_eq!(Fixture::new(text).first(), expected);
        assert!(Fixture::new(b"# nothing\n").first().is_empty());
        for path in ["/nowhere/resolv.conf", "/"] {
            let mut file = ResolvConf::new(Path::new(path), &[]);
            assert_eq!(file.read_first().expect("none").len(), 0, "{path}");
        }
    }

    #[test]
    fn an_ipv4_server_in_ipv6_form_is_an_ipv4_server() {
        let mut file = Fixture::new(b"nameserver ::ffff:192.0.2.1\nnameserver 192.0.2.1\n");
        assert_eq!(file.first(), ["192.0.2.1:53"]);
    }

    #[test]
    fn invalid_lines_hide_no_server() {
        let text =
            b"nameserver\nnameserver 192.0.2.1 extra\noptions timeout:x unheard-of trust-ad\n\
                     directive\nnameserver nonsense\nsearch \xff\nnameserver 192.0.2.2\n";
        let expected = ["192.0.2.1:53", "192.0.2.2:53"];
        assert_eq!(Fixture::new(text).first(), expected);
    }

    #[test]
    fn a_link_local_server_is_used_if_its_interface_exists() {
        let index = crate::sys::interface::index_of("lo").expect("an interface");
        let text = format!(
            "nameserver fe80::1%lo\nnameserver fe80::2%{index}\nnameserver fe80::3%nosuch0\n\
             nameserver fe80::4\n"
        );
        let expected = [1, 2].map(|n| format!("[fe80::{n}%{index}]:53"));
        assert_eq!(Fixture::new(text.as_bytes()).first(), expected);
    }

    #[test]
    fn a_changed_file_changes_the_servers_once() {
        let mut fixture = Fixture::new(b"nameserver 192.0.2.1\n");
        fixture.first();
        assert_eq!(fixture.again(), None, "nothing changed");
        fixture.write("nameserver 192.0.2.2\nnameserver 192.0.2.1\n");
        let expected = ["192.0.2.2:53", "192.0.2.1:53"].map(str::to_owned);
        assert_eq!(fixture.again(), Some(expected.into()));
        fixture.write("# the same\nnameserver 192.0.2.2\nnameserver 192.0.2.1\n");
        assert_eq!(fixture.again(), None, "the servers are the same");
    }

    #[test]
    fn a_file_without_a_usable_server_keeps_the_previous_ones_and_is_a_problem() {
        let mut fixture = Fixture::new(b"nameserver 192.0.2.1\n");
        fixture.first();
        for content in ["", "nameserver 127.0.0.1\n", "nameserver fe80::1%nosuch0\n"] {
            fixture.write(content);
            assert_eq!(fixture.again(), None, "{content}");
            assert!(fixture.problem().is_some(), "{content}");
            fixture.write("nameserver 192.0.2.1\n");
            assert_eq!(fixture.again(), None, "the servers are the same");
            assert_eq!(fixture.problem(), None, "{content}");
        }
        std::fs::remove_file(fixture.folder.path().join("resolv.conf")).expect("removed");
        assert_eq!(fixture.again(), None);
        assert!(fixture.problem().is_some());
    }
}
