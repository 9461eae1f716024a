//! Serials of published zones, which must never go back.
//!
//! A new version gets the time in seconds since 1970 as its serial, or the serial after that of the last version, if that
//! is newer. So serials do not go back even if the state directory is lost, as long as the clock does not.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use crate::control::persist::durable::{self, Access, DurableError};
use crate::wire::name::Name;
use crate::wire::transfer::Serial;

/// The last version of a zone, as the state directory has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredVersion {
    pub(super) zone: String,
    pub(super) serial: Serial,
    /// Of all its records and of its SOA record without the serial.
    pub(super) digest: Digest,
}

/// The serial of a version that is made at `now`, in seconds since 1970, after a version with the serial `last`.
pub(super) fn next(last: Option<Serial>, now: u64) -> Serial {
    // Serials wrap around, as this number does.
    let time = Serial(now as u32);
    match last {
        Some(last) if !time.is_newer_than(last) => Serial(last.0.wrapping_add(1)),
        _ => time,
    }
}

/// The file in the state directory. Names of zones may have any characters, so it is named by a hash.
pub(super) fn path(dir: &Path, zone: &Name) -> PathBuf {
    let hash = blake3::hash(zone.wire()).to_hex();
    dir.join(format!("zone-{}.json", &hash[..16]))
}

/// Reads the last version; `None` if there is none.
///
/// # Errors
/// If the file can't be read.
pub(super) fn read(path: &Path) -> io::Result<Option<StoredVersion>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(Into::into),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Stores a version before it is served.
///
/// # Errors
/// If the file can't be written.
pub(super) fn store(path: &Path, version: &StoredVersion) -> Result<(), DurableError> {
    let text = serde_json::to_vec(version).expect("strings and numbers");
    durable::replace(path, &text, Access::Private)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_the_time_or_follows_the_last_one() {
        let next = |last: Option<u32>, now| next(last.map(Serial), now).0;
        assert_eq!(next(None, 1_795_000_000), 1_795_000_000);
        assert_eq!(next(Some(1_794_999_999), 1_795_000_000), 1_795_000_000);
        assert_eq!(next(Some(1_795_000_000), 1_795_000_000), 1_795_000_001);
        assert_eq!(
            next(Some(1_795_000_007), 1_795_000_000),
            1_795_000_008,
            "the clock went back"
        );
        assert_eq!(next(Some(u32::MAX), 1 << 32), 0, "after a wrap-around");
        assert_eq!(next(Some(5), (1 << 32) + 3), 6);
    }

    #[test]
    fn a_stored_version_is_read_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let zone = Name::from_text("rpz/x.test").expect("a name");
        let path = path(dir.path(), &zone);
        assert_eq!(path.parent(), Some(dir.path()));
        assert_eq!(read(&path).expect("readable"), None);
        let version = StoredVersion {
            zone: zone.to_string(),
            serial: Serial(7),
            digest: Digest::default(),
        };
        store(&path, &version).expect("stored");
        assert_eq!(read(&path).expect("readable"), Some(version));
        std::fs::write(&path, "no JSON").expect("written");
        assert!(read(&path).is_err());
    }
}
