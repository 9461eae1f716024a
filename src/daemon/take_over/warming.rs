//! Answers of the running process for the cache of the new one, so that the switch is followed by no wave of queries to
//! upstream.
//!
//! They are passed in a file in memory, as pairs of a query and its response, as a client would send and get them. The new
//! process reads them as it reads those of upstream: it keeps nothing that does not answer the query. Those of the servers of
//! forwarded zones come last, each pool's after a text that names its servers in place of a query, with an empty response. They
//! are kept if the new process forwards the name to the same servers. A version that does not know such texts leaves out
//! what follows.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::daemon::live::Live;
use crate::serve::cache::{Cache, Entry, Key};
use crate::serve::routes::PoolId;
use crate::serve::shared::Clock;
use crate::serve::upstream::Pool;
use crate::serve::upstream::pools::Forwarding;
use crate::tls::client::TlsClient;
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
/// The start of the text that names servers. No query starts with it: the ID of each is 0.
const SERVERS: &[u8] = b"servers";

/// Answers of another process, by a clock that started when they arrived.
pub(crate) struct Warm {
    /// The clock by which they age.
    pub(crate) clock: Clock,
    /// The answers of the default servers, then those of other pools.
    pools: Vec<OfPool>,
}

/// Answers of a pool.
struct OfPool {
    /// The servers of the pool; `None` for the default ones.
    servers: Option<Vec<u8>>,
    answers: Vec<(Key, Answer)>,
}

/// Writes the most popular answers of this process to a file in memory.
pub(super) fn written(live: &Live) -> io::Result<OwnedFd> {
    let parts = &live.0;
    let now = parts.streams.shared.clock.now();
    let popular = parts.cache.popular(MOST, now);
    let text = text(popular, &parts.resolver.pools().forwarding(), now);
    let file = memfd_create("tapis-cache", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(&text)?;
    file.rewind()?;
    Ok(file.into())
}

/// The text of the file.
fn text(mut popular: Vec<(Key, Arc<Entry>)>, forwarding: &Forwarding, now: u32) -> Vec<u8> {
    let pools = forwarding.pools().iter().map(|of| of.pool.as_ref());
    let pools = pools.filter_map(|pool| Some((pool.id(), servers(pool)?)));
    let pools: HashMap<_, _> = pools.collect();
    // A pool that has just been replaced is not among them.
    popular
        .retain(|(_, entry)| entry.pool() == PoolId::DEFAULT || pools.contains_key(&entry.pool()));
    popular.sort_by_key(|(_, entry)| pools.get(&entry.pool()));
    let (mut text, mut last) = (Vec::new(), None);
    for (key, entry) in popular {
        let start = text.len();
        let servers = pools.get(&entry.pool());
        if servers != last {
            append_messages(&mut text, [servers.map_or(&[][..], |servers| servers), &[]]);
            last = servers;
        }
        append(&mut text, &key, &entry, now);
        if text.len() > BYTES {
            text.truncate(start);
            break;
        }
    }
    text
}

/// A text that names the servers of a pool of forwarded zones; `None` if it is too long for the file.
fn servers(pool: &Pool) -> Option<Vec<u8>> {
    let mut text = SERVERS.to_vec();
    for target in pool.targets() {
        let tls = target.tls.as_ref().map(TlsClient::settings);
        let tls = tls.map(|tls| (&tls.protocol, &tls.name));
        text.extend_from_slice(format!(" {} {tls:?}", target.address).as_bytes());
    }
    (text.len() <= usize::from(u16::MAX)).then_some(text)
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
    append_messages(text, [&packet, &response]);
}

/// Appends two messages, each after its length.
fn append_messages(text: &mut Vec<u8>, messages: [&[u8]; 2]) {
    let [Ok(first), Ok(second)] = messages.map(|message| u16::try_from(message.len())) else {
        return;
    };
    for (length, message) in [first, second].into_iter().zip(messages) {
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
        let mut pools = vec![OfPool {
            servers: None,
            answers: Vec::new(),
        }];
        // The TTLs were limited before, and have run since.
        let intake = Intake {
            min_ttl: 0,
            ..intake
        };
        let mut count = 0;
        while count < MOST
            && let Some(packet) = message(&mut file)
            && let Some(response) = message(&mut file)
        {
            if packet.starts_with(SERVERS) {
                pools.push(OfPool {
                    servers: Some(packet),
                    answers: Vec::new(),
                });
            } else if let Some(answer) = answer(&packet, &response, intake)
                && let Some(pool) = pools.last_mut()
            {
                pool.answers.push(answer);
                count += 1;
            }
        }
        Self { clock, pools }
    }

    /// Puts the answers into a cache, which has these routes: those about names for which the same servers are asked. Returns
    /// how many it has afterwards.
    pub(crate) fn fill(&mut self, cache: &Cache, forwarding: &Forwarding) -> usize {
        let routes = forwarding.routes();
        let pools = forwarding.pools().iter();
        let pools: HashMap<_, _> = pools.map(|of| (of.pool.id(), servers(&of.pool))).collect();
        for OfPool { servers, answers } in self.pools.drain(..) {
            for (key, answer) in answers {
                let pool = routes.of(key.name(), key.rtype());
                if *pools.get(&pool).unwrap_or(&None) == servers {
                    let entry = Entry::of_pool(answer, 0, pool, routes);
                    cache.insert(key, Arc::new(entry));
                }
            }
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

fn answer(packet: &[u8], response: &[u8], intake: Intake) -> Option<(Key, Answer)> {
    let mut room = Name::default();
    let query = Query::parse(packet, &mut room).ok()?;
    let answer = Answer::parse(response, query.name, query.rtype, class::IN, intake).ok()?;
    let is_kept = !answer.truncated() && !answer.is_referral() && !answer.is_unfinished();
    is_kept.then(|| (Key::new(&query), answer))
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
        assert_eq!(warm.pools[0].answers.len(), 1);
        let cache = Cache::new(1 << 20, 0);
        assert_eq!(warm.fill(&cache, &Forwarding::default()), 1);
        let mut room = Name::default();
        let query = Query::parse(PACKET, &mut room).expect("a query");
        let Lookup::Fresh(entry) = cache.lookup(&query, 69) else {
            panic!("it is not there");
        };
        assert_eq!(entry.remaining(0), 70);
        assert!(!matches!(cache.lookup(&query, 70), Lookup::Fresh(_)));
    }
}
