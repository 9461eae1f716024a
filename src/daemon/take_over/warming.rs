//! Answers of the running process for the cache of the new one, so that the switch is followed by no wave of queries to
//! upstream.
//!
//! They are passed in a file in memory, as pairs of a query and its response, as a client would send and get them. The new
//! process reads them as it reads those of upstream: it keeps nothing that does not answer the query.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::daemon::live::Live;
use crate::serve::cache::{Cache, Entry, Key};
use crate::serve::shared::Clock;
use crate::wire::answer::{Answer, Intake};
use crate::wire::edns::Ede;
use crate::wire::name::Name;
use crate::wire::query::Query;
use crate::wire::reply::Reply;
use crate::wire::{Rcode, class, flag};

/// The most answers that are passed.
const MOST: usize = 50_000;
/// The most bytes that are passed.
const BYTES: usize = 64 << 20;

/// Answers of another process, by a clock that started when they arrived.
pub(crate) struct Warm {
    /// The clock by which they age.
    pub(crate) clock: Clock,
    answers: Vec<(Key, Entry)>,
}

/// Writes the most popular answers of this process to a file in memory.
pub(super) fn written(live: &Live) -> io::Result<OwnedFd> {
    let parts = &live.0;
    let now = parts.streams.shared.clock.now();
    let mut text = Vec::new();
    for (key, entry) in parts.cache.popular(MOST, now) {
        let start = text.len();
        append(&mut text, &key, &entry, now);
        if text.len() > BYTES {
            text.truncate(start);
            break;
        }
    }
    let file = memfd_create("tapis-cache", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(&text)?;
    file.rewind()?;
    Ok(file.into())
}

/// Appends a query and its response, each after its length.
fn append(text: &mut Vec<u8>, key: &Key, entry: &Entry, now: u32) {
    let packet = query(key);
    let mut room = Name::default();
    let Ok(query) = Query::parse(&packet, &mut room) else {
        return;
    };
    let errors = entry.answer.errors().iter();
    let errors: Vec<_> = errors
        .map(|error| Ede {
            code: error.code,
            text: &error.text,
        })
        .collect();
    let mut response = Vec::new();
    let mut reply = Reply::new(&query, Rcode::NoError, usize::from(u16::MAX), &mut response);
    reply.copy(&entry.answer, entry.age(now), None);
    reply.finish(&errors, None);
    for message in [&packet, &response] {
        let Ok(length) = u16::try_from(message.len()) else {
            return;
        };
        text.extend_from_slice(&length.to_be_bytes());
        text.extend_from_slice(message);
    }
}

/// The query that a client sends for a key.
fn query(key: &Key) -> Vec<u8> {
    let question = key.question();
    let cd = if question.checking_disabled {
        flag::CD
    } else {
        0
    };
    let flags = flag::RD | flag::AD | cd;
    let mut packet = Vec::with_capacity(40 + question.name.len());
    for word in [0, flags, 1, 0, 0, 1] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    packet.extend_from_slice(question.name);
    packet.extend_from_slice(&question.rtype.to_be_bytes());
    packet.extend_from_slice(&class::IN.to_be_bytes());
    // OPT: the root, type 41, the size, and in the TTL, the flag DO.
    packet.extend_from_slice(&[0, 0, 41, 0xFF, 0xFF, 0, 0]);
    packet.extend_from_slice(&if question.dnssec_ok {
        [0x80, 0]
    } else {
        [0, 0]
    });
    packet.extend_from_slice(&[0, 0]);
    packet
}

impl Warm {
    /// Reads answers that the other process has written. Those that are no answers are left out.
    pub(super) fn read(file: OwnedFd, intake: Intake) -> Self {
        let clock = Clock::start();
        let mut file = BufReader::new(File::from(file).take(BYTES as u64));
        let mut answers = Vec::new();
        // The TTLs were limited before, and have run since.
        let intake = Intake {
            min_ttl: 0,
            ..intake
        };
        while answers.len() < MOST
            && let Some(packet) = message(&mut file)
            && let Some(response) = message(&mut file)
        {
            answers.extend(answer(&packet, &response, intake));
        }
        Self { clock, answers }
    }

    /// Puts the answers into a cache. Its routes must be set. Returns how many it has afterwards.
    pub(crate) fn fill(&mut self, cache: &Cache) -> usize {
        for (key, entry) in self.answers.drain(..) {
            cache.insert(key, Arc::new(entry));
        }
        cache.size().0
    }
}

/// The next message; `None` at the end.
fn message(file: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    file.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    file.read_exact(&mut message).ok()?;
    Some(message)
}

fn answer(packet: &[u8], response: &[u8], intake: Intake) -> Option<(Key, Entry)> {
    let mut room = Name::default();
    let query = Query::parse(packet, &mut room).ok()?;
    let answer = Answer::parse(response, query.name, query.rtype, class::IN, intake).ok()?;
    let is_kept = !answer.truncated() && !answer.is_referral() && !answer.is_unfinished();
    is_kept.then(|| (Key::new(&query), Entry::new(answer, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::cache::Lookup;
    use crate::serve::resolver::tests::{PACKET, entry, key};

    const INTAKE: Intake = Intake {
        min_ttl: 3000,
        max_ttl: 86_400,
        max_negative_ttl: 3600,
        additional: true,
    };

    fn file(text: &[u8]) -> OwnedFd {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).expect("made");
        let mut file = File::from(file);
        file.write_all(text).expect("written");
        file.rewind().expect("a file");
        file.into()
    }

    #[test]
    fn an_answer_arrives_with_the_ttl_that_is_left_and_other_bytes_do_not() {
        let mut text = Vec::new();
        append(&mut text, &key(), &entry(100), 30);
        let whole = text.len();
        // A response to another query, noise, and a response that is cut.
        let mut other = text.clone();
        other[2 + 13] ^= 1;
        text.extend_from_slice(&other);
        text.extend_from_slice(&[0, 3, 1, 2, 3, 0, 3, 1, 2, 3]);
        text.extend_from_within(..whole - 1);
        let mut warm = Warm::read(file(&text), INTAKE);
        assert_eq!(warm.answers.len(), 1);
        let cache = Cache::new(1 << 20, 0);
        assert_eq!(warm.fill(&cache), 1);
        let mut room = Name::default();
        let query = Query::parse(PACKET, &mut room).expect("a query");
        let Lookup::Fresh(entry) = cache.lookup(&query, 69) else {
            panic!("it is not there");
        };
        assert_eq!(entry.remaining(0), 70);
        assert!(!matches!(cache.lookup(&query, 70), Lookup::Fresh(_)));
    }
}
