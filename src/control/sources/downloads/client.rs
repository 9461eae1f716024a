//! Sends one request for a URL, and follows its redirects.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HOST, HeaderName,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, PROXY_AUTHORIZATION, RETRY_AFTER,
    USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use tokio_util::task::AbortOnDropHandle;

use super::connect::{Connector, basic};
use super::fault::{DownloadFault, Failure};
use super::pace::Pace;
use crate::config::web::WebUrl;

/// The most redirects that are followed.
const REDIRECTS: usize = 5;

/// What a server has sent about the copy that is here, so that it need not send it again.
#[derive(Clone, Debug, Default)]
pub(super) struct Validators {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

impl Validators {
    pub(super) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// A response with status 200 or 304.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    /// Reads from the connection until this is dropped.
    _connection: AbortOnDropHandle<()>,
}

impl Answer {
    /// Whether the copy that is here is the newest one.
    pub(super) fn is_unchanged(&self) -> bool {
        self.response.status() == StatusCode::NOT_MODIFIED
    }

    pub(super) fn validators(&self) -> Validators {
        Validators {
            etag: self.header(ETAG),
            last_modified: self.header(LAST_MODIFIED),
        }
    }

    pub(super) fn content_type(&self) -> String {
        let value = self.header(CONTENT_TYPE).unwrap_or_default();
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    }

    pub(super) fn content_encoding(&self) -> Option<String> {
        self.header(CONTENT_ENCODING)
    }

    fn header(&self, name: HeaderName) -> Option<String> {
        header(&self.response, name)
    }
}

/// Sends requests.
pub(super) struct Client {
    pub(super) connector: Arc<Connector>,
}

impl Client {
    /// Gets a URL of the configuration, which permits its scheme. Redirects lead to the same host, or to one of `redirects`.
    pub(super) async fn get(
        &self,
        url: &WebUrl,
        redirects: &[String],
        validators: &Validators,
        pace: &Pace,
    ) -> Result<Answer, Failure> {
        let mut visited = vec![url.clone()];
        let mut current = url.clone();
        loop {
            let answer = self.ask(url, &current, validators, pace).await?;
            let status = answer.response.status();
            if !status.is_redirection() || answer.is_unchanged() {
                return accept(answer);
            }
            let failed = |detail: String| Failure::new(DownloadFault::Redirect, detail);
            let location = header(&answer.response, LOCATION);
            let location =
                location.ok_or_else(|| failed(format!("{current} leads nowhere ({status})")))?;
            let target = current.join(&location);
            let target = target.map_err(|why| failed(format!("the target of {current} {why}")))?;
            self.permit_redirect(&current, &target, url, redirects)?;
            if visited.contains(&target) {
                return Err(failed(format!("{target} leads back to itself")));
            }
            if visited.len() > REDIRECTS {
                return Err(failed(format!("more than {REDIRECTS} redirects")));
            }
            visited.push(target.clone());
            current = target;
        }
    }

    fn permit_redirect(
        &self,
        from: &WebUrl,
        to: &WebUrl,
        first: &WebUrl,
        redirects: &[String],
    ) -> Result<(), Failure> {
        let failed = |what: &str| {
            let detail = format!("{from} leads to {to}, {what}");
            Err(Failure::new(DownloadFault::Redirect, detail))
        };
        let host = to.host();
        if host != first.host() && !redirects.contains(&host.to_string()) {
            return failed("another host");
        }
        if !self.connector.settings().permits_scheme_of(to) {
            return failed("which is not encrypted");
        }
        Ok(())
    }

    /// Sends one request. Users and passwords go only to the server that the configuration names with them.
    async fn ask(
        &self,
        first: &WebUrl,
        url: &WebUrl,
        validators: &Validators,
        pace: &Pace,
    ) -> Result<Answer, Failure> {
        let connected = pace.wait("a connection", self.connector.connect(url));
        let stream = connected.await?;
        let failed = |error: hyper::Error| Failure::new(DownloadFault::Protocol, explain(&error));
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(failed)?;
        let connection = tokio::spawn(async move {
            // The response reports an error of the connection, too.
            let _ = connection.await;
        });
        let connection = AbortOnDropHandle::new(connection);
        let request = self.request(first, url, validators)?;
        let response = async { sender.send_request(request).await.map_err(failed) };
        Ok(Answer {
            response: pace.wait("the response", response).await?,
            _connection: connection,
        })
    }

    fn request(
        &self,
        first: &WebUrl,
        url: &WebUrl,
        validators: &Validators,
    ) -> Result<Request<Empty<Bytes>>, Failure> {
        let proxy = self.connector.asked_proxy(url);
        let target = match proxy {
            Some(_) => url.without_login(),
            None => url.target(),
        };
        let own = first.login().filter(|_| url.is_same_origin(first));
        let login = url.login().or(own);
        let headers = [
            (HOST, Some(url.authority())),
            (
                USER_AGENT,
                Some(concat!("tapis/", env!("CARGO_PKG_VERSION")).to_owned()),
            ),
            (ACCEPT, Some("*/*".to_owned())),
            (ACCEPT_ENCODING, Some("zstd, br, gzip".to_owned())),
            (IF_NONE_MATCH, validators.etag.clone()),
            (IF_MODIFIED_SINCE, validators.last_modified.clone()),
            (AUTHORIZATION, login.as_ref().map(basic)),
            (
                PROXY_AUTHORIZATION,
                proxy.and_then(WebUrl::login).as_ref().map(basic),
            ),
        ];
        let mut request = Request::get(target);
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let request = request.body(Empty::new());
        request.map_err(|error| Failure::new(DownloadFault::Protocol, error.to_string()))
    }
}

/// Refuses responses with other statuses.
fn accept(answer: Answer) -> Result<Answer, Failure> {
    let status = answer.response.status();
    if status == StatusCode::OK || answer.is_unchanged() {
        return Ok(answer);
    }
    let mut failure = Failure::new(DownloadFault::Status, format!("status {status}"));
    failure.retry_after = header(&answer.response, RETRY_AFTER)
        .and_then(|value| retry_after(&value, Timestamp::now()));
    Err(failure)
}

/// The pause before the next request that a server asks for: in seconds, or as a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    until.duration_since(now).try_into().ok()
}

fn header(response: &Response<Incoming>, name: HeaderName) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// An error with its cause.
pub(super) fn explain(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_names_the_next_attempt_in_seconds_or_as_a_date() {
        let now = "2015-10-21T07:28:00Z".parse().expect("a time");
        let secs = |value| retry_after(value, now).map(|it| it.as_secs());
        assert_eq!(secs("120"), Some(120));
        assert_eq!(secs("Wed, 21 Oct 2015 07:38:00 GMT"), Some(600));
        assert_eq!(secs("Wed, 21 Oct 2015 07:18:00 GMT"), None, "in the past");
        assert_eq!(secs("soon"), None);
    }
}
