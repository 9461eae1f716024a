//! The numbers of images, and the names of the files in the state directory.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::control::persist::durable::TEMPORARY;

/// The record of which images are in force.
pub(super) const MANIFEST: &str = "current";
/// Locked by the process that uses the directory.
pub(super) const LOCK: &str = "lock";
/// The start of the name of a zone that is being transferred.
pub(crate) const TRANSFER: &str = "transfer.tmp-";
/// The start of the names of the serials of published zones.
const ZONE: &str = "zone-";
/// Digits of the largest number in a file's name: adding one to it can't overflow.
const DIGITS: usize = 18;

/// The number of a base image in the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Base(pub(super) u64);

/// The number of a delta image in the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Delta(pub(super) u64);

/// The images that are in force together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The rules of all sources.
    pub base: Base,
    /// Whole lists that replace those of the base.
    pub delta: Option<Delta>,
}

/// The file's name.
impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base-{}.image", self.0)
    }
}

/// The file's name.
impl fmt::Display for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delta-{}.image", self.0)
    }
}

/// The kind of a file, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Base(Base),
    Delta(Delta),
    /// Being written, or left by a crash.
    Temporary,
    /// A zone that is being transferred, or was when the server was killed.
    Transfer,
}

impl Kind {
    /// `None` for the manifest, the lock, and files of others.
    pub(super) fn of(name: &str) -> Option<Self> {
        if name.starts_with(TRANSFER) {
            return Some(Self::Transfer);
        }
        let ours = ["base", "delta", MANIFEST, ZONE];
        if name.contains(TEMPORARY) && ours.iter().any(|start| name.starts_with(start)) {
            return Some(Self::Temporary);
        }
        let number = |start| {
            let digits = name.strip_prefix(start)?.strip_suffix(".image")?;
            let number = digits.parse::<u64>().ok()?;
            // Without a sign or leading zeros, as it is written.
            (digits.len() <= DIGITS && digits == number.to_string()).then_some(number)
        };
        let base = number("base-").map(|number| Self::Base(Base(number)));
        base.or_else(|| number("delta-").map(|number| Self::Delta(Delta(number))))
    }
}

/// The name of the file `name` while it is written; `tag` makes it unique.
pub(super) fn temporary(name: &str, tag: impl fmt::Display) -> String {
    format!("{name}{TEMPORARY}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_as_the_store_writes_them_are_recognized() {
        assert_eq!(Kind::of("base-7.image"), Some(Kind::Base(Base(7))));
        assert_eq!(Kind::of("delta-12.image"), Some(Kind::Delta(Delta(12))));
        for temporary in [
            temporary("base", 3),
            temporary("current", 3),
            temporary("delta-4.image", 3),
            temporary("base.tmp-3", 4),
            temporary("zone-0a1b.json", 4),
        ] {
            assert_eq!(Kind::of(&temporary), Some(Kind::Temporary), "{temporary}");
        }
        assert_eq!(Kind::of("transfer.tmp-aB3"), Some(Kind::Transfer));
        for foreign in [
            "current",
            "zone-0a1b.json",
            "zone-0a1b.changes",
            "transfer.txt",
            "my-transfer.tmp-1",
            "lock",
            "notes.tmp-1",
            "base-07.image",
            "base-+7.image",
            "base-7.image.bak",
            "base-.image",
            "base-9999999999999999999.image",
        ] {
            assert_eq!(Kind::of(foreign), None, "{foreign}");
        }
    }
}
