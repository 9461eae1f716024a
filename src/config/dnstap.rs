//! The section `[dnstap]`: the receiver of queries and answers, and what it gets.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::findings::{Findings, quote};
use super::reader::{At, Reader, Strings};
use super::recording::{ClientForm, sample};
use super::shown::Show;
use super::values::{choice, each, socket_file, text};

/// The longest identity or version in bytes.
const TEXT_MAX: usize = 255;

/// What is sent by dnstap, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Dnstap {
    /// The receiver; `None` turns it off.
    pub receiver: Option<Receiver>,
    /// Whether queries of clients are sent.
    pub queries: bool,
    /// Whether answers to clients are sent.
    pub responses: bool,
    /// The name of this server.
    pub identity: Option<String>,
    /// The version of this server.
    pub version: Option<String>,
    /// How clients are shown; never [`ClientForm::Hashed`].
    pub client: ClientForm,
    /// The share of the queries that is sent, more than 0 and at most 1.
    pub sample: f64,
}

impl Dnstap {
    /// The Unix socket of the receiver, if it has one.
    pub fn socket(&self) -> Option<&Path> {
        match &self.receiver {
            Some(Receiver::Unix(path)) => Some(path),
            Some(Receiver::Tcp(_)) | None => None,
        }
    }

    /// The address of the receiver, if it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.receiver {
            Some(Receiver::Tcp(address)) => Some(*address),
            Some(Receiver::Unix(_)) | None => None,
        }
    }
}

/// Where a receiver listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP socket.
    Tcp(SocketAddr),
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.shown().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl Default for Dnstap {
    fn default() -> Self {
        Self {
            receiver: None,
            queries: true,
            responses: true,
            identity: None,
            version: None,
            client: ClientForm::default(),
            sample: 1.0,
        }
    }
}

/// The section `[dnstap]` before validation.
#[derive(Default)]
pub(super) struct RawDnstap {
    socket: Option<At<String>>,
    address: Option<At<String>>,
    messages: Option<Strings>,
    identity: Option<At<String>>,
    version: Option<At<String>>,
    client: Option<At<String>>,
    sample: Option<At<f64>>,
}

impl RawDnstap {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            socket: table.string("socket"),
            address: table.string("address"),
            messages: table.strings("messages"),
            identity: table.string("identity"),
            version: table.string("version"),
            client: table.string("client"),
            sample: table.fraction("sample"),
        }
    }
}

/// Validates the section `[dnstap]`.
pub(super) fn dnstap(raw: RawDnstap, findings: &mut Findings) -> Dnstap {
    if let (Some(_), Some(address)) = (&raw.socket, &raw.address) {
        let message =
            "address is set, and so is socket: there is one receiver, so remove one of the two";
        findings.report(address.line, message.to_owned());
    }
    let socket = socket_file(raw.socket, findings).map(Receiver::Unix);
    let address = raw.address.and_then(|given| receiver(given, findings));
    let forms = [
        ("whole", ClientForm::Whole),
        ("truncated", ClientForm::Truncated),
        ("none", ClientForm::None),
    ];
    let messages = each(raw.messages, findings, |word| match word {
        "client-query" => Ok(false),
        "client-response" => Ok(true),
        _ => Err("must be client-query or client-response".to_owned()),
    });
    let sends = |is_response| {
        let given = messages.as_ref();
        given.is_none_or(|given| given.contains(&is_response))
    };
    Dnstap {
        receiver: socket.or(address),
        queries: sends(false),
        responses: sends(true),
        identity: text(raw.identity, 1..=TEXT_MAX, findings),
        version: text(raw.version, 1..=TEXT_MAX, findings),
        client: choice(raw.client, &forms, findings).unwrap_or_default(),
        sample: sample(raw.sample, findings).unwrap_or(1.0),
    }
}

fn receiver(given: At<String>, findings: &mut Findings) -> Option<Receiver> {
    let At { key, line, value } = given;
    let address = value.parse().ok();
    if address.is_none() {
        let shown = quote(&value);
        let message = format!(
            "{key} is {shown}, must be an address with a port: write it as in \"127.0.0.1:6000\""
        );
        findings.report(line, message);
    }
    address.map(Receiver::Tcp)
}
