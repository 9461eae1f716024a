//! Connects to the server of a URL: its addresses, the proxy, TLS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, crypto};

use super::address::is_permitted;
use super::fault::{DownloadFault, Failure};
use crate::config::download::Downloads;
use crate::config::web::{Login, WebHost, WebUrl};
use crate::control::data_plane::Hosts;
use crate::tls::roots;
use crate::wire::name::Name;

/// How long one address may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most addresses of a host that are tried.
const TRIES: usize = 6;
/// The largest head of a proxy's response, in bytes.
const HEAD_MAX: usize = 8192;

/// A connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Opens connections.
pub(super) struct Connector {
    settings: Downloads,
    hosts: Arc<dyn Hosts>,
    tls: Result<TlsConnector, String>,
}

impl Connector {
    /// Blocks on the file of authorities, or on those of the system.
    pub(super) fn new(settings: Downloads, hosts: Arc<dyn Hosts>) -> Self {
        Self {
            tls: tls(&settings),
            settings,
            hosts,
        }
    }

    pub(super) fn settings(&self) -> &Downloads {
        &self.settings
    }

    /// The proxy to which requests for this URL are sent as they are. For an encrypted URL, the proxy only passes bytes on.
    pub(super) fn asked_proxy(&self, url: &WebUrl) -> Option<&WebUrl> {
        self.settings.proxy.as_ref().filter(|_| !url.is_https())
    }

    /// Connects to the server of a URL, or to the proxy. Refuses addresses that are not permitted.
    pub(super) async fn connect(&self, url: &WebUrl) -> Result<Box<dyn Stream>, Failure> {
        let stream = match &self.settings.proxy {
            None => self.reach(url).await?,
            Some(proxy) => self.through(proxy, url).await?,
        };
        match url.is_https() {
            true => self.encrypt(stream, &url.host()).await,
            false => Ok(stream),
        }
    }

    async fn reach(&self, url: &WebUrl) -> Result<Box<dyn Stream>, Failure> {
        let host = url.host();
        let all = self.addresses(&host).await?;
        let is_permitted = |address: &IpAddr| is_permitted(&self.settings, &host, *address);
        let (permitted, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(is_permitted);
        if let ([], Some(address)) = (&permitted[..], refused.first()) {
            let detail = format!("{host} is {address}");
            return Err(Failure::new(DownloadFault::Private, detail));
        }
        let stream = dial(&host, &permitted, url.port()).await;
        stream.map_err(|detail| Failure::new(DownloadFault::Unreachable, detail))
    }

    /// Connects to the proxy, which the operator has named: any address of it is permitted. It resolves the host of an
    /// encrypted URL itself, so only an address in a URL can be refused.
    async fn through(&self, proxy: &WebUrl, url: &WebUrl) -> Result<Box<dyn Stream>, Failure> {
        if let host @ WebHost::Address(address) = url.host()
            && !is_permitted(&self.settings, &host, address)
        {
            return Err(Failure::new(DownloadFault::Private, host.to_string()));
        }
        let failed = |detail: String| Failure::new(DownloadFault::Proxy, detail);
        let host = proxy.host();
        let addresses = self.addresses(&host).await;
        let addresses = addresses.map_err(|failure| failed(failure.detail))?;
        let mut stream = dial(&host, &addresses, proxy.port())
            .await
            .map_err(failed)?;
        if proxy.is_https() {
            stream = self.encrypt(stream, &host).await?;
        }
        if url.is_https() {
            let tunnel = tunnel(&mut stream, proxy, url).await;
            tunnel.map_err(|error| failed(error.to_string()))?;
        }
        Ok(stream)
    }

    /// The addresses of a host, of both families by turns. Names are resolved by the upstream servers: this machine's own
    /// resolver may be this server.
    async fn addresses(&self, host: &WebHost) -> Result<Vec<IpAddr>, Failure> {
        let failed = |detail: String| Failure::new(DownloadFault::Unreachable, detail);
        let name = match host {
            WebHost::Address(address) => return Ok(vec![*address]),
            // No upstream server is asked for these (RFC 6761, section 6.3).
            WebHost::Name(_) if host.is_loopback_name() => {
                return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
            }
            WebHost::Name(name) => name,
        };
        let parsed = Name::from_text(name);
        let parsed = parsed.map_err(|_| failed(format!("{name} is not the name of a host")))?;
        let found = self.hosts.addresses(&parsed).await;
        let found = found.map_err(|why| failed(format!("{name} has no address: {why}")))?;
        let (v6, v4): (Vec<_>, Vec<_>) = found.into_iter().partition(IpAddr::is_ipv6);
        let longer = v4.len().max(v6.len());
        let pairs = (0..longer).flat_map(|at| [v4.get(at), v6.get(at)]);
        let mut addresses: Vec<_> = pairs.flatten().copied().collect();
        addresses.truncate(TRIES);
        Ok(addresses)
    }

    async fn encrypt(
        &self,
        stream: Box<dyn Stream>,
        host: &WebHost,
    ) -> Result<Box<dyn Stream>, Failure> {
        let unusable = |why: &String| Failure::new(DownloadFault::TlsSettings, why.clone());
        let connector = self.tls.as_ref().map_err(unusable)?;
        let failed = |detail: String| Failure::new(DownloadFault::Tls, detail);
        let name = match host {
            WebHost::Address(address) => ServerName::from(*address),
            WebHost::Name(name) => ServerName::try_from(name.clone())
                .map_err(|_| failed(format!("{name} can't have a certificate")))?,
        };
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| failed(format!("{host}: {}", explain(&error))))?;
        Ok(Box::new(stream))
    }
}

/// The value of a header with user and password (RFC 7617).
pub(super) fn basic(login: &Login) -> String {
    let pair = [&login.user[..], b":", &login.password].concat();
    format!("Basic {}", BASE64.encode(&pair))
}

/// Connects to the first address that accepts.
async fn dial(host: &WebHost, addresses: &[IpAddr], port: u16) -> Result<Box<dyn Stream>, String> {
    let mut last = format!("{host} has no address");
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(Box::new(stream)),
            Ok(Err(error)) => last = format!("{host} ({address}): {error}"),
            Err(_) => last = format!("{host} ({address}): no answer in {} s", PATIENCE.as_secs()),
        }
    }
    Err(last)
}

/// Asks a proxy to pass bytes to the server of a URL.
async fn tunnel(stream: &mut Box<dyn Stream>, proxy: &WebUrl, url: &WebUrl) -> io::Result<()> {
    let target = match url.authority() {
        authority if authority.ends_with(&format!(":{}", url.port())) => authority,
        host => format!("{host}:{}", url.port()),
    };
    let login = proxy.login().map_or_else(String::new, |login| {
        format!("proxy-authorization: {}\r\n", basic(&login))
    });
    let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{login}\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    // The server's first bytes follow the head, so not one byte more may be read.
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        status => {
            let status = status.and_then(|status| status.parse::<u16>().ok());
            let status = status.map_or_else(|| "no HTTP".to_owned(), |it| format!("status {it}"));
            Err(io::Error::other(format!("it answers with {status}")))
        }
    }
}

fn tls(settings: &Downloads) -> Result<TlsConnector, String> {
    let roots = roots(settings.authorities.as_deref()).map_err(|error| error.to_string())?;
    let provider = Arc::new(crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// Why TLS was not established.
fn explain(error: &io::Error) -> String {
    let inner = error.get_ref();
    let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(fault)) = tls else {
        return error.to_string();
    };
    let text = match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; check the clock of this machine"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name"
        }
        CertificateError::UnknownIssuer => {
            "its certificate is from an authority that is not known here"
        }
        CertificateError::Revoked => "its certificate was revoked",
        other => return format!("its certificate is not valid: {other}"),
    };
    text.to_owned()
}
