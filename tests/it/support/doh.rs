//! A test's upstream for DNS over HTTPS by HTTP/2. Its certificate is valid for `primary.test`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::bytes::Bytes;

use super::dot::answer;
use super::tls::{Security, authority};

/// How a request is answered.
pub(crate) enum Reaction {
    /// With the status, the type, and the body in pieces of some bytes.
    Respond(u16, &'static str, Vec<u8>, usize),
    /// With this DNS message, and this value of the header `age`.
    Aged(&'static str, Vec<u8>),
    /// The stream is reset.
    Reset(Reason),
    /// The head alone, with a type; the body never comes.
    HeadOnly,
    /// Nothing ever comes.
    Silence,
}

impl Reaction {
    /// The right answer to a query.
    pub(crate) fn answer(query: &[u8]) -> Self {
        Self::message(answer(query))
    }

    /// A DNS message.
    pub(crate) fn message(message: Vec<u8>) -> Self {
        Self::Respond(200, "application/dns-message", message, usize::MAX)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) head: String,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Vec<u8>,
}

/// What a server saw.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    all: Mutex<Vec<Call>>,
    connections: AtomicUsize,
    cancelled: AtomicUsize,
}

impl Calls {
    pub(crate) fn all(&self) -> Vec<Call> {
        self.all.lock().expect("not poisoned").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many requests without a response the client has cancelled.
    pub(crate) fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// The limits of a server's connections.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// The name of the protocol in the handshake.
    pub(crate) alpn: &'static [u8],
    /// The number of requests at a time.
    pub(crate) at_once: u32,
    /// After this many requests the server sends GOAWAY.
    pub(crate) requests: usize,
    /// After this many requests the connection is cut.
    pub(crate) cut: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            alpn: b"h2",
            at_once: 100,
            requests: usize::MAX,
            cut: usize::MAX,
        }
    }
}

type Script = dyn Fn(&[u8]) -> Reaction + Send + Sync;

pub(crate) struct HttpsUpstream {
    pub(crate) address: SocketAddr,
    pub(crate) calls: Arc<Calls>,
    _runtime: tokio::runtime::Runtime,
}

impl HttpsUpstream {
    /// Answers by `script`, until the test ends.
    pub(crate) fn start(
        limits: Limits,
        script: impl Fn(&[u8]) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let Security::Tls(config) = Security::tls(limits.alpn) else {
            panic!("encrypted");
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a listener");
        let address = listener.local_addr().expect("bound");
        let calls = Arc::<Calls>::default();
        let (seen, script): (_, Arc<Script>) = (Arc::clone(&calls), Arc::new(script));
        runtime.spawn(async move {
            let tls = TlsAcceptor::from(config);
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, seen, script) = (tls.clone(), Arc::clone(&seen), Arc::clone(&script));
                tokio::spawn(serve(stream, tls, limits, seen, script));
            }
        });
        Self {
            address,
            calls,
            _runtime: runtime,
        }
    }

    /// Answers all queries, with 192.0.2.1 for A.
    pub(crate) fn plain() -> Self {
        Self::start(Limits::default(), Reaction::answer)
    }

    /// The server as a configuration names it, with the authority of its certificate.
    pub(crate) fn server(&self) -> String {
        let ca = authority();
        format!(
            "{{ address = \"https://{}/dns-query#primary.test\", ca-file = \"{}\" }}",
            self.address,
            ca.to_str().expect("UTF-8")
        )
    }
}

async fn serve(
    stream: TcpStream,
    tls: TlsAcceptor,
    limits: Limits,
    calls: Arc<Calls>,
    script: Arc<Script>,
) {
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    calls.connections.fetch_add(1, Ordering::Relaxed);
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(limits.at_once);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let mut count = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        count += 1;
        if count > limits.cut {
            return;
        }
        tokio::spawn(react(
            request,
            respond,
            Arc::clone(&calls),
            Arc::clone(&script),
        ));
        if count == limits.requests {
            connection.graceful_shutdown();
        }
    }
}

async fn react(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    calls: Arc<Calls>,
    script: Arc<Script>,
) {
    let (parts, mut body) = request.into_parts();
    let mut query = Vec::new();
    while let Some(Ok(bytes)) = body.data().await {
        query.extend_from_slice(&bytes);
        let _ = body.flow_control().release_capacity(bytes.len());
    }
    let reaction = script(&query);
    calls.all.lock().expect("not poisoned").push(Call {
        head: format!("{} {}", parts.method, parts.uri),
        headers: parts.headers,
        query,
    });
    let of = |status: u16, given: &'static str| {
        let response = Response::builder().status(status);
        response.header("content-type", given)
    };
    let head = |status, given| of(status, given).body(()).expect("a head");
    match reaction {
        Reaction::Respond(status, given, message, size) => {
            let Ok(mut stream) = respond.send_response(head(status, given), false) else {
                return;
            };
            for piece in message.chunks(size.min(message.len()).max(1)) {
                let _ = stream.send_data(Bytes::copy_from_slice(piece), false);
                tokio::task::yield_now().await;
            }
            let _ = stream.send_data(Bytes::new(), true);
        }
        Reaction::Aged(age, message) => {
            let head = of(200, "application/dns-message").header("age", age);
            if let Ok(mut stream) = respond.send_response(head.body(()).expect("a head"), false) {
                let _ = stream.send_data(Bytes::from(message), true);
            }
        }
        Reaction::Reset(reason) => respond.send_reset(reason),
        Reaction::HeadOnly => {
            let sent = respond.send_response(head(200, "application/dns-message"), false);
            let Ok(mut stream) = sent else {
                return;
            };
            if std::future::poll_fn(|context| stream.poll_reset(context))
                .await
                .is_ok()
            {
                calls.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
        Reaction::Silence => {
            if std::future::poll_fn(|context| respond.poll_reset(context))
                .await
                .is_ok()
            {
                calls.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
