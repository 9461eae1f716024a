//! Random queries, and the answers of a server to many of them.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Record, RecordType};

use super::truth;
use super::zones::{CLIENTS, Trigger, Zone};
use crate::support::client::query;
use crate::support::random::Random;

/// The queries that a client has sent and that have no answer yet.
const WINDOW: usize = 64;

/// A query of a client.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) name: String,
    pub(super) rtype: RecordType,
    pub(super) client: [u8; 4],
    /// Whether it asks for signatures.
    pub(super) dnssec: bool,
}

/// The parts of an answer that are compared. Signatures are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Dropped,
    Truncated,
    Answer(ResponseCode, BTreeSet<String>),
}

impl Question {
    /// A query near the rules of these zones.
    pub(super) fn random(random: &mut Random, zones: &[Zone]) -> Self {
        let zone = &zones[random.below(zones.len())];
        let trigger = zone.rules.keys().nth(random.below(zone.rules.len()));
        let mut name = match trigger {
            Some(Trigger::Exact(name) | Trigger::Wildcard(name)) if random.percent(70) => {
                name.clone()
            }
            _ => truth::random_name(random, 0),
        };
        for _ in 0..random.below(4).saturating_sub(1) {
            name = format!("{}.{name}", random.of(&["a", "b", "c", "d"]));
        }
        let rtype = match random.below(100) {
            0..45 => RecordType::A,
            45..65 => RecordType::AAAA,
            65..77 => RecordType::TXT,
            77..87 => RecordType::MX,
            87..95 => RecordType::CNAME,
            _ => RecordType::HTTPS,
        };
        let client = match random.percent(60) {
            true => CLIENTS[0],
            false => CLIENTS[random.below(CLIENTS.len())],
        };
        Self {
            name,
            rtype,
            client,
            dnssec: false,
        }
    }
}

/// The outcomes of these queries, by their numbers.
pub(super) fn ask(
    server: SocketAddr,
    questions: &[(usize, &Question)],
    patience: Duration,
) -> HashMap<usize, Outcome> {
    let mut by_client: HashMap<[u8; 4], Vec<(u16, &Question)>> = HashMap::new();
    for (number, question) in questions {
        let id = u16::try_from(*number).expect("few queries");
        let of_client = by_client.entry(question.client).or_default();
        of_client.push((id, question));
    }
    std::thread::scope(|scope| {
        let clients: Vec<_> = by_client
            .into_iter()
            .map(|(client, questions)| {
                scope.spawn(move || ask_as(client, server, &questions, patience))
            })
            .collect();
        let outcomes = clients
            .into_iter()
            .flat_map(|client| client.join().expect("no panic"));
        outcomes.map(|(id, outcome)| (id.into(), outcome)).collect()
    })
}

fn ask_as(
    client: [u8; 4],
    server: SocketAddr,
    questions: &[(u16, &Question)],
    patience: Duration,
) -> HashMap<u16, Outcome> {
    let socket = UdpSocket::bind((IpAddr::from(client), 0)).expect("a socket");
    socket.connect(server).expect("connected");
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    let mut outcomes = HashMap::new();
    let mut buffer = [0; 4096];
    let (mut rest, mut open) = (questions.iter(), 0);
    loop {
        while open < WINDOW
            && let Some((id, question)) = rest.next()
        {
            let mut message = query(&question.name, question.rtype);
            message.metadata.id = *id;
            let edns = message.edns.as_mut().expect("it has EDNS");
            edns.set_dnssec_ok(question.dnssec);
            socket
                .send(&message.to_vec().expect("a message"))
                .expect("sent");
            open += 1;
        }
        match socket.recv(&mut buffer) {
            Ok(len) => {
                let answer = Message::from_vec(&buffer[..len]).expect("an answer that can be read");
                outcomes.insert(answer.metadata.id, outcome(&answer));
                open = open.saturating_sub(1);
            }
            // All that are open have no answer.
            Err(_) => open = 0,
        }
        if open == 0 && rest.len() == 0 {
            return outcomes;
        }
    }
}

fn outcome(answer: &Message) -> Outcome {
    if answer.metadata.truncation {
        return Outcome::Truncated;
    }
    let records = answer.answers.iter();
    let records = records.filter(|record| record.record_type() != RecordType::RRSIG);
    Outcome::Answer(answer.metadata.response_code, records.map(text).collect())
}

/// A record without its TTL.
pub(super) fn text(record: &Record) -> String {
    let owner = record.name.to_lowercase();
    format!("{owner} {} {}", record.record_type(), record.data)
}
