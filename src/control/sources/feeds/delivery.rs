//! What a feed delivers to the control loop: a new version of its zone, or the changes that lead to it.

use std::net::SocketAddr;

use tokio::sync::oneshot;

use super::fault::Fault;
use super::spool::SpooledTransfer;
use crate::control::sources::lists::comparison::Differences;
use crate::wire::transfer::{Request, Serial, Soa};

/// A version of a feed's zone.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// The name of the feed.
    pub(crate) feed: String,
    /// The primary that it came from.
    pub(crate) primary: SocketAddr,
    /// Its serial.
    pub(crate) serial: Serial,
    /// Its contents.
    pub(crate) content: Content,
    /// Whether the version came into force, or why not.
    pub(crate) outcome: oneshot::Sender<Result<(), Undelivered>>,
}

/// The contents of a delivery.
#[derive(Debug)]
pub(crate) enum Content {
    /// A small zone, complete and authentic: the query, and the messages of the answer, each after two bytes with its
    /// length.
    Small(Box<Request>, Vec<u8>),
    /// A large zone, which may still be arriving.
    Large(SpooledTransfer),
    /// Changes since the version in force, complete and authentic.
    Changes {
        /// The serial of the version that they change.
        from: Serial,
        soa: Box<Soa>,
        changes: Vec<ZoneChange>,
    },
    /// The differences of a whole zone from the version in force, complete and authentic.
    Differences(Box<Differences>),
}

/// Why a delivery did not come into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// It is refused, or held by guards, for this reason.
    Held(String),
    /// It can't come into force because of this fault of the primary, as a sentence says.
    Faulty(Fault, String),
    /// It changes another version than the one that is in force now.
    Outdated,
    /// A rollback holds the version in force, as it was in this generation.
    RolledBack(u64),
}

/// A record that is deleted or added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZoneChange {
    /// Whether the record is added.
    pub(crate) adds: bool,
    /// Its owner in wire form, in lower case.
    pub(crate) owner: Box<[u8]>,
    /// TYPE.
    pub(crate) rtype: u16,
    /// TTL in seconds.
    pub(crate) ttl_secs: u32,
    /// RDATA without compressed names; empty if it is malformed.
    pub(crate) data: Box<[u8]>,
}
