//! The pool, asked through servers that follow a script.

mod dialects;
mod network;
mod outage;
mod strategies;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;

use super::asking::{MOST_TRIES, ROUNDS};
use super::exchange::{ExchangeError, How, Reply, Transport};
use super::*;
use crate::serve::cache::Key;
use crate::wire::ask::{Dialect, Fit};
use crate::wire::edns::code;
use crate::wire::name::Name;
use crate::wire::query::Query;

/// The behaviour of a scripted server.
#[derive(Clone, Copy)]
enum Does {
    /// Answers with this response code after so many milliseconds.
    Says(u16, u64),
    /// Answers by UDP with TC, by TCP with NOERROR.
    Cuts,
    /// Answers by UDP with TC in the middle of a record, by TCP with NOERROR.
    CutsWithin,
    /// Answers with TC, by TCP too.
    CutsAll,
    /// Answers by UDP with TC, and by TCP not at all.
    CutsOnly,
    /// Answers with bytes that are no message.
    Garbles,
    /// Never answers.
    Sleeps,
    /// Loses the first so many datagrams, then answers.
    Loses(usize),
    /// Breaks off the first so many queries after half a second, then answers.
    BreaksOff(usize),
    /// Can't be reached.
    Away,
    /// No socket is free to ask it.
    Busy,
    /// Answers REFUSED to queries for the root.
    RefusesRoot,
    /// Answers FORMERR to a query with EDNS.
    RefusesEdns,
    /// Answers by UDP in another letter case than the query, if that is random. By TCP it is silent, or refuses.
    ChangesCase { silent: bool },
}

struct Script {
    servers: HashMap<SocketAddr, Does>,
    asked: Mutex<Vec<(SocketAddr, Transport)>>,
    lost: AtomicUsize,
}

impl Connector for Script {
    fn exchange(
        &self,
        server: &Arc<Server>,
        how: How,
        key: &Key,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Reply, ExchangeError>> {
        let asked = (server.address(), how.over);
        self.asked.lock().expect("not poisoned").push(asked);
        self.reply(asked.0, how, key, patience)
    }

    fn resume(
        &self,
        open: OpenExchange,
        server: &Arc<Server>,
        key: &Key,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Reply, ExchangeError>> {
        self.reply(server.address(), open.how(), key, patience)
    }
}

impl Script {
    /// The reply of a server, by what it does.
    fn reply(
        &self,
        server: SocketAddr,
        how: How,
        key: &Key,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Reply, ExchangeError>> {
        let over = how.over;
        let does = self.servers[&server];
        let answer = |rcode: u16, flags: u16| {
            let mut wire = vec![0, 0];
            wire.extend_from_slice(&(0x8180 | flags | rcode).to_be_bytes());
            wire.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
            wire.extend_from_slice(key.name());
            wire.extend_from_slice(&key.rtype().to_be_bytes());
            wire.extend_from_slice(&[0, 1]);
            wire
        };
        let is_random = over == Transport::Udp && how.dialect.random_case;
        let mut fit = Fit::Answer;
        let (wire, after) = match does {
            Does::Busy => (Err(ExchangeError::Busy), 1),
            Does::RefusesEdns => (Ok(answer(how.dialect.edns.into(), 0)), 1),
            Does::ChangesCase { .. } if over == Transport::Udp => {
                if is_random {
                    fit = Fit::OtherCase;
                }
                (Ok(answer(0, 0)), 1)
            }
            Does::ChangesCase { silent: false } => (Err(ExchangeError::Unreachable), 1),
            Does::ChangesCase { silent: true } => {
                (Err(ExchangeError::Timeout), patience.as_millis() as u64)
            }
            Does::RefusesRoot => {
                let is_root = key.name() == [0];
                (Ok(answer(if is_root { 5 } else { 0 }, 0)), 1)
            }
            Does::Says(rcode, after) => (Ok(answer(rcode, 0)), after),
            Does::Cuts if over == Transport::Udp => (Ok(answer(0, 0x0200)), 1),
            Does::CutsOnly if over == Transport::Udp => (Ok(answer(0, 0x0200)), 1),
            Does::CutsOnly => (Err(ExchangeError::Unreachable), 1),
            Does::CutsWithin if over == Transport::Udp => {
                let mut wire = answer(0, 0x0200);
                // The header announces an answer, of which only the first bytes follow.
                wire[7] = 1;
                wire.extend_from_slice(&[0xC0, 0x0C, 0, 1, 0]);
                (Ok(wire), 1)
            }
            Does::Cuts | Does::CutsWithin => (Ok(answer(0, 0)), 1),
            Does::CutsAll => (Ok(answer(0, 0x0200)), 1),
            Does::Garbles => (Ok(vec![0; 3]), 1),
            Does::BreaksOff(n) if self.lost.fetch_add(1, Ordering::Relaxed) < n => {
                (Err(ExchangeError::Unreachable), 500)
            }
            Does::BreaksOff(_) => (Ok(answer(0, 0)), 1),
            Does::Away => (Err(ExchangeError::Unreachable), 0),
            Does::Loses(n) if self.lost.fetch_add(1, Ordering::Relaxed) >= n => {
                (Ok(answer(0, 0)), 1)
            }
            Does::Sleeps | Does::Loses(_) => {
                (Err(ExchangeError::Timeout), patience.as_millis() as u64)
            }
        };
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            wire.map(|bytes| Reply { bytes, fit })
        })
    }
}

fn address(last: u8) -> SocketAddr {
    ([192, 0, 2, last], 53).into()
}

fn pool(servers: &[Does]) -> (Arc<Pool>, Arc<Script>) {
    let addresses: Vec<_> = (1..=servers.len() as u8).map(address).collect();
    let script = Arc::new(Script {
        servers: addresses
            .iter()
            .copied()
            .zip(servers.iter().copied())
            .collect(),
        asked: Mutex::default(),
        lost: AtomicUsize::new(0),
    });
    let timeout = Duration::from_secs(2);
    let bounds = Intake {
        min_ttl: 0,
        max_ttl: 86_400,
        max_negative_ttl: u32::MAX,
        additional: false,
    };
    let connector = Arc::clone(&script) as Arc<dyn Connector>;
    let counters = Arc::default();
    (
        Arc::new(Pool::new(
            addresses
                .iter()
                .map(|&address| Server::new(address, Dialect::FULL))
                .collect(),
            connector,
            timeout,
            bounds,
            Arc::default(),
            counters,
        )),
        script,
    )
}

/// The first server of a pool.
fn first(pool: &Pool) -> Arc<Server> {
    Arc::clone(&pool.lock().all[0])
}

fn query_key() -> Key {
    let packet =
        b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01";
    Key::new(&Query::parse(packet, &mut Name::default()).expect("a query"))
}

async fn timed(pool: &Arc<Pool>) -> (Result<u16, (u16, Option<u16>)>, Duration) {
    let start = Instant::now();
    let result = pool.ask(&query_key(), None, None).await;
    let short = result
        .map(|answer| answer.rcode())
        .map_err(|none| (none.code, none.said.map(|answer| answer.rcode())));
    (short, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_delays_one_query_only() {
    let (pool, script) = pool(&[Does::Sleeps, Does::Says(0, 20)]);
    let (answer, took) = timed(&pool).await;
    assert_eq!(answer, Ok(0));
    assert!(took < Duration::from_millis(500), "{took:?}");
    for _ in 0..5 {
        assert_eq!(timed(&pool).await.0, Ok(0));
    }
    script.asked.lock().expect("not poisoned").clear();
    let (answer, took) = timed(&pool).await;
    assert_eq!((answer, took), (Ok(0), Duration::from_millis(20)));
    assert_eq!(
        *script.asked.lock().expect("not poisoned"),
        [(address(2), Transport::Udp)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_datagram_is_repeated_within_the_clients_patience() {
    let (pool, _) = pool(&[Does::Loses(2)]);
    let (answer, took) = timed(&pool).await;
    assert_eq!(answer, Ok(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn servfail_and_refused_do_not_count_if_another_server_answers() {
    let (pool, _) = pool(&[Does::Says(2, 1), Does::Says(5, 1), Does::Says(3, 1)]);
    assert_eq!(timed(&pool).await.0, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn without_a_usable_answer_a_servfail_is_kept() {
    let (pool, _) = pool(&[Does::Says(2, 1), Does::Sleeps]);
    assert_eq!(
        timed(&pool).await.0,
        Err((code::NO_REACHABLE_AUTHORITY, Some(2)))
    );
}

#[tokio::test(start_paused = true)]
async fn if_all_servers_are_silent_the_query_ends_at_its_timeout() {
    let (pool, script) = pool(&[Does::Sleeps, Does::Sleeps]);
    let (answer, took) = timed(&pool).await;
    assert_eq!(answer, Err((code::NO_REACHABLE_AUTHORITY, None)));
    assert_eq!(took, Duration::from_secs(2));
    assert!(script.asked.lock().expect("not poisoned").len() <= MOST_TRIES);
}

#[tokio::test(start_paused = true)]
async fn every_server_is_asked_before_the_timeout_however_many_there_are() {
    let mut servers = vec![Does::Sleeps; 8];
    servers.push(Does::Says(0, 1));
    let (pool, _) = pool(&servers);
    pool.timeout.set(Duration::from_millis(300));
    assert_eq!(timed(&pool).await.0, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_query_is_one_failure_however_often_it_is_repeated() {
    let (pool, _) = pool(&[Does::Sleeps]);
    pool.timeout.set(Duration::from_millis(500));
    let mut downs = Vec::new();
    for _ in 0..3 {
        assert!(timed(&pool).await.0.is_err());
        downs.push(pool.state()[0].down);
    }
    assert_eq!(downs, [false, false, true], "two slow names are no outage");
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_network_is_reported_as_such_and_at_once() {
    let (pool, _) = pool(&[Does::Away]);
    let (answer, took) = timed(&pool).await;
    assert_eq!(answer, Err((code::NETWORK_ERROR, None)));
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_servers_there_is_no_answer_and_no_wait() {
    let (pool, _) = pool(&[]);
    let (answer, took) = timed(&pool).await;
    assert_eq!((answer.is_err(), took), (true, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_truncated_answer_is_repeated_over_tcp_wherever_it_ends() {
    for does in [Does::Cuts, Does::CutsWithin] {
        let (pool, script) = pool(&[does]);
        assert_eq!(timed(&pool).await.0, Ok(0));
        let asked = script.asked.lock().expect("not poisoned");
        let over: Vec<_> = asked.iter().map(|(_, over)| *over).collect();
        assert_eq!(over, [Transport::Udp, Transport::Tcp]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_truncated_even_over_tcp_is_unusable() {
    let (alone, _) = pool(&[Does::CutsAll]);
    let none = Err((code::NO_REACHABLE_AUTHORITY, None));
    assert_eq!(timed(&alone).await.0, none);
    let (both, _) = pool(&[Does::CutsAll, Does::Says(3, 1)]);
    assert_eq!(timed(&both).await.0, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn the_owner_of_a_zone_cant_make_a_server_count_as_down() {
    for does in [Does::Garbles, Does::CutsAll, Does::CutsOnly] {
        let (pool, _) = pool(&[does]);
        for _ in 0..8 {
            assert!(timed(&pool).await.0.is_err());
        }
        assert!(!pool.state()[0].down);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_responded_is_not_asked_again_and_a_silent_one_is() {
    for does in [Does::Says(2, 1), Does::Says(5, 1), Does::Garbles] {
        let (alone, script) = pool(&[does]);
        let (answer, took) = timed(&alone).await;
        assert!(answer.is_err() && took < Duration::from_millis(10));
        assert_eq!(script.asked.lock().expect("not poisoned").len(), 1);
        let (both, script) = pool(&[does, Does::Sleeps]);
        assert!(timed(&both).await.0.is_err());
        let asked = script.asked.lock().expect("not poisoned");
        let times = |server| asked.iter().filter(|a| a.0 == server).count();
        assert_eq!((times(address(1)), times(address(2))), (1, ROUNDS));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_silent_first_attempt_the_other_servers_are_asked() {
    let (pool, script) = pool(&[Does::Says(0, 1), Does::Says(0, 1)]);
    let prior = PriorAttempt {
        server: first(&pool),
        since: Instant::now(),
        responded: false,
        said: None,
        again: None,
        open: None,
    };
    assert!(pool.ask(&query_key(), None, Some(prior)).await.is_ok());
    assert_eq!(script.asked.lock().expect("not poisoned")[0].0, address(2));
}

#[tokio::test(start_paused = true)]
async fn a_workers_attempt_and_its_time_count() {
    let (pool, script) = pool(&[Does::Sleeps]);
    let start = Instant::now();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let prior = PriorAttempt {
        server: first(&pool),
        since: start,
        responded: false,
        said: None,
        again: None,
        open: None,
    };
    assert!(pool.ask(&query_key(), None, Some(prior)).await.is_err());
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(script.asked.lock().expect("not poisoned").len(), ROUNDS - 1);
}

#[tokio::test(start_paused = true)]
async fn a_truncated_first_attempt_is_continued_over_tcp() {
    let (pool, script) = pool(&[Does::Cuts, Does::Says(3, 1)]);
    let prior = PriorAttempt {
        server: first(&pool),
        since: Instant::now(),
        responded: true,
        said: None,
        again: Some(Again::Tcp),
        open: None,
    };
    let answer = pool
        .ask(&query_key(), None, Some(prior))
        .await
        .expect("an answer");
    assert_eq!(answer.rcode(), 0);
    let asked = script.asked.lock().expect("not poisoned");
    assert_eq!(*asked, [(address(1), Transport::Tcp)]);
}

#[tokio::test(start_paused = true)]
async fn servers_that_stay_keep_their_health_and_others_lose_it() {
    let (pool, script) = pool(&[Does::Says(0, 20), Does::Says(0, 30)]);
    for _ in 0..3 {
        assert_eq!(timed(&pool).await.0, Ok(0));
    }
    let latency = pool.state()[0].latency;
    assert!(latency.is_some());
    pool.replace(&[2, 1].map(|last| Target::plain(address(last), Dialect::FULL)));
    assert_eq!(pool.state()[1].latency, latency);
    let removed = first(&pool);
    pool.replace(&[Target::plain(address(1), Dialect::FULL)]);
    script.asked.lock().expect("not poisoned").clear();
    // A try with a server that was removed meanwhile is not continued there.
    let prior = PriorAttempt {
        server: removed,
        since: Instant::now(),
        responded: true,
        said: None,
        again: Some(Again::Tcp),
        open: None,
    };
    assert!(pool.ask(&query_key(), None, Some(prior)).await.is_ok());
    let asked = script.asked.lock().expect("not poisoned");
    assert_eq!(*asked, [(address(1), Transport::Udp)]);
}

#[tokio::test(start_paused = true)]
async fn a_lack_of_sockets_is_reported_as_ours_whatever_other_servers_answer() {
    for (servers, ours) in [
        (vec![Does::Busy], true),
        (vec![Does::Busy, Does::Says(2, 5)], true),
        (vec![Does::Says(2, 1), Does::Busy], true),
        (vec![Does::Says(2, 1), Does::Away], false),
        (vec![Does::Sleeps], false),
    ] {
        let (pool, _) = pool(&servers);
        let none = pool
            .ask(&query_key(), None, None)
            .await
            .expect_err("no answer");
        assert_eq!(none.ours, ours);
        assert!(!pool.state()[0].down, "it is no fault of the server");
    }
}
