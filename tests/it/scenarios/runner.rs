//! Runs the steps of a scenario against the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use socket2::{Domain, Socket, Type};

use super::clients::{Moved, on_loopback};
use super::compare::difference;
use super::configuration::{configuration, primaries, servers};
use super::entry::{Entry, Match};
use super::parse::{Action, Scenario, Step};
use super::primary::Primary;
use super::recursor::Recursor;
use crate::support::client::{PATIENCE, Port, Stream, query, until};
use crate::support::clock::Clock;
use crate::support::server::{Server, folder, tapis};
use crate::support::upstream::{Asked, Upstream, answer, bytes};

/// A step whose answer is not as expected.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) step: u32,
    /// The file, the step, and both messages.
    pub(super) report: String,
}

/// Runs a scenario.
///
/// # Errors
/// If the scenario can't be read, or has something that this program does not know.
pub(super) fn run(file: &str, text: &str) -> Result<Vec<Failure>, String> {
    let in_file = |why| format!("{file}: {why}");
    let Moved { text, default } = on_loopback(text).map_err(in_file)?;
    let scenario = Scenario::parse(&text).map_err(in_file)?;
    let world = World::of(&scenario).map_err(in_file)?;
    let world = Arc::new(world);
    let played = Arc::clone(&world);
    let upstream = Upstream::start_raw(move |asked| vec![bytes(&played.answer(asked))]);
    let config = configuration(&scenario, upstream.address).map_err(in_file)?;
    let files: Vec<(&str, &str)> = scenario
        .files
        .iter()
        .filter(|(name, _)| name != "tapis.toml")
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let folder = folder(&config, &files);
    let mut command = tapis();
    let path = folder.path().join("tapis.toml");
    command.arg("serve").arg("--config").arg(path);
    let clock = Clock::replace(&mut command, folder.path());
    let mut runner = Runner {
        file,
        default,
        world,
        clock,
        server: Server::run(command, folder),
        pending: None,
        dropped: 0,
        failures: Vec::new(),
    };
    runner.wait_for_transfers();
    for (index, step) in scenario.steps.iter().enumerate() {
        let is_answered = is_answered(&scenario.steps[index + 1..]);
        runner.perform(step, is_answered);
    }
    Ok(runner.failures)
}

/// Whether a query has an answer: a step checks it before the next query.
fn is_answered(later: &[Step]) -> bool {
    let mut ends = later.iter().filter_map(|step| match step.action {
        Action::Check(_) => Some(true),
        Action::Query(..) => Some(false),
        Action::TimePasses(_) | Action::Traffic => None,
    });
    ends.next().unwrap_or(false)
}

/// All servers that the server under test asks.
struct World {
    step: AtomicU32,
    recursor: Recursor,
    primaries: Vec<Primary>,
}

impl World {
    fn of(scenario: &Scenario) -> Result<Self, String> {
        Ok(Self {
            step: AtomicU32::new(0),
            recursor: Recursor::new(scenario, servers(scenario)?),
            primaries: primaries(scenario)?,
        })
    }

    fn step(&self) -> u32 {
        self.step.load(Ordering::Relaxed)
    }

    fn answer(&self, asked: &Asked) -> Message {
        let step = self.step();
        let query = &asked.message;
        let mut primaries = self.primaries.iter();
        let zone = primaries.find_map(|primary| primary.answer(step, query, &self.recursor));
        match (zone, query.queries.first()) {
            (Some(records), _) => {
                let mut message = answer(asked, ResponseCode::NoError);
                message.metadata.authoritative = true;
                message.answers = records;
                message
            }
            (None, Some(question)) => {
                let edns = query.edns.as_ref();
                let with_signatures = edns.is_some_and(|edns| edns.flags().dnssec_ok);
                let response = self.recursor.resolve(step, question, with_signatures);
                let mut message = answer(asked, response.rcode);
                message.answers = response.answer;
                message.authorities = response.authority;
                message
            }
            (None, None) => answer(asked, ResponseCode::FormErr),
        }
    }
}

struct Runner<'s> {
    file: &'s str,
    default: Ipv4Addr,
    world: Arc<World>,
    clock: Clock,
    server: Server,
    /// The last query, until its answer is checked.
    pending: Option<Pending>,
    /// How many queries were left without an answer.
    dropped: u64,
    failures: Vec<Failure>,
}

impl Runner<'_> {
    fn perform(&mut self, step: &Step, is_answered: bool) {
        self.world.step.store(step.number, Ordering::Relaxed);
        match &step.action {
            Action::Query(client, entry) => {
                let client = client.unwrap_or(IpAddr::V4(self.default));
                let pending = Pending::send(client, self.server.address, entry);
                match is_answered {
                    true => self.pending = Some(pending),
                    false => self.expect_silence(step, &pending),
                }
            }
            Action::Check(expected) => {
                let answer = self.pending.take().map(Pending::receive);
                let report = match answer.flatten() {
                    Some(answer) => difference(expected, &answer),
                    None => Some("there is no answer".to_owned()),
                };
                self.report(step, report);
            }
            Action::TimePasses(time) => {
                let primaries = &self.world.primaries;
                primaries.iter().for_each(Primary::release);
                self.clock.advance(*time);
            }
            Action::Traffic => self.wait_for_transfers(),
        }
    }

    /// Waits until the server has dropped a query, or answered it nevertheless.
    fn expect_silence(&mut self, step: &Step, pending: &Pending) {
        let what = format!("{}, step {}: the query is dropped", self.file, step.number);
        let server = &self.server;
        let is_dropped = || server.count("blocked_dropped") > self.dropped;
        until(&what, || pending.has_answer() || is_dropped());
        match pending.has_answer() {
            true => self.report(step, Some("expected no answer".to_owned())),
            false => self.dropped += 1,
        }
    }

    /// Waits until the zones are in force as their primaries have them.
    fn wait_for_transfers(&self) {
        for primary in &self.world.primaries {
            let serial = primary.serial(self.world.step(), &self.world.recursor);
            let serial = serial.expect("the range has an SOA record").to_string();
            let what = format!("{}: serial {serial} is in force", self.file);
            until(&what, || self.in_force().as_ref() == Some(&serial));
        }
    }

    /// The serial of the zone in force.
    fn in_force(&self) -> Option<String> {
        let probe = query(&Primary::probe().to_string(), RecordType::TXT);
        let port = Port::open_at(self.default.octets(), self.server.address);
        port.send(&probe);
        let answer = port.receive();
        answer
            .answers
            .first()
            .and_then(|record| match &record.data {
                RData::TXT(text) => Some(text.to_string()),
                _ => None,
            })
    }

    fn report(&mut self, step: &Step, what: Option<String>) {
        if let Some(what) = what {
            let (file, number, line) = (self.file, step.number, step.line);
            self.failures.push(Failure {
                step: number,
                report: format!("{file}:{line}, step {number}: - expected, + received\n{what}"),
            });
        }
    }
}

/// A query that was sent.
enum Pending {
    Udp(Port),
    Tcp(Stream),
}

impl Pending {
    fn send(client: IpAddr, server: SocketAddr, entry: &Entry) -> Self {
        let message = entry.query();
        let IpAddr::V4(address) = client else {
            unreachable!("clients are on the loopback");
        };
        if !entry.has(Match::Tcp) {
            let port = Port::open_at(address.octets(), server);
            port.send(&message);
            return Self::Udp(port);
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .bind(&SocketAddr::new(client, 0).into())
            .expect("bound");
        socket.connect(&server.into()).expect("connected");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut stream = Stream(stream);
        stream.send(&message);
        Self::Tcp(stream)
    }

    /// The answer; `None` if there is none in time.
    fn receive(self) -> Option<Message> {
        match self {
            Self::Udp(port) => {
                let mut buffer = [0; 65_535];
                let len = port.0.recv(&mut buffer).ok()?;
                Message::from_vec(&buffer[..len]).ok()
            }
            Self::Tcp(mut stream) => stream.receive(),
        }
    }

    /// Whether an answer has arrived.
    fn has_answer(&self) -> bool {
        let mut buffer = [0];
        let peeked = match self {
            Self::Udp(port) => {
                port.0.set_nonblocking(true).expect("set");
                port.0.peek(&mut buffer)
            }
            Self::Tcp(stream) => {
                stream.0.set_nonblocking(true).expect("set");
                stream.0.peek(&mut buffer)
            }
        };
        peeked.is_ok_and(|len| len > 0)
    }
}
