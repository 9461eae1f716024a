//! The connection to a server that queries share, and the task that opens it.
//!
//! Queries wait for the task without a lock, each until its own deadline. After a failure the next connection is opened
//! only after a pause.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::connection::Connection;
use super::peer::Peer;
use super::state::{ConnectionState, lock};
use crate::serve::upstream::exchange::ExchangeError;

/// How long the opening of a connection may take, its TLS handshake included.
const OPENING: Duration = Duration::from_secs(5);
/// How long the next connection is not opened after one that brought no response; doubled with each further one, up to
/// the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// If this many connections in a row end with several queries unanswered and after few responses, the server does not
/// support pipelining: each connection to it carries only one query for some time (RFC 7766, section 6.2.4).
const SHORT_LIVED: u32 = 3;
const FEW_RESPONSES: usize = 16;
const WITHOUT_PIPELINING: Duration = Duration::from_secs(5 * 60);

type Opened = Option<Result<Connection, ExchangeError>>;

/// The shared connection.
#[derive(Default)]
pub(super) struct SharedConnection(Mutex<State>);

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// The outcome of the task that opens a connection, while there is one.
    opening: Option<watch::Receiver<Opened>>,
    /// How many connections in a row brought no response, or were not established.
    useless: u32,
    short_lived: u32,
    /// When the last of those ended.
    last_short: Option<Instant>,
    /// The next connection is not opened before.
    not_before: Option<Instant>,
    /// Until this time, each connection to the server gets only one query.
    single_until: Option<Instant>,
}

impl SharedConnection {
    /// The connection, and whether it is new. Waits until one is open, or the deadline.
    pub(super) async fn get(
        self: &Arc<Self>,
        peer: &Peer,
        deadline: Instant,
    ) -> Result<(Connection, bool), ExchangeError> {
        let mut opening = {
            let mut state = lock(&self.0);
            state.remove_closed();
            if let Some(kept) = &state.connection {
                return Ok((kept.clone(), false));
            }
            match &state.opening {
                Some(opening) => opening.clone(),
                None => self.open(&mut state, peer),
            }
        };
        let opened = timeout_at(deadline, opening.wait_for(Option::is_some));
        match opened.await {
            Ok(Ok(opened)) => match &*opened {
                Some(Ok(connection)) => Ok((connection.clone(), true)),
                Some(Err(error)) => Err(*error),
                None => Err(ExchangeError::Unreachable),
            },
            // The task ended without an outcome: it panicked, or the server stops. The next query starts another.
            Ok(Err(_)) => {
                let mut state = lock(&self.0);
                state.opening.take_if(|kept| kept.has_changed().is_err());
                Err(ExchangeError::Unreachable)
            }
            Err(_) => Err(ExchangeError::Timeout),
        }
    }

    /// The connection if it is open, without waiting.
    pub(super) fn kept(&self) -> Option<Connection> {
        let mut state = lock(&self.0);
        state.remove_closed();
        match state.single_until {
            Some(until) if Instant::now() < until => None,
            _ => state.connection.clone(),
        }
    }

    /// Makes later queries use another connection. Queries that wait on this one may still be answered.
    pub(super) fn discard(&self, connection: &Arc<ConnectionState>) {
        let mut state = lock(&self.0);
        state.connection.take_if(|kept| kept.is_of(connection));
    }

    /// Whether each connection gets only one query.
    pub(super) fn is_single(&self) -> bool {
        let mut state = lock(&self.0);
        // The connection that a query was just lost with may be the reason.
        state.remove_closed();
        state
            .single_until
            .is_some_and(|until| Instant::now() < until)
    }

    /// Waits until the next connection may be opened.
    pub(super) async fn pause_over(&self) {
        loop {
            let until = lock(&self.0).not_before;
            match until {
                // Another failure may make the pause longer meanwhile.
                Some(until) if Instant::now() < until => sleep_until(until).await,
                _ => return,
            }
        }
    }

    /// Records the end of a connection for a single query, whose opening began at `since`.
    pub(super) fn single_ended(&self, since: Instant, is_answered: bool) {
        let mut state = lock(&self.0);
        if is_answered {
            state.useful();
        } else if state.not_before.is_none_or(|until| until <= since) {
            // Others that began before the pause fail for the same reason.
            state.pause();
        }
    }

    /// Starts the task that opens a connection.
    fn open(self: &Arc<Self>, state: &mut State, peer: &Peer) -> watch::Receiver<Opened> {
        let (outcome, opening) = watch::channel(None);
        state.opening = Some(opening.clone());
        let (shared, peer, not_before) = (Arc::clone(self), peer.clone(), state.not_before);
        tokio::spawn(async move {
            if let Some(until) = not_before {
                sleep_until(until).await;
            }
            let opened = Connection::open(&peer, Instant::now() + OPENING).await;
            let mut state = lock(&shared.0);
            state.opening = None;
            match &opened {
                Ok(connection) => state.connection = Some(connection.clone()),
                Err(_) => state.pause(),
            }
            drop(state);
            // All queries may have given up.
            let _ = outcome.send(Some(opened));
        });
        opening
    }
}

impl State {
    /// Forgets the connection if it has ended.
    fn remove_closed(&mut self) {
        if let Some(ended) = self.connection.take_if(|kept| kept.is_closed()) {
            self.ended(&ended);
        }
    }

    /// Records the end of a connection.
    fn ended(&mut self, connection: &Connection) {
        let end = connection.state.end_report();
        if end.responses == 0 || end.is_flooded {
            self.pause();
        } else {
            self.useful();
        }
        if end.responses >= FEW_RESPONSES {
            self.short_lived = 0;
        } else if end.lost_pipelined && !end.is_flooded {
            let now = Instant::now();
            // Cuts that are far apart have other reasons.
            let recent = self.last_short.replace(now);
            if recent.is_none_or(|at| now >= at + WITHOUT_PIPELINING) {
                self.short_lived = 0;
            }
            self.short_lived += 1;
        }
        if self.short_lived >= SHORT_LIVED {
            self.short_lived = 0;
            self.single_until = Some(Instant::now() + WITHOUT_PIPELINING);
        }
    }

    /// The next connection is opened without delay.
    fn useful(&mut self) {
        self.useless = 0;
        self.not_before = None;
    }

    /// Delays the next connection.
    fn pause(&mut self) {
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.useless.min(8));
        self.useless += 1;
        self.not_before = Some(Instant::now() + pause.min(LONGEST_PAUSE));
    }
}
