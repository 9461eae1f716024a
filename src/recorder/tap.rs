//! The observer that copies finished queries into a ring.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::figures::{ONLY_BLOCKED, Sink, Switch, TapTally, bump};
use super::record::{Head, Rule, RuleAction, SourceKind};
use super::ring::{RingReader, RingWriter, ring};
use crate::serve::observe::{Finished, Observer};
use crate::stats::Count;

/// Copies finished queries of one thread, or of the tasks of several threads, into rings. Never waits.
pub struct Tap {
    switch: Arc<Switch>,
    /// One for a single thread. Each of several threads begins with another one. `None` while nothing is recorded.
    rings: Box<[Mutex<Option<RingWriter>>]>,
    pub(super) tally: TapTally,
}

/// The number of this thread, so that threads which share a tap use different rings if they can.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    let assign = || NEXT.fetch_add(1, Ordering::Relaxed);
    NUMBER.with(|number| {
        let known = number.get().unwrap_or_else(assign);
        number.set(Some(known));
        known
    })
}

impl Tap {
    /// A tap with this number of rings.
    pub(super) fn new(switch: Arc<Switch>, rings: usize) -> Self {
        Self {
            switch,
            rings: (0..rings).map(|_| Mutex::new(None)).collect(),
            tally: TapTally::default(),
        }
    }

    /// Makes new rings, or removes them. Returns their other ends.
    pub(super) fn set_rings(&self, is_on: bool) -> Vec<RingReader> {
        let mut readers = Vec::new();
        for place in &self.rings {
            let writer = is_on.then(|| {
                let (writer, reader) = ring();
                readers.push(reader);
                writer
            });
            *place.lock().unwrap_or_else(PoisonError::into_inner) = writer;
        }
        readers
    }

    #[inline(never)]
    fn record(&self, wanted: u32, query: &Finished<'_>) {
        let matched = query.matched();
        let mut sinks = wanted as u8;
        if wanted & ONLY_BLOCKED != 0 && matched.is_none() {
            sinks &= !Sink::QueryLog.bit();
        }
        if sinks == 0 {
            return;
        }
        let written = self.with_ring(|writer| {
            let mut left_out = 0;
            for sink in Sink::CONFIGURED {
                let sample = self.switch.sample(sink);
                if sinks & sink.bit() != 0 && sample < u32::MAX && writer.random() > sample {
                    left_out |= sink.bit();
                }
            }
            if left_out != 0 {
                bump(&self.tally.sampled_out, left_out);
                sinks &= !left_out;
                if sinks == 0 {
                    return true;
                }
            }
            // The name that the rule matched is found in the answer.
            let is_target = query.outcome == Some(Count::BlockedTarget);
            let answer = match is_target || sinks & Sink::Dnstap.bit() != 0 {
                true => query.response.unwrap_or_default(),
                false => &[],
            };
            let source = matched
                .map_or("", |matched| &matched.source.name)
                .as_bytes();
            // None of them is longer: messages have a length of 16 bits, and names of sources are short.
            let [source, packet, answer] =
                [source, query.packet, answer].map(|part| &part[..part.len().min(0xFFFF)]);
            let head = Head {
                sinks,
                address: query.client.address,
                port: query.client.port,
                local: query.client.local,
                transport: query.client.transport,
                outcome: query.outcome,
                rcode: query.rcode(),
                upstream: query.upstream,
                received: query.received,
                ended: Instant::now(),
                rule: matched.map(|matched| Rule {
                    kind: SourceKind::new(matched.source.kind, matched.source.zone.is_some()),
                    action: RuleAction::new(matched.blocking),
                    trigger: matched.hit.trigger,
                }),
                answer_len: query.response_len().min(0xFFFF) as u16,
                lengths: [source, packet, answer].map(|part| part.len() as u16),
            };
            writer.write(head, [source, packet, answer])
        });
        if !written {
            bump(&self.tally.dropped, sinks);
        }
    }

    /// Calls `write` with a ring that no other thread is using; returns false if there is none.
    pub(super) fn with_ring(&self, write: impl FnOnce(&mut RingWriter) -> bool) -> bool {
        let count = self.rings.len();
        let first = if count == 1 { 0 } else { thread_number() };
        for at in 0..count {
            if let Ok(mut ring) = self.rings[(first + at) % count].try_lock() {
                // If recording has just been turned off, there is none.
                return ring.as_mut().is_none_or(write);
            }
        }
        false
    }
}

impl Observer for Tap {
    #[inline]
    fn finished(&self, query: &Finished<'_>) {
        let wanted = self.switch.wanted();
        if wanted != 0 {
            self.record(wanted, query);
        }
    }
}
