//! A query to upstream: how it is written, and how a response to it is recognised.

use crate::serve::cache::Key;
use crate::stats::{Count, Counters};
use crate::wire::ask::{self, Dialect, Fit, RANDOM};

/// The length of encrypted queries is a multiple of this.
const PADDED_TO: usize = 128;

/// The parts of a written query that its response must match.
#[derive(Clone, Debug)]
pub(in crate::serve) struct SentQuery {
    pub(super) id: u16,
    pub(super) dialect: Dialect,
    /// The question section as it was sent, letter case included.
    question: Box<[u8]>,
}

impl SentQuery {
    /// Writes a query to `out`. Its ID is the first two bytes of `random`; the others give the letter case.
    pub(super) fn write(
        key: &Key,
        dialect: Dialect,
        random: &[u8; RANDOM],
        out: &mut Vec<u8>,
    ) -> Self {
        ask::write(&key.question(), dialect, random, out);
        Self {
            id: u16::from_be_bytes([random[0], random[1]]),
            dialect,
            question: ask::question_of(out).into(),
        }
    }

    /// How a message with the ID of this query matches the query. `None` if the message is no response to it. Such a
    /// message may be forged, and the true response may still arrive (RFC 5452, section 9.1).
    pub(super) fn fit(&self, message: &[u8], counters: &Counters) -> Option<Fit> {
        let fit = ask::fit(message, &self.question);
        if fit == Fit::Foreign || (fit == Fit::BareError && !self.dialect.edns) {
            counters.bump(Count::UpstreamForeign);
            return None;
        }
        Some(fit)
    }
}

/// A query and its bytes.
#[derive(Clone, Debug)]
pub(in crate::serve) struct OutgoingQuery {
    pub(super) bytes: Vec<u8>,
    pub(super) sent: SentQuery,
}

impl OutgoingQuery {
    /// A query with random ID and letter case (RFC 5452, section 9.2).
    pub(super) fn new(key: &Key, dialect: Dialect) -> Self {
        let mut bytes = Vec::new();
        let sent = SentQuery::write(key, dialect, &rand::random(), &mut bytes);
        Self { bytes, sent }
    }

    /// Adds padding (RFC 7830) to a multiple of 128 bytes (RFC 8467, section 4.1), so that the length of the name can't be
    /// seen from outside of an encrypted connection. Without EDNS there is no place for it.
    pub(super) fn pad(&mut self) {
        ask::pad(&mut self.bytes, PADDED_TO);
    }

    /// Replaces the ID.
    pub(super) fn set_id(&mut self, id: u16) {
        self.sent.id = id;
        self.bytes[..2].copy_from_slice(&id.to_be_bytes());
    }
}
