//! The order in which servers are asked.

use super::*;
use crate::config::encryption::{Encryption, Pin, Protocol};
use crate::config::selection::{Selection, Strategy};
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
        let first = pool.try_first(Instant::now()).expect("a server");
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
    assert!(pool.try_first(Instant::now()).is_none(), "no worker asks");
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
    let first = pool.try_first(Instant::now()).expect("a single server");
    assert_eq!(first.server.address(), address(2), "a worker asks again");
}

#[tokio::test(start_paused = true)]
async fn a_query_that_waits_on_a_connection_is_asked_again_after_that_broke_off() {
    let (pool, script) = pool(&[Does::BreaksOff(2)]);
    let settings = Encryption {
        protocol: Protocol::Tls,
        name: None,
        authorities: None,
        pins: vec![Pin([0; 32])],
        designated_by: None,
    };
    let ip = address(1).ip();
    let tls = TlsClient::new(&settings, ip, &mut Authorities::default()).expect("a pin");
    pool.replace(&[Target {
        tls: Some(tls),
        ..Target::plain(address(1), Dialect::FULL)
    }]);
    let (answer, took) = timed(&pool).await;
    assert_eq!((answer, took), (Ok(0), Duration::from_millis(1001)));
    assert_eq!(asked(&script).len(), 3);
}
