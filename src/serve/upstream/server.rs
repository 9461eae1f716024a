//! One upstream server: its address, its connections, and which extensions of DNS it lacks.
//!
//! A server lacks EDNS if a query with EDNS gets an error and the same query without EDNS gets an answer. It does not
//! support random letter case if an answer has another letter case. Such a lack is remembered for five minutes. Then
//! the extension is probed again, because the server behind an address may be replaced.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::blocks::{BlockCounts, Blocks};
use super::exchange::Transport;
use super::failures::{Failure, FailureCounts, Failures};
use super::stream::Connections;
use super::stream::peer::Peer;
use super::traffic::Traffic;
use crate::config::encryption::Protocol;
use crate::config::upstream::ServerAddress;
use crate::stats::Counters;
use crate::sys::interface::index_of;
use crate::tls::client::TlsClient;
use crate::wire::ask::Dialect;

/// How long a lack is remembered before the server is probed again.
const MEMORY: Duration = Duration::from_secs(5 * 60);
/// How many doubtful messages in a row are believed: errors that may be a refusal of EDNS, and answers in another
/// letter case. Each can be forged by guessing port and ID alone, so one of them must not weaken all queries of the
/// next minutes.
const BARE_ERRORS: u32 = 3;
const OTHER_CASES: u32 = 2;

/// How a server is reached and asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its address.
    pub address: ServerAddress,
    /// The extensions that the operator permits.
    pub permitted: Dialect,
    /// The encryption of connections to it; `None` means that it is asked in clear.
    pub tls: Option<TlsClient>,
}

impl Target {
    /// A server that is asked in clear.
    pub fn plain(address: impl Into<ServerAddress>, permitted: Dialect) -> Self {
        Self {
            address: address.into(),
            permitted,
            tls: None,
        }
    }
}

fn unused_number() -> NonZeroU16 {
    static LAST: AtomicU16 = AtomicU16::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    NonZeroU16::new(number).unwrap_or(NonZeroU16::MIN)
}

/// One upstream server. Shared by all threads; only its connections need a lock.
pub struct Server {
    target: Target,
    /// Its address, as it is shown.
    shown: Arc<str>,
    number: NonZeroU16,
    /// The origin of all times kept here.
    epoch: Instant,
    without_edns: Period,
    without_case: Period,
    /// While this period lasts, EDNS counts as working, because a query with it was answered.
    edns_proven: Period,
    /// The number of doubtful messages since the last answer to a query with EDNS, and a hash of the qname of the last
    /// doubtful message.
    edns_doubts: AtomicU32,
    doubted_name: AtomicU64,
    /// How many answers in a row had another letter case than their query.
    case_doubts: AtomicU32,
    /// How often it referred to other servers.
    referrals: AtomicU64,
    failures: Arc<Failures>,
    blocks: Blocks,
    pub(super) traffic: Traffic,
    pub(super) connections: Connections,
}

impl Server {
    /// A server that is asked in clear, with the extensions `permitted`, or with fewer if it lacks some.
    pub fn new(address: impl Into<ServerAddress>, permitted: Dialect) -> Self {
        Self::of(Target::plain(address, permitted))
    }

    /// A server that is asked with the permitted extensions, or with fewer if it lacks some.
    pub fn of(target: Target) -> Self {
        Self {
            shown: target.address.socket.to_string().into(),
            target,
            number: unused_number(),
            epoch: Instant::now(),
            without_edns: Period::default(),
            without_case: Period::default(),
            edns_proven: Period::default(),
            edns_doubts: AtomicU32::new(0),
            doubted_name: AtomicU64::new(0),
            case_doubts: AtomicU32::new(0),
            referrals: AtomicU64::new(0),
            failures: Arc::default(),
            blocks: Blocks::default(),
            traffic: Traffic::default(),
            connections: Connections::default(),
        }
    }

    /// Its address as it was configured: the index of its interface may have changed.
    pub fn address(&self) -> SocketAddr {
        self.target.address.socket
    }

    /// Its address, as it is shown.
    pub(super) fn shown(&self) -> &Arc<str> {
        &self.shown
    }

    /// Distinguishes it from the other servers of this process, unless that had 65,535 servers or more since its start.
    pub fn number(&self) -> NonZeroU16 {
        self.number
    }

    /// Whether queries are sent to it by encrypted connections alone.
    pub fn is_encrypted(&self) -> bool {
        self.target.tls.is_some()
    }

    /// When its certificate ends, as of the last TLS handshake.
    pub(super) fn certificate_end(&self) -> Option<Timestamp> {
        self.target.tls.as_ref()?.certificate_end()
    }

    /// The transport of a first query to it.
    pub(super) fn transport(&self) -> Transport {
        match self.target.tls.as_ref().map(TlsClient::protocol) {
            None => Transport::Udp,
            Some(Protocol::Tls) => Transport::Tls,
            Some(Protocol::Https { .. }) => Transport::Https,
            Some(Protocol::Quic) => Transport::Quic,
            Some(Protocol::H3 { .. }) => Transport::H3,
        }
    }

    /// How connections to it are opened.
    pub(super) fn peer(&self, counters: &Arc<Counters>) -> Peer {
        Peer {
            address: self.destination(),
            tls: self.target.tls.clone(),
            failures: Arc::clone(&self.failures),
            counters: Arc::clone(counters),
        }
    }

    /// The address to open a socket to, with the current index of its interface.
    pub(in crate::serve) fn destination(&self) -> SocketAddr {
        self.target.address.current(index_of)
    }

    /// Whether it is the server that these settings describe.
    pub(super) fn is(&self, target: &Target) -> bool {
        self.target == *target
    }

    /// These settings.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The extensions to ask it with now.
    pub(in crate::serve) fn dialect(&self, now: Instant) -> Dialect {
        let (now, permitted) = (self.millis(now), self.target.permitted);
        Dialect {
            edns: permitted.edns && !self.without_edns.contains(now),
            // Answers can't be forged on an encrypted connection.
            random_case: permitted.random_case
                && !self.is_encrypted()
                && !self.without_case.contains(now),
        }
    }

    /// Records a referral to other servers.
    pub(super) fn refers(&self) {
        self.referrals.fetch_add(1, Ordering::Relaxed);
        self.failures.lengthen_streak();
    }

    /// How often it sent a referral to other servers. A server that does not recurse sends referrals.
    pub(super) fn referrals(&self) -> u64 {
        self.referrals.load(Ordering::Relaxed)
    }

    /// Records an unusable answer.
    pub(super) fn failed(&self, failure: Failure) {
        self.failures.count(failure);
    }

    /// Records a usable answer.
    pub(super) fn succeeded(&self) {
        self.failures.end();
    }

    /// Whether its last answers were all unusable.
    pub(super) fn is_failing(&self) -> bool {
        self.failures.is_failing()
    }

    /// Why no connection to it can be established or used; `None` once one can.
    pub(super) fn problem(&self) -> Option<String> {
        self.failures.problem()
    }

    /// Its failures.
    pub(super) fn failures(&self) -> FailureCounts {
        self.failures.counts()
    }

    /// Records an answer by which it blocks a name.
    pub(super) fn blocks(&self, now: Instant) {
        self.blocks.count(self.millis(now));
    }

    /// How many answers blocked names.
    pub(super) fn block_counts(&self, now: Instant) -> BlockCounts {
        self.blocks.counts(self.millis(now))
    }

    /// Records that it answered a query with EDNS, so it understands or ignores EDNS.
    pub(super) fn edns_works(&self, now: Instant) {
        clear(&self.edns_doubts);
        self.edns_proven.prolong(self.millis(now));
    }

    /// Whether it answered a query with EDNS within the last minutes.
    pub(super) fn is_edns_proven(&self, now: Instant) -> bool {
        self.edns_proven.contains(self.millis(now))
    }

    /// Records a message that may be its refusal of EDNS, or a forgery. Returns whether there were enough of those in a
    /// row to believe them.
    ///
    /// No such message is believed while an answer to a query with EDNS is remembered: otherwise a broken zone would
    /// turn EDNS off for all names. Consecutive messages about the same name count as one.
    pub(super) fn doubt_edns(&self, name: &[u8], now: Instant) -> bool {
        if self.is_edns_proven(now) {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let name = hasher.finish();
        if self.doubted_name.swap(name, Ordering::Relaxed) == name {
            return self.edns_doubts.load(Ordering::Relaxed) >= BARE_ERRORS;
        }
        count(&self.edns_doubts) >= BARE_ERRORS
    }

    /// Records that it answered a query without EDNS after it had not answered the same query with EDNS.
    pub(in crate::serve) fn answered_without_edns(&self, is_certain: bool, now: Instant) {
        if is_certain || self.edns_doubts.load(Ordering::Relaxed) >= BARE_ERRORS {
            self.without_edns.begin(self.millis(now));
        }
    }

    /// Records that it kept the letter case of a query.
    pub(super) fn case_works(&self) {
        clear(&self.case_doubts);
    }

    /// Records an answer in another letter case.
    pub(super) fn doubt_case(&self) {
        count(&self.case_doubts);
    }

    /// Records that it answered a query without random letter case, after a wrong letter case and a failure of TCP.
    pub(super) fn answered_without_case(&self, now: Instant) {
        if self.case_doubts.load(Ordering::Relaxed) >= OTHER_CASES {
            self.without_case.begin(self.millis(now));
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.address())
    }
}

/// A period during which a finding counts, given by its end in milliseconds since the server's `epoch`.
#[derive(Default)]
struct Period(AtomicU64);

impl Period {
    fn contains(&self, now: u64) -> bool {
        now < self.0.load(Ordering::Relaxed)
    }

    fn begin(&self, now: u64) {
        self.0
            .store(now + MEMORY.as_millis() as u64, Ordering::Relaxed);
    }

    /// Begins it again, unless it began within the last second: workers share the cache line.
    fn prolong(&self, now: u64) {
        let end = self.0.load(Ordering::Relaxed);
        if now + MEMORY.as_millis() as u64 > end + 1000 {
            self.begin(now);
        }
    }
}

/// Does not write if nothing changes: workers share the cache line.
fn clear(count: &AtomicU32) {
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
}

fn count(count: &AtomicU32) -> u32 {
    count.fetch_add(1, Ordering::Relaxed).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::new(SocketAddr::from(([192, 0, 2, 1], 53)), Dialect::FULL)
    }

    #[test]
    fn a_certain_refusal_of_edns_is_remembered_for_some_minutes() {
        let (server, now) = (server(), Instant::now());
        server.answered_without_edns(true, now);
        assert!(!server.dialect(now).edns && server.dialect(now).random_case);
        let end = now + MEMORY;
        assert!(!server.dialect(end - Duration::from_secs(1)).edns);
        assert!(server.dialect(end + Duration::from_secs(1)).edns, "probed");
    }

    #[test]
    fn bare_errors_count_only_when_several_come_without_an_answer_between_them() {
        let (server, now) = (server(), Instant::now());
        for _ in 0..10 {
            assert!(!server.doubt_edns(b"a", now) && !server.doubt_edns(b"b", now));
            server.answered_without_edns(false, now);
            server.edns_works(now);
        }
        assert!(server.dialect(now).edns);
        let later = now + MEMORY;
        server.doubt_edns(b"a", later);
        server.doubt_edns(b"b", later);
        assert!(server.doubt_edns(b"c", later));
        server.answered_without_edns(false, later);
        assert!(!server.dialect(later).edns);
    }

    #[test]
    fn errors_are_no_refusal_of_edns_while_an_answer_with_it_is_remembered() {
        let (server, now) = (server(), Instant::now());
        server.edns_works(now);
        let doubt = |after: Duration| {
            let at = now + after;
            let believed = [b"a", b"b", b"c", b"d"].map(|name| server.doubt_edns(name, at));
            server.answered_without_edns(false, at);
            (believed[3], server.dialect(at).edns)
        };
        assert_eq!(doubt(Duration::ZERO), (false, true));
        assert_eq!(doubt(MEMORY - Duration::from_millis(1)), (false, true));
        assert_eq!(doubt(MEMORY), (true, false), "it may have been replaced");
    }

    #[test]
    fn errors_about_one_name_are_one_error() {
        let (server, now) = (server(), Instant::now());
        for _ in 0..10 {
            assert!(!server.doubt_edns(b"a", now));
        }
        assert!(!server.doubt_edns(b"b", now));
        assert!(server.doubt_edns(b"c", now));
        assert!(server.doubt_edns(b"c", now));
    }

    #[test]
    fn one_answer_in_another_letter_case_does_not_turn_random_case_off() {
        let (server, now) = (server(), Instant::now());
        for _ in 0..10 {
            server.doubt_case();
            server.answered_without_case(now);
            server.case_works();
        }
        assert!(server.dialect(now).random_case);
        server.doubt_case();
        server.doubt_case();
        server.answered_without_case(now);
        assert!(!server.dialect(now).random_case);
    }

    #[test]
    fn a_link_local_server_is_reached_by_the_current_interface_index() {
        let mut address: ServerAddress = "fe80::1%lo".parse().expect("an address");
        let SocketAddr::V6(socket) = &mut address.socket else {
            panic!("IPv6");
        };
        // As if the interface had been recreated.
        socket.set_scope_id(4_000_000);
        let server = Server::new(address, Dialect::FULL);
        let SocketAddr::V6(socket) = server.destination() else {
            panic!("IPv6");
        };
        assert_eq!(Some(socket.scope_id()), index_of("lo"));
    }

    #[test]
    fn extensions_that_the_operator_turned_off_stay_off() {
        let permitted = Dialect {
            edns: false,
            random_case: false,
        };
        let server = Server::new(SocketAddr::from(([192, 0, 2, 1], 53)), permitted);
        let later = Instant::now() + 2 * MEMORY;
        assert_eq!(server.dialect(later), permitted);
    }
}
