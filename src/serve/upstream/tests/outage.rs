//! When no server answers, and when one does again.

use super::*;

#[tokio::test(start_paused = true)]
async fn it_is_an_outage_when_all_servers_are_silent_until_one_says_anything() {
    for (servers, is_out) in [
        (&[Does::Sleeps][..], true),
        (&[Does::Away], true),
        (&[Does::Sleeps, Does::Away], true),
        (&[Does::Sleeps, Does::Says(0, 20)], false),
        (&[Does::Away, Does::Says(2, 20)], false),
        (&[Does::Garbles], false),
        (&[Does::Busy], false),
        (&[], false),
    ] {
        let (pool, _) = pool(servers);
        assert!(!pool.is_out(false).await, "nobody has asked yet");
        for _ in 0..5 {
            let _ = timed(&pool).await;
        }
        assert_eq!(pool.is_out(false).await, is_out);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(pool.is_out(false).await, is_out, "an hour without a query");
        pool.replace(&[(address(9).into(), Dialect::FULL)]);
        assert!(!pool.is_out(false).await, "another server");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_goes_on_until_a_server_answers_though_others_are_configured() {
    let (pool, _) = pool(&[Does::Sleeps, Does::Sleeps, Does::Says(0, 20)]);
    let set = |number| pool.replace(&[(address(number).into(), Dialect::FULL)]);
    set(1);
    for _ in 0..5 {
        let _ = timed(&pool).await;
    }
    assert!(pool.is_out(false).await);
    set(2);
    assert!(pool.is_out(true).await, "it was not asked yet");
    set(3);
    assert!(!pool.is_out(true).await);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_some_queries_unanswered_is_asked_before_it_is_an_outage() {
    // The three tries of each of three queries are lost, as those for a broken zone are.
    let (pool, script) = pool(&[Does::Loses(9)]);
    for _ in 0..3 {
        assert!(timed(&pool).await.0.is_err());
    }
    assert!(pool.state()[0].silent);
    assert!(!pool.is_out(false).await);
    assert!(!pool.state()[0].silent);
    let asked = script.asked.lock().expect("whole").len();
    assert!(!pool.is_out(false).await);
    assert_eq!(script.asked.lock().expect("whole").len(), asked);
}
