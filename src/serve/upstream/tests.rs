//! The pool, asked through servers that follow a script.

mod dialects;
mod network;
mod outage;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;

use super::exchange::Reply;
use super::*;
use crate::wire::ask::Fit;
use crate::wire::query::Query;

/// What a scripted server does.
#[derive(Clone, Copy)]
enum Does {
    /// Answers with this response code after so many milliseconds.
    Says(u16, u64),
    /// Answers by UDP with TC, by TCP with NOERROR.
    Cuts,
    /// The same, but the cut goes through a record.
    CutsWithin,
    /// Answers with TC, by TCP too.
    CutsAll,
    /// Answers by UDP with TC, and by TCP not at all.
    CutsOnly,
    /// Answers with what is no message.
    Garbles,
    /// Never answers.
    Sleeps,
    /// Loses the first so many datagrams, then answers.
    Loses(usize),
    /// Can't be reached.
    Away,
    /// There is no socket to ask it by.
    Busy,
    /// Answers REFUSED to queries for the root.
    RefusesRoot,
    /// Answers FORMERR to a query with EDNS.
    RefusesEdns,
    /// Answers by UDP in other letters if those of the query are random. By TCP it is silent, or
    /// refuses.
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
        let (server, over) = (server.address(), how.over);
        self.asked.lock().expect("whole").push((server, over));
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
                // An answer is announced, and its first bytes are there.
                wire[7] = 1;
                wire.extend_from_slice(&[0xC0, 0x0C, 0, 1, 0]);
                (Ok(wire), 1)
            }
            Does::Cuts | Does::CutsWithin => (Ok(answer(0, 0)), 1),
            Does::CutsAll => (Ok(answer(0, 0x0200)), 1),
            Does::Garbles => (Ok(vec![0; 3]), 1),
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

fn pool(servers: &[Does]) -> (Pool, Arc<Script>) {
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
        Pool::new(
            addresses
                .iter()
                .map(|&address| Server::new(address, Dialect::FULL))
                .collect(),
            connector,
            timeout,
            bounds,
            Arc::default(),
            counters,
        ),
        script,
    )
}

/// The first server of a pool.
fn first(pool: &Pool) -> Arc<Server> {
    Arc::clone(&pool.lock().all[0])
}

fn question() -> Key {
    let packet =
        b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01";
    Key::new(&Query::parse(packet).expect("a query"))
}

async fn timed(pool: &Pool) -> (Result<u16, (u16, Option<u16>)>, Duration) {
    let start = Instant::now();
    let result = pool.ask(&question(), None, None).await;
    let short = result
        .map(|answer| answer.rcode())
        .map_err(|none| (none.code, none.said.map(|answer| answer.rcode())));
    (short, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_costs_its_patience_once_and_then_nothing() {
    let (pool, script) = pool(&[Does::Sleeps, Does::Says(0, 20)]);
    let (answer, took) = timed(&pool).await;
    assert_eq!(answer, Ok(0));
    assert!(took < Duration::from_millis(500), "{took:?}");
    for _ in 0..5 {
        assert_eq!(timed(&pool).await.0, Ok(0));
    }
    script.asked.lock().expect("whole").clear();
    let (answer, took) = timed(&pool).await;
    assert_eq!((answer, took), (Ok(0), Duration::from_millis(20)));
    assert_eq!(
        *script.asked.lock().expect("whole"),
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
async fn servfail_and_refused_are_not_believed_while_another_server_says_better() {
    let (pool, _) = pool(&[Does::Says(2, 1), Does::Says(5, 1), Does::Says(3, 1)]);
    assert_eq!(timed(&pool).await.0, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn if_all_say_servfail_their_own_word_is_kept() {
    let (pool, _) = pool(&[Does::Says(2, 1), Does::Sleeps]);
    assert_eq!(
        timed(&pool).await.0,
        Err((code::NO_REACHABLE_AUTHORITY, Some(2)))
    );
}

#[tokio::test(start_paused = true)]
async fn when_all_are_silent_the_time_is_up_when_it_was_promised() {
    let (pool, script) = pool(&[Does::Sleeps, Does::Sleeps]);
    let (answer, took) = timed(&pool).await;
    assert_eq!(answer, Err((code::NO_REACHABLE_AUTHORITY, None)));
    assert_eq!(took, Duration::from_secs(2));
    assert!(script.asked.lock().expect("whole").len() <= MOST_TRIES);
}

#[tokio::test(start_paused = true)]
async fn every_server_is_asked_within_the_time_however_many_and_however_short_it_is() {
    let mut servers = vec![Does::Sleeps; 8];
    servers.push(Does::Says(0, 1));
    let (pool, _) = pool(&servers);
    pool.timeout.set(Duration::from_millis(300));
    assert_eq!(timed(&pool).await.0, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn one_question_is_one_failure_however_often_it_is_repeated() {
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
async fn a_cut_answer_is_asked_for_again_by_tcp_wherever_the_cut_goes() {
    for does in [Does::Cuts, Does::CutsWithin] {
        let (pool, script) = pool(&[does]);
        assert_eq!(timed(&pool).await.0, Ok(0));
        let asked = script.asked.lock().expect("whole");
        let over: Vec<_> = asked.iter().map(|(_, over)| *over).collect();
        assert_eq!(over, [Transport::Udp, Transport::Tcp]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_by_tcp_too_is_none() {
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
async fn a_server_that_has_spoken_is_not_asked_again_and_one_that_was_silent_is() {
    for does in [Does::Says(2, 1), Does::Says(5, 1), Does::Garbles] {
        let (alone, script) = pool(&[does]);
        let (answer, took) = timed(&alone).await;
        assert!(answer.is_err() && took < Duration::from_millis(10));
        assert_eq!(script.asked.lock().expect("whole").len(), 1);
        let (both, script) = pool(&[does, Does::Sleeps]);
        assert!(timed(&both).await.0.is_err());
        let asked = script.asked.lock().expect("whole");
        let times = |server| asked.iter().filter(|a| a.0 == server).count();
        assert_eq!((times(address(1)), times(address(2))), (1, ROUNDS));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_silent_first_try_the_others_have_their_turn() {
    let (pool, script) = pool(&[Does::Says(0, 1), Does::Says(0, 1)]);
    let prior = PriorAttempt {
        server: first(&pool),
        since: Instant::now(),
        responded: false,
        said: None,
        again: None,
    };
    assert!(pool.ask(&question(), None, Some(prior)).await.is_ok());
    assert_eq!(script.asked.lock().expect("whole")[0].0, address(2));
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_tried_counts_as_a_try_and_its_time_as_time() {
    let (pool, script) = pool(&[Does::Sleeps]);
    let start = Instant::now();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let prior = PriorAttempt {
        server: first(&pool),
        since: start,
        responded: false,
        said: None,
        again: None,
    };
    assert!(pool.ask(&question(), None, Some(prior)).await.is_err());
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(script.asked.lock().expect("whole").len(), ROUNDS - 1);
}

#[tokio::test(start_paused = true)]
async fn a_first_try_that_was_cut_goes_on_by_tcp() {
    let (pool, script) = pool(&[Does::Cuts, Does::Says(3, 1)]);
    let prior = PriorAttempt {
        server: first(&pool),
        since: Instant::now(),
        responded: true,
        said: None,
        again: Some(Again::Tcp),
    };
    let answer = pool
        .ask(&question(), None, Some(prior))
        .await
        .expect("an answer");
    assert_eq!(answer.rcode(), 0);
    let asked = script.asked.lock().expect("whole");
    assert_eq!(*asked, [(address(1), Transport::Tcp)]);
}

#[tokio::test(start_paused = true)]
async fn servers_that_stay_keep_their_record_and_the_others_are_forgotten() {
    let (pool, script) = pool(&[Does::Says(0, 20), Does::Says(0, 30)]);
    for _ in 0..3 {
        assert_eq!(timed(&pool).await.0, Ok(0));
    }
    let latency = pool.state()[0].latency;
    assert!(latency.is_some());
    pool.replace(&[2, 1].map(|last| (address(last).into(), Dialect::FULL)));
    assert_eq!(pool.state()[1].latency, latency);
    let removed = first(&pool);
    pool.replace(&[(address(1).into(), Dialect::FULL)]);
    script.asked.lock().expect("whole").clear();
    // A try with a server that was removed meanwhile is not continued there.
    let prior = PriorAttempt {
        server: removed,
        since: Instant::now(),
        responded: true,
        said: None,
        again: Some(Again::Tcp),
    };
    assert!(pool.ask(&question(), None, Some(prior)).await.is_ok());
    let asked = script.asked.lock().expect("whole");
    assert_eq!(*asked, [(address(1), Transport::Udp)]);
}

#[tokio::test(start_paused = true)]
async fn a_want_of_sockets_is_said_to_be_ours_whatever_other_servers_say() {
    for (servers, ours) in [
        (vec![Does::Busy], true),
        (vec![Does::Busy, Does::Says(2, 5)], true),
        (vec![Does::Says(2, 1), Does::Busy], true),
        (vec![Does::Says(2, 1), Does::Away], false),
        (vec![Does::Sleeps], false),
    ] {
        let (pool, _) = pool(&servers);
        let none = pool
            .ask(&question(), None, None)
            .await
            .expect_err("no answer");
        assert_eq!(none.ours, ours);
        assert!(!pool.state()[0].down, "it says nothing of the server");
    }
}
