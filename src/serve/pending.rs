//! The dispatcher's interface for asynchronous transports: a message is answered at once, or pending.

use std::sync::Arc;

use tokio::time::Instant;

use super::cache::{Entry, Key};
use super::client::Client;
use super::dispatch::{Conclusion, Dispatcher, Message};
use super::observe::Observer;
use super::resolver::{Begun, Resolver};
use super::step::{Attempt, Resolution};

/// The result of dispatching a message.
pub enum Dispatched<O: Observer> {
    /// The answer to send.
    Reply(Vec<u8>),
    /// The message gets no answer.
    Nothing,
    /// The message waits for upstream.
    Pending(Pending<O>),
}

/// A message that waits for upstream. Dropping it reports the query as one whose connection ended.
pub struct Pending<O: Observer> {
    resolver: Arc<Resolver<O>>,
    client: Client,
    packet: Box<[u8]>,
    received: Instant,
    key: Key,
    stale: Option<Arc<Entry>>,
    attempt: Attempt,
    is_finished: bool,
}

impl<O: Observer> Pending<O> {
    /// The length of the message.
    pub fn packet_len(&self) -> usize {
        self.packet.len()
    }

    /// Asks upstream, or joins an equal query that is in flight. The outcome that it returns may take some KB.
    pub async fn resolve(&self) -> Resolution {
        let (key, stale) = (self.key.clone(), self.stale.clone());
        self.resolver.resolve(self.client.address, key, stale).await
    }

    /// The answer that follows from the outcome under the current snapshot. The message is pending again if upstream
    /// must be asked for another name; this happens only a few times.
    pub fn conclude(mut self, resolution: &Resolution) -> Dispatched<O> {
        let mut out = Vec::with_capacity(512);
        let (message, attempt) = (self.message(), self.attempt);
        let conclude = |dispatcher: &Dispatcher<'_, O>| {
            dispatcher.conclude(message, resolution, attempt, &mut out)
        };
        match self.resolver.with_dispatcher(conclude) {
            Conclusion::Restart => {
                self.attempt = attempt.next();
                self.restart()
            }
            Conclusion::Reply => {
                self.is_finished = true;
                Dispatched::Reply(out)
            }
            Conclusion::Nothing => {
                self.is_finished = true;
                Dispatched::Nothing
            }
        }
    }

    /// Dispatches the message again, after its outcome was dropped for lack of room, or was not enough. The cache
    /// usually has the answer, or a part of it, by then.
    pub fn restart(mut self) -> Dispatched<O> {
        self.is_finished = true;
        let begun = self.resolver.begin(self.message(), self.attempt);
        let packet = std::mem::take(&mut self.packet);
        Dispatched::new(
            &self.resolver,
            &self.client,
            || packet,
            (self.received, self.attempt),
            begun,
        )
    }

    fn message(&self) -> Message<'_> {
        Message {
            client: &self.client,
            packet: &self.packet,
            received: self.received,
        }
    }
}

impl<O: Observer> Drop for Pending<O> {
    fn drop(&mut self) {
        if !self.is_finished {
            let message = self.message();
            self.resolver
                .with_dispatcher(|dispatcher| dispatcher.abandon(message, None));
        }
    }
}

impl<O: Observer> Dispatched<O> {
    fn new(
        resolver: &Arc<Resolver<O>>,
        client: &Client,
        packet: impl FnOnce() -> Box<[u8]>,
        (received, attempt): (Instant, Attempt),
        begun: Begun,
    ) -> Self {
        match begun {
            Begun::Reply(answer) => Self::Reply(answer),
            Begun::Nothing => Self::Nothing,
            Begun::Resolve(key, stale) => Self::Pending(Pending {
                resolver: Arc::clone(resolver),
                client: client.clone(),
                packet: packet(),
                received,
                key,
                stale,
                attempt,
                is_finished: false,
            }),
        }
    }
}

impl<O: Observer> Resolver<O> {
    /// Dispatches a message: answers it at once, or returns it as pending. Must be called once for each message from a
    /// client.
    pub fn dispatch(self: &Arc<Self>, client: &Client, packet: &[u8]) -> Dispatched<O> {
        let received = Instant::now();
        let message = Message {
            client,
            packet,
            received,
        };
        let begun = self.begin(message, Attempt::First);
        let first = (received, Attempt::First);
        Dispatched::new(self, client, || packet.into(), first, begun)
    }
}
