//! Establishes connections over QUIC, and finds out why that fails.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, ConnectionError, Endpoint, EndpointConfig, TokioRuntime, TransportConfig,
    TransportErrorCode, VarInt,
};
use tokio::time::{Instant, timeout_at};

use super::super::peer::Peer;
use crate::config::encryption::Protocol;
use crate::serve::upstream::exchange::{ExchangeError, error_of};
use crate::serve::upstream::failures::Failure;
use crate::stats::Count;
use crate::tls::client::TlsClient;
use crate::tls::fault::{TlsFault, describe, other_protocol};
use crate::wire::MAX_MESSAGE;

/// A connection on which nothing arrives for this long is dead.
const SILENCE: Duration = Duration::from_secs(30);
/// How often a packet is sent that the server must acknowledge, so that a dead connection is noticed, and that neither the
/// server nor a firewall on the way forgets one that is in use.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How many streams the server may open at a time with HTTP/3: one for control, two for compressed headers, and those that
/// some servers open to test clients (RFC 9114, section 6.2.3).
const STREAMS_OF_HTTP: u8 = 16;
/// How many bytes of all responses the server may send before we have read them.
const WINDOW: u32 = 4 << 20;
/// The alert `no_application_protocol` (RFC 7301, section 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Establishes a connection, from a separate port.
pub(super) async fn dial(
    peer: &Peer,
    tls: &TlsClient,
    deadline: Instant,
) -> Result<quinn::Connection, ExchangeError> {
    let config = config(tls).map_err(|problem| {
        peer.fail(Failure::Tls(TlsFault::Handshake), problem);
        ExchangeError::Unreachable
    })?;
    let endpoint = endpoint(peer.address).map_err(|error| error_of(&error))?;
    let name = tls.name().to_str();
    let connecting = endpoint.connect_with(config, peer.address, &name);
    let connecting = connecting.map_err(|error| {
        peer.fail(Failure::Tls(TlsFault::Handshake), error.to_string());
        ExchangeError::Unreachable
    })?;
    match timeout_at(deadline, connecting).await {
        Ok(Ok(connection)) => {
            peer.counters.bump(Count::UpstreamHandshakes);
            Ok(connection)
        }
        Ok(Err(error)) => {
            let (fault, problem) = fault_of(&error, tls);
            peer.fail(Failure::Tls(fault), problem);
            Err(ExchangeError::Unreachable)
        }
        Err(_) => {
            let problem = format!(
                "it does not complete the QUIC handshake in time: does it serve QUIC at the UDP port {}, and do firewalls \
                 let that pass?",
                peer.address.port()
            );
            peer.fail(Failure::TlsTimeout, problem);
            Err(ExchangeError::Timeout)
        }
    }
}

/// A separate UDP socket for each connection, so that connections can't be linked by their port.
fn endpoint(peer: SocketAddr) -> io::Result<Endpoint> {
    let any = match peer {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    let runtime = Arc::new(TokioRuntime);
    Endpoint::new(EndpointConfig::default(), None, socket, runtime)
}

fn config(tls: &TlsClient) -> Result<ClientConfig, String> {
    let crypto = QuicClientConfig::try_from(tls.config());
    let crypto = crypto.map_err(|error| format!("QUIC can't be set up: {error}"))?;
    let mut transport = TransportConfig::default();
    let streams = match tls.protocol() {
        Protocol::H3 { .. } => STREAMS_OF_HTTP,
        _ => 0,
    };
    // Only clients open streams for queries (RFC 9250, section 4.2; RFC 9114, section 6.1).
    transport
        .max_concurrent_bidi_streams(0_u8.into())
        .max_concurrent_uni_streams(streams.into())
        .stream_receive_window(VarInt::from_u32(2 * MAX_MESSAGE as u32))
        .receive_window(VarInt::from_u32(WINDOW))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(SILENCE.try_into().ok());
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Why a connection was not established.
fn fault_of(error: &ConnectionError, tls: &TlsClient) -> (TlsFault, String) {
    let no_protocol = TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL);
    let other = || {
        let problem = other_protocol(tls.protocol()).to_owned();
        (TlsFault::Protocol, problem)
    };
    match error {
        ConnectionError::TransportError(broken) => {
            // The library reports the refusal of a certificate by its text alone.
            if let Some(refusal) = tls.last_refusal() {
                let refusal = io::Error::other(refusal);
                return describe(&refusal, &tls.subject().to_str(), tls.protocol());
            }
            match broken.code == no_protocol {
                true => other(),
                false => (TlsFault::Handshake, broken.to_string()),
            }
        }
        ConnectionError::ConnectionClosed(close) if close.error_code == no_protocol => other(),
        ConnectionError::VersionMismatch => (
            TlsFault::Protocol,
            "it does not speak version 1 of QUIC".to_owned(),
        ),
        _ => (TlsFault::Handshake, error.to_string()),
    }
}
