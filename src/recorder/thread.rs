//! The thread that takes records out of all rings and passes them to the sinks.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::figures::{ONLY_BLOCKED, Sink, SinkFigures, Switch};
use super::query_log::QueryLogSink;
use super::ring::RingReader;
use super::tap::Tap;
use super::wall_clock::WallClock;
use crate::config::recording::Recording;
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
    }

    fn configure(&mut self, recording: &Recording) {
        let log = &recording.query_log;
        if self.query_log.as_ref().map(QueryLogSink::config) != log.file.as_ref().map(|_| log) {
            // The records so far belong to the former file.
            self.switch.set_wanted(0);
            self.drain();
            let figures = &self.figures[Sink::QueryLog as usize];
            figures.set_target(log.file.as_ref().map(|file| file.shown().to_string()));
            figures.set_problem(None);
            self.query_log = QueryLogSink::new(log);
        }
        let mut wanted = 0;
        if self.query_log.is_some() {
            wanted |= u32::from(Sink::QueryLog.bit());
            wanted |= if log.only_blocked { ONLY_BLOCKED } else { 0 };
            self.switch.set_sample(Sink::QueryLog, log.sample);
        }
        let is_on = wanted != 0;
        if is_on == self.rings.is_empty() {
            let taps = self.taps.iter();
            self.rings = taps.flat_map(|tap| tap.set_rings(is_on)).collect();
        }
        self.switch.set_wanted(wanted);
    }

    /// Passes records of all rings to the sinks. Returns whether there were any.
    fn pass(&mut self) -> bool {
        let clock = WallClock::now();
        let mut found = false;
        let figures = &self.figures[Sink::QueryLog as usize];
        for ring in &mut self.rings {
            let mut left = PASS;
            while left > 0
                && ring.read(|record| {
                    if record.head.sinks & Sink::QueryLog.bit() != 0
                        && let Some(log) = &mut self.query_log
                    {
                        log.record(&record, &clock, figures);
                    }
                })
            {
                found = true;
                left -= 1;
            }
        }
        if let Some(log) = &mut self.query_log {
            log.flush(Instant::now(), figures);
        }
        found
    }

    /// Passes on all records that are there.
    fn drain(&mut self) {
        while self.pass() {}
    }
}
