//! Limits of a set of patterns.

/// The maximum number of patterns of a set.
pub const MAX_PATTERNS: usize = 65_536;

/// The maximum length of a pattern, in bytes.
pub const MAX_LENGTH: usize = 4096;

/// The maximum number of patterns without a literal, because they are matched against every name.
pub const MAX_UNFILTERED: usize = 32;

// The next limits are for all patterns of an image together, and bound the time of a lookup. Measured on one core of a
// virtual machine, for a name of 255 bytes: 0.4 us for each set, as its filter reads the name, and 0.7 us for each automaton
// that is run. A name of which all bytes are escaped takes four times as long, and has four times as many windows.

/// The maximum number of sets in an image.
pub(super) const MAX_SETS: usize = 128;

/// The maximum number of automata that are run for every name.
pub(super) const MAX_UNFILTERED_AUTOMATA: usize = 64;

/// The maximum size of these automata, in bytes. They must stay in the processor's cache.
pub(super) const MAX_UNFILTERED_MEMORY: usize = 1 << 20;

/// The maximum number of automata that the 253 worst windows lead to. A name has no room for the literals of all these
/// windows. Of 5,000 patterns like those of public lists, these windows lead to 347 automata; if all texts of the
/// patterns are built from the same 16 syllables, to 2,354.
pub(super) const MAX_FILTERED_RUNS: usize = 8192;

/// The maximum number of literals that are compared at the 253 worst windows. Only literals that are whole patterns
/// count.
pub(super) const MAX_COMPARED: usize = 1 << 14;

/// The maximum size of all sets, in bytes.
pub(super) const MAX_MEMORY: usize = 256 << 20;

/// The part of the limits of an image that each list may use, whatever its patterns are: there is room for this number of lists.
pub(super) const LISTS_AT_LEAST: usize = 8;

/// The same for the limits of patterns with equal windows. The lists of one publisher need little: 5,000 patterns like those
/// of public lists need 347 runs of the 4,096 that are a list's part. A list whose patterns consist of few words needs more.
pub(super) const ALIKE_LISTS_AT_LEAST: usize = 2;

/// The number of automata of patterns without a literal that a list may have.
pub const LIST_UNFILTERED_AUTOMATA: usize = MAX_UNFILTERED_AUTOMATA / LISTS_AT_LEAST;

/// Their size for a list, in bytes.
pub const LIST_UNFILTERED_MEMORY: usize = MAX_UNFILTERED_MEMORY / LISTS_AT_LEAST;

/// The number of automata that the 253 worst windows of a list may lead to.
pub const LIST_FILTERED_RUNS: usize = MAX_FILTERED_RUNS / ALIKE_LISTS_AT_LEAST;

/// The number of literals that a list may have at its 253 worst windows.
pub const LIST_COMPARED: usize = MAX_COMPARED / ALIKE_LISTS_AT_LEAST;

/// How often the places of patterns that match all names are given to others of the set. Each time costs as much as to
/// build the set.
pub(super) const MAX_ROUNDS: usize = 8;

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
