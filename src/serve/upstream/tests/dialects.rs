//! Servers that lack extensions of DNS.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_edns_costs_one_more_query_once_in_some_minutes() {
    let (pool, script) = pool(&[Does::RefusesEdns]);
    for _ in 0..5 {
        assert_eq!(timed(&pool).await.0, Ok(0));
    }
    assert_eq!(script.asked.lock().expect("not poisoned").len(), 6);
    assert!(!pool.state()[0].dialect.edns);
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert!(pool.state()[0].dialect.edns, "it is probed again");
    assert_eq!(timed(&pool).await.0, Ok(0));
    assert_eq!(script.asked.lock().expect("not poisoned").len(), 8);
}

#[tokio::test(start_paused = true)]
async fn another_letter_case_without_tcp_leads_to_a_query_without_random_case() {
    for (silent, most) in [(false, 10), (true, 1010)] {
        let (pool, script) = pool(&[Does::ChangesCase { silent }]);
        for _ in 0..2 {
            let (answer, took) = timed(&pool).await;
            assert_eq!(answer, Ok(0));
            assert!(took < Duration::from_millis(most), "{took:?}");
        }
        assert!(!pool.state()[0].dialect.random_case);
        let before = script.asked.lock().expect("not poisoned").len();
        assert_eq!(timed(&pool).await.0, Ok(0));
        assert_eq!(script.asked.lock().expect("not poisoned").len(), before + 1);
        assert!(!pool.state()[0].down);
    }
}

#[tokio::test(start_paused = true)]
async fn extensions_that_are_turned_off_are_not_probed() {
    let (pool, script) = pool(&[Does::RefusesEdns]);
    let permitted = Dialect {
        edns: false,
        random_case: false,
    };
    pool.replace(&[Target::plain(address(1), permitted)]);
    assert_eq!(timed(&pool).await.0, Ok(0));
    assert_eq!(script.asked.lock().expect("not poisoned").len(), 1);
}
