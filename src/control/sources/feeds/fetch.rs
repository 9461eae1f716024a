//! One fetch of a zone from one primary: asks for the serial, then transfers what is newer into a sink.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::connection::{Broken, Budget, Connection};
use super::fault::{Fault, PrimaryFault};
use super::limits::{Limits, Progress};
use super::sink::{Begin, Change, Sink};
use super::tls::Tls;
use crate::wire::Rcode;
use crate::wire::name::Name;
use crate::wire::transfer::query::Query;
use crate::wire::transfer::tsig::{Key, Seconds, Session, TsigError};
use crate::wire::transfer::{
    Event, Kind, Request, Response, Serial, Soa, Transfer, TransferError, newest,
};

/// The longest time between the first message of an answer to IXFR and the second one, if the first has only the SOA
/// record of a newer version. By UDP, such an answer means that the changes do not fit (RFC 1995, section 4). Some primaries
/// send it by TCP, and no more, if they do not have the changes.
const ALONE: Duration = Duration::from_secs(2);

/// What to fetch, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a> {
    /// The zone.
    pub zone: &'a Name,
    /// The primary.
    pub primary: SocketAddr,
    /// How connections are encrypted, if they are.
    pub tls: Option<&'a Tls>,
    /// The key that signs the queries and the answers.
    pub key: Option<&'a Key>,
    /// The serial of the version that is there already.
    pub ours: Option<Serial>,
    /// The serial of a version that need not be transferred again, although it is not ours.
    pub known: Option<Serial>,
    /// What is wanted.
    pub want: Want,
    /// The limits.
    pub limits: Limits,
    /// Shows how far the transfer has come.
    pub progress: &'a Progress,
}

/// What is wanted of a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A version that is newer than ours, as changes if the primary has them.
    Newer,
    /// The whole zone, unless the primary has an older version: after [`Fault::BrokenChanges`], or because its rules must be
    /// checked again.
    Whole,
    /// The whole zone, even if its serial has gone back.
    WholeOfAnySerial,
    /// The serial of its version, and nothing more.
    Serial,
}

impl Want {
    /// Whether the whole zone is wanted, even if its serial is ours.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Whole | Self::WholeOfAnySerial)
    }
}

/// The result of a fetch that succeeded.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The SOA record of the newest version.
    pub soa: Soa,
    /// What was transferred: nothing if our version is the newest.
    pub kind: Kind,
    /// Whether changes were asked for, but the whole zone came.
    pub is_whole_for_changes: bool,
    /// The number of records transferred.
    pub records: u64,
    /// The number of bytes received.
    pub bytes: u64,
    /// The time to the first answer.
    pub latency: Duration,
    /// The time in total.
    pub took: Duration,
}

/// Why a fetch failed.
#[derive(Debug)]
pub enum FetchError<E> {
    /// The primary is at fault, or the network.
    Primary(PrimaryFault),
    /// The sink could not take more.
    Sink(E),
}

impl Fetch<'_> {
    /// Fetches the zone. A sink that has taken a part when an error is returned must discard it.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn run<S: Sink>(&self, sink: &mut S) -> Result<Fetched, FetchError<S::Error>> {
        let start = Instant::now();
        let mut budget = Budget::new(self.limits, self.progress);
        let outcome = self.steps(sink, start, &mut budget).await;
        outcome.map_err(|error| {
            let (fault, detail) = match error {
                Failure::Sink(error) => return FetchError::Sink(error),
                Failure::Broken(Broken { fault, detail }) => (fault, detail),
                Failure::Rcode(error) => (error.into(), error.to_string()),
                Failure::OnlySoa => {
                    let error = TransferError::NoSoa;
                    (error.into(), error.to_string())
                }
            };
            FetchError::Primary(PrimaryFault {
                fault,
                zone: Box::new(self.zone.clone()),
                primary: self.primary,
                detail,
            })
        })
    }

    async fn steps<S: Sink>(
        &self,
        sink: &mut S,
        start: Instant,
        budget: &mut Budget<'_>,
    ) -> Result<Fetched, Failure<S::Error>> {
        let mut connection = Connection::open(self.primary, self.tls, budget).await?;
        let soa = self.ask_soa(&mut connection, budget).await?;
        let latency = start.elapsed();
        let fetched = |soa, kind, records, bytes| Fetched {
            soa,
            kind,
            is_whole_for_changes: false,
            records,
            bytes,
            latency,
            took: start.elapsed(),
        };
        let is_known = [self.known, self.ours].contains(&Some(soa.serial));
        if is_known && !self.want.is_whole() {
            return Ok(fetched(soa, Kind::UpToDate, 0, budget.bytes));
        }
        self.check_age(&soa)?;
        if self.want == Want::Serial {
            return Ok(fetched(soa, Kind::UpToDate, 0, budget.bytes));
        }
        let ours = self.ours.filter(|_| !self.want.is_whole());
        let mut query = ours.map_or(Query::Axfr, Query::Ixfr);
        let done = match self.transfer(query, &mut connection, budget, sink).await {
            // Some primaries close the connection after the first answer.
            Err(Failure::Broken(broken))
                if broken.fault == Fault::Cut && connection.received() == 1 =>
            {
                connection = Connection::open(self.primary, self.tls, budget).await?;
                self.transfer(query, &mut connection, budget, sink).await
            }
            other => other,
        };
        let has_changes = match &done {
            Err(Failure::Rcode(TransferError::Rcode(code))) => !is_not_implemented(*code),
            Err(Failure::OnlySoa) => false,
            _ => true,
        };
        let done = match done {
            Err(_) if query != Query::Axfr && !has_changes => {
                query = Query::Axfr;
                connection = Connection::open(self.primary, self.tls, budget).await?;
                self.transfer(query, &mut connection, budget, sink).await
            }
            other => other,
        };
        let Done { soa, kind, records } = done?;
        Ok(Fetched {
            is_whole_for_changes: query != Query::Axfr && kind == Kind::Whole,
            ..fetched(soa, kind, records, budget.bytes)
        })
    }

    /// Checks that a version is not older than ours, unless that is wanted.
    fn check_age(&self, soa: &Soa) -> Result<(), TransferError> {
        let theirs = soa.serial;
        let ours = self.ours.filter(|_| self.want != Want::WholeOfAnySerial);
        match ours {
            Some(ours) if theirs != ours && !theirs.is_newer_than(ours) => {
                Err(TransferError::SerialGoneBack { theirs, ours })
            }
            _ => Ok(()),
        }
    }

    /// Asks for the SOA record of the newest version.
    async fn ask_soa<E>(
        &self,
        connection: &mut Connection,
        budget: &mut Budget<'_>,
    ) -> Result<Soa, Failure<E>> {
        let id = rand::random();
        let mut message = Vec::new();
        let mut session = self.ask(Query::Soa, id, connection, budget).await?;
        connection.receive(&mut message, budget).await?;
        check(session.as_mut(), &mut message)?;
        Ok(newest(&message, id, self.zone)?)
    }

    /// Sends a query, signed if there is a key.
    async fn ask(
        &self,
        query: Query,
        id: u16,
        connection: &mut Connection,
        budget: &Budget<'_>,
    ) -> Result<Option<Session>, Broken> {
        let query = query.write(id, self.zone);
        let signed = self.key.and_then(|key| Session::sign(key, &query, now()));
        let (session, query) = match signed {
            Some((session, query)) => (Some(session), query),
            None => (None, query),
        };
        connection.send(&query, budget).await?;
        Ok(session)
    }

    /// Makes one transfer.
    async fn transfer<S: Sink>(
        &self,
        query: Query,
        connection: &mut Connection,
        budget: &mut Budget<'_>,
        sink: &mut S,
    ) -> Result<Done, Failure<S::Error>> {
        let request = Request {
            id: rand::random(),
            zone: self.zone.clone(),
            ours: match query {
                Query::Ixfr(serial) => Some(serial),
                Query::Soa | Query::Axfr => None,
            },
            max_records: self.limits.records,
        };
        let mut session = self.ask(query, request.id, connection, budget).await?;
        let mut transfer = Transfer::new(&request);
        let (mut begun, mut message, mut first) = (None, Vec::new(), None);
        while !transfer.has_ended() {
            let is_alone = begun.is_none() && first.is_some();
            if is_alone && !connection.goes_on(budget, ALONE).await {
                return Err(Failure::OnlySoa);
            }
            connection.receive(&mut message, budget).await?;
            check(session.as_mut(), &mut message)?;
            for event in transfer.read(&message)? {
                match event? {
                    Event::Begin { soa, kind } => {
                        // Behind one address, there may be several servers, so a transfer may bring an older version than
                        // the one that was announced just now. As in BIND, it is used if it is not older than ours, and
                        // the next refresh brings the newest: RFC 5936 and RFC 1995 do not relate a transfer to a query
                        // before it.
                        self.check_age(&soa)?;
                        let begin = Begin {
                            request: &request,
                            soa: &soa,
                            kind,
                        };
                        if kind != Kind::UpToDate {
                            sink.begin(&begin).await.map_err(Failure::Sink)?;
                        }
                        begun = Some((soa, kind));
                    }
                    Event::Delete(record) => sink
                        .change(Change::Delete, &record)
                        .map_err(Failure::Sink)?,
                    Event::Add(record) => {
                        sink.change(Change::Add, &record).map_err(Failure::Sink)?;
                    }
                    Event::Record(record) => sink.record(&record),
                    Event::End => {}
                }
            }
            self.progress.set(transfer.records(), budget.bytes);
            match begun {
                // The kind is known after the second record, which the second message may begin with.
                None => first = Some(message.clone()),
                Some((_, Kind::Whole)) => {
                    if let Some(first) = first.take() {
                        sink.message(&first).await.map_err(Failure::Sink)?;
                    }
                    sink.message(&message).await.map_err(Failure::Sink)?;
                }
                Some(_) => {}
            }
        }
        if let Some(session) = session {
            session.finish().map_err(of_signature)?;
        }
        let (soa, kind) = begun.ok_or(TransferError::NoSoa)?;
        if kind == Kind::Whole && transfer.contents() == 0 {
            return Err(Failure::Broken(Broken {
                fault: Fault::EmptyZone,
                detail: format!("serial {}", soa.serial),
            }));
        }
        if kind != Kind::UpToDate {
            sink.end().await.map_err(Failure::Sink)?;
        }
        Ok(Done {
            soa: *soa,
            kind,
            records: transfer.records(),
        })
    }
}

/// A transfer that is complete.
struct Done {
    soa: Soa,
    kind: Kind,
    records: u64,
}

/// Why a step failed.
enum Failure<E> {
    Broken(Broken),
    /// The response code is an error. Kept, because it may be a reason to ask in another way.
    Rcode(TransferError),
    /// The answer to IXFR has the SOA record of a newer version, and nothing else.
    OnlySoa,
    Sink(E),
}

impl<E> From<Broken> for Failure<E> {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl<E> From<TransferError> for Failure<E> {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Rcode(_) => Self::Rcode(error),
            _ => Self::Broken(Broken {
                fault: error.into(),
                detail: error.to_string(),
            }),
        }
    }
}

/// Checks the signature of a message, if there is a key. An error response need not be signed: it only gives the fault
/// its name.
fn check<E>(session: Option<&mut Session>, message: &mut Vec<u8>) -> Result<(), Failure<E>> {
    let Some(session) = session else {
        return Ok(());
    };
    let Err(error) = session.check(message, now()) else {
        return Ok(());
    };
    let rcode = Response::parse(message).map_or(0, |response| response.rcode());
    match error {
        TsigError::Unsigned if rcode != Rcode::NoError as u16 => {
            Err(TransferError::Rcode(rcode).into())
        }
        error => Err(of_signature(error).into()),
    }
}

fn of_signature(error: TsigError) -> Broken {
    Broken {
        fault: error.into(),
        detail: error.to_string(),
    }
}

/// Whether a primary that does not implement a type of query answers with this code.
fn is_not_implemented(code: u16) -> bool {
    [Rcode::FormErr as u16, Rcode::NotImp as u16].contains(&code)
}

fn now() -> Seconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
