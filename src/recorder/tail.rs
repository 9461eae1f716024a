//! Live queries for readers at the control socket. Each reader has a bounded queue; a slow one misses queries.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::client_text::{ClientText, truncated};
use super::query_log::LineRoom;
use super::record::Record;
use super::wall_clock::WallClock;
use crate::config::recording::ClientForm;
use crate::control::recording::{TailEvent, TailRequest};
use crate::wire::name::Name;

/// The most readers at a time.
pub(super) const READERS: usize = 8;
/// The parts that wait for a reader, not counting a place that is kept for the last one.
const PARTS: usize = 32;
/// The size of a part in bytes.
const PART: usize = 64 * 1024;
/// An empty line is sent after this time without a line, so that a reader notices when the server is gone.
const SILENCE: Duration = Duration::from_secs(3);
/// A reader that took nothing for this time makes room for others.
const STUCK: Duration = Duration::from_secs(60);

/// The readers.
#[derive(Default)]
pub(super) struct Tails {
    readers: Vec<Reader>,
    text: String,
}

struct Reader {
    filter: Filter,
    parts: Sender<Vec<u8>>,
    /// The next part, and the queries in it.
    next: Vec<u8>,
    count: u64,
    /// The queries that are missing since the last part.
    missing: u64,
    /// When the last part was passed on.
    sent: Instant,
}

/// The conditions of a reader.
struct Filter {
    name: Option<(Name, Depth)>,
    client: Option<ClientFilter>,
    blocked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Exact,
    Subtree,
}

enum ClientFilter {
    Network(IpNet),
    Hash(String),
}

impl ClientFilter {
    /// # Errors
    /// Why clients can't be chosen like this.
    fn new(client: &str, form: ClientForm) -> Result<Self, String> {
        let address = client.parse::<IpAddr>().map(IpNet::from);
        let network = address.or_else(|_| client.parse::<IpNet>());
        match (form, network) {
            (ClientForm::None, _) => Err("[query-log] client leaves clients out".to_owned()),
            (ClientForm::Whole | ClientForm::Truncated, Ok(network)) => Ok(Self::Network(network)),
            (ClientForm::Whole | ClientForm::Truncated, Err(_)) => Err(format!(
                "{client:?} is not an address or a network"
            )),
            (ClientForm::Hashed, Ok(_)) => Err(
                "[query-log] client hashes clients, so they can't be chosen by their address: give a hash".to_owned(),
            ),
            (ClientForm::Hashed, Err(_)) => Ok(Self::Hash(client.to_ascii_lowercase())),
        }
    }
}

impl Filter {
    /// # Errors
    /// Why the request is not valid.
    fn new(request: &TailRequest, form: ClientForm) -> Result<Self, String> {
        let (name, depth) = match (&request.name, &request.zone) {
            (Some(_), Some(_)) => return Err("there is a name and a zone: give one".to_owned()),
            (Some(name), None) => (Some(name), Depth::Exact),
            (None, zone) => (zone.as_ref(), Depth::Subtree),
        };
        let parsed = |name: &String| {
            let parsed = Name::from_text(name);
            parsed.map_err(|error| format!("{name:?} is not a domain name: {error}"))
        };
        let name = name.map(parsed).transpose()?;
        let client = request.client.as_ref();
        let client = client.map(|client| ClientFilter::new(client, form));
        let client = client.transpose()?;
        Ok(Self {
            name: name.map(|name| (name, depth)),
            client,
            blocked: request.blocked,
        })
    }

    /// Whether a query meets the conditions. `text` is room for a text.
    fn takes(&self, record: &Record<'_>, clients: &ClientText, text: &mut String) -> bool {
        if self.blocked && !record.is_blocked() {
            return false;
        }
        let address = record.head.address;
        let is_client = match &self.client {
            None => true,
            Some(ClientFilter::Network(network)) => clients
                .address(address)
                .is_some_and(|shown| is_within(network, shown, clients.form())),
            Some(ClientFilter::Hash(hash)) => clients.write(address, text) && text == hash,
        };
        let is_named = || match &self.name {
            None => true,
            Some((wanted, depth)) => record.question().is_some_and(|(name, _)| match depth {
                Depth::Exact => name == *wanted,
                Depth::Subtree => is_at_or_below(&name, wanted),
            }),
        };
        is_client && is_named()
    }
}

fn is_at_or_below(name: &Name, zone: &Name) -> bool {
    let labels = zone.label_count();
    name.label_count() >= labels && name.ancestor(labels) == zone.wire()
}

/// Whether a client is in a network as far as that can be seen: a network that is smaller than the shown ones stands for
/// the one around it.
fn is_within(network: &IpNet, shown: IpAddr, form: ClientForm) -> bool {
    let is_around = || form == ClientForm::Truncated && truncated(network.addr()) == shown;
    network.contains(&shown) || is_around()
}

impl Tails {
    pub(super) fn is_empty(&self) -> bool {
        self.readers.is_empty()
    }

    /// Adds a reader.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn add(
        &mut self,
        request: &TailRequest,
        form: ClientForm,
        now: Instant,
    ) -> Result<Receiver<Vec<u8>>, String> {
        let filter = Filter::new(request, form)?;
        if self.readers.len() >= READERS {
            return Err(format!(
                "{READERS} others read the queries already: end one of them"
            ));
        }
        let (parts, receiver) = channel(PARTS + 1);
        self.readers.push(Reader {
            filter,
            parts,
            next: Vec::new(),
            count: 0,
            missing: 0,
            sent: now,
        });
        Ok(receiver)
    }

    /// Passes a query on to the readers that want it.
    pub(super) fn record(
        &mut self,
        record: &Record<'_>,
        (clock, clients): (&WallClock, &ClientText),
        room: &mut LineRoom,
        now: Instant,
    ) {
        for reader in &mut self.readers {
            if reader.filter.takes(record, clients, &mut self.text) {
                let line = room.line(record, clock, clients);
                if reader.next.len() + line.len() > PART {
                    reader.send(now);
                }
                reader.next.extend_from_slice(line);
                reader.count += 1;
            }
        }
    }

    /// Sends what was collected. `dropped` queries did not even come here. Removes readers that are gone.
    pub(super) fn flush(&mut self, dropped: u64, now: Instant) {
        self.readers.retain_mut(|reader| {
            reader.missing += dropped;
            reader.send(now);
            let silence = now.saturating_duration_since(reader.sent);
            if silence >= SILENCE && reader.next.is_empty() {
                reader.next.push(b'\n');
                reader.send(now);
            }
            !reader.parts.is_closed() && silence < STUCK
        });
    }

    /// Ends all streams, with the reason as their last line.
    pub(super) fn end(&mut self, why: &str, now: Instant) {
        for mut reader in self.readers.drain(..) {
            reader.send(now);
            write_event(&mut reader.next, &TailEvent::End(why.to_owned()));
            reader.pass_on(now);
        }
    }
}

impl Reader {
    /// Passes on the next part, or drops it if the reader is slow.
    fn send(&mut self, now: Instant) {
        if self.next.is_empty() && self.missing == 0 {
            return;
        }
        if self.parts.capacity() > 1 {
            self.pass_on(now);
        } else {
            self.missing += self.count;
            self.next.clear();
            self.count = 0;
        }
    }

    /// Passes on the next part, also to the last place.
    fn pass_on(&mut self, now: Instant) {
        let Ok(place) = self.parts.try_reserve() else {
            // The reader is gone, as the last place is taken at the end only.
            return;
        };
        let mut part = Vec::new();
        if self.missing > 0 {
            write_event(&mut part, &TailEvent::Missing(self.missing));
        }
        part.append(&mut self.next);
        place.send(part);
        (self.count, self.missing, self.sent) = (0, 0, now);
    }
}

fn write_event(lines: &mut Vec<u8>, event: &TailEvent) {
    // Writing to memory can't fail, and neither can this type.
    let _ = serde_json::to_writer(&mut *lines, event);
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ranking::Trigger;
    use crate::policy::rule::Action;
    use crate::recorder::record::{Head, Rule, RuleAction, SourceKind};
    use crate::serve::client::Transport;

    const QUERY: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\x03ads\x07example\0\0\x01\0\x01";

    fn head(client: &str, is_blocked: bool) -> Head {
        Head {
            sinks: 0,
            address: client.parse().expect("an address"),
            port: 53,
            local: None,
            transport: Transport::Udp,
            outcome: None,
            rcode: None,
            upstream: None,
            received: tokio::time::Instant::now(),
            ended: tokio::time::Instant::now(),
            rule: is_blocked.then_some(Rule {
                kind: SourceKind::List,
                action: RuleAction::Plain(Action::Nxdomain),
                trigger: Trigger::Pattern,
            }),
            answer_len: 0,
            lengths: [0, QUERY.len() as u16, 0],
        }
    }

    /// Passes on queries of this client.
    fn record(tails: &mut Tails, form: ClientForm, head: &Head, count: usize, now: Instant) {
        let clients = ClientText::new(form, None).expect("no file is read");
        let clock = WallClock::now();
        for _ in 0..count {
            let (record, mut room) = (Record::new(head, QUERY), LineRoom::default());
            tails.record(&record, (&clock, &clients), &mut room, now);
        }
    }

    fn received(parts: &mut Receiver<Vec<u8>>) -> String {
        let mut text = String::new();
        while let Ok(part) = parts.try_recv() {
            text += &String::from_utf8(part).expect("text");
        }
        text
    }

    #[test]
    fn a_reader_gets_the_queries_that_meet_all_of_its_conditions() {
        let now = Instant::now();
        let takes = |edit: fn(&mut TailRequest), form, client, is_blocked| {
            let (mut tails, mut request) = (Tails::default(), TailRequest::default());
            edit(&mut request);
            let mut parts = tails.add(&request, form, now).expect("added");
            record(&mut tails, form, &head(client, is_blocked), 1, now);
            tails.flush(0, now);
            received(&mut parts).lines().count() == 1
        };
        let named = |edit| takes(edit, ClientForm::None, "192.0.2.7", false);
        assert!(named(|_| {}));
        assert!(named(
            |request| request.name = Some("a.ads.example".to_owned())
        ));
        assert!(!named(
            |request| request.name = Some("ads.example".to_owned())
        ));
        for (zone, is_taken) in [
            ("a.ads.example", true),
            ("ADS.example", true),
            (".", true),
            ("ds.example", false),
            ("b.a.ads.example", false),
        ] {
            let (mut tails, form) = (Tails::default(), ClientForm::None);
            let request = TailRequest {
                zone: Some(zone.to_owned()),
                ..TailRequest::default()
            };
            let mut parts = tails.add(&request, form, now).expect("added");
            record(&mut tails, form, &head("192.0.2.7", false), 1, now);
            tails.flush(0, now);
            assert_eq!(!received(&mut parts).is_empty(), is_taken, "{zone}");
        }
        assert!(!named(|request| request.blocked = true));
        assert!(takes(
            |request| request.blocked = true,
            ClientForm::None,
            "192.0.2.7",
            true
        ));
        let chosen = |client: &str, form, of: &str| {
            let (mut tails, mut request) = (Tails::default(), TailRequest::default());
            request.client = Some(client.to_owned());
            let mut parts = tails.add(&request, form, now)?;
            record(&mut tails, form, &head(of, false), 1, now);
            tails.flush(0, now);
            Ok::<_, String>(!received(&mut parts).is_empty())
        };
        let (whole, cut) = (ClientForm::Whole, ClientForm::Truncated);
        let (hashed, hidden) = (ClientForm::Hashed, ClientForm::None);
        assert_eq!(chosen("192.0.2.7", whole, "192.0.2.7"), Ok(true));
        assert_eq!(chosen("192.0.2.7", whole, "192.0.2.8"), Ok(false));
        assert_eq!(chosen("192.0.2.0/24", whole, "::ffff:192.0.2.8"), Ok(true));
        assert_eq!(
            chosen("192.0.2.7", cut, "192.0.2.8"),
            Ok(true),
            "not told apart"
        );
        assert_eq!(chosen("192.0.2.7", cut, "192.0.3.7"), Ok(false));
        assert_eq!(chosen("192.0.0.0/16", cut, "192.0.3.7"), Ok(true));
        assert_eq!(chosen("0123456789abcdef", hashed, "192.0.3.7"), Ok(false));
        for (client, form) in [("192.0.2.7", hashed), ("192.0.2.7", hidden), ("x", whole)] {
            assert!(chosen(client, form, "192.0.2.7").is_err(), "{client}");
        }
    }

    #[test]
    fn a_slow_reader_misses_queries_and_gets_their_number_before_the_next_ones() {
        let (mut tails, form) = (Tails::default(), ClientForm::None);
        let now = Instant::now();
        let mut parts = tails
            .add(&TailRequest::default(), form, now)
            .expect("added");
        let head = head("192.0.2.7", false);
        let mut total = 0;
        while tails.readers[0].missing == 0 {
            record(&mut tails, form, &head, 100, now);
            total += 100;
        }
        tails.flush(7, now);
        let text = received(&mut parts);
        assert!(text.len() <= PARTS * PART, "bounded");
        let got = text.lines().count();
        record(&mut tails, form, &head, 1, now);
        tails.flush(0, now);
        let rest = received(&mut parts);
        let missing = total - got + 7;
        assert_eq!(
            rest.lines().next(),
            Some(&*format!("{{\"missing\":{missing}}}"))
        );
        assert_eq!(rest.lines().count(), 2, "and the query after them");
        tails.flush(0, now);
        assert_eq!(received(&mut parts), "", "once");
        while tails.readers[0].missing == 0 {
            record(&mut tails, form, &head, 100, now);
        }
        tails.end("enough", now);
        let text = received(&mut parts);
        let last: Vec<_> = text.lines().rev().take(2).collect();
        assert_eq!(last[0], "{\"end\":\"enough\"}");
        assert!(last[1].starts_with("{\"missing\":"), "{}", last[1]);
    }

    #[test]
    fn readers_are_bounded_and_those_that_are_gone_or_stuck_make_room() {
        let (mut tails, form) = (Tails::default(), ClientForm::None);
        let mut now = Instant::now();
        let request = TailRequest::default();
        let mut open: Vec<_> = (0..READERS)
            .map(|_| tails.add(&request, form, now).expect("added"))
            .collect();
        assert!(tails.add(&request, form, now).is_err());
        open.pop();
        tails.flush(0, now);
        open.push(tails.add(&request, form, now).expect("there is room"));
        // The first one reads, the others don't.
        for _ in 0..PARTS * 4 {
            now += SILENCE;
            tails.flush(0, now);
            let _ = received(&mut open[0]);
        }
        assert_eq!(tails.readers.len(), 1);
        tails.end("enough", now);
        assert_eq!(received(&mut open[0]), "{\"end\":\"enough\"}\n");
        assert!(open[0].is_closed() && tails.is_empty());
    }
}
