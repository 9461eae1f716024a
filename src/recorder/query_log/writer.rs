//! The thread that writes the query log, so that a slow disk holds up no other sink.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::file::LogFile;
use crate::recorder::figures::{Figures, Sink};

/// The bytes of lines that wait for the disk. What does not fit is lost.
const QUEUE: usize = 8 << 20;
/// Written buffers that are kept to be used again. After a disk that hung there are many, and each one grew.
const SPARE: usize = 4;
/// How often the file is looked after without a line to write.
const LOOK: Duration = Duration::from_secs(1);
/// How long the last lines may take.
const FINISH: Duration = Duration::from_secs(1);

enum Order {
    /// Lines and their number.
    Write(Vec<u8>, u64),
    /// The file is opened again before the next line.
    Reopen,
}

#[derive(Default)]
struct Shared {
    /// The bytes that wait.
    waiting: AtomicUsize,
    problem: Mutex<Option<String>>,
}

/// The end of the recorder's thread.
pub(super) struct Writer {
    orders: Sender<Order>,
    shared: Arc<Shared>,
    /// Written buffers, to be used again.
    spare: Receiver<Vec<u8>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl Writer {
    /// Starts the thread, which opens the file.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub(super) fn start(file: LogFile, figures: Arc<Figures>) -> io::Result<Self> {
        let (orders, queue) = channel();
        let (used, spare) = sync_channel(SPARE);
        let (end, ended) = channel();
        let shared = Arc::<Shared>::default();
        let thread = WriterThread {
            file,
            queue,
            used,
            shared: Arc::clone(&shared),
            figures,
            _end: end,
        };
        thread::Builder::new()
            .name("tapis-query-log".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self {
            orders,
            shared,
            spare,
            ended,
        })
    }

    /// A writer whose disk does not answer as long as the other value is kept.
    #[cfg(test)]
    pub(super) fn hung() -> (Self, impl Sized) {
        let (orders, queue) = channel();
        let (used, spare) = sync_channel(SPARE);
        let (end, ended) = channel();
        let writer = Self {
            orders,
            shared: Arc::default(),
            spare,
            ended,
        };
        (writer, (queue, used, end))
    }

    /// Hands over lines; `lines` is then empty. Returns false if too many wait already, or the thread is gone.
    pub(super) fn write(&self, lines: &mut Vec<u8>, count: u64) -> bool {
        let size = lines.len();
        let waiting = self.shared.waiting.fetch_add(size, Ordering::Relaxed);
        let buffer = self.spare.try_recv().unwrap_or_default();
        let taken = std::mem::replace(lines, buffer);
        if waiting + size <= QUEUE && self.orders.send(Order::Write(taken, count)).is_ok() {
            return true;
        }
        self.shared.waiting.fetch_sub(size, Ordering::Relaxed);
        false
    }

    /// Opens the file again before the next line.
    pub(super) fn reopen(&self) {
        // Fails only if the thread is gone, which `write` notices.
        let _ = self.orders.send(Order::Reopen);
    }

    /// The problem with the file, a sentence.
    pub(super) fn problem(&self) -> Option<String> {
        let problem = self.shared.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until everything is written. Returns false if that takes too long; the thread is then left behind.
    pub(super) fn finish(self) -> bool {
        let Self { orders, ended, .. } = self;
        drop(orders);
        ended.recv_timeout(FINISH) == Err(RecvTimeoutError::Disconnected)
    }
}

struct WriterThread {
    file: LogFile,
    queue: Receiver<Order>,
    used: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
    figures: Arc<Figures>,
    /// Dropped at the end.
    _end: Sender<()>,
}

impl WriterThread {
    fn run(mut self) {
        loop {
            let now = Instant::now();
            if self.file.wants_attempt(now) {
                self.write(&[], 0, now);
            }
            *self
                .shared
                .problem
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = self.file.problem();
            match self.queue.recv_timeout(LOOK) {
                Ok(Order::Write(mut lines, count)) => {
                    let now = Instant::now();
                    self.file.look(now);
                    self.write(&lines, count, now);
                    self.shared
                        .waiting
                        .fetch_sub(lines.len(), Ordering::Relaxed);
                    lines.clear();
                    // The buffer is freed if there are enough of them.
                    let _ = self.used.try_send(lines);
                }
                Ok(Order::Reopen) => self.file.close(),
                Err(RecvTimeoutError::Timeout) => self.file.look(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    fn write(&mut self, lines: &[u8], count: u64, now: Instant) {
        let figures = self.figures.of(Sink::QueryLog);
        let errors = self.file.errors();
        let counter = match self.file.write(lines, count, now) {
            true => &figures.recorded,
            false => &figures.lost,
        };
        counter.fetch_add(count, Ordering::Relaxed);
        let errors = self.file.errors() - errors;
        figures.errors.fetch_add(errors, Ordering::Relaxed);
    }
}
