//! A digest of the records of a published zone, by which a version is recognized after a restart.

use serde::{Deserialize, Serialize};

use crate::policy::published::PublishedRecord;

/// A digest of the records of a version. The order of records does not matter, so it is derived from that of the last
/// version and from the changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(super) struct Digest(u128);

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        format!("{:032x}", digest.0)
    }
}

/// A text that is no digest equals that of no version.
impl From<String> for Digest {
    fn from(text: String) -> Self {
        Self(u128::from_str_radix(&text, 16).unwrap_or_default())
    }
}

impl Digest {
    /// Adds a record.
    pub(super) fn add(&mut self, record: PublishedRecord<'_>) {
        self.0 = self.0.wrapping_add(hash(record));
    }

    /// Removes a record that was added.
    pub(super) fn remove(&mut self, record: PublishedRecord<'_>) {
        self.0 = self.0.wrapping_sub(hash(record));
    }
}

fn hash(record: PublishedRecord<'_>) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(record.owner.wire());
    hasher.update(&record.rtype.to_be_bytes());
    hasher.update(&record.ttl_secs.to_be_bytes());
    hasher.update(record.data);
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    u128::from_le_bytes(bytes)
}
