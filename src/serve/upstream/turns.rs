//! Permits that waiting clients get in turn, one at a time: however many queries one client has, only one of them goes
//! before the next query of another client.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A client as [`Permit::client`](crate::serve::admission::Permit::client) gives it; `None` is no client.
type Client = Option<usize>;

/// Issues a fixed number of permits.
pub(super) struct Turns(Mutex<State>);

struct State {
    /// Above zero only while no client waits.
    free: usize,
    waiting: HashMap<Client, VecDeque<oneshot::Sender<Turn>>>,
    /// The clients that wait, the next one first.
    order: VecDeque<Client>,
}

/// A permit; the next waiter gets it when it is dropped.
pub(super) struct Turn {
    /// The issuer; `None` once the permit is passed on.
    issuer: Option<Arc<Turns>>,
}

impl Turn {
    fn new(issuer: Arc<Turns>) -> Self {
        Self {
            issuer: Some(issuer),
        }
    }
}

impl Turns {
    pub(super) fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free: permits,
            waiting: HashMap::new(),
            order: VecDeque::new(),
        })))
    }

    /// Waits for the turn of `client`.
    pub(super) async fn take(self: &Arc<Self>, client: Client) -> Turn {
        let turn = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Turn::new(Arc::clone(self));
            }
            let (sender, turn) = oneshot::channel();
            state.push(client, sender);
            turn
        };
        turn.await.expect("a waiter is removed only with a permit")
    }

    /// Passes a permit on.
    fn pass(self: Arc<Self>) {
        let mut turn = Turn::new(self);
        loop {
            let Some(turns) = turn.issuer.take() else {
                return;
            };
            let next = {
                let mut state = turns.lock();
                let next = state.next();
                state.free += usize::from(next.is_none());
                next
            };
            let Some(sender) = next else {
                return;
            };
            // A waiter may have given up just now.
            match sender.send(Turn::new(turns)) {
                Ok(()) => return,
                Err(back) => turn = back,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, client: Client, waiter: oneshot::Sender<Turn>) {
        let queue = self.waiting.entry(client).or_default();
        if queue.is_empty() {
            self.order.push_back(client);
        }
        queue.push_back(waiter);
    }

    /// Removes the next waiter that has not given up.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        loop {
            let client = self.order.pop_front()?;
            let mut queue = self.waiting.remove(&client).unwrap_or_default();
            let next = loop {
                match queue.pop_front() {
                    Some(waiter) if waiter.is_closed() => {}
                    next => break next,
                }
            };
            if !queue.is_empty() {
                self.waiting.insert(client, queue);
                self.order.push_back(client);
            }
            if next.is_some() {
                return next;
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.issuer.take() {
            turns.pass();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn clients_take_turns_even_if_one_has_more_queries() {
        let turns = Turns::new(1);
        let first = turns.take(Some(1)).now_or_never().expect("a free permit");
        let clients = [1, 1, 1, 2, 2, 3];
        let mut waiting: Vec<_> = clients
            .iter()
            .map(|&client| Box::pin(turns.take(Some(client))))
            .collect();
        for waiter in &mut waiting {
            assert!(waiter.now_or_never().is_none());
        }
        let mut held = Some(first);
        let mut order = Vec::new();
        let mut left: Vec<_> = clients.into_iter().zip(waiting).collect();
        while !left.is_empty() {
            drop(held.take());
            let ready = left
                .iter_mut()
                .enumerate()
                .find_map(|(at, (_, waiter))| Some((at, waiter.now_or_never()?)));
            let (at, turn) = ready.expect("a free permit");
            held = Some(turn);
            order.push(left.remove(at).0);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 1]);
    }

    #[test]
    fn permits_of_waiters_that_gave_up_are_passed_on() {
        let turns = Turns::new(2);
        let held = [
            turns.take(Some(1)).now_or_never().expect("a free permit"),
            turns.take(Some(1)).now_or_never().expect("a free permit"),
        ];
        let mut gone: Vec<_> = (0..100_000)
            .map(|_| Box::pin(turns.take(Some(1))))
            .collect();
        for waiter in &mut gone {
            assert!(waiter.now_or_never().is_none());
        }
        // One gives up after its turn came.
        let mut last = gone.pop();
        gone.truncate(1);
        drop(held);
        drop(gone);
        assert!(last.as_mut().expect("kept").now_or_never().is_some());
        drop(last);
        let both = [
            turns.take(None).now_or_never().expect("a free permit"),
            turns.take(Some(2)).now_or_never().expect("a free permit"),
        ];
        assert!(turns.take(None).now_or_never().is_none());
        drop(both);
    }
}
