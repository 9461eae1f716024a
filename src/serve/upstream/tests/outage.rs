//! The start and the end of an outage.

use super::*;
use crate::config::selection::{Selection, Strategy};
use crate::serve::upstream::state::OutageWatch;

#[tokio::test(start_paused = true)]
async fn it_is_an_outage_when_no_server_gives_a_usable_answer() {
    for (servers, is_out) in [
        (&[Does::Sleeps][..], true),
        (&[Does::Away], true),
        (&[Does::Sleeps, Does::Away], true),
        (&[Does::Sleeps, Does::Says(0, 20)], false),
        (&[Does::Away, Does::Says(2, 20)], true),
        (&[Does::Says(5, 20)], true),
        (&[Does::Says(9, 1), Does::Says(1, 1)], true),
        (&[Does::Says(2, 1), Does::Says(3, 1)], false),
        (&[Does::Garbles], true),
        (&[Does::RefusesRoot], false),
        (&[Does::Busy], false),
        (&[], false),
    ] {
        let (pool, _) = pool(servers);
        let mut watch = OutageWatch::default();
        assert!(
            !watch.look(&pool, &Key::root_servers()).await,
            "there was no query yet"
        );
        for _ in 0..5 {
            let _ = timed(&pool).await;
        }
        assert_eq!(watch.look(&pool, &Key::root_servers()).await, is_out);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(
            watch.look(&pool, &Key::root_servers()).await,
            is_out,
            "an hour without a query"
        );
        pool.replace(&[Target::plain(address(9), Dialect::FULL)]);
        let mut watch = OutageWatch::default();
        assert!(
            !watch.look(&pool, &Key::root_servers()).await,
            "another server"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_goes_on_until_a_server_answers_though_others_are_configured() {
    let (pool, _) = pool(&[
        Does::Sleeps,
        Does::Sleeps,
        Does::Says(2, 20),
        Does::Says(0, 20),
    ]);
    let set = |number| pool.replace(&[Target::plain(address(number), Dialect::FULL)]);
    set(1);
    for _ in 0..5 {
        let _ = timed(&pool).await;
    }
    let mut watch = OutageWatch::default();
    assert!(watch.look(&pool, &Key::root_servers()).await);
    set(2);
    assert!(
        watch.look(&pool, &Key::root_servers()).await,
        "it was not asked yet"
    );
    set(3);
    assert!(
        watch.look(&pool, &Key::root_servers()).await,
        "it answers errors"
    );
    set(4);
    assert!(!watch.look(&pool, &Key::root_servers()).await);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_some_queries_unanswered_is_asked_before_it_is_an_outage() {
    // The server loses nine datagrams: three tries of each of three queries. Queries for a broken zone are lost in the
    // same way.
    let (pool, script) = pool(&[Does::Loses(9)]);
    for _ in 0..3 {
        assert!(timed(&pool).await.0.is_err());
    }
    assert!(pool.state()[0].silent);
    let mut watch = OutageWatch::default();
    assert!(!watch.look(&pool, &Key::root_servers()).await);
    assert!(!pool.state()[0].silent);
    let asked = script.asked.lock().expect("not poisoned").len();
    assert!(!watch.look(&pool, &Key::root_servers()).await);
    assert_eq!(script.asked.lock().expect("not poisoned").len(), asked);
}

#[tokio::test(start_paused = true)]
async fn in_strict_order_the_return_of_a_later_server_is_noticed_though_the_first_answers_all_queries()
 {
    // Three queries, three tries of each server for each.
    let (pool, script) = pool(&[Does::Loses(18), Does::Loses(18)]);
    pool.select(&Selection {
        strategy: Strategy::Strict,
        ..Selection::default()
    });
    for _ in 0..3 {
        assert!(timed(&pool).await.0.is_err());
    }
    let unanswered = || {
        pool.state()
            .iter()
            .map(|server| server.unanswered)
            .collect::<Vec<_>>()
    };
    assert_eq!(unanswered(), [3, 3]);
    let mut watch = OutageWatch::default();
    assert!(!watch.look(&pool, &Key::root_servers()).await);
    assert_eq!(unanswered(), [0, 3], "the first answers the test query");
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(timed(&pool).await.0, Ok(0));
        assert!(!watch.look(&pool, &Key::root_servers()).await);
    }
    assert_eq!(unanswered(), [0, 0]);
    assert!(!watch.needs_test(&pool));
    let to_second = || {
        let asked = script.asked.lock().expect("not poisoned");
        asked.iter().filter(|(to, _)| *to == address(2)).count()
    };
    let asked = to_second();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!watch.look(&pool, &Key::root_servers()).await);
    assert_eq!(to_second(), asked, "one test is enough");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_away_is_tested_once_per_pause() {
    let (pool, script) = pool(&[Does::Sleeps, Does::Says(0, 1)]);
    for _ in 0..3 {
        assert_eq!(timed(&pool).await.0, Ok(0));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    script.asked.lock().expect("not poisoned").clear();
    let mut watch = OutageWatch::default();
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!watch.look(&pool, &Key::root_servers()).await);
    }
    let asked = script.asked.lock().expect("not poisoned");
    assert!(asked.iter().all(|(to, _)| *to == address(1)));
    assert!((10..30).contains(&asked.len()), "{}", asked.len());
    assert!(pool.state()[0].unanswered > 10);
}

#[tokio::test(start_paused = true)]
async fn where_the_root_is_refused_only_lasting_answers_to_clients_end_an_outage() {
    let (pool, _) = pool(&[Does::Says(2, 1), Does::RefusesRoot]);
    let set = |number| pool.replace(&[Target::plain(address(number), Dialect::FULL)]);
    let mut watch = OutageWatch::default();
    set(1);
    for _ in 0..3 {
        assert!(timed(&pool).await.0.is_err());
    }
    assert!(watch.look(&pool, &Key::root_servers()).await);
    set(2);
    assert_eq!(timed(&pool).await.0, Ok(0));
    for _ in 0..20 {
        assert!(
            watch.look(&pool, &Key::root_servers()).await,
            "a single answer"
        );
    }
    let mut looks = 0;
    while watch.look(&pool, &Key::root_servers()).await {
        assert_eq!(timed(&pool).await.0, Ok(0));
        looks += 1;
    }
    assert!(looks > 3);
}
