//! The recorder as the rest of the server uses it.

use std::io;
use std::num::NonZeroU16;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::figures::{Figures, Sink, Switch};
use super::query_log::LineRoom;
use super::servers::ServerAddresses;
use super::tap::Tap;
use super::thread::{Command, RecorderThread};
use crate::config::Recording;
use crate::control::gauges::{RecordingReport, SinkReport};
use crate::control::recording::{RecordedQueries, TailParts, TailRequest, TopReport};

/// The most rings that the tasks of the async side share.
const SHARED_RINGS: usize = 8;
/// How long a disk may take until the files are closed.
const CLOSING: Duration = Duration::from_secs(10);
/// How long the start waits for the recorder, whose secret may be on a disk that does not answer.
const SETTLING: Duration = Duration::from_secs(1);
/// The entries of each top list in the state of the server.
const TOP_ENTRIES: usize = 10;

/// The recorder: its taps, its thread, and its figures.
pub struct Recorder {
    switch: Arc<Switch>,
    taps: Vec<Arc<Tap>>,
    figures: Arc<Figures>,
    commands: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Recorder {
    /// Starts a recorder for this number of workers. It records nothing before it is configured. `find_server` finds the
    /// address of an upstream server by its number.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn start(
        workers: usize,
        find_server: impl Fn(NonZeroU16) -> Option<String> + Send + 'static,
    ) -> io::Result<Self> {
        let switch = Arc::<Switch>::default();
        let shared_rings = thread::available_parallelism().map_or(1, |cores| cores.get());
        let rings = (0..workers).map(|_| 1);
        let rings = rings.chain([shared_rings.min(SHARED_RINGS)]);
        let taps = rings.map(|count| Arc::new(Tap::new(Arc::clone(&switch), count)));
        let taps: Vec<_> = taps.collect();
        let figures = Arc::<Figures>::default();
        let (commands, queue) = channel();
        let thread = RecorderThread::new(
            Arc::clone(&switch),
            taps.clone(),
            Arc::clone(&figures),
            queue,
            LineRoom::new(ServerAddresses::new(Box::new(find_server))),
        );
        let thread = thread::Builder::new()
            .name("tapis-recorder".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self {
            switch,
            taps,
            figures,
            commands,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The tap of a worker; the one after the last worker's is for the async side.
    pub fn tap(&self, index: usize) -> Arc<Tap> {
        Arc::clone(&self.taps[index])
    }

    /// Records as configured from now on.
    pub fn configure(&self, recording: &Recording) {
        self.send(Command::Configure(Box::new(recording.clone())));
    }

    /// Blocks until it records as configured, or for a second at most: queries matter more than their records.
    pub fn settle(&self) {
        let (done, settled) = channel();
        self.send(Command::Settle(done));
        // An error means that the thread has ended, which is reported as an alarm.
        if let Err(RecvTimeoutError::Timeout) = settled.recv_timeout(SETTLING) {
            tracing::warn!(
                "queries are answered, but not recorded yet: the recorder waits for a file"
            );
        }
    }

    /// Keeps records back until [`release`](Self::release), because another process writes to the same file or receiver. What
    /// does not fit into the rings meanwhile is dropped and counted.
    pub fn hold(&self) {
        self.send(Command::Hold);
    }

    /// Writes the records that were kept back, and all later ones.
    pub fn release(&self) {
        self.send(Command::Release);
    }

    /// Writes the records so far, and records nothing until it is configured again. Blocks until the file is closed,
    /// or until the disk has not answered for long: queries matter more than their records.
    pub fn close(&self) {
        let (done, closed) = channel();
        self.send(Command::Close(done));
        // An error means that the thread has ended, which is reported as an alarm.
        if let Err(RecvTimeoutError::Timeout) = closed.recv_timeout(CLOSING) {
            tracing::warn!(
                seconds = CLOSING.as_secs(),
                "the disk of the query log does not answer: its last lines may be lost, or mixed with those of another process"
            );
        }
    }

    /// Reopens the files, because another program may have rotated them.
    pub fn reopen(&self) {
        self.send(Command::Reopen);
    }

    /// Whether queries are recorded at present.
    pub fn is_on(&self) -> bool {
        self.switch.wanted() != 0
    }

    /// Writes the records so far and ends the thread. Blocks until it has ended.
    pub fn stop(&self) {
        self.send(Command::Stop);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the recorder's thread panicked");
        }
    }

    /// The sinks that are on, with their figures.
    pub fn report(&self) -> RecordingReport {
        RecordingReport {
            top: self.figures.top(TOP_ENTRIES),
            ..self.sinks()
        }
    }

    /// The same without the most frequent names, clients and sources, which take longer.
    pub fn sinks(&self) -> RecordingReport {
        RecordingReport {
            query_log: self.figures_of(Sink::QueryLog),
            dnstap: self.figures_of(Sink::Dnstap),
            top: None,
        }
    }

    /// The problems of sinks, a sentence each.
    pub fn alarms(&self) -> Vec<String> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let is_dead = thread.as_ref().is_some_and(JoinHandle::is_finished);
        let dead = is_dead.then(|| {
            "recording ended because of a bug in tapis, and queries are answered nevertheless: please report it, \
             and restart to record again"
                .to_owned()
        });
        let reports = Sink::CONFIGURED.map(|sink| self.figures_of(sink));
        let problems = reports.into_iter().flatten();
        dead.into_iter()
            .chain(problems.filter_map(|report| report.problem))
            .chain(self.figures.clients_problem())
            .collect()
    }

    fn figures_of(&self, sink: Sink) -> Option<SinkReport> {
        let sum = |count: fn(&Tap, usize) -> u64| {
            let taps = self.taps.iter();
            taps.map(|tap| count(tap, sink as usize)).sum()
        };
        let dropped = sum(|tap, sink| tap.tally.dropped[sink].load(Ordering::Relaxed));
        let sampled_out = sum(|tap, sink| tap.tally.sampled_out[sink].load(Ordering::Relaxed));
        self.figures.of(sink).report(dropped, sampled_out)
    }

    fn send(&self, command: Command) {
        // Fails only if the thread has panicked, which `alarms` reports.
        drop(self.commands.send(command));
    }
}

impl RecordedQueries for Recorder {
    fn top(&self, entries: usize) -> Option<TopReport> {
        self.figures.top(entries)
    }

    fn tail(&self, request: TailRequest) -> oneshot::Receiver<Result<TailParts, String>> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Tail(request, reply));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_settled_it_records_as_configured() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut recording = Recording::default();
        recording.query_log.file = Some(folder.path().join("log"));
        let recorder = Recorder::start(1, |_| None).expect("started");
        recorder.configure(&recording);
        recorder.settle();
        assert!(recorder.is_on());
        recorder.configure(&Recording::default());
        recorder.settle();
        assert!(!recorder.is_on());
        recorder.stop();
    }
}
