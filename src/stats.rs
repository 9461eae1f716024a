//! Counters of each thread, and their sums.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

macro_rules! counts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// An event that is counted; for a query, how it ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Count {
            $($(#[$doc])* $variant,)*
        }

        impl Count {
            /// All events, in the order of their declaration.
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
    /// Packets received by UDP.
    UdpQueries = "udp_queries",
    /// Messages received by TCP.
    TcpQueries = "tcp_queries",
    /// Answers from a block rule on the queried name.
    Blocked = "blocked",
    /// Answers from a block rule on the target of a CNAME, SVCB or HTTPS record.
    BlockedTarget = "blocked_cname_target",
    /// Queries that are not answered because of a rule's action.
    BlockedDrop = "blocked_dropped",
    /// Answers for local zones, which are never forwarded.
    Local = "local",
    /// Answers of class CH.
    Chaos = "chaos",
    /// HINFO answers to ANY.
    Any = "any",
    /// Answers from the cache.
    CacheHits = "cache_hits",
    /// Queries for which upstream was to be asked, because the cache had no answer within its TTL.
    CacheMisses = "cache_misses",
    /// Answers from upstream.
    Resolved = "resolved",
    /// Stale answers.
    Stale = "stale",
    /// Queries of clients that were answered with upstream's error, or with SERVFAIL for lack of a usable answer.
    Failed = "failed",
    /// SERVFAIL answers to queries counted as [`QueueFull`](Self::QueueFull) or [`ClientFull`](Self::ClientFull).
    Overloaded = "overloaded",
    /// Queries that were not forwarded because too many wait for upstream; answered by SERVFAIL or a stale answer.
    QueueFull = "upstream_queue_full",
    /// Queries that were not forwarded because too many of the same client wait; answered in the same way.
    ClientFull = "upstream_client_full",
    /// Queries that joined an equal one in flight.
    Coalesced = "coalesced",
    /// Answers to UDP queries that were not sent, because the query was too old.
    Discarded = "discarded",
    /// Responses to queries that had to wait for upstream, which were then held back further, because their client
    /// received too many of them at once.
    Paced = "paced",
    /// REFUSED to clients that may not query.
    Denied = "refused_client",
    /// REFUSED: zone transfers, and classes other than IN and CH.
    Refused = "refused",
    /// REFUSED: no recursion desired, and no local answer.
    NoRecursion = "refused_no_recursion",
    /// NOTIMP for a type that can't be looked up.
    MetaType = "notimp_type",
    /// UDP packets from port 0, which can't be answered; dropped.
    SourcePort = "malformed_source_port",
    /// UDP packets that are too long; FORMERR.
    Oversized = "malformed_oversized",
    /// UDP packets that the kernel dropped because a socket's buffer was full.
    KernelDrops = "kernel_drops",
    /// Packets shorter than a header; dropped.
    Short = "malformed_short",
    /// Responses; dropped.
    Response = "malformed_response",
    /// Opcodes other than QUERY, and NOTIFY without a feed; NOTIMP.
    Opcode = "malformed_opcode",
    /// A number of questions other than one; FORMERR.
    QuestionCount = "malformed_question_count",
    /// Unreadable questions; FORMERR.
    Question = "malformed_question",
    /// Unreadable records; FORMERR.
    Records = "malformed_records",
    /// Unreadable EDNS; FORMERR.
    Edns = "malformed_edns",
    /// EDNS versions that do not exist; BADVERS.
    EdnsVersion = "malformed_edns_version",
    /// Malformed packets from clients that may not query; dropped.
    DeniedMalformed = "malformed_from_refused_client",
    /// NOTIFY messages for the zone of a feed, whose primaries are then asked.
    NotifyAccepted = "notify_accepted",
    /// NOTIFY messages from an address that is not permitted, REFUSED, or for another zone, NOTAUTH.
    NotifyRefused = "notify_refused",
    /// NOTIFY messages whose signature is not valid; NOTAUTH.
    NotifyNotAuthentic = "notify_not_authentic",
    /// NOTIFY messages that were dropped because there were too many.
    NotifyLimited = "notify_limited",
    /// NOTIFY messages that can't be read, FORMERR, or that are not for a SOA record, NOTIMP.
    NotifyMalformed = "malformed_notify",
    /// Answers to secondaries with the SOA record of a published zone.
    ZoneAnswers = "zone_answers",
    /// Transfers of whole published zones that were begun.
    TransfersWhole = "zone_transfers_whole",
    /// Transfers of changes of published zones that were begun, also of none.
    TransfersIncremental = "zone_transfers_incremental",
    /// Transfers of published zones that were not completed.
    TransfersCut = "zone_transfers_cut",
    /// Queries for published zones that are not permitted, REFUSED, or are by UDP but should not be, FORMERR.
    ZoneRefused = "zone_refused",
    /// Queries for published zones whose signature is not valid; NOTAUTH.
    ZoneNotAuthentic = "zone_not_authentic",
    /// Signed queries for published zones that were too many to be checked; dropped, by TCP REFUSED.
    ZoneLimited = "zone_limited",
    /// Queries for published zones of which there is no version yet; SERVFAIL.
    ZoneNotLoaded = "zone_not_loaded",
    /// TCP connections accepted.
    TcpConnections = "tcp_connections",
    /// TCP connections closed at once, because there were too many, of all clients or of secondaries whose address is not known.
    TcpRefused = "tcp_connections_refused",
    /// TCP connections closed at once, because their client may not query.
    TcpDenied = "tcp_connections_denied",
    /// TCP connections closed at once, because their client had too many.
    TcpClientRefused = "tcp_connections_refused_client",
    /// TCP connections closed because they were idle, or a message was not completed in time.
    TcpIdle = "tcp_connections_idle",
    /// TCP connections closed because the client read no answers.
    TcpUnread = "tcp_connections_unread",
    /// Answers that could not be sent.
    SendErrors = "send_errors",
    /// Queries sent upstream by UDP, retries included.
    UpstreamQueries = "upstream_queries",
    /// Queries sent upstream by TCP, because the answer by UDP was truncated or had another letter case.
    UpstreamTcp = "upstream_tcp_queries",
    /// Queries sent upstream by DNS over TLS.
    UpstreamTls = "upstream_tls_queries",
    /// TLS handshakes with upstream servers that were completed.
    UpstreamHandshakes = "upstream_tls_handshakes",
    /// TLS handshakes with upstream servers that failed, or took too long.
    UpstreamHandshakesFailed = "upstream_tls_handshakes_failed",
    /// Queries that were sent again because their connection was cut.
    UpstreamResent = "upstream_resent",
    /// In-flight queries that ended without a usable answer from upstream; several clients may share one.
    UpstreamFailures = "upstream_failures",
    /// Popular answers that were refreshed before they expired.
    Prefetched = "prefetched",
    /// Messages from upstream that match no query in flight: late, duplicate or forged.
    UpstreamStray = "upstream_stray",
    /// Messages from upstream with the ID of a query in flight, but another question section.
    UpstreamForeign = "upstream_foreign_question",
    /// Answers from upstream in another letter case than the query, which is then repeated by TCP.
    UpstreamCase = "upstream_letter_case",
    /// Responses from upstream that are only a header with FORMERR or NOTIMP; the query is repeated without EDNS.
    UpstreamBare = "upstream_bare_errors",
    /// Referrals from upstream: the server does not recurse.
    UpstreamReferral = "upstream_referrals",
    /// Answers from upstream that can't be read.
    UpstreamGarbage = "upstream_garbage",
    /// Answers from upstream by which the server says that it blocks the name.
    UpstreamBlocks = "upstream_blocks",
    /// First attempts that upstream did not answer in time; the resolver repeats the query.
    UpstreamSlow = "upstream_slow",
    /// Answers that were sent, but not cached because another thread held the cache's lock.
    Unkept = "cache_not_kept",
}

/// Record types that are counted separately; all others are counted together.
const TYPES: [(u16, &str); 15] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (35, "NAPTR"),
    (43, "DS"),
    (48, "DNSKEY"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (255, "ANY"),
];

/// The table covers types below this.
const TABLE: usize = 256;

/// The index of the counter of each type, `TYPES.len()` for types that are counted together.
const COUNTER_OF_TYPE: [u8; TABLE] = {
    let mut indices = [TYPES.len() as u8; TABLE];
    let mut at = 0;
    while at < TYPES.len() {
        indices[TYPES[at].0 as usize] = at as u8;
        at += 1;
    }
    indices
};

/// The transports of queries, in the order of the indices that [`Counters::bump_query`] takes.
pub const TRANSPORTS: [&str; 2] = ["udp", "tcp"];

/// The classes of types: those that are counted separately, `other`, and the queries to whose name the policy was not
/// applied: malformed, not permitted, or of another class than IN.
const CLASSES: usize = TYPES.len() + 2;
const OTHER: usize = TYPES.len();
const UNREAD: usize = TYPES.len() + 1;

/// The outcomes of queries: the events, and the end of the connection or the server before the query was answered.
const OUTCOMES: usize = Count::ALL.len() + 1;
const ABANDONED: usize = Count::ALL.len();

/// Upper bounds of the latency histogram in milliseconds. There is one more bucket for longer latencies.
pub const LATENCY_BOUNDS: [f64; 14] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0,
];

/// The number of lists and of authorities' blocking orders whose hits are counted separately.
pub const LISTS: usize = 1 << u16::BITS;

/// Slots below this have a counter for each of [`ACTIONS`]. They are for lists and feeds, whose rules may have several.
pub const SLOTS_WITH_ACTIONS: usize = 1024;

/// What a rule does, in the order of the indices that [`Counters::bump_list`] takes.
pub const ACTIONS: [&str; 8] = [
    "nxdomain", "nodata", "sinkhole", "refused", "drop", "records", "cname", "tcp-only",
];

/// The counter of a slot and an action.
fn list_counter(slot: usize, action: usize) -> usize {
    match slot < SLOTS_WITH_ACTIONS {
        true => slot * ACTIONS.len() + action,
        false => slot + SLOTS_WITH_ACTIONS * (ACTIONS.len() - 1),
    }
}

/// One thread's counters. They share no cache line with those of another.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    counts: [AtomicU64; Count::ALL.len()],
    /// Finished queries by transport, class of type, and outcome. One counter for all three costs a worker one addition for
    /// each query.
    queries: [[[AtomicU64; OUTCOMES]; CLASSES]; TRANSPORTS.len()],
    latency: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    latency_micros: AtomicU64,
    /// Allocated at the start, because a worker must not allocate while it answers.
    lists: Box<[AtomicU64]>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; Count::ALL.len()],
            queries: [const { [const { [const { AtomicU64::new(0) }; OUTCOMES] }; CLASSES] };
                TRANSPORTS.len()],
            latency: [const { AtomicU64::new(0) }; LATENCY_BOUNDS.len() + 1],
            latency_micros: AtomicU64::new(0),
            lists: (0..list_counter(LISTS, 0))
                .map(|_| AtomicU64::new(0))
                .collect(),
        }
    }
}

impl Counters {
    /// Counts one event.
    #[inline]
    pub fn bump(&self, count: Count) {
        self.add(count, 1);
    }

    /// Counts several events.
    #[inline]
    pub fn add(&self, count: Count, number: u64) {
        self.counts[count as usize].fetch_add(number, Ordering::Relaxed);
    }

    /// Counts a finished query: the index of its transport in [`TRANSPORTS`], its type if the policy was applied to its
    /// name, and how it ended; `None` if its connection or the server ended first.
    #[inline]
    pub fn bump_query(&self, transport: usize, rtype: Option<u16>, outcome: Option<Count>) {
        let class = rtype.map_or(UNREAD, |rtype| {
            let class = COUNTER_OF_TYPE.get(usize::from(rtype));
            class.map_or(OTHER, |class| usize::from(*class))
        });
        let outcome = outcome.map_or(ABANDONED, |outcome| outcome as usize);
        self.queries[transport][class][outcome].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a hit of the list or order with this slot, by the index of the action in [`ACTIONS`].
    #[inline]
    pub fn bump_list(&self, slot: u16, action: usize) {
        let counter = list_counter(usize::from(slot), action);
        self.lists[counter].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answer from upstream by its latency.
    pub fn upstream_took(&self, took: Duration) {
        let milliseconds = took.as_secs_f64() * 1e3;
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < milliseconds);
        self.latency[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The number of events so far, those that are outcomes of queries included.
    pub fn read(&self, count: Count) -> u64 {
        let classes = self.queries.iter().flatten();
        let ended = classes.map(|outcomes| outcomes[count as usize].load(Ordering::Relaxed));
        self.counts[count as usize].load(Ordering::Relaxed) + ended.sum::<u64>()
    }
}

/// The number of finished queries of one transport and class of type that ended in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// One of [`TRANSPORTS`].
    pub transport: &'static str,
    /// A type, `other`, or `none` if the policy was not applied to a name.
    pub rtype: &'static str,
    /// The outcome; `None` if the connection or the server ended first.
    pub outcome: Option<Count>,
    /// The number.
    pub queries: u64,
}

/// The counters of all threads together.
#[derive(Clone, Debug)]
pub struct Sums {
    /// In the order of [`Count::ALL`].
    pub counts: Vec<(Count, u64)>,
    /// Queries by type; `other` is the last.
    pub types: Vec<(&'static str, u64)>,
    /// Finished queries; kinds of which there was none are left out.
    pub queries: Vec<Finished>,
    /// Answers from upstream in each bucket of the latency histogram: one for each of [`LATENCY_BOUNDS`], and one for
    /// longer latencies. Not cumulative.
    pub latency: Vec<u64>,
    /// The sum of all latencies in milliseconds.
    pub latency_sum_ms: f64,
}

/// Adds up the counters of all threads, without those of lists.
pub fn sums<'c>(all: impl Iterator<Item = &'c Counters> + Clone) -> Sums {
    let classes: [&str; CLASSES] = std::array::from_fn(|class| match TYPES.get(class) {
        Some((_, name)) => name,
        None if class == OTHER => "other",
        None => "none",
    });
    let mut counts = Count::ALL
        .iter()
        .map(|&count| (count, 0))
        .collect::<Vec<_>>();
    let mut latency = vec![0; LATENCY_BOUNDS.len() + 1];
    let mut latency_micros = 0;
    let mut finished = vec![0; TRANSPORTS.len() * CLASSES * OUTCOMES];
    // One thread after the other: their counters are far apart in memory.
    for counters in all {
        add(counts.iter_mut().map(|(_, sum)| sum), &counters.counts);
        add(&mut latency, &counters.latency);
        add([&mut latency_micros], [&counters.latency_micros]);
        add(&mut finished, counters.queries.iter().flatten().flatten());
    }
    let mut types: Vec<_> = classes[..=OTHER].iter().map(|name| (*name, 0)).collect();
    let mut queries = Vec::new();
    for (at, number) in finished.into_iter().enumerate() {
        if number == 0 {
            continue;
        }
        let (over, class, outcome) = (
            at / OUTCOMES / CLASSES,
            at / OUTCOMES % CLASSES,
            at % OUTCOMES,
        );
        if let Some((_, count)) = counts.get_mut(outcome) {
            *count += number;
        }
        if let Some((_, of_type)) = types.get_mut(class) {
            *of_type += number;
        }
        queries.push(Finished {
            transport: TRANSPORTS[over],
            rtype: classes[class],
            outcome: Count::ALL.get(outcome).copied(),
            queries: number,
        });
    }
    Sums {
        counts,
        types,
        queries,
        latency,
        latency_sum_ms: latency_micros as f64 / 1e3,
    }
}

/// Adds the counters of a thread to the sums.
fn add<'c, 's>(
    sums: impl IntoIterator<Item = &'s mut u64>,
    counters: impl IntoIterator<Item = &'c AtomicU64>,
) {
    for (sum, counter) in sums.into_iter().zip(counters) {
        *sum += counter.load(Ordering::Relaxed);
    }
}

/// How many slots are in use, of those that count by action and of the others. They are assigned from the lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsedSlots {
    with_actions: usize,
    others: usize,
}

impl UsedSlots {
    /// All slots.
    pub const ALL: Self = Self {
        with_actions: SLOTS_WITH_ACTIONS,
        others: LISTS - SLOTS_WITH_ACTIONS,
    };

    /// All slots up to the highest of each kind.
    pub fn up_to(slots: impl IntoIterator<Item = usize>) -> Self {
        slots.into_iter().fold(Self::default(), |used, slot| {
            let slot = slot.min(LISTS - 1);
            match slot.checked_sub(SLOTS_WITH_ACTIONS) {
                None => Self {
                    with_actions: used.with_actions.max(slot + 1),
                    ..used
                },
                Some(other) => Self {
                    others: used.others.max(other + 1),
                    ..used
                },
            }
        })
    }
}

/// The hits of lists and orders of all threads together.
#[derive(Clone, Debug)]
pub struct ListSums(Vec<u64>);

impl ListSums {
    /// The sums of the counters of all threads. Only the slots in use are read: all of them are half a megabyte for each
    /// thread.
    pub fn new<'c>(all: impl Iterator<Item = &'c Counters>, used: UsedSlots) -> Self {
        let mut sums = vec![0; list_counter(LISTS, 0)];
        let others = list_counter(SLOTS_WITH_ACTIONS, 0);
        let used = [
            0..list_counter(used.with_actions, 0),
            others..others + used.others,
        ];
        for counters in all {
            for range in &used {
                add(&mut sums[range.clone()], &counters.lists[range.clone()]);
            }
        }
        Self(sums)
    }

    /// The hits by slot.
    pub fn by_slot(&self) -> Vec<u64> {
        let (with_actions, others) = self.0.split_at(list_counter(SLOTS_WITH_ACTIONS, 0));
        let sums = with_actions.chunks(ACTIONS.len());
        let sums = sums.map(|of_slot| of_slot.iter().sum());
        sums.chain(others.iter().copied()).collect()
    }

    /// The hits of one slot, by the name of the action; `None` if they are not counted by action.
    pub fn by_action(&self, slot: usize) -> Option<impl Iterator<Item = (&'static str, u64)>> {
        let first = list_counter(slot, 0);
        let hits = self.0.get(first..first + ACTIONS.len())?;
        let named = ACTIONS.into_iter().zip(hits.iter().copied());
        (slot < SLOTS_WITH_ACTIONS).then_some(named)
    }

    /// The hits of one slot.
    pub fn of(&self, slot: usize) -> u64 {
        match self.by_action(slot) {
            Some(hits) => hits.map(|(_, hits)| hits).sum(),
            None => self.0.get(list_counter(slot, 0)).copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_of_all_threads_by_transport_type_outcome_list_and_time() {
        let all = [Counters::default(), Counters::default()];
        for counters in &all {
            counters.bump_query(0, Some(28), Some(Count::Blocked));
            counters.bump_query(1, Some(13), None);
            counters.bump_list(7, 2);
            counters.upstream_took(Duration::from_micros(250));
        }
        all[1].bump_query(0, Some(65_535), Some(Count::Blocked));
        all[1].bump_query(0, None, Some(Count::Short));
        all[1].bump(Count::KernelDrops);
        all[1].upstream_took(Duration::from_secs(9));
        all[1].bump_list(u16::MAX, 4);
        let by_action = ListSums::new(all.iter(), UsedSlots::ALL);
        let of_7 = by_action.by_action(7).expect("counted by action");
        assert_eq!(of_7.collect::<Vec<_>>()[2], ("sinkhole", 2));
        assert!(by_action.by_action(65_535).is_none());
        assert_eq!((by_action.of(7), by_action.of(65_535)), (2, 1));
        let lists = by_action.by_slot();
        assert_eq!(lists.len(), LISTS);
        let sums = sums(all.iter());
        let of = |name| {
            sums.types
                .iter()
                .find(|(n, _)| *n == name)
                .expect("a type")
                .1
        };
        assert_eq!((of("AAAA"), of("other"), of("A")), (2, 3, 0));
        assert_eq!((sums.latency[1], sums.latency[14]), (2, 1));
        assert!((sums.latency_sum_ms - 9000.5).abs() < 1e-6);
        assert_eq!((lists[7], lists[65_535]), (2, 1));
        assert_eq!(lists.iter().sum::<u64>(), 3);
        let counted = |wanted| {
            let mut counts = sums.counts.iter();
            counts
                .find(|(count, _)| *count == wanted)
                .map(|(_, sum)| *sum)
        };
        assert_eq!(counted(Count::Blocked), Some(3));
        assert_eq!(
            (counted(Count::Short), counted(Count::KernelDrops)),
            (Some(1), Some(1))
        );
        assert_eq!(all[1].read(Count::Blocked), 2);
        let finished = |transport, rtype, outcome, queries| Finished {
            transport,
            rtype,
            outcome,
            queries,
        };
        let expected = [
            finished("udp", "AAAA", Some(Count::Blocked), 2),
            finished("udp", "other", Some(Count::Blocked), 1),
            finished("udp", "none", Some(Count::Short), 1),
            finished("tcp", "other", None, 2),
        ];
        assert_eq!(sums.queries, expected);
    }
    #[test]
    fn the_hits_of_the_slots_in_use_are_summed() {
        let all = [Counters::default(), Counters::default()];
        let slots = [0, 5, 1023, 1024, 1500, LISTS - 1];
        for counters in &all {
            for slot in slots {
                counters.bump_list(slot as u16, slot % ACTIONS.len());
            }
        }
        let used = UsedSlots::up_to([5, 1500, 0]);
        let sums = ListSums::new(all.iter(), used);
        assert_eq!(slots.map(|slot| sums.of(slot)), [2, 2, 0, 2, 2, 0]);
        let complete = ListSums::new(all.iter(), UsedSlots::ALL);
        assert_eq!(slots.map(|slot| complete.of(slot)), [2; 6]);
        assert_eq!(UsedSlots::up_to([1023, LISTS - 1]), UsedSlots::ALL);
        let none = ListSums::new(all.iter(), UsedSlots::up_to([]));
        assert_eq!(none.by_slot().iter().sum::<u64>(), 0);
    }
}
