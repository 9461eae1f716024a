//! A web server with a script, over TLS. Its certificate is valid for `lists.example`, `mirror.example` and 127.0.0.1, and
//! was issued by the authority in `tls/web-authority.pem`.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::tls::{Security, Stream};

/// A request as received.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// The path, with a query.
    pub(crate) path: String,
    /// The head of the request.
    pub(crate) head: String,
}

impl Got {
    /// The value of a header, whose name is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let (_, value) = lines.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}

/// Answers a request by writing to the connection, which is closed then.
type Script = dyn Fn(&Got, &mut dyn Stream) + Send + Sync;

/// A web server. It serves until the test ends.
pub(crate) struct Web {
    pub(crate) port: u16,
    script: Arc<Mutex<Arc<Script>>>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Web {
    pub(crate) fn start(
        security: Security,
        script: impl Fn(&Got, &mut dyn Stream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let script: Arc<Mutex<Arc<Script>>> = Arc::new(Mutex::new(Arc::new(script)));
        let got = Arc::new(Mutex::new(Vec::new()));
        let (played, log) = (Arc::clone(&script), Arc::clone(&got));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (played, log, security) =
                    (Arc::clone(&played), Arc::clone(&log), security.clone());
                std::thread::spawn(move || {
                    let mut stream = security.accept(stream);
                    let Some(request) = receive(&mut *stream) else {
                        return;
                    };
                    log.lock().expect("not poisoned").push(request.clone());
                    let script = Arc::clone(&played.lock().expect("not poisoned"));
                    script(&request, &mut *stream);
                });
            }
        });
        Self { port, script, got }
    }

    /// Answers by another script from now on.
    pub(crate) fn play(&self, script: impl Fn(&Got, &mut dyn Stream) + Send + Sync + 'static) {
        *self.script.lock().expect("not poisoned") = Arc::new(script);
    }

    /// Answers with this from now on.
    pub(crate) fn serve(&self, answer: impl Into<Vec<u8>>) {
        let answer = answer.into();
        self.play(move |_, stream| send(stream, &answer));
    }

    /// The requests so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().expect("not poisoned").clone()
    }

    /// The URL of a path on `lists.example`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://lists.example:{}{path}", self.port)
    }
}

/// Writes an answer. The client may have closed the connection.
pub(crate) fn send(stream: &mut dyn Stream, answer: &[u8]) {
    let _ = stream.write_all(answer);
    let _ = stream.flush();
}

/// A response with this status, these header lines and this body.
pub(crate) fn response(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// A list.
pub(crate) fn page(body: &str) -> Vec<u8> {
    response("200 OK", &["content-type: text/plain"], body.as_bytes())
}

/// A redirect.
pub(crate) fn redirect(to: &str) -> Vec<u8> {
    response("302 Found", &[&format!("location: {to}")], b"")
}

fn receive(stream: &mut dyn Stream) -> Option<Got> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    Some(Got { path, head })
}
