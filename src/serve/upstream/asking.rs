//! Asks the servers of a pool: decides which to ask first, when to ask another, and when to give up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::bounds::is_usable;
use super::exchange::{ExchangeError, How, Transport};
use super::reply::{Again, Evaluation, Received, Sent};
use super::server::Server;
use super::stream::placed::OpenExchange;
use super::{Pool, PriorAttempt, Servers, Unanswered};
use crate::serve::cache::Key;
use crate::wire::answer::{Answer, is_cut};
use crate::wire::edns::code;

/// The maximum number of times that one query is sent: to each server, and in total. If there are more servers than the
/// total, each is asked once. A server that has responded is not asked again.
pub(super) const ROUNDS: usize = 3;
pub(super) const MOST_TRIES: usize = 6;
/// The maximum number of queries of one attempt: after the first one, the query may be repeated without EDNS, over TCP,
/// or without random letter case.
const MOST_STEPS: usize = 6;

/// How long after the deadline of a test its result is recorded, at the latest.
const TEST_GRACE: Duration = Duration::from_secs(1);

/// A query to the pool.
#[derive(Clone, Copy)]
struct Request<'k> {
    key: &'k Key,
    client: Option<usize>,
    deadline: Instant,
}

/// How an attempt begins.
enum Begin {
    /// With a query in the usual way.
    Usual,
    /// With a query in another way.
    Again(Again),
    /// With a query that has been sent already.
    Open(OpenExchange),
}

/// The end of one attempt.
struct Try {
    /// The index of the server in the order in which this query asks them.
    place: usize,
    took: Duration,
    /// Whether it responded, usably or not.
    responded: bool,
    /// `Ok(None)` if there were responses, but none of them is an answer.
    result: Result<Option<Answer>, ExchangeError>,
    /// Whether the server's health has changed by it already.
    is_noted: bool,
}

impl Pool {
    /// Asks until there is a usable answer or the timeout. If a server is slow, the next one is asked in parallel, and
    /// the first usable answer counts. With one server only, the query is repeated, because a datagram may be lost. A
    /// `prior` attempt counts as one of the tries. `client` is the client that the query is sent for, if there is one.
    ///
    /// If an answer by which a server blocks the name must not be used at once, each other server is asked once. Without
    /// another answer, the first one by which a server blocks the name is used.
    ///
    /// # Errors
    /// [`Unanswered`] if no server sent an answer with response code NOERROR or NXDOMAIN.
    pub async fn ask(
        self: &Arc<Self>,
        key: &Key,
        client: Option<usize>,
        prior: Option<PriorAttempt>,
    ) -> Result<Answer, Unanswered> {
        let (now, timeout) = (Instant::now(), self.timeout());
        let deadline = prior.as_ref().map_or(now, |prior| prior.since) + timeout;
        let mut failure = Unanswered {
            code: code::NO_REACHABLE_AUTHORITY,
            said: None,
            ours: false,
        };
        let (strategy, (mut servers, at_once)) = {
            let selection = self.intake.selection();
            let mut held = self.lock();
            let (order, at_once) = held.order(&selection, now);
            // Otherwise it was recorded for the prior attempt.
            if prior.is_none() {
                held.pass_over(&selection, &order, at_once);
            }
            let servers = order.into_iter().map(|at| Arc::clone(&held.all[at]));
            (selection.strategy, (servers.collect::<Vec<_>>(), at_once))
        };
        let count = (servers.len() * ROUNDS).min(MOST_TRIES.max(servers.len()));
        let share = timeout / count.max(1) as u32;
        let request = Request {
            key,
            client,
            deadline,
        };
        let left = count - usize::from(prior.is_some()).min(count);
        let mut tries = FuturesUnordered::new();
        // The server that is waited for first: with several at once, the last of these.
        let mut first = None;
        let mut begun = None;
        if let Some(prior) = prior {
            failure.said = prior.said;
            let is_it = |server: &Arc<Server>| Arc::ptr_eq(server, &prior.server);
            let begin = match (prior.open, prior.again) {
                (Some(open), _) => Some(Begin::Open(open)),
                (None, again) => again.map(Begin::Again),
            };
            // The server of the prior attempt had its turn: if it has not responded, all others are asked before it. A
            // server that was removed meanwhile is not asked again, but an open query is waited for.
            match servers.iter().position(is_it) {
                Some(at) if prior.responded => begun = Some((at, true, begin)),
                Some(at) => {
                    let silent = servers.remove(at);
                    self.update(&silent, |health| health.failed(Instant::now()));
                    servers.push(silent);
                    begun = Some((servers.len() - 1, false, begin));
                }
                None if matches!(begin, Some(Begin::Open(_))) => {
                    servers.push(prior.server);
                    begun = Some((servers.len() - 1, true, begin));
                }
                None => {}
            }
        }
        let mut responded = vec![false; servers.len()];
        let mut tried = responded.clone();
        // One query counts as at most one failure of each server, however often it was repeated.
        let mut charged = responded.clone();
        // A query on a connection can't be lost without a sign of it, so it is not repeated while the first one waits.
        let mut waits_on_connection = vec![false; servers.len()];
        if let Some((place, is_done, begin)) = begun {
            responded[place] = is_done;
            charged[place] = true;
            tried[place] = true;
            if let Some(begin) = begin {
                waits_on_connection[place] = matches!(begin, Begin::Open(_));
                // The server of an open query was late, so the next one is asked at once.
                first = (!waits_on_connection[place]).then_some(place);
                let attempt = self.attempt(place, &servers[place], begin, request);
                tries.push(attempt.left_future());
            }
        }
        let mut plan = (0..servers.len()).cycle().take(left);
        // Of the servers that were asked at once, those that have not responded.
        let mut open = 0;
        if at_once > 1 {
            for place in plan.by_ref().take(at_once) {
                if tried[place] {
                    continue;
                }
                tries.push(
                    self.detached(place, &servers[place], request)
                        .right_future(),
                );
                (tried[place], charged[place]) = (true, true);
                waits_on_connection[place] = servers[place].is_encrypted();
                first = Some(place);
                open += 1;
            }
        }
        // When the server that was asked last should have answered.
        let mut due = now;
        loop {
            let has_block = failure.said.as_ref().is_some_and(is_usable);
            let is_early = open > 0 && Instant::now() < due;
            let asked = first.take().or_else(|| {
                if is_early {
                    return None;
                }
                let is_done = |place: usize| responded[place] || has_block && tried[place];
                let can_ask = |place: usize| !(is_done(place) || waits_on_connection[place]);
                // While no server can be asked, the plan stays as it is: a query on a connection may yet fail.
                (0..servers.len()).find(|&place| can_ask(place))?;
                let next = plan.find(|&place| can_ask(place))?;
                tried[next] = true;
                waits_on_connection[next] = servers[next].is_encrypted();
                let attempt = self.attempt(next, &servers[next], Begin::Usual, request);
                tries.push(attempt.left_future());
                Some(next)
            });
            let until = match asked {
                Some(place) => {
                    let patience = self.update(&servers[place], |health| health.patience(strategy));
                    due = deadline.min(Instant::now() + patience.unwrap_or(share).min(share));
                    due
                }
                None if tries.is_empty() => return failure.end(),
                None if is_early || has_block => due,
                None => deadline,
            };
            tokio::select! {
                biased;
                Some(done) = tries.next() => {
                    // A server that refuses is not asked again: it would refuse again, and may do so because of the load.
                    let is_refused = matches!(done.result, Err(ExchangeError::Refused));
                    responded[done.place] |= done.responded || is_refused;
                    open -= usize::from(done.is_noted);
                    waits_on_connection[done.place] = false;
                    let server = &servers[done.place];
                    let answer = self.evaluate_try(done, server, &mut charged, &mut failure);
                    if let Some(answer) = answer {
                        return Ok(answer);
                    }
                }
                () = sleep_until(until) => {
                    let is_crowded = self.connector.crowded();
                    if let Some(late) = asked && !is_crowded {
                        self.charge(&servers[late], late, &mut charged);
                    }
                    if until == deadline || asked.is_none() && !is_early {
                        failure.ours |= is_crowded;
                        return failure.end();
                    }
                }
            }
        }
    }

    /// Sends a query to each server that is silent, and whose pause is over. Otherwise a server that works again might never
    /// be found, because those before it answer all queries.
    pub(super) fn test_silent(self: &Arc<Self>, test: &Key) {
        let now = Instant::now();
        let deadline = now + self.timeout();
        let request = Request {
            key: test,
            client: None,
            deadline,
        };
        for (place, server) in self
            .take_silent(now, deadline + TEST_GRACE)
            .into_iter()
            .enumerate()
        {
            // The task that asks records the result.
            drop(self.detached(place, &server, request));
        }
    }

    /// The servers that need a test, which pause until then.
    fn take_silent(&self, now: Instant, until: Instant) -> Vec<Arc<Server>> {
        let mut servers = self.lock();
        let Servers { all, health } = &mut *servers;
        let both = all.iter().zip(health);
        let silent = both.filter(|(_, health)| health.needs_test(now));
        silent
            .map(|(server, health)| {
                health.tested(until);
                Arc::clone(server)
            })
            .collect()
    }

    fn charge(&self, server: &Arc<Server>, place: usize, charged: &mut [bool]) {
        if !std::mem::replace(&mut charged[place], true) {
            self.update(server, |health| health.failed(Instant::now()));
        }
    }

    /// Asks one server by a task that goes on until its deadline even if the query has got another server's answer by
    /// then. Otherwise nothing would be known about the slower servers of those that are asked at once.
    fn detached(
        self: &Arc<Self>,
        place: usize,
        server: &Arc<Server>,
        request: Request<'_>,
    ) -> impl Future<Output = Try> + use<> {
        let (pool, server) = (Arc::clone(self), Arc::clone(server));
        let (key, client, deadline) = (request.key.clone(), request.client, request.deadline);
        let task = tokio::spawn(async move {
            let request = Request {
                key: &key,
                client,
                deadline,
            };
            let done = pool.attempt(place, &server, Begin::Usual, request).await;
            if done.responded {
                pool.update(&server, |health| health.answered(done.took));
            } else if !matches!(done.result, Err(ExchangeError::Busy)) {
                pool.update(&server, |health| health.failed(Instant::now()));
            }
            Try {
                is_noted: true,
                ..done
            }
        });
        async move {
            // The task fails only if it panicked or the program ends, which is no fault of the server.
            task.await.unwrap_or(Try {
                place,
                took: Duration::ZERO,
                responded: false,
                result: Err(ExchangeError::Busy),
                is_noted: true,
            })
        }
    }

    /// Asks one server over its transport, or as `begin` specifies, and then in each other way that its responses call for.
    async fn attempt(
        &self,
        place: usize,
        server: &Arc<Server>,
        begin: Begin,
        request: Request<'_>,
    ) -> Try {
        let Request {
            key,
            client,
            deadline,
        } = request;
        let mut done = Try {
            place,
            took: Duration::ZERO,
            responded: false,
            result: Ok(None),
            is_noted: false,
        };
        let mut how = How {
            over: server.transport(),
            client,
            dialect: server.dialect(Instant::now()),
        };
        // The extensions that are no longer used because of a response. If the query without them gets a usable answer,
        // this is recorded as a sign that the server lacks them.
        let (mut edns_off, mut case_off, mut is_case_doubted) = (None, false, false);
        let (mut next, mut open) = (None, None);
        match begin {
            Begin::Usual => {}
            Begin::Again(again) => next = Some(again),
            Begin::Open(exchange) => {
                how = exchange.how();
                open = Some(exchange);
            }
        }
        for _ in 0..MOST_STEPS {
            match next.take() {
                None => {}
                Some(Again::Tcp) => how.over = Transport::Tcp,
                Some(Again::OtherCase) => {
                    how.over = Transport::Tcp;
                    is_case_doubted = true;
                }
                Some(Again::WithoutEdns { is_certain }) => {
                    how.dialect.edns = false;
                    edns_off = Some(is_certain);
                }
            }
            let mut patience = deadline.saturating_duration_since(Instant::now());
            let is_fallback = how.over == Transport::Tcp && is_case_doubted && !case_off;
            if is_fallback {
                // A firewall may drop TCP silently. Half of the time is reserved to ask by UDP in that case.
                patience /= 2;
            }
            let begun = open.as_ref().map_or_else(Instant::now, OpenExchange::since);
            // The first attempt has counted an open query, as sent and as late.
            let is_counted = open.is_some();
            let reply = match open.take() {
                Some(open) => self.connector.resume(open, server, key, patience),
                None => self.connector.exchange(server, how, key, patience),
            };
            let reply = reply.await;
            if !is_counted {
                self.counters.bump(how.over.queries());
                server.traffic.sent(how.over == Transport::Udp, 1);
            }
            // TCP is asked only after a response by UDP.
            if how.over != Transport::Tcp {
                done.took = begun.elapsed();
                done.responded |= reply.is_ok();
                if reply.is_ok() {
                    self.counters.upstream_took(done.took);
                    server.traffic.took(done.took);
                }
            }
            let is_late = matches!(
                reply,
                Err(ExchangeError::Timeout | ExchangeError::Unreachable)
            );
            if is_late && !is_counted {
                server.traffic.timed_out();
            }
            let reply = match reply {
                Ok(reply) => reply,
                Err(ExchangeError::Timeout | ExchangeError::Unreachable) if is_fallback => {
                    how.over = Transport::Udp;
                    how.dialect.random_case = false;
                    case_off = true;
                    continue;
                }
                Err(error) => {
                    done.result = Err(error);
                    return done;
                }
            };
            let received = Received {
                bytes: &reply.bytes,
                fit: reply.fit,
                is_cut: is_cut(&reply.bytes),
                at: Instant::now(),
            };
            let sent = Sent {
                server,
                how,
                key,
                intake: &self.intake,
                counters: &self.counters,
            };
            match sent.evaluate(received) {
                Evaluation::Answer(answer) => {
                    if is_usable(&answer) {
                        let now = Instant::now();
                        if let Some(is_certain) = edns_off {
                            server.answered_without_edns(is_certain, now);
                        }
                        if case_off {
                            server.answered_without_case(now);
                        }
                    }
                    done.result = Ok(Some(answer));
                    return done;
                }
                Evaluation::Again(again) => next = Some(again),
                Evaluation::Garbage => return done,
            }
        }
        done
    }

    /// The answer, if it is usable; otherwise records the failure.
    fn evaluate_try(
        &self,
        done: Try,
        server: &Arc<Server>,
        charged: &mut [bool],
        failure: &mut Unanswered,
    ) -> Option<Answer> {
        // A server that responds is up, whatever the response is, because the owner of a zone can influence the
        // response.
        if !done.is_noted {
            if done.responded {
                self.update(server, |health| health.answered(done.took));
            } else if !matches!(done.result, Err(ExchangeError::Busy)) {
                self.charge(server, done.place, charged);
            }
        }
        // If a server could not be asked, the failure is ours whatever the others answer: that server might have
        // answered.
        failure.ours |= matches!(done.result, Err(ExchangeError::Busy));
        match done.result {
            Ok(Some(answer)) if self.intake.accepts(&answer) => return Some(answer),
            Ok(Some(answer)) => failure.keep(answer),
            Err(ExchangeError::Unreachable) => failure.code = code::NETWORK_ERROR,
            Ok(None)
            | Err(ExchangeError::Timeout | ExchangeError::Busy | ExchangeError::Refused) => {}
        }
        None
    }
}
