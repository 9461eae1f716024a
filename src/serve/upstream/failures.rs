//! Counts the unusable answers of an upstream server, and the connections that failed, for `status`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tls::fault::TlsFault;
use crate::wire::Rcode;

/// Unusable answers in a row after which a server counts as failing. One query may get several of them.
const FAILING_AFTER: u64 = 3;

/// The maximum number of characters of a problem.
const SHOWN: usize = 300;

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// An error's response code.
    Rcode(u16),
    /// Bytes that can't be read as an answer to the query.
    Unreadable,
    /// A response to a query that it was not asked, on an encrypted connection.
    Unasked,
    /// A status of HTTP other than 200.
    HttpStatus,
    /// A response of HTTP that is no DNS message: of another type, or too long.
    HttpContent,
    /// It reset a request, or broke the protocol of HTTP.
    HttpProtocol,
    /// It reset the stream of a query, or broke the protocol of DNS over QUIC.
    QuicProtocol,
    /// An encrypted connection was not established.
    Tls(TlsFault),
    /// The same because the handshake took too long.
    TlsTimeout,
}

/// The kinds that are counted, by name.
const KINDS: [&str; 19] = [
    "FORMERR",
    "SERVFAIL",
    "NOTIMP",
    "REFUSED",
    "other",
    "unreadable",
    "unasked",
    "http_status",
    "http_content",
    "http_protocol",
    "quic_protocol",
    "tls_name",
    "tls_authority",
    "tls_dates",
    "tls_pin",
    "tls_certificate",
    "tls_protocol",
    "tls_handshake",
    "tls_timeout",
];

impl Failure {
    /// Its index in [`KINDS`].
    fn index(self) -> usize {
        const FORMERR: u16 = Rcode::FormErr as u16;
        const SERVFAIL: u16 = Rcode::ServFail as u16;
        const NOTIMP: u16 = Rcode::NotImp as u16;
        const REFUSED: u16 = Rcode::Refused as u16;
        match self {
            Self::Rcode(FORMERR) => 0,
            Self::Rcode(SERVFAIL) => 1,
            Self::Rcode(NOTIMP) => 2,
            Self::Rcode(REFUSED) => 3,
            Self::Rcode(_) => 4,
            Self::Unreadable => 5,
            Self::Unasked => 6,
            Self::HttpStatus => 7,
            Self::HttpContent => 8,
            Self::HttpProtocol => 9,
            Self::QuicProtocol => 10,
            Self::Tls(TlsFault::Name) => 11,
            Self::Tls(TlsFault::Authority) => 12,
            Self::Tls(TlsFault::Dates) => 13,
            Self::Tls(TlsFault::Pin) => 14,
            Self::Tls(TlsFault::Certificate) => 15,
            Self::Tls(TlsFault::Protocol) => 16,
            Self::Tls(TlsFault::Handshake) => 17,
            Self::TlsTimeout => 18,
        }
    }
}

/// How often each kind occurred, by its name; those that did not are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureCounts {
    /// Since the last usable answer.
    pub recent: Vec<(&'static str, u64)>,
    /// Since the server was configured.
    pub total: Vec<(&'static str, u64)>,
}

/// Counters of one server.
#[derive(Debug, Default)]
pub(in crate::serve) struct Failures {
    /// Since the last usable answer.
    recent: [AtomicU64; KINDS.len()],
    /// Since the server was configured.
    total: [AtomicU64; KINDS.len()],
    /// All unusable answers since the last usable one, referrals included. While this is zero, a usable answer writes
    /// nothing, because workers share the cache line.
    streak: AtomicU64,
    /// Why the last connection was not established, or the last response of HTTP had no DNS message.
    problem: Mutex<Option<String>>,
}

impl Failures {
    /// Counts a failure.
    pub(super) fn count(&self, failure: Failure) {
        let index = failure.index();
        self.recent[index].fetch_add(1, Ordering::Relaxed);
        self.total[index].fetch_add(1, Ordering::Relaxed);
        self.lengthen_streak();
    }

    /// Records that no connection could be established or used, and why.
    pub(super) fn not_connected(&self, failure: Option<Failure>, mut problem: String) {
        if let Some(failure) = failure {
            self.count(failure);
        }
        // Parts of it may be the server's words.
        problem.retain(|c| !c.is_control());
        if let Some((end, _)) = problem.char_indices().nth(SHOWN) {
            problem.truncate(end);
        }
        *self.lock() = Some(problem);
    }

    /// Records that a connection brought a response, or can be used again.
    pub(super) fn connected(&self) {
        *self.lock() = None;
    }

    /// Why no connection can be established or used; `None` once one can.
    pub(super) fn problem(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an unusable answer that is no failure: a referral.
    pub(super) fn lengthen_streak(&self) {
        self.streak.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether its last answers were all unusable.
    pub(super) fn is_failing(&self) -> bool {
        self.streak.load(Ordering::Relaxed) >= FAILING_AFTER
    }

    /// Records a usable answer.
    pub(super) fn end(&self) {
        if self.streak.load(Ordering::Relaxed) > 0 {
            self.streak.store(0, Ordering::Relaxed);
            for count in &self.recent {
                count.store(0, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn counts(&self) -> FailureCounts {
        FailureCounts {
            recent: counts(&self.recent),
            total: counts(&self.total),
        }
    }
}

fn counts(counters: &[AtomicU64; KINDS.len()]) -> Vec<(&'static str, u64)> {
    let loaded = counters.iter().map(|count| count.load(Ordering::Relaxed));
    let counts = KINDS.into_iter().zip(loaded);
    counts.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_documentation_of_metrics_lists_exactly_the_kinds_and_referrals() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let text = fs::read_to_string(path).expect("readable");
        let section = text
            .split("\n## ")
            .find_map(|part| part.strip_prefix("Unusable answers\n"));
        let items = section.and_then(|section| section.split_once("\n- "));
        let (_, items) = items.expect("a list");
        // The name of a setting, which is no kind.
        let quoted = items
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| *word != "pin");
        let kinds = KINDS.into_iter().chain(["referral"]);
        assert_eq!(quoted.collect::<BTreeSet<_>>(), kinds.collect());
    }

    #[test]
    fn a_problem_has_at_most_300_characters_and_none_that_controls_a_terminal() {
        let failures = Failures::default();
        let said = "it says: \u{1b}[2J\n".to_owned() + &"\u{e4}".repeat(1000);
        failures.not_connected(None, said);
        let problem = failures.problem().expect("a problem");
        assert_eq!(problem.chars().count(), 300);
        assert!(problem.starts_with("it says: [2J\u{e4}"), "{problem}");
    }

    #[test]
    fn a_usable_answer_resets_the_recent_counts() {
        let failures = Failures::default();
        failures.end();
        assert_eq!(failures.counts(), FailureCounts::default());
        for failure in [Failure::Rcode(1), Failure::Rcode(1), Failure::Unreadable] {
            failures.count(failure);
        }
        let both = vec![("FORMERR", 2), ("unreadable", 1)];
        let expected = FailureCounts {
            recent: both.clone(),
            total: both,
        };
        assert_eq!(failures.counts(), expected);
        failures.end();
        failures.count(Failure::Rcode(16));
        let expected = FailureCounts {
            recent: vec![("other", 1)],
            total: vec![("FORMERR", 2), ("other", 1), ("unreadable", 1)],
        };
        assert_eq!(failures.counts(), expected);
    }
}
