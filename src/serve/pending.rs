//! The dispatcher's interface for asynchronous transports: a message is answered at once, or pending.

use std::sync::Arc;

use tokio::time::Instant;

use super::cache::{Entry, Key};
use super::client::Client;
use super::dispatch::Message;
use super::observe::Observer;
use super::resolver::{Begun, Resolver};
use super::step::Resolution;

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

    /// The answer that follows from the outcome under the current snapshot; `None` if none is to be sent.
    pub fn conclude(mut self, resolution: &Resolution) -> Option<Vec<u8>> {
        self.is_finished = true;
        let mut out = Vec::with_capacity(512);
        let message = self.message();
        self.resolver
            .with_dispatcher(|dispatcher| dispatcher.conclude(message, resolution, &mut out))
            .then_some(out)
    }

    /// Dispatches the message again, after its outcome was dropped for lack of room. The cache usually has the answer
    /// by then.
    pub fn restart(mut self) -> Dispatched<O> {
        self.is_finished = true;
        let begun = self.resolver.begin(self.message());
        let packet = std::mem::take(&mut self.packet);
        Dispatched::new(
            &self.resolver,
            &self.client,
            || packet,
            self.received,
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
        received: Instant,
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
        let begun = self.begin(Message {
            client,
            packet,
            received,
        });
        Dispatched::new(self, client, || packet.into(), received, begun)
    }
}
