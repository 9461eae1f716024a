//! Which connections to the addresses of metrics are served at a time, and which one is closed for another.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Connections at a time, on all addresses together; others wait until one ends. Each may hold a page in memory.
const CONNECTIONS: usize = 16;
/// While all places are taken, a connection is closed for another one if its request has not arrived after this time.
const HEAD_TIME: Duration = Duration::from_millis(250);
/// The same for a connection whose answer is not read after this time.
const READ_TIME: Duration = Duration::from_secs(2);
/// How often it is checked whether a connection can be closed. Requests that have arrived are read meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// The places for connections.
#[derive(Default)]
pub(super) struct Places {
    /// The oldest one first.
    taken: Mutex<Vec<Arc<Taken>>>,
    freed: Notify,
}

struct Taken {
    client: IpAddr,
    since: Instant,
    asked: OnceLock<Instant>,
    end: CancellationToken,
}

impl Taken {
    /// Whether it may be closed for another connection.
    fn is_over(&self, now: Instant) -> bool {
        match self.asked.get() {
            None => now - self.since >= HEAD_TIME,
            Some(asked) => now - *asked >= READ_TIME,
        }
    }
}

/// A place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    taken: Arc<Taken>,
}

impl Place {
    /// Records that the request of the connection has arrived.
    pub(super) fn set_asked(&self) {
        self.taken.asked.get_or_init(Instant::now);
    }

    pub(super) fn is_asked(&self) -> bool {
        self.taken.asked.get().is_some()
    }

    /// Waits until another connection has the place.
    pub(super) async fn lost(&self) {
        self.taken.end.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.retain(|other| !Arc::ptr_eq(other, &self.taken));
        drop(taken);
        self.places.freed.notify_one();
    }
}

impl Places {
    /// A place for a connection of `client`, as soon as one is free or another connection loses it.
    pub(super) async fn take(self: &Arc<Self>, client: IpAddr) -> Place {
        let taken = Arc::new(Taken {
            client: client.to_canonical(),
            since: Instant::now(),
            asked: OnceLock::new(),
            end: CancellationToken::new(),
        });
        let mut may_close = false;
        while !self.try_take(&taken, may_close) {
            may_close = timeout(LOOK, self.freed.notified()).await.is_err();
        }
        let places = Arc::clone(self);
        Place { places, taken }
    }

    fn try_take(&self, new: &Arc<Taken>, may_close: bool) -> bool {
        let mut taken = self.lock();
        if taken.len() >= CONNECTIONS {
            let Some(at) = victim(&taken).filter(|_| may_close) else {
                return false;
            };
            taken.remove(at).end.cancel();
        }
        taken.push(Arc::clone(new));
        true
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Taken>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection that is closed for another one: the oldest of the client that has most.
fn victim(taken: &[Arc<Taken>]) -> Option<usize> {
    let now = Instant::now();
    let share = |client: IpAddr| taken.iter().filter(|one| one.client == client).count();
    let closable = taken.iter().enumerate().filter(|(_, one)| one.is_over(now));
    // Of equal ones, the last is chosen.
    let chosen = closable.rev().max_by_key(|(_, one)| share(one.client));
    chosen.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn client(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    /// Takes so many places for a client.
    async fn take(places: &Arc<Places>, last: u8, count: usize) -> Vec<Place> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(places.take(client(last)).await);
        }
        all
    }

    fn lost(places: &[Place]) -> Vec<usize> {
        let all = places.iter().enumerate();
        let lost = all.filter(|(_, place)| place.taken.end.is_cancelled());
        lost.map(|(at, _)| at).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn connections_without_a_request_lose_their_places_the_oldest_first() {
        let places = Arc::<Places>::default();
        let idle = take(&places, 1, CONNECTIONS).await;
        idle[0].set_asked();
        let start = Instant::now();
        let _probe = take(&places, 1, 1).await;
        assert!((HEAD_TIME..HEAD_TIME * 2).contains(&start.elapsed()));
        assert_eq!(lost(&idle), [1]);
        idle[1].lost().await;
        let _probes = take(&places, 1, 2).await;
        assert_eq!(lost(&idle), [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_of_ipv4_is_the_same_client_in_the_form_of_ipv6() {
        let places = Arc::<Places>::default();
        let others = take(&places, 2, 7).await;
        let mut same = take(&places, 1, 5).await;
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        for _ in 0..4 {
            same.push(places.take(mapped.into()).await);
        }
        for place in others.iter().chain(&same) {
            place.set_asked();
        }
        let _probe = take(&places, 3, 1).await;
        assert_eq!((lost(&others), lost(&same)), (vec![], vec![0]));
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_can_not_shut_out_another_one_by_answers_that_it_does_not_read() {
        let places = Arc::<Places>::default();
        let others = take(&places, 2, 3).await;
        let unread = take(&places, 1, CONNECTIONS - 3).await;
        for place in others.iter().chain(&unread) {
            place.set_asked();
        }
        let start = Instant::now();
        let _probe = take(&places, 2, 1).await;
        assert!((READ_TIME..READ_TIME * 2).contains(&start.elapsed()));
        assert_eq!((lost(&others), lost(&unread)), (vec![], vec![0]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_free_again_is_taken_and_nobody_loses_one() {
        let places = Arc::<Places>::default();
        let mut all = take(&places, 1, CONNECTIONS).await;
        let next = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(client(2)).await }
        });
        tokio::task::yield_now().await;
        drop(all.pop());
        let _next = next.await.expect("taken");
        assert_eq!(lost(&all), [0; 0]);
        assert_eq!(places.lock().len(), CONNECTIONS);
    }
}
