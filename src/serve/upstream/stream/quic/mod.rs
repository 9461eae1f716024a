//! Connections over QUIC: with DNS over QUIC (RFC 9250), or DNS over HTTPS by HTTP/3 (RFC 8484).
//!
//! Each query is a stream, so its response needs no ID, and a lost packet delays only the queries whose bytes it had.
//! Queries are not sent as early data (0-RTT): anyone who records them could send them again, and could link the new
//! connection to the one before.

mod dial;
mod doq;
mod driver;
mod h3;
mod protocol;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use self::doq::Doq;
use self::driver::Driver;
use self::h3::H3;
use super::peer::Peer;
use super::state::{ConnectionState, Request};
use crate::serve::upstream::exchange::ExchangeError;
use crate::serve::upstream::failures::Failure;
use crate::tls::client::TlsClient;

/// Opens a connection, and starts the task that sends the queries of `queue` on it.
pub(super) async fn start(
    peer: &Peer,
    tls: &TlsClient,
    state: Arc<ConnectionState>,
    queue: mpsc::Receiver<Request>,
    idle: Duration,
    deadline: Instant,
) -> Result<(), ExchangeError> {
    let quic = dial::dial(peer, tls, deadline).await?;
    let Some(endpoint) = peer.endpoint()? else {
        let closed = Doq::closed(quic.clone());
        let driver = Driver::new(quic.clone(), Doq::new(quic), state, peer);
        tokio::spawn(driver.drive(closed, queue, idle));
        return Ok(());
    };
    let started = timeout_at(deadline, H3::start(quic.clone(), endpoint)).await;
    let Ok(started) = started else {
        let problem = "it does not start HTTP/3 in time";
        peer.fail(Failure::HttpProtocol, problem.to_owned());
        return Err(ExchangeError::Timeout);
    };
    let (protocol, closed) = started.map_err(|fault| {
        peer.fail(fault.kind, fault.problem);
        ExchangeError::Unreachable
    })?;
    let driver = Driver::new(quic, protocol, state, peer);
    tokio::spawn(driver.drive(closed, queue, idle));
    Ok(())
}
