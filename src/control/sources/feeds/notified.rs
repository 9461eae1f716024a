//! NOTIFY messages for feeds, as the data plane passes them on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::wire::transfer::Serial;
use crate::wire::transfer::tsig::Key;

/// NOTIFY messages that wait for the control loop. The data plane drops further ones.
pub const WAITING: usize = 64;

/// The key of each feed that has one, by the feed's name, as last read from its file. The data plane checks the
/// signatures of NOTIFY messages with it.
pub type Keys = Arc<ArcSwap<BTreeMap<String, Key>>>;

/// A NOTIFY for the zone of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notified {
    /// The name of the feed.
    pub feed: String,
    /// The sender.
    pub from: IpAddr,
    /// How many messages it stands for: itself, and those that were not accepted before it and not passed on.
    pub count: u64,
    /// The serial of the newest version, if the sender is authentic and gives one; or why the message was not accepted.
    pub verdict: Result<Option<Serial>, NotifyRefusal>,
}

/// Why a NOTIFY was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotifyRefusal {
    /// Neither the address nor a signature permits it.
    #[error(
        "not signed, and the address is not permitted: add it to notify-from if it is a primary's"
    )]
    NotPermitted,
    /// The signature is not valid.
    #[error(
        "the signature is not valid: compare name, algorithm and secret of the key, and both clocks"
    )]
    NotAuthentic,
}

/// Remembers the key of a feed, or that it has none.
pub(super) fn remember(keys: &Keys, feed: &str, key: Option<&Key>) {
    keys.rcu(|keys| {
        let mut keys = BTreeMap::clone(keys);
        match key {
            Some(key) => keys.insert(feed.to_owned(), key.clone()),
            None => keys.remove(feed),
        };
        keys
    });
}
