//! The thread that takes records out of all rings and passes them to the sinks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::clients::Clients;
use super::dnstap::DnstapSink;
use super::figures::{Figures, ONLY_BLOCKED, Sink, Switch};
use super::query_log::{LineRoom, QueryLogSink};
use super::record::Record;
use super::ring::RingReader;
use super::tail::Tails;
use super::tap::Tap;
use super::top::TopSink;
use super::wall_clock::WallClock;
use crate::config::Recording;
use crate::config::shown::Show;
use crate::control::recording::{TailParts, TailRequest};

/// The pause after a pass that found records. A ring must not fill up meanwhile.
const BUSY: Duration = Duration::from_millis(5);
/// The pause after a pass that found none.
const IDLE: Duration = Duration::from_millis(50);
/// The records of one ring in one pass, so that no ring waits for another one for long.
const PASS: usize = 4096;

/// An instruction to the thread.
pub(super) enum Command {
    Configure(Box<Recording>),
    /// Leave the records in the rings, until `Release`.
    Hold,
    Release,
    /// Write all records, close all sinks, and say so.
    Close(Sender<()>),
    /// Say that all instructions so far were carried out.
    Settle(Sender<()>),
    Reopen,
    Tail(TailRequest, oneshot::Sender<Result<TailParts, String>>),
    Stop,
}

/// The state of the thread.
pub(super) struct RecorderThread {
    switch: Arc<Switch>,
    taps: Vec<Arc<Tap>>,
    figures: Arc<Figures>,
    commands: Receiver<Command>,
    config: Recording,
    /// The rings, if any sink is on.
    rings: Vec<RingReader>,
    clients: Clients,
    room: LineRoom,
    query_log: Option<QueryLogSink>,
    dnstap: Option<DnstapSink>,
    top: Option<TopSink>,
    tails: Tails,
    /// Queries that did not get here for the tails, as far as they know.
    untailed: u64,
    /// Whether the sinks belong to another process at present.
    is_held: bool,
}

impl RecorderThread {
    pub(super) fn new(
        switch: Arc<Switch>,
        taps: Vec<Arc<Tap>>,
        figures: Arc<Figures>,
        commands: Receiver<Command>,
        room: LineRoom,
    ) -> Self {
        Self {
            switch,
            taps,
            figures,
            commands,
            config: Recording::default(),
            rings: Vec::new(),
            clients: Clients::hidden(),
            room,
            query_log: None,
            dnstap: None,
            top: None,
            tails: Tails::default(),
            untailed: 0,
            is_held: false,
        }
    }

    /// Runs until it is stopped, or nobody can stop it any more.
    pub(super) fn run(mut self) {
        let mut pause = Duration::ZERO;
        loop {
            // A secret that can't be read is tried again.
            let is_idle = self.rings.is_empty() && self.clients.problem().is_none();
            let command = match is_idle {
                true => self
                    .commands
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                false => self.commands.recv_timeout(pause),
            };
            match command {
                Ok(Command::Configure(recording)) => self.configure(&recording),
                Ok(Command::Hold) => self.is_held = true,
                Ok(Command::Release) => self.is_held = false,
                Ok(Command::Close(done)) => {
                    self.switch.set_wanted(0);
                    self.drain();
                    let why = "another process takes over: start `tapis tail` again";
                    self.tails.end(why, Instant::now());
                    self.configure(&Recording::default());
                    // If nobody waits any more, nobody has to know.
                    let _ = done.send(());
                }
                Ok(Command::Settle(done)) => {
                    let _ = done.send(());
                }
                Ok(Command::Reopen) => {
                    if let Some(log) = &mut self.query_log {
                        log.reopen();
                    }
                }
                Ok(Command::Tail(request, reply)) => self.tail(&request, reply),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            pause = if self.pass() { BUSY } else { IDLE };
        }
        self.switch.set_wanted(0);
        self.drain();
        self.tails.end("the server is stopping", Instant::now());
        if let Some(dnstap) = &mut self.dnstap {
            dnstap.finish(self.figures.of(Sink::Dnstap));
        }
        if let Some(log) = self.query_log.take() {
            log.finish();
        }
    }

    fn configure(&mut self, recording: &Recording) {
        let now = Instant::now();
        let (log, tap) = (&recording.query_log, &recording.dnstap);
        let is_same_log =
            self.query_log.as_ref().map(QueryLogSink::config) == log.file.as_ref().map(|_| log);
        let is_same_tap =
            self.dnstap.as_ref().map(DnstapSink::config) == tap.receiver.as_ref().map(|_| tap);
        if !is_same_log || !is_same_tap {
            // The records so far belong to the former file and receiver. Those that follow wait in the rings.
            self.pass_present();
        }
        let before = self.clients.text().clone();
        match log.file.is_some() || log.tail || recording.top.enabled {
            true => self.clients.follow(log, now),
            false => self.clients = Clients::hidden(),
        }
        if !log.tail {
            self.tails.end("[query-log] tail is off by now", now);
        }
        if !before.shows_like(self.clients.text()) {
            if let Some(top) = &mut self.top {
                top.forget_clients(now, &self.figures);
            }
            self.tails.end("[query-log] client has changed", now);
        }
        if !is_same_log {
            let file = log.file.as_ref().map(|file| file.shown().to_string());
            if let Some(log) = self.query_log.take() {
                log.finish();
            }
            self.figures.of(Sink::QueryLog).begin(file);
            self.query_log = QueryLogSink::new(log, &self.figures);
        }
        if !is_same_tap {
            let figures = self.figures.of(Sink::Dnstap);
            if let Some(dnstap) = &mut self.dnstap {
                dnstap.finish(figures);
            }
            figures.begin(tap.receiver.as_ref().map(ToString::to_string));
            self.dnstap = DnstapSink::new(tap);
        }
        let config = self.top.as_ref().map(TopSink::config);
        if config != Some(&recording.top).filter(|top| top.enabled) {
            self.top = TopSink::new(&recording.top, self.dropped(Sink::Top), now);
            self.figures.set_top(None);
        }
        self.switch.set_sample(Sink::QueryLog, log.sample);
        self.switch.set_sample(Sink::Dnstap, tap.sample);
        self.config = recording.clone();
        self.set_switch();
    }

    /// Turns recording on for the sinks that there are.
    fn set_switch(&mut self) {
        let bit = |is_on, sink: Sink| if is_on { u32::from(sink.bit()) } else { 0 };
        let mut wanted = bit(self.query_log.is_some(), Sink::QueryLog);
        wanted |= bit(self.dnstap.is_some(), Sink::Dnstap);
        wanted |= bit(self.top.is_some(), Sink::Top);
        wanted |= bit(!self.tails.is_empty(), Sink::Tail);
        let is_on = wanted != 0;
        if self.config.query_log.only_blocked {
            wanted |= ONLY_BLOCKED;
        }
        if is_on == self.rings.is_empty() {
            let taps = self.taps.iter();
            self.rings = taps.flat_map(|tap| tap.set_rings(is_on)).collect();
        }
        self.switch.set_wanted(if is_on { wanted } else { 0 });
    }

    fn tail(&mut self, request: &TailRequest, reply: oneshot::Sender<Result<TailParts, String>>) {
        let parts = match self.config.query_log.tail {
            true => {
                let form = self.clients.text().form();
                self.tails.add(request, form, Instant::now())
            }
            false => Err(
                "queries are not shown while they are not recorded: set `file` or `tail = true` in [query-log]"
                    .to_owned(),
            ),
        };
        // If the reader is gone already, the next flush notices.
        let _ = reply.send(parts);
        self.set_switch();
        self.untailed = self.dropped(Sink::Tail);
    }

    /// The queries that were not recorded for a sink, because a ring was full.
    fn dropped(&self, sink: Sink) -> u64 {
        let taps = self.taps.iter();
        let dropped = taps.map(|tap| tap.tally.dropped[sink as usize].load(Ordering::Relaxed));
        dropped.sum()
    }

    /// Passes records of all rings to the sinks. Returns whether there were any.
    fn pass(&mut self) -> bool {
        if self.is_held {
            return false;
        }
        let (clock, now) = (WallClock::now(), Instant::now());
        let mut found = false;
        let of_tap = self.figures.of(Sink::Dnstap);
        let clients = self.clients.text();
        for ring in &mut self.rings {
            let mut left = PASS;
            let mut take = |record: Record<'_>| {
                let is_for = |sink: Sink| record.head.sinks & sink.bit() != 0;
                self.room.clear();
                if let Some(log) = self.query_log.as_mut().filter(|_| is_for(Sink::QueryLog)) {
                    log.record(self.room.line(&record, &clock, clients));
                }
                if let Some(tap) = self.dnstap.as_mut().filter(|_| is_for(Sink::Dnstap)) {
                    tap.record(&record, &clock, of_tap);
                }
                if let Some(top) = self.top.as_mut().filter(|_| is_for(Sink::Top)) {
                    top.record(&record, clients);
                }
                if is_for(Sink::Tail) {
                    let shown = (&clock, clients);
                    self.tails.record(&record, shown, &mut self.room, now);
                }
            };
            while left > 0 && ring.read(&mut take) {
                found = true;
                left -= 1;
            }
        }
        self.flush();
        found
    }

    /// Has the sinks send and write what they have, and look after their state.
    fn flush(&mut self) {
        let now = Instant::now();
        self.clients.look(now);
        self.figures.set_clients_problem(self.clients.problem());
        if let Some(log) = &mut self.query_log {
            log.flush(now);
        }
        if let Some(tap) = &mut self.dnstap {
            tap.flush(now, self.figures.of(Sink::Dnstap));
        }
        let dropped = self.dropped(Sink::Top);
        if let Some(top) = &mut self.top {
            top.flush(now, dropped, &self.figures);
        }
        if !self.tails.is_empty() {
            let dropped = self.dropped(Sink::Tail);
            let new = dropped - std::mem::replace(&mut self.untailed, dropped);
            self.tails.flush(new, now);
            // The last reader may be gone. If recording is off meanwhile, as before a change, it stays off.
            if self.tails.is_empty() && self.switch.wanted() != 0 {
                self.set_switch();
            }
        }
    }

    /// Passes on the records that are there by now, however many follow meanwhile.
    fn pass_present(&mut self) {
        let most = self.rings.iter().map(RingReader::waiting).max();
        for _ in 0..most.unwrap_or(0).div_ceil(PASS) {
            self.pass();
        }
    }

    /// Passes on all records that are there. Only for a time in which none follow.
    fn drain(&mut self) {
        while self.pass() {}
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::config::recording::{ClientForm, QueryLog};
    use crate::recorder::record::Head;
    use crate::serve::client::Transport;

    fn head(sink: Sink) -> Head {
        Head {
            sinks: sink.bit(),
            address: Ipv4Addr::LOCALHOST.into(),
            port: 53,
            local: None,
            transport: Transport::Udp,
            outcome: None,
            rcode: None,
            upstream: None,
            received: tokio::time::Instant::now(),
            ended: tokio::time::Instant::now(),
            rule: None,
            answer_len: 0,
            lengths: [0; 3],
        }
    }

    #[test]
    fn records_in_the_rings_and_lines_that_wait_are_written_at_the_stop() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        let (switch, figures) = (Arc::<Switch>::default(), Arc::<Figures>::default());
        let taps: Vec<_> = (0..2)
            .map(|_| Arc::new(Tap::new(Arc::clone(&switch), 1)))
            .collect();
        let (commands, queue) = channel();
        let room = LineRoom::default();
        let mut thread =
            RecorderThread::new(switch, taps.clone(), Arc::clone(&figures), queue, room);
        thread.configure(&Recording {
            query_log: QueryLog {
                file: Some(file.clone()),
                ..QueryLog::default()
            },
            ..Recording::default()
        });
        // More than a ring is emptied of in one pass.
        let count = PASS + 1;
        for tap in &taps {
            for _ in 0..count {
                assert!(tap.with_ring(|writer| writer.write(head(Sink::QueryLog), [b""; 3])));
            }
        }
        commands.send(Command::Stop).expect("it has not ended");
        thread.run();
        let text = std::fs::read_to_string(&file).expect("readable");
        assert_eq!(text.lines().count(), 2 * count);
        let recorded = &figures.of(Sink::QueryLog).recorded;
        assert_eq!(recorded.load(Ordering::Relaxed), 2 * count as u64);
    }

    /// A thread that was not started, with its tap and its commands.
    fn thread(recording: &Recording) -> (RecorderThread, Arc<Tap>, Sender<Command>) {
        let switch = Arc::<Switch>::default();
        let tap = Arc::new(Tap::new(Arc::clone(&switch), 1));
        let (commands, queue) = channel();
        let taps = vec![Arc::clone(&tap)];
        let mut thread =
            RecorderThread::new(switch, taps, Arc::default(), queue, LineRoom::default());
        thread.configure(recording);
        (thread, tap, commands)
    }

    fn with_tail() -> Recording {
        let mut recording = Recording::default();
        recording.query_log.tail = true;
        recording
    }

    #[test]
    fn a_new_form_of_clients_clears_the_published_ones_at_once() {
        let mut recording = Recording::default();
        recording.top.enabled = true;
        recording.query_log.client = ClientForm::Whole;
        let (mut thread, tap, _commands) = thread(&recording);
        assert!(tap.with_ring(|writer| writer.write(head(Sink::Top), [b""; 3])));
        tap.tally.dropped[Sink::Top as usize].fetch_add(3, Ordering::Relaxed);
        thread.pass();
        let top = |thread: &RecorderThread| thread.figures.top(9).expect("it is on");
        assert_eq!(top(&thread).clients.entries[0].text, "127.0.0.1");
        assert_eq!((top(&thread).queries, top(&thread).missing), (1, 3));
        recording.query_log.client = ClientForm::Truncated;
        thread.configure(&recording);
        assert!(top(&thread).clients.entries.is_empty());
        assert_eq!(top(&thread).queries, 1, "the rest stays");
    }

    #[test]
    fn a_change_of_one_sink_does_not_turn_the_others_off_meanwhile() {
        let folder = tempfile::tempdir().expect("a folder");
        let recording = |number: u32| {
            let mut recording = Recording::default();
            recording.top.enabled = true;
            recording.query_log.file = Some(folder.path().join(number.to_string()));
            recording
        };
        let (mut thread, _tap, _commands) = thread(&recording(0));
        let switch = Arc::clone(&thread.switch);
        let is_on = || switch.wanted() & u32::from(Sink::Top.bit()) != 0;
        assert!(is_on());
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut was_on = true;
                while !is_done.load(Ordering::Relaxed) {
                    was_on &= is_on();
                }
                was_on
            });
            // Each writes the former file to its end.
            (1..20).for_each(|number| thread.configure(&recording(number)));
            is_done.store(true, Ordering::Relaxed);
            assert!(watch.join().expect("no panic"));
        });
    }

    #[test]
    fn the_departure_of_the_last_reader_does_not_turn_recording_on_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut recording = with_tail();
        recording.query_log.file = Some(folder.path().join("log"));
        let (mut thread, _tap, _commands) = thread(&recording);
        let (reply, answer) = oneshot::channel();
        thread.tail(&TailRequest::default(), reply);
        drop(answer);
        thread.switch.set_wanted(0);
        thread.drain();
        assert!(thread.tails.is_empty());
        assert_eq!(thread.switch.wanted(), 0);
    }

    #[test]
    fn readers_learn_that_another_process_takes_over() {
        let (thread, _tap, commands) = thread(&with_tail());
        let (reply, answer) = oneshot::channel();
        let (done, _closed) = channel();
        for command in [
            Command::Tail(TailRequest::default(), reply),
            Command::Close(done),
            Command::Stop,
        ] {
            commands.send(command).expect("it has not ended");
        }
        thread.run();
        let mut parts = answer.blocking_recv().expect("answered").expect("added");
        let end = parts.try_recv().expect("the end");
        let end = String::from_utf8(end).expect("text");
        assert!(end.contains("another process takes over"), "{end}");
    }
}
