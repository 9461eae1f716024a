//! dnstap: queries and answers as they were on the wire, with the policy that applied, for collectors of other programs.

mod connection;
mod frames;
mod message;
mod schema;

use std::sync::atomic::Ordering;
use std::time::Instant;

use self::connection::Connection;
use self::message::write_messages;
use super::figures::SinkFigures;
use super::record::Record;
use super::wall_clock::WallClock;
use crate::config::dnstap::Dnstap;

/// Sends records to a dnstap receiver.
pub(super) struct DnstapSink {
    config: Dnstap,
    connection: Connection,
    /// The frames of one record.
    frames: Vec<u8>,
}

impl DnstapSink {
    /// The sink of this configuration; `None` if it has no receiver.
    pub(super) fn new(config: &Dnstap) -> Option<Self> {
        let receiver = config.receiver.clone()?;
        Some(Self {
            config: config.clone(),
            connection: Connection::new(receiver),
            frames: Vec::new(),
        })
    }

    pub(super) fn config(&self) -> &Dnstap {
        &self.config
    }

    /// Queues the frames of a record; counts it as lost if there is no room.
    pub(super) fn record(&mut self, record: &Record<'_>, clock: &WallClock, figures: &SinkFigures) {
        self.frames.clear();
        write_messages(record, clock, &self.config, &mut self.frames);
        if !self.frames.is_empty() && !self.connection.queue(&self.frames) {
            figures.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends what the receiver takes at once.
    pub(super) fn flush(&mut self, now: Instant, figures: &SinkFigures) {
        self.connection.advance(now);
        self.count(figures);
        figures.set_problem(self.connection.problem());
    }

    /// Ends the stream, for which the receiver has a moment.
    pub(super) fn finish(&mut self, figures: &SinkFigures) {
        self.connection.finish();
        self.count(figures);
    }

    fn count(&mut self, figures: &SinkFigures) {
        let done = self.connection.take_progress();
        figures.recorded.fetch_add(done.sent, Ordering::Relaxed);
        figures.lost.fetch_add(done.lost, Ordering::Relaxed);
        figures.errors.fetch_add(done.errors, Ordering::Relaxed);
    }
}
