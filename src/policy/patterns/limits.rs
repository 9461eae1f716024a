//! Limits of a set of patterns.

/// The maximum number of patterns of a set.
pub const MAX_PATTERNS: usize = 65_536;

/// The maximum length of a pattern, in bytes.
pub const MAX_LENGTH: usize = 4096;

/// The maximum number of patterns without a literal, because they are matched against every name.
pub const MAX_UNFILTERED: usize = 32;

/// Very different names. A pattern that matches all of them is taken for one that matches all names.
pub(super) const SAMPLE: [&str; 9] = [
    "t.co",
    "www.example.com",
    "1.0.0.127.in-addr.arpa",
    "_dmarc.mail-7.example.museum",
    "xn--bcher-kva.xn--p1ai",
    "ns.ripe.int",
    "bv-qzk.hvdjw.gg",
    "e4f9c1a07b2d8f6350.cdn.azure.net",
    "87.ru",
];
