//! The thread that takes records out of all rings and passes them to the sinks.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::dnstap::DnstapSink;
use super::figures::{ONLY_BLOCKED, Sink, SinkFigures, Switch};
use super::query_log::QueryLogSink;
use super::record::Record;
use super::ring::RingReader;
use super::tap::Tap;
use super::wall_clock::WallClock;
use crate::config::Recording;
use crate::config::shown::Show;

/// The pause after a pass that found records. A ring must not fill up meanwhile.
const BUSY: Duration = Duration::from_millis(5);
/// The pause after a pass that found none.
const IDLE: Duration = Duration::from_millis(50);
/// The records of one ring in one pass, so that no ring waits for another one for long.
const PASS: usize = 4096;

/// An instruction to the thread.
pub(super) enum Command {
    Configure(Box<Recording>),
    Reopen,
    Stop,
}

/// The state of the thread.
pub(super) struct RecorderThread {
    switch: Arc<Switch>,
    taps: Vec<Arc<Tap>>,
    figures: Arc<[SinkFigures; Sink::COUNT]>,
    commands: Receiver<Command>,
    /// The rings, if any sink is on.
    rings: Vec<RingReader>,
    query_log: Option<QueryLogSink>,
    dnstap: Option<DnstapSink>,
}

impl RecorderThread {
    pub(super) fn new(
        switch: Arc<Switch>,
        taps: Vec<Arc<Tap>>,
        figures: Arc<[SinkFigures; Sink::COUNT]>,
        commands: Receiver<Command>,
    ) -> Self {
        Self {
            switch,
            taps,
            figures,
            commands,
            rings: Vec::new(),
            query_log: None,
            dnstap: None,
        }
    }

    /// Runs until it is stopped, or nobody can stop it any more.
    pub(super) fn run(mut self) {
        let mut pause = Duration::ZERO;
        loop {
            let command = match self.rings.is_empty() {
                true => self
                    .commands
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                false => self.commands.recv_timeout(pause),
            };
            match command {
                Ok(Command::Configure(recording)) => self.configure(&recording),
                Ok(Command::Reopen) => {
                    if let Some(log) = &mut self.query_log {
                        log.reopen();
                    }
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            pause = if self.pass() { BUSY } else { IDLE };
        }
        self.switch.set_wanted(0);
        self.drain();
        if let Some(dnstap) = &mut self.dnstap {
            dnstap.finish(&self.figures[Sink::Dnstap as usize]);
        }
    }

    fn configure(&mut self, recording: &Recording) {
        let (log, tap) = (&recording.query_log, &recording.dnstap);
        let is_same_log =
            self.query_log.as_ref().map(QueryLogSink::config) == log.file.as_ref().map(|_| log);
        let is_same_tap =
            self.dnstap.as_ref().map(DnstapSink::config) == tap.receiver.as_ref().map(|_| tap);
        if !is_same_log || !is_same_tap {
            // The records so far belong to the former file and receiver.
            self.switch.set_wanted(0);
            self.drain();
        }
        if !is_same_log {
            let file = log.file.as_ref().map(|file| file.shown().to_string());
            self.figures[Sink::QueryLog as usize].begin(file);
            self.query_log = QueryLogSink::new(log);
        }
        if !is_same_tap {
            let figures = &self.figures[Sink::Dnstap as usize];
            if let Some(dnstap) = &mut self.dnstap {
                dnstap.finish(figures);
            }
            figures.begin(tap.receiver.as_ref().map(ToString::to_string));
            self.dnstap = DnstapSink::new(tap);
        }
        self.switch.set_sample(Sink::QueryLog, log.sample);
        self.switch.set_sample(Sink::Dnstap, tap.sample);
        let bit = |is_on, sink: Sink| if is_on { u32::from(sink.bit()) } else { 0 };
        let mut wanted = bit(self.query_log.is_some(), Sink::QueryLog);
        wanted |= bit(self.dnstap.is_some(), Sink::Dnstap);
        let is_on = wanted != 0;
        wanted |= if log.only_blocked { ONLY_BLOCKED } else { 0 };
        if is_on == self.rings.is_empty() {
            let taps = self.taps.iter();
            self.rings = taps.flat_map(|tap| tap.set_rings(is_on)).collect();
        }
        self.switch.set_wanted(if is_on { wanted } else { 0 });
    }

    /// Passes records of all rings to the sinks. Returns whether there were any.
    fn pass(&mut self) -> bool {
        let clock = WallClock::now();
        let mut found = false;
        let of_log = &self.figures[Sink::QueryLog as usize];
        let of_tap = &self.figures[Sink::Dnstap as usize];
        for ring in &mut self.rings {
            let mut left = PASS;
            let mut take = |record: Record<'_>| {
                let is_for = |sink: Sink| record.head.sinks & sink.bit() != 0;
                if let Some(log) = self.query_log.as_mut().filter(|_| is_for(Sink::QueryLog)) {
                    log.record(&record, &clock, of_log);
                }
                if let Some(tap) = self.dnstap.as_mut().filter(|_| is_for(Sink::Dnstap)) {
                    tap.record(&record, &clock, of_tap);
                }
            };
            while left > 0 && ring.read(&mut take) {
                found = true;
                left -= 1;
            }
        }
        let now = Instant::now();
        if let Some(log) = &mut self.query_log {
            log.flush(now, of_log);
        }
        if let Some(tap) = &mut self.dnstap {
            tap.flush(now, of_tap);
        }
        found
    }

    /// Passes on all records that are there.
    fn drain(&mut self) {
        while self.pass() {}
    }
}
