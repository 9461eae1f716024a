//! A secondary that transfers a zone once, and returns all of it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

use socket2::{Domain, Socket, Type};
use tapis::wire::name::Name;
use tapis::wire::transfer::query::Query;
use tapis::wire::transfer::tsig::{Algorithm, Key, Session};
use tapis::wire::transfer::{Event, Kind, Record, Request, Serial, Transfer};
use tapis::wire::{class, rtype};

use super::ZONE;
use crate::support::client::PATIENCE;

const ID: u16 = 4711;

/// A secondary.
#[derive(Clone)]
pub(super) struct Secondary {
    primary: SocketAddr,
    address: [u8; 4],
    key: Option<Key>,
}

/// What the primary sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) kind: &'static str,
    pub(super) serial: u32,
    pub(super) messages: usize,
    /// Those of a whole zone, without the SOA and NS records of the apex.
    pub(super) records: BTreeSet<String>,
    /// Whether each record was deleted.
    changes: Vec<(bool, String)>,
}

impl Got {
    /// Applies changes.
    pub(super) fn apply(&self, records: &mut BTreeSet<String>) {
        for (is_deleted, record) in &self.changes {
            let applied = match is_deleted {
                true => records.remove(record),
                false => records.insert(record.clone()),
            };
            assert!(applied, "{record}");
        }
    }
}

impl Secondary {
    pub(super) fn new(primary: SocketAddr) -> Self {
        Self {
            primary,
            address: [127, 0, 0, 1],
            key: None,
        }
    }

    pub(super) fn with_key(mut self, secret: [u8; 32]) -> Self {
        let name = Name::from_text("transfer.key").expect("a name");
        self.key = Key::new(&name, Algorithm::Sha256, &secret);
        self
    }

    /// The same secondary with another address.
    pub(super) fn at(mut self, address: [u8; 4]) -> Self {
        self.address = address;
        self
    }

    pub(super) fn whole(&self) -> Got {
        self.ask(ZONE, rtype::AXFR).expect("a zone")
    }

    /// The changes since a version.
    pub(super) fn changes(&self, serial: u32) -> Got {
        let query = Query::Ixfr(Serial(serial)).write(ID, &name(ZONE));
        self.transfer(&query, Some(serial)).expect("a transfer")
    }

    pub(super) fn soa_by_udp(&self) -> Got {
        self.ask_by_udp(ZONE, rtype::SOA).expect("a record")
    }

    /// Sends a query over TCP. The error is the response code.
    pub(super) fn ask(&self, zone: &str, kind: u16) -> Result<Got, &'static str> {
        self.transfer(&query(zone, kind), None)
    }

    /// The same by UDP. The answer is read as one to a query for changes since the serial 1.
    pub(super) fn ask_by_udp(&self, zone: &str, kind: u16) -> Result<Got, &'static str> {
        let (mut session, query) = self.sign(&query(zone, kind));
        let socket = UdpSocket::bind((IpAddr::from(self.address), 0)).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.send_to(&query, self.primary).expect("sent");
        let mut buffer = vec![0; 65_535];
        let len = socket.recv(&mut buffer).expect("an answer");
        let message = buffer[..len].to_vec();
        error(&message)?;
        check(&mut session, &message);
        // The end of a SOA record: the serial and four times.
        let end = message.len() - if session.is_some() { tsig_len() } else { 0 };
        let serial = &message[end - 20..][..4];
        Ok(Got {
            kind: "up to date",
            serial: u32::from_be_bytes(serial.try_into().expect("four bytes")),
            messages: 1,
            records: BTreeSet::new(),
            changes: Vec::new(),
        })
    }

    fn sign(&self, query: &[u8]) -> (Option<Session>, Vec<u8>) {
        match &self.key {
            Some(key) => {
                let (session, signed) = Session::sign(key, query, now()).expect("signed");
                (Some(session), signed)
            }
            None => (None, query.to_vec()),
        }
    }

    fn transfer(&self, query: &[u8], ours: Option<u32>) -> Result<Got, &'static str> {
        let (mut session, query) = self.sign(query);
        let mut stream = self.connect();
        let framed = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
        stream.write_all(&framed).expect("sent");
        let mut transfer = Transfer::new(&Request {
            id: ID,
            zone: name(ZONE),
            ours: ours.map(Serial),
            max_records: 10_000_000,
        });
        let mut got = Got {
            kind: "none",
            serial: 0,
            messages: 0,
            records: BTreeSet::new(),
            changes: Vec::new(),
        };
        while !transfer.has_ended() {
            let mut len = [0; 2];
            stream.read_exact(&mut len).expect("a message");
            let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut message).expect("a message");
            error(&message)?;
            check(&mut session, &message);
            got.messages += 1;
            for event in transfer.read(&message).expect("a transfer") {
                got.take(&event.expect("a record"));
            }
        }
        if let Some(session) = session {
            session.finish().expect("signed to the end");
        }
        Ok(got)
    }

    fn connect(&self) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let local = SocketAddr::new(self.address.into(), 0);
        socket.bind(&local.into()).expect("bound");
        socket.connect(&self.primary.into()).expect("connected");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }
}

impl Got {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Begin { soa, kind } => {
                self.serial = soa.serial.0;
                self.kind = match kind {
                    Kind::Whole => "whole",
                    Kind::Changes => "changes",
                    Kind::UpToDate => "up to date",
                };
            }
            Event::Record(record) if record.rtype != rtype::NS => {
                assert!(self.records.insert(shown(record)), "{}", shown(record));
            }
            Event::Record(_) | Event::End => {}
            Event::Delete(record) => self.changes.push((true, shown(record))),
            Event::Add(record) => self.changes.push((false, shown(record))),
        }
    }
}

fn shown(record: &Record<'_>) -> String {
    let mut owner = Name::default();
    record.read_owner(&mut owner).expect("a name");
    let data = record.raw_data();
    format!("{owner} {} {} {data:?}", record.ttl, record.rtype)
}

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// A query for a transfer.
pub(super) fn query(zone: &str, kind: u16) -> Vec<u8> {
    let mut query = match kind {
        rtype::IXFR => Query::Ixfr(Serial(1)),
        _ => Query::Axfr,
    }
    .write(ID, &name(zone));
    let at = 12 + name(zone).wire().len();
    query[at..at + 2].copy_from_slice(&kind.to_be_bytes());
    query[at + 2..at + 4].copy_from_slice(&class::IN.to_be_bytes());
    query
}

fn error(message: &[u8]) -> Result<(), &'static str> {
    match message[3] & 0x0F {
        0 => Ok(()),
        1 => Err("FORMERR"),
        2 => Err("SERVFAIL"),
        5 => Err("REFUSED"),
        9 => Err("NOTAUTH"),
        code => panic!("response code {code}"),
    }
}

fn check(session: &mut Option<Session>, message: &[u8]) {
    if let Some(session) = session {
        session
            .check(&mut message.to_vec(), now())
            .expect("authentic");
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// The length of the TSIG record of a key with the name of the test's.
fn tsig_len() -> usize {
    let owner = "transfer.key".len() + 2;
    let data = "hmac-sha256".len() + 2 + 6 + 2 + 2 + 32 + 2 + 2 + 2;
    owner + 10 + data
}
