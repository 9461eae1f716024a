//! When a primary last confirmed the version in force of a feed, in the state directory: after a restart, the zone expires
//! no earlier than without one.
//!
//! The time of the last transfer is stored with the rules. So only feeds that rarely change write this file, once in a
//! quarter of the time after which the zone expires.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::feed::Feed;
use crate::control::persist::durable::{self, Access, DurableError};
use crate::wire::transfer::Serial;

/// The confirmations of a feed.
pub(super) struct Confirmations {
    feed: String,
    zone: String,
    /// Where the last one is stored, if there is a state directory.
    path: Option<PathBuf>,
    last: Option<Timestamp>,
    /// The one that the state directory has, here or with the rules.
    stored: Option<Timestamp>,
}

/// The confirmation of a version, as it is stored.
#[derive(Serialize, Deserialize)]
struct Confirmed {
    zone: String,
    serial: Serial,
    at: Timestamp,
}

impl Confirmations {
    /// Those of a feed. Names of feeds may have any characters, so the file is named by a hash.
    pub(super) fn new(feed: &Feed, dir: Option<&Path>) -> Self {
        let hash = blake3::hash(feed.name.as_bytes()).to_hex();
        Self {
            feed: feed.name.clone(),
            zone: feed.zone.to_string(),
            path: dir.map(|dir| dir.join(format!("feed-{}.json", &hash[..16]))),
            last: None,
            stored: None,
        }
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// Takes the last one for the version in force, which was transferred at this time: of an earlier process, or `known` to
    /// this one.
    pub(super) fn restore(
        &mut self,
        serial: Serial,
        transferred: Timestamp,
        known: Option<Timestamp>,
    ) -> Timestamp {
        let read = tokio::task::block_in_place(|| self.path.as_deref().map_or(Ok(None), read));
        let found = read.unwrap_or_else(|error| {
            let feed = &*self.feed;
            tracing::warn!(feed, %error, "it is not known when the zone was last confirmed");
            None
        });
        let found = found.filter(|found| found.serial == serial && found.zone == self.zone);
        let stored = found.map_or(transferred, |found| found.at.max(transferred));
        let confirmed = known.map_or(stored, |known| known.max(stored));
        (self.last, self.stored) = (Some(confirmed), Some(stored));
        confirmed
    }

    /// A version was transferred, which is stored with the rules, or one that is held was confirmed.
    pub(super) fn add(&mut self, is_transfer: bool) {
        self.last = Some(Timestamp::now());
        if is_transfer {
            self.stored = self.last;
        }
    }

    /// The version in force was confirmed. Stores that, if a quarter of its validity has passed since the last time.
    pub(super) async fn confirm(&mut self, serial: Serial, validity: Duration) {
        let at = Timestamp::now();
        self.last = Some(at);
        let (Some(path), Some(stored)) = (self.path.clone(), self.stored) else {
            return;
        };
        if age(stored) < validity / 4 {
            return;
        }
        self.stored = Some(at);
        let confirmed = Confirmed {
            zone: self.zone.clone(),
            serial,
            at,
        };
        let write = tokio::task::spawn_blocking(move || store(&path, &confirmed));
        if let Ok(Err(error)) = write.await {
            let feed = &*self.feed;
            tracing::warn!(feed, %error, "after a restart, the zone may expire too early");
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Confirmed>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(Into::into),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// After a power cut, the confirmation before may be there.
fn store(path: &Path, confirmed: &Confirmed) -> Result<(), DurableError> {
    let text = serde_json::to_vec(confirmed).expect("strings and numbers");
    durable::replace_unsynced(path, &text, Access::Private)
}

/// How long ago this was; zero if it is in the future.
pub(super) fn age(at: Timestamp) -> Duration {
    let age = Timestamp::now().duration_since(at);
    Duration::try_from(age).unwrap_or_default()
}
