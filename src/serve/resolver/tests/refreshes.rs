//! Refreshes of chains that several pools of servers complete.

use super::*;

/// The pool of the zone `b`, and the routes to it.
fn with_zone(resolver: &Resolver<Arc<Counters>>) -> PoolId {
    let server = Server::new(SocketAddr::from(([192, 0, 2, 2], 53)), Dialect::FULL);
    let fate = Arc::new(Fate::LeadsTo(b'a'));
    let timeout = Duration::from_secs(1);
    let pool = Pool::new(
        vec![server],
        fate,
        timeout,
        BOUNDS,
        Arc::default(),
        Arc::default(),
    );
    let pool = Arc::new(pool.of_zones());
    let id = pool.id();
    let forward = ForwardPool {
        zones: vec![Name::from_text("b").expect("a name")],
        pool,
    };
    let forwarding = Forwarding::new(vec![forward]);
    let routes = Arc::clone(forwarding.routes());
    resolver.pools().replace(forwarding);
    resolver.responder().shared.cache.set_routes(routes);
    id
}

#[tokio::test(start_paused = true)]
async fn a_refresh_of_the_start_of_a_chain_refreshes_the_parts_that_end_soon() {
    for (at, is_known, refreshes) in [(58, true, 2), (30, true, 1), (61, true, 1), (58, false, 1)] {
        let timeout = Duration::from_secs(1);
        let resolver = resolver(Fate::LeadsTo(b'b'), timeout, Vec::new());
        let zone = with_zone(&resolver);
        let cache = &resolver.responder().shared.cache;
        let mut packet = PACKET.to_vec();
        packet[13] = b'b';
        let mut name = Name::default();
        let query = Query::parse(&packet, &mut name).expect("a query");
        if is_known {
            let head = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0";
            let record = b"\xC0\x0C\0\x01\0\x01\0\0\0\x3C\0\x04\xC0\0\x02\x07";
            let bytes = [head, &packet[12..19], record].concat();
            let answer = Answer::parse(&bytes, query.name, 1, 1, BOUNDS).expect("an answer");
            let entry = Arc::new(resolver.pools().entry(answer, 0, zone));
            cache.insert(Key::new(&query), entry);
        }
        tokio::time::advance(Duration::from_secs(at)).await;
        resolver.refresh(&key());
        // Each query ends at once. They lead to each other, but what is new is not refreshed.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = resolver.responder().counters.read(Count::Prefetched);
        assert_eq!(asked, refreshes, "at {at}");
        assert_eq!(resolver.waiting(), 0);
    }
}
