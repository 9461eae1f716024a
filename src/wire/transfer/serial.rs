//! Serial numbers of zones, which wrap around.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The serial number of a version of a zone (RFC 1982).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(pub u32);

impl Serial {
    /// Whether this version is newer. Of two serials that are exactly 2^31 apart, neither is (RFC 1982, section 3.2).
    pub fn is_newer_than(self, other: Self) -> bool {
        (1..1 << 31).contains(&self.0.wrapping_sub(other.0))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_compared_across_the_wrap_around() {
        let newer = |a, b| Serial(a).is_newer_than(Serial(b));
        assert!(newer(1, 0) && !newer(0, 1) && !newer(7, 7));
        assert!(newer(0, u32::MAX) && newer(5, u32::MAX - 5));
        assert!(!newer(u32::MAX, 0));
        assert!(newer((1 << 31) - 1, 0) && !newer(0, (1 << 31) - 1));
        assert!(!newer(1 << 31, 0) && !newer(0, 1 << 31), "undefined");
    }
}
