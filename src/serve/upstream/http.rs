//! The requests and responses of DNS over HTTPS (RFC 8484), in any version of HTTP.

use std::fmt;
use std::net::SocketAddr;

use http::header::{ACCEPT, AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode, Uri, Version, response};

use super::failures::Failure;
use crate::config::encryption::Encryption;
use crate::wire::MAX_MESSAGE;
use crate::wire::sections::lower_ttls;

/// The type of DNS messages (RFC 8484, section 6).
const DNS_MESSAGE: &str = "application/dns-message";
/// The port that a URL does not name.
const DEFAULT_PORT: u16 = 443;
/// The maximum number of characters of a server's text in a message.
const SHOWN: usize = 60;

/// Where queries to one server are sent.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// The head of a request, without the length of its body.
    head: Request<()>,
}

impl Endpoint {
    /// The URL with the server's name, or with its address if it has none.
    ///
    /// # Errors
    /// The path can't be in a URL.
    pub(super) fn new(
        settings: &Encryption,
        address: SocketAddr,
        version: Version,
    ) -> Result<Self, http::Error> {
        let host = match (&settings.name, address) {
            (Some(name), _) => name.clone(),
            (None, SocketAddr::V4(v4)) => v4.ip().to_string(),
            (None, SocketAddr::V6(v6)) => format!("[{}]", v6.ip()),
        };
        let authority = match address.port() {
            DEFAULT_PORT => host,
            port => format!("{host}:{port}"),
        };
        let uri = Uri::builder().scheme("https").authority(authority);
        let uri = uri.path_and_query(settings.protocol.path()).build()?;
        let head = Request::post(uri)
            .version(version)
            .header(CONTENT_TYPE, DNS_MESSAGE)
            .header(ACCEPT, DNS_MESSAGE)
            // The answer of a cache of HTTP is not the current one.
            .header(CACHE_CONTROL, "no-cache")
            .body(())?;
        Ok(Self { head })
    }

    /// The head of a request with a body of `length` bytes.
    pub(super) fn request(&self, length: usize) -> Request<()> {
        let mut head = self.head.clone();
        head.headers_mut().insert(CONTENT_LENGTH, length.into());
        head
    }
}

/// Why a response has no DNS message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HttpFault {
    /// Its status is not 200.
    Status(StatusCode),
    /// It is of another type, or of none.
    Type(Option<String>),
    /// It is longer than a DNS message can be.
    TooLong,
    /// The server reset the request, or broke the protocol.
    Protocol(String),
}

impl HttpFault {
    /// Its kind.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Status(_) => Failure::HttpStatus,
            Self::Type(_) | Self::TooLong => Failure::HttpContent,
            Self::Protocol(_) => Failure::HttpProtocol,
        }
    }
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(StatusCode::NOT_FOUND) => f.write_str(
                "it answers with the HTTP status 404 Not Found: is the path of its URL right?",
            ),
            Self::Status(status) => write!(f, "it answers with the HTTP status {status}"),
            Self::Type(None) => write!(
                f,
                "its HTTP responses have no type, must have {DNS_MESSAGE}"
            ),
            Self::Type(Some(found)) => write!(
                f,
                "its HTTP responses are of the type {found}, must be {DNS_MESSAGE}: is the path of its URL right?"
            ),
            Self::TooLong => write!(
                f,
                "its HTTP responses are longer than a DNS message can be ({MAX_MESSAGE} bytes)"
            ),
            Self::Protocol(problem) => write!(f, "HTTP with it fails: {problem}"),
        }
    }
}

/// Checks whether the body that follows is a DNS message.
fn check(head: &response::Parts) -> Result<(), HttpFault> {
    if head.status != StatusCode::OK {
        return Err(HttpFault::Status(head.status));
    }
    let given = text(&head.headers, CONTENT_TYPE);
    let essence = given.as_deref().and_then(|given| given.split(';').next());
    if !essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(DNS_MESSAGE)) {
        return Err(HttpFault::Type(given));
    }
    let length = text(&head.headers, CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    match length {
        Some(length) if length > MAX_MESSAGE as u64 => Err(HttpFault::TooLong),
        _ => Ok(()),
    }
}

/// The start of a header's value, in printable characters.
fn text(headers: &HeaderMap, name: http::HeaderName) -> Option<String> {
    let value = String::from_utf8_lossy(headers.get(name)?.as_bytes());
    let shown = value.chars().filter(|c| !c.is_control()).take(SHOWN);
    Some(shown.collect()).filter(|shown: &String| !shown.is_empty())
}

/// How old a response is, in seconds (RFC 9111, section 5.1). A value that is no number is ignored.
fn age(headers: &HeaderMap) -> u32 {
    let given = headers.get(AGE).and_then(|age| age.to_str().ok());
    // Of several values, the first one counts.
    let first = given
        .and_then(|given| given.split(',').next())
        .map(str::trim);
    let digits =
        first.filter(|first| !first.is_empty() && first.bytes().all(|b| b.is_ascii_digit()));
    // A number may be too large.
    digits.map_or(0, |digits| digits.parse().unwrap_or(u32::MAX))
}

/// The body of a response, as far as it has arrived.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    /// How many seconds a cache of HTTP has kept it.
    age: u32,
}

impl Body {
    /// The body that follows.
    ///
    /// # Errors
    /// It is no DNS message.
    pub(super) fn of(head: &response::Parts) -> Result<Self, HttpFault> {
        check(head)?;
        Ok(Self {
            bytes: Vec::new(),
            age: age(&head.headers),
        })
    }

    /// Appends bytes. There may be at most as many as a DNS message can have.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), HttpFault> {
        if self.bytes.len() + bytes.len() > MAX_MESSAGE {
            return Err(HttpFault::TooLong);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The message. Its TTLs are lower by its age (RFC 8484, section 5.1).
    pub(super) fn into_message(mut self) -> Vec<u8> {
        if self.age > 0 {
            lower_ttls(&mut self.bytes, self.age);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::encryption::Protocol;

    fn head(status: u16, headers: &[(&str, &str)]) -> response::Parts {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(()).expect("valid").into_parts().0
    }

    #[test]
    fn only_a_message_with_status_200_is_read() {
        let of = |given: &str| check(&head(200, &[("content-type", given)]));
        assert_eq!(of("application/dns-message"), Ok(()));
        assert_eq!(of("Application/DNS-Message; x=1"), Ok(()));
        for other in [
            "application/dns-message-x",
            "text/html",
            "application/dns-json",
        ] {
            assert_eq!(of(other), Err(HttpFault::Type(Some(other.to_owned()))));
        }
        assert_eq!(check(&head(200, &[])), Err(HttpFault::Type(None)));
        for status in [204, 301, 404, 502] {
            let shown =
                check(&head(status, &[("content-type", DNS_MESSAGE)])).expect_err("a fault");
            assert!(
                shown.to_string().contains(&format!(" {status} ")),
                "{shown}"
            );
        }
        let long = |length: &str| {
            check(&head(
                200,
                &[("content-type", DNS_MESSAGE), ("content-length", length)],
            ))
        };
        assert_eq!(long("65535"), Ok(()));
        assert_eq!(long("65536"), Err(HttpFault::TooLong));
    }

    #[test]
    fn the_age_is_the_first_number_of_its_header() {
        for (given, expected) in [
            ("7", 7),
            (" 7 ", 7),
            ("7, 9", 7),
            ("0", 0),
            ("99999999999999999999", u32::MAX),
            ("", 0),
            ("-1", 0),
            ("+1", 0),
            ("1.5", 0),
            ("a week", 0),
        ] {
            assert_eq!(
                age(&head(200, &[("age", given)]).headers),
                expected,
                "{given}"
            );
        }
        assert_eq!(age(&head(200, &[("age", "5"), ("age", "6")]).headers), 5);
        assert_eq!(age(&head(200, &[]).headers), 0);
    }

    #[test]
    fn a_body_has_at_most_as_many_bytes_as_a_message() {
        let head = head(200, &[("content-type", DNS_MESSAGE)]);
        let mut body = Body::of(&head).expect("a message");
        assert_eq!(body.add(&[0; 65_530]), Ok(()));
        assert_eq!(body.add(&[0; 6]), Err(HttpFault::TooLong));
        assert_eq!(body.add(&[0; 5]), Ok(()));
        assert_eq!(body.into_message().len(), 65_535);
    }

    #[test]
    fn requests_name_the_server_by_its_name_or_address() {
        let uri = |name: Option<&str>, address: &str, path: &str| {
            let settings = Encryption {
                protocol: Protocol::Https {
                    path: path.to_owned(),
                },
                name: name.map(str::to_owned),
                authorities: None,
                pins: Vec::new(),
                designated_by: None,
            };
            let address = address.parse().expect("an address");
            let endpoint = Endpoint::new(&settings, address, Version::HTTP_2).expect("a URL");
            endpoint.request(12).uri().to_string()
        };
        assert_eq!(
            uri(Some("dns.example"), "192.0.2.1:443", "/dns-query"),
            "https://dns.example/dns-query"
        );
        assert_eq!(
            uri(Some("dns.example"), "192.0.2.1:8443", "/a?b=c"),
            "https://dns.example:8443/a?b=c"
        );
        assert_eq!(
            uri(None, "[2001:db8::1]:443", "/"),
            "https://[2001:db8::1]/"
        );
        assert_eq!(uri(None, "192.0.2.1:444", "/x"), "https://192.0.2.1:444/x");
    }
}
