//! The order in which servers are asked.

use super::*;
use crate::config::encryption::{Encryption, Pin, Protocol};
use crate::config::selection::{Selection, Strategy};
use crate::serve::upstream::stream::placed::tests::open_exchange;
use crate::tls::client::{Authorities, TlsClient};

fn with(strategy: Strategy, servers: &[Does]) -> (Arc<Pool>, Arc<Script>) {
    let (pool, script) = pool(servers);
    pool.select(&Selection {
        strategy,
        ..Selection::default()
    });
    (pool, script)
}

/// The servers that were asked since the last call.
fn asked(script: &Script) -> Vec<SocketAddr> {
    let mut asked = script.asked.lock().expect("not poisoned");
    asked.drain(..).map(|(server, _)| server).collect()
}

#[tokio::test(start_paused = true)]
async fn in_strict_order_a_slower_server_stays_the_first() {
    let (pool, script) = with(Strategy::Strict, &[Does::Says(0, 90), Does::Says(0, 1)]);
    for _ in 0..50 {
        assert_eq!(timed(&pool).await.0, Ok(0));
        let first = pool.try_first(Instant::now(), |_| Some(()));
        let (first, ()) = first.expect("a server");
        assert_eq!(first.server.address(), address(1));
    }
    assert_eq!(asked(&script), vec![address(1); 50]);
    let (fastest, script) = with(Strategy::Fastest, &[Does::Says(0, 90), Does::Says(0, 1)]);
    for _ in 0..50 {
        assert_eq!(timed(&fastest).await.0, Ok(0));
    }
    let of_first = asked(&script).iter().filter(|a| **a == address(1)).count();
    assert!((1..10).contains(&of_first), "{of_first}");
}

#[tokio::test(start_paused = true)]
async fn in_strict_order_the_next_server_answers_if_the_first_is_silent_or_fails() {
    for first in [Does::Sleeps, Does::Says(2, 1)] {
        let (pool, script) = with(Strategy::Strict, &[first, Does::Says(0, 1)]);
        let (answer, took) = timed(&pool).await;
        assert_eq!(answer, Ok(0));
        assert!(took < Duration::from_millis(500), "{took:?}");
        assert_eq!(asked(&script), [address(1), address(2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn several_servers_are_asked_at_once_and_the_first_usable_answer_counts() {
    let servers = [
        Does::Says(0, 90),
        Does::Says(2, 1),
        Does::Says(0, 20),
        Does::Says(0, 1),
    ];
    let (pool, script) = with(Strategy::Parallel, &servers[..3]);
    let selection = Selection {
        strategy: Strategy::Parallel,
        parallel_servers: 3,
        ..Selection::default()
    };
    pool.select(&selection);
    let first = pool.try_first(Instant::now(), |_| Some(()));
    assert!(first.is_none(), "no worker asks");
    let (answer, took) = timed(&pool).await;
    assert_eq!((answer, took), (Ok(0), Duration::from_millis(20)));
    assert_eq!(asked(&script), [1, 2, 3].map(address));
    // The slowest server's time is measured although its answer came too late.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let latency = pool.state()[0].latency.expect("measured");
    assert!(latency >= Duration::from_millis(85), "{latency:?}");
    assert!(asked(&script).is_empty(), "no query was repeated");
    // A server beyond that number is asked as well, now and then, and stays if it is faster.
    let (pool, script) = with(Strategy::Parallel, &servers);
    for _ in 0..200 {
        assert_eq!(timed(&pool).await.0, Ok(0));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = asked(&script);
    let of_last = asked.iter().filter(|a| **a == address(4)).count();
    assert!(of_last > 150, "{of_last}");
    assert!(asked.len() < 450, "{}", asked.len());
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_beside_a_good_one_is_down_after_a_while_and_not_asked_in_parallel() {
    let (pool, script) = with(Strategy::Parallel, &[Does::Sleeps, Does::Says(0, 1)]);
    for _ in 0..3 {
        let (answer, took) = timed(&pool).await;
        assert_eq!((answer, took), (Ok(0), Duration::from_millis(1)));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(pool.state()[0].down);
    asked(&script);
    assert_eq!(timed(&pool).await.0, Ok(0));
    assert_eq!(asked(&script), [address(2)]);
    let first = pool.try_first(Instant::now(), |_| Some(()));
    let (first, ()) = first.expect("a single server");
    assert_eq!(first.server.address(), address(2), "a worker asks again");
}

/// Makes the first server of a pool one that is asked by TLS.
fn encrypt_first(pool: &Pool) {
    let settings = Encryption {
        protocol: Protocol::Tls,
        name: None,
        authorities: None,
        pins: vec![Pin([0; 32])],
        designated_by: None,
    };
    let ip = address(1).ip();
    let tls = TlsClient::new(&settings, ip, &mut Authorities::default()).expect("a pin");
    let mut targets = pool.targets();
    targets[0].tls = Some(tls);
    pool.replace(&targets);
}

#[tokio::test(start_paused = true)]
async fn a_query_that_waits_on_a_connection_is_asked_again_after_that_broke_off() {
    let (pool, script) = pool(&[Does::BreaksOff(2)]);
    encrypt_first(&pool);
    let (answer, took) = timed(&pool).await;
    assert_eq!((answer, took), (Ok(0), Duration::from_millis(1001)));
    assert_eq!(asked(&script).len(), 3);
}

/// Asks the pool after a first attempt on a connection of its first server, which is late.
async fn continued(pool: &Arc<Pool>) -> (u16, Duration) {
    let (server, since) = (first(pool), Instant::now());
    tokio::time::sleep(Duration::from_millis(150)).await;
    let how = How {
        over: server.transport(),
        client: None,
        dialect: Dialect::FULL,
    };
    let prior = PriorAttempt {
        open: Some(open_exchange(&server, how, since)),
        server,
        since,
        responded: false,
        said: None,
        again: None,
    };
    let answer = pool.ask(&query_key(), None, Some(prior)).await;
    (answer.expect("an answer").rcode(), since.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_late_first_attempt_on_a_connection_is_waited_for_and_not_repeated() {
    let (alone, script) = pool(&[Does::Says(3, 600)]);
    encrypt_first(&alone);
    assert_eq!(continued(&alone).await, (3, Duration::from_millis(750)));
    assert!(asked(&script).is_empty());
    let state = &alone.state()[0];
    assert_eq!(state.latency, Some(Duration::from_millis(750)));
    assert_eq!((state.unanswered, state.traffic.sent), (0, [0, 0]));
    // Another server is asked at once, and the first answer counts.
    for (of_other, expected, after) in [(Does::Says(0, 20), 0, 170), (Does::Sleeps, 3, 750)] {
        let (both, script) = pool(&[Does::Says(3, 600), of_other]);
        encrypt_first(&both);
        let after = Duration::from_millis(after);
        assert_eq!(continued(&both).await, (expected, after));
        assert!(asked(&script).iter().all(|server| *server == address(2)));
    }
    // After its connection broke off it is repeated.
    let (alone, script) = pool(&[Does::BreaksOff(1)]);
    encrypt_first(&alone);
    assert_eq!(continued(&alone).await, (0, Duration::from_millis(651)));
    assert_eq!(asked(&script), [address(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_late_first_attempt_is_answered_by_a_server_that_was_removed_meanwhile() {
    let (pool, script) = pool(&[Does::Says(3, 600), Does::Sleeps]);
    encrypt_first(&pool);
    let answered = continued(&pool);
    let removed = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        pool.replace(&pool.targets()[1..]);
    };
    let (answered, ()) = tokio::join!(answered, removed);
    assert_eq!(answered, (3, Duration::from_millis(750)));
    assert!(asked(&script).iter().all(|server| *server == address(2)));
}

#[tokio::test(start_paused = true)]
async fn a_server_is_passed_over_once_for_each_query() {
    let (pool, _) = pool(&[Does::Says(0, 100), Does::Says(0, 200)]);
    assert_eq!(timed(&pool).await.0, Ok(0));
    let slower = pool.lock().all[1].clone();
    pool.update(&slower, |health| {
        health.answered(Duration::from_millis(200));
    });
    let latency = || pool.state()[1].latency.expect("measured");
    // First attempts that can't be made there have no effect.
    assert!(pool.try_first(Instant::now(), |_| None::<()>).is_none());
    assert_eq!(latency(), Duration::from_millis(200));
    assert!(pool.try_first(Instant::now(), |_| Some(())).is_some());
    let passed_over = latency();
    assert!(passed_over < Duration::from_millis(200));
    // Neither has the continuation of one.
    let prior = PriorAttempt {
        server: first(&pool),
        since: Instant::now(),
        responded: true,
        said: None,
        again: Some(Again::Tcp),
        open: None,
    };
    assert!(pool.ask(&query_key(), None, Some(prior)).await.is_ok());
    assert_eq!(latency(), passed_over);
}
