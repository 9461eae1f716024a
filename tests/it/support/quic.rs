//! A test's upstream over QUIC: DNS over QUIC, or DNS over HTTPS by HTTP/3. Its certificate is valid for `primary.test`.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::response::Builder;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime,
};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use tokio_util::bytes::{Buf, Bytes};

use super::dot::answer;
use super::tls::{Security, authority};

/// What an upstream does with a query, as DNS over QUIC.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends these chunks, one after the other, and ends the stream.
    Send(Vec<Vec<u8>>),
    /// Sends these bytes, and does not end the stream.
    Leave(Vec<u8>),
    /// Sends these bytes, ends the stream, and closes the connection once the client has them.
    SendAndClose(Vec<u8>),
    Reset(u32),
    /// Waits until the client cancels the query.
    Wait,
}

/// The same as HTTP/3.
#[derive(Clone, Debug)]
pub(crate) enum Http {
    /// Responds with this status, type and body, in chunks of so many bytes.
    Respond(u16, Option<&'static str>, Vec<u8>, usize),
    /// Responds with this message from a cache, in which it was for so long.
    Aged(&'static str, Vec<u8>),
    /// Responds with this message after an interim response.
    Early(Vec<u8>),
    /// Sends the head, and no body.
    Stall,
    Reset,
    /// Closes the connection without an error.
    Close,
}

/// What an upstream saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    queries: Mutex<Vec<Vec<u8>>>,
    connections: AtomicUsize,
    resumed: AtomicUsize,
    /// The codes by which clients ended connections, and cancelled queries.
    closes: Mutex<Vec<u64>>,
    cancels: Mutex<Vec<u64>>,
    /// The heads of requests.
    heads: Mutex<Vec<http::Request<()>>>,
}

impl Seen {
    pub(crate) fn queries(&self) -> Vec<Vec<u8>> {
        self.queries.lock().expect("not poisoned").clone()
    }

    pub(crate) fn heads(&self) -> Vec<http::Request<()>> {
        self.heads.lock().expect("not poisoned").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn resumed(&self) -> usize {
        self.resumed.load(Ordering::Relaxed)
    }

    pub(crate) fn closes(&self) -> Vec<u64> {
        self.closes.lock().expect("not poisoned").clone()
    }

    pub(crate) fn cancels(&self) -> Vec<u64> {
        self.cancels.lock().expect("not poisoned").clone()
    }
}

pub(crate) struct QuicUpstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    scheme: &'static str,
}

/// A message with its length before it.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u16).to_be_bytes();
    [&length[..], message].concat()
}

/// The usual response of HTTP.
pub(crate) fn ok(query: &[u8]) -> Http {
    let message = answer(query);
    let length = message.len();
    Http::Respond(200, Some("application/dns-message"), message, length)
}

impl QuicUpstream {
    /// Serves DNS over QUIC by `act`, until the test ends.
    pub(crate) fn start(
        security: Security,
        act: impl Fn(&[u8]) -> Act + Send + Sync + 'static,
    ) -> Self {
        let act = Arc::new(act);
        Self::serve("quic", security, move |connection, seen| {
            let act = Arc::clone(&act);
            async move {
                while let Ok((to, from)) = connection.accept_bi().await {
                    let (act, seen) = (Arc::clone(&act), Arc::clone(&seen));
                    let connection = connection.clone();
                    tokio::spawn(async move {
                        converse(connection, to, from, &*act, &seen).await;
                    });
                }
            }
        })
    }

    /// Answers all queries, with 192.0.2.1 for A.
    pub(crate) fn plain() -> Self {
        Self::start(Security::tls(b"doq"), |query| {
            Act::Send(vec![frame(&answer(query))])
        })
    }

    /// Serves DNS over HTTPS by `act`, until the test ends.
    pub(crate) fn http(act: impl Fn(&[u8]) -> Http + Send + Sync + 'static) -> Self {
        Self::http_by(Security::tls(b"h3"), usize::MAX, act)
    }

    /// The same with this certificate. Each connection takes at most so many requests.
    pub(crate) fn http_by(
        security: Security,
        most: usize,
        act: impl Fn(&[u8]) -> Http + Send + Sync + 'static,
    ) -> Self {
        let act = Arc::new(act);
        Self::serve("h3", security, move |connection, seen| {
            let act = Arc::clone(&act);
            async move {
                let quic = h3_quinn::Connection::new(connection.clone());
                let Ok(mut http) = h3::server::Connection::<_, Bytes>::new(quic).await else {
                    return;
                };
                let mut count = 0;
                while let Ok(Some(request)) = http.accept().await {
                    count += 1;
                    if count == most {
                        let _ = http.shutdown(0).await;
                    }
                    let (act, seen) = (Arc::clone(&act), Arc::clone(&seen));
                    let connection = connection.clone();
                    tokio::spawn(async move {
                        let Ok((head, stream)) = request.resolve_request().await else {
                            return;
                        };
                        seen.heads.lock().expect("not poisoned").push(head);
                        respond(connection, stream, &*act, &seen).await;
                    });
                }
                connection.closed().await;
            }
        })
    }

    fn serve<F>(
        scheme: &'static str,
        security: Security,
        serve: impl Fn(Connection, Arc<Seen>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Security::Tls(config) = security else {
            panic!("encrypted");
        };
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("bound");
        let seen = Arc::<Seen>::default();
        let mut config = ServerConfig::clone(&config);
        config.session_storage = Arc::new(Sessions {
            kept: ServerSessionMemoryCache::new(1000),
            seen: Arc::clone(&seen),
        });
        let config = QuicServerConfig::try_from(config).expect("TLS 1.3");
        let config = quinn::ServerConfig::with_crypto(Arc::new(config));
        let all = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let quic = (EndpointConfig::default(), Arc::new(TokioRuntime));
                let endpoint = Endpoint::new(quic.0, Some(config), socket, quic.1);
                let endpoint = endpoint.expect("an endpoint");
                while let Some(incoming) = endpoint.accept().await {
                    let Ok(connection) = incoming.await else {
                        continue;
                    };
                    all.connections.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(watch(connection.clone(), Arc::clone(&all)));
                    tokio::spawn(serve(connection, Arc::clone(&all)));
                }
            });
        });
        Self {
            address,
            seen,
            scheme,
        }
    }

    /// The server as a configuration names it, with the authority of its certificate.
    pub(crate) fn server(&self) -> String {
        self.server_at("")
    }

    /// The same with this path.
    pub(crate) fn server_at(&self, path: &str) -> String {
        let ca = authority();
        format!(
            "{{ address = \"{}://{}{path}#primary.test\", ca-file = \"{}\" }}",
            self.scheme,
            self.address,
            ca.to_str().expect("UTF-8")
        )
    }
}

/// Records how the client ends a connection.
async fn watch(connection: Connection, seen: Arc<Seen>) {
    if let ConnectionError::ApplicationClosed(close) = connection.closed().await {
        let code = close.error_code.into_inner();
        seen.closes.lock().expect("not poisoned").push(code);
    }
}

async fn converse(
    connection: Connection,
    mut to: SendStream,
    mut from: RecvStream,
    act: &(dyn Fn(&[u8]) -> Act + Send + Sync),
    seen: &Seen,
) {
    // The client ends its half: this waits for that.
    let Ok(received) = from.read_to_end(70_000).await else {
        return;
    };
    let Some((length, query)) = received.split_first_chunk::<2>() else {
        return;
    };
    assert_eq!(usize::from(u16::from_be_bytes(*length)), query.len());
    seen.queries
        .lock()
        .expect("not poisoned")
        .push(query.to_vec());
    match act(query) {
        Act::Send(chunks) => {
            for chunk in chunks {
                let _ = to.write_all(&chunk).await;
                tokio::task::yield_now().await;
            }
            let _ = to.finish();
        }
        Act::Leave(bytes) => {
            let _ = to.write_all(&bytes).await;
            let _ = to.stopped().await;
        }
        Act::SendAndClose(bytes) => {
            let _ = to.write_all(&bytes).await;
            let _ = to.finish();
            let _ = to.stopped().await;
            connection.close(0_u8.into(), b"");
        }
        Act::Reset(code) => {
            let _ = to.reset(code.into());
        }
        Act::Wait => {
            if let Ok(Some(code)) = to.stopped().await {
                let code = code.into_inner();
                seen.cancels.lock().expect("not poisoned").push(code);
            }
        }
    }
}

type HttpStream = h3::server::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

async fn respond(
    connection: Connection,
    mut stream: HttpStream,
    act: &(dyn Fn(&[u8]) -> Http + Send + Sync),
    seen: &Seen,
) {
    let mut query = Vec::new();
    while let Ok(Some(mut bytes)) = stream.recv_data().await {
        query.extend_from_slice(&bytes.copy_to_bytes(bytes.remaining()));
    }
    seen.queries
        .lock()
        .expect("not poisoned")
        .push(query.clone());
    let usual = Some("application/dns-message");
    match act(&query) {
        Http::Respond(status, of_type, body, length) => {
            send(&mut stream, head(status, of_type), &body, length).await;
            let _ = stream.finish().await;
        }
        Http::Early(body) => {
            let interim = head(103, None).body(()).expect("a head");
            let _ = stream.send_response(interim).await;
            send(&mut stream, head(200, usual), &body, body.len()).await;
            let _ = stream.finish().await;
        }
        Http::Aged(age, body) => {
            let head = head(200, usual).header("age", age);
            send(&mut stream, head, &body, body.len()).await;
            let _ = stream.finish().await;
        }
        Http::Stall => {
            send(&mut stream, head(200, usual), &[], 1).await;
            connection.closed().await;
        }
        Http::Close => connection.close(
            h3::error::Code::H3_NO_ERROR
                .value()
                .try_into()
                .expect("a code"),
            b"",
        ),
        Http::Reset => stream.stop_stream(h3::error::Code::H3_INTERNAL_ERROR),
    }
}

fn head(status: u16, of_type: Option<&str>) -> Builder {
    let head = http::Response::builder().status(status);
    match of_type {
        Some(of_type) => head.header("content-type", of_type),
        None => head,
    }
}

async fn send(stream: &mut HttpStream, head: Builder, body: &[u8], length: usize) {
    let head = head.body(()).expect("a head");
    let _ = stream.send_response(head).await;
    for chunk in body.chunks(length.max(1)) {
        let _ = stream.send_data(Bytes::copy_from_slice(chunk)).await;
    }
}

/// Keeps the sessions of clients, and counts those that are resumed.
#[derive(Debug)]
struct Sessions {
    kept: Arc<ServerSessionMemoryCache>,
    seen: Arc<Seen>,
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.kept.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let session = self.kept.take(key)?;
        self.seen.resumed.fetch_add(1, Ordering::Relaxed);
        Some(session)
    }

    fn can_cache(&self) -> bool {
        true
    }
}
