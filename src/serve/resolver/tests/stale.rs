//! Clients for which a stale answer is at hand.

use std::net::UdpSocket;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::EdnsOption;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::*;

#[tokio::test(start_paused = true)]
async fn with_a_stale_answer_a_task_waits_no_longer_than_1800_milliseconds() {
    // With a short timeout, the task waits for 90 % of the timeout, so that the stale answer arrives before the client
    // gives up.
    for (timeout, patience) in [(30_000, 1800), (2000, 1800), (1000, 900), (100, 90)] {
        let resolver = resolver(Fate::Silent, Duration::from_millis(timeout), Vec::new());
        let client = IpAddr::from([127, 0, 0, 1]);
        let start = Instant::now();
        let first = resolver.resolve(client, key(), Some(entry(1))).await;
        assert!(matches!(first, Resolution::Failed(_, Some(_))), "{first:?}");
        let waited = start.elapsed().as_millis();
        // Timers have a resolution of one millisecond.
        assert!((patience..=patience + 2).contains(&waited), "{waited}");
    }
}

/// The answer that a client received: its TTL and the code of its Extended DNS Error.
fn received(client: &UdpSocket) -> Option<(u32, u16)> {
    let mut buffer = [0; 512];
    let len = client.recv(&mut buffer).ok()?;
    let answer = Message::from_vec(&buffer[..len]).expect("an answer that can be read");
    let options = answer.edns.as_ref().expect("EDNS").options();
    let reason = options
        .as_ref()
        .iter()
        .find_map(|(_, option)| match option {
            EdnsOption::Unknown(15, bytes) => Some(u16::from_be_bytes([bytes[0], bytes[1]])),
            _ => None,
        });
    Some((answer.answers[0].ttl, reason.expect("a reason")))
}

#[tokio::test(start_paused = true)]
async fn with_a_stale_answer_a_datagram_is_answered_after_1800_milliseconds() {
    // The milliseconds since a worker's first attempt count towards the 1800.
    for ago in [0, 700] {
        let listen = Socket::bind(([127, 0, 0, 1], 0).into(), false).expect("bound");
        let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
        client.set_nonblocking(true).expect("set");
        let peer = client.local_addr().expect("bound");
        let resolver = resolver(
            Fate::Silent,
            Duration::from_secs(30),
            vec![Arc::new(listen)],
        );
        let datagram = Datagram {
            packet: PACKET.into(),
            route: Route { peer, local: None },
            listen: 0,
            since: Instant::now(),
            stale: Some(entry(1)),
            attempt: Attempt::First,
        };
        let recipient = Recipient::Datagram(datagram);
        let permit = resolver.admission().acquire(peer.ip()).expect("a permit");
        let join = resolver
            .inflight()
            .join(&key(), PoolId::DEFAULT, Waiter { recipient, permit });
        let Join::First(query_id) = join else {
            panic!("not the first: {join:?}");
        };
        let since = Instant::now();
        tokio::time::advance(Duration::from_millis(ago)).await;
        let prior = PriorAttempt {
            server: Arc::new(Server::new(
                SocketAddr::from(([192, 0, 2, 1], 53)),
                Dialect::FULL,
            )),
            since,
            responded: false,
            said: None,
            again: None,
            open: None,
        };
        let (jobs, queue) = mpsc::channel(1);
        let taken = Arc::clone(&resolver).run_jobs(queue, TaskTracker::new());
        let taken = tokio::spawn(taken);
        let job = Job::Resolve(query_id, (ago > 0).then_some(prior));
        jobs.send(job).await.expect("it is taken");
        tokio::time::sleep(Duration::from_millis(1790 - ago)).await;
        assert_eq!((received(&client), resolver.waiting()), (None, 1));
        tokio::time::sleep(Duration::from_millis(20)).await;
        // Code 3 is Stale Answer (RFC 8914); the TTL is that of RFC 8767, section 5.
        assert_eq!(received(&client), Some((30, 3)), "{ago} ms ago");
        assert_eq!(resolver.waiting(), 0);
        taken.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_at_once_although_stale_ones_are_still_being_delivered() {
    let resolution = ends_while_old_answers_are_delivered(0).await;
    assert!(
        matches!(resolution, Resolution::Answered(_)),
        "{resolution:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_counts_at_once_although_stale_answers_are_still_being_delivered() {
    let resolution = ends_while_old_answers_are_delivered(2).await;
    assert!(
        matches!(resolution, Resolution::Failed(_, None)),
        "{resolution:?}"
    );
}

/// Upstream answers with `rcode` while stale answers are still being delivered. Returns the outcome of a task that
/// waits without a stale answer; it must not wait for those deliveries.
async fn ends_while_old_answers_are_delivered(rcode: u8) -> Resolution {
    let listen = Socket::bind(([127, 0, 0, 1], 0).into(), false).expect("bound");
    let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let peer = client.local_addr().expect("bound");
    let start = Instant::now();
    let fate = Fate::AnswersAt(start + Duration::from_millis(1805), rcode);
    let resolver = resolver(fate, Duration::from_secs(30), vec![Arc::new(listen)]);
    let mut first = None;
    // 64 of them are answered in each 10 ms.
    for _ in 0..256 {
        let datagram = Datagram {
            packet: PACKET.into(),
            route: Route { peer, local: None },
            listen: 0,
            since: start,
            stale: Some(entry(1)),
            attempt: Attempt::First,
        };
        let recipient = Recipient::Datagram(datagram);
        let permit = resolver.admission().acquire(peer.ip()).expect("a permit");
        match resolver
            .inflight()
            .join(&key(), PoolId::DEFAULT, Waiter { recipient, permit })
        {
            Join::First(query_id) => first = Some(query_id),
            other => assert!(matches!(other, Join::Joined), "{other:?}"),
        }
    }
    let patient = Arc::clone(&resolver);
    let patient = tokio::spawn(async move { patient.resolve(peer.ip(), key(), None).await });
    let (jobs, queue) = mpsc::channel(1);
    let taken = Arc::clone(&resolver).run_jobs(queue, TaskTracker::new());
    let taken = tokio::spawn(taken);
    let job = Job::Resolve(first.expect("the first"), None);
    jobs.send(job).await.expect("it is taken");
    let resolution = patient.await.expect("it ran");
    let waited = start.elapsed().as_millis();
    assert!((1805..1810).contains(&waited), "{waited}");
    assert!(
        resolver.waiting() > 64,
        "many clients still wait for stale answers"
    );
    let sent = || resolver.responder().counters.read(Count::Stale);
    assert_eq!(sent(), 64);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((sent(), resolver.waiting()), (256, 0), "each is answered");
    taken.abort();
    resolution
}
