//! Owns the counters. Refuses to know who reads them.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Count {
            $($(#[$doc])* $variant,)*
        }

        impl Count {
            /// All of them, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in `status`: words with underscores, fit for a metrics system.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

counts! {
    /// Packets that came by UDP.
    UdpQueries = "udp_queries",
    /// Messages that came by TCP.
    TcpQueries = "tcp_queries",
    /// Answers from a block rule on the asked name.
    Blocked = "blocked",
    /// Answers from a block rule on the target of a CNAME.
    BlockedTarget = "blocked_cname_target",
    /// Queries that a rule says not to answer at all.
    BlockedDrop = "blocked_dropped",
    /// Answers about names that never go upstream.
    Local = "local",
    /// Answers of class CH.
    Chaos = "chaos",
    /// HINFO answers to ANY.
    Any = "any",
    /// Answers from the cache.
    CacheHits = "cache_hits",
    /// Answers from upstream.
    Resolved = "resolved",
    /// Answers that are older than their TTL.
    Stale = "stale",
    /// SERVFAIL, because no upstream answered.
    Failed = "failed",
    /// SERVFAIL, because too many questions wait for upstream.
    Overloaded = "overloaded",
    /// Questions that joined an equal one on its way.
    Coalesced = "coalesced",
    /// REFUSED to clients that may not ask.
    Denied = "refused_client",
    /// REFUSED: zone transfers and foreign classes.
    Refused = "refused",
    /// REFUSED: no recursion desired, and no rule of our own.
    NoRecursion = "refused_no_recursion",
    /// NOTIMP for a type that can't be looked up.
    MetaType = "notimp_type",
    /// Packets shorter than a header; dropped.
    Short = "malformed_short",
    /// Responses; dropped.
    Response = "malformed_response",
    /// Opcodes other than QUERY; NOTIMP.
    Opcode = "malformed_opcode",
    /// Not one question; FORMERR.
    QuestionCount = "malformed_question_count",
    /// Unreadable questions; FORMERR.
    Question = "malformed_question",
    /// Unreadable records; FORMERR.
    Records = "malformed_records",
    /// Unreadable EDNS; FORMERR.
    Edns = "malformed_edns",
    /// EDNS versions that do not exist; BADVERS.
    EdnsVersion = "malformed_edns_version",
    /// Malformed packets from clients that may not ask; dropped.
    DeniedMalformed = "malformed_from_refused_client",
    /// TCP connections taken.
    TcpConnections = "tcp_connections",
    /// TCP connections closed at once, because there were too many.
    TcpRefused = "tcp_connections_refused",
    /// Answers that the network did not take.
    SendErrors = "send_errors",
    /// Questions asked upstream, retries included.
    UpstreamQueries = "upstream_queries",
    /// Questions asked upstream by TCP, because the answer was cut.
    UpstreamTcp = "upstream_tcp_queries",
    /// Questions that upstream left without a usable answer.
    UpstreamFailures = "upstream_failures",
}

/// One thread's counters, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters([AtomicU64; Count::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Count::ALL.len()])
    }
}

impl Counters {
    /// Counts one.
    pub fn bump(&self, count: Count) {
        self.0[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn read(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }
}

/// Sums of all threads' counters, in the order of [`Count::ALL`].
pub fn sums<'c>(
    all: impl Iterator<Item = &'c Counters> + Clone,
) -> impl Iterator<Item = (Count, u64)> {
    Count::ALL
        .iter()
        .map(move |&count| (count, all.clone().map(|c| c.read(count)).sum()))
}
