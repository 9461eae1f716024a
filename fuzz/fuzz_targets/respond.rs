//! Fuzzes how a query is answered: mutated queries, and arbitrary bytes as upstream's answers.
//!
//! `cargo +nightly fuzz run respond`
#![no_main]

mod harness;

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use harness::{ASKED, Harness, OTHER_VIEW, STARTS};
use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use tapis::serve::cache::{Cache, Entry, Failure, Key};
use tapis::serve::client::{Client, Transport};
use tapis::serve::respond::{Known, conclude, respond};
use tapis::serve::step::{Resolution, Step};
use tapis::wire::name::Name;
use tapis::wire::query::Query;
use tapis::wire::{HEADER, flag};

/// One client's packet, and upstream's response to it.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    asked: u8,
    class: Option<u16>,
    edns: bool,
    edits: Vec<Edit<'a>>,
    stream: bool,
    stranger: bool,
    /// The last byte of the client's address: some of them are in a network that a rule is about.
    host: u8,
    /// Whether the client has the second view.
    other_view: bool,
    now: u16,
    /// Modulo [`ATTEMPTS`]: the number of attempts after which the server may ask upstream for another name. The next
    /// attempt is the last one, and must end the query.
    restarts: u8,
    /// Upstream's responses to the attempts.
    upstream: [Response<'a>; ATTEMPTS],
}

/// How often the server asks upstream for one message.
const ATTEMPTS: usize = 3;

/// A response of upstream.
#[derive(Arbitrary, Debug)]
struct Response<'a> {
    failed: bool,
    flags: u16,
    /// The place in [`STARTS`] of the records with which its sections begin.
    start: u8,
    counts: [u8; 3],
    records: &'a [u8],
}

/// Bytes of the packet that are replaced by others.
#[derive(Arbitrary, Debug)]
struct Edit<'a> {
    at: u16,
    remove: u8,
    insert: &'a [u8],
}

static HARNESS: LazyLock<Harness> = LazyLock::new(Harness::build);

fuzz_target!(|input: Input<'_>| {
    let Harness { snapshot, cache } = &*HARNESS;
    let packet = packet(&input);
    let last = if input.stranger { 0 } else { 2 };
    let transport = match input.stream {
        true => Transport::Tcp,
        false => Transport::Udp,
    };
    let address = Ipv4Addr::new(192, 0, last, input.host);
    let mut client = Client::new((address, 5353).into(), transport);
    if input.other_view {
        client.view = OTHER_VIEW;
    }
    let client = &client;
    let now = u32::from(input.now);
    let mut out = b"leftovers".to_vec();
    let (mut key, mut stale) = match respond(now, client, &packet, snapshot, cache, &mut out) {
        Step::Drop(_) => return,
        Step::Reply(_) | Step::Refresh(..) => {
            check(client, &packet, &out);
            assert!(
                Message::from_vec(&out).is_ok(),
                "another implementation reads it"
            );
            return;
        }
        Step::Resolve(key, stale) => (key, stale),
    };
    let last = usize::from(input.restarts) % ATTEMPTS;
    let mut restarted = None;
    for (attempt, response) in input.upstream.iter().enumerate() {
        let entry = response.entry(&key, now);
        let resolution = match &entry {
            Some(entry) if !response.failed => Resolution::Answered(Arc::clone(entry)),
            said => Resolution::Failed(
                Arc::new(Failure {
                    code: 23,
                    said: said.clone(),
                }),
                stale,
            ),
        };
        let known = Known {
            resolution: &resolution,
            cache: restarted.as_ref().unwrap_or(cache),
            is_last: attempt == last,
        };
        match conclude(now + 3, client, &packet, snapshot, known, &mut out) {
            Some(Step::Drop(_)) => return,
            Some(Step::Reply(_) | Step::Refresh(..)) => {
                check(client, &packet, &out);
                return;
            }
            Some(Step::Resolve(other, entry)) if attempt < last => {
                // The server has cached the answer. The shared cache must stay the same for every input.
                let answered = restarted.get_or_insert_with(|| Cache::new(1 << 16, 600));
                if let Resolution::Answered(entry) = resolution {
                    answered.insert(key, entry);
                }
                (key, stale) = (other, entry);
            }
            other => panic!("not the last step: {other:?}"),
        }
    }
});

impl Response<'_> {
    /// The answer as it is cached. `None` if the response is not one.
    fn entry(&self, key: &Key, now: u32) -> Option<Arc<Entry>> {
        let (answer, additional) = STARTS[usize::from(self.start) % STARTS.len()];
        let mut counts = self.counts.map(u16::from);
        counts[0] += answer.len() as u16;
        counts[2] += additional.len() as u16;
        let records = [&answer.concat(), self.records, &additional.concat()].concat();
        let bytes = harness::response(key, self.flags, counts, &records);
        harness::read(&bytes, key).map(|answer| Arc::new(Entry::new(answer, now)))
    }
}

fn packet(input: &Input<'_>) -> Vec<u8> {
    let (name, rtype) = ASKED[usize::from(input.asked) % ASKED.len()];
    let mut packet = harness::packet(name, rtype, input.class.unwrap_or(1), input.edns);
    for edit in &input.edits {
        let start = usize::from(edit.at) % (packet.len() + 1);
        let end = (start + usize::from(edit.remove)).min(packet.len());
        packet.splice(start..end, edit.insert.iter().copied());
    }
    packet
}

/// Checks the properties that every reply has, whatever upstream's response was.
fn check(client: &Client, packet: &[u8], out: &[u8]) {
    assert_eq!(out[..2], packet[..2], "the ID");
    let flags = u16::from_be_bytes([out[2], out[3]]);
    let sent = u16::from_be_bytes([packet[2], packet[3]]);
    let copied = flag::RD | flag::CD | 0x7800;
    assert_eq!(flags & copied, sent & copied);
    assert_eq!(
        flags & (flag::QR | flag::RA | flag::AA | 0x0040),
        flag::QR | flag::RA
    );
    match Query::parse(packet, &mut Name::default()) {
        Ok(query) => {
            assert!(out[HEADER..].starts_with(query.question()));
            let limit = if client.transport.is_stream() {
                query.stream_limit()
            } else {
                query.udp_limit()
            };
            assert!(out.len() <= limit, "{} of {limit} bytes", out.len());
            assert!(flags & flag::AD == 0 || query.wants_ad());
            ends_with_its_records(out, HEADER + query.question().len(), query.edns.is_some());
        }
        Err(_) => assert!(out.len() == HEADER && out.len() <= packet.len()),
    }
}

/// Walks over all records: they must fill the message. With `edns`, exactly one of them must be an OPT record; without
/// it, none.
fn ends_with_its_records(out: &[u8], mut at: usize, edns: bool) {
    let word = |at: usize| usize::from(u16::from_be_bytes([out[at], out[at + 1]]));
    let mut opts = 0;
    for _ in 0..word(6) + word(8) + word(10) {
        loop {
            match out[at] {
                0 => break at += 1,
                size @ 1..=63 => at += 1 + usize::from(size),
                _ => break at += 2,
            }
        }
        opts += usize::from(word(at) == 41);
        at += 10 + word(at + 8);
    }
    assert_eq!(at, out.len(), "the records fill the message");
    assert_eq!(opts, usize::from(edns));
}
