//! Sends NOTIFY messages to one secondary, until it accepts one (RFC 1996, section 3.6).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::report::{NotifiedReport, ZoneReport};
use crate::policy::served_zones::{ServedZone, ZoneVersion};
use crate::wire::Rcode;
use crate::wire::transfer::Serial;
use crate::wire::transfer::announce;
use crate::wire::transfer::tsig::Session;

/// How long the first answer is awaited. Each further time is doubled, up to the longest. A secondary that is down for long
/// asks by itself when it starts.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(900);

/// Sends the messages for one zone to one secondary.
pub(super) struct Notifier {
    pub(super) zone: Arc<ServedZone>,
    pub(super) secondary: SocketAddr,
    /// The place of the secondary in the report.
    pub(super) index: usize,
    pub(super) versions: watch::Receiver<Option<Arc<ZoneVersion>>>,
    /// Whether the key of the zone is known, or it has none.
    pub(super) is_key_known: watch::Receiver<bool>,
    pub(super) reports: watch::Sender<ZoneReport>,
}

impl Notifier {
    /// Sends a message for each new serial, until there are no more versions.
    pub(super) async fn run(mut self) {
        let mut known = None;
        loop {
            // A secondary refuses a message that is not signed.
            if self
                .is_key_known
                .wait_for(|is_known| *is_known)
                .await
                .is_err()
            {
                return;
            }
            let serial = self.serial();
            match serial {
                Some(serial) if known != Some(serial) => {
                    self.announce(serial).await;
                    known = Some(serial);
                }
                _ if self.versions.changed().await.is_err() => return,
                _ => {}
            }
        }
    }

    /// The newest serial.
    fn serial(&mut self) -> Option<Serial> {
        let version = self.versions.borrow_and_update();
        version.as_ref().map(|version| version.soa.serial)
    }

    /// Sends messages until one is accepted, or until there is a newer serial. A refusal may be temporary: the secondary may be
    /// starting, or not permit this server yet.
    async fn announce(&mut self, serial: Serial) {
        let mut wait = FIRST_WAIT;
        for sent in 1.. {
            self.report(|report| {
                (report.serial, report.sent) = (Some(serial.0), sent);
                report.is_answered = false;
            });
            let deadline = Instant::now() + wait;
            let mut versions = self.versions.clone();
            tokio::select! {
                accepted = self.ask(deadline) => if accepted { return },
                () = newer(&mut versions, serial) => return,
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Sends one message. Returns whether it is accepted; if not, at the deadline.
    async fn ask(&self, deadline: Instant) -> bool {
        let exchange = timeout_at(deadline, self.exchange()).await;
        let rcode = exchange.as_ref().ok().and_then(|done| done.as_ref().ok());
        let is_accepted = rcode == Some(&(Rcode::NoError as u16));
        self.report(|report| {
            report.is_answered = rcode.is_some();
            let refusal = rcode.filter(|_| !is_accepted);
            report.answer = refusal.map(|rcode| announce::rcode_name(*rcode));
            let error = exchange.as_ref().ok().and_then(|done| done.as_ref().err());
            report.error = error.map(ToString::to_string);
        });
        if !is_accepted {
            tokio::time::sleep_until(deadline).await;
        }
        is_accepted
    }

    async fn exchange(&self) -> io::Result<u16> {
        let any: IpAddr = match self.secondary {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(self.secondary).await?;
        let id = rand::random();
        let zone = &self.zone.name;
        let mut request = announce::write(id, zone);
        let mut session = None;
        let access = &self.zone.access;
        if access.is_signed {
            let key = access.key.load();
            let key = key
                .as_ref()
                .ok_or_else(|| io::Error::other("the key is not known"))?;
            let signed = Session::sign(key, &request, seconds());
            let (started, signed) = signed.ok_or(io::ErrorKind::InvalidData)?;
            (session, request) = (Some(started), signed);
        }
        socket.send(&request).await?;
        let mut buffer = vec![0; 4096];
        loop {
            let len = socket.recv(&mut buffer).await?;
            let Some(rcode) = announce::response(&buffer[..len], id, zone) else {
                continue;
            };
            let mut response = buffer[..len].to_vec();
            // Secondaries sign their responses, but not each of their refusals.
            let is_authentic = match &mut session {
                Some(session) if rcode == Rcode::NoError as u16 => {
                    session.check(&mut response, seconds()).is_ok()
                }
                _ => true,
            };
            if is_authentic {
                return Ok(rcode);
            }
        }
    }

    fn report(&self, change: impl FnOnce(&mut NotifiedReport)) {
        self.reports.send_modify(|report| {
            if let Some(notified) = report.notify.get_mut(self.index) {
                change(notified);
            }
        });
    }
}

/// Waits until there is another serial than this one.
async fn newer(versions: &mut watch::Receiver<Option<Arc<ZoneVersion>>>, serial: Serial) {
    let is_other = |version: &Option<Arc<ZoneVersion>>| {
        version
            .as_ref()
            .is_some_and(|version| version.soa.serial != serial)
    };
    if versions.wait_for(is_other).await.is_err() {
        // There are no more versions: the zone is no longer published, and this task ends with it.
        std::future::pending::<()>().await;
    }
}

/// The time by the clock of this system, in seconds since 1970.
pub(super) fn seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
