//! A URL that may have a password or a token, which are never shown.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// A URL with the scheme `http` or `https`, and with a host. [`Display`](fmt::Display) and [`Debug`](fmt::Debug) leave user
/// and password out, and show that there is a query, but not the query, which may have a token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WebUrl(Url);

/// User and password of a URL.
pub struct Login {
    /// The user, without percent-encoding.
    pub user: Vec<u8>,
    /// The password, without percent-encoding.
    pub password: Vec<u8>,
}

/// The host of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebHost {
    /// A name in lower case and ASCII, without a final dot.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl WebUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// What is wrong, without the text: it may have a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => "has no scheme: write it as in \
                                                        \"https://lists.example/ads.txt\""
                .to_owned(),
            error => format!("is not a URL: {error}"),
        })?;
        Self::of(url)
    }

    /// The target of a redirect from this URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn join(&self, target: &str) -> Result<Self, String> {
        let url = self.0.join(target);
        Self::of(url.map_err(|error| format!("is not a URL: {error}"))?)
    }

    fn of(mut url: Url) -> Result<Self, String> {
        if !matches!(url.scheme(), "http" | "https") {
            // Without `//`, what looks like a scheme may be a user.
            let shown = match url.has_authority() {
                true => format!("the scheme {:?}", url.scheme()),
                false => "another scheme".to_owned(),
            };
            return Err(format!(
                "has {shown}, must be https (or http, for hosts in [download] allow-http)"
            ));
        }
        if url.host().is_none() {
            return Err("has no host".to_owned());
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// The URL of the file beside this one whose name has `suffix` at its end.
    pub(crate) fn with_suffix(&self, suffix: &str) -> Self {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{suffix}", self.0.path()));
        Self(url)
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The host.
    pub fn host(&self) -> WebHost {
        match self.0.host() {
            Some(Host::Ipv4(ip)) => WebHost::Address(ip.into()),
            Some(Host::Ipv6(ip)) => WebHost::Address(IpAddr::from(ip).to_canonical()),
            Some(Host::Domain(name)) => WebHost::Name(name.trim_end_matches('.').to_owned()),
            // `of` has refused it.
            None => WebHost::Name(String::new()),
        }
    }

    /// The host and the port, if it is not the scheme's own: the header `Host`.
    pub fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let default = if self.is_https() { 443 } else { 80 };
        self.0.port_or_known_default().unwrap_or(default)
    }

    /// The path and the query: the target of a request.
    pub fn target(&self) -> String {
        match self.0.query() {
            Some(query) => format!("{}?{query}", self.0.path()),
            None => self.0.path().to_owned(),
        }
    }

    /// The whole URL without user and password, as a proxy needs it.
    pub fn without_login(&self) -> String {
        format!(
            "{}://{}{}",
            self.0.scheme(),
            self.authority(),
            self.target()
        )
    }

    /// A digest of the whole URL without user and password, which distinguishes it from others that are shown alike.
    pub(crate) fn digest(&self) -> String {
        blake3::hash(self.without_login().as_bytes()).to_hex()[..16].to_owned()
    }

    /// User and password, if it has one of them.
    pub fn login(&self) -> Option<Login> {
        let (user, password) = (self.0.username(), self.0.password());
        (!user.is_empty() || password.is_some()).then(|| Login {
            user: decoded(user),
            password: decoded(password.unwrap_or_default()),
        })
    }

    /// Whether both have the same scheme, host and port.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        self.0.origin() == other.0.origin()
    }
}

fn decoded(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

impl WebHost {
    /// Whether it is `localhost` or a name below it, which are this machine whatever a name server says (RFC 6761, section 6.3).
    pub(crate) fn is_loopback_name(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Self::Address(_) => false,
        }
    }

    /// A host as configurations name it: a name or an address.
    pub(super) fn parse(text: &str) -> Result<String, String> {
        let host = Host::parse(text.trim_end_matches('.'));
        let literal = text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        match (literal, host) {
            (Some(ip), _) => Ok(ip.to_string()),
            (None, Ok(Host::Domain(name))) => Ok(name),
            _ => {
                Err("which is not the name of a host: write it as in \"lists.example\"".to_owned())
            }
        }
    }
}

impl fmt::Display for WebHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path) = (self.0.scheme(), self.0.path());
        let query = self.0.query().map_or("", |_| "?...");
        write!(f, "{scheme}://{}{path}{query}", self.authority())
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_used_and_never_shown() {
        let url = WebUrl::parse("https://me:p%40ss@lists.example:8443/a?b#c").expect("a URL");
        for shown in [
            url.to_string(),
            format!("{url:?}"),
            format!("{:?}", url.login()),
        ] {
            assert!(!shown.contains("me:") && !shown.contains("ss@") && !shown.contains("p%40"));
        }
        assert_eq!(url.to_string(), "https://lists.example:8443/a?...");
        assert_eq!(
            url.login().map(|login| login.password),
            Some(b"p@ss".to_vec())
        );
        let moved = url.join("/other").expect("a URL");
        assert!(moved.is_same_origin(&url));
        assert_eq!(moved.to_string(), "https://lists.example:8443/other");
        assert_eq!(url.with_suffix(".minisig").target(), "/a.minisig?b");
    }

    #[test]
    fn an_error_about_a_url_does_not_show_it() {
        for text in [
            "me:secret@lists.example",
            "ftp://me:secret@x/",
            "https://me:secret@",
            "https://:secret@[::1",
        ] {
            let error = WebUrl::parse(text).expect_err(text);
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
